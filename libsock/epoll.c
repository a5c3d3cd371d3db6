/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * epoll.c - polling contexts
 *
 * Two kernel epolls a context. kern_epfd holds the sockets that are the
 * kernel's, with the program's own events and data, so that all of epoll(7)
 * works for them as ever. epfd, which the program may put into an epoll of its
 * own, holds kern_epfd, the service's eventfd and our wake_fd (edge-triggered:
 * nobody reads them, looking at epfd takes the edge), the control socket, and
 * connecting sockets, which are ours to judge: at the end of the handshake they
 * are offered to the service, and the program hears of them when that is
 * decided.
 *
 * Offloaded sockets are on the ready list when something happened that their
 * registration asks for. Collecting asks each for its state of now, as Linux
 * does: level-triggered ones stay on the list until they are found not ready.
 *
 * The promise of xts_epoll_fd(): while xts_epoll() would return something, the
 * descriptor is readable. A call that returns events leaves wake_fd written; a
 * call that finds nothing takes the edge, makes app_sleep odd (armed), and
 * looks at the rings once more. From then on the service writes its eventfd,
 * and our own changes write wake_fd.
 *
 * A program's own epoll (lend.h) is the kern_epfd of a borrowed context, and
 * holds epfd instead of being in it, under a mark by which its event is known.
 * It may be in another epoll, edge-triggered: what arrives has to be an edge
 * there, what was left on the ready list must not be one again. So there
 * wake_fd is level-triggered, it is read when the list is empty, and the
 * service is told to write its eventfd whenever nobody waits.
 *
 * A connection is in at most one polling context (EBUSY); it moves to that
 * context's rings when added. Listeners and what never was offered to the
 * service may be in several.
 */
#include "libsock/service.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define LOOK_NS 20000u	      /* between looks at epfd, with kernel sockets */
#define LOOK_IDLE_NS 1000000u /* without */
#define LOOK_CALLS 8u	      /* calls between looks at the clock */
#define LOOK_EVENTS 16
#define EP_FLAGS                                                               \
	((uint32_t)EPOLLET | EPOLLONESHOT | EPOLLWAKEUP | EPOLLEXCLUSIVE)
#define EP_ALWAYS (EPOLLERR | EPOLLHUP)
#define EP_EXCLUSIVE_OK                                                        \
	(EPOLLIN | EPOLLOUT | EP_ALWAYS | EPOLLWAKEUP | (uint32_t)EPOLLET |    \
	 EPOLLEXCLUSIVE)

/* The data of our epoll in a program's: no program's own, by its address. */
static const char marker;

/* ---- registrations, under the context's lock ---------------------------- */

static void unlist(struct xctx *c, struct xsock *s)
{
	if (!s->listed)
		return;
	s->listed = false;
	TAILQ_REMOVE(&c->ready, s, ready_link);
	c->n_ready--;
}

static void set_event(struct xsock *s, const struct epoll_event *ev)
{
	s->ep_flags = ev->events & EP_FLAGS;
	s->ep_events = (ev->events & ~EP_FLAGS) | EP_ALWAYS;
	s->ep_data = ev->data;
}

static int kern_ctl(struct xctx *c, struct xsock *s, int op)
{
	struct epoll_event ev = {.events = s->ep_events | s->ep_flags,
				 .data = s->ep_data};

	return epoll_ctl(c->kern_epfd, op, s->fd, &ev) ? -errno : 0;
}

static int watch_ctl(struct xctx *c, struct xsock *s, int op)
{
	struct epoll_event ev = {.events = EPOLLOUT | EPOLLONESHOT,
				 .data.u64 = xsock_cookie(s)};

	return epoll_ctl(c->epfd, op, s->fd, &ev) ? -errno : 0;
}

/* ASKING: its readiness is found out by looking at the kernel socket. */
static bool is_looked_at(const struct xsock *s)
{
	return atomic_load(&s->ask) && s->lent &&
	       xsock_phase(s) == XPHASE_ASKING;
}

/* The kernel tells of it as before until the service has decided. Not of a
 * one-shot: nobody would know whether it had fired. */
static bool kernel_tells(const struct xsock *s)
{
	return is_looked_at(s) && !(s->ep_flags & EPOLLONESHOT) &&
	       atomic_load(&s->ctx) == atomic_load(&s->ep_ctx);
}

/* For good, or until it is offered again, or has been taken. */
static bool is_kernels(const struct xsock *s)
{
	uint32_t phase = xsock_phase(s);

	return phase == XPHASE_KERNEL || phase == XPHASE_FORKED ||
	       (phase == XPHASE_NEW && xsock_waits(s)) || kernel_tells(s);
}

