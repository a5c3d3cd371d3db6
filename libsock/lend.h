/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lend.h - what the library does for the interposer of tas-run
 *
 * A lent socket is an XTS socket whose shadow is a descriptor of the program's
 * own. It begins in phase NEW; Linux serves it (also in the program's epoll)
 * until the first xts_ call that moves data, which offers it to the service, or
 * the xlend_patience-th one if that is more than 1.
 * xts_close() closes the descriptor.
 *
 * A borrowed polling context is laid under an epoll of the program's: sockets
 * that are Linux's are registered there with the program's own event, and one
 * event with a mark as data says that the context has something to say. It
 * serves several threads at a time.
 *
 * Signals. Where a handler is known to have run (it counts xlend_signals, in
 * its thread) a call that waits returns EINTR, also out of its spinning:
 * xlend_signals_seen is that count when the call began.
 *
 * Not part of the library's interface: no symbol of these is exported.
 */
#ifndef LIBSOCK_LEND_H
#define LIBSOCK_LEND_H

#include "libsock/xts.h"
#include "libsock/xts_proto.h"

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#define XLEND_TLS __thread __attribute__((tls_model("initial-exec")))
extern XLEND_TLS uint32_t xlend_signals, xlend_signals_seen;

/* Of sockets that are adopted from now on */
extern uint32_t xlend_patience;
/* The interposer's; NULL: there is none. The program's descriptors of s, or
 * shadow, which it does not have, become copies of fd: Linux's socket in the
 * place of an old one. A context's lock is held. */
extern void (*xlend_replace)(int s, int shadow, int fd);
/* FORKED, and the program uses it: 0: it is something else now; or -errno. No
 * lock is held. */
extern int (*xlend_claim)(int s);
/* Another process has a descriptor of the same socket, an inherited one. */
extern bool (*xlend_is_shared)(int s);

/* Who serves a socket's data calls. */
enum xlend_state {
	XLEND_GONE,	 /* no socket of that number */
	XLEND_NEW,	 /* Linux, until it is offered */
	XLEND_KERNEL,	 /* Linux, for good */
	XLEND_ASKING,	 /* the service decides, or it changes its context */
	XLEND_OFFLOADED, /* the service */
	XLEND_FORKED,	 /* the service, for the parent of this process */
};

/* Before all others, so that what fork() needs is set up. */
void xlend_init(void);
/* An XTS number, or -1 with errno; fd stays open. accepted: it was ESTABLISHED
 * a moment ago. */
int xlend_adopt(int fd, bool accepted, bool nonblock);
enum xlend_state xlend_state(int s);
/* It was established a moment ago, and other processes may have it. */
void xlend_inherited(int s);
/* It stays with Linux, unless it was offered already; true: it does. */
bool xlend_keep(int s, enum xts_reason reason);
/* Its shadow is fd from now on: another descriptor of the same socket, or -1:
 * nobody knows what became of it. */
void xlend_reshadow(int s, int fd);
/* connect(2) is about to be called on its descriptor, whose owner is settled
 * then; it was, with AF_UNSPEC. */
void xlend_connects(int s);
void xlend_disconnected(int s);
/* Waits for the service's decision, until deadline_ns at most. */
void xlend_await(int s, uint64_t deadline_ns);
/* SO_RCVTIMEO, SO_SNDTIMEO of an offloaded socket is set. */
bool xlend_times_out(int s, bool sends);
/* The next call tells of it, as of a pending error. */
void xlend_set_error(int s, int err);
/* All that was sent is in the service's hands, or deadline_ns has passed. */
void xlend_flush(uint64_t deadline_ns);
/* The polling context it is registered in, NULL: none; it is so no more. */
void *xlend_registered(int s);
void xlend_unregister(int s);
/* Its name, also in children of fork(); 0: none of that number. The number of
 * such a name. */
uint64_t xlend_cookie(int s);
int xlend_number(uint64_t cookie);
/* FORKED: the descriptor it has is Linux's from now on, or for now if others
 * may have it, too. */
void xlend_taken(int s);

/* A context for xts_epoll_ctl(), xts_epoll_ctx_destroy(); NULL with errno. */
void *xlend_epoll_borrow(int epfd);
/* EPOLLEXCLUSIVE where Linux does not take it: EINVAL */
bool xlend_epoll_bad(int op, const struct epoll_event *ev);
/* Has the context something to return? From here on epfd itself is readable
 * when it has, and may be when it has not: ask again. */
bool xlend_epoll_has(void *ectx);
/* epoll_pwait(2); deadline_ns 0: don't wait, UINT64_MAX: for ever. */
int xlend_epoll_wait(void *ectx, struct epoll_event *events, int maxevents,
		     uint64_t deadline_ns, const sigset_t *mask);
/* What is left of n events of a borrowed epoll without marks. */
int xlend_epoll_filter(struct epoll_event *evs, int n, bool *marked);

/* ppoll(2). xs[i] is the XTS number of fds[i], or 0. With select, what the call
 * waits for, and revents, are by the bits that select(2) takes for readable
 * (POLLIN asked for), writable (POLLOUT) and exceptional (POLLPRI). */
#define XLEND_IN_SET (POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR)
#define XLEND_OUT_SET (POLLWRBAND | POLLWRNORM | POLLOUT | POLLERR)
#define XLEND_EX_SET POLLPRI
int xlend_poll(struct pollfd *fds, const int *xs, nfds_t n,
	       uint64_t deadline_ns, const sigset_t *mask, bool select);

#endif
