/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * reply.c - taking the service's replies
 *
 * Read xts_proto.h first. The reply rings of a context have one consumer:
 * whoever holds its lock. Every reply names its socket by cookie; one for a
 * socket that is closed for good is dropped. What it says is checked against
 * the socket's own numbers, and nonsense counts as the end of the service.
 *
 * Replies for a socket that is moving here wait in the ring until the old ring
 * has been read out: the reader stops there, the mover wakes it.
 *
 * A reset ends the flow, not the socket: the program learns of it by the rules
 * of data.c. What it had not read is kept only if the service keeps the
 * buffers. The same when the service needs the flow's name for a new connection
 * after both directions have ended: the program sees no change.
 */
#include "libsock/service.h"

#include <errno.h>
#include <string.h>

#define RING_MASK (XTS_RING_SLOTS - 1)
#define CHECK_EVERY 1024u /* drains in vain before we ask for the service */

void xctx_close_answered(struct xctx *c, struct xsock *s)
{
	xctx_leave(c, s);
	xsock_free(s);
}

/* The flow is no more; err is what the program is told. */
void xctx_end_flow(struct xctx *c, struct xsock *s, int err)
{
	bool ended = s->eof && err == ESHUTDOWN;

	if (s->gone)
		return;
	s->gone = true;
	/* RFC 9293 3.10.7.4: a reset behind a FIN, as Linux words it */
	s->so_error = s->eof && err == ECONNRESET ? EPIPE : ended ? 0 : err;
	s->rx_credits = 0;
	s->tx_used = s->tx_unsent = 0;
	s->cmd_flags = 0;
	/* The buffers may be another connection's by now, unless kept. */
	if (c->session->keeps && s->rx_size && !atomic_load(&c->session->lost))
		xsvc_keep(s, c->session);
	else
		s->rx_avail = s->urg = 0;
	/* The program knows the end of both directions. */
	if (!ended)
		xepoll_event(c, s, XEPOLL_STATE);
}

/* Data, credits, end of stream. false: nonsense. */
static inline bool reply_recv(struct xctx *c, struct xsock *s,
			      const struct xts_reply *r)
{
	uint32_t events = 0;

	if (r->len) {
		if (r->off >= s->rx_size || r->len > s->rx_size - s->rx_avail)
			return false;
		if (!s->rx_avail)
			s->rx_off = r->off;
		else if (((s->rx_off + s->rx_avail) & (s->rx_size - 1)) !=
			 r->off)
			return false;
		s->rx_avail += r->len;
		/* As Linux, which tells of less to nobody: no edge either. */
		if (s->rx_avail >= xsock_lowat(s))
			events = EPOLLIN;
	}
	if (r->credits) {
		if (r->credits > s->tx_used - s->tx_unsent)
			return false;
		s->tx_used -= r->credits;
		if (!s->tx_used)
			s->tx_off = 0;
		if (s->nospace && s->tx_size - s->tx_used >= s->tx_size / 3) {
			s->nospace = false;
			events |= EPOLLOUT;
		}
	}
	if (__builtin_expect(r->flags & XTS_F_CREDITS, 0))
		s->asked = false;
	if (r->flags & XTS_F_EOF) {
		s->eof = true;
		events = XEPOLL_STATE;
	}
	if (events)
		xepoll_event(c, s, events);
	return true;
}

static bool reply_offloaded(struct xctx *c, struct xsock *s,
			    const struct xts_reply *r)
{
	const struct xsession *ss = c->session;
	uint64_t size = r->buf_size;

	if (!size || (size & (size - 1)) || size > ss->mem_size / 2 ||
	    r->rx_buf > ss->mem_size - 2 * size || r->tx_len > size ||
	    r->core >= ss->cores)
		return false;
	s->rx_mem = ss->mem + r->rx_buf;
	s->tx_mem = s->rx_mem + size;
	s->rx_size = s->tx_size = (uint32_t)size;
	s->tx_off = r->tx_len & (s->tx_size - 1);
	s->tx_used = r->tx_len;
	s->flow = r->flow;
	s->flow_gen = r->flow_gen;
	s->core = r->core;
	xask_decided(c, s);
	/* Closed while the service was deciding. */
	if (xsock_phase(s) == XPHASE_CLOSING) {
		xctx_flush_sock(c, s);
		return true;
	}
	atomic_store(&s->reason, XTS_REASON_NONE);
	xsock_set_phase(s, XPHASE_OFFLOADED);
	if (!reply_recv(c, s, r))
		return false;
	xepoll_event(c, s, EPOLLOUT);
	xepoll_to_user(c, s);
	return true;
}

