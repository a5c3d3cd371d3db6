/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * loop.c - multishot polls on an io_uring
 *
 * Read first: io_uring_prep_poll_multishot(3). Each watched descriptor has one
 * multishot poll: the kernel reports every wake-up without being asked again,
 * so a busy loop makes no system call to learn what is ready, and waiting is
 * one io_uring_enter() for everything.
 *
 * A request carries slot number and generation of its watch; completions
 * of a watch that was given up are told by the generation and ignored. The
 * table of watches grows with the descriptors watched (programs are bounded by
 * APP_MAX). One thread.
 */
#include "slowpath/loop.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#define LOOP_SQ 256u
#define LOOP_CQ 4096u
#define LOOP_NONE UINT32_MAX
#define LOOP_IGNORE UINT64_MAX /* user data of cancellations */

int loop_open(struct loop *l)
{
	struct io_uring_params p = {
		.flags = IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL |
			 IORING_SETUP_COOP_TASKRUN,
		.cq_entries = LOOP_CQ,
	};
	int rc;

	*l = (struct loop){.free = LOOP_NONE};
	rc = io_uring_queue_init_params(LOOP_SQ, &l->ring, &p);
	if (rc == -EINVAL) { /* Linux before 5.19 */
		p = (struct io_uring_params){.flags = IORING_SETUP_CQSIZE,
					     .cq_entries = LOOP_CQ};
		rc = io_uring_queue_init_params(LOOP_SQ, &l->ring, &p);
	}
	l->open = rc == 0;
	return rc;
}

void loop_close(struct loop *l)
{
	if (l->open)
		io_uring_queue_exit(&l->ring);
	l->open = false;
	free(l->watches);
	l->watches = NULL;
}

static struct io_uring_sqe *get_sqe(struct loop *l)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&l->ring);

	while (!sqe) {
		io_uring_submit(&l->ring);
		sqe = io_uring_get_sqe(&l->ring);
	}
	return sqe;
}

static uint64_t watch_data(const struct loop *l, uint32_t slot)
{
	return (uint64_t)l->watches[slot].gen << 32 | slot;
}

static void arm(struct loop *l, uint32_t slot)
{
	struct loop_watch *w = &l->watches[slot];
	struct io_uring_sqe *sqe = get_sqe(l);

	io_uring_prep_poll_multishot(sqe, w->fd, w->events);
	io_uring_sqe_set_data64(sqe, watch_data(l, slot));
}

static int grow(struct loop *l)
{
	uint32_t max = l->max_watches ? l->max_watches * 2 : 64;
	struct loop_watch *w;

	w = realloc(l->watches, max * sizeof(*w));
	if (!w)
		return -ENOMEM;
	l->watches = w;
	l->max_watches = max;
	return 0;
}

int loop_watch(struct loop *l, int fd, uint32_t events, loop_fn fn, void *arg)
{
	uint32_t slot = l->free;

	if (slot != LOOP_NONE) {
		l->free = l->watches[slot].next_free;
	} else {
		if (l->n_watches == l->max_watches && grow(l) != 0)
			return -ENOMEM;
		slot = l->n_watches++;
		l->watches[slot].gen = 0;
	}
	l->watches[slot].fn = fn;
	l->watches[slot].arg = arg;
	l->watches[slot].fd = fd;
	l->watches[slot].events = events;
	arm(l, slot);
	return (int)slot;
}

void loop_unwatch(struct loop *l, int watch)
{
	struct loop_watch *w = &l->watches[watch];
	struct io_uring_sqe *sqe = get_sqe(l);

	io_uring_prep_poll_remove(sqe, watch_data(l, (uint32_t)watch));
	io_uring_sqe_set_data64(sqe, LOOP_IGNORE);
	/* The kernel must have let go of the descriptor when it is closed. */
	io_uring_submit(&l->ring);
	w->fn = NULL;
	w->gen++;
	w->next_free = l->free;
	l->free = (uint32_t)watch;
}

static void complete(struct loop *l, uint64_t data, int32_t res, uint32_t flags)
{
	uint32_t slot = (uint32_t)data;
	struct loop_watch *w;

	if (data == LOOP_IGNORE || slot >= l->n_watches)
		return;
	w = &l->watches[slot];
	if (!w->fn || w->gen != data >> 32)
		return;
	if (!(flags & IORING_CQE_F_MORE))
		arm(l, slot); /* the kernel ended the multishot: once more */
	w->fn(w->arg, res < 0 ? POLLERR : (uint32_t)res);
}

bool loop_poll(struct loop *l)
{
	struct io_uring_cqe *cqe;
	bool some = false;

	while (io_uring_peek_cqe(&l->ring, &cqe) == 0 && cqe) {
		uint64_t data = cqe->user_data;
		int32_t res = cqe->res;
		uint32_t flags = cqe->flags;

		io_uring_cqe_seen(&l->ring, cqe);
		complete(l, data, res, flags);
		some = true;
	}
	if (io_uring_sq_ready(&l->ring))
		io_uring_submit(&l->ring);
	return some;
}

void loop_wait(struct loop *l, int64_t timeout_ns)
{
	struct __kernel_timespec ts = {.tv_sec = timeout_ns / 1000000000,
				       .tv_nsec = timeout_ns % 1000000000};
	struct io_uring_cqe *cqe;

	io_uring_submit_and_wait_timeout(&l->ring, &cqe, 1,
					 timeout_ns < 0 ? NULL : &ts, NULL);
	loop_poll(l);
}
