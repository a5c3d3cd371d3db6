/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * data.c - sending and receiving
 *
 * What Linux's tcp_sendmsg() and tcp_recvmsg() do, on the buffers shared with
 * the service: one copy, one command a send, no system call while the core is
 * awake. Read xts_proto.h (payload) and tcp(7), recv(2), send(2) first.
 *
 * The order of outcomes is Linux's: data first, then end of file, then the
 * pending error (told once), then EAGAIN. After a reset, receiving says
 * ECONNRESET once and 0 from then on; sending says the pending error once,
 * then EPIPE, with SIGPIPE unless MSG_NOSIGNAL.
 *
 * A sender that finds the buffer full waits until a third of it, or what it
 * still has to send, is free, so that it does not send slivers.
 *
 * The last byte of a send with MSG_OOB is urgent, also where only a part was
 * taken; urgent.c has the other direction. Not here: the error queue (goes to
 * the kernel socket).
 */
#include "libsock/service.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <string.h>

#define RW_MAX 0x7ffff000u /* what Linux moves in one call at most */

/* A position in the program's vector. */
struct cursor {
	const struct iovec *iov;
	size_t off;
};

static size_t iov_total(const struct iovec *iov, size_t n)
{
	size_t total = 0;

	while (n--)
		total += (iov++)->iov_len;
	return total < RW_MAX ? total : RW_MAX;
}

/* Between the vector and a flat piece of memory; to_iov: into the vector. */
static void move_bytes(struct cursor *at, uint8_t *mem, size_t len, bool to_iov)
{
	uint8_t *base;
	size_t n;

	while (len) {
		n = at->iov->iov_len - at->off;
		if (!n) {
			at->iov++;
			at->off = 0;
			continue;
		}
		if (n > len)
			n = len;
		base = (uint8_t *)at->iov->iov_base + at->off;
		if (to_iov)
			memcpy(base, mem, n);
		else
			memcpy(mem, base, n);
		mem += n;
		len -= n;
		at->off += n;
	}
}

static uint64_t deadline_of(struct xsock *s, int flags,
			    const _Atomic uint64_t *timeo)
{
	uint64_t ns;

	if (flags & MSG_DONTWAIT ||
	    atomic_load_explicit(&s->nonblock, memory_order_relaxed))
		return 0;
	ns = atomic_load_explicit(timeo, memory_order_relaxed);
	return ns ? xclock_ns() + ns : UINT64_MAX;
}

#define NOW_KERNEL 1

/* Waits with the lock held; the socket may be another's or moved afterwards.
 * 0: look again, with *c locked. NOW_KERNEL: it left, *c is NULL. */
static int wait_more(struct xsock *s, struct xctx **c, uint64_t deadline)
{
	uint32_t gen = atomic_load_explicit(&s->gen, memory_order_relaxed);
	int err, how;

	if (!deadline)
		return -EAGAIN;
	err = xctx_wait(*c, deadline);
	if (atomic_load_explicit(&s->ctx, memory_order_relaxed) == *c &&
	    atomic_load_explicit(&s->gen, memory_order_relaxed) == gen &&
	    xsock_phase(s) == XPHASE_OFFLOADED)
		return err;
	pthread_mutex_unlock(&(*c)->lock);
	*c = NULL;
	if (atomic_load_explicit(&s->gen, memory_order_relaxed) == gen)
		*c = xsock_route(s, deadline, false, &how);
	else
		how = -EBADF;
	assert(*c || how != 0);
	if (!*c)
		xsock_kernel_done(s, how);
	return *c ? err : (how > 0 ? NOW_KERNEL : how);
}

/* ---- receiving ---------------------------------------------------------- */

/* Up to len bytes of what is there, or of it before the urgent byte. */
static size_t take(struct xctx *c, struct xsock *s, struct cursor *to,
		   size_t len, int flags)
{
	uint32_t avail = s->rx_avail, skip = 0, off, n, first;

	if (s->urg)
		skip = xurgent_cut(s, &avail);
	n = len < avail ? (uint32_t)len : avail;
	if (!(n + skip))
		return 0;
	off = (s->rx_off + skip) & (s->rx_size - 1);
	first = s->rx_size - off;
	if (first > n)
		first = n;
	if (!(flags & MSG_TRUNC)) {
		move_bytes(to, s->rx_mem + off, first, true);
		if (n > first)
			move_bytes(to, s->rx_mem, n - first, true);
	}
	if (flags & MSG_PEEK)
		return n;
	xsock_consumed(c, s, n + skip);
	return n;
}

