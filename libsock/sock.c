/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sock.c - the socket table and the calls that open and close
 *
 * Opening, listening, accepting and connecting are the kernel's: these calls
 * go to the shadow socket and only note what they learned. A TCP connection is
 * offered to the service when it is first used (xsock_engage); all that can't
 * or need not be offloaded stays in phase KERNEL, where every call is the BSD
 * one.
 *
 * Close. The shadow's descriptor is closed at once. The service holds a copy
 * of it and keeps the connection until everything sent is acknowledged, so
 * closing does not block; the slot waits in CLOSING for the service's last
 * reply (its cookie is still valid, its number is EBADF). Only SO_LINGER with a
 * time makes the call wait. SO_LINGER {1, 0} aborts. A connection that the
 * service has not begun to take is ended in the kernel: the program may never
 * look at an answer again.
 *
 * The table grows by chunks and never shrinks: XSOCK_CHUNKS * XSOCK_CHUNK
 * sockets at most, then EMFILE. Looking up takes no lock.
 */
#include "libsock/service.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define GONE_NS 1000000000u /* a flow whose socket Linux has reset */
#define TYPE_MASK 0xf	    /* of socket(2)'s type, without the flags */

/* How long close() waits for a decision. */
#define CLOSE_ASKING_NS UINT64_C(200000000)
/* Before a declined connection is offered again: what the program changes at
 * once, what it or the peer changes soon, and what lasts as long as other
 * connections do. */
#define WAIT_SHORT_MIN_MS 1u
#define WAIT_MIN_MS 10u
#define WAIT_MAX_MS 1000u
#define WAIT_FULL_MIN_MS 1000u
#define WAIT_FULL_MAX_MS 64000u

static struct {
	pthread_mutex_t lock;
	struct xsock *free; /* slots to use again, last freed first */
	uint32_t used;	    /* slots ever used */
} table = {.lock = PTHREAD_MUTEX_INITIALIZER};

_Atomic(struct xsock *) xsock_chunk[XSOCK_CHUNKS];
bool xsock_child_keeps;

int xts_result(int ret)
{
	if (ret >= 0)
		return ret;
	errno = -ret;
	return -1;
}

/* ---- table -------------------------------------------------------------- */

/* A slot that never was used; table locked. */
static struct xsock *slot_new(void)
{
	uint32_t index = table.used, i;
	struct xsock *chunk;

	if (index >= XSOCK_CHUNKS * XSOCK_CHUNK)
		return NULL;
	if (index % XSOCK_CHUNK == 0) {
		chunk = aligned_alloc(alignof(struct xsock),
				      XSOCK_CHUNK * sizeof(*chunk));
		if (!chunk)
			return NULL;
		memset(chunk, 0, XSOCK_CHUNK * sizeof(*chunk));
		for (i = 0; i < XSOCK_CHUNK; i++)
			chunk[i].index = index + i;
		atomic_store_explicit(&xsock_chunk[index / XSOCK_CHUNK], chunk,
				      memory_order_release);
	}
	table.used++;
	return xsock_at(index);
}

static void slot_init(struct xsock *s, int fd, enum xts_reason reason,
		      bool nonblock)
{
	uint32_t gen = atomic_load(&s->gen) + 1;

	s->fd = fd;
	s->rx_mem = s->tx_mem = NULL;
	s->rx_size = s->tx_size = s->tx_grow = s->rx_off = s->rx_avail =
		s->rx_credits = 0;
	s->tx_off = s->tx_used = s->tx_unsent = s->cmd_flags = 0;
	s->flow = s->flow_gen = s->core = 0;
	atomic_store(&s->ask, 0);
	s->urg = 0;
	s->eof = s->gone = s->listed = s->dirty = false;
	s->shut_rd = s->shut_wr = s->nospace = s->moved = s->unconnected =
		false;
	s->kept = NULL;
	s->asked = s->foreign = s->leave_later = false;
	s->leaving = XLEAVE_NOT;
	s->info = NULL;
	s->ep_events = s->ep_flags = 0;
	s->ep_where = XWHERE_NONE;
	s->so_error = 0;
	atomic_store(&s->ctx, NULL);
	atomic_store(&s->ep_ctx, NULL);
	atomic_store(&s->reason, reason);
	atomic_store(&s->nonblock, nonblock);
	atomic_store(&s->connecting, false);
	s->accepted = s->lent = s->inherited = s->options_known = false;
	atomic_store(&s->nodelay, false);
	atomic_store(&s->ask_at_ns, 0);
	atomic_store(&s->ask_wait_ms, 0);
	atomic_store(&s->patience, 0);
	s->ep_armed = s->ep_wants = false;
	atomic_store(&s->tuned, false);
	atomic_store(&s->rcvlowat, 1);
	atomic_store(&s->oobinline, false);
	atomic_store(&s->oob_sent, false);
	atomic_store(&s->rcvtimeo_ns, 0);
	atomic_store(&s->sndtimeo_ns, 0);
	atomic_store(&s->gen, gen ? gen : 1);
}

