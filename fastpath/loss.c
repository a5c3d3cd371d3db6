/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * loss.c - one acknowledgment, in cold code
 *
 * The order is Linux's tcp_ack(): SACK blocks mark records, the acknowledgment
 * takes records away, both measure round trips; then RACK's window and the
 * probe of the tail are judged, the congestion control sees the sample, loss
 * is detected and answered (cwnd.c), cwnd moves, and the timer begins anew.
 * What is to be sent, tx.c finds in the scoreboard when the turn ends.
 *
 * The hot path sends at most one segment without a record, when nothing else
 * is under way; loss_record() makes the record when cold code needs it.
 * ext->delivered and the 64-bit counts are brought up to date by loss_epoch()
 * here and when the flow's timer comes up.
 *
 * State: the flow's sender half and struct loss; core thread. Others of the
 * sender's cold half: sender.h.
 */
#include "fastpath/sender.h"

#define MIN_RTT_MS (300u * 1000) /* of what time the least counts */

/* ---- counts ---------------------------------------------------------------
 */

void loss_epoch(struct flow *f)
{
	struct flow_ext *x = f->ext;
	uint32_t acked = f->snd_una - x->epoch_una;

	x->bytes_acked += acked;
	x->delivered += acked;
	x->epoch_una = f->snd_una;
	x->bytes_received += f->rcv_nxt - x->epoch_rcv;
	x->epoch_rcv = f->rcv_nxt;
}

void loss_init(struct flow *f)
{
	struct loss *l = &f->ext->loss;

	sb_init(&l->sb);
	l->reordering = DUP_THRESH;
	l->reo_wnd_mult = 1;
	l->recover = f->snd_una - 1;
	l->high_seq = l->usage_seq = l->fack = l->rexmit_seq = f->snd_una;
	l->snd_sml = f->snd_una;
	f->ext->epoch_una = f->snd_una;
	f->ext->epoch_rcv = f->rcv_nxt;
}

void loss_free(struct flow *f)
{
	if (f->ext && f->ext->loss.sb.ring)
		sb_free(&f->ext->loss.sb);
}

void loss_record(struct fp_core *c, struct flow *f)
{
	struct loss *l = &f->ext->loss;
	uint32_t len = f->snd_nxt - f->snd_una;
	struct sent *r;

	if (l->sb.n || !len)
		return;
	loss_epoch(f);
	r = sb_append(&l->sb, f->snd_una, len); /* an empty ring has room */
	r->sent_us = time_us(f->sent_ns ? f->sent_ns : c->now_ns);
	r->delivered = (uint32_t)f->ext->delivered;
	r->delivered_us = r->first_us = r->sent_us;
	l->delivered_us = l->first_us = r->sent_us;
	l->app_limited = f->ext->delivered + len;
	l->fack = l->rexmit_seq = f->snd_una;
	if (len < f->snd_mss)
		l->snd_sml = f->snd_nxt;
	/* Linux sent it, nobody knows when. */
	r->flags = f->sent_ns ? SENT_APP_LIMITED : SENT_APP_LIMITED | SENT_EVER;
	if (!f->rto_at)
		loss_timer_set(c, f, LOSS_RTO, c->now_ns + loss_rto_ns(f));
}

void loss_timer_set(struct fp_core *c, struct flow *f, enum loss_timer kind,
		    uint64_t at_ns)
{
	f->ext->loss.timer = kind;
	timers_set_rto(c, f, at_ns);
}

/* ---- what was sent ----------------------------------------------------------
 */

bool loss_sent(struct fp_core *c, struct flow *f, uint32_t len)
{
	struct loss *l = &f->ext->loss;
	struct sent *r = sb_append(&l->sb, f->snd_nxt, len);

	if (!r)
		return false;
	if (l->sb.n == 1) {
		l->first_us = l->delivered_us = time_us(c->now_ns);
		l->fack = l->rexmit_seq = f->snd_nxt;
	}
	rate_sent(c, f, r);
	if (loss_reducing(l))
		l->prr_out += len;
	if (len < f->snd_mss && len == flow_unsent(f))
		l->snd_sml = f->snd_nxt + len;
	return true;
}

void loss_stamp(struct fp_core *c, struct flow *f)
{
	struct loss *l = &f->ext->loss;

	if (l->retrans_ns)
		return;
	l->retrans_ns = c->now_ns;
	l->retrans_ts = c->now_ms + f->ts_offset;
}

