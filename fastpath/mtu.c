/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mtu.c - how large segments may be
 *
 * Linux learns a path's MTU from ICMP errors and routes; the slow path passes
 * it on (FP_CMD_SET_MSS), and what is too long goes again in pieces. A path
 * that swallows large packets and tells nobody is found out here: with
 * mtu_probing the MSS shrinks when a full-sized segment timed out several times
 * (RFC 4821 in Linux's simplest form).
 *
 * Cold code. State: snd_mss; core thread.
 */
#include "fastpath/sender.h"

#define BASE_MSS 1024u /* tcp_base_mss */
#define FLOOR_MSS 512u

/* Segments longer than the MSS never arrived: they go again in pieces. cwnd
 * stays, no more data will be on their way than were. */
static void resegment(struct flow *f)
{
	struct loss *l = &f->ext->loss;
	uint32_t i, lost = l->sb.lost;

	for (i = 0; i < l->sb.n; i++) {
		struct sent *r = sb_at(&l->sb, i);

		if (r->len > f->snd_mss)
			loss_mark(f, r);
	}
	reno_limit(f);
	if (l->sb.lost == lost || l->state == CC_LOSS)
		return;
	l->high_seq = f->snd_nxt;
	f->ssthresh = cwnd_ssthresh_now(f);
	l->prior_ssthresh = 0;
	l->may_undo = false;
	l->frto = false;
	l->state = CC_LOSS;
}

void loss_set_mss(struct fp_core *c, struct flow *f, uint32_t mss)
{
	loss_record(c, f);
	f->snd_mss = mss;
	resegment(f);
	if (f->cwnd < mss)
		f->cwnd = mss;
	if (f->snd_una != f->snd_nxt && !f->rto_at)
		loss_rearm(c, f);
	flow_judge(f);
	flow_list(c, f);
}

void mtu_black_hole(struct fp_core *c, struct flow *f)
{
	uint32_t mss = f->snd_mss > BASE_MSS ? BASE_MSS : f->snd_mss / 2;

	if (!f->mtu_probing || f->snd_mss <= FLOOR_MSS ||
	    sb_at(&f->ext->loss.sb, 0)->len < f->snd_mss)
		return;
	loss_set_mss(c, f, mss > FLOOR_MSS ? mss : FLOOR_MSS);
}