struct xsock *xsock_new(int fd, enum xts_reason reason, bool nonblock)
{
	struct xsock *s;

	pthread_mutex_lock(&table.lock);
	s = table.free;
	if (s)
		table.free = s->free_next;
	else
		s = slot_new();
	pthread_mutex_unlock(&table.lock);
	if (s)
		slot_init(s, fd, reason, nonblock);
	else
		errno = EMFILE;
	return s;
}

int xsock_open(int fd, enum xphase phase, enum xts_reason reason, bool nonblock)
{
	struct xsock *s = xsock_new(fd, reason, nonblock);

	if (!s) {
		close(fd);
		errno = EMFILE;
		return -1;
	}
	xsock_set_phase(s, phase);
	return (int)s->index + XSOCK_FIRST;
}

void xsock_free(struct xsock *s)
{
	xsock_set_phase(s, XPHASE_FREE);
	pthread_mutex_lock(&table.lock);
	s->free_next = table.free;
	table.free = s;
	pthread_mutex_unlock(&table.lock);
}

void xsock_table_lock(void)
{
	pthread_mutex_lock(&table.lock);
}

void xsock_table_unlock(void)
{
	pthread_mutex_unlock(&table.lock);
}

/* A connection that two processes hold through Linux stays with Linux, or,
 * lent, as long as they do. */
void xsock_table_fork(void)
{
	struct xsock *s;
	uint32_t i, phase;

	for (i = 0; i < table.used; i++) {
		s = xsock_at(i);
		phase = XPHASE_NEW;
		if (s->lent)
			s->inherited |= xsock_phase(s) == phase;
		else if (atomic_load(&s->ask_at_ns))
			atomic_compare_exchange_strong(&s->phase, &phase,
						       XPHASE_KERNEL);
	}
}

/* In the child of fork(): offloaded connections are the parent's alone. */
void xsock_table_child(void)
{
	struct xsock *s;
	uint32_t i;

	for (i = 0; i < table.used; i++) {
		s = xsock_at(i);
		atomic_store(&s->ep_ctx, NULL);
		s->ep_where = XWHERE_NONE;
		switch (xsock_phase(s)) {
		case XPHASE_ASKING:
		case XPHASE_OFFLOADED:
		case XPHASE_MOVING:
		case XPHASE_LEAVING:
			s->leaving = XLEAVE_NOT;
			s->kept = NULL;
			atomic_store(&s->ask, 0);
			atomic_store(&s->kernel_calls, 0);
			/* A lent one is the program's to close. */
			if (!s->lent && !xsock_child_keeps) {
				close(s->fd);
				s->fd = -1;
			}
			xsock_set_phase(s, XPHASE_FORKED);
			break;
		case XPHASE_CLOSING:
			xsock_set_phase(s, XPHASE_FREE);
			s->free_next = table.free;
			table.free = s;
			break;
		case XPHASE_NEW:
			atomic_store(&s->kernel_calls, 0);
			continue;
		default:
			continue;
		}
		atomic_store(&s->ctx, NULL);
		s->listed = s->dirty = false;
	}
}

/* ---- phases ------------------------------------------------------------- */