/* All that a peek waits for: it ends at the urgent byte, too. */
static bool peek_ready(const struct xsock *s, size_t target)
{
	uint32_t avail = s->rx_avail;

	if (s->urg)
		xurgent_cut(s, &avail);
	return avail >= target ||
	       (s->urg && s->urg_left && avail == s->urg_left);
}

/* A read that has something ends at the urgent byte. */
static bool ends_here(const struct xsock *s, int flags)
{
	return s->so_error || xsock_at_mark(s) || (s->urg && flags & MSG_PEEK);
}

static bool can_tell(const struct xsock *s)
{
	return s->rx_avail || s->eof || s->so_error || s->gone || s->shut_rd;
}

static ssize_t recv_user(struct xctx **cp, struct xsock *s,
			 const struct iovec *iov, size_t len, int flags,
			 uint64_t deadline, bool *left)
{
	struct cursor to = {.iov = iov};
	size_t done = 0, target;
	int err = 0;

	target = flags & MSG_WAITALL
			 ? len
			 : atomic_load_explicit(&s->rcvlowat,
						memory_order_relaxed);
	if (target > len)
		target = len;
	if (!target)
		target = 1; /* as Linux: it waits, and takes nothing */
	if (flags & MSG_PEEK && target > s->rx_size)
		target = s->rx_size;
	for (;;) {
		if (s->rx_avail < target - done || s->urg)
			xctx_drain(*cp);
		if (!len && s->rx_avail)
			break;
		if (!(flags & MSG_PEEK))
			done += take(*cp, s, &to, len - done, flags);
		else if (peek_ready(s, target) || s->eof || s->gone ||
			 s->shut_rd || err || !deadline)
			done = take(*cp, s, &to, len, flags);
		if (done >= target || s->eof || (done && ends_here(s, flags)))
			break;
		if (!done && s->so_error) {
			err = -xsock_take_error(s);
			break;
		}
		if (s->unconnected)
			err = -ENOTCONN;
		if (s->gone || s->shut_rd || err)
			break;
		err = wait_more(s, cp, deadline);
		*left = err == NOW_KERNEL;
		if (*left)
			return (ssize_t)done;
		/* Nor does Linux say what ended a wait for nothing. */
		if (!len && deadline &&
		    (err == -EINTR || (*cp && (err || can_tell(s)))))
			return 0;
		if (err &&
		    (!*cp || done || !(flags & MSG_PEEK) || !s->rx_avail))
			break;
	}
	return done ? (ssize_t)done : err;
}

/* What has come to an end in the kernel needs no service. */
static void kernel_done(struct xsock *s, int how, size_t len, ssize_t n)
{
	xsock_kernel_done(s, how);
	if (how == XROUTE_FIRST && (n > 0 || !len || errno == EAGAIN))
		xsock_offer(s);
}

static ssize_t recv_kernel(struct xsock *s, struct msghdr *msg, int flags,
			   size_t len, int how)
{
	bool brief = how == XROUTE_FIRST || how == XROUTE_ASKING;
	ssize_t n = recvmsg(s->fd, msg, flags | (brief ? MSG_DONTWAIT : 0));

	/* Linux does not tell of a byte that was taken so. */
	if (flags & MSG_OOB)
		atomic_store(&s->tuned, true);
	if (how == XROUTE_COUNTED &&
	    (n < 0 ? errno == EAGAIN : (size_t)n < len))
		xsock_drained(s);
	kernel_done(s, how, len, n);
	return n;
}

static ssize_t broken(int err, int flags)
{
	if (err == -EPIPE && !(flags & MSG_NOSIGNAL))
		raise(SIGPIPE);
	return err;
}

static ssize_t send_kernel(struct xsock *s, const struct msghdr *msg, int flags,
			   size_t len, int how)
{
	bool brief = how == XROUTE_FIRST || how == XROUTE_ASKING;
	ssize_t n;

	if (!brief) {
		n = sendmsg(s->fd, msg, flags);
		if (flags & MSG_OOB)
			atomic_store(&s->oob_sent, true);
		xsock_kernel_done(s, how);
		return n;
	}
	/* No handler must run before the lock is free. */
	n = sendmsg(s->fd, msg, flags | MSG_DONTWAIT | MSG_NOSIGNAL);
	kernel_done(s, how, len, n);
	if (n < 0)
		errno = (int)-broken(-errno, flags);
	return n;
}

