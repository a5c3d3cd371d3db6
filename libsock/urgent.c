/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * urgent.c - urgent data of offloaded sockets
 *
 * What Linux does with the one urgent byte that it knows of: tcp_check_urg(),
 * tcp_urg(), tcp_recv_urg(), tcp_inq(). Read tcp(7), recv(2) MSG_OOB,
 * sockatmark(3), RFC 6093 section 3 first. The service tells of the byte's
 * place in the stream and of its value (XTS_REPLY_URGENT); everything else is a
 * matter of how far the program has read: a read ends before the byte, the next
 * one leaves it out, unless SO_OOBINLINE, and reads on behind it. Read past, it
 * is forgotten, taken with MSG_OOB or not.
 *
 * SIGURG comes from Linux, which knows the owner (F_SETOWN): the service shows
 * the shadow an urgent pointer, never the byte.
 *
 * State: urg and urg_left of the socket, under its context's lock.
 */
#include "libsock/service.h"

#include <errno.h>
#include <string.h>

/* A pointer replaces the last one. Who is about to read the byte of that one,
 * with data behind it, never will: Linux's way with two marks in a row. */
static void new_pointer(struct xctx *c, struct xsock *s, uint32_t left)
{
	if (xsock_at_mark(s) && !atomic_load(&s->oobinline) && s->rx_avail) {
		xsock_consumed(c, s, 1);
		left--;
	}
	s->urg = XURG_NOTYET;
	s->urg_left = left;
}

void xurgent_reply(struct xctx *c, struct xsock *s, const struct xts_reply *r)
{
	uint32_t left = s->rx_avail + r->urgent;

	if ((int32_t)left < 0)
		return; /* read already */
	if (r->flags & XTS_F_URGENT)
		new_pointer(c, s, left);
	if (!(r->err & XTS_URGENT_HAS) || s->urg != XURG_NOTYET)
		return;
	s->urg = XURG_VALID | (r->err & XURG_BYTE);
	xepoll_event(c, s, EPOLLPRI | EPOLLIN);
}

void xurgent_consumed(struct xsock *s, uint32_t n)
{
	if (n > s->urg_left)
		s->urg = 0;
	else
		s->urg_left -= n;
}

uint32_t xurgent_cut(const struct xsock *s, uint32_t *avail)
{
	if (s->urg_left) {
		if (*avail > s->urg_left)
			*avail = s->urg_left;
		return 0;
	}
	if (!*avail || atomic_load(&s->oobinline))
		return 0;
	--*avail;
	return 1;
}

uint32_t xurgent_queued(const struct xsock *s)
{
	if (s->urg && s->urg_left < s->rx_avail && !atomic_load(&s->oobinline))
		return s->urg_left;
	return s->rx_avail;
}

ssize_t xurgent_recv(struct xsock *s, const struct msghdr *msg, size_t len,
		     int flags, int *msg_flags)
{
	const struct iovec *iov = msg->msg_iov;

	if (atomic_load(&s->oobinline) || !s->urg || s->urg == XURG_READ)
		return -EINVAL;
	if (s->gone && !s->eof)
		return -ENOTCONN;
	if (s->urg == XURG_NOTYET)
		return s->gone || s->eof || s->shut_rd ? 0 : -EAGAIN;
	*msg_flags = MSG_OOB | (len ? 0 : MSG_TRUNC);
	if (len && !(flags & MSG_TRUNC)) {
		while (!iov->iov_len)
			iov++;
		*(uint8_t *)iov->iov_base = (uint8_t)s->urg;
	}
	if (!(flags & MSG_PEEK))
		s->urg = XURG_READ;
	return len ? 1 : 0;
}