static bool is_full(enum xts_reason reason)
{
	return reason == XTS_REASON_NO_MEMORY || reason == XTS_REASON_NO_FLOW;
}

static uint32_t wait_min_ms(enum xts_reason reason)
{
	if (is_full(reason))
		return WAIT_FULL_MIN_MS;
	if (reason == XTS_REASON_SHARED || reason == XTS_REASON_BUSY)
		return WAIT_SHORT_MIN_MS;
	return WAIT_MIN_MS;
}

static bool passes(enum xts_reason reason)
{
	return reason == XTS_REASON_OUT_OF_ORDER ||
	       reason == XTS_REASON_KERNEL_QUEUE ||
	       reason == XTS_REASON_URGENT || reason == XTS_REASON_BUSY ||
	       reason == XTS_REASON_SHARED ||
	       reason == XTS_REASON_NO_ROUTE_SEEN || is_full(reason);
}

void xsock_declined(struct xsock *s, enum xts_reason reason)
{
	uint32_t wait = atomic_load(&s->ask_wait_ms) * 2;
	uint32_t min = wait_min_ms(reason);
	uint32_t max = is_full(reason) ? WAIT_FULL_MAX_MS : WAIT_MAX_MS;

	atomic_store(&s->reason, reason);
	if (!passes(reason)) {
		/* Another process has it, who got the same descriptor. */
		xsock_set_phase(s, s->lent && reason == XTS_REASON_DUPLICATE
					   ? XPHASE_FORKED
					   : XPHASE_KERNEL);
		return;
	}
	wait = wait < min ? min : wait > max ? max : wait;
	atomic_store(&s->ask_wait_ms, wait);
	atomic_store(&s->ask_at_ns, xclock_ns() + wait * UINT64_C(1000000));
	xsock_set_phase(s, XPHASE_NEW);
}

bool xsock_waits(const struct xsock *s)
{
	uint64_t at = atomic_load(&s->ask_at_ns);

	return at && (atomic_load(&s->kernel_calls) || xclock_ns() < at);
}

void xsock_be_patient(struct xsock *s, uint32_t calls)
{
	if (calls < 2)
		return;
	atomic_store(&s->patience, calls);
	atomic_store(&s->ask_at_ns, UINT64_MAX);
}

void xsock_count_call(struct xsock *s)
{
	uint32_t left = atomic_load(&s->patience);

	while (left &&
	       !atomic_compare_exchange_weak(&s->patience, &left, left - 1))
		;
	/* At once, but not while another thread is in the kernel. */
	if (left == 1)
		atomic_store(&s->ask_at_ns, 1);
}

void xsock_put_off(struct xsock *s)
{
	atomic_store(&s->ask_at_ns,
		     xclock_ns() + WAIT_MIN_MS * UINT64_C(1000000));
}

void xsock_drained(struct xsock *s)
{
	uint64_t wait = atomic_load(&s->ask_wait_ms);

	if (wait <= WAIT_MIN_MS || is_full(atomic_load(&s->reason)))
		return;
	/* As if it had been put off for the least time only. */
	atomic_fetch_sub(&s->ask_at_ns,
			 (wait - WAIT_MIN_MS) * UINT64_C(1000000));
	atomic_store(&s->ask_wait_ms, WAIT_MIN_MS);
}

bool xsock_kernel_enter(struct xsock *s)
{
	atomic_fetch_add(&s->kernel_calls, 1);
	if (xsock_phase(s) == XPHASE_NEW)
		return true;
	atomic_fetch_sub(&s->kernel_calls, 1);
	return false;
}

void xsock_kernel_done(struct xsock *s, int how)
{
	struct xctx *c;

	if (how == XROUTE_COUNTED || how == XROUTE_FIRST) {
		atomic_fetch_sub(&s->kernel_calls, 1);
	} else if (how == XROUTE_ASKING) {
		c = atomic_load(&s->ctx); /* locked: it stays that */
		xask_leave(c);
		pthread_mutex_unlock(&c->lock);
	}
}

/* TCP_INFO's state; -1: not TCP */
int xsock_tcp_state(int fd)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len))
		return -1;
	return info.tcpi_state;
}

