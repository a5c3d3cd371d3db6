/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * program.c - programs that use the service: memory, contexts, buffers
 *
 * A program has one memfd, made and sealed here so that neither side can resize
 * it: areas for XTS_MAX_CTX contexts, then buffers of fixed size, numbered, the
 * lowest free one handed out first, then large areas (large.c). It is sparse. A
 * buffer that comes back has its pages given up, save the lowest WARM_SLOTS, so
 * that connections that come and go cost no system call for it.
 *
 * Life: program_new() at accept, program_memory() at HELLO, program_end() when
 * the control socket hangs up or the program breaks the contract. Memory and
 * struct are freed when the last flow is removed and every core answered
 * CTX_DEL for each context: until then cores hold pointers into both. A context
 * that the program destroys goes when no connection uses it any more: the core
 * tells the program of a connection's end before it tells us.
 */
#include "slowpath/program.h"
#include "slowpath/closing.h"
#include "slowpath/conn.h"
#include "slowpath/handover.h"
#include "slowpath/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>
#include <utlist.h>

#define WARM_SLOTS 16u
#define SLOT_SIZE UINT64_C(262144)
static_assert(SLOT_SIZE == UINT64_C(2) * DAEMON_BUF_SIZE,
	      "receive and transmit buffer");

static unsigned int count_user(const struct daemon *d, uid_t uid)
{
	const struct program *a;
	unsigned int n = 0;

	DL_FOREACH (d->programs, a)
		n += a->uid == uid;
	return n;
}

struct program *program_new(struct daemon *d, int sock, pid_t pid, uid_t uid)
{
	struct program *a;

	if (d->n_programs >= PROGRAM_MAX ||
	    (uid != 0 && count_user(d, uid) >= PROGRAM_MAX_USER))
		return NULL;
	a = calloc(1, sizeof(*a));
	if (!a)
		return NULL;
	*a = (struct program){.d = d,
			      .id = ++d->next_program,
			      .pid = pid,
			      .uid = uid,
			      .sock = sock,
			      .watch = -1,
			      .kept.seed = d->seed,
			      .memfd = -1};
	DL_APPEND(d->programs, a);
	d->n_programs++;
	d->count.programs++;
	return a;
}

struct program *program_find(struct daemon *d, uint32_t id)
{
	struct program *a;

	DL_FOREACH (d->programs, a)
		if (a->id == id)
			return a;
	return NULL;
}

