/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ask.c - what a program may do while the service decides
 *
 * Read xts_proto.h "Taking" first. A non-blocking call must not notice that its
 * connection is on its way to the service: Linux has data for it, or room. So
 * in phase ASKING such a call is still made on the kernel socket, with the
 * context's lock held and in_kernel set to the number of the request, as long
 * as the service has not begun with that. From then on the data are on their
 * way, and the call waits for the decision: that takes as long as copying the
 * connection does, or, where the service is held up in the middle of it, at
 * most TAKING_NS. The same for poll() and epoll_wait(), which look at the
 * kernel socket.
 *
 * What would make the service decline, or what it must know of beforehand, is
 * not done in the kernel then but waits, too: a send of more than fits the
 * buffers (xask_sends()), and urgent data (the callers look).
 *
 * All this is for lent sockets, whose programs know nothing of a service. What
 * is quick and short may be over before the service begins. The other sockets
 * have no number, nor has any with a service that does not tell when it begins
 * (XTS_F_TAKES): their non-blocking calls find nothing (EAGAIN) in phase
 * ASKING, and no connection is too short to be offloaded.
 *
 * State: asked and decided of a context, ask of a socket, written under the
 * context's lock; an epoll of another context looks at ask, to go by phases.
 * The number of requests that the service has begun with and not answered yet
 * is the difference of area->taken and decided.
 */
#include "libsock/service.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>

#define TAKING_NS 1000000000u
#define YIELDS 16u /* the service may need this CPU */
/* Linux's queue, so that it fits the service's buffers. */
#define SEND_MAX 65536u

/* Numbers go round, without 0. */
static uint32_t next(uint32_t n)
{
	return n + 1 ? n + 1 : 1;
}

static uint32_t taken(const struct xctx *c)
{
	return __atomic_load_n(&c->area->taken, __ATOMIC_ACQUIRE);
}

void xask_begin(struct xctx *c, struct xsock *s)
{
	bool numbered = c->session->takes && s->lent;

	atomic_store(&s->ask, numbered ? next(c->asked) : 0);
}

void xask_sent(struct xctx *c, const struct xsock *s)
{
	uint32_t ask = atomic_load(&s->ask);

	if (ask)
		atomic_store(&c->asked, ask);
}

void xask_decided(struct xctx *c, struct xsock *s)
{
	if (atomic_load(&s->ask))
		atomic_store(&c->decided, next(c->decided));
	atomic_store(&s->ask, 0);
}

bool xask_enter(struct xctx *c, const struct xsock *s)
{
	uint32_t ask = atomic_load(&s->ask);

	if (!ask || xsock_phase(s) != XPHASE_ASKING || !atomic_load(&c->cores))
		return false;
	__atomic_store_n(&c->area->in_kernel, ask, __ATOMIC_SEQ_CST);
	/* Partner: the service, which stores taken, fences, and looks. */
	xfence();
	if ((int32_t)(taken(c) - ask) < 0)
		return true;
	xask_leave(c);
	return false;
}

void xask_leave(struct xctx *c)
{
	__atomic_store_n(&c->area->in_kernel, 0, __ATOMIC_RELEASE);
}

int xask_events(struct xctx *c, const struct xsock *s, uint32_t events)
{
	struct pollfd p = {.fd = s->fd, .events = (short)events};

	if (!xask_enter(c, s))
		return -1;
	if (poll(&p, 1, 0) < 0)
		p.revents = 0;
	xask_leave(c);
	return (uint16_t)p.revents;
}

int xask_wait(struct xctx *c, uint64_t deadline_ns)
{
	uint32_t seen = atomic_load(&c->progress), i;

	for (i = 0; i < YIELDS; i++) {
		pthread_mutex_unlock(&c->lock);
		sched_yield();
		pthread_mutex_lock(&c->lock);
		if (xctx_drain(c) || atomic_load(&c->progress) != seen)
			return 0;
	}
	return xctx_wait(c, deadline_ns);
}

uint64_t xask_patience(void)
{
	return xclock_ns() + TAKING_NS;
}

void xask_settle(struct xctx *c, uint64_t deadline_ns)
{
	uint64_t end = xask_patience();

	if (deadline_ns && deadline_ns < end)
		end = deadline_ns;
	while (atomic_load(&c->cores) && taken(c) != c->decided &&
	       xask_wait(c, end) != -EAGAIN)
		;
}

bool xask_sends(const struct xsock *s, size_t len)
{
	int queued = 0;

	if (len > SEND_MAX)
		return false;
	return ioctl(s->fd, SIOCOUTQ, &queued) ||
	       (size_t)queued + len <= SEND_MAX;
}
