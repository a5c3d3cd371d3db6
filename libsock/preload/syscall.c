/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * syscall.c - syscall(2) with the number of a call that is interposed
 *
 * Some libraries call the kernel so for what an older libc does not have. Only
 * those on sockets, epolls and descriptors are ours, and those that begin a
 * sandbox (sandbox.c); a program that enters the kernel by instructions of its
 * own does so past us. A connection that a ring of io_uring is given by this
 * way is handed over.
 */
#include "libsock/preload/preload.h"

#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <unistd.h>

/* number, the call with arguments v[0..5] */
#define CALLS(X)                                                               \
	X(SYS_read, read(I(0), P(1), (size_t)v[2]))                            \
	X(SYS_write, write(I(0), P(1), (size_t)v[2]))                          \
	X(SYS_readv, readv(I(0), P(1), I(2)))                                  \
	X(SYS_writev, writev(I(0), P(1), I(2)))                                \
	X(SYS_close, close(I(0)))                                              \
	X(SYS_dup, dup(I(0)))                                                  \
	X(SYS_dup3, dup3(I(0), I(1), I(2)))                                    \
	X(SYS_fcntl, fcntl(I(0), I(1), v[2]))                                  \
	X(SYS_ioctl, ioctl(I(0), (unsigned long)v[1], v[2]))                   \
	X(SYS_socket, socket(I(0), I(1), I(2)))                                \
	X(SYS_connect, connect(I(0), P(1), (socklen_t)v[2]))                   \
	X(SYS_listen, listen(I(0), I(1)))                                      \
	X(SYS_accept, accept(I(0), P(1), P(2)))                                \
	X(SYS_accept4, accept4(I(0), P(1), P(2), I(3)))                        \
	X(SYS_shutdown, shutdown(I(0), I(1)))                                  \
	X(SYS_getsockopt, getsockopt(I(0), I(1), I(2), P(3), P(4)))            \
	X(SYS_setsockopt, setsockopt(I(0), I(1), I(2), P(3), (socklen_t)v[4])) \
	X(SYS_sendto,                                                          \
	  sendto(I(0), P(1), (size_t)v[2], I(3), P(4), (socklen_t)v[5]))       \
	X(SYS_recvfrom, recvfrom(I(0), P(1), (size_t)v[2], I(3), P(4), P(5)))  \
	X(SYS_sendmsg, sendmsg(I(0), P(1), I(2)))                              \
	X(SYS_recvmsg, recvmsg(I(0), P(1), I(2)))                              \
	X(SYS_sendmmsg, sendmmsg(I(0), P(1), (unsigned int)v[2], I(3)))        \
	X(SYS_recvmmsg, recvmmsg(I(0), P(1), (unsigned int)v[2], I(3), P(4)))  \
	X(SYS_sendfile, sendfile(I(0), I(1), P(2), (size_t)v[3]))              \
	X(SYS_splice,                                                          \
	  splice(I(0), P(1), I(2), P(3), (size_t)v[4], (unsigned int)v[5]))    \
	X(SYS_epoll_create1, epoll_create1(I(0)))                              \
	X(SYS_epoll_ctl, epoll_ctl(I(0), I(1), I(2), P(3)))                    \
	X(SYS_epoll_pwait, epoll_pwait(I(0), P(1), I(2), I(3), P(4)))          \
	X(SYS_epoll_pwait2, epoll_pwait2(I(0), P(1), I(2), P(3), P(4)))        \
	X(SYS_ppoll, ppoll(P(0), (nfds_t)v[1], P(2), P(3)))                    \
	X(SYS_preadv2, preadv2(I(0), P(1), I(2), v[3], I(5)))                  \
	X(SYS_pwritev2, pwritev2(I(0), P(1), I(2), v[3], I(5)))                \
	X(SYS_execve, execve(P(0), P(1), P(2)))                                \
	X(SYS_execveat, execveat(I(0), P(1), P(2), P(3), I(4)))                \
	X(SYS_prctl, prctl(I(0), v[1], v[2], v[3], v[4]))                      \
	X(SYS_prlimit64, prlimit(I(0), I(1), P(2), P(3)))                      \
	X(SYS_close_range,                                                     \
	  close_range((unsigned int)v[0], (unsigned int)v[1], I(2)))

#define I(n) ((int)v[n])
#define P(n) ((void *)v[n])

/* Files that a ring is given. */
static void leave_for_ring(int op, const void *arg, int n)
{
	struct io_uring_files_update up;
	struct io_uring_rsrc_register reg;
	const int *fds = NULL;
	int i;

	if (op == IORING_REGISTER_FILES) {
		fds = arg;
	} else if (op == IORING_REGISTER_FILES_UPDATE && arg) {
		memcpy(&up, arg, sizeof(up));
		fds = (const int *)(uintptr_t)up.fds;
	} else if (op == IORING_REGISTER_FILES2 && arg) {
		memcpy(&reg, arg, sizeof(reg));
		fds = (const int *)(uintptr_t)reg.data;
		n = (int)reg.nr;
	}
	for (i = 0; fds && i < n; i++)
		sock_leave_fd(fds[i]);
}

long syscall(long number, ...)
{
	long v[6];
	va_list ap;
	int i;

	va_start(ap, number);
	for (i = 0; i < 6; i++)
		v[i] = va_arg(ap, long);
	va_end(ap);
	if (number == SYS_seccomp && sandbox_filters((int)v[0], P(2)))
		sandbox_begin();
	switch (number) {
#define X(nr, call)                                                            \
	case nr:                                                               \
		return call;
		CALLS(X)
#undef X
	case SYS_pselect6:
		return pselect(I(0), P(1), P(2), P(3), P(4),
			       v[5] ? *(const sigset_t *const *)v[5] : NULL);
	case SYS_exit_group:
		_exit(I(0));
	case SYS_io_uring_register:
		leave_for_ring(I(1), P(2), I(3));
		break;
#ifdef SYS_poll /* x86-64; newer CPUs have but one of each */
	case SYS_poll:
		return poll(P(0), (nfds_t)v[1], I(2));
	case SYS_epoll_create:
		return epoll_create(I(0));
	case SYS_epoll_wait:
		return epoll_wait(I(0), P(1), I(2), I(3));
	case SYS_dup2:
		return dup2(I(0), I(1));
	case SYS_select:
		return select(I(0), P(1), P(2), P(3), P(4));
	case SYS_fork:
	case SYS_vfork:
		return fork();
#endif
	}
	return real.syscall(number, v[0], v[1], v[2], v[3], v[4], v[5]);
}
