/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * opt.c - options, ioctl, fcntl and names
 *
 * Every option is set on the shadow socket, which stays the place to ask. Those
 * that the library itself acts on (time-outs, SO_RCVLOWAT, O_NONBLOCK) are
 * noted in the socket too; TCP_NODELAY is passed on to the service. What the
 * shadow can't know of an offloaded connection is answered from the socket:
 * SO_ERROR and the queue lengths.
 */
#include "libsock/service.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <unistd.h>

#define ANSWER_NS 100000000u /* to a question for credits */

/* OFFLOADED: its context, locked. The decision is not waited for. */
static struct xctx *lock_offloaded(struct xsock *s)
{
	struct xctx *c;

	c = xsock_lock(s);
	if (!c)
		return NULL;
	xctx_drain(c);
	if (atomic_load(&s->ctx) == c && (xsock_phase(s) == XPHASE_OFFLOADED ||
					  xsock_phase(s) == XPHASE_MOVING))
		return c;
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

int xts_getsockopt(int s, int level, int name, void *val, socklen_t *len)
{
	struct xsock *sock = xsock_get(s);
	struct xctx *c;
	int err;

	if (!sock)
		return -1;
	c = level == SOL_SOCKET && name == SO_ERROR ? lock_offloaded(sock)
						    : NULL;
	if (!c)
		return getsockopt(sock->fd, level, name, val, len);
	err = xsock_take_error(sock);
	pthread_mutex_unlock(&c->lock);
	if (*len > sizeof(err))
		*len = sizeof(err);
	memcpy(val, &err, *len);
	return 0;
}

static void note_timeout(_Atomic uint64_t *where, const void *val)
{
	struct timeval tv;

	memcpy(&tv, val, sizeof(tv));
	atomic_store(where, tv.tv_sec < 0
				    ? 0
				    : (uint64_t)tv.tv_sec * 1000000000u +
					      (uint64_t)tv.tv_usec * 1000u);
}

/* The service learns of TCP_NODELAY; a full ring is tried again. */
static void pass_nodelay(struct xsock *s, int on)
{
	struct xctx *c = lock_offloaded(s);
	bool told = !c;
	int tries;

	for (tries = 0; c && !told && tries < 100; tries++) {
		told = xctx_setopt(c, s, on ? XTS_F_NODELAY : 0);
		if (told)
			break;
		pthread_mutex_unlock(&c->lock);
		usleep(100);
		c = lock_offloaded(s);
	}
	if (c)
		pthread_mutex_unlock(&c->lock);
}

int xts_setsockopt(int s, int level, int name, const void *val, socklen_t len)
{
	struct xsock *sock = xsock_get(s);
	int v = 0;

	if (!sock || setsockopt(sock->fd, level, name, val, len))
		return -1;
	if (len >= sizeof(v))
		memcpy(&v, val, sizeof(v));
	if (level == SOL_SOCKET && name == SO_RCVTIMEO &&
	    len >= sizeof(struct timeval))
		note_timeout(&sock->rcvtimeo_ns, val);
	else if (level == SOL_SOCKET && name == SO_SNDTIMEO &&
		 len >= sizeof(struct timeval))
		note_timeout(&sock->sndtimeo_ns, val);
	else if (level == SOL_SOCKET && name == SO_RCVLOWAT)
		atomic_store(&sock->rcvlowat, v > 0 ? (uint32_t)v : 1);
	else if (level == IPPROTO_TCP && name == TCP_NODELAY) {
		atomic_store(&sock->nodelay, v != 0);
		pass_nodelay(sock, v);
	}
	return 0;
}

static void ask_credits(struct xctx *c, struct xsock *s)
{
	if (!s->tx_used || s->asked || xsock_phase(s) != XPHASE_OFFLOADED)
		return;
	s->asked = true;
	s->cmd_flags |= XTS_F_CREDITS;
	xctx_flush_sock(c, s);
}

/* Bytes not acknowledged; -1: not offloaded. The service tells of
 * acknowledgments when it has something to say anyway, so it is asked; what it
 * does not answer in time counts as not acknowledged. */
static int unacked(struct xsock *s)
{
	uint64_t end = xclock_ns() + ANSWER_NS;
	struct xctx *c = lock_offloaded(s);
	int n = -1, err = 0;

	if (c)
		ask_credits(c, s);
	while (c) {
		n = (int)s->tx_used;
		if (!s->asked || s->gone || (err && err != -EINTR)) {
			pthread_mutex_unlock(&c->lock);
			break;
		}
		err = xctx_wait(c, end);
		pthread_mutex_unlock(&c->lock);
		c = lock_offloaded(s); /* moved or closed meanwhile? */
	}
	return n;
}

/* Bytes in a queue of an offloaded socket; -1: it is not. */
static int queued(struct xsock *s, unsigned long request)
{
	struct xctx *c;
	int n;

	if (request == SIOCOUTQ)
		return unacked(s);
	c = lock_offloaded(s);
	if (!c)
		return -1;
	n = (int)(request == FIONREAD ? s->rx_avail : s->tx_unsent);
	pthread_mutex_unlock(&c->lock);
	return n;
}

int xts_ioctl(int s, unsigned long request, ...)
{
	struct xsock *sock = xsock_get(s);
	va_list ap;
	void *arg;
	int n;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (!sock)
		return -1;
	if (request == FIONBIO) {
		if (ioctl(sock->fd, request, arg))
			return -1;
		atomic_store(&sock->nonblock, *(const int *)arg != 0);
		return 0;
	}
	if (request != FIONREAD && request != SIOCOUTQ &&
	    request != SIOCOUTQNSD)
		return ioctl(sock->fd, request, arg);
	n = queued(sock, request);
	if (n < 0)
		return ioctl(sock->fd, request, arg);
	*(int *)arg = n;
	return 0;
}

int xts_fcntl(int s, int cmd, ...)
{
	struct xsock *sock = xsock_get(s);
	va_list ap;
	long arg;
	int ret;

	va_start(ap, cmd);
	arg = va_arg(ap, long);
	va_end(ap);
	if (!sock)
		return -1;
	/* A copy of the descriptor would bypass the library. */
	if (cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC)
		return xts_result(-EINVAL);
	ret = fcntl(sock->fd, cmd, arg);
	if (ret >= 0 && cmd == F_SETFL)
		atomic_store(&sock->nonblock, (arg & O_NONBLOCK) != 0);
	return ret;
}

int xts_getsockname(int s, struct sockaddr *addr, socklen_t *len)
{
	struct xsock *sock = xsock_get(s);

	return sock ? getsockname(sock->fd, addr, len) : -1;
}

int xts_getpeername(int s, struct sockaddr *addr, socklen_t *len)
{
	struct xsock *sock = xsock_get(s);

	return sock ? getpeername(sock->fd, addr, len) : -1;
}