int program_memory(struct program *a)
{
	const struct daemon *d = a->d;
	uint64_t n = (uint64_t)d->opt->flows * d->n_cores;
	int rc;

	if (n > PROGRAM_MAX_SLOTS)
		n = PROGRAM_MAX_SLOTS;
	a->slots_off = XTS_MAX_CTX * XTS_CTX_AREA_SIZE((size_t)d->n_cores);
	a->large_off = a->slots_off + n * SLOT_SIZE;
	a->mem_size = a->large_off + LARGE_AREAS * LARGE_SIZE;
	a->memfd = memfd_create("tas-xdp", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (a->memfd < 0)
		return -errno;
	if (ftruncate(a->memfd, (off_t)a->mem_size) != 0 ||
	    fcntl(a->memfd, F_ADD_SEALS,
		  F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
		return -errno;
	rc = slots_init(&a->slots, (uint32_t)n);
	if (rc == 0)
		rc = large_init(&a->large);
	if (rc)
		return rc;
	a->mem = mmap(NULL, a->mem_size, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_NORESERVE, a->memfd, 0);
	if (a->mem == MAP_FAILED) {
		a->mem = NULL;
		return -errno;
	}
	return 0;
}

#define HINT_MAX 64u /* contexts that are told of frames given to Linux */

/* ---- contexts ---------------------------------------------------------------
 */

static void ctx_free(struct program *a, struct program_ctx *x)
{
	close(x->fp.app_event_fd);
	for (unsigned int i = 0; i < a->d->n_cores; i++)
		close(x->fp.doorbell_fd[i]);
	a->ctx[x->fp.ctx] = NULL;
	a->n_ctx--;
	free(x);
}

static int ctx_eventfds(struct program_ctx *x, unsigned int cores)
{
	unsigned int i;

	x->fp.app_event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (x->fp.app_event_fd < 0)
		return -1;
	for (i = 0; i < cores; i++) {
		x->fp.doorbell_fd[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (x->fp.doorbell_fd[i] < 0)
			break;
	}
	if (i == cores)
		return 0;
	while (i--)
		close(x->fp.doorbell_fd[i]);
	close(x->fp.app_event_fd);
	return -1;
}

struct program_ctx *program_ctx_add(struct program *a, uint32_t *number)
{
	struct daemon *d = a->d;
	struct program_ctx *x;
	uint32_t n = 0;

	while (n < XTS_MAX_CTX && a->ctx[n])
		n++;
	if (n == XTS_MAX_CTX) {
		errno = EMFILE;
		return NULL;
	}
	x = calloc(1, sizeof(*x));
	if (!x)
		return NULL;
	if (ctx_eventfds(x, d->n_cores) != 0) {
		free(x);
		return NULL;
	}
	x->fp.mem = a->mem;
	x->fp.mem_size = a->mem_size;
	x->fp.area =
		(void *)(a->mem + n * XTS_CTX_AREA_SIZE((size_t)d->n_cores));
	x->fp.app = a->id;
	x->fp.ctx = n;
	memset(x->fp.area, 0, XTS_CTX_AREA_SIZE(d->n_cores));
	a->ctx[n] = x;
	a->n_ctx++;
	for (unsigned int i = 0; i < d->n_cores; i++) {
		struct fp_msg *m = daemon_cmd(d, i, FP_CMD_CTX_ADD, false);

		m->ctx = &x->fp;
		daemon_submit(d, i);
	}
	*number = n;
	return x;
}

struct program_ctx *program_ctx_find(struct program *a, uint32_t number)
{
	if (number >= XTS_MAX_CTX || !a->ctx[number] || a->ctx[number]->ending)
		return NULL;
	return a->ctx[number];
}

void program_ctx_get(struct program *a, uint32_t number)
{
	a->ctx[number]->n_conns++;
}

void program_hint_all(struct daemon *d)
{
	unsigned int left = HINT_MAX;
	struct program *a;

	DL_FOREACH (d->programs, a) {
		for (uint32_t i = 0, n = a->n_ctx; n && i < XTS_MAX_CTX; i++) {
			struct program_ctx *x = a->ctx[i];

			if (!x)
				continue;
			n--;
			if (!left--)
				return;
			__atomic_store_n(&x->fp.area->linux_fed, ++x->hint,
					 __ATOMIC_RELAXED);
		}
	}
}

static void ctx_delete(struct program *a, struct program_ctx *x)
{
	struct daemon *d = a->d;

	if (x->deleting)
		return;
	x->deleting = true;
	x->gone = d->n_cores;
	for (unsigned int i = 0; i < d->n_cores; i++) {
		struct fp_msg *m = daemon_cmd(d, i, FP_CMD_CTX_DEL, false);

		m->ctx = &x->fp;
		daemon_submit(d, i);
	}
}

void program_ctx_end(struct program *a, struct program_ctx *x)
{
	x->ending = true;
	if (!x->n_conns)
		ctx_delete(a, x);
}

void program_ctx_put(struct program *a, uint32_t number)
{
	struct program_ctx *x = a->ctx[number];

	/* Gone before its connections: the program has ended. */
	if (!x || a->sock < 0)
		return;
	if (--x->n_conns == 0 && x->ending)
		ctx_delete(a, x);
}

void program_ctx_gone(struct daemon *d, struct fp_ctx *fp)
{
	struct program_ctx *x =
		(void *)((char *)fp - offsetof(struct program_ctx, fp));
	struct program *a = program_find(d, fp->app);

	if (!a || --x->gone > 0)
		return;
	ctx_free(a, x);
	program_put(d, a);
}

/* ---- the end
 * ------------------------------------------------------------------ */

void program_end(struct program *a, bool reset)
{
	struct conn *c, *tmp;

	if (a->sock < 0)
		return;
	if (a->watch >= 0)
		loop_unwatch(&a->d->loop, a->watch);
	close(a->sock);
	a->sock = -1;
	handover_forget(a);
	for (uint32_t i = 0; i < XTS_MAX_CTX; i++)
		if (a->ctx[i])
			ctx_delete(a, a->ctx[i]);
	a->busy = true; /* the last connection must not take it along */
	DL_FOREACH_SAFE (a->conns, c, tmp)
		closing_program_gone(a->d, c, reset);
	a->busy = false;
	log_debug("program %d: session ended, %u connections left", a->pid,
		  a->n_conns);
	program_put(a->d, a);
}

void program_put(struct daemon *d, struct program *a)
{
	if (a->busy || a->sock >= 0 || a->n_conns || a->n_ctx)
		return;
	DL_DELETE(d->programs, a);
	d->n_programs--;
	if (a->mem)
		munmap(a->mem, a->mem_size);
	if (a->memfd >= 0)
		close(a->memfd);
	kept_clear(&a->kept);
	slots_destroy(&a->slots);
	large_destroy(&a->large);
	free(a);
}

void program_discard(struct program *a)
{
	if (a->sock >= 0)
		close(a->sock);
	a->sock = -1;
	handover_forget(a);
	for (uint32_t i = 0; i < XTS_MAX_CTX; i++)
		if (a->ctx[i])
			ctx_free(a, a->ctx[i]);
	program_put(a->d, a);
}

/* ---- buffers
 * -------------------------------------------------------------------- */

uint32_t program_slot_take(struct program *a)
{
	return slots_take(&a->slots);
}

uint64_t program_slot_offset(const struct program *a, uint32_t slot)
{
	return a->slots_off + (uint64_t)slot * SLOT_SIZE;
}

void program_slot_give(struct program *a, uint32_t slot)
{
	slots_give(&a->slots, slot);
	large_give(a, slot);
	/* The whole memory goes in a moment if the program has gone. */
	if (slot >= WARM_SLOTS && a->sock >= 0)
		fallocate(a->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			  (off_t)program_slot_offset(a, slot), SLOT_SIZE);
}

void program_slot_keep(struct program *a, uint64_t cookie, uint32_t slot)
{
	if (a->sock < 0 || !kept_add(&a->kept, cookie, slot))
		program_slot_give(a, slot);
}

void program_slot_release(struct program *a, uint64_t cookie)
{
	uint32_t slot = kept_release(&a->kept, cookie, a->n_conns);

	if (slot != SLOTS_NONE)
		program_slot_give(a, slot);
}