/* Of a vector, what lies behind its first @skip bytes. */
static size_t iov_tail(struct iovec *tail, const struct iovec *iov, size_t n,
		       size_t skip)
{
	size_t i, k = 0;

	for (i = 0; i < n; i++) {
		size_t cut = skip < iov[i].iov_len ? skip : iov[i].iov_len;

		skip -= cut;
		tail[k].iov_base = (uint8_t *)iov[i].iov_base + cut;
		tail[k].iov_len = iov[i].iov_len - cut;
		k += tail[k].iov_len > 0;
	}
	return k;
}

/* The socket left in the middle of a call, which goes on in the kernel. Only
 * MSG_WAITALL waits when there is something already. */
static ssize_t recv_rest(struct xsock *s, struct msghdr *msg, int flags,
			 size_t done)
{
	struct iovec tail[IOV_MAX];
	struct msghdr rest = {.msg_iov = tail};
	ssize_t n;

	if (!done)
		return recvmsg(s->fd, msg, flags);
	rest.msg_iovlen = iov_tail(tail, msg->msg_iov, msg->msg_iovlen, done);
	n = recvmsg(s->fd, &rest,
		    flags | (flags & MSG_WAITALL ? 0 : MSG_DONTWAIT));
	msg->msg_namelen = 0;
	msg->msg_controllen = 0;
	msg->msg_flags = 0;
	return (ssize_t)done + (n > 0 ? n : 0);
}

static ssize_t send_rest(struct xsock *s, const struct msghdr *msg, int flags,
			 size_t done)
{
	struct iovec tail[IOV_MAX];
	struct msghdr rest = {.msg_iov = tail};
	ssize_t n;

	if (!done)
		return sendmsg(s->fd, msg, flags);
	rest.msg_iovlen = iov_tail(tail, msg->msg_iov, msg->msg_iovlen, done);
	n = sendmsg(s->fd, &rest, flags | MSG_NOSIGNAL);
	return (ssize_t)done + (n > 0 ? n : 0);
}

static ssize_t received(struct msghdr *msg, ssize_t n, int msg_flags)
{
	msg->msg_namelen = 0;
	msg->msg_controllen = 0;
	msg->msg_flags = msg_flags;
	return n;
}

static ssize_t recv_any(struct xsock *s, struct msghdr *msg, int flags)
{
	size_t len = iov_total(msg->msg_iov, msg->msg_iovlen);
	uint64_t deadline = deadline_of(s, flags, &s->rcvtimeo_ns);
	struct xctx *c;
	ssize_t n;
	bool yield, left = false;
	int how, msg_flags = 0;

	if (flags & MSG_ERRQUEUE)
		return recvmsg(s->fd, msg, flags);
	xsock_call(s);
	c = xsock_route(s, deadline, !deadline && !(flags & MSG_OOB), &how);
	if (!c && !len && how == -EINTR)
		return received(msg, 0, 0); /* as recv_user() */
	if (!c)
		return how > 0 ? recv_kernel(s, msg, flags, len, how)
			       : xts_result(how);
	if (flags & MSG_OOB) {
		xctx_drain(c);
		n = xurgent_recv(s, msg, len, flags, &msg_flags);
	} else
		n = recv_user(&c, s, msg->msg_iov, len, flags, deadline, &left);
	if (left)
		return recv_rest(s, msg, flags, (size_t)n);
	yield = n == -EAGAIN && !deadline && xctx_shares_cpu(c);
	if (c)
		pthread_mutex_unlock(&c->lock);
	if (yield)
		sched_yield();
	return n < 0 ? xts_result((int)n) : received(msg, n, msg_flags);
}

ssize_t xts_recvmsg(int s, struct msghdr *msg, int flags)
{
	struct xsock *sock = xsock_get(s);

	if (!sock)
		return -1;
	if (msg->msg_iovlen > IOV_MAX)
		return xts_result(-EMSGSIZE);
	return recv_any(sock, msg, flags);
}

ssize_t xts_recvfrom(int s, void *buf, size_t len, int flags,
		     struct sockaddr *addr, socklen_t *alen)
{
	struct xsock *sock = xsock_get(s);
	struct iovec iov = {buf, len};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_name = addr,
			     .msg_namelen = addr && alen ? *alen : 0};
	ssize_t n;

	if (!sock)
		return -1;
	if (xsock_phase(sock) == XPHASE_KERNEL)
		return recvfrom(sock->fd, buf, len, flags, addr, alen);
	n = recv_any(sock, &msg, flags);
	if (n >= 0 && addr && alen)
		*alen = msg.msg_namelen;
	return n;
}

