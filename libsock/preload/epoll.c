/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * epoll.c - a program's epolls
 *
 * An epoll is known from when it is made (its duplicates have its word), or
 * noticed when the first socket of ours is registered in it. Then it gets a
 * polling context of libsock's, laid under it (lend.h). All that is Linux's
 * stays registered there as the program asked for it; waiting then collects
 * what the context has, and the kernel's events without the context's mark.
 *
 * A connection can be in one epoll of ours. Put into a second one it stays with
 * Linux, or goes back there; its first registration goes on in the kernel.
 *
 * Linux knows an epoll's entries by file and descriptor: a connection that was
 * registered by one of its descriptors is another entry by another one. Which
 * it was is kept here. It may be closed before the others: the entry stays.
 *
 * An epoll inside another one (or a set that is polled) has to be readable when
 * its context has something: it tells from then on. It may be when the context
 * has nothing of interest, so where epolls are inside others a wait looks at
 * their contexts first, and again whenever it was woken.
 *
 * So it is in a child of fork(), where it is the parent's context that tells:
 * if the child polls the epoll, the parent is asked to look (family.c). Where
 * they have no link, a look in vain is possible. The events are the parent's.
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

#include <limits.h>
#include <sys/epoll.h>

#define EPOLLS 16384
#define NS 1000000000u
#define EVENTS_MAX (INT_MAX / (int)sizeof(struct epoll_event))

struct ep {
	_Atomic(void *) ctx;
	_Atomic uint32_t refs;	/* descriptors, and threads that wait */
	_Atomic uint32_t fds;	/* of these, descriptors */
	_Atomic bool promised;	/* it is polled itself */
	_Atomic bool nested;	/* by another epoll */
	_Atomic bool inherited; /* an ancestor may have a context under it */
};

static struct ep eps[EPOLLS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint32_t used; /* the highest index ever used, plus 1 */
static _Atomic uint32_t n_nested;

/* By XTS number: the descriptor that it was registered by. Zero pages. */
static _Atomic int by_fd[FD_MAX + XSOCK_NUMBERS_FROM];

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
	if (atomic_exchange(&ep->nested, false))
		atomic_fetch_sub(&n_nested, 1);
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

/* A record for epfd, NULL with errno. Locked. */
static struct ep *ep_new(int epfd, void *ctx)
{
	struct ep *ep;
	uint32_t i;

	for (i = 0; i < EPOLLS; i++)
		if (!atomic_load(&eps[i].refs) && !atomic_load(&eps[i].ctx))
			break;
	if (i == EPOLLS) {
		errno = ENOMEM;
		return NULL;
	}
	ep = &eps[i];
	if (i >= used)
		used = i + 1;
	atomic_store(&ep->promised, false);
	atomic_store(&ep->inherited, false);
	atomic_store(&ep->ctx, ctx);
	atomic_store(&ep->fds, 1);
	atomic_store(&ep->refs, 1);
	fd_fresh(epfd);
	fd_set_word(epfd, fd_make(FD_EPOLL, 0, (int)(ep - eps)));
	return ep;
}

/* With a context, if epfd is an epoll. */
static struct ep *ep_new_borrowed(int epfd)
{
	void *ctx = xlend_epoll_borrow(epfd);
	struct ep *ep = ctx ? ep_new(epfd, ctx) : NULL;

	if (ctx && !ep)
		xts_epoll_ctx_destroy(ctx);
	return ep;
}

/* The record of epfd, made if there is none; NULL with errno: EBADF or EINVAL
 * if it is no epoll. */
static struct ep *ep_get(int epfd)
{
	struct ep *ep;

	if (epfd < 0) {
		errno = EBADF;
		return NULL;
	}
	pthread_mutex_lock(&lock);
	ep = ep_at(fd_word(epfd));
	if (!ep)
		ep = ep_new_borrowed(epfd);
	pthread_mutex_unlock(&lock);
	return ep;
}

/* Has its context something? From now on it tells. */
static bool ctx_has(struct ep *ep)
{
	void *ctx = atomic_load(&ep->ctx);

	return ctx && xlend_epoll_has(ctx);
}

static void promise(struct ep *ep)
{
	if (atomic_exchange(&ep->promised, true))
		return;
	if (atomic_load(&ep->inherited))
		family_look((int)(ep - eps));
	ctx_has(ep);
}

bool ep_promise(int number)
{
	promise(&eps[number]);
	return atomic_load(&eps[number].ctx) ||
	       atomic_load(&eps[number].inherited) || atomic_load(&n_nested);
}

/* Those inside others are not readable for nothing. */
static void look_inside(void)
{
	uint32_t i;

	for (i = 0; i < used; i++) {
		if (!atomic_load(&eps[i].nested) || !ref(&eps[i]))
			continue;
		ctx_has(&eps[i]);
		unref(&eps[i]);
	}
}

void ep_look(int number)
{
	struct ep *ep = &eps[number];

	if (!ref(ep))
		return;
	atomic_store(&ep->promised, true);
	ctx_has(ep);
	unref(ep);
}

bool ep_readable(int epfd, int number)
{
	struct pollfd p = {.fd = epfd, .events = POLLIN};

	if (ctx_has(&eps[number]))
		return true;
	if (atomic_load(&eps[number].inherited))
		family_look(number);
	if (atomic_load(&n_nested))
		look_inside();
	/* What is left is Linux's. */
	return real.poll(&p, 1, 0) == 1;
}

/* An epoll is about to be put into another one, or changed there. */
static void look_before(int number)
{
	struct ep *ep = &eps[number];
	void *ctx;

	if (ref(ep)) {
		ctx = atomic_load(&ep->ctx);
		if (ctx)
			xlend_epoll_has(ctx);
		unref(ep);
	}
	if (atomic_load(&n_nested))
		look_inside();
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
		atomic_store(&eps[i].inherited, family_asks());
	}
}

