/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ring.h - single-producer single-consumer ring of struct fp_msg
 *
 * Between the slow path's thread and a core's, inside one process, so neither
 * side is hostile. It is not from a library because slots are filled in place
 * (a message may hold a frame) and have the size of a page. producer is stored
 * with release order by the producing thread and loaded with acquire order by
 * the other one; consumer the other way round. Each side keeps its own copy of
 * the other's word and looks again only when that says full or empty.
 *
 * Limit: FP_RING_SLOTS messages; full: msg_ring_reserve() returns NULL.
 */
#ifndef FASTPATH_RING_H
#define FASTPATH_RING_H

#include "fastpath/fastpath.h"

#include <stddef.h>

struct msg_ring {
	alignas(XTS_CACHELINE) uint32_t producer; /* stored by the producer */
	uint32_t consumer_seen;			  /* the producer's copy */
	alignas(XTS_CACHELINE) uint32_t consumer; /* stored by the consumer */
	uint32_t producer_seen;			  /* the consumer's copy */
	alignas(XTS_CACHELINE) struct fp_msg *slots;
};

/* The next slot, its head cleared; NULL: full. */
static inline struct fp_msg *msg_ring_reserve(struct msg_ring *r)
{
	struct fp_msg *m;

	if (r->producer - r->consumer_seen == FP_RING_SLOTS) {
		r->consumer_seen =
			__atomic_load_n(&r->consumer, __ATOMIC_ACQUIRE);
		if (r->producer - r->consumer_seen == FP_RING_SLOTS)
			return NULL;
	}
	m = &r->slots[r->producer & (FP_RING_SLOTS - 1)];
	memset(m, 0, offsetof(struct fp_msg, frame));
	return m;
}

static inline void msg_ring_submit(struct msg_ring *r)
{
	__atomic_store_n(&r->producer, r->producer + 1, __ATOMIC_RELEASE);
}

static inline struct fp_msg *msg_ring_peek(struct msg_ring *r)
{
	if (r->consumer == r->producer_seen) {
		r->producer_seen =
			__atomic_load_n(&r->producer, __ATOMIC_ACQUIRE);
		if (r->consumer == r->producer_seen)
			return NULL;
	}
	return &r->slots[r->consumer & (FP_RING_SLOTS - 1)];
}

static inline void msg_ring_release(struct msg_ring *r)
{
	__atomic_store_n(&r->consumer, r->consumer + 1, __ATOMIC_RELEASE);
}

/* Has the producer put in anything since? Any thread's view of its own side. */
static inline bool msg_ring_empty(const struct msg_ring *r)
{
	return __atomic_load_n(&r->producer, __ATOMIC_ACQUIRE) ==
	       __atomic_load_n(&r->consumer, __ATOMIC_RELAXED);
}

#endif
