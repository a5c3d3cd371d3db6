/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * measure.h - what the benchmark programs share: clock, histogram, stacks
 *
 * A stack is a table of the calls that a benchmark makes, with kernel sockets
 * or with XTS sockets behind it, so that one program text measures both.
 */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>

/* ---- options and errors -------------------------------------------------- */

__attribute__((format(printf, 1, 2), noreturn)) void die(const char *fmt, ...);
/* die() with ": " and errno's text behind it */
__attribute__((format(printf, 1, 2), noreturn)) void die_errno(const char *fmt,
							       ...);

/* A number in [min, max], or die() naming the option. */
unsigned long number_parse(const char *option, const char *text,
			   unsigned long min, unsigned long max);
/* A numeric IPv4 or IPv6 address and a port. */
socklen_t address_parse(const char *text, unsigned int port,
			struct sockaddr_storage *ss);
/* Ends the program with a message after so many seconds: nothing that waits
 * for a lost frame hangs for ever. */
void deadline_set(unsigned int seconds);
void descriptors_raise(void);

/* ---- clock and histogram ------------------------------------------------- */

uint64_t now_ns(void);

/*
 * Log-linear histogram of nanoseconds: exact below 2048 ns, then 1024 buckets
 * per power of two (0.1 %), up to 2^40 ns (18 minutes).
 */
#define HIST_SUB_BITS 10u
#define HIST_MAX_BITS 40u
#define HIST_BUCKETS ((HIST_MAX_BITS - HIST_SUB_BITS + 1) << HIST_SUB_BITS)

struct hist {
	uint64_t n;
	uint64_t sum_ns;
	uint64_t max_ns;
	uint32_t count[HIST_BUCKETS];
};

void hist_add(struct hist *h, uint64_t ns);
/* The smallest value that a share q of the samples does not exceed. */
uint64_t hist_quantile(const struct hist *h, double q);
/* "avg_us", "p50_us", "p99_us", "p9999_us", "max_us", "n", "rps" lines */
void hist_print(const struct hist *h, uint64_t elapsed_ns);

/* Frames that an interface of this network namespace received and sent. */
struct frames {
	uint64_t rx, tx;
};
bool frames_read(const char *ifname, struct frames *f);

/* ---- stacks ---------------------------------------------------------------*/

struct stack {
	const char *name;
	int (*socket)(int domain, int type, int protocol);
	int (*bind)(int s, const struct sockaddr *addr, socklen_t len);
	int (*listen)(int s, int backlog);
	int (*accept4)(int s, struct sockaddr *addr, socklen_t *len, int flags);
	int (*connect)(int s, const struct sockaddr *addr, socklen_t len);
	ssize_t (*send)(int s, const void *buf, size_t len, int flags);
	ssize_t (*recv)(int s, void *buf, size_t len, int flags);
	int (*setsockopt)(int s, int level, int name, const void *val,
			  socklen_t len);
	int (*getsockopt)(int s, int level, int name, void *val,
			  socklen_t *len);
	int (*close)(int s);
	/* NULL if the stack carries s itself, else why it does not */
	const char *(*not_offloaded)(int s);
	void *(*poller_create)(void);
	int (*poller_destroy)(void *p);
	int (*poller_ctl)(void *p, int op, int s, struct epoll_event *ev);
	int (*poller_wait)(void *p, struct epoll_event *ev, int max,
			   int timeout_ms);
};

extern const struct stack stack_kernel, stack_xts;
const struct stack *stack_find(const char *name); /* die()s */

/* TCP_NODELAY, and cubic whatever this host's default is; accepted sockets
 * inherit both from their listener. */
void socket_tune(const struct stack *st, int s);
void socket_linger_reset(const struct stack *st, int s);

#endif
