/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cc_reno.c - Reno: RFC 5681 sections 3.1 and 3.2
 *
 * Slow start, then one segment more for each window acknowledged; half of what
 * is on its way after a loss. What is counted is bytes (RFC 3465 with L
 * unlimited, as Linux counts), so that a receiver that acknowledges rarely or
 * in pieces changes nothing. cwnd grows only by acknowledgments that arrive
 * while it is what holds the sender back (RFC 7661 gives the reason).
 *
 * The flight of equation (4) is bounded by cwnd: after a time-out all that was
 * sent before it still counts as outstanding, while cwnd is what the path is
 * known to take.
 *
 * State: cwnd and cwnd_acked of the flow, written by its core. Bounded by
 * CC_CWND_MAX.
 */
#include "fastpath/cc.h"
#include "fastpath/flow.h"

static uint32_t reno_ssthresh(struct flow *f, uint64_t now_ns)
{
	uint32_t half = f->snd_nxt - f->snd_una;

	if (half > f->cwnd)
		half = f->cwnd;
	half /= 2;
	return half > 2 * f->snd_mss ? half : 2 * f->snd_mss;
}

static void reno_grow(struct flow *f, const struct cc_sample *s)
{
	uint32_t acked = cc_slow_start(f, s->acked);

	if (acked)
		cc_grow_by(f, acked, f->cwnd);
}

const struct cc_ops cc_reno = {
	.name = "reno",
	.ssthresh = reno_ssthresh,
	.grow = reno_grow,
};
