/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * wait.c - spinning, sleeping, waking
 *
 * Read xts_proto.h first (sleeping). A thread spins for XTS_SPIN_US (giving the
 * CPU to a core that shares it), then sleeps in epoll_wait() on a sleeper of
 * its own. A call that may not wait and finds nothing gives the CPU to such a
 * core, too: programs ask again at once. Several threads may sleep on one
 * context: each makes app_sleep a fresh odd value before it looks at the rings
 * for the last time, nobody ever reads the service's eventfd (it is watched
 * edge-triggered), so a reply after that look wakes all of them and each looks
 * for its own. app_sleep goes back to even when the last one is awake. Changes
 * made by this process (close by another thread, a finished move) go through
 * xctx_wake().
 *
 * Sleepers are kept for the next time; one made for an earlier session is
 * thrown away. Their number is that of threads that slept at the same time.
 */
#include "libsock/service.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SPIN_BATCH 32u

static inline void cpu_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* ---- sleeping ----------------------------------------------------------- */

void xctx_sleep_begin(struct xctx *c)
{
	c->sleep_word = (c->sleep_word + 1) | 1;
	if (!atomic_load(&c->cores))
		return;
	__atomic_store_n(&c->area->app_sleep, c->sleep_word, __ATOMIC_SEQ_CST);
	xfence();
}

void xctx_sleep_end(struct xctx *c)
{
	if (!(c->sleep_word & 1) || c->n_sleepers || c->armed)
		return;
	c->sleep_word++;
	if (atomic_load(&c->cores))
		__atomic_store_n(&c->area->app_sleep, c->sleep_word,
				 __ATOMIC_RELAXED);
}

void xctx_sleeper_free(struct xsleeper *sl)
{
	if (sl->epfd >= 0)
		close(sl->epfd);
	if (sl->wake_fd >= 0)
		close(sl->wake_fd);
	free(sl);
}

int xctx_watch(int epfd, int fd, uint64_t tag, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.u64 = tag};

	return epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev);
}

static struct xsleeper *sleeper_new(struct xctx *c)
{
	struct xsleeper *sl = calloc(1, sizeof(*sl));

	if (!sl)
		return NULL;
	sl->attach_no = c->attach_no;
	sl->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	sl->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (sl->wake_fd < 0 || sl->epfd < 0 ||
	    xctx_watch(sl->epfd, sl->wake_fd, XTAG_WAKE, EPOLLIN | EPOLLET))
		goto fail;
	if (c->session && !c->detached &&
	    (xctx_watch(sl->epfd, c->event_fd, XTAG_EVENT, EPOLLIN | EPOLLET) ||
	     xctx_watch(sl->epfd, c->session->control_fd, XTAG_CONTROL,
			EPOLLRDHUP | EPOLLET)))
		goto fail;
	return sl;
fail:
	xctx_sleeper_free(sl);
	return NULL;
}

static struct xsleeper *sleeper_get(struct xctx *c)
{
	struct xsleeper *sl;

	while ((sl = c->idle_sleepers)) {
		c->idle_sleepers = sl->next;
		if (sl->attach_no == c->attach_no)
			return sl;
		xctx_sleeper_free(sl);
	}
	return sleeper_new(c);
}

static void sleeper_unlink(struct xctx *c, struct xsleeper *sl)
{
	struct xsleeper **p = &c->asleep;

	while (*p != sl)
		p = &(*p)->next;
	*p = sl->next;
	sl->next = c->idle_sleepers;
	c->idle_sleepers = sl;
}

void xctx_wake(struct xctx *c)
{
	struct xsleeper *sl;
	uint64_t one = 1;
	ssize_t n = 0;

	xctx_progress(c);
	for (sl = c->asleep; sl; sl = sl->next)
		n |= write(sl->wake_fd, &one, sizeof(one));
	/* Who polls and is awake sees progress, or the ready list. In an epoll
	 * of the program's each change is an edge. */
	if (c->polling && (!c->signalled || (c->borrowed && c->fd_used)) &&
	    (c->n_sleepers || c->fd_used)) {
		n |= write(c->wake_fd, &one, sizeof(one));
		c->signalled = true;
	}
	/* A full counter is a signal too. */
	(void)n;
}

/* Milliseconds to sleep so that deadline_ns has passed. */
static int timeout_ms(uint64_t deadline_ns)
{
	uint64_t now = xclock_ns(), ms;

	if (deadline_ns == UINT64_MAX)
		return -1;
	if (deadline_ns <= now)
		return 0;
	ms = (deadline_ns - now + 999999) / 1000000;
	return ms > 1000000 ? 1000000 : (int)ms;
}

struct xsleeper *xctx_sleeper_enter(struct xctx *c)
{
	struct xsleeper *sl = sleeper_get(c);

	if (!sl)
		return NULL;
	sl->next = c->asleep;
	c->asleep = sl;
	c->n_sleepers++;
	xctx_sleep_begin(c);
	return sl;
}

void xctx_sleeper_leave(struct xctx *c, struct xsleeper *sl)
{
	c->n_sleepers--;
	sleeper_unlink(c, sl);
	xctx_sleep_end(c);
}

