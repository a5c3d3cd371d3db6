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

enum fd_kind {
	FD_NONE,
	FD_SOCKET,   /* a lent socket: number */
	FD_KERNEL,   /* a lent socket that stays in the kernel: number */
	FD_EPOLL,    /* an epoll: number, see epoll.c */
	FD_LISTENER, /* accepted from before; FD_F_TCP, number: the port */
	FD_PRIVATE,  /* the library's own: the program may not close it */
	FD_WATCHED,  /* a stranger, once registered in an epoll: number */
};
#define FD_F_TCP 0x100u /* FD_LISTENER */

#define FD_MAX (1u << 20)
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
/* The new descriptor copy has the same file as fd. */
void fd_copied(int fd, int copy);
/* fd is about to be replaced or closed by a call that isn't ours; what is
 * returned goes to one of the two below. */
uint64_t fd_begin_replace(int fd);
void fd_replaced(int fd, uint64_t word);
void fd_not_replaced(int fd, uint64_t word);
int fd_close(int fd, uint64_t word);
/* The highest descriptor that ever had a word. */
int fd_highest(void);
/* An established connection, or one to be, is ours from now on. */
void fd_adopt(int fd, bool accepted, bool nonblock);
/* It stays in the kernel: another thread may still look at number. */
void fd_demote(int fd, uint64_t word);
void fd_table_lock(void);
void fd_table_unlock(void);
void fd_table_child(void);
/* Counts what is open, for report.c */
void fd_count_open(void);

/* leave.c: the connection goes back to Linux; 0 or -errno. */
int sock_leave(int s, enum xts_reason reason);
/* Each of ours that exec() would pass on. */
void sock_leave_for_exec(void);

/* epoll.c */
void ep_opened(int epfd);
void ep_copied(int number);
void ep_closed(int number); /* a reference less */
void ep_child(void);
/* It is polled itself: keep its descriptor telling. */
void ep_promise(int number);

/* accept.c */
void adopt_inherited(void);
void adopt_passed(const struct msghdr *msg);

/* config.c */
struct preload_config {
	bool accept, connect; /* consider these at all */
	bool verbose;
	const char *report; /* XTS_REPORT, NULL: none */
};
extern struct preload_config config;
void config_read(void);
enum rule_way { RULE_ACCEPT, RULE_CONNECT };
/* Do the rules want a connection made to this address offloaded? */
bool rule_offloads(enum rule_way way, const struct sockaddr *to);
/* They differ by address: it has to be looked up. */
bool rule_needs_address(enum rule_way way);

/* report.c */
void report_count(int s); /* a socket of ours is about to be closed */
void report_not_ours(enum xts_reason reason); /* one that never was */
void report_write(bool at_exit);
void report_child(void);

/* stdio.c: a stream over one of ours */
FILE *stream_open(int fd, const char *mode);

/* signal.c: a blocked call on s ended with EINTR: is it to be gone on with? */
bool signal_restarts(void);
static inline void signal_begin(void)
{
	xlend_signals_seen = xlend_signals;
}

/* data.c: calls on a socket of ours */
ssize_t ours_recv(int fd, void *buf, size_t len, int flags);
ssize_t ours_send(int fd, const void *buf, size_t len, int flags);

/* Descriptors of the library's own: out of the program's way. */
int own_lift(int fd);

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#endif
