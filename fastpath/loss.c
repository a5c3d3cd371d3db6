/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * loss.c - what acknowledgments and timers tell about loss
 *
 * Lost segments of ours are repaired by fast retransmit and NewReno (RFC 5681
 * 3.2, RFC 6582) or by the retransmission time-out (RFC 6298), which goes back
 * to snd_una; snd_nxt stays the highest sent, snd_cur is what goes back.
 *
 * State: the flow's sender half and its struct loss; core thread.
 */
#include "fastpath/core.h"

#include <errno.h>

#define ORPHAN_BACKOFF 8 /* persist this long for a program that closed */

static void enter_recovery(struct fp_core *c, struct flow *f)
{
	f->ext->loss.in_recovery = true;
	f->ext->loss.recover = f->snd_nxt;
	f->ssthresh = f->cc->ssthresh(f, c->now_ns);
	f->cwnd = f->ssthresh;
	f->cwnd_acked = 0;
	f->cwnd += 3 * f->snd_mss;
	flow_judge(f);
	tx_retransmit(c, f);
	timers_set_rto(c, f, c->now_ns + loss_rto_ns(f));
}

void loss_duplicate_ack(struct fp_core *c, struct flow *f)
{
	if (f->ext->loss.in_recovery) {
		f->cwnd += f->snd_mss;
		flow_list(c, f);
		return;
	}
	if (f->ext->loss.dup_acks < UINT8_MAX)
		f->ext->loss.dup_acks++;
	if (f->ext->loss.dup_acks == 3 &&
	    seq_geq(f->snd_una, f->ext->loss.recover))
		enter_recovery(c, f);
}

void loss_ack(struct fp_core *c, struct flow *f, uint32_t acked)
{
	if (seq_lt(f->snd_cur, f->snd_una))
		f->snd_cur = f->snd_una;
	if (!f->ext->loss.in_recovery)
		return;
	if (seq_geq(f->snd_una, f->ext->loss.recover)) {
		f->ext->loss.in_recovery = false;
		f->cwnd = f->ssthresh;
		return;
	}
	/* Partial acknowledgment: the next hole (RFC 6582 3.2 step 3). */
	f->cwnd -= acked < f->cwnd ? acked : f->cwnd;
	if (acked >= f->snd_mss || !f->cwnd)
		f->cwnd += f->snd_mss;
	tx_retransmit(c, f);
}

/* ---- round trip and timers --------------------------------------------------
 */

void loss_rtt_first(struct flow *f, uint32_t rtt_us)
{
	uint32_t rto = 3 * rtt_us; /* SRTT + 4 * RTTVAR with RTTVAR = R/2 */

	if (rtt_us > RTO_MAX_US)
		return; /* a time stamp that we never sent */
	f->srtt8_us = rtt_us ? rtt_us * 8 : 1;
	f->rttvar4_us = rtt_us * 2;
	f->rto_us = rto < RTO_MIN_US   ? RTO_MIN_US
		    : rto > RTO_MAX_US ? RTO_MAX_US
				       : rto;
}

static void persist_timeout(struct fp_core *c, struct flow *f)
{
	if (f->probes >= RTO_RETRIES) {
		core_remove_flow(c, f, FP_REMOVED_TIMEOUT, ETIMEDOUT);
		return;
	}
	if (f->closing && f->backoff >= ORPHAN_BACKOFF) {
		core_remove_flow(c, f, FP_REMOVED_ABORT, 0);
		return;
	}
	if (tx_probe(c, f)) {
		f->probes++;
		if (f->backoff < UINT8_MAX)
			f->backoff++;
	}
	timers_set_rto(c, f, c->now_ns + loss_rto_ns(f));
}

/* RFC 6298 section 5.4 to 5.6. */
static void retransmission_timeout(struct fp_core *c, struct flow *f)
{
	if (f->backoff >= RTO_RETRIES) {
		core_remove_flow(c, f, FP_REMOVED_TIMEOUT, ETIMEDOUT);
		return;
	}
	COUNT(c, tx_rto);
	/* Only the first time-out of a series lowers ssthresh (5681, 3.1). */
	if (f->backoff == 0)
		f->ssthresh = f->cc->ssthresh(f, c->now_ns);
	f->cwnd = f->snd_mss;
	f->cwnd_acked = 0;
	f->backoff++;
	f->ext->loss.in_recovery = false;
	f->ext->loss.dup_acks = 0;
	f->ext->loss.recover = f->snd_nxt;
	f->snd_cur = f->snd_una;
	f->rtt_ns = 0; /* Karn */
	flow_judge(f);
	timers_set_rto(c, f, c->now_ns + loss_rto_ns(f));
	/* A window that closed meanwhile must not stop the first segment. */
	if (f->snd_wnd == 0) {
		tx_retransmit(c, f);
		return;
	}
	flow_list(c, f);
}

void loss_timeout(struct fp_core *c, struct flow *f)
{
	if (f->state != FLOW_OPEN)
		return;
	if (f->persist)
		persist_timeout(c, f);
	else if (f->snd_una != f->snd_nxt)
		retransmission_timeout(c, f);
}
