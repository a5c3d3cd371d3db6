/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * large.c - large buffers for connections that have outgrown their own
 *
 * Behind its small buffers each program's memory has room for LARGE_AREAS large
 * ones: address space, of which pages exist as they are touched. A core asks
 * for a connection (fastpath/grow.c); it is granted what it wants, but no
 * more than
 *   what tcp_rmem allows a socket on this host, and XTS_BUF_MAX;
 *   an eighth of what is left of the program's allowance (--app-memory), so
 *   that the first connections don't take everything.
 * A program that has fixed its socket's buffers (SO_RCVBUF, SO_SNDBUF) turned
 * auto-tuning off in Linux, and so it does here.
 *
 * An area belongs to the connection's small buffers: it goes back with them,
 * also when they are kept for a while after a reset, and its pages are given
 * up then.
 */
#include "slowpath/large.h"
#include "slowpath/conn.h"
#include "slowpath/log.h"
#include "slowpath/program.h"
#include "slowpath/sysctl.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif

struct large {
	UT_hash_handle hh;
	uint32_t slot; /* of the small buffers */
	uint32_t area;
	uint32_t granted; /* bytes for either buffer */
};

int large_init(struct large_set *l)
{
	*l = (struct large_set){0};
	return slots_init(&l->areas, LARGE_AREAS);
}

void large_destroy(struct large_set *l)
{
	struct large *e, *tmp;

	HASH_ITER (hh, l->by_slot, e, tmp) {
		/* uthash moves the table's head when it goes. */
		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
		HASH_DELETE(hh, l->by_slot, e);
		free(e);
	}
	slots_destroy(&l->areas);
}

static uint32_t power_of_two_below(unsigned int n)
{
	uint32_t size = XTS_BUF_MAX;

	while (size > n)
		size /= 2;
	return size;
}

uint32_t large_limit(void)
{
	if (!sysctl_once("/proc/sys/net/ipv4/tcp_moderate_rcvbuf", 1))
		return 0;
	return power_of_two_below(
		sysctl_once("/proc/sys/net/ipv4/tcp_rmem", XTS_BUF_MAX));
}

/* The program chose its buffers' sizes. */
static bool sizes_fixed(int fd)
{
	uint32_t lock = 0;
	socklen_t len = sizeof(lock);

	return getsockopt(fd, SOL_SOCKET, SO_BUF_LOCK, &lock, &len) == 0 &&
	       lock != 0;
}

/* Slots are numbers of ours: nobody can choose them. */
static unsigned int slot_hash(uint32_t slot)
{
	return slot * 2654435769u;
}

static struct large *find(const struct program *a, uint32_t slot)
{
	struct large *e;

	HASH_FIND_BYHASHVALUE(hh, a->large.by_slot, &slot, sizeof(slot),
			      slot_hash(slot), e);
	return e;
}

static struct large *area_take(struct program *a, uint32_t slot)
{
	struct large *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->slot = slot;
	e->area = slots_take(&a->large.areas);
	if (e->area == SLOTS_NONE) {
		free(e);
		return NULL;
	}
	HASH_ADD_BYHASHVALUE(hh, a->large.by_slot, slot, sizeof(e->slot),
			     slot_hash(slot), e);
	return e;
}

static uint64_t area_offset(const struct program *a, uint32_t area)
{
	return a->large_off + area * LARGE_SIZE;
}

static void grant(struct daemon *d, const struct conn *c, const struct large *e)
{
	struct fp_msg *m = daemon_cmd(d, c->core, FP_CMD_GROW, false);

	m->flow = c->flow;
	m->mem = area_offset(c->program, e->area);
	m->value = e->granted;
	daemon_submit(d, c->core);
	d->count.grown++;
}

void large_wanted(struct daemon *d, unsigned int core, const struct fp_msg *m)
{
	struct conn *c = conn_by_flow(d, core, m->flow);
	uint64_t left, size = m->value;
	struct large *e;

	if (!c || c->phase != CONN_LIVE || sizes_fixed(c->fd))
		return;
	if (size > d->buf_limit)
		size = d->buf_limit;
	e = find(c->program, c->slot);
	left = d->opt->app_memory - c->program->large.granted;
	while (2 * size > left / 8)
		size /= 2;
	if (size < UINT64_C(2) * DAEMON_BUF_SIZE || (e && size <= e->granted))
		return;
	if (!e)
		e = area_take(c->program, c->slot);
	if (!e)
		return;
	c->program->large.granted += 2 * (size - e->granted);
	e->granted = (uint32_t)size;
	grant(d, c, e);
}

void large_give(struct program *a, uint32_t slot)
{
	struct large *e = a->large.by_slot ? find(a, slot) : NULL;

	if (!e)
		return;
	HASH_DELETE(hh, a->large.by_slot, e);
	slots_give(&a->large.areas, e->area);
	a->large.granted -= UINT64_C(2) * e->granted;
	if (a->sock >= 0)
		fallocate(a->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			  (off_t)area_offset(a, e->area), (off_t)LARGE_SIZE);
	free(e);
}
