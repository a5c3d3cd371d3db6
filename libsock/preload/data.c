/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * data.c - the calls that move data
 *
 * On a descriptor that is not ours each of these is one look at a word and a
 * tail call. On one of ours the first of them offers the connection to the
 * service. A call that a signal interrupted goes on where Linux's would.
 *
 * The __NAME_chk functions are what programs built with _FORTIFY_SOURCE call.
 */
#include "libsock/preload/preload.h"

#include <limits.h>
#include <string.h>
#include <sys/uio.h>

ssize_t __read_chk(int fd, void *buf, size_t len, size_t size);
ssize_t __recv_chk(int fd, void *buf, size_t len, size_t size, int flags);
ssize_t __recvfrom_chk(int fd, void *buf, size_t len, size_t size, int flags,
		       struct sockaddr *addr, socklen_t *alen);
void __chk_fail(void) __attribute__((noreturn));

/* ---- on sockets of ours ----------------------------------------------------
 */

ssize_t ours_recv(int s, void *buf, size_t len, int flags)
{
	ssize_t n;

	signal_begin();
	do
		n = xts_recv(s, buf, len, flags);
	while (n < 0 && errno == EINTR && signal_restarts(s, false));
	return n;
}

ssize_t ours_send(int s, const void *buf, size_t len, int flags)
{
	ssize_t n;

	signal_begin();
	do
		n = xts_send(s, buf, len, flags);
	while (n < 0 && errno == EINTR && signal_restarts(s, true));
	return n;
}

static ssize_t ours_recvfrom(int s, void *buf, size_t len, int flags,
			     struct sockaddr *addr, socklen_t *alen)
{
	ssize_t n;

	signal_begin();
	do
		n = xts_recvfrom(s, buf, len, flags, addr, alen);
	while (n < 0 && errno == EINTR && signal_restarts(s, false));
	return n;
}

static ssize_t ours_recvmsg(int s, struct msghdr *msg, int flags)
{
	ssize_t n;

	signal_begin();
	do
		n = xts_recvmsg(s, msg, flags);
	while (n < 0 && errno == EINTR && signal_restarts(s, false));
	return n;
}

static ssize_t ours_sendmsg(int s, const struct msghdr *msg, int flags)
{
	ssize_t n;

	signal_begin();
	do
		n = xts_sendmsg(s, msg, flags);
	while (n < 0 && errno == EINTR && signal_restarts(s, true));
	return n;
}

static bool iov_bad(const struct iovec *iov, int n)
{
	if (n >= 0 && n <= IOV_MAX)
		return false;
	errno = EINVAL;
	return true;
}

static ssize_t ours_readv(int s, const struct iovec *iov, int n)
{
	struct msghdr msg = {.msg_iov = (struct iovec *)iov,
			     .msg_iovlen = (size_t)n};

	return iov_bad(iov, n) ? -1 : ours_recvmsg(s, &msg, 0);
}

static ssize_t ours_writev(int s, const struct iovec *iov, int n)
{
	struct msghdr msg = {.msg_iov = (struct iovec *)iov,
			     .msg_iovlen = (size_t)n};

	return iov_bad(iov, n) ? -1 : ours_sendmsg(s, &msg, 0);
}

/* ---- receiving -------------------------------------------------------------
 */

ssize_t read(int fd, void *buf, size_t len)
{
	int s = fd_ours(fd);

	if (likely(!s))
		return real.read(fd, buf, len);
	return ours_recv(s, buf, len, 0);
}

ssize_t __read_chk(int fd, void *buf, size_t len, size_t size)
{
	if (len > size)
		__chk_fail();
	return read(fd, buf, len);
}

ssize_t readv(int fd, const struct iovec *iov, int n)
{
	int s = fd_ours(fd);

	if (likely(!s))
		return real.readv(fd, iov, n);
	return ours_readv(s, iov, n);
}

ssize_t preadv2(int fd, const struct iovec *iov, int n, off_t off, int flags)
{
	int s = fd_ours(fd);

	/* On a socket all others are errors. */
	if (likely(!s) || off != -1 || flags)
		return real.preadv2(fd, iov, n, off, flags);
	return ours_readv(s, iov, n);
}

ssize_t recv(int fd, void *buf, size_t len, int flags)
{
	int s = fd_ours(fd);

	if (likely(!s))
		return real.recv(fd, buf, len, flags);
	return ours_recv(s, buf, len, flags);
}

ssize_t __recv_chk(int fd, void *buf, size_t len, size_t size, int flags)
{
	if (len > size)
		__chk_fail();
	return recv(fd, buf, len, flags);
}

