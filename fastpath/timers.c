/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * timers.c - the wheel of flow deadlines; theory in timers.h
 *
 * Read first: RFC 6298 section 5 for what rto_at is, RFC 1122 4.2.3.2 for
 * ack_at. State: struct timers and each flow's timer_* fields, all the core
 * thread's. Bounded by one node a flow.
 */
#include "fastpath/core.h"

static void slot_add(struct timers *t, struct flow *f, uint64_t tick)
{
	uint32_t s = tick & (TIMER_SLOTS - 1);

	f->timer_at = tick;
	f->timer_prev = NULL;
	f->timer_next = t->slots[s];
	if (f->timer_next)
		f->timer_next->timer_prev = f;
	t->slots[s] = f;
	t->map[s / 64] |= 1ull << (s % 64);
	t->summary |= 1ull << (s / 64);
	t->n_queued++;
}

void timers_init(struct timers *t, uint64_t now_ns)
{
	memset(t, 0, sizeof(*t));
	t->tick = now_ns >> TIMER_TICK_SHIFT;
}

void timers_remove(struct timers *t, struct flow *f)
{
	uint32_t s = f->timer_at & (TIMER_SLOTS - 1);

	if (!f->timer_at)
		return;
	if (f->timer_prev)
		f->timer_prev->timer_next = f->timer_next;
	else
		t->slots[s] = f->timer_next;
	if (f->timer_next)
		f->timer_next->timer_prev = f->timer_prev;
	if (!t->slots[s]) {
		t->map[s / 64] &= ~(1ull << (s % 64));
		if (!t->map[s / 64])
			t->summary &= ~(1ull << (s / 64));
	}
	f->timer_at = 0;
	t->n_queued--;
}

void timers_requeue(struct timers *t, struct flow *f, uint64_t at_ns)
{
	uint64_t tick = timers_tick(at_ns);

	if (tick <= t->tick)
		tick = t->tick + 1;
	if (tick > t->tick + TIMER_SLOTS - 1)
		tick = t->tick + TIMER_SLOTS - 1;
	if (f->timer_at && f->timer_at <= tick)
		return;
	timers_remove(t, f);
	slot_add(t, f, tick);
}

/* Slots from @from on to the first in use, less than TIMER_SLOTS; the wheel is
 * not empty. */
static uint32_t slots_to_next(const struct timers *t, uint32_t from)
{
	uint32_t w = from / 64, i;
	uint64_t bits = t->map[w] & (~0ull << (from % 64));

	for (i = 1; !bits && i <= TIMER_SLOTS / 64; i++) {
		w = (w + 1) % (TIMER_SLOTS / 64);
		bits = t->map[w];
	}
	return (w * 64 + (uint32_t)__builtin_ctzll(bits) - from) &
	       (TIMER_SLOTS - 1);
}

uint64_t timers_next_ns(const struct timers *t, uint64_t now_ns)
{
	uint64_t at;

	if (!t->summary)
		return UINT64_MAX;
	at = t->tick + 1;
	at += slots_to_next(t, at & (TIMER_SLOTS - 1));
	at <<= TIMER_TICK_SHIFT;
	return at > now_ns ? at - now_ns : 0;
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
	return !a || (b && b < a) ? b : a;
}

static void visit_flow(struct fp_core *c, struct flow *f)
{
	uint64_t at;

	timers_remove(&c->timers, f);
	if (f->ack_at && f->ack_at <= c->now_ns) {
		f->ack_at = 0;
		f->ack_now = true;
		f->pingpong = false; /* the answer did not come in time */
		flow_list(c, f);
	}
	if (f->rto_at && f->rto_at <= c->now_ns) {
		f->rto_at = 0;
		loss_timeout(c, f);
		if (f->state == FLOW_GONE || f->state == FLOW_FREE)
			return;
	}
	if (f->ext->wait_at && f->ext->wait_at <= c->now_ns) {
		f->ext->wait_at = 0;
		flow_list(c, f);
	}
	at = f->rto_at;
	if (!at && f->state == FLOW_OPEN && f->snd_una == f->snd_nxt)
		at = loss_idle(c, f);
	else
		loss_epoch(f);
	at = sooner(sooner(at, f->ack_at), f->ext->wait_at);
	if (at)
		timers_queue(&c->timers, f, at);
}

/* Take a slot's flows out before visiting them: they may be queued again. */
static void visit_slot(struct fp_core *c, uint32_t s, uint64_t tick)
{
	struct timers *t = &c->timers;
	struct flow *f;

	t->tick = tick;
	while ((f = t->slots[s]))
		visit_flow(c, f);
}

bool timers_run(struct fp_core *c)
{
	struct timers *t = &c->timers;
	uint64_t now = c->now_ns >> TIMER_TICK_SHIFT, next;
	bool visited = false;

	if (likely(now == t->tick))
		return false;
	while (t->summary) {
		next = t->tick + 1;
		next += slots_to_next(t, next & (TIMER_SLOTS - 1));
		if (next > now)
			break;
		visit_slot(c, next & (TIMER_SLOTS - 1), next);
		visited = true;
	}
	t->tick = now;
	return visited;
}
