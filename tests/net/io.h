/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * io.h - one set of socket calls for the test programs, two implementations
 *
 * A test program plays either side of a connection. io_use_xts picks what its
 * calls mean: xts_* of libsock, or the kernel's own. A loop is a polling
 * context of either kind. Programs are small and each links only libsock, so
 * the helpers are inline functions; the state here belongs to the program.
 */
#ifndef TESTS_NET_IO_H
#define TESTS_NET_IO_H

#include "libsock/xts.h"
#include "libsock/xts_proto.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static bool io_use_xts;	    /* set once, before threads start */
static bool io_wait_in_xts; /* xts_epoll_wait() instead of an own epoll */

#define IO_CALL(f, ...) (io_use_xts ? xts_##f(__VA_ARGS__) : f(__VA_ARGS__))

static inline void __attribute__((noreturn, format(printf, 1, 2)))
io_die(const char *fmt, ...)
{
	int err = errno;
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, ": %s\n", strerror(err));
	exit(1);
}

static inline uint64_t io_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static inline void io_sleep_ms(unsigned int ms)
{
	struct timespec ts = {.tv_sec = ms / 1000,
			      .tv_nsec = (long)(ms % 1000) * 1000000};

	while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
		;
}

/* An IPv4 or IPv6 address and a port; exits on nonsense. */
static inline socklen_t io_addr(struct sockaddr_storage *ss, const char *text,
				const char *port)
{
	struct sockaddr_in *in = (struct sockaddr_in *)ss;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ss;
	in_port_t p = htons((uint16_t)atoi(port));

	memset(ss, 0, sizeof(*ss));
	if (inet_pton(AF_INET, text, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		in->sin_port = p;
		return sizeof(*in);
	}
	if (inet_pton(AF_INET6, text, &in6->sin6_addr) == 1) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = p;
		return sizeof(*in6);
	}
	fprintf(stderr, "not an address: %s\n", text);
	exit(2);
}

static inline int io_socket(int domain, int type)
{
	return IO_CALL(socket, domain, type, 0);
}

static inline int io_set(int s, int level, int name, int val)
{
	return IO_CALL(setsockopt, s, level, name, &val, sizeof(val));
}

static inline int io_error(int s)
{
	int err = 0;
	socklen_t len = sizeof(err);

	if (IO_CALL(getsockopt, s, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
		return errno;
	return err;
}

static inline int io_connect(int s, const struct sockaddr_storage *ss,
			     socklen_t len)
{
	return IO_CALL(connect, s, (const struct sockaddr *)ss, len);
}

static inline int io_accept(int s, int flags)
{
	return IO_CALL(accept4, s, NULL, NULL, flags);
}

static inline ssize_t io_send(int s, const void *buf, size_t len, int flags)
{
	return IO_CALL(send, s, buf, len, flags | MSG_NOSIGNAL);
}

static inline ssize_t io_recv(int s, void *buf, size_t len, int flags)
{
	return IO_CALL(recv, s, buf, len, flags);
}

static inline int io_close(int s)
{
	return IO_CALL(close, s);
}

static inline int io_shut_wr(int s)
{
	return IO_CALL(shutdown, s, SHUT_WR);
}

/* The next close() sends RST. */
static inline void io_linger_reset(int s)
{
	struct linger l = {.l_onoff = 1, .l_linger = 0};

	if (IO_CALL(setsockopt, s, SOL_SOCKET, SO_LINGER, &l, sizeof(l)) < 0)
		io_die("SO_LINGER");
}

static inline int io_listener(const struct sockaddr_storage *ss, socklen_t len,
			      int type_flags, int backlog, bool reuse_port)
{
	int s = io_socket(ss->ss_family, SOCK_STREAM | type_flags);

	if (s < 0)
		io_die("socket");
	io_set(s, SOL_SOCKET, SO_REUSEADDR, 1);
	if (reuse_port)
		io_set(s, SOL_SOCKET, SO_REUSEPORT, 1);
	if (IO_CALL(bind, s, (const struct sockaddr *)ss, len) < 0)
		io_die("bind");
	if (IO_CALL(listen, s, backlog) < 0)
		io_die("listen");
	return s;
}

/* ---- loops --------------------------------------------------------------- */

/* ectx: NULL for the kernel's sockets; epfd: the program's own epoll, which
 * with XTS holds the context's descriptor, as in the XTS paper's loop. */
struct io_loop {
	void *ectx;
	int epfd;
};

static inline void io_loop_open(struct io_loop *l)
{
	struct epoll_event ev = {.events = EPOLLIN};

	l->ectx = NULL;
	l->epfd = epoll_create1(0);
	if (l->epfd < 0)
		io_die("epoll_create1");
	if (!io_use_xts)
		return;
	l->ectx = xts_epoll_ctx_create();
	if (!l->ectx)
		io_die("xts_epoll_ctx_create");
	ev.data.ptr = l->ectx;
	if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, xts_epoll_fd(l->ectx), &ev) < 0)
		io_die("epoll_ctl of the context");
}

static inline int io_loop_ctl(struct io_loop *l, int op, int s, uint32_t events,
			      void *ptr)
{
	struct epoll_event ev = {.events = events, .data.ptr = ptr};

	return l->ectx ? xts_epoll_ctl(l->ectx, op, s, &ev)
		       : epoll_ctl(l->epfd, op, s, &ev);
}

static inline int io_loop_wait(struct io_loop *l, struct epoll_event *evs,
			       int max, int timeout_ms)
{
	struct epoll_event own;
	int n;

	if (!l->ectx)
		return epoll_wait(l->epfd, evs, max, timeout_ms);
	if (io_wait_in_xts)
		return xts_epoll_wait(l->ectx, evs, max, timeout_ms);
	n = xts_epoll(l->ectx, evs, max);
	if (n != 0)
		return n;
	n = epoll_wait(l->epfd, &own, 1, timeout_ms);
	if (n <= 0)
		return n;
	return xts_epoll(own.data.ptr, evs, max);
}

#endif