int xsock_state(const struct xsock *s)
{
	return s->accepted ? TCP_ESTABLISHED : xsock_tcp_state(s->fd);
}

bool xsock_stays_kernel(struct xsock *s, enum xts_reason reason)
{
	uint32_t phase = XPHASE_NEW;

	if (atomic_compare_exchange_strong(&s->phase, &phase, XPHASE_KERNEL))
		atomic_store(&s->reason, reason);
	return phase == XPHASE_NEW || phase == XPHASE_KERNEL;
}

int xsock_engage(struct xsock *s, bool blocking)
{
	return xsock_engage_state(s, blocking, xsock_state(s));
}

void xsock_offer(struct xsock *s)
{
	int err = errno;

	xsock_engage(s, false);
	errno = err;
}

int xsock_engage_state(struct xsock *s, bool blocking, int state)
{
	struct pollfd p = {.fd = s->fd, .events = POLLOUT};
	struct xctx *c;

	if (state == TCP_SYN_SENT || state == TCP_SYN_RECV) {
		if (!blocking)
			return 1;
		return poll(&p, 1, -1) < 0 ? -errno : 0;
	}
	if (state == TCP_CLOSE)
		return 1;
	if (state == TCP_LISTEN) {
		xsock_stays_kernel(s, XTS_REASON_LISTENER);
	} else if (state != TCP_ESTABLISHED) {
		xsock_stays_kernel(s, XTS_REASON_NOT_ESTABLISHED);
	} else {
		c = atomic_load(&s->ep_ctx);
		if (!c)
			c = xctx_thread();
		if (c)
			xsvc_ask(s, c);
		else
			xsock_stays_kernel(s, XTS_REASON_NO_MEMORY);
	}
	xepoll_settle(s);
	return 0;
}

/* Until when. A call that may not wait has patience with a service that tells
 * when it begins. */
static int wait_decision(struct xctx *c, const struct xsock *s,
			 uint64_t deadline_ns, uint64_t *patience_ns)
{
	int err;

	if (deadline_ns)
		return xask_wait(c, deadline_ns);
	if (!atomic_load(&s->ask) || xsock_phase(s) != XPHASE_ASKING)
		return -EAGAIN;
	if (!*patience_ns)
		*patience_ns = xask_patience();
	err = xask_wait(c, *patience_ns);
	return err == -EINTR ? 0 : err;
}

/* ASKING, MOVING, LEAVING: waits for the end of it. 0: look again;
 * XROUTE_ASKING: it is locked. */
static int await_decision(struct xsock *s, uint64_t deadline_ns, bool brief,
			  uint64_t *patience_ns)
{
	struct xctx *c = xsock_lock(s);
	uint32_t gen = atomic_load(&s->gen);
	bool yield = false;
	int err = 0;

	if (!c) {
		sched_yield();
		return 0;
	}
	xctx_drain(c);
	if (gen == atomic_load(&s->gen) && xphase_passes(xsock_phase(s))) {
		if (brief && xask_enter(c, s))
			return XROUTE_ASKING;
		err = wait_decision(c, s, deadline_ns, patience_ns);
		yield = err == -EAGAIN && !deadline_ns && xctx_shares_cpu(c);
	}
	pthread_mutex_unlock(&c->lock);
	if (yield)
		sched_yield();
	return err;
}

void xsock_await(struct xsock *s, uint64_t deadline_ns)
{
	uint64_t patience_ns = 0;
	uint32_t phase;

	do
		phase = xsock_phase(s);
	while (xphase_passes(phase) &&
	       await_decision(s, deadline_ns, false, &patience_ns) != -EAGAIN);
}

int xsock_fd_hold(struct xsock *s)
{
	uint64_t patience_ns = 0;

	for (;;) {
		atomic_fetch_add(&s->kernel_calls, 1);
		if (xsock_phase(s) != XPHASE_LEAVING)
			return s->fd;
		xsock_fd_drop(s);
		await_decision(s, UINT64_MAX, false, &patience_ns);
	}
}