/* Takes s out of where it is registered, and puts it where it should be. */
static int place(struct xctx *c, struct xsock *s, enum xwhere where)
{
	int err = 0;

	if (s->ep_where == where)
		return 0;
	if (s->ep_where == XWHERE_KERNEL)
		kern_ctl(c, s, EPOLL_CTL_DEL);
	else if (s->ep_where == XWHERE_WATCH)
		watch_ctl(c, s, EPOLL_CTL_DEL);
	else
		unlist(c, s);
	if (s->ep_where == XWHERE_KERNEL || s->ep_where == XWHERE_WATCH)
		atomic_fetch_sub(&c->n_kernel, 1);
	s->ep_where = where;
	if (where == XWHERE_KERNEL)
		err = kern_ctl(c, s, EPOLL_CTL_ADD);
	else if (where == XWHERE_WATCH)
		err = watch_ctl(c, s, EPOLL_CTL_ADD);
	else if (where == XWHERE_USER && xsock_phase(s) == XPHASE_OFFLOADED)
		xepoll_event(c, s, xsock_events(s));
	else if (where == XWHERE_USER && is_looked_at(s))
		xepoll_event(c, s, UINT32_MAX);
	if (where == XWHERE_KERNEL || where == XWHERE_WATCH)
		atomic_fetch_add(&c->n_kernel, 1);
	return err;
}

void xepoll_to_user(struct xctx *c, struct xsock *s)
{
	if (atomic_load(&s->ep_ctx) == c)
		place(c, s, XWHERE_USER);
}

void xepoll_asked(struct xctx *c, struct xsock *s)
{
	s->ep_armed = false;
	if (kernel_tells(s))
		return;
	xepoll_to_user(c, s);
	if (s->listed)
		xctx_wake(c);
}

/* A one-shot that has fired waits here until it is renewed: the kernel would
 * report errors of one that is registered anew for nothing. */
void xepoll_to_kernel(struct xctx *c, struct xsock *s)
{
	if (atomic_load(&s->ep_ctx) != c)
		return;
	if (s->ep_events)
		place(c, s, XWHERE_KERNEL);
	else
		unlist(c, s);
}

/* Locks the polling context of s, NULL: none. */
static struct xctx *lock_registered(struct xsock *s)
{
	struct xctx *c;

	while ((c = atomic_load(&s->ep_ctx))) {
		pthread_mutex_lock(&c->lock);
		if (atomic_load(&s->ep_ctx) == c)
			return c;
		pthread_mutex_unlock(&c->lock);
	}
	return NULL;
}

void xepoll_connecting(struct xsock *s)
{
	struct xctx *c = lock_registered(s);

	if (!c)
		return;
	if (xsock_phase(s) == XPHASE_NEW)
		place(c, s, XWHERE_WATCH);
	pthread_mutex_unlock(&c->lock);
}

void xepoll_settle(struct xsock *s)
{
	struct xctx *c = lock_registered(s);

	if (!c)
		return;
	if (is_kernels(s))
		place(c, s, XWHERE_KERNEL);
	pthread_mutex_unlock(&c->lock);
}

/* The program may change it meanwhile: then there is nothing to take out. */
void xepoll_withdraw(struct xsock *s)
{
	struct xctx *c = atomic_load(&s->ep_ctx);

	if (c && s->ep_where == XWHERE_KERNEL)
		epoll_ctl(c->kern_epfd, EPOLL_CTL_DEL, s->fd, NULL);
}

/* Whoever is at it has had the event of a one-shot, and will renew it. */
void xepoll_renew(struct xsock *s)
{
	struct xctx *c = lock_registered(s);

	if (!c)
		return;
	if (s->ep_where == XWHERE_KERNEL) {
		atomic_fetch_sub(&c->n_kernel, 1);
		s->ep_where = XWHERE_USER;
		if (!(s->ep_flags & EPOLLONESHOT))
			place(c, s, XWHERE_KERNEL);
	}
	pthread_mutex_unlock(&c->lock);
}

void xepoll_reshadow(struct xsock *s, int fd)
{
	struct xctx *c = lock_registered(s);
	enum xwhere where;

	if (!c)
		return;
	where = s->ep_where;
	if (where == XWHERE_KERNEL && xsock_phase(s) == XPHASE_KERNEL) {
		/* For good, as Linux has it: nobody needs to change it. */
		atomic_store(&s->ep_ctx, NULL);
		s->ep_where = XWHERE_NONE;
	} else if (where == XWHERE_KERNEL) {
		place(c, s, XWHERE_NONE);
		s->fd = fd;
		if (fd >= 0)
			place(c, s, where);
	}
	pthread_mutex_unlock(&c->lock);
}

void xepoll_forget(struct xsock *s)
{
	struct xctx *c = lock_registered(s);

	if (!c)
		return;
	/* What is the kernel's goes with the last descriptor, here or
	 * elsewhere.
	 */
	if (c->borrowed && s->ep_where == XWHERE_KERNEL) {
		atomic_fetch_sub(&c->n_kernel, 1);
		s->ep_where = XWHERE_NONE;
	}
	place(c, s, XWHERE_NONE);
	atomic_store(&s->ep_ctx, NULL);
	pthread_mutex_unlock(&c->lock);
}

