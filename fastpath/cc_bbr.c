/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cc_bbr.c - BBR, version 1
 *
 * Cardwell et al., "BBR: Congestion-Based Congestion Control" (2016), and
 * draft-cardwell-iccrg-bbr-congestion-control-00; its names are used here.
 * The path is a rate and a delay. max_bw is the greatest delivery rate of the
 * last ten round trips, min_rtt the least RTT of the last ten seconds; data go
 * out paced at a gain times max_bw, and cwnd bounds what is in flight by a gain
 * times their product, the BDP. Loss tells nothing about either, so it changes
 * nothing but for a round of packet conservation when recovery begins.
 *
 *   STARTUP    gain 2/ln 2: the rate doubles each round, until three rounds
 *              did not bring a quarter more;
 *   DRAIN      the inverse, until a BDP is in flight;
 *   PROBE_BW   eight phases of a min_rtt: 5/4 to find more, 3/4 to give the
 *              queue back, six of 1; entered at any phase but that of 3/4;
 *   PROBE_RTT  four segments in flight for 200 ms and a round, when min_rtt
 *              was not seen again for ten seconds.
 *
 * As Linux has it beside these: a policer is recognized by a steady loss of a
 * fifth at the same rate in two intervals of 4 to 16 rounds, and its rate is
 * used for 48 rounds (long-term bandwidth); cwnd has room for ACKs that arrive
 * in heaps, by how far the most delivered of the last 5 to 10 rounds was ahead
 * of max_bw (extra_acked); what is paced is 1 % less than estimated; after
 * idleness the rate is max_bw, gain 1.
 *
 * Units: bytes, bytes a second, microseconds of RTT; gains are in 256ths.
 * Round trips are counted in delivered bytes: one ends when a segment is
 * acknowledged that was sent after it began. While it sends little on purpose
 * it sets cc_low_rate, so that this teaches it no low rate.
 *
 * State: struct bbr in the flow's cc_priv, cwnd, ssthresh (for who asks whether
 * this is slow start), pacing_rate; the core's thread. Rates are held below
 * 2^37 and times below 64 s, so that 64 bits hold every product.
 */
#include "fastpath/cc.h"
#include "fastpath/flow.h"

#include <string.h>

#define UNIT 256u      /* gain 1 */
#define HIGH_GAIN 739u /* 2/ln 2 */
#define DRAIN_GAIN 88u /* its inverse */
#define CWND_GAIN 512u /* two: ACKs are delayed and heaped */
#define BW_ROUNDS 10u  /* of the max filter */
#define MIN_RTT_NS 10000000000ull
#define PROBE_RTT_NS 200000000ull
#define CYCLE 8u
#define FULL_ROUNDS 3u
#define CWND_MIN 4ull /* segments */
#define CWND_INIT 10ull
#define MARGIN_PERCENT 1u

#define LT_ROUNDS_MIN 4u
#define LT_ROUNDS_MAX 16u
#define LT_ROUNDS_USED 48u
#define LT_LOSS 50u	/* of 256: about a fifth */
#define LT_DIFF_SHIFT 3 /* rates are the same: within an eighth ... */
#define LT_DIFF 500u	/* ... or 4 kbit/s */

#define EXTRA_ROUNDS 5u
#define EXTRA_NS 100000000ull /* no more than max_bw brings in this time */
#define EPOCH_MAX (1u << 30)

#define BW_MAX (1ull << 37)
#define US_MAX 64000000ull

enum bbr_mode { STARTUP, DRAIN, PROBE_BW, PROBE_RTT };