void loss_resent(struct fp_core *c, struct flow *f, uint32_t i)
{
	struct loss *l = &f->ext->loss;
	struct sent *r = sb_at(&l->sb, i);

	sb_flags(&l->sb, r, r->flags | SENT_RETRANS | SENT_EVER);
	rate_sent(c, f, r);
	if (loss_reducing(l))
		l->prr_out += r->len;
	loss_stamp(c, f);
	if (l->undo_retrans < 0)
		l->undo_retrans = 0;
	l->undo_retrans++;
	l->total_retrans++;
	l->bytes_retrans += r->len;
	mtu_resent(f);
	/* After a time-out it was set, backed off, already. */
	if (i == 0 && l->timer != LOSS_REO && l->state != CC_LOSS)
		loss_timer_set(c, f, LOSS_RTO, c->now_ns + loss_rto_ns(f));
}

/* Cold code has sent: the timers, and what it says about cwnd. */
void loss_after_send(struct fp_core *c, struct flow *f, bool fresh)
{
	struct loss *l = &f->ext->loss;

	if (!l->sb.n)
		return;
	rate_validate(c, f);
	if (!flow_unsent(f) && !l->sb.due && loss_pipe(f) < f->cwnd)
		l->app_limited = f->ext->delivered + loss_pipe(f);
	if (fresh && tlp_schedule(c, f, false))
		return;
	if (!f->rto_at)
		loss_timer_set(c, f, LOSS_RTO, c->now_ns + loss_rto_ns(f));
}

/* ---- round trips ------------------------------------------------------------
 */

void loss_rtt_first(struct flow *f, uint32_t rtt_us)
{
	uint32_t var = 2 * rtt_us; /* 4 * RTTVAR with RTTVAR = R/2 */
	uint32_t rto;

	if (rtt_us > RTO_MAX_US)
		return; /* a time stamp that we never sent */
	f->srtt8_us = rtt_us ? rtt_us * 8 : 1;
	f->rttvar4_us = var;
	rto = rtt_us + (var < RTO_MIN_US ? RTO_MIN_US : var);
	f->rto_us = rto > RTO_MAX_US ? RTO_MAX_US : rto;
}

uint32_t loss_min_rtt(const struct loss *l)
{
	return l->min_rtt.us[0] ? l->min_rtt.us[0] : UINT32_MAX;
}

/* Kathleen Nichols' windowed minimum: three candidates, each newer and larger
 * than the one before; the first leaves when it is too old. */
static void min_rtt_update(struct min_rtt *m, uint32_t us, uint32_t now_ms)
{
	unsigned int i;

	us = us ? us : 1;
	if (!m->us[0] || us <= m->us[0] || now_ms - m->ms[2] > MIN_RTT_MS) {
		for (i = 0; i < 3; i++)
			m->us[i] = us, m->ms[i] = now_ms;
		return;
	}
	if (us <= m->us[1]) {
		m->us[2] = m->us[1] = us;
		m->ms[2] = m->ms[1] = now_ms;
	} else if (us <= m->us[2]) {
		m->us[2] = us, m->ms[2] = now_ms;
	}
	if (now_ms - m->ms[0] > MIN_RTT_MS) {
		m->us[0] = m->us[1], m->ms[0] = m->ms[1];
		m->us[1] = m->us[2], m->ms[1] = m->ms[2];
		m->us[2] = us, m->ms[2] = now_ms;
	} else if (m->ms[1] == m->ms[0] && now_ms - m->ms[1] > MIN_RTT_MS / 4) {
		m->us[2] = m->us[1] = us;
		m->ms[2] = m->ms[1] = now_ms;
	} else if (m->ms[2] == m->ms[1] && now_ms - m->ms[2] > MIN_RTT_MS / 2) {
		m->us[2] = us, m->ms[2] = now_ms;
	}
}

void loss_seed_min_rtt(struct flow *f, uint32_t us, uint32_t now_ms)
{
	if (us)
		min_rtt_update(&f->ext->loss.min_rtt, us, now_ms);
}

/* Of the segments that it answers, those sent once; else, by the time stamp,
 * of whichever copy it was (RFC 7323 section 4). true: measured. */