/* ---- moving between contexts -------------------------------------------- */

/* All commands in the ring of a core have been taken; lock held. */
static bool commands_taken(struct xctx *c, uint32_t core)
{
	struct xring *r = &c->ring[core];

	return !atomic_load(&c->cores) ||
	       __atomic_load_n(&r->area->cmd_index.consumer,
			       __ATOMIC_ACQUIRE) == r->cmd_producer;
}

/* The service's part of a move; c is locked, s MOVING. */
static int move_flow(struct xctx *c, struct xsock *s, struct xctx *to)
{
	bool asked;

	xctx_flush_sock(c, s);
	while (!s->gone && (s->dirty || !commands_taken(c, s->core))) {
		pthread_mutex_unlock(&c->lock);
		sched_yield();
		pthread_mutex_lock(&c->lock);
		xctx_drain(c);
		if (s->dirty)
			xctx_flush_sock(c, s);
	}
	if (s->gone)
		return 0;
	pthread_mutex_unlock(&c->lock);
	asked = xsvc_move(s, to);
	pthread_mutex_lock(&c->lock);
	if (!asked && !s->gone)
		return -ENOSPC;
	while (!s->moved && !s->gone)
		xctx_wait(c, UINT64_MAX);
	return 0;
}

/* s becomes a socket of to, if it is another context's. 0: look again. */
static int move_here(struct xctx *to, struct xsock *s)
{
	struct xctx *c = xsock_lock(s);
	uint32_t phase;
	int err = 0;

	if (!c) {
		sched_yield();
		return 0;
	}
	phase = xsock_phase(s);
	if (phase != XPHASE_OFFLOADED) {
		if (xphase_passes(phase))
			xctx_wait(c, UINT64_MAX);
		goto out;
	}
	xsock_set_phase(s, XPHASE_MOVING);
	s->moved = false;
	err = move_flow(c, s, to);
	if (err) {
		xsock_set_phase(s, XPHASE_OFFLOADED);
		goto wake;
	}
	xctx_leave(c, s);
	xctx_wake(c);
	pthread_mutex_unlock(&c->lock);
	c = to;
	pthread_mutex_lock(&c->lock);
	xctx_join(c, s);
	xsock_set_phase(s, XPHASE_OFFLOADED);
	if (s->rx_credits || s->tx_unsent || s->cmd_flags)
		xctx_flush_sock(c, s);
wake:
	/* Whoever waited for the end of the move, and who reads our rings. */
	xctx_wake(c);
	if (s->leave_later)
		xleave_begin(c, s);
out:
	pthread_mutex_unlock(&c->lock);
	return err;
}

/* ---- xts_epoll_ctl ------------------------------------------------------ */

/* Registers a socket in phase NEW; c not locked. A lent one is offered when it
 * is first read from or written to: until then it is the kernel's. */
static int settle_new(struct xctx *c, struct xsock *s)
{
	int state = s->lent ? TCP_CLOSE : xsock_state(s), err = 0;

	if (state != TCP_CLOSE && state != TCP_SYN_SENT &&
	    state != TCP_SYN_RECV) {
		if (!xsock_waits(s))
			xsock_engage_state(s, false, state);
		return 0;
	}
	pthread_mutex_lock(&c->lock);
	if (xsock_phase(s) == XPHASE_NEW)
		err = place(c, s,
			    state == TCP_CLOSE ? XWHERE_KERNEL : XWHERE_WATCH);
	pthread_mutex_unlock(&c->lock);
	return err;
}

/* Until the registration is where the socket's phase wants it. */
static int settle(struct xctx *c, struct xsock *s)
{
	enum xwhere where = XWHERE_NONE;
	int err = 0;

	while (!err && where == XWHERE_NONE) {
		switch (xsock_phase(s)) {
		case XPHASE_NEW:
			err = settle_new(c, s);
			break;
		case XPHASE_KERNEL:
			break;
		case XPHASE_ASKING:
		case XPHASE_OFFLOADED:
		case XPHASE_MOVING:
		case XPHASE_LEAVING:
			if (atomic_load(&s->ctx) != c)
				err = move_here(c, s);
			break;
		default:
			return -EBADF;
		}
		pthread_mutex_lock(&c->lock);
		if (!err && is_kernels(s))
			err = place(c, s, XWHERE_KERNEL);
		else if (!err && atomic_load(&s->ctx) == c)
			err = place(c, s, XWHERE_USER);
		where = s->ep_where;
		pthread_mutex_unlock(&c->lock);
	}
	return err;
}