struct bbr {
	uint64_t bw[3];		 /* greatest, next and next later */
	uint64_t round_end;	 /* of delivered bytes */
	uint64_t min_rtt_ns;	 /* when min_rtt_us was seen */
	uint64_t probe_done_ns;	 /* PROBE_RTT may end; 0: flight is too large */
	uint64_t cycle_ns;	 /* the phase of PROBE_BW began */
	uint64_t full_bw;	 /* STARTUP compares with it */
	uint64_t lt_bw;		 /* of the interval before; 0: none */
	uint64_t lt_ns;		 /* the interval began */
	uint64_t lt_delivered;	 /* in it */
	uint64_t epoch_ns;	 /* extra_acked: the epoch began */
	uint32_t epoch_acked;	 /* bytes in it */
	uint32_t extra_acked[2]; /* greatest of this window and the last one */
	uint32_t lt_lost;
	uint32_t bw_round[3]; /* of bw[] */
	uint32_t round;
	uint32_t min_rtt_us; /* UINT32_MAX: none */
	uint32_t prior_cwnd; /* before recovery or PROBE_RTT */
	uint16_t pacing_gain, cwnd_gain;
	uint8_t mode;	     /* enum bbr_mode */
	uint8_t prior_state; /* enum cc_state */
	uint8_t cycle;
	uint8_t full_rounds; /* that brought no more */
	uint8_t lt_rounds;
	uint8_t extra_rounds, extra_now;
	bool round_start : 1;
	bool full_reached : 1;
	bool seen_rtt : 1; /* pacing_rate began with a true RTT */
	bool idle_restart : 1;
	bool conserve : 1;	   /* packet conservation */
	bool probe_round_done : 1; /* PROBE_RTT lasted a round */
	bool lt_sampling : 1;
	bool lt_use : 1;
};

static_assert(sizeof(struct bbr) <= sizeof(((struct flow_ext *)0)->cc_priv),
	      "private words");

static const uint16_t cycle_gain[CYCLE] = {
	UNIT * 5 / 4, UNIT * 3 / 4, UNIT, UNIT, UNIT, UNIT, UNIT, UNIT,
};

static struct bbr *bbr(const struct flow *f)
{
	return (struct bbr *)f->ext->cc_priv;
}

static uint64_t elapsed_us(uint64_t now_ns, uint64_t since_ns)
{
	uint64_t us = now_ns > since_ns ? (now_ns - since_ns) / 1000 : 0;

	return us < US_MAX ? us : US_MAX;
}

/* ---- what the model says ----------------------------------------------------
 */

static uint64_t bandwidth(const struct bbr *b)
{
	return b->lt_use ? b->lt_bw : b->bw[0];
}

static uint64_t bdp(const struct flow *f, uint64_t bw, uint32_t gain)
{
	const struct bbr *b = bbr(f);
	uint64_t bytes;

	if (b->min_rtt_us == UINT32_MAX) /* not a single RTT yet */
		return CWND_INIT * f->snd_mss;
	bytes = bw * b->min_rtt_us / 1000000 * gain / UNIT;
	return bytes < CC_CWND_MAX ? bytes + 1 : CC_CWND_MAX;
}

/* Room for what leaves in bursts, for delayed ACKs (an even number), and for
 * the probe to be more than the cruise when the BDP is a few segments. */
static uint64_t with_bursts(const struct flow *f, uint64_t bytes)
{
	const struct bbr *b = bbr(f);
	uint64_t even = 2 * (uint64_t)f->snd_mss;

	bytes += 3 * (uint64_t)cc_pace_burst(f, f->ext->pacing_rate);
	bytes = (bytes + even - 1) / even * even;
	if (b->mode == PROBE_BW && b->cycle == 0)
		bytes += even;
	return bytes;
}

static uint64_t inflight(const struct flow *f, uint64_t bw, uint32_t gain)
{
	return with_bursts(f, bdp(f, bw, gain));
}

static uint64_t extra_cwnd(const struct bbr *b)
{
	uint64_t most = bandwidth(b) / (1000000000 / EXTRA_NS), extra;

	if (!b->full_reached)
		return 0;
	extra = b->extra_acked[b->extra_acked[1] > b->extra_acked[0]];
	return extra < most ? extra : most;
}

/* ---- max_bw: the greatest of BW_ROUNDS rounds -------------------------------
 * Three candidates, each the greatest since the one before it: when the first
 * is too old the next takes its place (Nichols' windowed filter).
 */

static void bw_set(struct bbr *b, unsigned int from, uint64_t bw)
{
	for (; from < 3; from++) {
		b->bw[from] = bw;
		b->bw_round[from] = b->round;
	}
}

static void bw_shift(struct bbr *b)
{
	b->bw[0] = b->bw[1];
	b->bw_round[0] = b->bw_round[1];
	b->bw[1] = b->bw[2];
	b->bw_round[1] = b->bw_round[2];
}

