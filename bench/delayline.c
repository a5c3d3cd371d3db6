/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * delayline.c - frames on their way, by the time at which they come out
 *
 * A binary heap by time, then by the order of entry, so that frames of one time
 * stay in their order. Frames that wait for others to overtake them stand
 * beside it, few at any time, and enter when the last of those goes, or when
 * they have waited for long enough: the last frame before a pause would
 * otherwise be lost rather than late.
 *
 * One thread. The room is allocated at the beginning; heap and held frames
 * together never exceed it. The frames' memory is the caller's.
 */
#include "bench/delayline.h"

#include <errno.h>
#include <stdlib.h>

int delayline_init(struct delayline *dl, size_t max)
{
	*dl = (struct delayline){.max = max};
	dl->heap = calloc(max, sizeof(*dl->heap));
	return dl->heap ? 0 : -ENOMEM;
}

void delayline_free(struct delayline *dl)
{
	free(dl->heap);
	*dl = (struct delayline){0};
}

/* ---- heap ---------------------------------------------------------------- */

static bool before(const struct delayline_frame *a,
		   const struct delayline_frame *b)
{
	if (a->at_ns != b->at_ns)
		return a->at_ns < b->at_ns;
	return a->order < b->order;
}

static void heap_push(struct delayline *dl, struct delayline_frame f)
{
	size_t i = dl->n++, parent;

	f.order = dl->order++;
	for (; i; i = parent) {
		parent = (i - 1) / 2;
		if (before(&dl->heap[parent], &f))
			break;
		dl->heap[i] = dl->heap[parent];
	}
	dl->heap[i] = f;
}

static struct delayline_frame heap_pop(struct delayline *dl)
{
	const struct delayline_frame top = dl->heap[0];
	const struct delayline_frame last = dl->heap[--dl->n];
	size_t i = 0, child;

	for (; (child = 2 * i + 1) < dl->n; i = child) {
		if (child + 1 < dl->n &&
		    before(&dl->heap[child + 1], &dl->heap[child]))
			child++;
		if (before(&last, &dl->heap[child]))
			break;
		dl->heap[i] = dl->heap[child];
	}
	dl->heap[i] = last;
	return top;
}

/* ---- held frames --------------------------------------------------------- */

static void held_release(struct delayline *dl, size_t i)
{
	heap_push(dl, dl->held[i].frame);
	for (dl->n_held--; i < dl->n_held; i++)
		dl->held[i] = dl->held[i + 1];
}

static void held_release_late(struct delayline *dl, uint64_t now_ns)
{
	size_t i = 0;

	while (i < dl->n_held) {
		if (dl->held[i].frame.at_ns <= now_ns)
			held_release(dl, i);
		else
			i++;
	}
}

void delayline_passed(struct delayline *dl, uint64_t at_ns)
{
	size_t i = 0;

	while (i < dl->n_held) {
		if (--dl->held[i].behind) {
			i++;
			continue;
		}
		if (dl->held[i].frame.at_ns > at_ns)
			dl->held[i].frame.at_ns = at_ns;
		held_release(dl, i);
	}
}

/* ---- in and out ---------------------------------------------------------- */

static bool is_full(const struct delayline *dl)
{
	return dl->n + dl->n_held >= dl->max;
}

bool delayline_add(struct delayline *dl, uint64_t at_ns, uint8_t *data,
		   uint32_t len)
{
	struct delayline_frame f = {.at_ns = at_ns, .data = data, .len = len};

	if (is_full(dl))
		return false;
	heap_push(dl, f);
	return true;
}

bool delayline_hold(struct delayline *dl, uint64_t at_ns, uint32_t behind,
		    uint8_t *data, uint32_t len)
{
	struct delayline_held *h = &dl->held[dl->n_held];

	if (is_full(dl) || dl->n_held == DELAYLINE_HELD_MAX)
		return false;
	h->frame = (struct delayline_frame){
		.at_ns = at_ns, .data = data, .len = len};
	h->behind = behind;
	dl->n_held++;
	return true;
}

bool delayline_take(struct delayline *dl, uint64_t now_ns,
		    struct delayline_frame *f)
{
	if (dl->n_held)
		held_release_late(dl, now_ns);
	if (!dl->n || dl->heap[0].at_ns > now_ns)
		return false;
	*f = heap_pop(dl);
	return true;
}

uint64_t delayline_next_ns(const struct delayline *dl)
{
	uint64_t next = dl->n ? dl->heap[0].at_ns : UINT64_MAX;
	size_t i;

	for (i = 0; i < dl->n_held; i++)
		if (dl->held[i].frame.at_ns < next)
			next = dl->held[i].frame.at_ns;
	return next;
}
