/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ctx.h - contexts: rings to the service, sleeping, ready lists (private)
 *
 * A context belongs to a thread (made when the thread first needs it) or is a
 * polling context. Its lock guards the rings and every socket whose ctx it is.
 * Contexts are never freed, only used again, so that a thread may lock the
 * context it read from a socket and then look whether it still is the one.
 *
 * Lock order: service lock, context lock, table lock. No thread holds two
 * context locks.
 */
#ifndef LIBSOCK_CTX_H
#define LIBSOCK_CTX_H

#include "libsock/sock.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <time.h>

#include "libsock/lend.h"

struct xsession;

/* Our half of one core's rings; shared words are in area. */
struct xring {
	struct xts_core_area *area;
	uint32_t cmd_producer;
	uint32_t cmd_consumer;	 /* the service's, as last read */
	uint32_t reply_consumer; /* also read without the lock by spinners */
	int doorbell_fd;
};

/* What a blocked thread sleeps on: woken by the service's eventfd, by the
 * end of the control socket, by wake_fd. */
struct xsleeper {
	int epfd;
	int wake_fd;
	uint32_t attach_no; /* of the context when it was made */
	struct xsleeper *next;
};

/* Tags of events in the epolls; anything above is a cookie. */
enum { XTAG_EVENT, XTAG_CONTROL, XTAG_WAKE, XTAG_KERNEL };

TAILQ_HEAD(xsock_list, xsock);

struct xctx {
	pthread_mutex_t lock;
	struct xsession *session; /* NULL: not known to a service */
	struct xts_ctx_area *area;
	_Atomic uint32_t cores;	   /* rings in use, 0: detached */
	_Atomic uint32_t progress; /* goes up when anything changed */
	uint32_t number;	   /* the service's name for it */
	uint32_t attach_no;	   /* goes up with each attach */
	uint32_t sleep_word;	   /* what app_sleep holds */
	uint32_t n_sleepers;	   /* threads asleep */
	uint32_t n_waiters;	   /* threads spinning or asleep */
	uint32_t n_socks;	   /* on socks */
	_Atomic uint32_t asked;	   /* the last request for an offload */
	_Atomic uint32_t decided;  /* answers; changed with the lock, both */
	uint32_t empty_drains;	   /* in a row */
	int event_fd;
	bool armed;    /* polling: app_sleep is odd for xts_epoll_fd() */
	bool detached; /* session is lost, its memory still in use by waiters */
	bool in_use;   /* under the service lock */
	bool orphan;   /* its thread or polling context ended; service lock */
	struct xring ring[XTS_MAX_CORES];
	struct xsock_list socks; /* whose ctx this is */
	struct xsock_list dirty; /* with something to tell the service */
	struct xsleeper *asleep, *idle_sleepers;

	/* Polling contexts only. */
	_Atomic bool polling;
	bool dead;	/* made before fork(), seen from the child */
	bool borrowed;	/* kern_epfd is the program's, and holds epfd */
	bool fd_used;	/* xts_epoll_fd() was called */
	bool signalled; /* wake_fd has been written since epfd was read */
	int epfd;      /* xts_epoll_fd(): eventfds, control socket, kern_epfd */
	int kern_epfd; /* sockets that are the kernel's */
	int wake_fd;
	_Atomic uint32_t n_kernel; /* sockets in epfd and kern_epfd, a hint */
	uint32_t calls;
	uint64_t looked_ns; /* when epfd was last read */
	bool shares_cpu;    /* a core ran on our CPU when we last spun */
	uint32_t fed_seen;  /* area->linux_fed before that */
	bool hinted;	    /* linux_fed changed since then */
	struct xsock_list ready;
	uint32_t n_ready;

	struct xctx *next; /* of all; under the service lock */
};

/* The calling thread's context, or the polling context it last polled. NULL:
 * out of memory. */
