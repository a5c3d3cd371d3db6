/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cc_cubic.c - CUBIC: RFC 9438, and HyStart
 *
 * After a reduction the window follows W(t) = C (t - K)^3 + W_max (section
 * 4.2): back to where the loss was by K, slowly around it, then away from it.
 * Per acknowledgment this is a pace: so many bytes acknowledged for each
 * segment more that W(t + RTT) is reached within a round trip. Beside it runs
 * W_est, the window of a Reno of the same average (4.3), and the pace is never
 * slower than towards that. beta is 0.7, C is 0.4; a loss below the last W_max
 * lowers the next one further (4.7, fast convergence).
 *
 * Where the RFC leaves a choice or Linux chose otherwise, this does what Linux
 * does, for its flows share the paths: RTT in t + RTT is the smallest seen;
 * W_est keeps its alpha when it passes the old cwnd; ssthresh comes from cwnd,
 * not from the flight; before the first loss, and after a time-out, growth is
 * at least a segment for twenty; no pace is faster than one for two, which is
 * the limit of 1.5 cwnd a round trip; the target is looked at once a
 * millisecond at most, and each 31 ms when cwnd stands. Unlike Linux an undone
 * reduction brings the whole curve back (4.9), not cwnd alone.
 *
 * HyStart (Ha and Rhee, "Taming the elephants", 2011) ends slow start before
 * the queue overflows, by two signs looked for from 16 segments on: ACKs that
 * follow each other by 2 ms or less, for as long as half the smallest RTT (all
 * of it if the flow is paced), and the least of a round's first eight RTTs
 * being above the smallest by an eighth, at least 4 and at most 16 ms. This,
 * not HyStart++ (RFC 9406), because it is what Linux has.
 *
 * Time that the flow spends with nothing to send does not count in t (5.8).
 *
 * State: struct cubic in the flow's cc_priv, and cwnd, cwnd_acked, ssthresh;
 * the core's thread. Integers only; the window's cubes fit 64 bits since t - K
 * stops at 262 s and a cwnd at CC_CWND_MAX.
 */
#include "fastpath/cc.h"
#include "fastpath/flow.h"

#include <string.h>

#define MS 1000000ull
#define TIME_MAX 262144u  /* ms */
#define UPDATE_MS 31u	  /* look again though cwnd stands */
#define FIRST_PACE 20ull  /* segments for one, while no loss is known */
#define FASTEST_PACE 2ull /* segments for one */
#define LEAST_PACE 100u	  /* windows for one, above the curve */
#define SETTLE_MS 1000u	  /* RTTs tell nothing so soon after a loss */

#define HYSTART_WINDOW 16u /* segments */
#define HYSTART_TRAIN_US 2000u
#define HYSTART_SAMPLES 8u
#define HYSTART_DELAY_MIN_US 4000u
#define HYSTART_DELAY_MAX_US 16000u
#define HYSTART_BURST 262144u /* bytes that NICs may hold back and merge */

/* What an undo brings back. */
struct curve {
	uint64_t epoch_ns; /* t is 0; 0: with the next growth */
	uint32_t w_max;	   /* bytes; 0: no loss is known */
	uint32_t origin;   /* the curve's plateau, bytes */
	uint32_t k_ms;
	uint32_t w_est;	    /* of the Reno beside it, bytes */
	uint32_t est_acked; /* counts towards its next segment */
};

struct cubic {
	struct curve now, prior;
	uint64_t update_ns;    /* when pace was found ... */
	uint64_t acked_ns;     /* when anything was acknowledged last */
	uint64_t round_ns;     /* HyStart: the round began */
	uint64_t train_ns;     /* the last ACK of its train came */
	uint32_t update_cwnd;  /* ... and for which cwnd */
	uint32_t pace;	       /* bytes acknowledged for each segment */
	uint32_t rtt_min_us;   /* 0: none seen */
	uint32_t round_end;    /* sequence number */
	uint32_t round_rtt_us; /* least of the round */
	uint8_t round_samples;
	bool found; /* slow start was ended */
	bool may_undo;
};

static_assert(sizeof(struct cubic) <= sizeof(((struct flow_ext *)0)->cc_priv),
	      "private words");

static struct cubic *cubic(struct flow *f)
{
	return (struct cubic *)f->ext->cc_priv;
}

/* ---- the curve --------------------------------------------------------------
 */

/* The greatest whole number whose cube is not above @x. */
static uint32_t cube_root(uint64_t x)
{
	uint64_t y = 0, b;
	int s;

	for (s = 63; s >= 0; s -= 3) {
		y *= 2;
		b = 3 * y * (y + 1) + 1;
		if (x >> s >= b) {
			x -= b << s;
			y++;
		}
	}
	return (uint32_t)y;
}

