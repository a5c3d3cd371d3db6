/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * program.h - programs that use the service: memory, contexts, buffers
 */
#ifndef SLOWPATH_PROGRAM_H
#define SLOWPATH_PROGRAM_H

#include "slowpath/daemon.h"
#include "slowpath/kept.h"
#include "slowpath/large.h"
#include "slowpath/slots.h"

#include <sys/types.h>

#define PROGRAM_MAX 1024u     /* programs at a time */
#define PROGRAM_MAX_USER 256u /* of one user other than root */
#define PROGRAM_MAX_SLOTS 65536u

struct conn;

struct program_ctx {
	struct fp_ctx fp;
	unsigned int n_conns; /* connections that use it */
	unsigned int gone;    /* cores that have yet to answer CTX_DEL */
	bool ending;	      /* to be deleted when no connection uses it */
	bool deleting;	      /* the cores have been told */
	uint32_t hint;	      /* last value of area->linux_fed */
};

struct program {
	struct program *prev, *next; /* in daemon.programs */
	struct daemon *d;
	uint32_t id;
	pid_t pid;
	uid_t uid;
	int sock;  /* control socket, -1: the program is gone */
	int watch; /* of sock */
	int memfd;
	uint8_t *mem; /* NULL until HELLO */
	uint64_t mem_size;
	uint64_t slots_off; /* where buffers begin in the memory */
	struct slots slots; /* buffers: a receive and a transmit one each */
	uint64_t large_off; /* where large areas begin */
	struct large_set large;
	struct kept_set kept;  /* of these, of connections that were reset */
	struct handed *handed; /* sockets that it has yet to be given */
	struct program_ctx *ctx[XTS_MAX_CTX];
	unsigned int n_ctx;
	struct conn *conns; /* list */
	unsigned int n_conns;
	bool busy; /* being ended: not to be freed */
};

/* NULL: too many programs. @sock belongs to the program's struct then. */
struct program *program_new(struct daemon *d, int sock, pid_t pid, uid_t uid);
int program_memory(
	struct program *a); /* make and map its memory; 0 or -errno */
/* The session ends: connections are closed as if by the program (or, with
 * @reset, reset), memory goes when the cores have let go of it. */
void program_end(struct program *a, bool reset);
/* Free @a if it has ended and nothing of it is left. */
void program_put(struct daemon *d, struct program *a);

/* Free @a, which has no connection left; the cores are gone already. */
void program_discard(struct program *a);

/* A new context; NULL: no memory, descriptor or number left (errno). */
struct program_ctx *program_ctx_add(struct program *a, uint32_t *number);
/* The program needs it no more: goes with the last connection that does. */
void program_ctx_end(struct program *a, struct program_ctx *x);
/* A connection begins, ends to use context @number. */
void program_ctx_get(struct program *a, uint32_t number);
void program_ctx_put(struct program *a, uint32_t number);
/* The context that a core's event names has left that core. */
void program_ctx_gone(struct daemon *d, struct fp_ctx *fp);
struct program_ctx *program_ctx_find(struct program *a, uint32_t number);
/* Tell programs that kernel sockets may have become ready (linux_fed). */
void program_hint_all(struct daemon *d);
struct program *program_find(struct daemon *d, uint32_t id);

uint32_t program_slot_take(struct program *a); /* SLOTS_NONE: none is free */
void program_slot_give(struct program *a, uint32_t slot);
uint64_t program_slot_offset(const struct program *a, uint32_t slot);
/* The program is told of a reset and may still read what is in @slot, until it
 * releases the connection by its name. */
void program_slot_keep(struct program *a, uint64_t cookie, uint32_t slot);
void program_slot_release(struct program *a, uint64_t cookie);

#endif
