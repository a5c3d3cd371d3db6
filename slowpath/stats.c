/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stats.c - all counters, on request (SIGUSR1)
 *
 * The cores' counters are read while their threads write them: each number is
 * whole, the set may be a frame old. Gauges that describe the moment end the
 * list.
 */
#include "slowpath/stats.h"
#include "bpf/steer.h"
#include "slowpath/conn.h"

#include <inttypes.h>
#include <stdio.h>

static void line(const char *name, uint64_t value)
{
	fprintf(stderr, "counter %s %" PRIu64 "\n", name, value);
}

static void dump_cores(const struct daemon *d)
{
	struct fp_counters sum = {0};
	struct queue_stats q = {0};

	for (unsigned int i = 0; i < d->n_cores; i++) {
		const struct fp_counters *c =
			fp_core_counters(d->cores[i].core);
		const struct queue_stats *s = &d->cores[i].queue->stats;

#define X(name, text) sum.name += __atomic_load_n(&c->name, __ATOMIC_RELAXED);
		FP_COUNTERS(X)
#undef X
		q.rx_frames += queue_counted(&s->rx_frames);
		q.tx_frames += queue_counted(&s->tx_frames);
		q.rx_bytes += queue_counted(&s->rx_bytes);
		q.tx_bytes += queue_counted(&s->tx_bytes);
		q.kicks += queue_counted(&s->kicks);
		q.tx_full += queue_counted(&s->tx_full);
	}
#define X(name, text) line(#name, sum.name);
	FP_COUNTERS(X)
#undef X
	line("queue_rx_frames", q.rx_frames);
	line("queue_tx_frames", q.tx_frames);
	line("queue_rx_bytes", q.rx_bytes);
	line("queue_tx_bytes", q.tx_bytes);
	line("queue_kicks", q.kicks);
	line("queue_tx_full", q.tx_full);
}

static void dump_verdicts(const struct daemon *d)
{
	static const char *const names[] = {
#define X(name, text) "xdp_" #name,
		STEER_VERDICTS(X)
#undef X
	};
	uint64_t v[STEER_VERDICT_COUNT] = {0};

	if (xdp_verdicts(d->cfg->xdp, v, STEER_VERDICT_COUNT) != 0)
		return;
	for (int i = 0; i < STEER_VERDICT_COUNT; i++)
		line(names[i], v[i]);
}

void stats_dump(struct daemon *d)
{
	unsigned int flows = 0;

	dump_cores(d);
#define X(name, text) line("slow_" #name, d->count.name);
	SLOW_COUNTERS(X)
#undef X
	dump_verdicts(d);
	for (unsigned int i = 0; i < d->n_cores; i++)
		flows += d->cores[i].flows;
	line("now_flows", flows);
	line("now_conns", HASH_COUNT(d->conns));
	line("now_remnants", HASH_COUNT(d->remnants) + HASH_COUNT(d->late));
	line("now_programs", d->n_programs);
	fflush(stderr);
}
