/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * poll.c - poll(2) over lent sockets and all other descriptors
 *
 * Read lend.h and wait.c first. An offloaded socket's state is looked up under
 * its context's lock; whatever is Linux's, also a lent socket that was not
 * offered yet, is left to the kernel's poll. Nothing ready, the call spins as
 * all others do, looking at the kernel now and then, and then sleeps in
 * ppoll(2) on the kernel's descriptors and, for each context concerned, on the
 * epoll of a sleeper, which tells of the service's replies and of our own
 * changes.
 *
 * While it sleeps, Linux's sockets of ours count as used by a call in the
 * kernel, so that no other thread offers them meanwhile.
 *
 * Memory: an array of the size of the program's, from the heap if it is large.
 */
#include "libsock/service.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#define ON_STACK 64u
#define SLICE_NS 20000u /* between looks at the kernel */
#define ALWAYS (POLLERR | POLLHUP | POLLNVAL)

struct set {
	struct pollfd *fds; /* the program's */
	const int *xs;
	nfds_t n;
	struct pollfd *kernel; /* n for the kernel's poll, then the sleepers' */
	nfds_t n_ours;	       /* not left to the kernel */
	struct xctx *ctx[XTS_MAX_CTX];
	struct xsleeper *sleeper[XTS_MAX_CTX];
	uint32_t n_ctx;
};

static void note_ctx(struct set *p, struct xctx *c)
{
	uint32_t i;

	for (i = 0; i < p->n_ctx; i++)
		if (p->ctx[i] == c)
			return;
	if (p->n_ctx < XTS_MAX_CTX)
		p->ctx[p->n_ctx++] = c;
}

/* One of ours: true if it is not the kernel's. */
static bool look_at(struct set *p, nfds_t i)
{
	struct pollfd *f = &p->fds[i];
	struct xsock *s = f->fd >= 0 ? xsock_get(p->xs[i]) : NULL;
	struct xctx *c = s ? xsock_lock(s) : NULL;
	uint32_t phase;

	if (!c)
		return false;
	xctx_drain(c);
	phase = xsock_phase(s);
	if (atomic_load(&s->ctx) == c && phase == XPHASE_OFFLOADED)
		f->revents = (short)(xsock_events(s) &
				     ((uint16_t)f->events | ALWAYS));
	else if (!xphase_passes(phase))
		goto kernels; /* declined just now */
	pthread_mutex_unlock(&c->lock);
	note_ctx(p, c);
	return true;
kernels:
	pthread_mutex_unlock(&c->lock);
	return false;
}

/* Looks at all of ours and splits the set; number of ready ones. */
static int look_ours(struct set *p)
{
	nfds_t i;
	int n = 0;

	p->n_ours = p->n_ctx = 0;
	for (i = 0; i < p->n; i++) {
		p->kernel[i] = p->fds[i];
		p->kernel[i].revents = p->fds[i].revents = 0;
		if (!p->xs[i] || !look_at(p, i))
			continue;
		p->kernel[i].fd = -1;
		p->n_ours++;
		n += p->fds[i].revents != 0;
	}
	return n;
}

/* Of the kernel's, after its poll; number of ready ones. */
static int take_kernel(struct set *p)
{
	nfds_t i;
	int n = 0;

	for (i = 0; i < p->n; i++) {
		if (p->kernel[i].fd < 0)
			continue;
		p->fds[i].revents = p->kernel[i].revents;
		n += p->fds[i].revents != 0;
	}
	return n;
}

/* Both, without waiting; number of ready ones or -errno. */
static int look(struct set *p)
{
	static const struct timespec zero;
	int n = look_ours(p), k = 0;

	if (p->n_ours < p->n) {
		k = ppoll(p->kernel, p->n, &zero, NULL);
		if (k > 0)
			k = take_kernel(p);
	}
	return k < 0 ? (n ? n : -errno) : n + k;
}

/* Any of the contexts has replies. */
static void spin_slice(struct set *p, uint64_t end)
{
	struct xctx *c;
	uint32_t i, seen;
	bool news = false;

	for (i = 0; i < p->n_ctx && !news; i++) {
		c = p->ctx[i];
		pthread_mutex_lock(&c->lock);
		seen = atomic_load(&c->progress);
		xctx_flush(c);
		xctx_waiter_enter(c);
		pthread_mutex_unlock(&c->lock);
		/* One of several is only looked at. */
		news = xctx_spin(c, seen, p->n_ctx > 1 ? 0 : end);
		pthread_mutex_lock(&c->lock);
		xctx_waiter_leave(c);
		pthread_mutex_unlock(&c->lock);
	}
}

static int spin(struct set *p, uint64_t deadline)
{
	uint64_t now = xclock_ns(), end = deadline;
	int n = 0;

	if (xctx_spin_ns() < UINT64_MAX - now && now + xctx_spin_ns() < end)
		end = now + xctx_spin_ns();
	while (!n && now < end && p->n_ctx && !xsignal_came()) {
		spin_slice(p, now + SLICE_NS < end ? now + SLICE_NS : end);
		n = look(p);
		now = xclock_ns();
	}
	return n;
}

