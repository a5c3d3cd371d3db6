/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * epoll.c - a program's epolls
 *
 * An epoll is noticed when the first socket of ours is registered in it: it
 * gets a polling context of libsock's, laid under it (lend.h). All that is
 * Linux's stays registered there as the program asked for it; waiting then
 * collects what the context has, and the kernel's events without the
 * context's mark.
 *
 * A connection can be in one epoll of ours. Put into a second one it stays with
 * Linux, or goes back there; its first registration goes on in the kernel.
 *
 * A waiting thread and each descriptor hold a reference to the record; the
 * context, which has a descriptor of its own for the epoll, goes with the last.
 * A record that is used again while a thread looks at the word of a closed
 * descriptor: as ever, that thread waits for another epoll.
 *
 * Memory: EPOLLS records; sockets registered in further epolls stay in the
 * kernel.
 */
#include "libsock/preload/preload.h"

#include <sys/epoll.h>

#define EPOLLS 16384

struct ep {
	_Atomic(void *) ctx;
	_Atomic uint32_t refs; /* descriptors, and threads that wait */
	_Atomic uint32_t fds;  /* of these, descriptors */
	_Atomic bool promised; /* it is polled itself */
};

static struct ep eps[EPOLLS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint32_t used; /* the highest index ever used, plus 1 */

/* ---- records ---------------------------------------------------------------
 */

static struct ep *ep_at(uint64_t word)
{
	return fd_kind_of(word) == FD_EPOLL ? &eps[fd_number_of(word)] : NULL;
}

static bool ref(struct ep *ep)
{
	uint32_t n = atomic_load(&ep->refs);

	while (n && !atomic_compare_exchange_weak(&ep->refs, &n, n + 1))
		;
	return n != 0;
}

static void unref(struct ep *ep)
{
	void *ctx = atomic_load(&ep->ctx);

	if (atomic_fetch_sub(&ep->refs, 1) != 1)
		return;
	/* Nobody takes a record while it has a context. */
	if (ctx)
		xts_epoll_ctx_destroy(ctx);
	atomic_store(&ep->ctx, NULL);
}

void ep_copied(int number)
{
	atomic_fetch_add(&eps[number].fds, 1);
	atomic_fetch_add(&eps[number].refs, 1);
}

void ep_closed(int number)
{
	atomic_fetch_sub(&eps[number].fds, 1);
	unref(&eps[number]);
}

/* A free record with its context; NULL with errno. Locked. */
static struct ep *ep_new(int epfd)
{
	struct ep *ep;
	uint32_t i;
	void *ctx;

	for (i = 0; i < EPOLLS; i++)
		if (!atomic_load(&eps[i].refs) && !atomic_load(&eps[i].ctx))
			break;
	if (i == EPOLLS) {
		errno = ENOMEM;
		return NULL;
	}
	ctx = xlend_epoll_borrow(epfd);
	if (!ctx)
		return NULL;
	ep = &eps[i];
	if (i >= used)
		used = i + 1;
	atomic_store(&ep->promised, false);
	atomic_store(&ep->ctx, ctx);
	atomic_store(&ep->fds, 1);
	atomic_store(&ep->refs, 1);
	return ep;
}

/* The record of epfd, made if there is none; NULL with errno. */
static struct ep *ep_get(int epfd)
{
	struct ep *ep;

	pthread_mutex_lock(&lock);
	ep = ep_at(fd_word(epfd));
	if (!ep) {
		fd_fresh(epfd);
		ep = ep_new(epfd);
		if (ep)
			fd_set_word(epfd,
				    fd_make(FD_EPOLL, 0, (int)(ep - eps)));
	}
	pthread_mutex_unlock(&lock);
	return ep;
}

void ep_promise(int number)
{
	struct ep *ep = &eps[number];
	void *ctx = atomic_load(&ep->ctx);

	if (ctx && !atomic_exchange(&ep->promised, true))
		xlend_epoll_promise(ctx);
}

void ep_child(void)
{
	uint32_t i;
	void *ctx;

	pthread_mutex_init(&lock, NULL);
	for (i = 0; i < used; i++) {
		ctx = atomic_load(&eps[i].ctx);
		if (ctx)
			xts_epoll_ctx_destroy(ctx);
		atomic_store(&eps[i].ctx, NULL);
		atomic_store(&eps[i].refs, atomic_load(&eps[i].fds));
	}
}

/* After fork() a record may have lost its context. */
static void *ctx_of(struct ep *ep, int epfd)
{
	void *ctx = atomic_load(&ep->ctx);

	if (ctx)
		return ctx;
	pthread_mutex_lock(&lock);
	ctx = atomic_load(&ep->ctx);
	if (!ctx) {
		ctx = xlend_epoll_borrow(epfd);
		atomic_store(&ep->ctx, ctx);
		if (ctx && atomic_load(&ep->promised))
			xlend_epoll_promise(ctx);
	}
	pthread_mutex_unlock(&lock);
	return ctx;
}

/* ---- registering -----------------------------------------------------------
 */

static int to_kernel(int epfd, int op, int fd, int s, struct epoll_event *ev)
{
	if (sock_leave(s, XTS_REASON_SHARED)) {
		errno = EBUSY;
		return -1;
	}
	return real.epoll_ctl(epfd, op, fd, ev);
}

static int ours_ctl(int epfd, int op, int fd, int s, struct epoll_event *ev)
{
	void *has = xlend_registered(s), *ctx;
	struct ep *ep = ep_at(fd_word(epfd));

	if (op != EPOLL_CTL_ADD) {
		if (!has || !ep || atomic_load(&ep->ctx) != has)
			return real.epoll_ctl(epfd, op, fd, ev);
		return xts_epoll_ctl(has, op, s, ev);
	}
	ep = ep_get(epfd);
	ctx = ep ? ctx_of(ep, epfd) : NULL;
	if (!ctx)
		return to_kernel(epfd, op, fd, s, ev);
	/* In another one, or a second time by a copy of the descriptor. */
	if (has && (has != ctx || xts_shadow_fd(s) != fd))
		return to_kernel(epfd, op, fd, s, ev);
	return xts_epoll_ctl(ctx, op, s, ev);
}

/* A socket that has become Linux's, where libsock knows how it was registered:
 * one that had reported once is not registered with the kernel. */
static int other_ctl(int epfd, int op, int fd, uint64_t word,
		     struct epoll_event *ev)
{
	struct ep *ep = ep_at(fd_word(epfd));
	void *ctx = ep ? atomic_load(&ep->ctx) : NULL;
	int s = fd_number_of(word);

	if (fd_kind_of(word) == FD_EPOLL)
		ep_promise(s);
	else if (fd_kind_of(word) == FD_KERNEL && ctx &&
		 xlend_registered(s) == ctx)
		return xts_epoll_ctl(ctx, op, s, ev);
	return real.epoll_ctl(epfd, op, fd, ev);
}

int epoll_ctl(int epfd, int op, int fd, struct epoll_event *ev)
{
	int s = fd_ours(fd);

	if (unlikely(s))
		return ours_ctl(epfd, op, fd, s, ev);
	if (unlikely(fd_word(fd)))
		return other_ctl(epfd, op, fd, fd_word(fd), ev);
	return real.epoll_ctl(epfd, op, fd, ev);
}

/* ---- waiting ---------------------------------------------------------------
 */

struct wait {
	struct epoll_event *evs;
	int max;
	uint64_t deadline;
	const sigset_t *mask;
};

/* -2: it has no context. */
static int ours_wait(uint64_t word, const struct wait *w)
{
	struct ep *ep = ep_at(word);
	void *ctx;
	int n = -2;

	if (!ep || w->max <= 0 || !w->evs || !ref(ep))
		return -2;
	ctx = atomic_load(&ep->ctx);
	if (ctx) {
		signal_begin();
		n = xlend_epoll_wait(ctx, w->evs, w->max, w->deadline, w->mask);
	}
	unref(ep);
	return n;
}

/* After a call of the kernel's: did it get a context meanwhile? Its marks are
 * not for the program. true: n is what it gets. */
static bool kernels_events(int epfd, const struct wait *w, int *n)
{
	const struct timespec pause = {.tv_nsec = 1000000};
	struct ep *ep = ep_at(fd_word(epfd));
	bool marked = false;

	if (*n <= 0 || likely(!ep))
		return true;
	*n = xlend_epoll_filter(w->evs, *n, &marked);
	if (*n > 0 || !marked)
		return true;
	if (atomic_load(&ep->ctx))
		return false;
	/* The mark of a context in another process, which shares the epoll. */
	nanosleep(&pause, NULL);
	return true;
}

int epoll_wait(int epfd, struct epoll_event *evs, int max, int timeout)
{
	uint64_t word = fd_word(epfd);
	struct wait w = {.evs = evs, .max = max};
	int n;

	do {
		if (unlikely(word)) {
			w.deadline = time_deadline_ms(timeout);
			n = ours_wait(word, &w);
			if (n != -2)
				return n;
		}
		n = real.epoll_wait(epfd, evs, max, timeout);
		word = fd_word(epfd);
	} while (!kernels_events(epfd, &w, &n));
	return n;
}

int epoll_pwait(int epfd, struct epoll_event *evs, int max, int timeout,
		const sigset_t *mask)
{
	uint64_t word = fd_word(epfd);
	struct wait w = {.evs = evs, .max = max, .mask = mask};
	int n;

	do {
		if (unlikely(word)) {
			w.deadline = time_deadline_ms(timeout);
			n = ours_wait(word, &w);
			if (n != -2)
				return n;
		}
		n = real.epoll_pwait(epfd, evs, max, timeout, mask);
		word = fd_word(epfd);
	} while (!kernels_events(epfd, &w, &n));
	return n;
}

int epoll_pwait2(int epfd, struct epoll_event *evs, int max,
		 const struct timespec *timeout, const sigset_t *mask)
{
	uint64_t word = fd_word(epfd);
	struct wait w = {.evs = evs, .max = max, .mask = mask};
	int n;

	do {
		if (unlikely(word)) {
			w.deadline = time_deadline(timeout);
			n = ours_wait(word, &w);
			if (n != -2)
				return n;
		}
		n = real.epoll_pwait2(epfd, evs, max, timeout, mask);
		word = fd_word(epfd);
	} while (!kernels_events(epfd, &w, &n));
	return n;
}
