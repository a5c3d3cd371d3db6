/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * opt.c - options, ioctl, fcntl and names
 *
 * Every option is set on the shadow socket, which checks it and stays the place
 * to ask. Those that the library itself acts on (time-outs, SO_RCVLOWAT,
 * O_NONBLOCK) are noted in the socket too; those that the fast path acts on are
 * passed on to it as Linux took them (what Linux rounds or clamps is read
 * back). Keepalive is Linux's own: its timers run on the shadow. What the
 * shadow can't know of an offloaded connection is answered from the socket
 * (SO_ERROR, the queue lengths, SIOCATMARK) or by the fast path (TCP_INFO).
 *
 * TCP_INFO: the shadow's, with the fast path's numbers in the places of those
 * that Linux stopped counting. Without an answer in time it is the shadow's.
 */
#include "libsock/service.h"
#include "libsock/tcp_info.h"

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
#define INFO_NS 20000000u    /* to one for TCP_INFO */
#define INFO_AGAIN_NS 2000000u
#define DECIDED_NS 1000000000u /* the service on an offload */

/* ---- the shadow's descriptor, which may be replaced (leave.c) -------------
 */

static int shadow_get(struct xsock *s, int level, int name, void *val,
		      socklen_t *len)
{
	int rc = getsockopt(xsock_fd_hold(s), level, name, val, len);

	xsock_fd_drop(s);
	return rc;
}

static int shadow_set(struct xsock *s, int level, int name, const void *val,
		      socklen_t len)
{
	int rc = setsockopt(xsock_fd_hold(s), level, name, val, len);

	xsock_fd_drop(s);
	return rc;
}

static int shadow_ioctl(struct xsock *s, unsigned long request, void *arg)
{
	int rc = ioctl(xsock_fd_hold(s), request, arg);

	xsock_fd_drop(s);
	return rc;
}

/* OFFLOADED: its context, locked. The decision is not waited for, unless the
 * service has begun to take it. */
static struct xctx *lock_offloaded(struct xsock *s)
{
	struct xctx *c;

	c = xsock_lock(s);
	if (!c)
		return NULL;
	xctx_drain(c);
	if (xsock_phase(s) == XPHASE_ASKING && atomic_load(&s->ask))
		xask_settle(c, 0);
	if (atomic_load(&s->ctx) == c && (xsock_phase(s) == XPHASE_OFFLOADED ||
					  xsock_phase(s) == XPHASE_MOVING ||
					  xsock_phase(s) == XPHASE_LEAVING))
		return c;
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

/* ---- TCP_INFO ----------------------------------------------------------- */

static uint8_t u8(uint32_t v)
{
	return v < UINT8_MAX ? (uint8_t)v : UINT8_MAX;
}

static void info_base(struct tcp_info *b, const struct xts_info *x)
{
	b->tcpi_ca_state = u8(x->ca_state);
	b->tcpi_retransmits = u8(x->retransmits);
	b->tcpi_probes = u8(x->probes);
	b->tcpi_backoff = u8(x->backoff);
	b->tcpi_rto = x->rto;
	if (x->ato)
		b->tcpi_ato = x->ato;
	b->tcpi_snd_mss = x->snd_mss;
	/* As Linux has it: never more than what was advertised. */
	if (x->rcv_mss)
		b->tcpi_rcv_mss = x->rcv_mss < b->tcpi_advmss ? x->rcv_mss
							      : b->tcpi_advmss;
	b->tcpi_unacked = x->unacked;
	b->tcpi_sacked = x->sacked;
	b->tcpi_lost = x->lost;
	b->tcpi_retrans = x->retrans;
	if (x->last_data_sent < b->tcpi_last_data_sent)
		b->tcpi_last_data_sent = x->last_data_sent;
	if (x->last_data_recv < b->tcpi_last_data_recv)
		b->tcpi_last_data_recv = x->last_data_recv;
	if (x->rtt) {
		b->tcpi_rtt = x->rtt;
		b->tcpi_rttvar = x->rttvar;
	}
	b->tcpi_snd_ssthresh = x->snd_ssthresh;
	b->tcpi_snd_cwnd = x->snd_cwnd;
	if (x->reordering)
		b->tcpi_reordering = x->reordering;
	if (x->rcv_rtt)
		b->tcpi_rcv_rtt = x->rcv_rtt;
	if (x->rcv_space)
		b->tcpi_rcv_space = x->rcv_space;
	if (x->rcv_ssthresh)
		b->tcpi_rcv_ssthresh = x->rcv_ssthresh;
	b->tcpi_total_retrans = x->total_retrans;
}

static void info_merge(struct long_info *i, const struct xts_info *x)
{
	info_base(&i->base, x);
	i->pacing_rate = x->pacing_rate;
	i->bytes_acked = x->bytes_acked;
	i->bytes_received = x->bytes_received;
	i->bytes_sent = x->bytes_sent;
	i->bytes_retrans = x->bytes_retrans;
	i->notsent_bytes = x->notsent_bytes;
	if (x->min_rtt < i->min_rtt)
		i->min_rtt = x->min_rtt;
	if (x->delivery_rate)
		i->delivery_rate = x->delivery_rate;
	i->delivered = x->delivered;
	i->delivered_ce = x->delivered_ce;
	i->dsack_dups = x->dsack_dups;
	i->reord_seen += x->reord_seen;
	i->snd_wnd = x->snd_wnd;
	i->rcv_wnd = x->rcv_wnd;
	i->total_rto += (uint16_t)x->total_rto;
	i->total_rto_recoveries += (uint16_t)x->total_rto_recoveries;
	i->total_rto_time += x->total_rto_time;
}

/* Asks until the answer is in *x. Lock held on entry and, where a context is
 * returned, on return. */
static struct xctx *info_await(struct xctx *c, struct xsock *s,
			       struct xts_info *x, uint64_t end)
{
	static const struct xts_cmd ask = {.type = XTS_CMD_INFO};
	uint64_t now, again = 0;