ssize_t recvfrom(int fd, void *buf, size_t len, int flags,
		 struct sockaddr *addr, socklen_t *alen)
{
	int s = fd_ours(fd);

	if (likely(!s))
		return real.recvfrom(fd, buf, len, flags, addr, alen);
	return ours_recvfrom(s, buf, len, flags, addr, alen);
}

ssize_t __recvfrom_chk(int fd, void *buf, size_t len, size_t size, int flags,
		       struct sockaddr *addr, socklen_t *alen)
{
	if (len > size)
		__chk_fail();
	return recvfrom(fd, buf, len, flags, addr, alen);
}

ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
	int s = fd_ours(fd);
	ssize_t n;

	if (unlikely(s))
		return ours_recvmsg(s, msg, flags);
	n = real.recvmsg(fd, msg, flags);
	if (unlikely(n >= 0 && msg->msg_controllen))
		adopt_passed(fd, msg);
	return n;
}

/* Like Linux's: an error after the first message is told by the next call. */
static int ours_recvmmsg(int s, struct mmsghdr *msgs, unsigned int n, int flags,
			 const struct timespec *timeout)
{
	uint64_t end = time_deadline(timeout);
	unsigned int i;
	ssize_t len;

	for (i = 0; i < n && (!i || time_ns() < end); i++) {
		len = ours_recvmsg(s, &msgs[i].msg_hdr,
				   flags & ~MSG_WAITFORONE);
		if (len < 0)
			break;
		msgs[i].msg_len = (unsigned int)len;
		if (flags & MSG_WAITFORONE)
			flags |= MSG_DONTWAIT;
	}
	return i || !n ? (int)i : -1;
}

int recvmmsg(int fd, struct mmsghdr *msgs, unsigned int n, int flags,
	     struct timespec *timeout)
{
	int s = fd_ours(fd), got, i;

	if (unlikely(s))
		return ours_recvmmsg(s, msgs, n, flags, timeout);
	got = real.recvmmsg(fd, msgs, n, flags, timeout);
	for (i = 0; i < got; i++)
		if (msgs[i].msg_hdr.msg_controllen)
			adopt_passed(fd, &msgs[i].msg_hdr);
	return got;
}

/* ---- sending ---------------------------------------------------------------
 */

ssize_t write(int fd, const void *buf, size_t len)
{
	int s = fd_ours(fd);

	if (likely(!s))
		return real.write(fd, buf, len);
	return ours_send(s, buf, len, 0);
}

ssize_t writev(int fd, const struct iovec *iov, int n)
{
	int s = fd_ours(fd);

	if (likely(!s))
		return real.writev(fd, iov, n);
	return ours_writev(s, iov, n);
}

ssize_t pwritev2(int fd, const struct iovec *iov, int n, off_t off, int flags)
{
	int s = fd_ours(fd);

	if (likely(!s) || off != -1 || flags)
		return real.pwritev2(fd, iov, n, off, flags);
	return ours_writev(s, iov, n);
}

ssize_t send(int fd, const void *buf, size_t len, int flags)
{
	int s = fd_ours(fd);

	if (likely(!s))
		return real.send(fd, buf, len, flags);
	return ours_send(s, buf, len, flags);
}

ssize_t sendto(int fd, const void *buf, size_t len, int flags,
	       const struct sockaddr *addr, socklen_t alen)
{
	int s = fd_ours(fd);

	if (likely(!s))
		return real.sendto(fd, buf, len, flags, addr, alen);
	/* It opens the connection: MSG_FASTOPEN. */
	if (addr)
		return xts_sendto(s, buf, len, flags, addr, alen);
	return ours_send(s, buf, len, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	int s = fd_ours(fd);

	if (unlikely(s))
		return ours_sendmsg(s, msg, flags);
	if (unlikely(msg && msg->msg_controllen && sock_leave_passed(msg)))
		return -1;
	return real.sendmsg(fd, msg, flags);
}

int sendmmsg(int fd, struct mmsghdr *msgs, unsigned int n, int flags)
{
	int s = fd_ours(fd);
	unsigned int i;
	ssize_t len;

	if (likely(!s)) {
		for (i = 0; i < n; i++)
			if (msgs[i].msg_hdr.msg_controllen &&
			    sock_leave_passed(&msgs[i].msg_hdr))
				return -1;
		return real.sendmmsg(fd, msgs, n, flags);
	}
	for (i = 0; i < n; i++) {
		len = ours_sendmsg(s, &msgs[i].msg_hdr, flags);
		if (len < 0)
			break;
		msgs[i].msg_len = (unsigned int)len;
	}
	return i || !n ? (int)i : -1;
}