static int add(struct xctx *c, struct xsock *s, const struct epoll_event *ev)
{
	struct xctx *none = NULL;
	int err = 0;

	pthread_mutex_lock(&c->lock);
	if (atomic_compare_exchange_strong(&s->ep_ctx, &none, c))
		set_event(s, ev);
	else
		err = none == c ? -EEXIST : -EBUSY;
	pthread_mutex_unlock(&c->lock);
	if (err)
		return err;
	err = settle(c, s);
	pthread_mutex_lock(&c->lock);
	if (err) {
		place(c, s, XWHERE_NONE);
		atomic_store(&s->ep_ctx, NULL);
	} else if (c->n_ready) {
		xctx_wake(c);
	}
	pthread_mutex_unlock(&c->lock);
	return err;
}

/* A one-shot registration in the kernel's epoll may have fired without our
 * knowledge; when it is renewed there is a moment at which it certainly has
 * not. Lock held. true: the socket was offered, its registration is ours now.
 */
static bool offer_armed(struct xctx *c, struct xsock *s)
{
	bool offered;

	if (s->ep_where != XWHERE_KERNEL || !(s->ep_flags & EPOLLONESHOT) ||
	    xsock_phase(s) != XPHASE_NEW || !atomic_load(&s->ask_at_ns) ||
	    (xsock_waits(s) && !s->ep_wants))
		return false;
	s->ep_armed = true;
	pthread_mutex_unlock(&c->lock);
	xsock_engage(s, false);
	pthread_mutex_lock(&c->lock);
	offered = !s->ep_armed;
	s->ep_armed = false;
	return offered || atomic_load(&s->ep_ctx) != c;
}

/* MOD and DEL of a registration of ours. */
static int change(struct xctx *c, struct xsock *s, int op,
		  const struct epoll_event *ev)
{
	int err = 0;

	pthread_mutex_lock(&c->lock);
	if (atomic_load(&s->ep_ctx) != c) {
		err = -ENOENT;
	} else if (op == EPOLL_CTL_MOD && s->ep_flags & EPOLLEXCLUSIVE) {
		err = -EINVAL;
	} else if (op == EPOLL_CTL_DEL) {
		place(c, s, XWHERE_NONE);
		atomic_store(&s->ep_ctx, NULL);
	} else {
		set_event(s, ev);
		if (s->ep_where == XWHERE_USER && is_kernels(s))
			err = place(c, s, XWHERE_KERNEL);
		else if (offer_armed(c, s))
			err = 0;
		else if (s->ep_where == XWHERE_KERNEL && is_looked_at(s) &&
			 !kernel_tells(s))
			err = place(c, s, XWHERE_USER);
		else if (s->ep_where == XWHERE_KERNEL)
			err = kern_ctl(c, s, EPOLL_CTL_MOD);
		else if (is_looked_at(s))
			xepoll_event(c, s, UINT32_MAX);
		else if (xsock_phase(s) == XPHASE_OFFLOADED)
			xepoll_event(c, s, xsock_events(s));
		if (s->listed)
			xctx_wake(c);
	}
	pthread_mutex_unlock(&c->lock);
	return err;
}

/* A socket that is the kernel's for good and not registered with us. */
static int native(struct xctx *c, struct xsock *s, int op,
		  struct epoll_event *ev)
{
	if (epoll_ctl(c->kern_epfd, op, s->fd, ev))
		return -errno;
	if (op == EPOLL_CTL_ADD)
		atomic_fetch_add(&c->n_kernel, 1);
	else if (op == EPOLL_CTL_DEL && atomic_load(&c->n_kernel))
		atomic_fetch_sub(&c->n_kernel, 1);
	return 0;
}

/* EPOLLEXCLUSIVE is for registering, and goes with few others. */
static bool exclusive_bad(int op, const struct epoll_event *ev)
{
	if (op == EPOLL_CTL_DEL || !(ev->events & EPOLLEXCLUSIVE))
		return false;
	return op == EPOLL_CTL_MOD || ev->events & ~EP_EXCLUSIVE_OK;
}

int xts_epoll_ctl(void *ectx, int op, int s, struct epoll_event *ev)
{
	struct xsock *sock = xsock_get(s);
	struct xctx *c = ectx;
	bool kernel;

	if (!sock)
		return -1;
	if (!c || c->dead)
		return xts_result(-EBADF);
	if (op != EPOLL_CTL_DEL && !ev)
		return xts_result(-EFAULT);
	if (exclusive_bad(op, ev))
		return xts_result(-EINVAL);
	kernel = xsock_phase(sock) == XPHASE_KERNEL &&
		 atomic_load(&sock->ep_ctx) != c;
	if (kernel)
		return xts_result(native(c, sock, op, ev));
	if (op == EPOLL_CTL_ADD)
		return xts_result(add(c, sock, ev));
	if (op == EPOLL_CTL_MOD || op == EPOLL_CTL_DEL)
		return xts_result(change(c, sock, op, ev));
	return xts_result(-EINVAL);
}

bool xlend_epoll_bad(int op, const struct epoll_event *ev)
{
	return exclusive_bad(op, ev);
}

