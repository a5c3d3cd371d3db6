/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rack.c - what is lost, by time (RFC 8985)
 *
 * A segment is lost if one that was sent a reordering window later has
 * arrived. The window is nothing until reordering was seen and recovery has
 * begun or three segments are SACKed, else a quarter of the least round trip,
 * widened by D-SACKs, a smoothed round trip at most; the numbers are Linux's.
 * What isn't late enough yet is looked at by a timer.
 *
 * When data are outstanding and no acknowledgment comes for two round trips, a
 * probe - new data or the last segment again - asks for one (TLP, section 7),
 * so that a lost tail is repaired without a time-out.
 *
 * Records are kept by sequence number, not by time: those sent once are in
 * both orders, so that a scan ends at the first of them that is young enough,
 * past the highest sent again.
 *
 * State: that part of struct loss; core thread.
 */
#include "fastpath/sender.h"

#define TLP_SLACK_US 2000u    /* "+ 2 ms": two of Linux's jiffies */
#define TLP_DELACK_US 200000u /* the peer may be delaying its ACK */

/* ---- detection --------------------------------------------------------------
 */

void rack_delivered(struct flow *f, const struct sent *r, uint32_t now_us)
{
	struct loss *l = &f->ext->loss;
	uint32_t rtt = now_us - r->sent_us, end = r->seq + r->len;

	/* Section 6.2 step 2: perhaps the first copy's. */
	if ((r->flags & SENT_EVER) && rtt < loss_min_rtt(l))
		return;
	l->rack_advanced = true;
	l->rack_rtt_us = rtt;
	if (!l->rack_valid ||
	    sent_after(r->sent_us, end, l->rack_us, l->rack_end)) {
		l->rack_valid = true;
		l->rack_us = r->sent_us;
		l->rack_end = end;
	}
}

/* Section 6.2 step 4, RACK_update_reo_wnd(), once a round trip. */
void rack_adapt(struct flow *f, const struct ack *a)
{
	struct loss *l = &f->ext->loss;

	if (!a->rate)
		return;
	if (seq_lt(a->rate_delivered, l->rack_delivered))
		l->rack_dsack = false;
	if (l->rack_dsack) {
		if (l->reo_wnd_mult < UINT8_MAX)
			l->reo_wnd_mult++;
		l->rack_dsack = false;
		l->rack_delivered = (uint32_t)f->ext->delivered;
		l->reo_wnd_persist = REO_PERSIST;
	} else if (!l->reo_wnd_persist) {
		l->reo_wnd_mult = 1;
	}
}

static uint32_t reo_wnd_us(const struct flow *f)
{
	const struct loss *l = &f->ext->loss;
	uint64_t us;

	if (!l->reord_seen && (l->state == CC_RECOVERY || l->state == CC_LOSS ||
			       l->sb.sacked_n >= l->reordering))
		return 0;
	us = (uint64_t)(loss_min_rtt(l) / 4) * l->reo_wnd_mult;
	return us < f->srtt8_us / 8 ? (uint32_t)us : f->srtt8_us / 8;
}

int32_t rack_remaining(const struct loss *l, uint32_t sent_us, uint32_t reo,
		       uint32_t now_us)
{
	return (int32_t)(l->rack_rtt_us + reo - (now_us - sent_us));
}

void loss_mark(struct flow *f, struct sent *r)
{
	struct loss *l = &f->ext->loss;

	if (r->flags & SENT_SACKED)
		return;
	if (r->flags & SENT_LOST) {
		if (!(r->flags & SENT_RETRANS))
			return;
		sb_flags(&l->sb, r, r->flags & (uint8_t)~SENT_RETRANS);
	} else {
		sb_flags(&l->sb, r, r->flags | SENT_LOST);
	}
	l->total_lost++;
	l->lost_since += r->len;
	if (seq_lt(r->seq, l->rexmit_seq))
		l->rexmit_seq = r->seq;
}

/* Section 6.2 step 5. The time until the next one is lost, 0: none waits. */
static uint32_t detect(struct flow *f, uint32_t now_us)
{
	struct loss *l = &f->ext->loss;
	uint32_t reo = reo_wnd_us(f), wait = 0, i;

	for (i = 0; i < l->sb.n; i++) {
		struct sent *r = sb_at(&l->sb, i);
		int32_t left;

		if (r->flags & SENT_SACKED ||
		    (r->flags & (SENT_LOST | SENT_RETRANS)) == SENT_LOST)
			continue;
		if (!sent_after(l->rack_us, l->rack_end, r->sent_us,
				r->seq + r->len)) {
			if (!(r->flags & SENT_EVER) && !l->sb.retrans)
				break;
			continue;
		}
		left = rack_remaining(l, r->sent_us, reo, now_us);
		if (left <= 0)
			loss_mark(f, r);
		else if ((uint32_t)left > wait)
			wait = (uint32_t)left;
	}
	return wait;
}

/* RFC 6582: the first segment, at the third duplicate ACK and at each partial
 * acknowledgment. */
static void newreno_mark(struct flow *f, const struct ack *a)
{
	struct loss *l = &f->ext->loss;
	struct sent *r = sb_at(&l->sb, 0);

	if (l->state == CC_RECOVERY
		    ? !(a->flags & ACK_ADVANCED)
		    : l->reno_sacked / f->snd_mss < l->reordering ||
			      !seq_gt(f->snd_una, l->recover))
		return;
	if (r->flags & SENT_LOST)
		return;
	if (r->len > f->snd_mss)
		sb_split(&l->sb, 0, f->snd_mss);
	loss_mark(f, sb_at(&l->sb, 0));
	reno_limit(f);
}