static void bw_update(struct bbr *b, uint64_t bw)
{
	uint32_t age = b->round - b->bw_round[0];

	if (bw >= b->bw[0] || b->round - b->bw_round[2] > BW_ROUNDS) {
		bw_set(b, 0, bw);
		return;
	}
	if (bw >= b->bw[1])
		bw_set(b, 1, bw);
	else if (bw >= b->bw[2])
		bw_set(b, 2, bw);
	if (age > BW_ROUNDS) {
		bw_shift(b);
		bw_set(b, 2, bw);
		if (b->round - b->bw_round[0] > BW_ROUNDS) {
			bw_shift(b);
			bw_set(b, 2, bw);
		}
	} else if (b->bw_round[1] == b->bw_round[0] && age > BW_ROUNDS / 4) {
		bw_set(b, 1, bw);
	} else if (b->bw_round[2] == b->bw_round[1] && age > BW_ROUNDS / 2) {
		bw_set(b, 2, bw);
	}
}

/* ---- long-term bandwidth: policers ------------------------------------------
 */

static void lt_begin_interval(struct bbr *b, uint64_t now_ns)
{
	b->lt_ns = now_ns;
	b->lt_delivered = 0;
	b->lt_lost = 0;
	b->lt_rounds = 0;
}

static void lt_reset(struct bbr *b, uint64_t now_ns)
{
	b->lt_bw = 0;
	b->lt_use = false;
	b->lt_sampling = false;
	lt_begin_interval(b, now_ns);
}

static void lt_end_interval(struct bbr *b, uint64_t bw, uint64_t now_ns)
{
	uint64_t diff = bw > b->lt_bw ? bw - b->lt_bw : b->lt_bw - bw;

	if (b->lt_bw &&
	    (diff <= b->lt_bw >> LT_DIFF_SHIFT || diff <= LT_DIFF)) {
		b->lt_bw = (bw + b->lt_bw) / 2;
		b->lt_use = true;
		b->pacing_gain = UNIT; /* not above what the policer takes */
		b->lt_rounds = 0;
		return;
	}
	b->lt_bw = bw;
	lt_begin_interval(b, now_ns);
}

static void enter_probe_bw(const struct flow *f, struct bbr *b,
			   uint64_t now_ns);

/* An interval begins and ends with a loss, when the policer's bucket is empty.
 */
static void lt_sample(const struct flow *f, struct bbr *b, uint64_t now_ns,
		      bool lost, bool app_limited)
{
	uint64_t us;

	if (b->lt_use) {
		if (b->mode == PROBE_BW && b->round_start &&
		    ++b->lt_rounds >= LT_ROUNDS_USED) {
			lt_reset(b, now_ns);
			enter_probe_bw(f, b, now_ns);
		}
		return;
	}
	if (!b->lt_sampling) {
		if (!lost)
			return;
		lt_begin_interval(b, now_ns);
		b->lt_sampling = true;
	}
	if (app_limited) {
		lt_reset(b, now_ns);
		return;
	}
	b->lt_rounds += b->round_start;
	if (b->lt_rounds < LT_ROUNDS_MIN)
		return;
	if (b->lt_rounds > LT_ROUNDS_MAX) {
		lt_reset(b, now_ns);
		return;
	}
	us = elapsed_us(now_ns, b->lt_ns);
	if (!lost || !b->lt_delivered || us < 1000 ||
	    (uint64_t)b->lt_lost * 256 < LT_LOSS * b->lt_delivered)
		return;
	if (us == US_MAX)
		lt_reset(b, now_ns);
	else
		lt_end_interval(b, b->lt_delivered * 1000000 / us, now_ns);
}

/* ---- the model --------------------------------------------------------------
 */

static uint64_t sample_bw(const struct cc_sample *s)
{
	uint64_t bw = (uint64_t)s->rate_bytes * 1000000 / s->rate_us;

	return bw < BW_MAX ? bw : BW_MAX;
}