static bool size_ok(uint32_t size)
{
	return size && !(size & (size - 1)) && size <= XTS_BUF_MAX;
}

/* false: nonsense. */
static bool reply_grown(struct xctx *c, struct xsock *s,
			const struct xts_reply *r)
{
	const struct xsession *ss = c->session;
	uint32_t old = s->rx_size;

	if (!old || r->rx_buf > ss->mem_size ||
	    ss->mem_size - r->rx_buf < 2ull * XTS_BUF_MAX)
		return false;
	if (r->buf_size != old) {
		if (!size_ok(r->buf_size) || r->buf_size < old || r->off >= old)
			return false;
		s->rx_mem = ss->mem + r->rx_buf;
		s->rx_size = r->buf_size;
		if (s->rx_avail && s->rx_off < r->off)
			s->rx_off += old;
	}
	if (r->tx_len > s->tx_size) {
		if (!size_ok(r->tx_len))
			return false;
		s->tx_large = ss->mem + r->rx_buf + XTS_BUF_MAX;
		s->tx_grow = r->tx_len;
		xctx_grow_tx(c, s);
		if (s->nospace && s->tx_size - s->tx_used >= s->tx_size / 3) {
			s->nospace = false;
			xepoll_event(c, s, EPOLLOUT);
		}
	}
	return true;
}

static bool reply_declined(struct xctx *c, struct xsock *s,
			   const struct xts_reply *r)
{
	xask_decided(c, s);
	if (xsock_phase(s) == XPHASE_CLOSING) {
		xctx_close_answered(c, s);
		return true;
	}
	xctx_leave(c, s);
	xsock_declined(s, r->err > 0 && r->err < XTS_REASON_COUNT
				  ? r->err
				  : XTS_REASON_REFUSED);
	xepoll_to_kernel(c, s);
	return true;
}

/* Parts come in a row, so that a set is of one moment; the rest of one that
 * nobody waits for any more is passed over. */
static bool reply_info(struct xctx *c, struct xsock *s,
		       const struct xts_reply *r)
{
	if (r->flags >= XTS_INFO_PARTS)
		return false;
	if (!s->info || s->info_parts == XTS_INFO_PARTS)
		return true;
	if (r->flags == 0)
		s->info_parts = 0;
	else if (r->flags != s->info_parts)
		return true;
	memcpy((uint8_t *)s->info + r->flags * XTS_INFO_PART,
	       (const uint8_t *)r + offsetof(struct xts_reply, off),
	       XTS_INFO_PART);
	s->info_parts++;
	return true;
}