	while (c && !s->gone && s->info == x &&
	       s->info_parts < XTS_INFO_PARTS) {
		now = xclock_ns();
		if (now >= end)
			break;
		if (now >= again && xctx_command(c, s, &ask))
			again = now + INFO_AGAIN_NS;
		xctx_wait(c, again < end ? again : end);
		pthread_mutex_unlock(&c->lock);
		c = lock_offloaded(s); /* moved or closed meanwhile? */
	}
	return c;
}

/* The fast path's numbers; false: it has none, or does not answer. */
static bool info_ask(struct xsock *s, struct xts_info *x)
{
	uint64_t end = xclock_ns() + INFO_NS;
	uint32_t gen = atomic_load(&s->gen);
	struct xctx *c = lock_offloaded(s);
	bool ok = false;

	/* Another thread asks: it will be done soon. */
	while (c && s->info && !s->gone && xclock_ns() < end) {
		xctx_wait(c, end);
		pthread_mutex_unlock(&c->lock);
		c = lock_offloaded(s);
	}
	if (!c)
		return false;
	if (!s->info) {
		s->info = x;
		s->info_parts = 0;
		c = info_await(c, s, x, end);
	}
	if (!c)
		c = xsock_lock(s); /* the slot may be another's by now */
	if (atomic_load(&s->gen) == gen && s->info == x) {
		ok = c && s->info_parts == XTS_INFO_PARTS;
		s->info = NULL;
	}
	if (c) {
		xctx_wake(c);
		pthread_mutex_unlock(&c->lock);
	}
	return ok;
}

static int tcp_info(struct xsock *s, void *val, socklen_t *len)
{
	uint8_t buf[512] = {0}; /* any kernel's */
	socklen_t n = sizeof(buf);
	struct long_info i;
	struct xts_info x;

	/* The first for what Linux says of the arguments. */
	if (shadow_get(s, IPPROTO_TCP, TCP_INFO, val, len) ||
	    shadow_get(s, IPPROTO_TCP, TCP_INFO, buf, &n))
		return -1;
	if (info_ask(s, &x)) {
		memcpy(&i, buf, sizeof(i));
		info_merge(&i, &x);
		memcpy(buf, &i, sizeof(i));
		/* libc's struct has a hole where this bit-field is */
		if (x.delivery_rate)
			buf[7] = (buf[7] & ~1u) |
				 (x.delivery_rate_app_limited ? 1 : 0);
	}
	memcpy(val, buf, *len);
	return 0;
}

/* ---- getting and setting ------------------------------------------------ */

int xts_getsockopt(int s, int level, int name, void *val, socklen_t *len)
{
	struct xsock *sock = xsock_get(s);
	struct xctx *c;
	int err;

	if (!sock)
		return -1;
	if (level == IPPROTO_TCP && name == TCP_INFO &&
	    xsock_phase(sock) >= XPHASE_OFFLOADED)
		return tcp_info(sock, val, len);
	if (level != SOL_SOCKET || name != SO_ERROR)
		return shadow_get(sock, level, name, val, len);
	/* For what Linux says of the arguments: any int will do. */
	if (shadow_get(sock, SOL_SOCKET, SO_TYPE, val, len))
		return -1;
	c = lock_offloaded(sock);
	if (!c)
		return shadow_get(sock, level, name, val, len);
	err = xsock_take_error(sock);
	pthread_mutex_unlock(&c->lock);
	memcpy(val, &err, *len);
	return 0;
}

static void note_timeout(_Atomic uint64_t *where, const void *val)
{
	struct timeval tv = {0};

	if (val) /* without it Linux has refused */
		memcpy(&tv, val, sizeof(tv));
	atomic_store(where, tv.tv_sec < 0
				    ? 0
				    : (uint64_t)tv.tv_sec * 1000000000u +
					      (uint64_t)tv.tv_usec * 1000u);
}

/* As Linux, which wakes those who wait if it is enough now. */
static void note_lowat(struct xsock *s, int v)
{
	struct xctx *c = lock_offloaded(s);

	atomic_store(&s->rcvlowat, v > 0 ? (uint32_t)v : v ? INT32_MAX : 1);
	if (!c)
		return;
	if (s->eof || (s->rx_avail && s->rx_avail >= xsock_lowat(s))) {
		xepoll_event(c, s,
			     EPOLLIN | EPOLLPRI | EPOLLRDNORM | EPOLLRDBAND);
		xctx_wake(c);
	}
	pthread_mutex_unlock(&c->lock);
}

/* The fast path learns of it; a full ring is tried again. */
static void pass_command(struct xsock *s, const struct xts_cmd *cmd)
{
	struct xctx *c = lock_offloaded(s);
	bool told = !c;
	int tries;

	for (tries = 0; c && !told && tries < 100; tries++) {
		told = xctx_command(c, s, cmd);
		if (told)
			break;
		pthread_mutex_unlock(&c->lock);
		usleep(100);
		c = lock_offloaded(s);
	}
	if (c)
		pthread_mutex_unlock(&c->lock);
}

/* What the fast path acts on too; 0: nothing that it knows. */
static uint32_t option_of(int level, int name)
{
	if (level == SOL_SOCKET && name == SO_MAX_PACING_RATE)
		return XTS_OPT_MAX_PACING_RATE;
	if (level != IPPROTO_TCP)
		return 0;
	switch (name) {
	case TCP_NODELAY:
		return XTS_OPT_NODELAY;
	case TCP_CORK:
		return XTS_OPT_CORK;
	case TCP_USER_TIMEOUT:
		return XTS_OPT_USER_TIMEOUT;
	case TCP_CONGESTION:
		return XTS_OPT_CONGESTION;
	}
	return 0;
}

/* As the shadow has it now. */
static void pass_option(struct xsock *s, uint32_t option, int level, int name)
{
	struct xts_cmd cmd = {.type = XTS_CMD_SETOPT, .off = option};
	socklen_t len = sizeof(uint64_t);
	uint64_t v = 0;
	uint32_t v32;

	if (option == XTS_OPT_CONGESTION) {
		len = sizeof(cmd.name);
		if (shadow_get(s, level, name, cmd.name, &len))
			return;
	} else {
		if (shadow_get(s, level, name, &v, &len))
			return;
		memcpy(&v32, &v, sizeof(v32));
		if (len == sizeof(v32))
			v = v32;
		/* The greatest value, of either width, is no limit. */
		if (option == XTS_OPT_MAX_PACING_RATE &&
		    (v == UINT64_MAX ||
		     (len == sizeof(v32) && v32 == UINT32_MAX)))
			v = 0;
		cmd.len = (uint32_t)v;
		cmd.credits = (uint32_t)(v >> 32);
	}
	pass_command(s, &cmd);
}

int xts_setsockopt(int s, int level, int name, const void *val, socklen_t len)
{
	struct xsock *sock = xsock_get(s);
	uint32_t option = option_of(level, name);
	int v = 0;

	if (!sock)
		return -1;
	if (option) {
		/* Did the service read the old value or the new one? */
		xsock_await(sock, xclock_ns() + DECIDED_NS);
		if (option != XTS_OPT_NODELAY)
			atomic_store(&sock->tuned, true);
	}
	if (shadow_set(sock, level, name, val, len))
		return -1;
	/* Some options take NULL. */
	if (len >= sizeof(v) && val)
		memcpy(&v, val, sizeof(v));
	if (level == SOL_SOCKET && name == SO_RCVTIMEO &&
	    len >= sizeof(struct timeval))
		note_timeout(&sock->rcvtimeo_ns, val);
	else if (level == SOL_SOCKET && name == SO_SNDTIMEO &&
		 len >= sizeof(struct timeval))
		note_timeout(&sock->sndtimeo_ns, val);
	else if (level == SOL_SOCKET && name == SO_RCVLOWAT)
		note_lowat(sock, v);
	else if (level == SOL_SOCKET && name == SO_OOBINLINE) {
		atomic_store(&sock->oobinline, v != 0);
		atomic_store(&sock->tuned, true);
	} else if (option) {
		if (option == XTS_OPT_NODELAY)
			atomic_store(&sock->nodelay, v != 0);
		pass_option(sock, option, level, name);
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
		if (!c && xsock_phase(s) == XPHASE_KERNEL)
			return -1;
	}
	return n;
}

/* Bytes in a queue of an offloaded socket, or whether the urgent one is next;
 * -1: it is not. */
static int queued(struct xsock *s, unsigned long request)
{
	struct xctx *c;
	int n;

	if (request == SIOCOUTQ)
		return unacked(s);
	c = lock_offloaded(s);
	if (!c)
		return -1;
	if (request == SIOCATMARK)
		n = xsock_at_mark(s);
	else
		n = (int)(request == FIONREAD ? xurgent_queued(s)
					      : s->tx_unsent);
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
		if (shadow_ioctl(sock, request, arg))
			return -1;
		atomic_store(&sock->nonblock, *(const int *)arg != 0);
		return 0;
	}
	if (request != FIONREAD && request != SIOCOUTQ &&
	    request != SIOCOUTQNSD && request != SIOCATMARK)
		return shadow_ioctl(sock, request, arg);
	n = queued(sock, request);
	if (n < 0)
		return shadow_ioctl(sock, request, arg);
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
	ret = fcntl(xsock_fd_hold(sock), cmd, arg);
	xsock_fd_drop(sock);
	if (ret >= 0 && cmd == F_SETFL)
		atomic_store(&sock->nonblock, (arg & O_NONBLOCK) != 0);
	return ret;
}

int xts_getsockname(int s, struct sockaddr *addr, socklen_t *len)
{
	struct xsock *sock = xsock_get(s);
	int rc;

	if (!sock)
		return -1;
	rc = getsockname(xsock_fd_hold(sock), addr, len);
	xsock_fd_drop(sock);
	return rc;
}

int xts_getpeername(int s, struct sockaddr *addr, socklen_t *len)
{
	struct xsock *sock = xsock_get(s);
	int rc;

	if (!sock)
		return -1;
	rc = getpeername(xsock_fd_hold(sock), addr, len);
	xsock_fd_drop(sock);
	return rc;
}
