/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * reassembly.h - data that arrived behind a gap
 *
 * They lie in the receive buffer already, at their place behind rcv_nxt; here
 * is which ranges of them, in order, disjoint and not touching.
 */
#ifndef FASTPATH_REASSEMBLY_H
#define FASTPATH_REASSEMBLY_H

#include "fastpath/segment.h"

/* Ranges; a segment that needs one more is dropped. */
#define REASSEMBLY_MAX 64u

struct reassembly {
	uint32_t n;
	uint32_t clock; /* counts arrivals */
	bool duplicate; /* to be reported (RFC 2883) ... */
	bool fin;	/* the peer's FIN came, data before it did not */
	uint32_t fin_seq;
	struct sack_block dup; /* ... this */
	struct sack_block range[REASSEMBLY_MAX];
	uint32_t newest[REASSEMBLY_MAX]; /* when a range last had an arrival */
};

#pragma GCC visibility push(hidden)

/* [@start, @end) arrived: one more range, or those that it overlaps or touches
 * become one with it. false: there is no room for another. */
bool reassembly_add(struct reassembly *r, uint32_t start, uint32_t end);
/* Everything before @next arrived. Forgets what now is in order; returns where
 * the data end that lie there without a gap. */
uint32_t reassembly_advance(struct reassembly *r, uint32_t next);
/* The first part of [@start, @end) that is there already; false: none is. */
bool reassembly_overlap(const struct reassembly *r, uint32_t start,
			uint32_t end, struct sack_block *part);
/* What to report in at most @max > 0 blocks, in their order; how many. */
unsigned int reassembly_report(const struct reassembly *r,
			       struct sack_block *out, unsigned int max);
/* Something is here that the hot path must not pass by. */
static inline bool reassembly_busy(const struct reassembly *r)
{
	return r->n || r->duplicate || r->fin;
}

#pragma GCC visibility pop

#endif