static void update_bw(const struct flow *f, struct bbr *b,
		      const struct cc_sample *s)
{
	uint64_t bw;

	b->round_start = false;
	b->lt_delivered += s->delivered;
	b->lt_lost += s->lost;
	if (!s->rate_us)
		return;
	if (s->prior_delivered >= b->round_end) {
		b->round_end = s->total_delivered;
		b->round++;
		b->round_start = true;
		b->conserve = false;
	}
	lt_sample(f, b, s->now_ns, s->lost, s->app_limited);
	bw = sample_bw(s);
	/* One limited by the application says what the path takes at least. */
	if (!s->app_limited || bw >= b->bw[0])
		bw_update(b, bw);
}

static void update_extra_acked(const struct flow *f, struct bbr *b,
			       const struct cc_sample *s)
{
	uint64_t expected, extra;

	if (!s->rate_us || !s->delivered)
		return;
	if (b->round_start && ++b->extra_rounds >= EXTRA_ROUNDS) {
		b->extra_rounds = 0;
		b->extra_now ^= 1;
		b->extra_acked[b->extra_now] = 0;
	}
	expected = bandwidth(b) * elapsed_us(s->now_ns, b->epoch_ns) / 1000000;
	if (b->epoch_acked <= expected ||
	    (uint64_t)b->epoch_acked + s->delivered >= EPOCH_MAX) {
		b->epoch_acked = 0;
		b->epoch_ns = s->now_ns;
		expected = 0;
	}
	extra = (uint64_t)b->epoch_acked + s->delivered;
	b->epoch_acked = extra < EPOCH_MAX ? (uint32_t)extra : EPOCH_MAX;
	extra = b->epoch_acked - expected;
	if (extra > f->cwnd)
		extra = f->cwnd;
	if (extra > b->extra_acked[b->extra_now])
		b->extra_acked[b->extra_now] = (uint32_t)extra;
}

static void next_phase(struct bbr *b, uint64_t now_ns)
{
	b->cycle = (b->cycle + 1) % CYCLE;
	b->cycle_ns = now_ns;
}

static bool phase_is_over(const struct flow *f, const struct bbr *b,
			  const struct cc_sample *s)
{
	bool lasted = elapsed_us(s->now_ns, b->cycle_ns) > b->min_rtt_us;

	if (b->pacing_gain > UNIT)
		return lasted &&
		       (s->lost ||
			s->flight >= inflight(f, b->bw[0], b->pacing_gain));
	if (b->pacing_gain < UNIT)
		return lasted || s->flight <= inflight(f, b->bw[0], UNIT);
	return lasted;
}

static void check_full(struct bbr *b, const struct cc_sample *s)
{
	if (b->full_reached || !b->round_start || s->app_limited)
		return;
	if (b->bw[0] >= b->full_bw + b->full_bw / 4) {
		b->full_bw = b->bw[0];
		b->full_rounds = 0;
		return;
	}
	b->full_reached = ++b->full_rounds >= FULL_ROUNDS;
}

/* Flows that begin together must not probe together: any phase but DRAIN's. */
static void enter_probe_bw(const struct flow *f, struct bbr *b, uint64_t now_ns)
{
	uint64_t any = flow_mix(now_ns ^ 0x9e3779b97f4a7c15ull,
				((uint64_t)f->hash << 32 | f->snd_nxt) + 1);

	b->mode = PROBE_BW;
	b->cycle = CYCLE - 1 - (uint32_t)((any >> 32) % (CYCLE - 1));
	next_phase(b, now_ns);
}

static void check_drain(struct flow *f, struct bbr *b,
			const struct cc_sample *s)
{
	if (b->mode == STARTUP && b->full_reached) {
		b->mode = DRAIN;
		f->ssthresh = (uint32_t)inflight(f, b->bw[0], UNIT);
	}
	if (b->mode == DRAIN && s->flight_after <= inflight(f, b->bw[0], UNIT))
		enter_probe_bw(f, b, s->now_ns);
}

/* ---- min_rtt and PROBE_RTT --------------------------------------------------
 */

static void save_cwnd(struct flow *f, struct bbr *b)
{
	bool low = b->prior_state >= CC_RECOVERY || b->mode == PROBE_RTT;

	if (!low || b->prior_cwnd < f->cwnd)
		b->prior_cwnd = f->cwnd;
}

static void restore_cwnd(struct flow *f, const struct bbr *b)
{
	if (f->cwnd < b->prior_cwnd)
		f->cwnd = b->prior_cwnd;
}