/* ms from @w bytes below the plateau up to it: cbrt(w / C). */
static uint32_t time_to_plateau(const struct flow *f, uint32_t w)
{
	/* In segments and seconds w / 0.4; in bytes and ms ... */
	return cube_root((uint64_t)w * 2500000000u / f->snd_mss);
}

/* C t^3 in bytes, for @ms up to TIME_MAX. */
static uint64_t cube(const struct flow *f, uint64_t ms)
{
	return ms * ms * ms / 250 * f->snd_mss / 10000000;
}

static void begin_epoch(struct flow *f, struct curve *w, uint64_t now_ns)
{
	w->epoch_ns = now_ns;
	w->w_est = f->cwnd;
	w->est_acked = 0;
	w->origin = f->cwnd;
	w->k_ms = 0;
	if (w->w_max > f->cwnd) {
		w->origin = w->w_max;
		w->k_ms = time_to_plateau(f, w->w_max - f->cwnd);
	}
}

/* W(t + RTT), at least 0. */
static uint64_t target_window(const struct flow *f, const struct cubic *c,
			      uint64_t now_ns)
{
	uint64_t t = (now_ns - c->now.epoch_ns) / MS + c->rtt_min_us / 1000;
	uint64_t k = c->now.k_ms, d = t < k ? k - t : t - k;

	d = cube(f, d < TIME_MAX ? d : TIME_MAX);
	if (t >= k)
		return c->now.origin + d;
	return d < c->now.origin ? c->now.origin - d : 0;
}

/* Bytes acknowledged for each segment that make @more bytes in a window. */
static uint64_t pace_towards(const struct flow *f, uint64_t more)
{
	return (uint64_t)f->cwnd * f->snd_mss / more;
}

static void find_pace(struct flow *f, struct cubic *c, uint64_t now_ns)
{
	uint64_t target = target_window(f, c, now_ns), pace;

	c->update_ns = now_ns;
	c->update_cwnd = f->cwnd;
	if (target > f->cwnd)
		pace = pace_towards(f, target - f->cwnd);
	else
		pace = (uint64_t)LEAST_PACE * f->cwnd;
	if (!c->now.w_max && pace > FIRST_PACE * f->snd_mss)
		pace = FIRST_PACE * f->snd_mss;
	c->pace = pace < UINT32_MAX ? (uint32_t)pace : UINT32_MAX;
}

/* Section 4.3: alpha is 3 (1 - beta) / (1 + beta) = 9/17. */
static void reno_window(struct flow *f, struct curve *w, uint32_t acked)
{
	uint64_t per_seg = (uint64_t)f->cwnd * 17 / 9, n;

	w->est_acked += acked;
	if (w->est_acked < per_seg)
		return;
	n = w->est_acked / per_seg;
	w->est_acked -= (uint32_t)(n * per_seg);
	n = w->w_est + n * f->snd_mss;
	w->w_est = n < CC_CWND_MAX ? (uint32_t)n : CC_CWND_MAX;
}

static void cubic_grow(struct flow *f, const struct cc_sample *s)
{
	struct cubic *c = cubic(f);
	uint32_t acked = cc_slow_start(f, s->acked);
	uint64_t pace, friendly;

	if (!acked)
		return;
	if (!c->now.epoch_ns) {
		begin_epoch(f, &c->now, s->now_ns);
		find_pace(f, c, s->now_ns);
	} else if (s->now_ns - c->update_ns >=
		   (f->cwnd == c->update_cwnd ? UPDATE_MS * MS : MS)) {
		find_pace(f, c, s->now_ns);
	}
	reno_window(f, &c->now, acked);
	pace = c->pace;
	if (c->now.w_est > f->cwnd) {
		friendly = pace_towards(f, c->now.w_est - f->cwnd);
		if (friendly < pace)
			pace = friendly;
	}
	if (pace < FASTEST_PACE * f->snd_mss)
		pace = FASTEST_PACE * f->snd_mss;
	cc_grow_by(f, acked, pace);
}

/* ---- reductions -------------------------------------------------------------
 */

static uint32_t cubic_ssthresh(struct flow *f, uint64_t now_ns)
{
	struct cubic *c = cubic(f);
	uint32_t least = 2 * f->snd_mss;
	uint64_t cwnd = f->cwnd;

	c->prior = c->now;
	c->may_undo = true;
	c->now.epoch_ns = 0;
	/* Fast convergence: (1 + beta) / 2. */
	c->now.w_max = (uint32_t)(cwnd < c->now.w_max ? cwnd * 17 / 20 : cwnd);
	cwnd = cwnd * 7 / 10;
	return cwnd > least ? (uint32_t)cwnd : least;
}