static bool measure(struct fp_core *c, struct flow *f, struct ack *a)
{
	uint32_t seq_us = 0, cc_us = 0;
	bool fresh = a->has_ack && !(a->flags & ACK_RETRANS);

	if (fresh) {
		seq_us = a->now_us - a->first_ack_us;
		cc_us = a->now_us - a->last_ack_us;
	}
	if (a->has_sack) {
		cc_us = a->now_us - a->last_sack_us;
		if (!fresh)
			seq_us = a->now_us - a->first_sack_us;
	}
	if (!fresh && !a->has_sack) {
		if (!(a->flags & ACK_ADVANCED) || !a->s->ts || !a->s->tsecr)
			return false;
		seq_us = c->now_ms + f->ts_offset - a->s->tsecr;
		if (seq_us > RTO_MAX_US / 1000)
			return false;
		seq_us = cc_us = seq_us ? seq_us * 1000 : 1000;
	}
	if (seq_us > RTO_MAX_US)
		return false;
	a->sample.rtt_us = cc_us ? cc_us : 1;
	min_rtt_update(&f->ext->loss.min_rtt, cc_us, c->now_ms);
	loss_rtt(f, seq_us);
	f->backoff = 0;
	return true;
}

/* ---- the acknowledgment -----------------------------------------------------
 */

/* All of a record is acknowledged. */
static void ack_record(struct flow *f, struct ack *a, const struct sent *r)
{
	struct loss *l = &f->ext->loss;

	if (r->flags & SENT_EVER) {
		a->flags |= ACK_RETRANS;
	} else {
		a->flags |= ACK_FRESH;
		if (!(r->flags & SENT_SACKED)) {
			if (!a->has_ack)
				a->first_ack_us = r->sent_us;
			a->has_ack = true;
			a->last_ack_us = r->sent_us;
			if (seq_lt(r->seq, a->reord))
				a->reord = r->seq;
			if (seq_leq(r->seq + r->len, l->high_seq))
				a->flags |= ACK_ORIG;
		}
	}
	if (!(r->flags & SENT_SACKED)) {
		if (f->sack)
			rack_delivered(f, r, a->now_us);
		rate_delivered(f, a, r);
	}
	a->n_acked++;
}

/* Take away what is acknowledged. */
static void ack_records(struct flow *f, struct ack *a)
{
	struct scoreboard *sb = &f->ext->loss.sb;
	uint32_t left = a->ack - a->una;

	while (left && sb->n) {
		struct sent *r = sb_at(sb, 0);
		uint32_t len = r->len < left ? r->len : left;

		if (len == r->len)
			ack_record(f, a, r);
		if (!(r->flags & SENT_SACKED) && f->sack)
			a->delivered += len;
		sb_trim(sb, len);
		left -= len;
	}
	if (sb->n && (sb_at(sb, 0)->flags & SENT_SACKED))
		a->flags |= ACK_RENEGE;
}

static void ack_advance(struct flow *f, struct ack *a)
{
	struct loss *l = &f->ext->loss;
	uint32_t acked = a->ack - a->una;

	a->flags |= ACK_ADVANCED | ACK_TIMER;
	a->sample.acked = acked;
	ack_records(f, a);
	flow_set(f, snd_una, a->ack);
	f->tx_pos = (f->tx_pos + acked) & (f->tx_size - 1);
	f->tx_len -= acked;
	f->pend_credits += acked;
	f->ext->bytes_acked += acked;
	f->ext->epoch_una = a->ack;
	if (unlikely(f->ext->mtu.len))
		mtu_acked(f);
	l->retransmits = 0;
	if (seq_lt(l->rexmit_seq, a->ack))
		l->rexmit_seq = a->ack;
	if (seq_lt(l->fack, a->ack))
		l->fack = a->ack;
	if (!f->sack) {
		reno_advanced(f, a, acked);
		/* What arrived, nobody can tell from what was sent again. */
		if (a->flags & ACK_RETRANS)
			a->flags &= ~(uint32_t)ACK_ORIG;
	} else if (seq_lt(a->reord, a->fack)) {
		sack_reordered(f, a->reord);
	}
}

/* Alone, short, and no news but itself: perhaps a delayed ACK. */
static bool maybe_delayed(const struct flow *f, const struct ack *a)
{
	return a->n_acked == 1 && !a->sacked && a->has_ack &&
	       a->sample.acked < f->snd_mss && a->out == a->sample.acked &&
	       !(a->flags & (ACK_SACKED | ACK_ECE | ACK_DSACK));
}

/* Something that needs an answer: tcp_ack_is_dubious(). */
static bool dubious(const struct flow *f, const struct ack *a)
{
	return !(a->flags & (LOSS_DATA | LOSS_WND | ACK_ADVANCED)) ||
	       (a->flags & (ACK_SACKED | ACK_ECE | ACK_DSACK | ACK_RENEGE)) ||
	       f->ext->loss.state != CC_OPEN || f->ext->loss.reno_sacked;
}