/* NEW: into the kernel, before it is offered or in place of that. */
static int route_new(struct xsock *s, uint64_t deadline_ns, bool brief)
{
	bool waits = xsock_waits(s);

	/* What another process has may be offloaded for that one. */
	if (!waits && !(brief && s->lent && !s->inherited))
		return xsock_engage(s, deadline_ns != 0);
	if (!xsock_kernel_enter(s))
		return 0;
	return waits ? XROUTE_COUNTED : XROUTE_FIRST;
}

struct xctx *xsock_route(struct xsock *s, uint64_t deadline_ns, bool brief,
			 int *how)
{
	uint32_t gen = atomic_load_explicit(&s->gen, memory_order_relaxed);
	uint64_t patience_ns = 0;
	struct xctx *c;

	*how = 0;
	while (*how == 0) {
		if (atomic_load_explicit(&s->gen, memory_order_relaxed) !=
		    gen) {
			*how = -EBADF;
			break;
		}
		switch (xsock_phase(s)) {
		case XPHASE_OFFLOADED:
			c = xsock_lock(s);
			if (c && xsock_phase(s) == XPHASE_OFFLOADED)
				return c;
			if (c)
				pthread_mutex_unlock(&c->lock);
			else
				sched_yield();
			break;
		case XPHASE_ASKING:
		case XPHASE_MOVING:
		case XPHASE_LEAVING:
			*how = await_decision(s, deadline_ns, brief,
					      &patience_ns);
			break;
		case XPHASE_NEW:
			*how = route_new(s, deadline_ns, brief);
			break;
		case XPHASE_KERNEL:
			*how = XROUTE_KERNEL;
			break;
		case XPHASE_FORKED:
			*how = s->lent && xlend_claim
				       ? xlend_claim((int)s->index +
						     XSOCK_FIRST)
				       : -EBADF;
			break;
		default:
			*how = -EBADF;
		}
	}
	return NULL;
}

int xsock_take_error(struct xsock *s)
{
	int err = s->so_error;

	s->so_error = 0;
	return err;
}

/* ---- opening ------------------------------------------------------------ */

int xts_socket(int domain, int type, int protocol)
{
	bool tcp = (domain == AF_INET || domain == AF_INET6) &&
		   (type & TYPE_MASK) == SOCK_STREAM &&
		   (protocol == 0 || protocol == IPPROTO_TCP);
	enum xts_reason why = XTS_REASON_PENDING;
	int fd = socket(domain, type, protocol);

	if (fd < 0)
		return -1;
	if (!tcp)
		why = XTS_REASON_NOT_TCP;
	else if (xsvc_disabled())
		why = XTS_REASON_DISABLED;
	return xsock_open(
		fd, why == XTS_REASON_PENDING ? XPHASE_NEW : XPHASE_KERNEL, why,
		type & SOCK_NONBLOCK);
}

int xts_import(int fd)
{
	int type, protocol = 0, flags = fcntl(fd, F_GETFL);
	enum xts_reason why = XTS_REASON_PENDING;
	socklen_t len = sizeof(type);
	int number;

	if (flags < 0 || getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len))
		return -1;
	len = sizeof(protocol);
	getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len);
	if (type != SOCK_STREAM || protocol != IPPROTO_TCP)
		why = XTS_REASON_NOT_TCP;
	else if (xsvc_disabled())
		why = XTS_REASON_DISABLED;
	else if (xsock_tcp_state(fd) == TCP_LISTEN)
		why = XTS_REASON_LISTENER;
	number = xsock_open(
		fd, why == XTS_REASON_PENDING ? XPHASE_NEW : XPHASE_KERNEL, why,
		flags & O_NONBLOCK);
	if (number >= 0)
		atomic_store(&xsock_at((uint32_t)number - XSOCK_FIRST)->tuned,
			     true);
	return number;
}

int xts_bind(int s, const struct sockaddr *addr, socklen_t len)
{
	struct xsock *sock = xsock_get(s);

	return sock ? bind(sock->fd, addr, len) : -1;
}

int xts_listen(int s, int backlog)
{
	struct xsock *sock = xsock_get(s);

	if (!sock || listen(sock->fd, backlog))
		return -1;
	xsock_stays_kernel(sock, XTS_REASON_LISTENER);
	return 0;
}