/* ---- collecting --------------------------------------------------------- */

static uint32_t state_of(struct xctx *c, struct xsock *s)
{
	int events;

	if (__builtin_expect(!atomic_load(&s->ask), 1))
		return xsock_events(s);
	events = xask_events(c, s, s->ep_events);
	return events < 0 ? 0 : (uint32_t)events;
}

/* Lock held. */
static int collect(struct xctx *c, struct epoll_event *evs, int max)
{
	uint32_t left = c->n_ready, mask;
	struct xsock *s;
	int n = 0;

	for (; left && n < max; left--) {
		s = TAILQ_FIRST(&c->ready);
		TAILQ_REMOVE(&c->ready, s, ready_link);
		mask = state_of(c, s) & s->ep_events;
		if (mask) {
			evs[n].events = mask;
			evs[n++].data = s->ep_data;
			if (s->ep_flags & EPOLLONESHOT)
				s->ep_events = 0;
			else if (!(s->ep_flags & (uint32_t)EPOLLET)) {
				TAILQ_INSERT_TAIL(&c->ready, s, ready_link);
				continue;
			}
		}
		s->listed = false;
		c->n_ready--;
	}
	return n;
}

/* The handshake of a watched socket ended, one way or the other. */
static void watch_fired(struct xctx *c, struct xsock *s)
{
	int state = s ? xsock_tcp_state(s->fd) : -1;
	bool failed = state == TCP_CLOSE;

	if (state < 0)
		return;
	if (!failed && state != TCP_SYN_SENT && state != TCP_SYN_RECV) {
		atomic_store(&s->connecting, false);
		xsock_engage(s, false);
		return;
	}
	pthread_mutex_lock(&c->lock);
	if (atomic_load(&s->ep_ctx) == c && s->ep_where == XWHERE_WATCH) {
		/* What went wrong is the kernel's to report. */
		if (failed)
			place(c, s, XWHERE_KERNEL);
		else
			watch_ctl(c, s, EPOLL_CTL_MOD);
	}
	pthread_mutex_unlock(&c->lock);
}

/* wake_fd of a borrowed context is readable as long as something is ready. */
static void take_wake(struct xctx *c)
{
	uint64_t n;

	if (!c->borrowed)
		return;
	pthread_mutex_lock(&c->lock);
	if (!c->n_ready) {
		(void)!read(c->wake_fd, &n, sizeof(n));
		c->signalled = false;
	}
	pthread_mutex_unlock(&c->lock);
}

/* What epfd said; number of kernel sockets' events. */
static int judge(struct xctx *c, const struct epoll_event *in, int k,
		 struct epoll_event *evs, int max)
{
	int i, n = 0, m;

	for (i = 0; i < k; i++) {
		switch (in[i].data.u64) {
		case XTAG_EVENT:
			break;
		case XTAG_WAKE:
			take_wake(c);
			break;
		case XTAG_CONTROL:
			pthread_mutex_lock(&c->lock);
			if (c->session)
				xsvc_check(c->session);
			pthread_mutex_unlock(&c->lock);
			break;
		case XTAG_KERNEL:
			if (n == max)
				break;
			m = epoll_wait(c->kern_epfd, evs + n, max - n, 0);
			n += m > 0 ? m : 0;
			break;
		default:
			watch_fired(c, xsock_by_cookie(in[i].data.u64));
		}
	}
	return n;
}

int xlend_epoll_filter(struct epoll_event *evs, int n, bool *marked)
{
	int i, out = 0;

	for (i = 0; i < n; i++) {
		if (evs[i].data.u64 == (uintptr_t)&marker)
			*marked = true;
		else
			evs[out++] = evs[i];
	}
	return out;
}

/* The program's epoll holds ours: the other way round. */
static int look_borrowed(struct xctx *c, struct epoll_event *evs, int max,
			 int ms, const sigset_t *mask, bool *looked)
{
	struct epoll_event in[LOOK_EVENTS];
	int n = epoll_pwait(c->kern_epfd, evs, max, ms, mask), k;

	if (n < 0)
		return -errno;
	n = xlend_epoll_filter(evs, n, looked);
	if (*looked) {
		k = epoll_wait(c->epfd, in, LOOK_EVENTS, 0);
		judge(c, in, k, evs, 0);
	}
	return n;
}

/* Looks at epfd, waiting up to ms; number of kernel sockets' events or -errno.
 * The caller collects afterwards, before it sleeps or finds nothing. */
static int look(struct xctx *c, struct epoll_event *evs, int max, int ms,
		const sigset_t *mask)
{
	struct epoll_event in[LOOK_EVENTS];
	bool looked = false;
	int n, k;

	xctx_hint_taken(c);
	if (c->borrowed) {
		n = look_borrowed(c, evs, max, ms, mask, &looked);
	} else {
		k = epoll_wait(c->epfd, in, LOOK_EVENTS, ms);
		looked = k >= 0;
		n = looked ? judge(c, in, k, evs, max) : -errno;
	}
	pthread_mutex_lock(&c->lock);
	if (looked && !c->borrowed)
		c->signalled = false;
	pthread_mutex_unlock(&c->lock);
	c->looked_ns = xclock_ns();
	return n;
}