struct xctx *xctx_thread(void);
void xctx_thread_polls(struct xctx *c);
struct xctx *xctx_new(void);		 /* service lock held */
void xctx_init_attached(struct xctx *c); /* lock held; rings are set */
void xctx_watch_session(struct xctx *c); /* polling contexts; lock held */
void xctx_detach(struct xctx *c);	/* lock held; after the service ended */
void xctx_forget_rings(struct xctx *c); /* lock held; closes its fds */
void xctx_child(struct xctx *c);	/* after fork(), in the child */

/* Lock held: takes replies; true: something changed. */
bool xctx_drain(struct xctx *c);
/* Lock held: tells the service what it isn't told yet; false: a ring is full.
 */
bool xctx_flush(struct xctx *c);
/* Lock held: tells the service of one socket, at once if it can. */
void xctx_flush_sock(struct xctx *c, struct xsock *s);
/* Lock held: s->tx_grow, as soon as everything is told. */
void xctx_grow_tx(struct xctx *c, struct xsock *s);
void xctx_mark_dirty(struct xctx *c, struct xsock *s);
/* Lock held: a command that isn't SEND; its flow is filled in. false: the ring
 * is full. */
bool xctx_command(struct xctx *c, struct xsock *s, const struct xts_cmd *cmd);
/* Lock held on entry and return: waits until something changed. 0, -EINTR, or
 * -EAGAIN when deadline_ns (CLOCK_MONOTONIC) has passed. */
int xctx_wait(struct xctx *c, uint64_t deadline_ns);
/* Lock held: wakes all who sleep on c. */
void xctx_wake(struct xctx *c);
/* Adds fd to an epoll under a tag of ours; 0 or -1. */
int xctx_watch(int epfd, int fd, uint64_t tag, uint32_t events);
void xctx_sleeper_free(struct xsleeper *sl);
/* Lock held: from now on sl's epoll tells of changes (NULL: no memory); and the
 * end of that. */
struct xsleeper *xctx_sleeper_enter(struct xctx *c);
void xctx_sleeper_leave(struct xctx *c, struct xsleeper *sl);
/* What sl's epoll has to say, waiting up to ms; 0 or -errno. Lock not held. */
int xctx_sleeper_look(struct xctx *c, struct xsleeper *sl, int ms);
/* Without the lock, n_waiters counted: true if something seems to have come
 * since progress was seen. */
bool xctx_spin(struct xctx *c, uint32_t seen, uint64_t end_ns);
/* A core that last ran on this thread's CPU (or on none that is known) can't
 * run while we do; it learns where we are. With the lock, or n_waiters counted.
 */
bool xctx_shares_cpu(struct xctx *c);
/* Was Linux given frames since the last look at the kernel's sockets? With the
 * lock, or n_waiters counted. */
bool xctx_hinted(const struct xctx *c);
void xctx_hint_taken(struct xctx *c);	/* lock not held */
void xctx_waiter_enter(struct xctx *c); /* lock held */
void xctx_waiter_leave(struct xctx *c); /* lock held */
/* Lock held: app_sleep odd and fresh, full fence; and back. */
void xctx_sleep_begin(struct xctx *c);
void xctx_sleep_end(struct xctx *c);

/* Lock held: s joins, leaves c. */
void xctx_join(struct xctx *c, struct xsock *s);
void xctx_leave(struct xctx *c, struct xsock *s);
void xctx_end_flow(struct xctx *c, struct xsock *s, int err);

/* A closing socket has had its last reply; lock held. */
void xctx_close_answered(struct xctx *c, struct xsock *s);

/* urgent.c. Lock of s->ctx held, all: */
void xurgent_reply(struct xctx *c, struct xsock *s, const struct xts_reply *r);
/* s->urg: n bytes were read. */
void xurgent_consumed(struct xsock *s, uint32_t n);
/* s->urg: of *avail bytes, what one read may take. The bytes to leave out
 * before them: 0 or 1. */