/* The usual case: data are there, in one piece. 0: it isn't that. */
static inline size_t recv_hot(struct xsock *s, void *buf, size_t len)
{
	struct xctx *c;
	uint32_t n = 0;

	if (xsock_phase(s) != XPHASE_OFFLOADED)
		return 0;
	c = xsock_lock(s);
	if (!c)
		return 0;
	if (!s->rx_avail)
		xctx_drain(c);
	if (xsock_phase(s) == XPHASE_OFFLOADED) {
		n = len < s->rx_avail ? (uint32_t)len : s->rx_avail;
		if (n > s->rx_size - s->rx_off || s->urg ||
		    (n < len && n < atomic_load_explicit(&s->rcvlowat,
							 memory_order_relaxed)))
			n = 0;
	}
	if (n) {
		memcpy(buf, s->rx_mem + s->rx_off, n);
		xsock_consumed(c, s, n);
	}
	pthread_mutex_unlock(&c->lock);
	return n;
}

ssize_t xts_recv(int s, void *buf, size_t len, int flags)
{
	struct xsock *sock = xsock_get(s);
	size_t n = 0;

	if (!sock)
		return -1;
	if (!(flags & ~(MSG_DONTWAIT | MSG_NOSIGNAL)))
		n = recv_hot(sock, buf, len);
	return n ? (ssize_t)n : xts_recvfrom(s, buf, len, flags, NULL, NULL);
}

/* ---- sending ------------------------------------------------------------ */

static bool is_broken(const struct xsock *s)
{
	return s->so_error || s->gone || s->shut_wr;
}

/* Up to len bytes into the free room. */
static size_t put(struct xsock *s, struct cursor *from, size_t len)
{
	uint32_t room = s->tx_size - s->tx_used, first, n;

	n = len < room ? (uint32_t)len : room;
	if (!n)
		return 0;
	first = s->tx_size - s->tx_off;
	if (first > n)
		first = n;
	move_bytes(from, s->tx_mem + s->tx_off, first, false);
	if (n > first)
		move_bytes(from, s->tx_mem, n - first, false);
	s->tx_off = (s->tx_off + n) & (s->tx_size - 1);
	s->tx_used += n;
	s->tx_unsent += n;
	return n;
}

/* Enough room to go on? Sets nospace, so that EPOLLOUT comes, if not. */
static bool has_room(struct xsock *s, size_t left)
{
	uint32_t room = s->tx_size - s->tx_used;

	if (room >= left || room >= s->tx_size / 3)
		return true;
	s->nospace = true;
	return false;
}

static ssize_t send_user(struct xctx **cp, struct xsock *s,
			 const struct iovec *iov, size_t len, int flags,
			 uint64_t deadline, bool *left)
{
	struct cursor from = {.iov = iov};
	size_t done = 0, n;
	int err = 0;

	while (done < len || !len) {
		if (is_broken(s)) {
			err = -xsock_take_error(s);
			err = done ? 0 : (err ? err : -EPIPE);
			break;
		}
		n = put(s, &from, len - done);
		if (n) {
			done += n;
			s->cmd_flags &= ~XTS_F_MORE;
			if (flags & MSG_MORE)
				s->cmd_flags |= XTS_F_MORE;
			if (flags & MSG_OOB) {
				s->cmd_flags |= XTS_F_URGENT;
				s->tx_urg = s->tx_unsent;
			}
			xctx_flush_sock(*cp, s);
			continue;
		}
		if (done == len)
			break;
		s->nospace = true;
		if (xctx_drain(*cp) && s->tx_size > s->tx_used)
			continue;
		do
			err = wait_more(s, cp, deadline);
		while (!err && !s->gone && !s->shut_wr &&
		       !has_room(s, len - done));
		*left = err == NOW_KERNEL;
		if (*left)
			return (ssize_t)done;
		if (err)
			break;
	}
	return done ? (ssize_t)done : err;
}

