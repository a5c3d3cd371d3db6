/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lend.c - sockets whose descriptor is the program's own
 *
 * Read lend.h first. The library treats them as any other: they differ in that
 * they are not offered before their first data call, or a later one, that they
 * stay open in the child of fork(), and that their descriptor may be exchanged.
 */
#include "libsock/lend.h"
#include "libsock/service.h"

#include <errno.h>
#include <sched.h>

XLEND_TLS uint32_t xlend_signals, xlend_signals_seen;
uint32_t xlend_patience;
void (*xlend_replace)(int s, int shadow, int fd);
int (*xlend_claim)(int s);
bool (*xlend_is_shared)(int s);

void xlend_init(void)
{
	(void)xsvc_disabled();
}

int xlend_adopt(int fd, bool accepted, bool nonblock)
{
	enum xts_reason why = xsvc_disabled() ? XTS_REASON_DISABLED
					      : XTS_REASON_PENDING;
	struct xsock *s = xsock_new(fd, why, nonblock);

	if (!s)
		return -1;
	s->lent = true;
	s->accepted = accepted;
	xsock_be_patient(s, xlend_patience);
	/* Whatever was set before is not known. */
	atomic_store(&s->tuned, true);
	xsock_set_phase(s,
			why == XTS_REASON_PENDING ? XPHASE_NEW : XPHASE_KERNEL);
	return (int)s->index + XSOCK_FIRST;
}

enum xlend_state xlend_state(int s)
{
	struct xsock *sock = xsock_at((uint32_t)s - XSOCK_FIRST);

	switch (sock ? xsock_phase(sock) : XPHASE_FREE) {
	case XPHASE_NEW:
		return XLEND_NEW;
	case XPHASE_KERNEL:
		return XLEND_KERNEL;
	case XPHASE_ASKING:
	case XPHASE_MOVING:
	case XPHASE_LEAVING:
		return XLEND_ASKING;
	case XPHASE_OFFLOADED:
		return XLEND_OFFLOADED;
	case XPHASE_FORKED:
		return XLEND_FORKED;
	}
	return XLEND_GONE;
}

void xlend_inherited(int s)
{
	struct xsock *sock = xsock_get(s);
	struct pollfd p = {.events = POLLRDHUP};

	if (!sock)
		return;
	sock->inherited = true;
	/* Established, so it is a shutdown() of this end. */
	p.fd = sock->fd;
	sock->shut_rd = poll(&p, 1, 0) == 1 && p.revents & POLLRDHUP;
}

bool xlend_keep(int s, enum xts_reason reason)
{
	struct xsock *sock = xsock_get(s);

	return sock && xsock_stays_kernel(sock, reason);
}

void xlend_reshadow(int s, int fd)
{
	struct xsock *sock = xsock_get(s);
	struct xctx *c;

	if (!sock)
		return;
	xepoll_reshadow(sock, fd);
	c = xsock_lock(sock);
	sock->fd = fd;
	if (c)
		pthread_mutex_unlock(&c->lock);
}

void xlend_await(int s, uint64_t deadline_ns)
{
	struct xsock *sock = xsock_get(s);

	if (sock)
		xsock_await(sock, deadline_ns);
}

void xlend_connects(int s)
{
	struct xsock *sock = xsock_get(s);

	if (sock)
		xsock_reconnects(sock);
}

void xlend_disconnected(int s)
{
	struct xsock *sock = xsock_get(s);

	if (sock)
		xsock_disconnected(sock);
}

void *xlend_registered(int s)
{
	struct xsock *sock = xsock_get(s);

	return sock ? atomic_load(&sock->ep_ctx) : NULL;
}

void xlend_unregister(int s)
{
	struct xsock *sock = xsock_get(s);

	if (sock)
		xepoll_forget(sock);
}

uint64_t xlend_cookie(int s)
{
	struct xsock *sock = xsock_get(s);

	return sock ? xsock_cookie(sock) : 0;
}

int xlend_number(uint64_t cookie)
{
	return (int)(uint32_t)cookie + XSOCK_FIRST;
}

void xlend_taken(int s)
{
	struct xsock *sock = xsock_get(s);
	uint32_t phase = XPHASE_FORKED;

	if (!sock || xsock_phase(sock) != phase)
		return;
	if (sock->inherited) {
		xsock_declined(sock, XTS_REASON_SHARED);
		return;
	}
	atomic_store(&sock->reason, XTS_REASON_HANDED_OVER);
	atomic_compare_exchange_strong(&sock->phase, &phase, XPHASE_KERNEL);
}

bool xlend_times_out(int s, bool sends)
{
	struct xsock *sock = xsock_get(s);

	return sock &&
	       atomic_load(sends ? &sock->sndtimeo_ns : &sock->rcvtimeo_ns);
}

void xlend_set_error(int s, int err)
{
	struct xsock *sock = xsock_get(s);
	struct xctx *c = sock ? xsock_lock(sock) : NULL;

	if (!c)
		return;
	if (xsock_phase(sock) == XPHASE_OFFLOADED)
		sock->so_error = err;
	pthread_mutex_unlock(&c->lock);
}

void xlend_flush(uint64_t deadline_ns)
{
	while (!xsvc_flush() && xclock_ns() < deadline_ns)
		sched_yield();
}