int xctx_sleeper_look(struct xctx *c, struct xsleeper *sl, int ms)
{
	struct epoll_event ev[4];
	int i, n = epoll_wait(sl->epfd, ev, 4, ms);

	for (i = 0; i < n; i++) {
		if (ev[i].data.u64 != XTAG_CONTROL)
			continue;
		pthread_mutex_lock(&c->lock);
		if (c->session)
			xsvc_check(c->session);
		pthread_mutex_unlock(&c->lock);
	}
	return n < 0 ? -errno : 0;
}

static int sleep_locked(struct xctx *c, uint64_t deadline_ns)
{
	struct xsleeper *sl;
	int err = 0;

	/* What can't be told now is tried again soon. */
	if (!xctx_flush(c) && deadline_ns > xclock_ns() + 1000000)
		deadline_ns = xclock_ns() + 1000000;
	sl = xctx_sleeper_enter(c);
	if (!sl)
		return -ENOMEM;
	if (!xctx_drain(c)) {
		pthread_mutex_unlock(&c->lock);
		err = xctx_sleeper_look(c, sl, timeout_ms(deadline_ns));
		pthread_mutex_lock(&c->lock);
	}
	xctx_sleeper_leave(c, sl);
	xctx_drain(c);
	return err;
}

/* ---- spinning ----------------------------------------------------------- */

/* Something for us in a ring? The lock need not be held. */
static bool pending(const struct xctx *c, uint32_t cores)
{
	const struct xring *ring;
	uint32_t i;

	for (i = 0; i < cores; i++) {
		ring = &c->ring[i];
		if (__atomic_load_n(&ring->area->reply_index.producer,
				    __ATOMIC_RELAXED) !=
		    __atomic_load_n(&ring->reply_consumer, __ATOMIC_RELAXED))
			return true;
	}
	return false;
}

bool xctx_hinted(const struct xctx *c)
{
	return atomic_load_explicit(&c->n_kernel, memory_order_relaxed) &&
	       atomic_load_explicit(&c->cores, memory_order_relaxed) &&
	       __atomic_load_n(&c->area->linux_fed, __ATOMIC_RELAXED) !=
		       __atomic_load_n(&c->fed_seen, __ATOMIC_RELAXED);
}

void xctx_hint_taken(struct xctx *c)
{
	pthread_mutex_lock(&c->lock);
	if (atomic_load(&c->cores))
		__atomic_store_n(
			&c->fed_seen,
			__atomic_load_n(&c->area->linux_fed, __ATOMIC_ACQUIRE),
			__ATOMIC_RELAXED);
	pthread_mutex_unlock(&c->lock);
}

bool xctx_shares_cpu(struct xctx *c)
{
	uint32_t i,
		cores = atomic_load_explicit(&c->cores, memory_order_relaxed);
	int cpu = sched_getcpu(), core_cpu;
	bool shares = false;

	if (!cores)
		return false;

	if (__atomic_load_n(&c->area->app_cpu, __ATOMIC_RELAXED) != cpu)
		__atomic_store_n(&c->area->app_cpu, cpu, __ATOMIC_RELAXED);
	for (i = 0; i < cores; i++) {
		core_cpu = __atomic_load_n(&c->ring[i].area->core.cpu,
					   __ATOMIC_RELAXED);
		shares |= core_cpu < 0 || core_cpu == cpu;
	}
	return shares;
}

bool xctx_spin(struct xctx *c, uint32_t seen, uint64_t end_ns)
{
	uint32_t i,
		cores = atomic_load_explicit(&c->cores, memory_order_relaxed);
	bool yield;

	if (!cores)
		return false;
	yield = xctx_shares_cpu(c);
	__atomic_store_n(&c->shares_cpu, yield, __ATOMIC_RELAXED);
	for (i = 1;; i++) {
		if (pending(c, cores) || xctx_hinted(c) ||
		    atomic_load_explicit(&c->progress, memory_order_relaxed) !=
			    seen)
			return true;
		if ((yield || i % SPIN_BATCH == 0) && xclock_ns() >= end_ns)
			return false;
		if (yield)
			sched_yield();
		else
			cpu_pause();
	}
}

void xctx_waiter_enter(struct xctx *c)
{
	c->n_waiters++;
}

void xctx_waiter_leave(struct xctx *c)
{
	if (--c->n_waiters == 0 && c->detached)
		xctx_forget_rings(c);
}

int xctx_wait(struct xctx *c, uint64_t deadline_ns)
{
	uint64_t now, end;
	uint32_t seen;
	int err = 0;

	if (xctx_drain(c))
		return 0;
	xctx_flush(c);
	now = xclock_ns();
	if (now >= deadline_ns)
		return -EAGAIN;
	end = xctx_spin_ns() > UINT64_MAX - now ? UINT64_MAX
						: now + xctx_spin_ns();
	if (end > deadline_ns)
		end = deadline_ns;
	seen = atomic_load(&c->progress);
	xctx_waiter_enter(c);
	pthread_mutex_unlock(&c->lock);
	xctx_spin(c, seen, end);
	pthread_mutex_lock(&c->lock);
	if (!xctx_drain(c) && atomic_load(&c->progress) == seen)
		err = xsignal_came() ? -EINTR : sleep_locked(c, deadline_ns);
	xctx_waiter_leave(c);
	return err;
}
