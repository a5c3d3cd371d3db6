/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cc.c - congestion control algorithms
 *
 * Reno: RFC 5681 sections 3.1 and 3.2 (slow start, congestion avoidance, the
 * ssthresh of equation 4). cwnd grows only by acknowledgments that arrive
 * while it is what holds the sender back (RFC 7661 gives the reason).
 *
 * State: cwnd, ssthresh and cwnd_acked of the flow, written by its core. Pure
 * arithmetic: no timers, no frames.
 */
#include "fastpath/cc.h"
#include "fastpath/flow.h"

/* Bounds cwnd where nothing else would; far above any buffer. */
#define CWND_MAX (1u << 30)

static uint32_t reno_half_flight(const struct flow *f)
{
	uint32_t half = (f->snd_nxt - f->snd_una) / 2;

	return half > 2 * f->snd_mss ? half : 2 * f->snd_mss;
}

static void reno_ack(struct flow *f, uint32_t acked)
{
	if (f->cwnd >= CWND_MAX)
		return;
	if (f->cwnd < f->ssthresh) {
		f->cwnd += acked < 2 * f->snd_mss ? acked : 2 * f->snd_mss;
		return;
	}
	/* One segment more for each cwnd of bytes: counted, not divided. */
	f->cwnd_acked += acked;
	if (f->cwnd_acked >= f->cwnd) {
		f->cwnd_acked -= f->cwnd;
		f->cwnd += f->snd_mss;
	}
}

static void reno_loss(struct flow *f)
{
	f->ssthresh = reno_half_flight(f);
	f->cwnd = f->ssthresh;
	f->cwnd_acked = 0;
}

static void reno_rto(struct flow *f)
{
	/* Only the first time-out of a series lowers ssthresh (5681, 3.1). */
	if (f->backoff == 0)
		f->ssthresh = reno_half_flight(f);
	f->cwnd = f->snd_mss;
	f->cwnd_acked = 0;
}

const struct cc_ops cc_reno = {
	.name = "reno",
	.ack = reno_ack,
	.loss = reno_loss,
	.rto = reno_rto,
};
