/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * own.c - descriptors of the library's own, inside a program's number space
 *
 * Programs rely on the lowest free number (close(0), open()), use select() on
 * small ones, and close whatever they did not open. So what the library opens
 * is moved up, above the numbers that most programs ever see, and its words say
 * FD_PRIVATE: the program's close() finds nothing there, its dup2() onto it
 * fails with EBUSY.
 *
 * Memory: none. As many descriptors as the library has: a few for each thread
 * that blocks and each epoll.
 */
#include "libsock/preload/preload.h"

#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define BASE 960 /* above it, as long as the limit allows */

int own_socket(int domain, int type, int protocol);
int own_epoll_create1(int flags);
int own_eventfd(unsigned int value, int flags);
int own_close(int fd);
int own_fcntl(int fd, int cmd, ...);
ssize_t own_recvmsg(int fd, struct msghdr *msg, int flags);

static int base(void)
{
	struct rlimit lim;
	rlim_t n;

	if (getrlimit(RLIMIT_NOFILE, &lim))
		return 0;
	n = lim.rlim_cur / 4 * 3;
	return n < BASE ? (int)n : BASE;
}

int own_lift(int fd)
{
	int up, err = errno;

	if (fd < 0)
		return fd;
	up = real.fcntl(fd, F_DUPFD_CLOEXEC, base());
	if (up >= 0)
		real.close(fd);
	else
		up = fd; /* at its limit: better here than not at all */
	errno = err;
	fd_set_word(up, fd_make(FD_PRIVATE, 0, 0));
	return up;
}

int own_copy(int fd)
{
	int up = real.fcntl(fd, F_DUPFD_CLOEXEC, base());

	if (up >= 0)
		fd_set_word(up, fd_make(FD_PRIVATE, 0, 0));
	return up;
}

int own_socket(int domain, int type, int protocol)
{
	return own_lift(real.socket(domain, type, protocol));
}

int own_epoll_create1(int flags)
{
	return own_lift(real.epoll_create1(flags));
}

int own_eventfd(unsigned int value, int flags)
{
	return own_lift(real.eventfd(value, flags));
}

/* Also of a program's descriptor whose word is gone already. */
int own_close(int fd)
{
	if (fd_kind_of(fd_word(fd)) == FD_PRIVATE)
		fd_set_word(fd, 0);
	return real.close(fd);
}

int own_fcntl(int fd, int cmd, ...)
{
	va_list ap;
	long arg;

	va_start(ap, cmd);
	arg = va_arg(ap, long);
	va_end(ap);
	if (cmd == F_DUPFD_CLOEXEC)
		return own_copy(fd);
	return real.fcntl(fd, cmd, arg);
}

/* On the control socket: its descriptors are the library's. */
ssize_t own_recvmsg(int fd, struct msghdr *msg, int flags)
{
	ssize_t n = real.recvmsg(fd, msg, flags);
	struct cmsghdr *cm;
	size_t i, count;
	int got;

	if (n < 0 || fd_kind_of(fd_word(fd)) != FD_PRIVATE)
		return n;
	for (cm = CMSG_FIRSTHDR(msg); cm; cm = CMSG_NXTHDR(msg, cm)) {
		if (cm->cmsg_level != SOL_SOCKET || cm->cmsg_type != SCM_RIGHTS)
			continue;
		count = (cm->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (i = 0; i < count; i++) {
			memcpy(&got, CMSG_DATA(cm) + i * sizeof(int),
			       sizeof(got));
			got = own_lift(got);
			memcpy(CMSG_DATA(cm) + i * sizeof(int), &got,
			       sizeof(got));
		}
	}
	return n;
}