static void hystart_round(struct flow *f, struct cubic *c, uint64_t now_ns)
{
	c->round_ns = now_ns;
	c->train_ns = now_ns;
	c->round_end = f->snd_nxt;
	c->round_rtt_us = UINT32_MAX;
	c->round_samples = 0;
}

/* Section 4.8: a time-out forgets all but the way back. */
static void forget(struct flow *f, struct cubic *c, uint64_t now_ns)
{
	memset(&c->now, 0, sizeof(c->now));
	c->rtt_min_us = 0;
	c->found = false;
	hystart_round(f, c, now_ns);
}

/* Move t's beginning by the time in which nothing was sent. */
static void skip_idle(struct cubic *c, uint64_t now_ns)
{
	if (!c->now.epoch_ns || !c->acked_ns || now_ns <= c->acked_ns)
		return;
	if (c->acked_ns > c->now.epoch_ns)
		c->now.epoch_ns += now_ns - c->acked_ns;
	else
		c->now.epoch_ns = now_ns;
}

static void cubic_event(struct flow *f, enum cc_event ev, uint64_t now_ns)
{
	struct cubic *c = cubic(f);

	switch (ev) {
	case CC_EV_TX_START:
		skip_idle(c, now_ns);
		c->acked_ns = now_ns;
		break;
	case CC_EV_RTO:
		forget(f, c, now_ns);
		break;
	case CC_EV_UNDO:
		if (c->may_undo)
			c->now = c->prior;
		c->may_undo = false;
		break;
	default:
		break;
	}
}

/* ---- HyStart ----------------------------------------------------------------
 */

/* How long a train of ACKs shows that the path is full: the path's delay, and
 * what a NIC may take to hand over what it merged. */
static uint64_t train_limit_ns(const struct flow *f, const struct cubic *c)
{
	uint64_t us = (uint64_t)HYSTART_BURST * (f->srtt8_us / 8);

	/* The rate of slow start is two windows a round trip. */
	us /= 2 * (uint64_t)f->cwnd;
	if (us > 1000)
		us = 1000;
	us += c->rtt_min_us;
	return (f->ext->pacing_rate ? us : us / 2) * 1000;
}

static bool train_is_long(const struct flow *f, struct cubic *c,
			  uint64_t now_ns)
{
	if (now_ns - c->train_ns > HYSTART_TRAIN_US * 1000ull)
		return false;
	c->train_ns = now_ns;
	return now_ns - c->round_ns > train_limit_ns(f, c);
}

static bool delay_is_up(struct cubic *c, uint32_t rtt_us)
{
	uint32_t more = c->rtt_min_us / 8;

	if (rtt_us < c->round_rtt_us)
		c->round_rtt_us = rtt_us;
	if (c->round_samples < HYSTART_SAMPLES) {
		c->round_samples++;
		return false;
	}
	if (more < HYSTART_DELAY_MIN_US)
		more = HYSTART_DELAY_MIN_US;
	if (more > HYSTART_DELAY_MAX_US)
		more = HYSTART_DELAY_MAX_US;
	return c->round_rtt_us > c->rtt_min_us + more;
}

static void hystart(struct flow *f, struct cubic *c, const struct cc_sample *s)
{
	bool full;

	if (seq_gt(f->snd_una, c->round_end))
		hystart_round(f, c, s->now_ns);
	if (f->cwnd < HYSTART_WINDOW * f->snd_mss)
		return;
	full = train_is_long(f, c, s->now_ns);
	full |= delay_is_up(c, s->rtt_us);
	if (!full)
		return;
	c->found = true;
	f->ssthresh = f->cwnd;
}

static void cubic_acked(struct flow *f, const struct cc_sample *s)
{
	struct cubic *c = cubic(f);

	c->acked_ns = s->now_ns;
	if (!s->rtt_us)
		return;
	if (c->now.epoch_ns && s->now_ns - c->now.epoch_ns < SETTLE_MS * MS)
		return;
	if (!c->rtt_min_us || s->rtt_us < c->rtt_min_us)
		c->rtt_min_us = s->rtt_us;
	if (!c->found && f->cwnd < f->ssthresh)
		hystart(f, c, s);
}

static void cubic_init(struct flow *f, uint64_t now_ns)
{
	hystart_round(f, cubic(f), now_ns);
}

const struct cc_ops cc_cubic = {
	.name = "cubic",
	.init = cubic_init,
	.ssthresh = cubic_ssthresh,
	.grow = cubic_grow,
	.event = cubic_event,
	.acked = cubic_acked,
};