int xts_accept4(int s, struct sockaddr *addr, socklen_t *len, int flags)
{
	struct xsock *sock = xsock_get(s), *child;
	enum xts_reason why;
	int fd, number;

	if (!sock)
		return -1;
	fd = accept4(sock->fd, addr, len, flags);
	if (fd < 0)
		return -1;
	/* A listener that never can be offloaded says why for its children. */
	why = atomic_load(&sock->reason);
	if (why == XTS_REASON_LISTENER)
		why = XTS_REASON_PENDING;
	number = xsock_open(
		fd, why == XTS_REASON_PENDING ? XPHASE_NEW : XPHASE_KERNEL, why,
		flags & SOCK_NONBLOCK);
	child = number < 0 ? NULL : xsock_get(number);
	if (child) {
		child->accepted = true;
		xsvc_inherit(child, sock);
	}
	return number;
}

int xts_accept(int s, struct sockaddr *addr, socklen_t *len)
{
	return xts_accept4(s, addr, len, 0);
}

/* Both sides had ended it, so Linux sends no RST: the service is told that it
 * is closed. */
static void give_up(struct xctx *c, struct xsock *s, uint64_t end)
{
	s->rx_credits += s->rx_avail; /* unread data would make it a reset */
	s->rx_avail = 0;
	s->cmd_flags |= XTS_F_CLOSE;
	xctx_flush_sock(c, s);
	while (s->dirty && !s->gone && xctx_wait(c, end) != -EAGAIN)
		;
	s->gone = true;
}

/* tcp_disconnect(): what was not read is gone, an error stays. */
static void forget_flow(struct xctx *c, struct xsock *s, uint64_t end)
{
	bool over = s->gone, ended = s->eof && s->shut_wr;

	/* Linux's RST ends the flow. */
	while (!ended && !s->gone && xsock_phase(s) == XPHASE_OFFLOADED &&
	       xctx_wait(c, end) != -EAGAIN)
		;
	if (xsock_phase(s) != XPHASE_OFFLOADED || atomic_load(&s->ctx) != c)
		return;
	if (!s->gone)
		give_up(c, s, end);
	if (!over && !ended)
		s->so_error = ECONNRESET;
	xsvc_unkeep(s);
	s->rx_avail = s->urg = 0;
	s->eof = s->shut_rd = s->shut_wr = false;
	s->unconnected = true;
}

void xsock_disconnected(struct xsock *s)
{
	struct xctx *c = xsock_lock(s);

	if (!c)
		return;
	xctx_drain(c);
	if (xsock_phase(s) == XPHASE_OFFLOADED)
		forget_flow(c, s, xclock_ns() + GONE_NS);
	pthread_mutex_unlock(&c->lock);
}

void xsock_reconnects(struct xsock *s)
{
	struct xctx *c;

	xsock_await(s, xclock_ns() + GONE_NS);
	c = xsock_lock(s);
	if (!c)
		return;
	if (xsock_phase(s) == XPHASE_OFFLOADED && s->unconnected) {
		xctx_leave(c, s);
		atomic_store(&s->reason, XTS_REASON_SHARED);
		xsock_set_phase(s, XPHASE_KERNEL);
		xepoll_to_kernel(c, s);
		xctx_wake(c);
	}
	pthread_mutex_unlock(&c->lock);
}

int xts_connect(int s, const struct sockaddr *addr, socklen_t len)
{
	struct xsock *sock = xsock_get(s);

	if (!sock)
		return -1;
	xsock_reconnects(sock);
	if (!connect(sock->fd, addr, len)) {
		if (addr->sa_family == AF_UNSPEC) {
			xsock_disconnected(sock);
			return 0;
		}
		/* Registered already: events should come from here on. */
		if (atomic_load(&sock->ep_ctx) &&
		    xsock_phase(sock) == XPHASE_NEW)
			xsock_engage(sock, false);
		return 0;
	}
	if (errno == EINPROGRESS && xsock_phase(sock) == XPHASE_NEW) {
		atomic_store(&sock->connecting, true);
		xepoll_connecting(sock);
		errno = EINPROGRESS;
	}
	return -1;
}

