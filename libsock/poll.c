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
 * While the service decides about a socket, Linux's is looked at until the
 * service takes it; that is not slept on.
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
#define SLICE_NS 20000u	      /* between looks at the kernel */
#define LEFT_OUT_NS 10000000u /* the same, asleep: see take_kernel() */
/* The same in sleep, where Linux still has a socket that was offered */
#define ASKING_NS 5000000u
#define FOR_EVER_NS (UINT64_MAX / 2)
#define ALWAYS (POLLERR | POLLHUP | POLLNVAL)

/* In place of a descriptor, for the kernel's poll */
enum { OURS = -1, LEFT_OUT = -2 };

struct set {
	struct pollfd *fds; /* the program's */
	const int *xs;
	nfds_t n;
	bool select;	       /* it is select()'s */
	bool left_out;	       /* of the kernel's poll, for what it says */
	uint64_t deadline;     /* 0: don't wait */
	struct pollfd *kernel; /* n for the kernel's poll, then the sleepers' */
	nfds_t n_ours;	       /* not left to the kernel */
	bool asking;	       /* of these, one that the kernel still has */
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

/* What the call waits for: poll() for what was not asked for, too. */
static short wanted(const struct set *p, nfds_t i)
{
	int asked = p->fds[i].events;

	if (!p->select)
		return (short)(asked | ALWAYS);
	return (short)(POLLNVAL | (asked & POLLIN ? XLEND_IN_SET : 0) |
		       (asked & POLLOUT ? XLEND_OUT_SET : 0) |
		       (asked & POLLPRI ? XLEND_EX_SET : 0));
}

/* As the kernel has it; if that has just been taken from it, the decision is
 * waited for. The phase. */
static uint32_t look_asking(struct set *p, struct xctx *c,
			    const struct xsock *s, nfds_t i)
{
	struct pollfd *f = &p->fds[i];
	int got = -1;

	if (!atomic_load(&s->ask))
		return XPHASE_ASKING;
	p->asking = true;
	got = xask_events(c, s, (uint16_t)f->events);
	if (got < 0) {
		xask_settle(c, p->deadline);
		got = xask_events(c, s, (uint16_t)f->events);
	}
	f->revents = (short)(got < 0 ? 0 : got & (uint16_t)wanted(p, i));
	return xsock_phase(s);
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
	if (phase == XPHASE_ASKING)
		phase = look_asking(p, c, s, i);
	if (atomic_load(&s->ctx) == c && phase == XPHASE_OFFLOADED)
		f->revents = (short)(xsock_events(s) & (uint16_t)wanted(p, i));
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
	p->left_out = false;
	p->asking = false;
	for (i = 0; i < p->n; i++) {
		p->kernel[i] = p->fds[i];
		p->kernel[i].revents = p->fds[i].revents = 0;
		if (!p->xs[i] || !look_at(p, i))
			continue;
		p->kernel[i].fd = OURS;
		p->n_ours++;
		n += p->fds[i].revents != 0;
	}
	return n;
}

/* Of the kernel's, after its poll; number of ready ones. Poll always ends for
 * an error or a hang-up, select() where that is asked for: what has nothing
 * else to say is left out, and looked at now and then. */
static int take_kernel(struct set *p)
{
	nfds_t i;
	int n = 0;

	for (i = 0; i < p->n; i++) {
		if (p->kernel[i].fd < 0)
			continue;
		p->fds[i].revents = (short)(p->kernel[i].revents &
					    (p->select ? wanted(p, i) : -1));
		n += p->fds[i].revents != 0;
		if (p->kernel[i].revents && !p->fds[i].revents) {
			p->kernel[i].fd = LEFT_OUT;
			p->left_out = true;
		}
	}
	return n;
}

/* Both, without waiting; number of ready ones or -errno. With a mask, signals
 * that it lets through are taken if nothing is ready. */
static int look(struct set *p, const sigset_t *mask)
{
	static const struct timespec zero;
	int n = look_ours(p), k = 0;

	if (p->n_ours < p->n || (mask && !n)) {
		k = ppoll(p->kernel, p->n, &zero, n ? NULL : mask);
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

static int spin(struct set *p)
{
	uint64_t now = xclock_ns(), end = p->deadline;
	int n = 0;

	if (xctx_spin_ns() < UINT64_MAX - now && now + xctx_spin_ns() < end)
		end = now + xctx_spin_ns();
	while (!n && now < end && p->n_ctx && !xsignal_came()) {
		spin_slice(p, now + SLICE_NS < end ? now + SLICE_NS : end);
		n = look(p, NULL);
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
		if (!p->xs[i] || p->kernel[i].fd != OURS || p->fds[i].fd < 0)
			continue;
		s = xsock_get(p->xs[i]);
		c = s ? xsock_lock(s) : NULL;
		if (!c)
			return true;
		yes = xsock_phase(s) == XPHASE_OFFLOADED &&
		      xsock_events(s) & (uint16_t)wanted(p, i);
		pthread_mutex_unlock(&c->lock);
		for (k = 0; k < p->n_ctx && p->ctx[k] != c; k++)
			;
		yes |= k == p->n_ctx;
	}
	return yes;
}

static int sleep_once(struct set *p, const sigset_t *mask)
{
	uint64_t now = xclock_ns(),
		 left = p->deadline > now ? p->deadline - now : 0;
	struct timespec ts;
	int k = 0, err = 0;
	nfds_t entered = 0;
	uint32_t down = 0;

	if (p->left_out && left > LEFT_OUT_NS)
		left = LEFT_OUT_NS;
	if (p->asking && left > ASKING_NS)
		left = ASKING_NS;
	ts = (struct timespec){.tv_sec = (time_t)(left / 1000000000u),
			       .tv_nsec = (long)(left % 1000000000u)};
	if (lie_down(p, &down) && enter_kernel(p, &entered) && !changed(p)) {
		k = ppoll(p->kernel, p->n + down,
			  left > FOR_EVER_NS ? NULL : &ts, mask);
		err = k < 0 ? -errno : 0;
	}
	leave_kernel(p, entered);
	get_up(p, down);
	return err;
}

static int wait_set(struct set *p, const sigset_t *mask)
{
	int n = look(p, NULL), err = 0;

	while (!n && !err && xclock_ns() < p->deadline) {
		n = spin(p);
		if (n)
			break;
		err = xsignal_came() ? -EINTR : sleep_once(p, mask);
		n = look(p, NULL);
	}
	return n ? n : err;
}

int xlend_poll(struct pollfd *fds, const int *xs, nfds_t n, uint64_t deadline,
	       const sigset_t *mask, bool select)
{
	struct pollfd stack[ON_STACK + XTS_MAX_CTX];
	struct set p = {.fds = fds,
			.xs = xs,
			.n = n,
			.select = select,
			.deadline = deadline,
			.kernel = stack};
	int ret;

	if (n > ON_STACK)
		p.kernel = malloc((n + XTS_MAX_CTX) * sizeof(*p.kernel));
	if (!p.kernel)
		return xts_result(-ENOMEM);
	ret = deadline ? wait_set(&p, mask) : look(&p, mask);
	if (p.kernel != stack)
		free(p.kernel);
	return xts_result(ret);
}