void rack_detect(struct fp_core *c, struct flow *f, struct ack *a)
{
	struct loss *l = &f->ext->loss;
	uint32_t wait, retrans = l->sb.retrans;

	if (!l->sb.n)
		return;
	if (!f->sack) {
		newreno_mark(f, a);
		return;
	}
	if (!l->rack_advanced)
		return;
	l->rack_advanced = false;
	wait = detect(f, a->now_us);
	if (wait) {
		loss_timer_set(c, f, LOSS_REO, c->now_ns + wait * 1000ull);
		a->flags &= ~(uint32_t)ACK_TIMER;
	}
	if (retrans > l->sb.retrans)
		a->flags |= ACK_LOST_RETRANS;
}

void rack_timeout(struct fp_core *c, struct flow *f)
{
	struct loss *l = &f->ext->loss;
	uint32_t pipe = loss_pipe(f), wait;

	wait = detect(f, time_us(c->now_ns));
	if (loss_pipe(f) != pipe) {
		if (l->state != CC_RECOVERY && l->state != CC_LOSS &&
		    !mtu_probe_lost(f)) {
			cwnd_recovery(c, f, false);
			if (!f->cc->control)
				cwnd_prr(f, f->snd_mss, 0, false);
		}
		flow_list(c, f);
	}
	if (wait)
		loss_timer_set(c, f, LOSS_REO, c->now_ns + wait * 1000ull);
	else
		loss_rearm(c, f);
}

/* ---- tail loss probes -------------------------------------------------------
 */

/* When the head's retransmission time-out ends, from now. */
static int64_t rto_delta_us(struct fp_core *c, struct flow *f)
{
	uint32_t age = time_us(c->now_ns) - sb_at(&f->ext->loss.sb, 0)->sent_us;

	return (int64_t)(loss_rto_ns(f) / 1000) - (int32_t)age;
}

bool tlp_schedule(struct fp_core *c, struct flow *f, bool advancing)
{
	struct loss *l = &f->ext->loss;
	int64_t us = 1000000, rto;

	if (!f->sack || !l->sb.n ||
	    (l->state != CC_OPEN && l->state != CC_CWR) || l->sb.sacked)
		return false;
	if (f->srtt8_us)
		us = f->srtt8_us / 4 +
		     (l->sb.n == 1 ? TLP_DELACK_US : TLP_SLACK_US);
	rto = advancing ? (int64_t)(loss_rto_ns(f) / 1000) : rto_delta_us(c, f);
	if (rto > 0 && rto < us)
		us = rto;
	loss_timer_set(c, f, LOSS_TLP, c->now_ns + (uint64_t)us * 1000);
	return true;
}

void loss_rearm(struct fp_core *c, struct flow *f)
{
	struct loss *l = &f->ext->loss;
	uint64_t ns = loss_rto_ns(f);
	int64_t us;

	if (f->snd_una == f->snd_nxt) {
		f->rto_at = 0;
		l->timer = LOSS_RTO;
		return;
	}
	if (l->timer != LOSS_RTO && l->sb.n) {
		us = rto_delta_us(c, f);
		ns = us > 0 ? (uint64_t)us * 1000 : 1000;
	}
	loss_timer_set(c, f, LOSS_RTO, c->now_ns + ns);
}

/* Section 7.3: new data if there are any and they fit, else the last segment.
 */
static bool tlp_send(struct fp_core *c, struct flow *f)
{
	struct loss *l = &f->ext->loss;
	const struct sent *r;
	uint32_t n;

	assert(f->snd_mss);
	l->tlp_retrans = false;
	n = flow_unsent(f) < f->snd_mss ? flow_unsent(f) : f->snd_mss;
	if (n && f->snd_nxt - f->snd_una + n <= f->snd_wnd)
		return tx_new(c, f, n);
	r = sb_at(&l->sb, l->sb.n - 1);
	if (r->len > f->snd_mss) {
		n = (r->len - 1) / f->snd_mss * f->snd_mss;
		sb_split(&l->sb, l->sb.n - 1, n);
	}
	if (!tx_again(c, f, l->sb.n - 1))
		return false;
	l->tlp_retrans = true;
	return true;
}

void tlp_timeout(struct fp_core *c, struct flow *f)
{
	struct loss *l = &f->ext->loss;

	if (!l->tlp_on && tlp_send(c, f)) {
		l->tlp_on = true;
		l->tlp_end = f->snd_nxt;
	}
	l->timer = LOSS_TLP;
	loss_rearm(c, f);
}

/* Section 7.4: did the probe repair a loss? */
void tlp_acked(struct fp_core *c, struct flow *f, const struct ack *a)
{
	struct loss *l = &f->ext->loss;
	uint32_t other = ACK_ADVANCED | LOSS_DATA | LOSS_WND | ACK_SACKED;
	bool needless; /* new data, or both copies arrived */

	if (!l->tlp_on || seq_lt(a->ack, l->tlp_end))
		return;
	needless = !l->tlp_retrans || a->flags & ACK_DSACK_TLP;
	if (!needless && seq_gt(a->ack, l->tlp_end)) {
		l->tlp_on = false;
		cwnd_reduce_begin(c, f, false);
		l->state = CC_CWR;
		cwnd_event(c, f, CC_EV_RECOVERY);
		cwnd_reduce_end(c, f);
		cwnd_try_open(f);
	} else if (needless || !(a->flags & other)) {
		l->tlp_on = false; /* also by a duplicate ACK: both arrived */
	}
}