/* ---- closing ------------------------------------------------------------ */

/* Reset, or ended in both directions, as far as Linux is concerned. */
static bool is_over(const struct xsock *s)
{
	return s->gone ||
	       (s->eof && s->shut_wr && xsock_tcp_state(s->fd) == TCP_CLOSE);
}

/* What is over wakes those who wait, too. */
static int user_shutdown(struct xctx *c, struct xsock *s, int how)
{
	int ret = is_over(s) ? -ENOTCONN : 0;

	if (how != SHUT_WR)
		s->shut_rd = true;
	if (how != SHUT_RD && !s->shut_wr) {
		s->shut_wr = true;
		if (!s->gone)
			s->cmd_flags |= XTS_F_SHUT_WR;
		xctx_flush_sock(c, s);
	}
	xepoll_event(c, s, XEPOLL_STATE);
	xctx_wake(c);
	return ret;
}

int xts_shutdown(int s, int how)
{
	struct xsock *sock = xsock_get(s);
	struct xctx *c;
	int ret, rc;

	if (!sock)
		return -1;
	if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR)
		return xts_result(-EINVAL);
	/* NEW: Linux may do it; a connection that sends no more stays there. */
	if (xsock_phase(sock) == XPHASE_NEW) {
		ret = shutdown(sock->fd, how);
		if (!ret && how != SHUT_WR)
			sock->shut_rd = true;
		return ret;
	}
	do {
		c = xsock_route(sock, UINT64_MAX, true, &ret);
		if (c && xctx_drain(c) &&
		    xsock_phase(sock) != XPHASE_OFFLOADED) {
			pthread_mutex_unlock(&c->lock);
			c = NULL;
			ret = -EINTR;
		}
	} while (!c && ret == -EINTR);
	if (!c && ret < 0)
		return xts_result(ret);
	if (!c) {
		rc = shutdown(sock->fd, how);
		xsock_kernel_done(sock, ret);
		return rc;
	}
	ret = user_shutdown(c, sock, how);
	pthread_mutex_unlock(&c->lock);
	return xts_result(ret);
}

/* The connection is the service's to end from here on; lock held. s may be
 * free on return. */
static void user_close(struct xctx *c, struct xsock *s, bool abort)
{
	int fd = s->fd;

	s->fd = -1;
	xsock_set_phase(s, XPHASE_CLOSING);
	xctx_wake(c);
	if (s->gone || !atomic_load(&c->cores)) {
		xsvc_unkeep(s);
		xctx_leave(c, s);
		close(fd);
		xsock_free(s);
		return;
	}
	if (s->listed) {
		TAILQ_REMOVE(&c->ready, s, ready_link);
		c->n_ready--;
		s->listed = false;
	}
	s->cmd_flags |= XTS_F_CLOSE | (abort ? XTS_F_ABORT : 0);
	if (abort && s->tx_size) {
		s->tx_off = (s->tx_off - s->tx_unsent) & (s->tx_size - 1);
		s->tx_unsent = 0;
	}
	xctx_flush_sock(c, s);
	close(fd);
}

/* SO_LINGER's time: until all is acknowledged, as far as it lasts. */
static void linger(struct xsock *s, uint32_t gen, int seconds)
{
	uint64_t end = xclock_ns() + (uint64_t)seconds * 1000000000u;
	struct xctx *c;
	int err = 0;

	while (!err && (c = xsock_lock(s))) {
		if (atomic_load(&s->gen) != gen ||
		    xsock_phase(s) != XPHASE_CLOSING)
			err = -EBADF;
		else
			err = xctx_wait(c, end);
		pthread_mutex_unlock(&c->lock);
	}
}

/* Linux ends the connection now: the service, which has a copy of the
 * descriptor, declines it when it gets to it. */
static void end_in_kernel(const struct xsock *s, const struct linger *lg)
{
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	int unread = 0;

	if (lg->l_onoff || (!ioctl(s->fd, FIONREAD, &unread) && unread))
		(void)connect(s->fd, &none, sizeof(none));
	else
		shutdown(s->fd, SHUT_RDWR);
}