uint32_t xurgent_cut(const struct xsock *s, uint32_t *avail);
uint32_t xurgent_queued(const struct xsock *s); /* FIONREAD */
/* recv() with MSG_OOB: 1, 0 or -errno. */
ssize_t xurgent_recv(struct xsock *s, const struct msghdr *msg, size_t len,
		     int flags, int *msg_flags);

/* leave.c. Lock of s->ctx held, all: */
/* OFFLOADED -> LEAVING. */
void xleave_begin(struct xctx *c, struct xsock *s);
/* LEAVING: the command ring may have all by now. */
void xleave_told(struct xctx *c, struct xsock *s);
/* XTS_REPLY_HANDED; false: nonsense. */
bool xleave_reply(struct xctx *c, struct xsock *s, const struct xts_reply *r);
/* LEAVING, and the session is lost; false: so is the connection. */
bool xleave_lost(struct xctx *c, struct xsock *s);

/* ask.c. Lock of s->ctx held, all but the last two: */
/* s->ask: the number of the request that will be sent; that was sent; that was
 * answered. */
void xask_begin(struct xctx *c, struct xsock *s);
void xask_sent(struct xctx *c, const struct xsock *s);
void xask_decided(struct xctx *c, struct xsock *s);
/* true: ASKING, and until xask_leave() the kernel socket may be used, by calls
 * that don't wait. The lock stays held. */
bool xask_enter(struct xctx *c, const struct xsock *s);
void xask_leave(struct xctx *c);
/* ASKING: what poll() says of the kernel socket; -1: it is being taken. */
int xask_events(struct xctx *c, const struct xsock *s, uint32_t events);
/* As xctx_wait(), where the service may need our CPU. */
int xask_wait(struct xctx *c, uint64_t deadline_ns);
/* What the service has begun with is decided, or deadline_ns has passed (0: it
 * was waited for long enough). */
void xask_settle(struct xctx *c, uint64_t deadline_ns);
/* Until when calls that may not wait do wait. */
uint64_t xask_patience(void);
/* Linux may be given len bytes to send. */
bool xask_sends(const struct xsock *s, size_t len);
/* Is there anything to settle? No lock needed. */
static inline bool xask_pending(const struct xctx *c)
{
	return atomic_load_explicit(&c->asked, memory_order_relaxed) !=
	       atomic_load_explicit(&c->decided, memory_order_relaxed);
}

/* epoll.c. Lock of s->ctx held, all: */
void xepoll_asked(struct xctx *c, struct xsock *s);
void xepoll_to_user(struct xctx *c, struct xsock *s);
void xepoll_to_kernel(struct xctx *c, struct xsock *s);
/* No lock held: */
void xepoll_connecting(struct xsock *s);
void xepoll_settle(struct xsock *s);
void xepoll_forget(struct xsock *s);
/* A registration in the kernel's epoll before the shadow, which lives on, is
 * replaced (lock of any context held); and after that. */
void xepoll_withdraw(struct xsock *s);
void xepoll_renew(struct xsock *s);
/* The kernel's registration goes over to another descriptor. */
void xepoll_reshadow(struct xsock *s, int fd);

static inline uint64_t xclock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t xctx_spin_ns(void); /* XTS_SPIN_US */

/* A signal handler ran in this thread since the call began (lend.h). */
static inline bool xsignal_came(void)
{
	return xlend_signals != xlend_signals_seen;
}
/* s was accepted from listener. */
void xsvc_inherit(struct xsock *s, struct xsock *listener);

/* A barrier between our store and our load of the other side's word. */
static inline void xfence(void)
{
#ifdef __SANITIZE_THREAD__
	static uint32_t dummy;

	__atomic_fetch_add(&dummy, 1, __ATOMIC_SEQ_CST);
#else
	atomic_thread_fence(memory_order_seq_cst);
#endif
}