static bool __attribute__((noinline))
reply_cold(struct xctx *c, struct xsock *s, const struct xts_reply *r)
{
	uint32_t phase = xsock_phase(s);
	bool asking = !s->rx_size && !s->gone;

	switch (r->type) {
	case XTS_REPLY_RECV:
	case XTS_REPLY_GROWN:
	case XTS_REPLY_URGENT:
		break;
	case XTS_REPLY_OFFLOADED:
		return asking && reply_offloaded(c, s, r);
	case XTS_REPLY_DECLINED:
		return asking && reply_declined(c, s, r);
	case XTS_REPLY_INFO:
		return phase == XPHASE_CLOSING || reply_info(c, s, r);
	case XTS_REPLY_HANDED:
		return xleave_reply(c, s, r);
	case XTS_REPLY_MOVED:
		s->moved = true;
		return phase != XPHASE_ASKING;
	default:
		return false;
	}
	if (phase == XPHASE_CLOSING) {
		/* Reset before the service knew of the close. */
		if (r->flags & XTS_F_RESET)
			xsvc_release_buffers(c->session, r->cookie);
		if (r->flags & (XTS_F_CLOSED | XTS_F_RESET))
			xctx_close_answered(c, s);
		return true;
	}
	if (r->type == XTS_REPLY_GROWN)
		return s->gone || reply_grown(c, s, r);
	if (r->type == XTS_REPLY_URGENT && s->rx_size) {
		xurgent_reply(c, s, r);
		return true;
	}
	if (s->gone || (asking && !(r->flags & XTS_F_RESET)))
		return s->gone;
	if (!reply_recv(c, s, r))
		return false;
	if (r->flags & XTS_F_LEAVE && phase == XPHASE_OFFLOADED)
		xleave_begin(c, s);
	else if (r->flags & XTS_F_LEAVE)
		s->leave_later = phase == XPHASE_MOVING;
	if (r->flags & (XTS_F_RESET | XTS_F_CLOSED))
		xctx_end_flow(c, s, r->err ? (int)r->err : ECONNRESET);
	if (phase == XPHASE_ASKING) {
		xask_decided(c, s);
		xsock_set_phase(s, XPHASE_OFFLOADED);
		xepoll_to_user(c, s);
	}
	return true;
}

enum taken { TAKEN, TAKEN_NOT, TAKEN_NONSENSE };

static inline enum taken take_reply(struct xctx *c, const struct xts_reply *r)
{
	struct xsock *s = xsock_by_cookie(r->cookie);
	bool ok;

	if (!s)
		return TAKEN;
	if (atomic_load_explicit(&s->ctx, memory_order_acquire) != c)
		return xsock_phase(s) == XPHASE_MOVING &&
				       r->type != XTS_REPLY_INFO
			       ? TAKEN_NOT
			       : TAKEN;
	if (r->type == XTS_REPLY_RECV &&
	    !(r->flags & (XTS_F_RESET | XTS_F_CLOSED | XTS_F_LEAVE)) &&
	    xsock_phase(s) == XPHASE_OFFLOADED && !s->gone)
		ok = reply_recv(c, s, r);
	else
		ok = reply_cold(c, s, r);
	return ok ? TAKEN : TAKEN_NONSENSE;
}

static bool drain_ring(struct xctx *c, struct xring *ring)
{
	struct xts_core_area *a = ring->area;
	uint32_t at = ring->reply_consumer, first = at;
	uint32_t to =
		__atomic_load_n(&a->reply_index.producer, __ATOMIC_ACQUIRE);
	enum taken taken = TAKEN;

	if (to == at)
		return false;
	if (to - at > XTS_RING_SLOTS)
		taken = TAKEN_NONSENSE;
	while (at != to && taken == TAKEN) {
		taken = take_reply(c, &a->reply[at & RING_MASK]);
		if (taken == TAKEN)
			at++;
	}
	if (taken == TAKEN_NONSENSE)
		xsvc_lose(c->session);
	__atomic_store_n(&ring->reply_consumer, at, __ATOMIC_RELAXED);
	__atomic_store_n(&a->reply_index.consumer, at, __ATOMIC_RELEASE);
	return at != first;
}

bool xctx_drain(struct xctx *c)
{
	uint32_t i,
		cores = atomic_load_explicit(&c->cores, memory_order_relaxed);
	bool any = false;

	if (!cores)
		return false;
	for (i = 0; i < cores; i++)
		any |= drain_ring(c, &c->ring[i]);
	if (any) {
		c->empty_drains = 0;
		xctx_progress(c);
	} else if (++c->empty_drains % CHECK_EVERY == 0) {
		xsvc_check(c->session);
	}
	if (__builtin_expect(atomic_load_explicit(&c->session->lost,
						  memory_order_relaxed),
			     0)) {
		/* It may have said something at its end. */
		for (i = 0; i < cores; i++)
			drain_ring(c, &c->ring[i]);
		xctx_detach(c);
		any = true;
	}
	return any;
}
