/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * preload.h - the interposer of tas-run: what its files share (private)
 *
 * Read lend.h first. The descriptor that the program holds is the kernel's
 * socket; which descriptors are ours says a table of words, one for each
 * possible descriptor. A call on one that is not ours costs one look at its
 * word.
 *
 * A word: its kind in the lowest byte, what else is known in the upper 32 bits
 * (number), flags between them. Words are copied to a descriptor's duplicates.
 * 0 is a descriptor that we know nothing of. Nothing is freed that a word
 * names: a thread that read a word of a moment ago does no more harm than one
 * that read its descriptor's number a moment ago.
 */
#ifndef LIBSOCK_PRELOAD_H
#define LIBSOCK_PRELOAD_H

#include "libsock/lend.h"
#include "libsock/preload/real.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

/* All but the calls that libc has, too */
#pragma GCC visibility push(hidden)

enum fd_kind {
	FD_NONE,
	FD_SOCKET,   /* a lent socket: number */
	FD_KERNEL,   /* a lent socket that stays in the kernel: number */
	FD_EPOLL,    /* an epoll: number, see epoll.c */
	FD_LISTENER, /* accepted from before; FD_F_TCP, number: the port */
	FD_PRIVATE,  /* the library's own: the program may not close it */
};
#define FD_F_TCP 0x100u /* FD_LISTENER */

#define FD_MAX (1u << 20)
#define XSOCK_NUMBERS_FROM 1 /* XTS numbers: as many as FD_MAX, from here */
/* Zero pages until they are used. */
extern _Atomic uint64_t fd_words[FD_MAX];

static inline uint64_t fd_word(int fd)
{
	return (uint32_t)fd < FD_MAX
		       ? atomic_load_explicit(&fd_words[fd],
					      memory_order_relaxed)
		       : 0;
}
static inline enum fd_kind fd_kind_of(uint64_t word)
{
	return (enum fd_kind)(word & 0xff);
}
static inline int fd_number_of(uint64_t word)
{
	return (int)(word >> 32);
}
static inline uint64_t fd_make(enum fd_kind kind, uint32_t flags, int number)
{
	return (uint64_t)(uint32_t)number << 32 | flags | kind;
}
/* The XTS number of a socket that may be offloaded; 0: libc's business. */
static inline int fd_socket(int fd)
{
	uint64_t word = fd_word(fd);

	return __builtin_expect(fd_kind_of(word) == FD_SOCKET, 0)
		       ? fd_number_of(word)
		       : 0;
}

/* table.c. What the program did to a descriptor: */
void fd_set_word(int fd, uint64_t word);
/* The new descriptor copy has the same file as fd. before: fd_swaps() as it was
 * before that was made. */
void fd_copied(int fd, int copy, uint32_t before);
uint32_t fd_swaps(void);
/* All descriptors of a socket, and its shadow, become copies of fd. */
void fd_replace_all(int s, int shadow, int fd);
/* fd is about to be replaced by another file; then one of the two. */
struct fd_replace {
	uint64_t word;
	bool last;
	int parked; /* a copy of it, if it was the last */
};
struct fd_replace fd_begin_replace(int fd);
void fd_replaced(struct fd_replace *r);
void fd_not_replaced(int fd, struct fd_replace *r);
int fd_close(int fd, uint64_t word);
/* The highest descriptor that ever had a word. */
int fd_highest(void);
/* An established connection, or one to be, is ours from now on. */
void fd_adopt(int fd, bool accepted, bool nonblock);
/* A descriptor of ours with the same file, -1: none */
int fd_of_same_file(int fd);
/* One of the descriptors of s does: the same one until they change. */
bool fd_stands_for(int fd, int s);
/* fd was just made by the kernel: what its word says is of an older file. */
void fd_fresh(int fd);
/* It never was a connection. */
void fd_disown(int fd, uint64_t word);
/* It stays in the kernel: another thread may still look at number. */
void fd_demote(int fd, uint64_t word);
void fd_table_lock(void);
void fd_table_unlock(void);
void fd_table_child(void);
/* Counts what is open, for report.c */
void fd_count_open(void);

/* The XTS number of a socket that may be offloaded; 0: libc's business. One
 * that turned out to be Linux's is forgotten. */
int fd_settle(int fd, int s);
static inline int fd_ours(int fd)
{
	int s = fd_socket(fd);

	return __builtin_expect(s, 0) ? fd_settle(fd, s) : 0;
}

/* leave.c: Linux serves it from now on; 0 or -errno. */
int sock_leave(int s, enum xts_reason reason);
int sock_leave_fd(int fd);
/* The same, only if it was not offloaded yet. */
bool sock_keep(int s, enum xts_reason reason);
/* XLEND_FORKED: it isn't any more; or -errno. */
int sock_claim(int s);
/* Each of ours that exec() passes on; that goes to another process with msg: -1
 * with errno if one can't. */
void sock_leave_for_exec(void);
int sock_leave_passed(const struct msghdr *msg);

