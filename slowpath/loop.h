/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * loop.h - the slow path's one place to wait: multishot polls on an io_uring
 */
#ifndef SLOWPATH_LOOP_H
#define SLOWPATH_LOOP_H

#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>

/* Something happened on a watched descriptor; @events as of poll(2). Reported
 * once for each wake-up, so the function reads until there is no more. */
typedef void (*loop_fn)(void *arg, uint32_t events);

struct loop_watch {
	loop_fn fn; /* NULL: slot is free */
	void *arg;
	int fd;
	uint32_t events;
	uint32_t gen; /* tells completions for an earlier user of the slot */
	uint32_t next_free;
};

struct loop {
	struct io_uring ring;
	bool open; /* there is a ring */
	struct loop_watch *watches;
	uint32_t n_watches;   /* slots in use or free */
	uint32_t max_watches; /* slots allocated */
	uint32_t free;	      /* head of the list of free slots */
};

int loop_open(struct loop *l);
void loop_close(struct loop *l);
/* A number >= 0 for loop_unwatch(), or -errno. */
int loop_watch(struct loop *l, int fd, uint32_t events, loop_fn fn, void *arg);
/* @fn isn't called any more; call it before @fd is closed. */
void loop_unwatch(struct loop *l, int watch);
/* Call the functions of what has happened, without waiting or a system call;
 * true: there was something. */
bool loop_poll(struct loop *l);
/* The same, waiting up to @timeout_ns for it (negative: for ever). */
void loop_wait(struct loop *l, int64_t timeout_ns);

#endif
