/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * service.h - the session with the service (private to libsock)
 *
 * One session a process: control socket and memory. It is opened when a socket
 * first wants to be offloaded and lives until the service ends or the last
 * context that used its memory has let go, whichever is later.
 */
#ifndef LIBSOCK_SERVICE_H
#define LIBSOCK_SERVICE_H

#include "libsock/ctx.h"

/* What was read from the control socket for somebody else. */
struct xinbox {
	pthread_mutex_t
		lock; /* whoever reads holds it; the last in any order */
	struct xhanded *handed; /* XTS_CTL_HANDED */
	struct xts_ctl_msg answer;
	int answer_fds[1 + XTS_MAX_CORES];
	uint32_t n_answer_fds;
	bool answered;
};

struct xsession {
	int control_fd;
	uint8_t *mem;
	uint64_t mem_size;
	uint32_t cores;
	uint32_t buf_size;
	bool keeps; /* XTS_F_KEEPS */
	bool takes; /* XTS_F_TAKES */
	_Atomic bool lost;
	_Atomic uint32_t refs; /* attached contexts, and one while current */
	struct xinbox inbox;
};

/* XTS_DISABLE is set */
bool xsvc_disabled(void);
/* NEW -> ASKING or KERNEL; joins c. */
void xsvc_ask(struct xsock *s, struct xctx *c);
/* The control message of a move; false: the service is gone. */
bool xsvc_move(struct xsock *s, struct xctx *to);
/* Lock of s->ctx held: XTS_CTL_HANDOVER. */
void xsvc_handover(struct xctx *c, const struct xsock *s);
/* The kernel socket that the service sent for a cookie, -1: none. */
int xsvc_handed(struct xsession *ss, uint64_t cookie);
/* FORKED -> LEAVING, joins c; 0 or -errno. */
int xsvc_claim(struct xsock *s, struct xctx *c);
/* The buffers of a connection that was reset may be used again; lock of a
 * context of the session held. */
void xsvc_release_buffers(struct xsession *ss, uint64_t cookie);
/* They are s's until then, and the memory stays; lock of s->ctx held. */
void xsvc_keep(struct xsock *s, struct xsession *ss);
void xsvc_unkeep(struct xsock *s);
/* Nonsense or a hang-up: nothing more is believed. Any lock may be held. */
void xsvc_lose(struct xsession *ss);
/* Asks the kernel whether the service still is there. */
void xsvc_check(struct xsession *ss);
void xsvc_put(struct xsession *ss);
/* A thread or polling context that ends; a new one, NULL: no memory. */
void xsvc_ctx_release(struct xctx *c);
struct xctx *xsvc_ctx_new(void);
/* Tells the service what it isn't told yet; false: a ring is full. */
bool xsvc_flush(void);
/* Context known to the service (service lock is taken); 0 or a reason. */
enum xts_reason xsvc_attach(struct xctx *c);

#endif