/* family.c. Held while a socket's descriptors change: */
void family_lock(void);
void family_unlock(void);
/* Locked: the children that have s get a copy of fd, Linux's socket. */
void family_push(int s, int fd);
/* Do children have it? Then it stays open, although the program has closed it.
 */
bool family_shares(int s);
bool family_keep(int s);
/* XLEND_FORKED: asks the parent for it: 0: done, -errno, 1: there is nobody to
 * ask. It is closed. */
int family_want(int s);
void family_closed(int s);
/* Are there ancestors to ask? They look at their contexts under that epoll: it
 * is readable if one has something. */
bool family_asks(void);
void family_look(int epoll);
/* The process ends, or becomes another program; it goes on without a thread. */
void family_leave(void);
void family_end(void);
/* Around fork() */
void family_prepare(void);
void family_parent(void);
void family_begin(void);
void family_child(void);
void family_child_end(void);

/* sandbox.c: nothing can be asked of anybody from now on */
void sandbox_begin(void);
/* Does seccomp(2) with these begin one? */
bool sandbox_filters(int operation, const void *filter);

/* epoll.c: a descriptor more, or less */
void ep_copied(int number);
void ep_closed(int number);
void ep_child(void);
/* The descriptor by which socket s is in an epoll, -1: in none */
int ep_registered_by(int s);
/* It is polled itself: it is readable when its context has something. false: it
 * has none. */
bool ep_promise(int number);
/* After a wait that says it is readable: is it? */
bool ep_readable(int epfd, int number);
/* A child that has it looks at it. */
void ep_look(int number);

/* sockets.c */
void adopt_inherited(void);
void adopt_passed(int by, const struct msghdr *msg);

/* share.c: is a socket that was inherited or passed on another process's, too?
 * s came by a descriptor. */
bool share_exists(int s);
void share_passed(int s, int by);

/* config.c */
struct preload_config {
	bool accept, connect; /* consider these at all */
	const char *report;   /* XTS_REPORT, NULL: none */
	const char *program;  /* its name, for that */
};
extern struct preload_config config;
void config_read(void);
/* Does the operator want this connection offloaded? Where there are no rules
 * only the server's end is looked at: local if it was accepted, peer if not. */
bool rule_offloads(bool accepted, const struct sockaddr *local,
		   const struct sockaddr *peer);
bool config_has_rules(void);

/* report.c: a socket of ours is about to be closed; one that never was ours */
void report_count(int s);
void report_not_ours(enum xts_reason reason);
void report_write(void);
void report_child(void);

/* signal.c: handlers that end the calls they interrupt, and that did when this
 * call began. Is one that ended with EINTR to be gone on with? */
extern XLEND_TLS uint32_t signal_ending, signal_ending_seen;
bool signal_restarts(int s, bool sends);
static inline void signal_begin(void)
{
	xlend_signals_seen = xlend_signals;
	signal_ending_seen = signal_ending;
}

/* data.c: on a socket of ours */
ssize_t ours_recv(int s, void *buf, size_t len, int flags);
ssize_t ours_send(int s, const void *buf, size_t len, int flags);

/* Where nobody has memory: the kernel's half of the addresses; there, and the
 * first page. A call says EFAULT at once to one of the former, to one of the
 * latter when it has something to put there, or to take. */
static inline bool memory_kernels(const void *p)
{
#ifdef __aarch64__ /* the highest byte may be a tag */
	return (int64_t)((uint64_t)p << 8) < 0;
#else
	return (intptr_t)p < 0;
#endif
}
static inline bool memory_none(const void *p)
{
	return __builtin_expect(memory_kernels(p) || (uintptr_t)p < 4096, 0);
}

/* own.c: descriptors of the library's own, out of the program's way. fd itself
 * moves; a copy of it (-1 with errno). */
int own_lift(int fd);
int own_copy(int fd);

/* CLOCK_MONOTONIC; deadlines for lend.h: 0 don't wait, UINT64_MAX for ever */
static inline uint64_t time_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}
static inline uint64_t time_deadline_ms(int ms)
{
	return ms < 0	 ? UINT64_MAX
	       : ms == 0 ? 0
			 : time_ns() + (uint64_t)ms * 1000000u;
}
/* Linux says what is wrong with one that is not. */
static inline bool time_valid(const struct timespec *ts)
{
	return !ts || (!memory_none(ts) && ts->tv_sec >= 0 &&
		       (unsigned long)ts->tv_nsec < 1000000000u);
}
static inline uint64_t time_deadline(const struct timespec *ts)
{
	uint64_t ns;

	if (!ts)
		return UINT64_MAX;
	if (ts->tv_sec >= INT32_MAX)
		return UINT64_MAX;
	ns = (uint64_t)ts->tv_sec * 1000000000u + (uint64_t)ts->tv_nsec;
	return ns ? time_ns() + ns : 0;
}

#pragma GCC visibility pop

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#endif
