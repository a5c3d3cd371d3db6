/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * reassembly.c - which data lie behind a gap, and what of them is reported
 *
 * Ranges are kept in order in an array of REASSEMBLY_MAX: a loss makes one, and
 * few are open at a time, so that moving the rest of the array is cheaper than
 * a tree. What was reported stays until it is in order: nothing is ever taken
 * out to make room (RFC 2018 section 8 allows it; peers suffer from it).
 *
 * Each range knows when it last had an arrival. Reporting the newest first is
 * what RFC 2018 section 4 asks for: the first block has the segment that caused
 * the ACK, the next ones were the first blocks of the ACKs before. A duplicate
 * (RFC 2883) stands before all of them, and the range that it lies in, which
 * just had an arrival, follows.
 *
 * Read first: RFC 2018 section 4, RFC 2883 section 4, RFC 9293 3.10.7.4.
 * State: one struct reassembly a flow, core thread. No memory of its own.
 */
#include "fastpath/reassembly.h"

bool reassembly_add(struct reassembly *r, uint32_t start, uint32_t end)
{
	uint32_t i = 0, j;

	while (i < r->n && seq_lt(r->range[i].end, start))
		i++;
	for (j = i; j < r->n && seq_leq(r->range[j].start, end); j++) {
		if (seq_lt(r->range[j].start, start))
			start = r->range[j].start;
		if (seq_gt(r->range[j].end, end))
			end = r->range[j].end;
	}
	if (i == j && r->n == REASSEMBLY_MAX)
		return false;
	/* Ranges i to j - 1, or none, become one. */
	memmove(&r->range[i + 1], &r->range[j],
		(r->n - j) * sizeof(r->range[0]));
	memmove(&r->newest[i + 1], &r->newest[j],
		(r->n - j) * sizeof(r->newest[0]));
	r->n += i + 1 - j;
	r->range[i] = (struct sack_block){start, end};
	r->newest[i] = ++r->clock;
	return true;
}

uint32_t reassembly_advance(struct reassembly *r, uint32_t next)
{
	uint32_t i = 0;

	for (; i < r->n && seq_leq(r->range[i].start, next); i++) {
		if (seq_gt(r->range[i].end, next))
			next = r->range[i].end;
	}
	r->n -= i;
	memmove(r->range, r->range + i, r->n * sizeof(r->range[0]));
	memmove(r->newest, r->newest + i, r->n * sizeof(r->newest[0]));
	return next;
}

bool reassembly_overlap(const struct reassembly *r, uint32_t start,
			uint32_t end, struct sack_block *part)
{
	uint32_t i = 0;

	while (i < r->n && seq_leq(r->range[i].end, start))
		i++;
	if (i == r->n || seq_geq(r->range[i].start, end))
		return false;
	*part = r->range[i];
	if (seq_lt(part->start, start))
		part->start = start;
	if (seq_gt(part->end, end))
		part->end = end;
	return true;
}

/* The range that had the last arrival before time @before; -1: none. */
static int newest_before(const struct reassembly *r, uint32_t before)
{
	int best = -1;
	uint32_t i;

	for (i = 0; i < r->n; i++) {
		if (seq_lt(r->newest[i], before) &&
		    (best < 0 || seq_gt(r->newest[i], r->newest[best])))
			best = (int)i;
	}
	return best;
}

unsigned int reassembly_report(const struct reassembly *r,
			       struct sack_block *out, unsigned int max)
{
	uint32_t before = r->clock + 1;
	unsigned int n = 0;
	int i;

	if (r->duplicate)
		out[n++] = r->dup;
	while (n < max && (i = newest_before(r, before)) >= 0) {
		out[n++] = r->range[i];
		before = r->newest[i];
	}
	return n;
}
