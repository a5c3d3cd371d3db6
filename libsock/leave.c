/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * leave.c - how an offloaded socket goes back to the kernel
 *
 * Read xts_proto.h "Leaving" first. From phase LEAVING on the program's calls
 * wait, so nothing is read or written any more; what it has consumed and
 * written goes into the command ring, and the service is asked. Its answer
 * comes through the ring, the kernel socket that takes over through the control
 * socket: dup3() puts it in the shadow's place, under the same number and with
 * the same FD_CLOEXEC, and the socket is in phase KERNEL for good. A
 * registration in a polling context goes over to the kernel's epoll, which
 * reports anew what is ready: an edge too many, none too few. Calls that waited
 * go on in the kernel (data.c). Whoever takes replies takes the answer: no
 * thread need be in xts_handover(), the service asks for it, too.
 *
 * What Linux was never told is told now: shutdown(SHUT_RD).
 *
 * A child of fork() that kept its copy of the shadow (xsock_child_keeps, lent
 * sockets) shows that to the service: the process that has the flow is asked to
 * leave, and both get the kernel socket. The kernel's epoll forgets the copy
 * before: it lives on in the other process.
 *
 * State: phase, leaving, leave_err, foreign of the socket, under the lock of
 * its context.
 */
#include "libsock/service.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

static void back(struct xctx *c, struct xsock *s, int err)
{
	bool foreign = s->foreign;

	s->leaving = XLEAVE_NOT;
	s->leave_err = err;
	s->foreign = false;
	if (foreign)
		xctx_leave(c, s);
	xsock_set_phase(s, foreign ? XPHASE_FORKED : XPHASE_OFFLOADED);
	xctx_wake(c);
}

void xleave_begin(struct xctx *c, struct xsock *s)
{
	if (s->gone || !atomic_load(&c->cores))
		return;
	xsock_set_phase(s, XPHASE_LEAVING);
	/* Partner: xsock_fd_hold(), which counts and then looks at the phase.
	 */
	xfence();
	while (atomic_load(&s->kernel_calls))
		sched_yield();
	s->leave_err = 0;
	s->leave_later = false;
	s->leaving = XLEAVE_TELLING;
	xctx_flush_sock(c, s);
}

void xleave_told(struct xctx *c, struct xsock *s)
{
	if (s->leaving != XLEAVE_TELLING || s->tx_unsent || s->rx_credits ||
	    s->cmd_flags)
		return;
	s->leaving = XLEAVE_ASKED;
	xsvc_handover(c, s);
}

static void replace(struct xsock *s, int fd)
{
	int flags, rc;

	if (s->foreign)
		xepoll_withdraw(s);
	if (s->lent && xlend_replace) {
		xlend_replace((int)s->index + XSOCK_FIRST, s->fd, fd);
		return;
	}
	flags = fcntl(s->fd, F_GETFD);
	do
		rc = dup3(fd, s->fd, flags & FD_CLOEXEC ? O_CLOEXEC : 0);
	while (rc < 0 && (errno == EBUSY || errno == EINTR));
}

/* fd takes the place of the shadow. */
static void adopt(struct xctx *c, struct xsock *s, int fd)
{
	/* Before a child has it. */
	if (s->shut_rd)
		shutdown(fd, SHUT_RD);
	replace(s, fd);
	close(fd);
	s->leaving = XLEAVE_NOT;
	s->foreign = false;
	s->rx_avail = s->rx_credits = s->tx_used = s->tx_unsent = 0;
	s->cmd_flags = 0;
	s->urg = 0;
	xctx_leave(c, s);
	atomic_store(&s->reason, XTS_REASON_HANDED_OVER);
	xsock_set_phase(s, XPHASE_KERNEL);
	xepoll_to_kernel(c, s);
	xctx_wake(c);
}

bool xleave_reply(struct xctx *c, struct xsock *s, const struct xts_reply *r)
{
	int fd = r->err ? -1 : xsvc_handed(c->session, r->cookie);

	if (!s->leaving || (!r->err && fd < 0)) {
		if (fd >= 0)
			close(fd);
		return false;
	}
	if (fd >= 0)
		adopt(c, s, fd);
	else
		back(c, s, (int)r->err);
	return true;
}

bool xleave_lost(struct xctx *c, struct xsock *s)
{
	int fd = xsvc_handed(c->session, xsock_cookie(s));
	bool foreign = s->foreign;

	if (fd >= 0)
		adopt(c, s, fd);
	else
		back(c, s, ECONNRESET);
	return fd >= 0 || foreign;
}

/* LEAVING, asked for by this thread: 0 or -errno. Lock held. */
static int await(struct xctx *c, struct xsock *s)
{
	uint32_t gen = atomic_load(&s->gen);

	while (atomic_load(&s->gen) == gen && xsock_phase(s) == XPHASE_LEAVING)
		xctx_wait(c, UINT64_MAX);
	if (atomic_load(&s->gen) != gen)
		return 0; /* it left, and another thread has closed it */
	return xsock_phase(s) == XPHASE_KERNEL ? 0 : -s->leave_err;
}

/* 1: another thread was faster, look again. */
static int leave(struct xsock *s)
{
	struct xctx *c = xsock_lock(s);
	int err = 1;

	if (!c) {
		sched_yield();
		return 1;
	}
	xctx_drain(c);
	if (xsock_phase(s) == XPHASE_OFFLOADED && atomic_load(&s->ctx) == c) {
		xleave_begin(c, s);
		err = s->gone ? -ENOTCONN : await(c, s);
	}
	pthread_mutex_unlock(&c->lock);
	return err;
}

/* A copy of a shadow whose flow is another process's. */
static int claim(struct xsock *s)
{
	struct xctx *c = s->fd >= 0 ? xctx_thread() : NULL;
	int err;

	if (!c)
		return s->fd >= 0 ? -ENOMEM : -EBADF;
	err = xsvc_claim(s, c);
	if (err)
		return err;
	pthread_mutex_lock(&c->lock);
	err = await(c, s);
	pthread_mutex_unlock(&c->lock);
	if (!err)
		xepoll_renew(s);
	return err;
}

int xts_handover(int number)
{
	struct xsock *s = xsock_get(number);
	uint32_t phase, gen = s ? atomic_load(&s->gen) : 0;
	int err = s ? 1 : -EBADF;

	while (err > 0) {
		phase = xsock_phase(s);
		if (phase == XPHASE_KERNEL) {
			err = 0;
		} else if (xphase_passes(phase)) {
			xsock_await(s, UINT64_MAX);
		} else if (phase == XPHASE_OFFLOADED) {
			err = leave(s);
		} else if (phase == XPHASE_FORKED) {
			err = claim(s);
		} else if (phase != XPHASE_NEW) {
			err = -EBADF;
		} else if (atomic_compare_exchange_strong(&s->phase, &phase,
							  XPHASE_KERNEL)) {
			atomic_store(&s->reason, XTS_REASON_HANDED_OVER);
			xepoll_settle(s);
			err = 0;
		}
		if (err > 0 && atomic_load(&s->gen) != gen)
			err = -EBADF;
	}
	return xts_result(err);
}
