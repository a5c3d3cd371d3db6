/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * timers.h - when a flow must be looked at although nothing arrived
 *
 * Each flow has two deadlines, rto_at (retransmission or persist) and ack_at
 * (delayed ACK), and at most one node in the core's wheel, queued no later
 * than the earlier of the two. Deadlines move and vanish without touching the
 * wheel: when a node comes up too early it is queued again for what is left.
 * So a request/response connection costs the wheel one visit in 40 ms or so,
 * not four in each exchange.
 *
 * The wheel has 4096 slots of 2^20 ns (1.05 ms); a later deadline waits in
 * the last slot and is queued again. A bitmap finds the next slot in use.
 */
#ifndef FASTPATH_TIMERS_H
#define FASTPATH_TIMERS_H

#include "fastpath/flow.h"

#define TIMER_TICK_SHIFT 20
#define TIMER_SLOTS 4096u

struct fp_core;

#pragma GCC visibility push(hidden)

struct timers {
	uint64_t tick; /* all slots up to this one were visited */
	uint64_t map[TIMER_SLOTS / 64]; /* slots that hold a node */
	uint64_t summary;		/* words of map that aren't 0 */
	uint32_t n_queued;
	struct flow *slots[TIMER_SLOTS];
};

void timers_init(struct timers *t, uint64_t now_ns);
/* Queue the flow's node for @at_ns at the latest. */
void timers_requeue(struct timers *t, struct flow *f, uint64_t at_ns);
void timers_remove(struct timers *t, struct flow *f);
/* Nanoseconds from @now_ns to the next visit; UINT64_MAX: no node queued. */
uint64_t timers_next_ns(const struct timers *t, uint64_t now_ns);
/* Visit what is due; calls flow_timer() for flows with a deadline passed. */
bool timers_run(struct fp_core *c);

static inline uint64_t timers_tick(uint64_t at_ns)
{
	return (at_ns >> TIMER_TICK_SHIFT) + 1;
}

/* Usually the node is queued early enough already. */
static inline void timers_queue(struct timers *t, struct flow *f,
				uint64_t at_ns)
{
	/* timer_at 0, not queued, is as good as later than all. */
	if (__builtin_expect(f->timer_at - 1 > at_ns >> TIMER_TICK_SHIFT, 0))
		timers_requeue(t, f, at_ns);
}

#pragma GCC visibility pop

#endif