static bool look_due(struct xctx *c)
{
	uint64_t every = atomic_load(&c->n_kernel) ? LOOK_NS : LOOK_IDLE_NS;

	return c->hinted || xclock_ns() - c->looked_ns >= every;
}

/* Takes replies and collects; when there is nothing, tells the service what it
 * isn't told yet. */
static int poll_rings(struct xctx *c, struct epoll_event *evs, int max)
{
	int n;

	pthread_mutex_lock(&c->lock);
	c->armed = false;
	xctx_sleep_end(c);
	xctx_drain(c);
	n = collect(c, evs, max);
	if (!n)
		xctx_flush(c);
	c->hinted = xctx_hinted(c);
	pthread_mutex_unlock(&c->lock);
	return n;
}

/* Rings, and the kernel's sockets when it is time to. Before the first spin
 * they wait: a core on our CPU that has something to send goes first. */
static int poll_once(struct xctx *c, struct epoll_event *evs, int max,
		     bool spun)
{
	int n = poll_rings(c, evs, max), k;

	if (n == max || (n && ++c->calls % LOOK_CALLS) ||
	    (!n && !spun && !c->hinted) || !look_due(c))
		return n;
	k = look(c, evs + n, max - n, 0, NULL);
	return k < 0 ? (n ? n : k) : n + k;
}

/* ---- xts_epoll ---------------------------------------------------------- */

/* Nothing was found and the edge is taken: from here on we are told. */
static int arm(struct xctx *c, struct epoll_event *evs, int max)
{
	int n;

	c->armed = true;
	xctx_sleep_begin(c);
	xctx_drain(c);
	n = collect(c, evs, max);
	if (n && !c->borrowed) {
		c->armed = false;
		xctx_sleep_end(c);
	} else if (!xctx_flush(c)) {
		xctx_wake(c); /* come again, a ring is full */
	}
	return n;
}

int xts_epoll(void *ectx, struct epoll_event *events, int maxevents)
{
	struct xctx *c = ectx;
	bool yield;
	int n, k;

	if (!c || c->dead)
		return xts_result(-EBADF);
	if (maxevents <= 0)
		return xts_result(-EINVAL);
	xctx_thread_polls(c);
	n = poll_rings(c, events, maxevents);
	if (!n ||
	    (n < maxevents && ++c->calls % LOOK_CALLS == 0 && look_due(c))) {
		k = look(c, events + n, maxevents - n, 0, NULL);
		n = k < 0 ? n : n + k;
	}
	pthread_mutex_lock(&c->lock);
	if (!n)
		n = c->fd_used ? arm(c, events, maxevents)
			       : collect(c, events, maxevents);
	if (n && c->fd_used && !c->signalled)
		xctx_wake(c);
	yield = !n && xctx_shares_cpu(c);
	pthread_mutex_unlock(&c->lock);
	if (yield)
		sched_yield();
	return n;
}

/* ---- xts_epoll_wait ----------------------------------------------------- */

static uint64_t later(uint64_t now, uint64_t ns)
{
	return ns > UINT64_MAX - now ? UINT64_MAX : now + ns;
}

static int spin(struct xctx *c, struct epoll_event *evs, int max,
		uint64_t deadline)
{
	uint64_t now = xclock_ns(), end = later(now, xctx_spin_ns()), slice;
	uint32_t seen;
	int n = 0;

	if (end > deadline)
		end = deadline;
	while (!n && now < end && atomic_load(&c->cores)) {
		slice = later(now, atomic_load(&c->n_kernel) ? LOOK_NS
							     : LOOK_IDLE_NS);
		seen = atomic_load(&c->progress);
		xctx_spin(c, seen, slice < end ? slice : end);
		n = poll_once(c, evs, max, true);
		now = xclock_ns();
	}
	return n;
}

/* Milliseconds until the deadline; a full ring is tried again after one. */
static int sleep_ms(struct xctx *c, uint64_t deadline)
{
	uint64_t now = xclock_ns();

	if (deadline <= now)
		return 0;
	if (!TAILQ_EMPTY(&c->dirty))
		return 1;
	if (deadline == UINT64_MAX)
		return -1;
	return (int)((deadline - now + 999999) / 1000000);
}