/* Made when it is needed; after fork() a record may have lost it. NULL with
 * errno. */
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
			xlend_epoll_has(ctx);
	}
	pthread_mutex_unlock(&lock);
	return ctx;
}

/* ---- registering -----------------------------------------------------------
 */

/* That of a connection that is over is ready for all, as Linux has it. */
static int to_kernel(int epfd, int op, int fd, int s, struct epoll_event *ev)
{
	int rc = sock_leave(s, XTS_REASON_SHARED);

	if (rc && rc != -ENOTCONN) {
		errno = EBUSY;
		return -1;
	}
	return real.epoll_ctl(epfd, op, fd, ev);
}

static int ours_add(int epfd, int fd, int s, struct epoll_event *ev)
{
	void *has = xlend_registered(s), *ctx;
	struct ep *ep = ep_get(epfd);
	int ret;

	ctx = ep ? ctx_of(ep, epfd) : NULL;
	if (!ctx && (errno == EBADF || errno == EINVAL))
		return real.epoll_ctl(epfd, EPOLL_CTL_ADD, fd, ev);
	if (!ctx)
		return to_kernel(epfd, EPOLL_CTL_ADD, fd, s, ev);
	/* In another one, or a second time by a copy of the descriptor. */
	if (has && (has != ctx || atomic_load(&by_fd[s]) != fd))
		return to_kernel(epfd, EPOLL_CTL_ADD, fd, s, ev);
	/* While it is Linux's, it is there by the same descriptor. */
	if (!has && xts_shadow_fd(s) != fd)
		xlend_reshadow(s, fd);
	ret = xts_epoll_ctl(ctx, EPOLL_CTL_ADD, s, ev);
	if (!ret)
		atomic_store(&by_fd[s], fd);
	return ret;
}

/* Linux says so. */
static bool is_wrong(int op, const struct epoll_event *ev)
{
	if (op == EPOLL_CTL_DEL)
		return false;
	if (op != EPOLL_CTL_ADD && op != EPOLL_CTL_MOD)
		return true;
	return memory_none(ev) || xlend_epoll_bad(op, ev);
}

static int ours_ctl(int epfd, int op, int fd, int s, struct epoll_event *ev)
{
	void *has = xlend_registered(s);
	struct ep *ep = ep_at(fd_word(epfd));

	if (is_wrong(op, ev))
		return real.epoll_ctl(epfd, op, fd, ev);
	if (op == EPOLL_CTL_ADD)
		return ours_add(epfd, fd, s, ev);
	if (!has || !ep || atomic_load(&ep->ctx) != has)
		return real.epoll_ctl(epfd, op, fd, ev);
	if (atomic_load(&by_fd[s]) != fd)
		return real.epoll_ctl(epfd, op, fd, ev);
	return xts_epoll_ctl(has, op, s, ev);
}

/* With no context if it is new; NULL: no room. What was known of the descriptor
 * is of an older file if it was made just now. */
static struct ep *ep_known(int epfd, bool made)
{
	struct ep *ep;

	pthread_mutex_lock(&lock);
	if (made)
		fd_fresh(epfd);
	ep = ep_at(fd_word(epfd));
	if (!ep)
		ep = ep_new(epfd, NULL);
	pthread_mutex_unlock(&lock);
	return ep;
}

/* One epoll is inside another: it tells, from now on or from when it has a
 * context. The outer one is asked like one that has a context, too. */
static void nest(int epfd, int fd)
{
	struct ep *ep = ep_known(fd, false);

	ep_known(epfd, false);
	if (!ep)
		return;
	if (!atomic_exchange(&ep->nested, true))
		atomic_fetch_add(&n_nested, 1);
	promise(ep);
}

/* fd has just been added to epfd, and is nothing that we know. Only an epoll
 * can say that it does not have epfd. */