static void check_probe_rtt_done(struct flow *f, struct bbr *b, uint64_t now_ns)
{
	if (!b->probe_done_ns || now_ns <= b->probe_done_ns)
		return;
	b->min_rtt_ns = now_ns; /* not again for ten seconds */
	f->ext->cc_low_rate = false;
	restore_cwnd(f, b);
	if (b->full_reached)
		enter_probe_bw(f, b, now_ns);
	else
		b->mode = STARTUP;
}

static void probe_rtt(struct flow *f, struct bbr *b, const struct cc_sample *s)
{
	f->ext->cc_low_rate = true;
	if (!b->probe_done_ns) {
		if (s->flight_after > CWND_MIN * f->snd_mss)
			return;
		b->probe_done_ns = s->now_ns + PROBE_RTT_NS;
		b->probe_round_done = false;
		b->round_end = s->total_delivered;
		return;
	}
	b->probe_round_done |= b->round_start;
	if (b->probe_round_done)
		check_probe_rtt_done(f, b, s->now_ns);
}

static void update_min_rtt(struct flow *f, struct bbr *b,
			   const struct cc_sample *s)
{
	bool expired = s->now_ns > b->min_rtt_ns + MIN_RTT_NS;

	if (s->rtt_us &&
	    (s->rtt_us < b->min_rtt_us || (expired && !s->maybe_delayed))) {
		b->min_rtt_us = s->rtt_us < US_MAX ? s->rtt_us : US_MAX;
		b->min_rtt_ns = s->now_ns;
	}
	/* What is sent after idleness finds an empty queue anyway. */
	if (expired && !b->idle_restart && b->mode != PROBE_RTT) {
		save_cwnd(f, b);
		b->mode = PROBE_RTT;
		b->probe_done_ns = 0;
	}
	if (b->mode == PROBE_RTT)
		probe_rtt(f, b, s);
	if (s->delivered)
		b->idle_restart = false;
}

/* ---- rate and window --------------------------------------------------------
 */

static void update_gains(struct bbr *b)
{
	b->cwnd_gain = b->mode == PROBE_BW    ? CWND_GAIN
		       : b->mode == PROBE_RTT ? UNIT
					      : HIGH_GAIN;
	if (b->mode == STARTUP)
		b->pacing_gain = HIGH_GAIN;
	else if (b->mode == DRAIN)
		b->pacing_gain = DRAIN_GAIN;
	else if (b->mode == PROBE_BW && !b->lt_use)
		b->pacing_gain = cycle_gain[b->cycle];
	else
		b->pacing_gain = UNIT;
}

static uint64_t paced(uint64_t bw, uint32_t gain)
{
	uint64_t rate = bw * gain / UNIT * (100 - MARGIN_PERCENT) / 100;

	return rate ? rate : 1;
}

/* cwnd a round trip, or a millisecond while no RTT is known. */
static void first_rate(struct flow *f, struct bbr *b)
{
	uint64_t us = 1000;

	if (f->srtt8_us) {
		us = f->srtt8_us / 8 ? f->srtt8_us / 8 : 1;
		b->seen_rtt = true;
	}
	f->ext->pacing_rate =
		paced((uint64_t)f->cwnd * 1000000 / us, HIGH_GAIN);
}

static void set_rate(struct flow *f, struct bbr *b, uint32_t gain)
{
	uint64_t rate = paced(bandwidth(b), gain);

	if (!b->seen_rtt && f->srtt8_us)
		first_rate(f, b);
	if (b->full_reached || rate > f->ext->pacing_rate)
		f->ext->pacing_rate = rate;
}

/* True: packet conservation decides cwnd, which is set. */
static bool recover_or_restore(struct flow *f, struct bbr *b,
			       const struct cc_sample *s)
{
	uint64_t sent = (uint64_t)s->flight_after + s->delivered;

	if (s->lost)
		f->cwnd = f->cwnd > s->lost + f->snd_mss ? f->cwnd - s->lost
							 : f->snd_mss;
	if (s->state == CC_RECOVERY && b->prior_state != CC_RECOVERY) {
		b->conserve = true;
		b->round_end = s->total_delivered; /* for one round from now */
		f->cwnd = sent < CC_CWND_MAX ? (uint32_t)sent : CC_CWND_MAX;
	} else if (b->prior_state >= CC_RECOVERY && s->state < CC_RECOVERY) {
		b->conserve = false;
		restore_cwnd(f, b);
	}
	b->prior_state = s->state;
	if (b->conserve && f->cwnd < sent)
		f->cwnd = sent < CC_CWND_MAX ? (uint32_t)sent : CC_CWND_MAX;
	return b->conserve;
}

