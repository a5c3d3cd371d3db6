/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * real.c - finding libc's own functions, and lending them to libsock
 *
 * Read real.h first. The library's objects that go into the interposer have
 * their calls of interposed functions renamed to real_NAME (real.syms), so that
 * they reach libc and not the program's view of its descriptors; own.c has the
 * few that make, take or close descriptors.
 *
 * Any thread may resolve, several at once: all write the same values.
 */
#include "libsock/preload/preload.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <string.h>

/* What this libc does not have: nothing can call it there. */
static long absent(void)
{
	errno = ENOSYS;
	return -1;
}

static void *find(const char *name)
{
	void *f = dlsym(RTLD_NEXT, name);

	return f ? f : (void *)absent;
}

static void resolve(void)
{
	int err = errno;

/* NOLINTBEGIN(bugprone-macro-parentheses): types can't have them */
#define X(ret, name, params, args)                                             \
	real.name = (ret(*) params)(uintptr_t)find(#name);
	PRELOAD_REAL(X)
#undef X
	/* NOLINTEND(bugprone-macro-parentheses) */
	errno = err;
}

#define X(ret, name, params, args)                                             \
	static ret first_##name params                                         \
	{                                                                      \
		resolve();                                                     \
		return real.name args;                                         \
	}
PRELOAD_REAL(X)
#undef X

struct preload_real real = {
#define X(ret, name, params, args) .name = first_##name,
	PRELOAD_REAL(X)
#undef X
};

/* ---- what libsock calls ---------------------------------------------------
 */

#define LENT(X)                                                                \
	X(int, accept4, (int fd, struct sockaddr *a, socklen_t *l, int f),     \
	  (fd, a, l, f))                                                       \
	X(int, bind, (int fd, const struct sockaddr *a, socklen_t l),          \
	  (fd, a, l))                                                          \
	X(int, connect, (int fd, const struct sockaddr *a, socklen_t l),       \
	  (fd, a, l))                                                          \
	X(int, listen, (int fd, int n), (fd, n))                               \
	X(int, shutdown, (int fd, int how), (fd, how))                         \
	X(int, epoll_ctl, (int ep, int op, int fd, struct epoll_event *e),     \
	  (ep, op, fd, e))                                                     \
	X(int, epoll_wait, (int ep, struct epoll_event *e, int n, int t),      \
	  (ep, e, n, t))                                                       \
	X(int, epoll_pwait,                                                    \
	  (int ep, struct epoll_event *e, int n, int t, const sigset_t *m),    \
	  (ep, e, n, t, m))                                                    \
	X(int, poll, (struct pollfd * p, nfds_t n, int t), (p, n, t))          \
	X(int, ppoll,                                                          \
	  (struct pollfd * p, nfds_t n, const struct timespec *t,              \
	   const sigset_t *m),                                                 \
	  (p, n, t, m))                                                        \
	X(int, getsockname, (int fd, struct sockaddr *a, socklen_t *l),        \
	  (fd, a, l))                                                          \
	X(int, getpeername, (int fd, struct sockaddr *a, socklen_t *l),        \
	  (fd, a, l))                                                          \
	X(int, getsockopt, (int fd, int l, int n, void *v, socklen_t *len),    \
	  (fd, l, n, v, len))                                                  \
	X(int, setsockopt,                                                     \
	  (int fd, int l, int n, const void *v, socklen_t len),                \
	  (fd, l, n, v, len))                                                  \
	X(ssize_t, recvfrom,                                                   \
	  (int fd, void *b, size_t n, int f, struct sockaddr *a,               \
	   socklen_t *l),                                                      \
	  (fd, b, n, f, a, l))                                                 \
	X(ssize_t, sendto,                                                     \
	  (int fd, const void *b, size_t n, int f, const struct sockaddr *a,   \
	   socklen_t l),                                                       \
	  (fd, b, n, f, a, l))                                                 \
	X(ssize_t, sendmsg, (int fd, const struct msghdr *m, int f),           \
	  (fd, m, f))                                                          \
	X(ssize_t, write, (int fd, const void *b, size_t n), (fd, b, n))

#define X(ret, name, params, args)                                             \
	ret real_##name params;                                                \
	ret real_##name params                                                 \
	{                                                                      \
		return real.name args;                                         \
	}
LENT(X)
#undef X

int real_fcntl(int fd, int cmd, ...);
int real_ioctl(int fd, unsigned long request, ...);

int real_fcntl(int fd, int cmd, ...)
{
	va_list ap;
	long arg;

	va_start(ap, cmd);
	arg = va_arg(ap, long);
	va_end(ap);
	return real.fcntl(fd, cmd, arg);
}

int real_ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	return real.ioctl(fd, request, arg);
}