/* Nobody may look at the answer, so the end does not wait for it, unless the
 * service has begun to take the connection: then it comes soon. */
static void close_asking(struct xctx *c, struct xsock *s,
			 const struct linger *lg)
{
	uint64_t end = xask_patience();
	int err = 0;

	while (atomic_load(&s->ask) && xsock_phase(s) == XPHASE_ASKING &&
	       err != -EAGAIN) {
		if (!(lg->l_onoff && lg->l_linger) && xask_enter(c, s)) {
			end_in_kernel(s, lg);
			xask_leave(c);
			return;
		}
		err = xask_wait(c, end);
	}
}

/* false: another thread changed the phase, look again */
static bool close_user(struct xsock *s)
{
	struct linger lg = {0}, off = {0};
	socklen_t len = sizeof(lg);
	uint32_t gen = atomic_load(&s->gen);
	struct xctx *c = xsock_lock(s);
	uint32_t phase;

	if (!c) {
		sched_yield();
		return false;
	}
	phase = xsock_phase(s);
	if (phase == XPHASE_MOVING || phase == XPHASE_LEAVING) {
		xctx_wait(c, UINT64_MAX);
		pthread_mutex_unlock(&c->lock);
		return false;
	}
	if (phase != XPHASE_ASKING && phase != XPHASE_OFFLOADED) {
		pthread_mutex_unlock(&c->lock);
		return false;
	}
	getsockopt(s->fd, SOL_SOCKET, SO_LINGER, &lg, &len);
	if (phase == XPHASE_ASKING && atomic_load(&s->ask)) {
		close_asking(c, s, &lg);
		if (xsock_phase(s) != phase || atomic_load(&s->ctx) != c) {
			pthread_mutex_unlock(&c->lock);
			return false;
		}
	}
	/* The service must not block when it closes its copy. */
	if (lg.l_onoff && lg.l_linger)
		setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &off, sizeof(off));
	user_close(c, s, lg.l_onoff && !lg.l_linger);
	pthread_mutex_unlock(&c->lock);
	if (lg.l_onoff && lg.l_linger)
		linger(s, gen, lg.l_linger);
	return true;
}

int xts_close(int s)
{
	struct xsock *sock = xsock_get(s);
	uint32_t phase;
	int fd;

	if (!sock)
		return -1;
	xepoll_forget(sock);
	for (;;) {
		phase = xsock_phase(sock);
		if (phase == XPHASE_FREE || phase == XPHASE_CLOSING)
			return xts_result(-EBADF);
		if (phase == XPHASE_KERNEL || phase == XPHASE_NEW ||
		    phase == XPHASE_FORKED) {
			if (!atomic_compare_exchange_strong(
				    &sock->phase, &phase, XPHASE_CLOSING))
				continue;
			fd = sock->fd;
			sock->fd = -1;
			xsock_free(sock);
			return fd < 0 ? 0 : close(fd);
		}
		/* The program may never call again: who would read the answer
		 * and end the connection? */
		if (phase == XPHASE_ASKING)
			xsock_await(sock, xclock_ns() + CLOSE_ASKING_NS);
		if (close_user(sock))
			return 0;
	}
}

/* ---- telling ------------------------------------------------------------ */

int xts_shadow_fd(int s)
{
	struct xsock *sock = xsock_get(s);

	if (!sock)
		return -1;
	return sock->fd >= 0 ? sock->fd : xts_result(-EBADF);
}

int xts_offload_reason(int s)
{
	struct xsock *sock = xsock_get(s);
	struct xctx *c;

	if (!sock)
		return -1;
	c = xsock_lock(sock);
	if (c) {
		xctx_drain(c);
		pthread_mutex_unlock(&c->lock);
	}
	return (int)atomic_load(&sock->reason);
}

const char *xts_reason_text(int reason)
{
	static const char *const text[] = {
#define X(name, words) words,
		XTS_REASONS(X)
#undef X
	};

	if (reason < 0 || reason >= XTS_REASON_COUNT)
		return "unknown";
	return text[reason];
}