static void set_cwnd(struct flow *f, struct bbr *b, const struct cc_sample *s)
{
	uint64_t least = CWND_MIN * f->snd_mss, target, cwnd;

	if (s->delivered && !recover_or_restore(f, b, s)) {
		target = bdp(f, bandwidth(b), b->cwnd_gain) + extra_cwnd(b);
		target = with_bursts(f, target);
		cwnd = f->cwnd;
		if (b->full_reached) {
			cwnd += s->delivered;
			if (cwnd > target)
				cwnd = target;
		} else if (cwnd < target ||
			   s->total_delivered < CWND_INIT * f->snd_mss) {
			cwnd += s->delivered;
		}
		if (cwnd < least)
			cwnd = least;
		f->cwnd = cwnd < CC_CWND_MAX ? (uint32_t)cwnd : CC_CWND_MAX;
	}
	if (b->mode == PROBE_RTT && f->cwnd > least)
		f->cwnd = (uint32_t)least;
}

/* ---- operations -------------------------------------------------------------
 */

static void bbr_control(struct flow *f, const struct cc_sample *s)
{
	struct bbr *b = bbr(f);

	update_bw(f, b, s);
	update_extra_acked(f, b, s);
	if (b->mode == PROBE_BW && phase_is_over(f, b, s))
		next_phase(b, s->now_ns);
	check_full(b, s);
	check_drain(f, b, s);
	update_min_rtt(f, b, s);
	update_gains(b);
	set_rate(f, b, b->pacing_gain);
	set_cwnd(f, b, s);
}

/* Asked when recovery begins: not to come down, but to remember. */
static uint32_t bbr_ssthresh(struct flow *f, uint64_t now_ns)
{
	save_cwnd(f, bbr(f));
	return f->ssthresh;
}

static uint32_t bbr_undo_cwnd(struct flow *f)
{
	struct bbr *b = bbr(f);

	b->full_bw = 0; /* a false loss may have looked like a full pipe */
	b->full_rounds = 0;
	lt_reset(b, b->lt_ns);
	restore_cwnd(f, b);
	return f->cwnd;
}

static void idle_restart(struct flow *f, struct bbr *b, uint64_t now_ns)
{
	b->idle_restart = true;
	b->epoch_ns = now_ns;
	b->epoch_acked = 0;
	if (b->mode == PROBE_BW)
		set_rate(f, b, UNIT);
	else if (b->mode == PROBE_RTT)
		check_probe_rtt_done(f, b, now_ns);
}

static void bbr_event(struct flow *f, enum cc_event ev, uint64_t now_ns)
{
	struct bbr *b = bbr(f);

	if (ev == CC_EV_TX_START) {
		idle_restart(f, b, now_ns);
	} else if (ev == CC_EV_RTO) {
		b->prior_state = CC_LOSS;
		b->full_bw = 0;
		b->round_start = true; /* it ends a round */
		lt_sample(f, b, now_ns, true, false);
	}
}

static void bbr_init(struct flow *f, uint64_t now_ns)
{
	struct bbr *b = bbr(f);

	f->ssthresh = CC_CWND_MAX;
	b->prior_cwnd = f->cwnd;
	b->min_rtt_us = UINT32_MAX;
	b->min_rtt_ns = now_ns;
	b->cycle_ns = now_ns;
	b->epoch_ns = now_ns;
	lt_reset(b, now_ns);
	update_gains(b);
	first_rate(f, b);
}

const struct cc_ops cc_bbr = {
	.name = "bbr",
	.init = bbr_init,
	.ssthresh = bbr_ssthresh,
	.undo_cwnd = bbr_undo_cwnd,
	.event = bbr_event,
	.control = bbr_control,
};
