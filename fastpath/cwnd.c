/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cwnd.c - what is done about loss and ECE: the states of recovery
 *
 * Open, CWR (after an ECE), Recovery (fast retransmit) and Loss (after a
 * time-out), with Linux's transitions; its Disorder is Open with something
 * SACKed. CWR and Recovery bring cwnd down to ssthresh by proportional rate
 * reduction, with the slow start reduction bound (RFC 6937), and end when all
 * that was under way at their beginning is acknowledged.
 *
 * A recovery is undone - cwnd and ssthresh restored - when it proves needless:
 * the echoed time stamp is older than the first retransmission (Eifel, RFC
 * 3522, 4015), or D-SACKs tell of each retransmission (RFC 2883). After a
 * time-out F-RTO asks with new data (RFC 5682 3.1 with SACK, as in Linux).
 *
 * Without SACK, RFC 6582's `recover' guards from taking the duplicate ACKs of
 * needless retransmissions for a loss.
 *
 * State: that part of struct loss, cwnd and ssthresh; core thread.
 */
#include "fastpath/sender.h"

void cwnd_event(struct fp_core *c, struct flow *f, enum cc_event ev)
{
	if (f->cc->event)
		f->cc->event(f, ev, c->now_ns);
}

uint32_t cwnd_ssthresh_now(const struct flow *f)
{
	uint32_t used = f->cwnd / 2 + f->cwnd / 4;

	if (loss_reducing(&f->ext->loss) || f->ssthresh > used)
		return f->ssthresh;
	return used;
}

/* ---- reduction --------------------------------------------------------------
 */

void cwnd_reduce_begin(struct fp_core *c, struct flow *f, bool ece)
{
	struct loss *l = &f->ext->loss;

	l->high_seq = f->snd_nxt;
	l->tlp_on = false;
	l->prior_cwnd = f->cwnd;
	l->prr_delivered = l->prr_out = 0;
	f->cwnd_acked = 0;
	f->ssthresh = ece ? cc_ssthresh_ece(f, c->now_ns)
			  : f->cc->ssthresh(f, c->now_ns);
	l->cwr = f->ecn;
}

void cwnd_reduce_end(struct fp_core *c, struct flow *f)
{
	struct loss *l = &f->ext->loss;

	if (!f->cc->control && (l->state == CC_CWR || l->may_undo))
		f->cwnd = f->ssthresh;
	cwnd_event(c, f, CC_EV_RECOVERED);
}

/* RFC 6937 section 3.1, in bytes. */
void cwnd_prr(struct flow *f, uint32_t delivered, uint32_t lost, bool advanced)
{
	struct loss *l = &f->ext->loss;
	uint32_t pipe = loss_pipe(f);
	int64_t send, room = (int64_t)f->ssthresh - pipe;

	if (!delivered || !l->prior_cwnd)
		return;
	l->prr_delivered += delivered;
	if (room < 0) {
		send = ((int64_t)f->ssthresh * l->prr_delivered +
			l->prior_cwnd - 1) /
		       l->prior_cwnd;
		send -= l->prr_out;
	} else {
		send = (int64_t)l->prr_delivered - l->prr_out;
		if (send < delivered)
			send = delivered;
		if (advanced && !lost)
			send += f->snd_mss;
		if (send > room)
			send = room;
	}
	/* The first retransmission leaves in any case. */
	if (!l->prr_out && send < f->snd_mss)
		send = f->snd_mss;
	f->cwnd = pipe + (send > 0 ? (uint32_t)send : 0);
}

/* ---- entering and leaving ---------------------------------------------------
 */

void cwnd_undo_init(struct flow *f)
{
	struct loss *l = &f->ext->loss;
	uint32_t i;

	l->may_undo = true;
	l->undo_marker = f->snd_una;
	/* A probe that is under way counts. */
	l->undo_retrans = -1;
	if (!l->sb.retrans)
		return;
	l->undo_retrans = 0;
	for (i = 0; i < l->sb.n; i++)
		l->undo_retrans += !!(sb_at(&l->sb, i)->flags & SENT_RETRANS);
}

void cwnd_recovery(struct fp_core *c, struct flow *f, bool ece)
{
	struct loss *l = &f->ext->loss;

	l->prior_ssthresh = 0;
	cwnd_undo_init(f);
	if (!loss_reducing(l)) {
		if (!ece)
			l->prior_ssthresh = cwnd_ssthresh_now(f);
		cwnd_reduce_begin(c, f, false);
	}
	l->high_seq = f->snd_nxt;
	l->state = CC_RECOVERY;
	cwnd_event(c, f, CC_EV_RECOVERY);
}

static void enter_cwr(struct fp_core *c, struct flow *f)
{
	struct loss *l = &f->ext->loss;

	l->prior_ssthresh = 0;
	if (l->state != CC_OPEN)
		return;
	l->may_undo = false;
	cwnd_reduce_begin(c, f, true);
	l->state = CC_CWR;
	cwnd_event(c, f, CC_EV_RECOVERY);
}

