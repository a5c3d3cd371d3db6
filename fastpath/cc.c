/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cc.c - congestion control: the table, and what algorithms share
 *
 * Slow start and the additive growth of congestion avoidance are the same
 * counting in bytes for all that know them; each algorithm is in its own file.
 * What they are and when they are called: cc.h.
 *
 * State: cwnd and cwnd_acked of the flow, written by its core. Pure
 * arithmetic: no timers, no frames.
 */
#include "fastpath/cc.h"
#include "fastpath/flow.h"

#include <string.h>

#define BURST_MAX 65536u
#define BURST_SLOW 150000u /* bytes a second: 1.2 Mbit/s */

static const struct cc_ops *const algorithms[] = {
	&cc_reno,
	&cc_cubic,
	&cc_dctcp,
	&cc_bbr,
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

uint32_t cc_pace_burst(const struct flow *f, uint64_t rate)
{
	uint64_t burst = rate / 1000;
	uint64_t segs = rate < BURST_SLOW ? 1 : 2;

	if (burst > BURST_MAX)
		burst = BURST_MAX;
	if (burst < segs * f->snd_mss)
		burst = segs * f->snd_mss;
	return (uint32_t)burst;
}

void cc_grow_by(struct flow *f, uint32_t acked, uint64_t per_seg)
{
	uint64_t count = (uint64_t)f->cwnd_acked + acked, cwnd;

	/* The credit of a slower pace is no burst at a faster one. */
	if (f->cwnd_acked >= per_seg)
		count = per_seg + acked;
	if (count < per_seg) {
		f->cwnd_acked = (uint32_t)count;
		return;
	}
	cwnd = f->cwnd;
	if (count < 2 * per_seg) { /* nearly always: no division */
		cwnd += f->snd_mss;
		count -= per_seg;
	} else {
		cwnd += count / per_seg * f->snd_mss;
		count %= per_seg;
	}
	f->cwnd = cwnd > CC_CWND_MAX ? CC_CWND_MAX : (uint32_t)cwnd;
	f->cwnd_acked = (uint32_t)count;
}
