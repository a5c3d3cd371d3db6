/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cc.c - congestion control: the table, and Reno
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

#include <string.h>

#define BURST_MAX 65536u
#define BURST_SLOW 150000u /* bytes a second: 1.2 Mbit/s */

static const struct cc_ops *const algorithms[] = {
	&cc_reno,
};

const struct cc_ops *cc_find(const char *name)
{
	unsigned int i;

	for (i = 0; i < sizeof(algorithms) / sizeof(algorithms[0]); i++) {
		if (!strcmp(algorithms[i]->name, name))
			return algorithms[i];
	}
	return NULL;
}

void cc_set(struct flow *f, const struct cc_ops *ops, uint64_t now_ns)
{
	memset(f->ext->cc_priv, 0, sizeof(f->ext->cc_priv));
	f->ext->pacing_rate = 0;
	f->ext->cc_low_rate = false;
	f->cc = ops;
	if (ops->init)
		ops->init(f, now_ns);
}

uint32_t cc_slow_start(struct flow *f, uint32_t acked)
{
	uint64_t cwnd = (uint64_t)f->cwnd + acked;

	if (f->cwnd >= f->ssthresh)
		return acked;
	if (cwnd > f->ssthresh)
		cwnd = f->ssthresh;
	acked -= (uint32_t)cwnd - f->cwnd;
	f->cwnd = cwnd > CC_CWND_MAX ? CC_CWND_MAX : (uint32_t)cwnd;
	return acked;
}

uint32_t cc_ssthresh_ece(struct flow *f, uint64_t now_ns)
{
	if (f->cc->ssthresh_ece)
		return f->cc->ssthresh_ece(f, now_ns);
	return f->cc->ssthresh(f, now_ns);
}

uint32_t cc_pace_burst(const struct flow *f)
{
	uint64_t burst = f->ext->pacing_rate / 1000;
	uint32_t segs = f->ext->pacing_rate < BURST_SLOW ? 1 : 2;

	if (burst > BURST_MAX)
		burst = BURST_MAX;
	if (burst < segs * f->snd_mss)
		burst = segs * f->snd_mss;
	return (uint32_t)burst;
}

static uint32_t reno_ssthresh(struct flow *f, uint64_t now_ns)
{
	uint32_t half = (f->snd_nxt - f->snd_una) / 2;

	return half > 2 * f->snd_mss ? half : 2 * f->snd_mss;
}

static void reno_grow(struct flow *f, const struct cc_sample *s)
{
	uint32_t acked = cc_slow_start(f, s->acked);

	if (!acked || f->cwnd >= CC_CWND_MAX)
		return;
	/* One segment more for each cwnd of bytes: counted, not divided. */
	f->cwnd_acked += acked;
	if (f->cwnd_acked >= f->cwnd) {
		f->cwnd_acked -= f->cwnd;
		f->cwnd += f->snd_mss;
	}
}

const struct cc_ops cc_reno = {
	.name = "reno",
	.ssthresh = reno_ssthresh,
	.grow = reno_grow,
};