void cwnd_try_open(struct flow *f)
{
	f->ext->loss.state = CC_OPEN;
	f->ext->loss.high_seq = f->snd_nxt;
}

static void try_to_open(struct fp_core *c, struct flow *f, struct ack *a)
{
	struct loss *l = &f->ext->loss;

	if (!loss_any_retrans(l))
		l->retrans_ns = 0;
	if (a->flags & ACK_ECE)
		enter_cwr(c, f);
	if (l->state != CC_CWR)
		l->state = CC_OPEN;
}

/* ---- undo -------------------------------------------------------------------
 */

void cwnd_undo(struct fp_core *c, struct flow *f, bool unmark)
{
	struct loss *l = &f->ext->loss;
	uint32_t i;

	for (i = 0; unmark && i < l->sb.n; i++) {
		struct sent *r = sb_at(&l->sb, i);

		sb_flags(&l->sb, r, r->flags & (uint8_t)~SENT_LOST);
	}
	if (l->prior_ssthresh) {
		if (f->cc->undo_cwnd)
			f->cwnd = f->cc->undo_cwnd(f);
		else if (f->cwnd < l->prior_cwnd)
			f->cwnd = l->prior_cwnd;
		if (l->prior_ssthresh > f->ssthresh) {
			f->ssthresh = l->prior_ssthresh;
			l->cwr = false;
		}
	}
	l->may_undo = false;
	l->rack_advanced = true;
	cwnd_event(c, f, CC_EV_UNDO);
}

/* Eifel: what arrived was sent before the first retransmission. */
static bool packet_delayed(const struct flow *f, const struct ack *a)
{
	const struct loss *l = &f->ext->loss;

	return l->retrans_ns && a->s->ts && a->s->tsecr &&
	       seq_lt(a->s->tsecr, l->retrans_ts);
}

static bool undo_allowed(const struct flow *f, const struct ack *a)
{
	const struct loss *l = &f->ext->loss;

	return l->may_undo && (!l->undo_retrans || packet_delayed(f, a));
}

/* All of before is acknowledged. */
static void end_recovery(struct fp_core *c, struct flow *f, struct ack *a)
{
	struct loss *l = &f->ext->loss;
	bool undo = undo_allowed(f, a);

	if (undo)
		cwnd_undo(c, f, false);
	else if (l->reo_wnd_persist)
		l->reo_wnd_persist--;
	if (!f->sack) {
		l->reno_sacked = 0;
		l->recover = l->high_seq;
	}
	/* An undone one ended with cwnd as it was. */
	if (!undo && l->state != CC_LOSS)
		cwnd_reduce_end(c, f);
	l->may_undo = false;
	l->frto = false;
	l->state = CC_OPEN;
}

static bool undo_partial(struct fp_core *c, struct flow *f, struct ack *a)
{
	struct loss *l = &f->ext->loss;

	if (!l->may_undo || !packet_delayed(f, a))
		return false;
	sack_reordered(f, a->una);
	/* The retransmissions that are under way will tell the rest. */
	if (l->sb.retrans)
		return true;
	if (!loss_any_retrans(l))
		l->retrans_ns = 0;
	cwnd_undo(c, f, true);
	cwnd_try_open(f);
	return true;
}

static bool undo_dsack(struct fp_core *c, struct flow *f)
{
	struct loss *l = &f->ext->loss;

	if (!l->may_undo || l->undo_retrans)
		return false;
	if (l->reo_wnd_persist < REO_PERSIST)
		l->reo_wnd_persist++;
	cwnd_undo(c, f, false);
	return true;
}

static bool undo_loss(struct fp_core *c, struct flow *f, struct ack *a,
		      bool frto)
{
	struct loss *l = &f->ext->loss;

	if (!frto && !undo_allowed(f, a))
		return false;
	cwnd_undo(c, f, true);
	l->retransmits = 0;
	l->reno_sacked = 0;
	l->frto = false;
	if (!f->sack)
		l->recover = l->high_seq;
	if (frto || f->sack || seq_geq(f->snd_una, l->high_seq))
		l->state = CC_OPEN;
	return true;
}

/* ---- the states -------------------------------------------------------------
 */

static bool duplicate(const struct flow *f, const struct ack *a)
{
	return !(a->flags &
		 (ACK_ADVANCED | LOSS_DATA | LOSS_WND | ACK_DSACK)) &&
	       f->snd_una != f->snd_nxt;
}

/* F-RTO: true: settled for this acknowledgment. */
static bool loss_frto(struct fp_core *c, struct flow *f, struct ack *a)
{
	struct loss *l = &f->ext->loss;

	/* Step 3b: what was never sent again arrived. */
	if ((a->flags & ACK_ORIG) && undo_loss(c, f, a, true))
		return true;
	if (seq_gt(f->snd_nxt, l->high_seq)) {
		if ((a->flags & ACK_SACKED) || duplicate(f, a))
			l->frto = false; /* step 3a: the loss was real */
	} else if ((a->flags & ACK_ADVANCED) &&
		   seq_lt(f->snd_una, l->high_seq)) {
		l->high_seq = f->snd_nxt;
		/* Step 2b: new data, if there are any. */
		if (flow_unsent(f) && f->snd_nxt - f->snd_una < f->snd_wnd) {
			l->frto_new = true;
			return true;
		}
		l->frto = false;
	}
	return false;
}

