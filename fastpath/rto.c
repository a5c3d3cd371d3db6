/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rto.c - deadlines of the sender that passed
 *
 * A retransmission time-out (RFC 6298 section 5) marks what is late as lost,
 * lets one segment go and begins anew, doubled. Without progress for as long
 * as fifteen doublings from 200 ms take (Linux's count of tcp_retries2), or
 * for TCP_USER_TIMEOUT, the connection ends; one that the program has closed,
 * after eight. A peer that shows signs of life with its window closed is not
 * given up.
 *
 * A closed window with nothing under way is probed (RFC 9293 3.8.6.1), at
 * growing intervals, for as long as the peer answers.
 *
 * Time-outs in a row for as long as three doublings take (tcp_retries1) may
 * mean that the path swallows large packets and tells nobody: see mtu.c.
 *
 * State: that part of struct loss, backoff, probes; core thread.
 */
#include "fastpath/sender.h"

#include <errno.h>

#define RETRIES_PROBE_MTU 3u /* tcp_retries1 */
#define RETRIES_ORPHAN 8u

static void give_up(struct fp_core *c, struct flow *f)
{
	core_remove_flow(c, f, FP_REMOVED_TIMEOUT, ETIMEDOUT);
}

/* What @retries doublings from RTO_MIN take: tcp_model_timeout(). */
static uint64_t retries_ns(unsigned int retries)
{
	const unsigned int doublings = 9; /* until RTO_MAX is reached */
	uint64_t us;

	if (retries <= doublings)
		us = ((2ull << retries) - 1) * RTO_MIN_US;
	else
		us = ((2ull << doublings) - 1) * RTO_MIN_US +
		     (retries - doublings) * (uint64_t)RTO_MAX_US;
	return us * 1000;
}

/* Since the first retransmission. */
static uint64_t waited_ns(const struct fp_core *c, const struct flow *f)
{
	const struct loss *l = &f->ext->loss;

	return l->retrans_ns ? c->now_ns - l->retrans_ns : 0;
}

static uint64_t user_ns(const struct flow *f)
{
	return f->user_timeout_ms * 1000000ull;
}

/* A deadline at @ns from now, no later than the user's patience ends. */
static uint64_t clamp_user(const struct flow *f, uint64_t ns, uint64_t waited)
{
	uint64_t user = user_ns(f);

	if (!user || waited + ns <= user)
		return ns;
	return waited < user ? user - waited : 1000000;
}

/* ---- zero windows -----------------------------------------------------------
 */

static bool persist_expired(struct fp_core *c, struct flow *f)
{
	struct loss *l = &f->ext->loss;

	if (f->probes >= RTO_RETRIES ||
	    (f->user_timeout_ms && c->now_ns - l->probes_ns >= user_ns(f))) {
		give_up(c, f);
		return true;
	}
	if (f->closing && f->backoff >= RETRIES_ORPHAN) {
		core_remove_flow(c, f, FP_REMOVED_ABORT, 0);
		return true;
	}
	return false;
}

static void persist_timeout(struct fp_core *c, struct flow *f)
{
	struct loss *l = &f->ext->loss;
	uint64_t ns;

	if (persist_expired(c, f))
		return;
	if (tx_probe(c, f)) {
		f->probes++;
		if (f->backoff < RTO_RETRIES)
			f->backoff++;
	}
	ns = clamp_user(f, loss_rto_ns(f), c->now_ns - l->probes_ns);
	timers_set_rto(c, f, c->now_ns + ns);
}

void loss_persist(struct fp_core *c, struct flow *f)
{
	struct loss *l = &f->ext->loss;

	f->persist = true;
	f->backoff = 0;
	f->probes = 0;
	l->timer = LOSS_RTO;
	l->probes_ns = c->now_ns;
	flow_judge(f);
	timers_set_rto(c, f, c->now_ns + clamp_user(f, loss_rto_ns(f), 0));
}

void loss_window_open(struct fp_core *c, struct flow *f)
{
	f->persist = false;
	f->backoff = 0;
	f->rto_at = 0;
	f->ext->loss.probes_ns = 0;
	loss_rearm(c, f);
}

/* ---- the retransmission time-out --------------------------------------------
 */

/* true: the flow is gone. */
static bool rto_expired(struct fp_core *c, struct flow *f)
{
	struct loss *l = &f->ext->loss;
	uint64_t waited = waited_ns(c, f), limit;

	if (!l->retransmits)
		return false;
	if (f->snd_wnd == 0 &&
	    c->now_ns - l->ack_ns <= UINT64_C(2) * RTO_MAX_US * 1000 &&
	    !f->user_timeout_ms)
		return false; /* its window is closed, but it answers */
	limit = retries_ns(f->closing && !f->user_timeout_ms ? RETRIES_ORPHAN
							     : RTO_RETRIES);
	if (f->user_timeout_ms)
		limit = user_ns(f);
	if (waited < limit)
		return false;
	give_up(c, f);
	return true;
}

/* Which of what is under way is lost: all but what was sent lately. */
static void mark_late(struct fp_core *c, struct flow *f)
{
	struct loss *l = &f->ext->loss;
	bool renege = sb_at(&l->sb, 0)->flags & SENT_SACKED;
	uint32_t now_us = time_us(c->now_ns), i;

	l->reno_sacked = 0;
	memset(l->cache, 0, sizeof(l->cache));
	for (i = 0; i < l->sb.n; i++) {
		struct sent *r = sb_at(&l->sb, i);

		if (renege)
			sb_flags(&l->sb, r, r->flags & (uint8_t)~SENT_SACKED);
		else if (i && f->sack && l->rack_valid &&
			 rack_remaining(l, r->sent_us, 0, now_us) > 0)
			continue;
		loss_mark(f, r);
	}
	if (renege)
		l->fack = f->snd_una;
}

static void enter_loss(struct fp_core *c, struct flow *f)
{
	struct loss *l = &f->ext->loss;
	bool fresh = l->state == CC_OPEN || l->state == CC_CWR;
	bool many = l->sb.sacked_n >= l->reordering && l->state == CC_OPEN;

	mark_late(c, f);
	if (l->state == CC_OPEN || !seq_gt(l->high_seq, f->snd_una) ||
	    (l->state == CC_LOSS && !l->retransmits)) {
		l->prior_ssthresh = cwnd_ssthresh_now(f);
		l->prior_cwnd = f->cwnd;
		f->ssthresh = f->cc->ssthresh(f, c->now_ns);
		cwnd_undo_init(f);
	}
	cwnd_event(c, f, CC_EV_RTO);
	if (!f->cc->control || f->cwnd < f->snd_mss)
		f->cwnd = loss_pipe(f) + f->snd_mss;
	f->cwnd_acked = 0;
	/* Three duplicate ACKs and no recovery: reordering was overrated. */
	if (many && l->reordering > DUP_THRESH)
		l->reordering = DUP_THRESH;
	l->state = CC_LOSS;
	l->high_seq = f->snd_nxt;
	l->tlp_on = false;
	l->hold = false;
	l->frto_new = false;
	l->cwr = f->ecn;
	/* Step 1: only if no recovery of this data went before. */
	l->frto = fresh || l->retransmits;
}

static void retransmission_timeout(struct fp_core *c, struct flow *f)
{
	struct loss *l = &f->ext->loss;

	if (rto_expired(c, f))
		return;
	COUNT(c, tx_rto);
	l->total_rto++;
	if (!l->retransmits)
		l->rto_ns = c->now_ns;
	if (l->retransmits && waited_ns(c, f) >= retries_ns(RETRIES_PROBE_MTU))
		mtu_black_hole(c, f);
	enter_loss(c, f);
	if (l->retransmits < UINT8_MAX)
		l->retransmits++;
	if (f->backoff < UINT8_MAX)
		f->backoff++;
	loss_stamp(c, f); /* though it may wait for a frame */
	loss_timer_set(c, f, LOSS_RTO,
		       c->now_ns +
			       clamp_user(f, loss_rto_ns(f), waited_ns(c, f)));
	flow_judge(f);
	flow_list(c, f);
}

void loss_timeout(struct fp_core *c, struct flow *f)
{
	struct loss *l = &f->ext->loss;
	bool hot = !l->sb.n;

	if (f->state != FLOW_OPEN) {
		/* An ACK that was injected started the timer. Nothing is sent
		 * before the release. */
		timers_set_rto(c, f, c->now_ns + loss_rto_ns(f));
		return;
	}
	if (f->persist) {
		persist_timeout(c, f);
		return;
	}
	if (f->snd_una == f->snd_nxt)
		return;
	loss_record(c, f);
	flow_judge(f);
	/* A segment that was alone is probed for, as Linux does. */
	if (hot && f->sack && f->srtt8_us && !f->backoff)
		l->timer = LOSS_TLP;
	if (l->timer == LOSS_TLP)
		tlp_timeout(c, f);
	else if (l->timer == LOSS_REO)
		rack_timeout(c, f);
	else
		retransmission_timeout(c, f);
}

/* ---- idleness ---------------------------------------------------------------
 */

/*
 * Nothing is under way. What cwnd was worth is forgotten by half for each RTO
 * without data, down to the initial window (RFC 2861, Linux's
 * tcp_slow_start_after_idle), at the visits of the flow's timer so that the hot
 * path need not look. When to come again, ns; 0: not.
 */
uint64_t loss_idle(struct fp_core *c, struct flow *f)
{
	uint32_t init = INIT_CWND_SEGS * f->snd_mss;
	uint64_t rto = f->rto_us * 1000ull, due;

	loss_epoch(f);
	if (!f->ext->loss.sb.n)
		sb_drained(&f->ext->loss.sb);
	if (f->cwnd <= init || f->cc->control || !f->sent_ns)
		return 0;
	due = f->sent_ns + rto;
	if (due < f->ext->loss.cwnd_ns + rto)
		due = f->ext->loss.cwnd_ns + rto;
	if (c->now_ns < due)
		return due;
	f->ssthresh = cwnd_ssthresh_now(f);
	f->cwnd = f->cwnd / 2 > init ? f->cwnd / 2 : init;
	f->cwnd_acked = 0;
	f->ext->loss.cwnd_ns = c->now_ns;
	f->ext->loss.cwnd_used = 0;
	return f->cwnd > init ? c->now_ns + rto : 0;
}