static int sleep_once(struct xctx *c, struct epoll_event *evs, int max,
		      uint64_t deadline, const sigset_t *mask)
{
	int n = 0, ms;

	pthread_mutex_lock(&c->lock);
	c->n_sleepers++;
	xctx_sleep_begin(c);
	if (!xctx_drain(c) && !c->n_ready) {
		ms = sleep_ms(c, deadline);
		pthread_mutex_unlock(&c->lock);
		n = look(c, evs, max, ms, mask);
		pthread_mutex_lock(&c->lock);
	}
	c->n_sleepers--;
	xctx_sleep_end(c);
	xctx_drain(c);
	if (n >= 0 && n < max)
		n += collect(c, evs + n, max - n);
	pthread_mutex_unlock(&c->lock);
	return n;
}

static int wait_events(struct xctx *c, struct epoll_event *evs, int max,
		       uint64_t deadline, const sigset_t *mask)
{
	int n;

	pthread_mutex_lock(&c->lock);
	xctx_waiter_enter(c);
	pthread_mutex_unlock(&c->lock);
	do {
		n = spin(c, evs, max, deadline);
		if (!n && xclock_ns() < deadline)
			n = xsignal_came()
				    ? -EINTR
				    : sleep_once(c, evs, max, deadline, mask);
	} while (!n && xclock_ns() < deadline);
	pthread_mutex_lock(&c->lock);
	xctx_waiter_leave(c);
	pthread_mutex_unlock(&c->lock);
	return n;
}

static int poll_briefly(struct xctx *c, struct epoll_event *evs, int max)
{
	int n = poll_once(c, evs, max, false);

	if (n || !__atomic_load_n(&c->shares_cpu, __ATOMIC_RELAXED))
		return n;
	/* What we sent goes out first; often the answer to it is here when it
	 * is our turn again. */
	sched_yield();
	return poll_once(c, evs, max, false);
}

/* The descriptor's promise, where n events are returned or none (-errno): it is
 * readable while there are more (where it is not known whose epoll asks: may be
 * more), and told of the next one. Another thread that sleeps here takes what
 * this one had no room for. */
static int leave_wait(struct xctx *c, struct epoll_event *evs, int max, int n)
{
	bool more;

	if (!c->fd_used && !c->borrowed)
		return n;
	pthread_mutex_lock(&c->lock);
	if ((n <= 0 || c->borrowed) && c->fd_used && !c->n_sleepers)
		n += arm(c, evs, n ? 0 : max);
	more = c->n_ready || (n > 0 && !c->borrowed);
	if (!c->signalled && (c->fd_used ? more : c->n_sleepers && c->n_ready))
		xctx_wake(c);
	pthread_mutex_unlock(&c->lock);
	return n;
}

int xts_epoll_wait(void *ectx, struct epoll_event *events, int maxevents,
		   int timeout)
{
	struct xctx *c = ectx;
	int n;

	if (!c || c->dead)
		return xts_result(-EBADF);
	if (maxevents <= 0)
		return xts_result(-EINVAL);
	if (timeout == 0)
		return xts_epoll(ectx, events, maxevents);
	xctx_thread_polls(c);
	n = poll_briefly(c, events, maxevents);
	if (!n)
		n = wait_events(c, events, maxevents,
				timeout < 0 ? UINT64_MAX
					    : xclock_ns() + (uint64_t)timeout *
								    1000000u,
				NULL);
	return xts_result(leave_wait(c, events, maxevents, n));
}

/* ---- life --------------------------------------------------------------- */

static int open_epolls(struct xctx *c, int borrowed)
{
	struct epoll_event wake = {.events = EPOLLIN, .data.u64 = XTAG_WAKE};
	struct epoll_event kern = {.events = EPOLLIN, .data.u64 = XTAG_KERNEL};
	struct epoll_event mark = {.events = EPOLLIN,
				   .data.u64 = (uintptr_t)&marker};

	c->borrowed = borrowed >= 0;
	if (!c->borrowed)
		wake.events |= EPOLLET;
	c->epfd = epoll_create1(EPOLL_CLOEXEC);
	/* A copy: the program may close its own at any time. */
	c->kern_epfd = c->borrowed ? fcntl(borrowed, F_DUPFD_CLOEXEC, 0)
				   : epoll_create1(EPOLL_CLOEXEC);
	c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->epfd < 0 || c->kern_epfd < 0 || c->wake_fd < 0 ||
	    epoll_ctl(c->epfd, EPOLL_CTL_ADD, c->wake_fd, &wake))
		return -errno;
	if (c->borrowed
		    ? epoll_ctl(c->kern_epfd, EPOLL_CTL_ADD, c->epfd, &mark)
		    : epoll_ctl(c->epfd, EPOLL_CTL_ADD, c->kern_epfd, &kern))
		return -errno;
	return 0;
}