/* What Linux's sock_cmsg_send() takes. */
static bool control_ok(const struct msghdr *msg)
{
	const uint8_t *end =
		(const uint8_t *)msg->msg_control + msg->msg_controllen;
	struct cmsghdr *cm;

	for (cm = CMSG_FIRSTHDR(msg); cm;
	     cm = CMSG_NXTHDR((struct msghdr *)msg, cm)) {
		if (cm->cmsg_len < sizeof(*cm) ||
		    cm->cmsg_len > (size_t)(end - (const uint8_t *)cm))
			return false;
		if (cm->cmsg_level == SOL_SOCKET &&
		    cm->cmsg_type != SCM_RIGHTS &&
		    cm->cmsg_type != SCM_CREDENTIALS &&
		    cm->cmsg_type != SO_TIMESTAMPING &&
		    cm->cmsg_type != SO_MARK && cm->cmsg_type != SCM_TXTIME)
			return false;
	}
	return true;
}

/* Not more than the service will take over. */
static bool is_brief(const struct xsock *s, size_t len)
{
	uint32_t phase = xsock_phase(s);

	return (phase == XPHASE_NEW || phase == XPHASE_ASKING) &&
	       xask_sends(s, len);
}

static ssize_t send_any(struct xsock *s, const struct msghdr *msg, int flags)
{
	size_t len = iov_total(msg->msg_iov, msg->msg_iovlen);
	uint64_t deadline = deadline_of(s, flags, &s->sndtimeo_ns);
	struct xctx *c;
	ssize_t n;
	bool yield, left = false;
	int how;

	xsock_call(s);
	c = xsock_route(s, deadline,
			!deadline && !(flags & MSG_OOB) && is_brief(s, len),
			&how);
	if (!c)
		return how > 0 ? send_kernel(s, msg, flags, len, how)
			       : xts_result(how);
	/* What is wrong with the connection comes first. */
	if (msg->msg_controllen && !is_broken(s) && !control_ok(msg))
		n = -EINVAL;
	else
		n = send_user(&c, s, msg->msg_iov, len, flags, deadline, &left);
	if (left)
		return send_rest(s, msg, flags, (size_t)n);
	yield = n == -EAGAIN && !deadline && xctx_shares_cpu(c);
	if (c)
		pthread_mutex_unlock(&c->lock);
	if (yield)
		sched_yield();
	if (n < 0) {
		errno = (int)-broken((int)n, flags);
		return -1;
	}
	return n;
}

ssize_t xts_sendmsg(int s, const struct msghdr *msg, int flags)
{
	struct xsock *sock = xsock_get(s);

	if (!sock)
		return -1;
	if (msg->msg_iovlen > IOV_MAX)
		return xts_result(-EMSGSIZE);
	return send_any(sock, msg, flags);
}

ssize_t xts_sendto(int s, const void *buf, size_t len, int flags,
		   const struct sockaddr *addr, socklen_t alen)
{
	struct xsock *sock = xsock_get(s);
	struct iovec iov = {(void *)buf, len};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_name = (void *)addr,
			     .msg_namelen = alen};

	if (!sock)
		return -1;
	if (xsock_phase(sock) == XPHASE_KERNEL)
		return sendto(sock->fd, buf, len, flags, addr, alen);
	return send_any(sock, &msg, flags);
}

/* The usual case: room for all of it, in one piece. false: it isn't that. */
static inline bool send_hot(struct xsock *s, const void *buf, size_t len)
{
	struct xctx *c;
	bool fits;

	if (xsock_phase(s) != XPHASE_OFFLOADED)
		return false;
	c = xsock_lock(s);
	if (!c)
		return false;
	fits = xsock_phase(s) == XPHASE_OFFLOADED && len &&
	       len <= s->tx_size - s->tx_used &&
	       len <= s->tx_size - s->tx_off && !s->gone && !s->shut_wr &&
	       !s->so_error;
	if (fits) {
		memcpy(s->tx_mem + s->tx_off, buf, len);
		s->tx_off = (s->tx_off + (uint32_t)len) & (s->tx_size - 1);
		s->tx_used += (uint32_t)len;
		s->tx_unsent += (uint32_t)len;
		s->cmd_flags &= ~XTS_F_MORE;
		xctx_flush_sock(c, s);
	}
	pthread_mutex_unlock(&c->lock);
	return fits;
}

ssize_t xts_send(int s, const void *buf, size_t len, int flags)
{
	struct xsock *sock = xsock_get(s);

	if (!sock)
		return -1;
	if (!(flags & (MSG_OOB | MSG_MORE)) && send_hot(sock, buf, len))
		return (ssize_t)len;
	return xts_sendto(s, buf, len, flags, NULL, 0);
}
