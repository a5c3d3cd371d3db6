/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * events.c - what a core tells the slow path, and frames held for a while
 *
 * Events go into the ring in the order in which things happened. Frames may be
 * lost when the ring is full, as a NIC would lose them; every other event
 * waits in a queue of its own, and while that isn't empty frames are dropped,
 * so that none overtakes an event about its flow. The queue can't overflow: a
 * flow causes at most three events in its life (installed, shut, removed), and
 * no command that makes new ones is taken while events wait (commands.c).
 *
 * Held frames: those of flows between INSTALL and RELEASE, HOLD_SLOTS for a
 * core in order of arrival; full: the frame is dropped and the peer sends it
 * again.
 *
 * State: the core's event ring end, pending queue, held list; core thread.
 */
#include "fastpath/core.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

static size_t pending_size(const struct fp_core *c)
{
	return (c->pending_mask + 1ul) * sizeof(*c->pending);
}

/* @now: with its pages, so that the data path meets no page fault. A fuzz
 * target makes a core for each input and needs few of them. */
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
#define POPULATE MAP_NORESERVE
#else
#define POPULATE MAP_POPULATE
#endif

static void *map_zero(size_t size, bool now)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS |
			       (now ? POPULATE : MAP_NORESERVE),
		       -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

int events_init(struct fp_core *c)
{
	size_t ring = FP_RING_SLOTS * sizeof(struct fp_msg);
	uint32_t n = 1024;

	while (n < 4 * c->cfg.max_flows)
		n *= 2;
	c->pending_mask = n - 1;
	c->pending = map_zero(pending_size(c), false);
	c->cmd.slots = map_zero(ring, true);
	c->ev.slots = map_zero(ring, true);
	c->held_mem = map_zero(HOLD_SLOTS * sizeof(*c->held_mem), true);
	if (!c->pending || !c->cmd.slots || !c->ev.slots || !c->held_mem)
		return -ENOMEM;
	return 0;
}

void events_free(struct fp_core *c)
{
	size_t ring = FP_RING_SLOTS * sizeof(struct fp_msg);

	if (c->pending)
		munmap(c->pending, pending_size(c));
	if (c->cmd.slots)
		munmap(c->cmd.slots, ring);
	if (c->ev.slots)
		munmap(c->ev.slots, ring);
	if (c->held_mem)
		munmap(c->held_mem, HOLD_SLOTS * sizeof(*c->held_mem));
}

bool event_frame(struct fp_core *c, const struct flow *f, const void *data,
		 uint32_t len)
{
	struct fp_msg *m;

	if (len > FP_FRAME_MAX) {
		COUNT(c, rx_bad_frame);
		return false;
	}
	m = events_flush(c) ? msg_ring_reserve(&c->ev) : NULL;
	if (!m) {
		COUNT(c, rx_event_full);
		return false;
	}
	m->type = FP_EV_FRAME;
	m->flow.index = FP_NO_FLOW;
	if (f) {
		m->flow.index = f->index;
		m->flow.gen = f->gen;
		flow_view_fill(f, &m->view);
	}
	m->frame_len = len;
	memcpy(m->frame, data, len);
	msg_ring_submit(&c->ev);
	c->events_sent = true;
	c->left_over = true;
	COUNT(c, rx_exception);
	return true;
}

static bool event_put(struct fp_core *c, const struct pending_event *e)
{
	struct fp_msg *m = msg_ring_reserve(&c->ev);

	if (!m)
		return false;
	m->type = e->type;
	m->err = e->err;
	m->how = e->how;
	m->value = e->value;
	m->flow = e->flow;
	m->view = e->view;
	m->ctx = e->ctx;
	m->params = e->params;
	m->text = e->text;
	msg_ring_submit(&c->ev);
	c->events_sent = true;
	c->left_over = true;
	return true;
}

bool events_flush_slow(struct fp_core *c)
{
	while (c->pending_head != c->pending_tail) {
		if (!event_put(c,
			       &c->pending[c->pending_head & c->pending_mask]))
			return false;
		c->pending_head++;
	}
	return true;
}

void event_send(struct fp_core *c, const struct pending_event *e)
{
	if (events_flush(c) && event_put(c, e))
		return;
	assert(c->pending_tail - c->pending_head <= c->pending_mask);
	c->pending[c->pending_tail++ & c->pending_mask] = *e;
	c->left_over = true;
}

void event_flow(struct fp_core *c, const struct flow *f, enum fp_event type,
		enum fp_removed how, uint32_t err)
{
	struct pending_event e = {
		.type = type,
		.how = how,
		.err = err,
		.flow = {f->index, f->gen},
	};

	flow_view_fill(f, &e.view);
	event_send(c, &e);
}

uint32_t events_sent(const struct fp_core *c)
{
	return c->ev.producer + (c->pending_tail - c->pending_head);
}

/* Ring the slow path's doorbell if it sleeps. */
static void doorbell(struct fp_core *c)
{
	uint64_t one = 1;

	/* Partner: fp_ev_arm(), which sets the word, fences and looks. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	c->slow_yield = true;
	c->slow_ns = c->now_ns;
	if (!__atomic_load_n(&c->slow_sleeping, __ATOMIC_RELAXED))
		return;
	if (!__atomic_exchange_n(&c->slow_sleeping, 0, __ATOMIC_SEQ_CST))
		return;
	if (write(c->ev_fd, &one, sizeof(one)) == sizeof(one))
		COUNT(c, slow_wakeups);
}

void events_turn(struct fp_core *c)
{
	events_flush(c);
	if (!c->events_sent)
		return;
	c->events_sent = false;
	doorbell(c);
}

/* ---- held frames -----------------------------------------------------------
 */

void hold_free(struct fp_core *c, struct held_frame *h)
{
	h->next = c->held_free;
	c->held_free = h;
}

static struct held_frame *hold_slot(struct fp_core *c)
{
	struct held_frame *h = c->held_free;

	if (h) {
		c->held_free = h->next;
		return h;
	}
	return c->held_used < HOLD_SLOTS ? &c->held_mem[c->held_used++] : NULL;
}

bool hold_add(struct fp_core *c, const struct flow *f, const void *data,
	      uint32_t len)
{
	struct held_frame *h = NULL;

	if (len <= FP_FRAME_MAX)
		h = hold_slot(c);
	if (!h) {
		COUNT(c, rx_hold_full);
		return false;
	}
	h->index = f->index;
	h->len = len;
	h->next = NULL;
	memcpy(h->data, data, len);
	if (c->held)
		c->held_tail->next = h;
	else
		c->held = h;
	c->held_tail = h;
	return true;
}

struct held_frame *hold_take(struct fp_core *c, const struct flow *f)
{
	struct held_frame **p = &c->held, *h, *prev = NULL;

	for (; (h = *p); prev = h, p = &h->next) {
		if (h->index != f->index)
			continue;
		*p = h->next;
		if (c->held_tail == h)
			c->held_tail = prev;
		return h;
	}
	return NULL;
}