/* The sleepers get up, from the last to the first. */
static void get_up(struct set *p, uint32_t n)
{
	struct xctx *c;

	while (n--) {
		c = p->ctx[n];
		xctx_sleeper_look(c, p->sleeper[n], 0);
		pthread_mutex_lock(&c->lock);
		xctx_sleeper_leave(c, p->sleeper[n]);
		pthread_mutex_unlock(&c->lock);
	}
}

/* A sleeper for each context; false: something came meanwhile. */
static bool lie_down(struct set *p, uint32_t *n)
{
	struct xctx *c;
	bool quiet = true;

	for (*n = 0; *n < p->n_ctx && quiet; ++*n) {
		c = p->ctx[*n];
		pthread_mutex_lock(&c->lock);
		xctx_flush(c);
		p->sleeper[*n] = xctx_sleeper_enter(c);
		if (p->sleeper[*n])
			p->kernel[p->n + *n] = (struct pollfd){
				.fd = p->sleeper[*n]->epfd, .events = POLLIN};
		quiet = p->sleeper[*n] && !xctx_drain(c);
		pthread_mutex_unlock(&c->lock);
		if (!p->sleeper[*n])
			return false;
	}
	return quiet;
}

/* Linux's sockets of ours, before and after the kernel polls them: revents
 * tells which were counted. false: one of the first n is Linux's no more. */
static bool enter_kernel(struct set *p, nfds_t *n)
{
	struct xsock *s;
	uint32_t phase;

	for (*n = 0; *n < p->n; ++*n) {
		s = p->xs[*n] && p->kernel[*n].fd >= 0 ? xsock_get(p->xs[*n])
						       : NULL;
		phase = s ? xsock_phase(s) : XPHASE_KERNEL;
		if (phase == XPHASE_KERNEL || phase == XPHASE_FORKED)
			continue;
		if (!xsock_kernel_enter(s))
			return false;
		p->fds[*n].revents = 1;
	}
	return true;
}

static void leave_kernel(struct set *p, nfds_t n)
{
	while (n--) {
		if (p->fds[n].revents)
			xsock_kernel_done(
				xsock_at((uint32_t)p->xs[n] - XSOCK_FIRST),
				XROUTE_COUNTED);
		p->fds[n].revents = 0;
	}
}

/* Another thread took replies, or changed a socket, before we lay down. */
static bool changed(const struct set *p)
{
	struct xsock *s;
	struct xctx *c;
	bool yes = false;
	uint32_t k;
	nfds_t i;

	for (i = 0; i < p->n && !yes; i++) {
		if (!p->xs[i] || p->kernel[i].fd >= 0 || p->fds[i].fd < 0)
			continue;
		s = xsock_get(p->xs[i]);
		c = s ? xsock_lock(s) : NULL;
		if (!c)
			return true;
		yes = xsock_phase(s) == XPHASE_OFFLOADED &&
		      xsock_events(s) & ((uint16_t)p->fds[i].events | ALWAYS);
		pthread_mutex_unlock(&c->lock);
		for (k = 0; k < p->n_ctx && p->ctx[k] != c; k++)
			;
		yes |= k == p->n_ctx;
	}
	return yes;
}

static int sleep_once(struct set *p, uint64_t deadline, const sigset_t *mask)
{
	uint64_t now = xclock_ns(), left = deadline > now ? deadline - now : 0;
	struct timespec ts = {.tv_sec = (time_t)(left / 1000000000u),
			      .tv_nsec = (long)(left % 1000000000u)};
	int k = 0, err = 0;
	nfds_t entered = 0;
	uint32_t down = 0;

	if (lie_down(p, &down) && enter_kernel(p, &entered) && !changed(p)) {
		k = ppoll(p->kernel, p->n + down,
			  deadline == UINT64_MAX ? NULL : &ts, mask);
		err = k < 0 ? -errno : 0;
	}
	leave_kernel(p, entered);
	get_up(p, down);
	return err;
}

static int wait_set(struct set *p, uint64_t deadline, const sigset_t *mask)
{
	int n = look(p), err = 0;

	while (!n && !err && xclock_ns() < deadline) {
		n = spin(p, deadline);
		if (n)
			break;
		err = xsignal_came() ? -EINTR : sleep_once(p, deadline, mask);
		n = look(p);
	}
	return n ? n : err;
}

int xlend_poll(struct pollfd *fds, const int *xs, nfds_t n, uint64_t deadline,
	       const sigset_t *mask)
{
	struct pollfd stack[ON_STACK + XTS_MAX_CTX];
	struct set p = {.fds = fds, .xs = xs, .n = n, .kernel = stack};
	int ret;

	if (n > ON_STACK)
		p.kernel = malloc((n + XTS_MAX_CTX) * sizeof(*p.kernel));
	if (!p.kernel)
		return xts_result(-ENOMEM);
	ret = deadline ? wait_set(&p, deadline, mask) : look(&p);
	if (p.kernel != stack)
		free(p.kernel);
	return xts_result(ret);
}
