/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * data.c - the calls that move data
 *
 * On a descriptor that is not ours each of these is one look at a word and a
 * tail call. On one of ours the first of them offers the connection to the
 * service. A call that a signal interrupted goes on where Linux's would.
 *
 * Memory that the program does not have. Linux's calls say EFAULT; ours do
 * where that costs nothing: for NULL and the kernel's addresses. Elsewhere the
 * program gets SIGSEGV.
 *
 * The __NAME_chk functions are what programs built with _FORTIFY_SOURCE call.
 */
#include "libsock/preload/preload.h"

#include <limits.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>

ssize_t __read_chk(int fd, void *buf, size_t len, size_t size);
ssize_t __recv_chk(int fd, void *buf, size_t len, size_t size, int flags);
ssize_t __recvfrom_chk(int fd, void *buf, size_t len, size_t size, int flags,
		       struct sockaddr *addr, socklen_t *alen);
void __chk_fail(void) __attribute__((noreturn));

/* ---- memory ----------------------------------------------------------------
 */

static ssize_t fail(int err)
{
	errno = err;
	return -1;
}

/* Any pieces are in the vector; -errno for what Linux does not take. *good: how
 * many of them before the first that has no memory. */
static inline int iov_check(const struct iovec *iov, size_t n, size_t *good)
{
	size_t i, any = 0;

	*good = n;
	if (n && memory_none(iov))
		return -EFAULT;
	for (i = 0; i < n; i++) {
		if (unlikely((ssize_t)iov[i].iov_len < 0))
			return -EINVAL;
		if (memory_none(iov[i].iov_base) &&
		    (iov[i].iov_len || memory_kernels(iov[i].iov_base))) {
			if (memory_kernels(iov[i].iov_base))
				return -EFAULT;
			if (*good == n)
				*good = i;
		}
		any |= iov[i].iov_len;
	}
	return any != 0;
}

/* An address that a connected socket does not look at: Linux's system call
 * does. sigprocmask() reads as much as the shortest of addresses has that is
 * used, and does nothing with it. */
static int addr_check(const void *addr, socklen_t len)
{
	long ret;

	if ((int)len < 0 || len > sizeof(struct sockaddr_storage))
		return EINVAL;
	if (!len)
		return 0;
	ret = real.syscall(SYS_rt_sigprocmask, -1, (long)addr, 0, 8, 0, 0);
	return ret < 0 && errno == EFAULT ? EFAULT : 0;
}

/* ---- on sockets of ours ----------------------------------------------------
 */

/* There may be something, which has nowhere to go. */
static ssize_t recv_nowhere(int s, const void *buf, size_t len, int flags)
{
	char byte;
	ssize_t n;

	if (memory_kernels(buf))
		return fail(EFAULT);
	/* These take no memory. */
	if (!len || flags & (MSG_TRUNC | MSG_ERRQUEUE))
		return ours_recv(s, &byte, len, flags);
	n = ours_recv(s, &byte, 1, (flags & ~MSG_WAITALL) | MSG_PEEK);
	return n > 0 ? fail(EFAULT) : n;
}

ssize_t ours_recv(int s, void *buf, size_t len, int flags)
{
	ssize_t n;

	if (memory_none(buf))
		return recv_nowhere(s, buf, len, flags);
	signal_begin();
	do
		n = xts_recv(s, buf, len, flags);
	while (n < 0 && errno == EINTR && signal_restarts(s, false));
	return n;
}

static ssize_t send_nowhere(int s, const void *buf, size_t len, int flags)
{
	if (memory_kernels(buf))
		return fail(EFAULT);
	/* What is wrong with the connection comes first. */
	if (ours_send(s, &buf, 0, flags) < 0)
		return -1;
	return len ? fail(EFAULT) : 0;
}

ssize_t ours_send(int s, const void *buf, size_t len, int flags)
{
	ssize_t n;

	if (memory_none(buf))
		return send_nowhere(s, buf, len, flags);
	signal_begin();
	do
		n = xts_send(s, buf, len, flags);
	while (n < 0 && errno == EINTR && signal_restarts(s, true));
	return n;
}

/* It may open the connection: MSG_FASTOPEN. */
static ssize_t ours_sendto(int s, const void *buf, size_t len, int flags,
			   const struct sockaddr *addr, socklen_t alen)
{
	int err;
	ssize_t n;

	if (memory_kernels(buf))
		return fail(EFAULT);
	err = addr_check(addr, alen);
	if (err)
		return fail(err);
	if (memory_none(buf))
		return send_nowhere(s, buf, len, flags);
	signal_begin();
	do
		n = xts_sendto(s, buf, len, flags, addr, alen);
	while (n < 0 && errno == EINTR && signal_restarts(s, true));
	return n;
}