static void ack_timer(struct fp_core *c, struct flow *f, const struct ack *a)
{
	struct loss *l = &f->ext->loss;

	if (f->snd_una == f->snd_nxt) {
		if (!f->persist)
			f->rto_at = 0;
		l->timer = LOSS_RTO;
	} else if ((a->flags & ACK_TIMER) && !tlp_schedule(c, f, true)) {
		l->timer = LOSS_RTO;
		loss_rearm(c, f);
	} else if (!f->rto_at) {
		loss_rearm(c, f);
	}
}

static void ack_begin(struct fp_core *c, struct flow *f, struct ack *a)
{
	struct loss *l = &f->ext->loss;

	loss_record(c, f);
	loss_epoch(f);
	l->hold = false;
	l->frto_new = false;
	l->ack_ns = c->now_ns;
	a->now_us = time_us(c->now_ns);
	a->una = f->snd_una;
	a->top = seq_gt(a->ack, a->una) ? a->ack : a->una;
	a->out = f->snd_nxt - f->snd_una;
	a->fack = l->fack;
	a->sacked = l->sb.sacked;
	a->reord = f->snd_nxt;
	a->flight = loss_pipe(f);
	if (f->ecn && (a->s->flags & SEG_FLAG_ECE))
		a->flags |= ACK_ECE;
}

/* What the congestion control learns before anything is done. */
static void ack_sample(struct fp_core *c, struct flow *f, struct ack *a)
{
	struct cc_sample *s = &a->sample;

	f->ext->delivered += a->delivered;
	s->now_ns = c->now_ns;
	s->delivered = a->delivered;
	s->flight = a->flight;
	s->ece = a->flags & ACK_ECE;
	if (s->ece)
		f->ext->loss.delivered_ce += a->delivered / f->snd_mss + 1;
	s->cwnd_limited = rate_cwnd_limited(f);
	s->maybe_delayed = maybe_delayed(f, a);
	rate_sample(f, a);
	if (f->cc->acked)
		f->cc->acked(f, s);
}

static void ack_answer(struct fp_core *c, struct flow *f, struct ack *a)
{
	struct loss *l = &f->ext->loss;

	tlp_acked(c, f, a);
	if (dubious(f, a))
		cwnd_alert(c, f, a);
	a->lost = a->sample.lost = l->lost_since;
	l->lost_since = 0;
	a->sample.flight_after = loss_pipe(f);
	a->sample.state = l->state;
	if (a->out)
		cwnd_control(f, a);
	ack_timer(c, f, a);
	if (!l->sb.n) {
		l->rto_recoveries += l->rto_ns && l->state == CC_OPEN;
		sb_drained(&l->sb);
	}
	if (l->rto_ns && l->state != CC_LOSS) {
		l->rto_total_ns += c->now_ns - l->rto_ns;
		l->rto_ns = 0;
	}
}

void loss_ack(struct fp_core *c, struct flow *f, const struct segment *s,
	      uint32_t ack, uint32_t flags)
{
	struct ack a = {.s = s, .ack = ack, .flags = flags};
	bool measured;

	ack_begin(c, f, &a);
	if (f->sack && s->n_sacks)
		sack_process(f, &a);
	else
		memset(f->ext->loss.cache, 0, sizeof(f->ext->loss.cache));
	if (seq_gt(ack, f->snd_una))
		ack_advance(f, &a);
	measured = measure(c, f, &a);
	/* Nothing of what is late arrived: the time-out runs on. */
	if (measured && a.has_sack && f->ext->loss.sb.n &&
	    (int32_t)(a.last_sack_us - sb_at(&f->ext->loss.sb, 0)->sent_us) < 0)
		a.flags |= ACK_TIMER;
	ack_sample(c, f, &a);
	rack_adapt(f, &a);
	ack_answer(c, f, &a);
}

bool loss_valid(const struct flow *f)
{
	const struct loss *l = &f->ext->loss;
	uint32_t out = f->snd_nxt - f->snd_una;

	if (!sb_valid(&l->sb, f->snd_una, f->snd_nxt))
		return false;
	if (l->reno_sacked && (f->sack || l->reno_sacked > out))
		return false;
	if (f->state != FLOW_OPEN)
		return true;
	if (f->plain && (l->sb.n || l->state != CC_OPEN || f->backoff))
		return false;
	/* Without a record one segment is on its way, from the hot path. */
	if (!l->sb.n && out > f->snd_mss)
		return false;
	return l->sb.sacked + l->sb.lost <= out && l->sb.retrans <= out &&
	       f->cwnd > 0;
}
