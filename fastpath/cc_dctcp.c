/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cc_dctcp.c - DCTCP: RFC 8257, for data centres
 *
 * Switches mark (CE) above a low threshold, every mark comes back precisely
 * (precise_ecn: the receiver's and the sender's part of it are rx's and tx's),
 * and once a window cwnd comes down by half the share of it that was marked,
 * smoothed: alpha (section 3.3, with g = 1/16). A loss counts as a loss: Reno's
 * half (3.5). Growth is Reno's. What makes it once a window is the sender's
 * state CWR, as for any ECE.
 *
 * alpha begins with 1: the first marks of a flow halve, as if all had been
 * marked (3.3, 4.2). Without ECN negotiated there are no marks, and this is
 * Reno. The receiver events are not needed here: who has precise_ecn
 * acknowledges at once when the mark changes.
 *
 * State: struct dctcp in the flow's cc_priv; the core's thread.
 */
#include "fastpath/cc.h"
#include "fastpath/flow.h"

#define ALPHA_ONE (1u << 20)
#define G_SHIFT 4

struct dctcp {
	uint64_t acked;	     /* bytes delivered in this window of observation */
	uint64_t marked;     /* those whose ACK had ECE */
	uint32_t window_end; /* sequence number */
	uint32_t alpha;	     /* of ALPHA_ONE */
};

static_assert(sizeof(struct dctcp) <= sizeof(((struct flow_ext *)0)->cc_priv),
	      "private words");

static struct dctcp *dctcp(struct flow *f)
{
	return (struct dctcp *)f->ext->cc_priv;
}

static void dctcp_acked(struct flow *f, const struct cc_sample *s)
{
	struct dctcp *d = dctcp(f);

	d->acked += s->delivered;
	if (s->ece)
		d->marked += s->delivered;
	if (seq_leq(f->snd_una, d->window_end))
		return;
	d->alpha -= d->alpha >> G_SHIFT;
	if (d->marked)
		d->alpha += (uint32_t)(d->marked * (ALPHA_ONE >> G_SHIFT) /
				       d->acked);
	d->acked = 0;
	d->marked = 0;
	d->window_end = f->snd_nxt;
}

static uint32_t dctcp_ssthresh_ece(struct flow *f, uint64_t now_ns)
{
	uint64_t cut = (uint64_t)f->cwnd * dctcp(f)->alpha / ALPHA_ONE / 2;
	uint32_t cwnd = f->cwnd - (uint32_t)cut;

	return cwnd > 2 * f->snd_mss ? cwnd : 2 * f->snd_mss;
}

static uint32_t dctcp_ssthresh(struct flow *f, uint64_t now_ns)
{
	return cc_reno.ssthresh(f, now_ns);
}

static void dctcp_grow(struct flow *f, const struct cc_sample *s)
{
	cc_reno.grow(f, s);
}

static void dctcp_init(struct flow *f, uint64_t now_ns)
{
	struct dctcp *d = dctcp(f);

	d->alpha = ALPHA_ONE;
	d->window_end = f->snd_una;
}

const struct cc_ops cc_dctcp = {
	.name = "dctcp",
	.precise_ecn = true,
	.init = dctcp_init,
	.ssthresh = dctcp_ssthresh,
	.grow = dctcp_grow,
	.acked = dctcp_acked,
	.ssthresh_ece = dctcp_ssthresh_ece,
};