static ssize_t ours_recvfrom(int s, void *buf, size_t len, int flags,
			     struct sockaddr *addr, socklen_t *alen)
{
	ssize_t n;

	if (memory_none(buf))
		return recv_nowhere(s, buf, len, flags);
	signal_begin();
	do
		n = xts_recvfrom(s, buf, len, flags, addr, alen);
	while (n < 0 && errno == EINTR && signal_restarts(s, false));
	return n;
}

static ssize_t recv_vector(int s, struct msghdr *msg, int flags)
{
	ssize_t n;

	signal_begin();
	do
		n = xts_recvmsg(s, msg, flags);
	while (n < 0 && errno == EINTR && signal_restarts(s, false));
	return n;
}

static ssize_t send_vector(int s, const struct msghdr *msg, int flags)
{
	ssize_t n;

	signal_begin();
	do
		n = xts_sendmsg(s, msg, flags);
	while (n < 0 && errno == EINTR && signal_restarts(s, true));
	return n;
}

/* What a vector holds before its first piece without memory is as far as a call
 * goes. false: nothing. */
static bool first_pieces(struct msghdr *part, const struct msghdr *msg,
			 size_t good)
{
	*part = *msg;
	part->msg_iovlen = good;
	while (good && !msg->msg_iov[good - 1].iov_len)
		good--;
	return good;
}

static ssize_t recv_first(int s, struct msghdr *msg, int flags, size_t good)
{
	struct msghdr part;
	ssize_t n;

	if (flags & (MSG_TRUNC | MSG_ERRQUEUE))
		return recv_vector(s, msg, flags);
	if (!first_pieces(&part, msg, good))
		return recv_nowhere(s, NULL, 1, flags);
	n = recv_vector(s, &part, flags);
	msg->msg_namelen = part.msg_namelen;
	msg->msg_controllen = part.msg_controllen;
	msg->msg_flags = part.msg_flags;
	return n;
}

static ssize_t send_first(int s, const struct msghdr *msg, int flags,
			  size_t good)
{
	struct msghdr part;

	if (!first_pieces(&part, msg, good))
		return send_nowhere(s, NULL, 1, flags);
	return send_vector(s, &part, flags);
}

static ssize_t ours_recvmsg(int s, struct msghdr *msg, int flags)
{
	size_t good;
	int any;

	if (memory_none(msg))
		return fail(EFAULT);
	if (msg->msg_iovlen > IOV_MAX)
		return fail(EMSGSIZE);
	any = iov_check(msg->msg_iov, msg->msg_iovlen, &good);
	if (any < 0)
		return fail(-any);
	if (unlikely(good < msg->msg_iovlen))
		return recv_first(s, msg, flags, good);
	return recv_vector(s, msg, flags);
}

/* Besides the vector; 0 or errno. */
static int sendmsg_check(const struct msghdr *msg)
{
	socklen_t most = sizeof(struct sockaddr_storage);
	int err = 0;

	if (memory_none(msg))
		return EFAULT;
	if (unlikely(msg->msg_name && msg->msg_namelen))
		err = addr_check(msg->msg_name,
				 msg->msg_namelen < INT_MAX &&
						 msg->msg_namelen > most
					 ? most
					 : msg->msg_namelen);
	if (err)
		return err;
	if (msg->msg_iovlen > IOV_MAX)
		return EMSGSIZE;
	return msg->msg_controllen && memory_none(msg->msg_control) ? EFAULT
								    : 0;
}

static ssize_t ours_sendmsg(int s, const struct msghdr *msg, int flags)
{
	int any = sendmsg_check(msg);
	size_t good;

	if (any)
		return fail(any);
	any = iov_check(msg->msg_iov, msg->msg_iovlen, &good);
	if (any < 0)
		return fail(-any);
	if (unlikely(good < msg->msg_iovlen))
		return send_first(s, msg, flags, good);
	return send_vector(s, msg, flags);
}