static void in_loss(struct fp_core *c, struct flow *f, struct ack *a)
{
	struct loss *l = &f->ext->loss;
	bool recovered = seq_geq(f->snd_una, l->high_seq);

	if ((a->flags & ACK_ADVANCED) && undo_loss(c, f, a, false))
		return;
	if (l->frto && loss_frto(c, f, a))
		return;
	if (recovered) {
		end_recovery(c, f, a);
		return;
	}
	if (f->sack)
		return;
	if (seq_gt(f->snd_nxt, l->high_seq) && duplicate(f, a))
		reno_duplicate(f, a);
	else if (a->flags & ACK_ADVANCED)
		l->reno_sacked = 0;
}

/* false: nothing more to do. */
static bool in_recovery(struct fp_core *c, struct flow *f, struct ack *a)
{
	if (!(a->flags & ACK_ADVANCED)) {
		if (!f->sack && duplicate(f, a))
			reno_duplicate(f, a);
	} else if (undo_partial(c, f, a)) {
		return false;
	}
	if (undo_dsack(c, f))
		cwnd_try_open(f);
	rack_detect(c, f, a);
	return f->ext->loss.state != CC_RECOVERY;
}

static void before_recovery(struct fp_core *c, struct flow *f, struct ack *a)
{
	struct loss *l = &f->ext->loss;

	if (!f->sack) {
		if (a->flags & ACK_ADVANCED)
			l->reno_sacked = 0;
		if (duplicate(f, a))
			reno_duplicate(f, a);
	}
	if (l->state == CC_OPEN)
		undo_dsack(c, f);
	rack_detect(c, f, a);
}

/* The end of CWR and Recovery. */
static void check_end(struct fp_core *c, struct flow *f, struct ack *a)
{
	struct loss *l = &f->ext->loss;

	if (l->state == CC_OPEN) {
		if (!loss_any_retrans(l))
			l->retrans_ns = 0;
	} else if (seq_lt(f->snd_una, l->high_seq)) {
		return;
	} else if (l->state == CC_RECOVERY) {
		end_recovery(c, f, a);
	} else if (l->state == CC_CWR && f->snd_una != l->high_seq) {
		cwnd_reduce_end(c, f);
		l->state = CC_OPEN;
	}
}

/* The peer gave up what it had SACKed: the time-out sends it again, soon. */
static bool reneged(struct fp_core *c, struct flow *f, struct ack *a)
{
	uint64_t us = f->srtt8_us / 16;

	if (!(a->flags & ACK_RENEGE))
		return false;
	if (us < 10000)
		us = 10000;
	loss_timer_set(c, f, LOSS_RTO, c->now_ns + us * 1000);
	a->flags &= ~(uint32_t)ACK_TIMER;
	return true;
}

/* What an acknowledgment that isn't plain causes: tcp_fastretrans_alert(). */
void cwnd_alert(struct fp_core *c, struct flow *f, struct ack *a)
{
	struct loss *l = &f->ext->loss;

	if (a->flags & ACK_ECE)
		l->prior_ssthresh = 0;
	if (reneged(c, f, a))
		return;
	check_end(c, f, a);
	if (l->state == CC_RECOVERY) {
		if (!in_recovery(c, f, a))
			return;
	} else if (l->state == CC_LOSS) {
		in_loss(c, f, a);
		if (l->state == CC_LOSS)
			rack_detect(c, f, a);
		if (l->state != CC_OPEN && !(a->flags & ACK_LOST_RETRANS))
			return;
	} else {
		before_recovery(c, f, a);
	}
	/* From Loss as well, if what was sent again is lost again. */
	if (l->sb.lost && mtu_probe_lost(f))
		return;
	if (l->sb.lost)
		cwnd_recovery(c, f, a->flags & ACK_ECE);
	else
		try_to_open(c, f, a);
}

/* tcp_cong_control(): who moves cwnd. */
void cwnd_control(struct flow *f, struct ack *a)
{
	struct loss *l = &f->ext->loss;
	uint32_t progress = ACK_FRESH | ACK_RETRANS;

	if (f->cc->control) {
		f->cc->control(f, &a->sample);
	} else if (loss_reducing(l)) {
		cwnd_prr(f, a->delivered, a->lost, a->flags & ACK_ADVANCED);
	} else if (a->sample.cwnd_limited &&
		   ((a->flags & progress) ||
		    (l->reordering > DUP_THRESH && (a->flags & ACK_SACKED)))) {
		f->cc->grow(f, &a->sample);
	}
}