static void close_epolls(struct xctx *c)
{
	int *fds[] = {&c->epfd, &c->kern_epfd, &c->wake_fd};
	unsigned int i;

	if (c->borrowed)
		epoll_ctl(c->kern_epfd, EPOLL_CTL_DEL, c->epfd, NULL);
	for (i = 0; i < 3; i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
	c->polling = false;
}

/* borrowed: an epoll of the program's, or -1 */
static struct xctx *ctx_open(int borrowed)
{
	struct xctx *c = xsvc_ctx_new();
	int err;

	if (!c) {
		errno = ENOMEM;
		return NULL;
	}
	c->fd_used = c->signalled = c->armed = false;
	/* What else a program's epoll holds is not known. */
	atomic_store(&c->n_kernel, borrowed >= 0 ? 1 : 0);
	c->looked_ns = 0;
	err = open_epolls(c, borrowed);
	if (err) {
		close_epolls(c);
		xsvc_ctx_release(c);
		errno = -err;
		return NULL;
	}
	pthread_mutex_lock(&c->lock);
	c->polling = true;
	if (c->session && !c->detached)
		xctx_watch_session(c);
	pthread_mutex_unlock(&c->lock);
	return c;
}

void *xts_epoll_ctx_create(void)
{
	return ctx_open(-1);
}

int xts_epoll_ctx_destroy(void *ectx)
{
	struct xctx *c = ectx;
	struct xsock *s;
	uint32_t i;

	if (!c)
		return xts_result(-EBADF);
	pthread_mutex_lock(&c->lock);
	for (i = 0; (s = xsock_at(i)); i++) {
		if (atomic_load(&s->ep_ctx) != c)
			continue;
		unlist(c, s);
		s->ep_where = XWHERE_NONE;
		atomic_store(&s->ep_ctx, NULL);
	}
	c->armed = false;
	xctx_sleep_end(c);
	close_epolls(c);
	pthread_mutex_unlock(&c->lock);
	xsvc_ctx_release(c);
	return 0;
}

int xts_epoll_fd(void *ectx)
{
	struct xctx *c = ectx;

	if (!c || c->dead)
		return xts_result(-EBADF);
	pthread_mutex_lock(&c->lock);
	if (!c->fd_used) {
		c->fd_used = true;
		xctx_wake(c);
	}
	pthread_mutex_unlock(&c->lock);
	return c->epfd;
}

/* ---- a program's own epoll ---------------------------------------------- */

/* Without waiting. */
static int poll_now(struct xctx *c, struct epoll_event *evs, int max,
		    const sigset_t *mask)
{
	int n = poll_rings(c, evs, max), k;

	if (n == max || (n && (++c->calls % LOOK_CALLS || !look_due(c))))
		return n;
	k = look(c, evs + n, max - n, 0, mask);
	if (n || k)
		return k < 0 ? (n ? n : k) : n + k;
	return poll_rings(c, evs, max);
}

int xlend_epoll_wait(void *ectx, struct epoll_event *events, int maxevents,
		     uint64_t deadline, const sigset_t *mask)
{
	struct xctx *c = ectx;
	int n;

	xctx_thread_polls(c);
	if (xask_pending(c)) {
		pthread_mutex_lock(&c->lock);
		xctx_drain(c);
		xask_settle(c, deadline);
		pthread_mutex_unlock(&c->lock);
	}
	if (!deadline) {
		n = poll_now(c, events, maxevents, mask);
	} else {
		n = poll_briefly(c, events, maxevents);
		if (!n)
			n = wait_events(c, events, maxevents, deadline, mask);
	}
	return xts_result(leave_wait(c, events, maxevents, n));
}

void *xlend_epoll_borrow(int epfd)
{
	return ctx_open(epfd);
}

/* Those that are not ready any more leave the list. */
static void prune(struct xctx *c)
{
	struct xsock *s, *next;

	for (s = TAILQ_FIRST(&c->ready); s; s = next) {
		next = TAILQ_NEXT(s, ready_link);
		if (!(xsock_events(s) & s->ep_events))
			unlist(c, s);
	}
}

/* Lock held: we are told of what comes. */
static void rearm(struct xctx *c)
{
	c->armed = true;
	xctx_sleep_begin(c);
	xctx_drain(c);
	prune(c);
	if (!xctx_flush(c))
		xctx_wake(c);
}

/* Lock held: nothing is ready. */
static void take_edge(struct xctx *c)
{
	struct epoll_event in[LOOK_EVENTS];

	pthread_mutex_unlock(&c->lock);
	judge(c, in, epoll_wait(c->epfd, in, LOOK_EVENTS, 0), NULL, 0);
	pthread_mutex_lock(&c->lock);
	/* A thread that sleeps may have been about to see it. */
	rearm(c);
}

bool xlend_epoll_has(void *ectx)
{
	struct xctx *c = ectx;
	bool has;

	pthread_mutex_lock(&c->lock);
	c->fd_used = true;
	/* Afresh: the service tells once. */
	rearm(c);
	if (!c->n_ready)
		take_edge(c);
	has = c->n_ready;
	if (has && !c->signalled)
		xctx_wake(c);
	pthread_mutex_unlock(&c->lock);
	return has;
}