static bool is_epoll(int epfd, int fd)
{
	int err = errno, found;

	found = real.epoll_ctl(fd, EPOLL_CTL_DEL, epfd, NULL) &&
		errno == ENOENT;
	errno = err;
	return found;
}

int ep_registered_by(int s)
{
	return xlend_registered(s) ? atomic_load(&by_fd[s]) : -1;
}

static int created(int epfd)
{
	int err = errno;

	if (epfd >= 0)
		ep_known(epfd, true);
	errno = err;
	return epfd;
}

int epoll_create(int size)
{
	return created(real.epoll_create(size));
}

int epoll_create1(int flags)
{
	return created(real.epoll_create1(flags));
}

/* A socket that has become Linux's, where libsock knows how it was registered:
 * one that had reported once is not registered with the kernel. */
static int kernels_ctl(int epfd, int op, int fd, struct epoll_event *ev)
{
	struct ep *ep = ep_at(fd_word(epfd));
	void *ctx = ep ? atomic_load(&ep->ctx) : NULL;
	int s = fd_number_of(fd_word(fd));

	if (!is_wrong(op, ev) && ctx && xlend_registered(s) == ctx &&
	    atomic_load(&by_fd[s]) == fd)
		return xts_epoll_ctl(ctx, op, s, ev);
	return real.epoll_ctl(epfd, op, fd, ev);
}

int epoll_ctl(int epfd, int op, int fd, struct epoll_event *ev)
{
	int s = fd_ours(fd), ret;
	uint64_t word = fd_word(fd);

	if (unlikely(s))
		return ours_ctl(epfd, op, fd, s, ev);
	if (fd_kind_of(word) == FD_EPOLL && op != EPOLL_CTL_DEL)
		look_before(fd_number_of(word));
	ret = fd_kind_of(word) == FD_KERNEL ? kernels_ctl(epfd, op, fd, ev)
					    : real.epoll_ctl(epfd, op, fd, ev);
	if (op == EPOLL_CTL_ADD && !ret &&
	    (fd_kind_of(word) == FD_EPOLL || (!word && is_epoll(epfd, fd))))
		nest(epfd, fd);
	return ret;
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

	/* Linux says what is wrong with its arguments. */
	if (!ep || !atomic_load(&ep->ctx) || w->max <= 0 ||
	    w->max > EVENTS_MAX || memory_none(w->evs) || !ref(ep))
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

/* Until epfd is ready and not for nothing: more than 0. 0: the time is up. */
static int until_ready(int epfd, const struct wait *w)
{
	struct pollfd p = {.fd = epfd, .events = POLLIN};
	struct timespec left = {0};
	uint64_t now;
	int n;

	do {
		now = time_ns();
		left.tv_sec = left.tv_nsec = 0;
		if (w->deadline > now) {
			left.tv_sec = (time_t)((w->deadline - now) / NS);
			left.tv_nsec = (long)((w->deadline - now) % NS);
		}
		n = real.ppoll(&p, 1, w->deadline == UINT64_MAX ? NULL : &left,
			       w->mask);
		if (n <= 0)
			return n;
		look_inside();
		n = real.poll(&p, 1, 0);
	} while (!n);
	return n;
}

/* What is inside epfd, or deeper, may wake it for nothing while it waits. */
static int nested_wait(int epfd, const struct wait *w)
{
	int n;

	for (;;) {
		look_inside();
		n = ours_wait(fd_word(epfd), w);
		if (n != -2)
			return n;
		n = real.epoll_wait(epfd, w->evs, w->max, 0);
		if (!n)
			n = until_ready(epfd, w);
		else if (kernels_events(epfd, w, &n))
			return n;
		else
			continue;
		if (n <= 0)
			return n;
	}
}

static bool any_nested(void)
{
	return unlikely(atomic_load_explicit(&n_nested, memory_order_relaxed));
}

int epoll_wait(int epfd, struct epoll_event *evs, int max, int timeout)
{
	uint64_t word = fd_word(epfd);
	struct wait w = {.evs = evs, .max = max};
	int n;

	do {
		if (unlikely(word) || any_nested())
			w.deadline = time_deadline_ms(timeout);
		if (any_nested())
			return nested_wait(epfd, &w);
		if (unlikely(word)) {
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
		if (unlikely(word) || any_nested())
			w.deadline = time_deadline_ms(timeout);
		if (any_nested())
			return nested_wait(epfd, &w);
		if (unlikely(word)) {
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
	bool valid = time_valid(timeout);
	int n;

	do {
		if ((unlikely(word) || any_nested()) && valid)
			w.deadline = time_deadline(timeout);
		if (any_nested() && valid)
			return nested_wait(epfd, &w);
		if (unlikely(word) && valid) {
			n = ours_wait(word, &w);
			if (n != -2)
				return n;
		}
		n = real.epoll_pwait2(epfd, evs, max, timeout, mask);
		word = fd_word(epfd);
	} while (!kernels_events(epfd, &w, &n));
	return n;
}