static inline void xctx_progress(struct xctx *c)
{
	atomic_fetch_add_explicit(&c->progress, 1, memory_order_relaxed);
}

/* Locks the context of s; NULL: it has none. */
static inline struct xctx *xsock_lock(struct xsock *s)
{
	struct xctx *c;

	for (;;) {
		c = atomic_load_explicit(&s->ctx, memory_order_acquire);
		if (!c)
			return NULL;
		pthread_mutex_lock(&c->lock);
		if (atomic_load_explicit(&s->ctx, memory_order_relaxed) == c)
			return c;
		pthread_mutex_unlock(&c->lock);
	}
}

#define XSOCK_CREDITS_MAX 262144u /* consumed bytes the service waits for */

static inline void xsock_consumed(struct xctx *c, struct xsock *s, uint32_t n)
{
	s->rx_avail -= n;
	s->rx_off = (s->rx_off + n) & (s->rx_size - 1);
	if (__builtin_expect(s->urg, 0))
		xurgent_consumed(s, n);
	if (s->gone)
		return;
	s->rx_credits += n;
	if (s->rx_credits >= s->rx_size / 2 ||
	    s->rx_credits >= XSOCK_CREDITS_MAX)
		xctx_flush_sock(c, s);
	else
		xctx_mark_dirty(c, s);
}

/* All before the urgent byte has been read: sockatmark(3). One that was named
 * but never sent is passed at the end of the stream. */
static inline bool xsock_at_mark(const struct xsock *s)
{
	return s->urg && !s->urg_left && (s->rx_avail || !s->eof);
}

/* Bytes that make it readable. */
static inline uint32_t xsock_lowat(const struct xsock *s)
{
	uint32_t n = atomic_load_explicit(&s->rcvlowat, memory_order_relaxed);

	/* The urgent byte is not for reading. */
	return n + (xsock_at_mark(s) && !atomic_load(&s->oobinline));
}

/* EPOLL* bits of an offloaded socket, as Linux's tcp_poll(); lock held */
static inline uint32_t xsock_events(struct xsock *s)
{
	uint32_t ev = 0;
	bool rd = s->shut_rd || s->eof || s->gone;
	bool wr = s->shut_wr || s->gone;

	if (rd)
		ev |= EPOLLIN | EPOLLRDNORM | EPOLLRDHUP;
	else if (s->rx_avail && s->rx_avail >= xsock_lowat(s))
		ev |= EPOLLIN | EPOLLRDNORM;
	if (rd && wr)
		ev |= EPOLLHUP;
	if (wr || s->tx_size - s->tx_used >= s->tx_size / 3)
		ev |= EPOLLOUT | EPOLLWRNORM;
	else
		s->nospace = true;
	if (s->urg & XURG_VALID)
		ev |= EPOLLPRI;
	if (s->so_error)
		ev |= EPOLLERR;
	if (__builtin_expect(s->unconnected, 0))
		ev &= ~(uint32_t)(EPOLLIN | EPOLLRDNORM | EPOLLRDHUP);
	return ev;
}

/* For xepoll_event(): the connection's state changed. As Linux does, that wakes
 * whoever waits for anything. */
#define XEPOLL_STATE UINT32_MAX

/* epoll.c's part of a reply; lock held */
static inline void xepoll_event(struct xctx *c, struct xsock *s,
				uint32_t events)
{
	static_assert(EPOLLRDNORM == EPOLLIN << 6 &&
			      EPOLLWRNORM == EPOLLOUT << 6,
		      "as said");
	/* EPOLLRDNORM and EPOLLWRNORM come with the other two. */
	events |= (events & (EPOLLIN | EPOLLOUT)) << 6;
	if (s->listed || s->ep_where != XWHERE_USER || !(s->ep_events & events))
		return;
	s->listed = true;
	TAILQ_INSERT_TAIL(&c->ready, s, ready_link);
	c->n_ready++;
}

#endif