/* A vector without bytes never gets to the socket. */
static ssize_t ours_readv(int s, const struct iovec *iov, int n)
{
	struct msghdr msg = {.msg_iov = (struct iovec *)iov,
			     .msg_iovlen = (size_t)n};
	size_t good;
	int any;

	if (n < 0 || n > IOV_MAX)
		return fail(EINVAL);
	any = iov_check(iov, (size_t)n, &good);
	if (any <= 0)
		return any ? fail(-any) : 0;
	if (unlikely(good < (size_t)n))
		return recv_first(s, &msg, 0, good);
	return recv_vector(s, &msg, 0);
}

static ssize_t ours_writev(int s, const struct iovec *iov, int n)
{
	struct msghdr msg = {.msg_iov = (struct iovec *)iov,
			     .msg_iovlen = (size_t)n};
	size_t good;
	int any;

	if (n < 0 || n > IOV_MAX)
		return fail(EINVAL);
	any = iov_check(iov, (size_t)n, &good);
	if (any <= 0)
		return any ? fail(-any) : 0;
	if (unlikely(good < (size_t)n))
		return send_first(s, &msg, 0, good);
	return send_vector(s, &msg, 0);
}

/* ---- receiving -------------------------------------------------------------
 */

ssize_t read(int fd, void *buf, size_t len)
{
	int s = fd_ours(fd);

	if (likely(!s) || unlikely(!len)) /* which Linux does nothing for */
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

/* Linux's SO_ERROR, taken */
static int pending_error(int s)
{
	socklen_t len = sizeof(int);
	int err;

	return xts_getsockopt(s, SOL_SOCKET, SO_ERROR, &err, &len) ? 0 : err;
}

/* Messages received, or -errno. */
static int recv_messages(int s, struct mmsghdr *msgs, unsigned int n, int flags,
			 uint64_t end)
{
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
		if (msgs[i].msg_hdr.msg_flags & MSG_OOB)
			return (int)i + 1;
	}
	if (i == n || len >= 0)
		return (int)i;
	if (!i)
		return -errno;
	/* It is told by the next call, unless that would find it again. */
	if (errno != EAGAIN && errno != EINTR)
		xlend_set_error(s, errno);
	return (int)i;
}

/* The pending error comes before what is there to read, other than elsewhere.
 */
static int ours_recvmmsg(int s, struct mmsghdr *msgs, unsigned int n, int flags,
			 struct timespec *timeout)
{
	uint64_t end = UINT64_MAX, now;
	int got;

	if (!time_valid(timeout))
		return (int)fail(memory_none(timeout) ? EFAULT : EINVAL);
	if (timeout)
		end = time_deadline(timeout);
	got = flags & MSG_ERRQUEUE ? 0 : -pending_error(s);
	if (!got && n)
		got = memory_none(msgs) ? -EFAULT
					: recv_messages(s, msgs, n, flags, end);
	if (got >= 0 && timeout) {
		now = time_ns();
		now = end > now ? end - now : 0;
		timeout->tv_sec = (time_t)(now / 1000000000u);
		timeout->tv_nsec = (long)(now % 1000000000u);
	}
	return got < 0 ? (int)fail(-got) : got;
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
	if (likely(!addr))
		return ours_send(s, buf, len, flags);
	return ours_sendto(s, buf, len, flags, addr, alen);
}

/* A control message is there. */
static inline bool passes_on(const struct msghdr *msg)
{
	return !memory_none(msg) && msg->msg_controllen &&
	       !memory_none(msg->msg_control);
}

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	int s = fd_ours(fd);

	if (unlikely(s))
		return ours_sendmsg(s, msg, flags);
	if (unlikely(passes_on(msg) && sock_leave_passed(msg)))
		return -1;
	return real.sendmsg(fd, msg, flags);
}

int sendmmsg(int fd, struct mmsghdr *msgs, unsigned int n, int flags)
{
	int s = fd_ours(fd);
	unsigned int i;
	ssize_t len;

	if (likely(!s)) {
		for (i = 0; i < n && i < IOV_MAX && !memory_none(msgs); i++)
			if (passes_on(&msgs[i].msg_hdr) &&
			    sock_leave_passed(&msgs[i].msg_hdr))
				return -1;
		return real.sendmmsg(fd, msgs, n, flags);
	}
	if (n && memory_none(msgs))
		return (int)fail(EFAULT);
	for (i = 0; i < n && i < IOV_MAX; i++) {
		len = ours_sendmsg(s, &msgs[i].msg_hdr, flags);
		if (len < 0)
			break;
		msgs[i].msg_len = (unsigned int)len;
	}
	return i || !n ? (int)i : -1;
}
