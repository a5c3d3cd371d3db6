/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sock.h - one XTS socket and the table of them (private to libsock)
 *
 * A slot of the table is type-stable memory: it is never freed, only used
 * again under a new generation, so a thread may look at a slot that another
 * one closes. The cookie that names a socket to the service is index and
 * generation.
 *
 * Phases, and who may change them:
 *   FREE       -> open functions
 *   KERNEL     for good: every call goes to the kernel socket
 *   NEW        TCP, not asked for yet, or declined for a reason that passes
 *              (ask_at_ns); calls go to the kernel socket
 *   ASKING     the service decides; data calls that may wait do, others are
 *              the kernel's until it begins to take the socket (ask.c)
 *   OFFLOADED  data are in shared memory, ctx is set
 *   MOVING     on its way to another context; data calls wait
 *   LEAVING    on its way to a kernel socket (leave.c); all calls wait
 *   CLOSING    closed by the program; waits for the service's last reply
 *   FORKED     was offloaded when the process forked, seen from the child; or
 *              (lent ones) another process that holds it has offloaded it
 * NEW -> ASKING and NEW -> KERNEL are compare-and-swap; all others are made
 * under the lock of the context that ctx names.
 *
 * Asking again. A connection that was declined while Linux held data behind a
 * gap, or while there was no room, is offered again by the first call on it
 * when its time has come: 10 ms later, then twice as long each time. It never
 * is while a call of another thread is inside the kernel on it: that thread
 * would sleep there for ever. A call that may not wait is made on the kernel
 * socket first, which is offered after that. So a call that goes to the kernel
 * in phase NEW is counted (kernel_calls) before it looks at the phase for the
 * last time, and whoever asks looks at the count after the change of phase.
 * Calls that use the shadow's descriptor for anything but data are counted,
 * too, in every phase, so that none is under way while a socket leaves.
 */
#ifndef LIBSOCK_SOCK_H
#define LIBSOCK_SOCK_H

#include "libsock/xts.h"
#include "libsock/xts_proto.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct xctx;
struct xsession;

/* The peer's urgent byte; 0: none, or read past. With VALID the byte itself. */
#define XURG_BYTE 0xffu
#define XURG_VALID 0x100u
#define XURG_NOTYET 0x200u /* announced only */
#define XURG_READ 0x400u   /* taken with MSG_OOB */

enum xphase {
	XPHASE_FREE,
	XPHASE_KERNEL,
	XPHASE_NEW,
	XPHASE_ASKING,
	XPHASE_OFFLOADED,
	XPHASE_MOVING,
	XPHASE_LEAVING,
	XPHASE_CLOSING,
	XPHASE_FORKED,
};

/* LEAVING: how far. */
enum xleave {
	XLEAVE_NOT,
	XLEAVE_TELLING, /* the rest of the commands goes into the ring */
	XLEAVE_ASKED,	/* the service has XTS_CTL_HANDOVER */
};

/* Where a socket's registration in a polling context is kept. */
enum xwhere {
	XWHERE_NONE,
	XWHERE_KERNEL, /* in the context's kernel epoll, program's own event */
	XWHERE_WATCH,  /* connecting: in the context's outer epoll, ours */
	XWHERE_USER,   /* here: ep_events, ep_data, the ready list */
};

/* Grouped by who writes what. */
/* NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding) */
struct xsock {
	/* Written at open and by changes of phase, read by all. */
	_Atomic uint32_t phase;	       /* enum xphase */
	_Atomic uint32_t gen;	       /* never 0 while open */
	_Atomic(struct xctx *) ctx;    /* whose rings carry the flow */
	_Atomic uint32_t reason;       /* enum xts_reason */
	_Atomic bool nonblock;	       /* O_NONBLOCK */
	_Atomic bool connecting;       /* connect() said EINPROGRESS */
	_Atomic uint32_t kernel_calls; /* see above; never reset */
	_Atomic uint64_t ask_at_ns;    /* not before; 0: never put off */
	_Atomic uint32_t ask_wait_ms;  /* how long that was put off */
	_Atomic uint32_t patience;     /* data calls until it is offered */
	uint32_t index;		       /* in the table, constant */
	int fd;			       /* shadow, -1 once closed */
	/* Socket options, read at the time of asking, then by set calls. */
	bool accepted;	/* by xts_accept(): the service knows its TCP state */
	bool lent;	/* fd is the program's own: see lend.h */
	bool inherited; /* lent: other processes may have it */
	bool options_known; /* the five below are the kernel socket's */
	_Atomic bool nodelay;
	_Atomic bool tuned; /* others of TCP's may not be what Linux gives */
	_Atomic uint32_t rcvlowat;
	_Atomic uint64_t rcvtimeo_ns, sndtimeo_ns; /* 0: for ever */
	_Atomic bool oobinline;			   /* SO_OOBINLINE */
	_Atomic bool oob_sent; /* Linux was given urgent data to send */
	/* Changed by compare-and-swap; the ep_ fields below are under its
	 * lock. */
	_Atomic(struct xctx *) ep_ctx;

	/* The flow; from here on under ctx's lock. */
	alignas(XTS_CACHELINE) uint8_t *rx_mem;
	uint8_t *tx_mem;
	uint32_t rx_size, tx_size; /* of the buffers */
	uint32_t rx_off;	   /* next byte to read */
	uint32_t rx_avail;	   /* bytes to read */
	uint32_t rx_credits;	   /* consumed, not told to the service yet */
	uint32_t tx_off;	   /* next byte to write */
	uint32_t tx_used;	   /* bytes not acknowledged */
	uint32_t tx_unsent;	   /* of these, not told to the service yet */
	uint32_t flow, flow_gen, core;
	uint32_t cmd_flags;   /* XTS_F_* of the next command */
	_Atomic uint32_t ask; /* ASKING: number of the request, 0: none */
	uint16_t urg;	      /* XURG_* */
	uint32_t urg_left;    /* bytes to read before the urgent one */
	uint32_t tx_urg;      /* of tx_unsent, up to the urgent byte: with
			       * XTS_F_URGENT in cmd_flags */
	bool eof;	      /* peer's FIN */
	bool gone;	      /* the flow is no more: no commands */
	bool listed;	      /* on the ready list */
	bool dirty;	      /* on the list of sockets to flush */

	alignas(XTS_CACHELINE) epoll_data_t ep_data;
	TAILQ_ENTRY(xsock) ready_link;
	TAILQ_ENTRY(xsock) dirty_link;
	uint32_t ep_events; /* 0: none, or EPOLLONESHOT has fired */
	uint32_t ep_flags;  /* EPOLLET, EPOLLONESHOT */
	bool ep_armed;	    /* EPOLLONESHOT has not fired, for certain */
	bool ep_wants;	    /* lent: to be offered when it is armed again */
	enum xwhere ep_where;
	int so_error;	   /* pending error, told once */
	uint8_t *tx_large; /* where the transmit buffer may move to ... */
	uint32_t tx_grow;  /* ... with this size, 0: nowhere */
	bool shut_rd, shut_wr;
	bool unconnected; /* gone, and connect(AF_UNSPEC) was called since */
	bool nospace;	  /* a writer found the buffer full: tell it of room */
	bool moved;	  /* MOVING: the old ring is read out */
	bool asked;	  /* XTS_F_CREDITS waits for its answer */
	bool foreign;	  /* LEAVING from FORKED: the flow is not ours */
	bool leave_later; /* MOVING: the service asked for it meanwhile */
	/* Reset: whose service keeps the buffers for us; also when s has joined
	 * another context since. NULL: nobody. */
	struct xsession *kept;
	enum xleave leaving;
	int leave_err;	       /* why it did not leave; errno */
	struct xts_info *info; /* who waits for XTS_REPLY_INFO wants it here */
	uint32_t info_parts;   /* of it that have come */
	TAILQ_ENTRY(xsock) ctx_link;
	struct xsock *free_next; /* under the table's lock */
};

#define XSOCK_CHUNK 256u /* sockets a chunk of the table */
#define XSOCK_CHUNKS 4096u
#define XSOCK_FIRST 1 /* the first number; 0 is no socket */

extern _Atomic(struct xsock *) xsock_chunk[XSOCK_CHUNKS];

static inline uint64_t xsock_cookie(const struct xsock *s)
{
	return (uint64_t)atomic_load_explicit(&s->gen, memory_order_relaxed)
		       << 32 |
	       s->index;
}
static inline uint32_t xsock_phase(const struct xsock *s)
{
	return atomic_load_explicit(&s->phase, memory_order_acquire);
}
static inline void xsock_set_phase(struct xsock *s, enum xphase p)
{
	atomic_store_explicit(&s->phase, p, memory_order_release);
}

/* The slot at an index, whatever its phase; NULL past the end. */
static inline struct xsock *xsock_at(uint32_t index)
{
	struct xsock *chunk;

	if (index >= XSOCK_CHUNKS * XSOCK_CHUNK)
		return NULL;
	chunk = atomic_load_explicit(&xsock_chunk[index / XSOCK_CHUNK],
				     memory_order_acquire);
	return chunk ? &chunk[index % XSOCK_CHUNK] : NULL;
}

/* NULL with errno EBADF */
static inline struct xsock *xsock_get(int s)
{
	struct xsock *sock = xsock_at((uint32_t)s - XSOCK_FIRST);
	uint32_t phase = sock ? xsock_phase(sock) : XPHASE_FREE;

	if (phase == XPHASE_FREE || phase == XPHASE_CLOSING) {
		errno = EBADF;
		return NULL;
	}
	return sock;
}

static inline struct xsock *xsock_by_cookie(uint64_t cookie)
{
	struct xsock *s = xsock_at((uint32_t)cookie);

	if (!s ||
	    atomic_load_explicit(&s->gen, memory_order_relaxed) != cookie >> 32)
		return NULL;
	return xsock_phase(s) == XPHASE_FREE ? NULL : s;
}
/* Takes over fd; XTS number or -1 with errno, fd closed. */
int xsock_open(int fd, enum xphase phase, enum xts_reason reason,
	       bool nonblock);
/* The same in phase FREE still, fd stays open; NULL with errno EMFILE. */
struct xsock *xsock_new(int fd, enum xts_reason reason, bool nonblock);
/* The slot goes back to the table; its context has forgotten it. */
void xsock_free(struct xsock *s);
/* NEW: asks for offload if the connection is established. 0: look at the
 * phase again; 1: NEW still, use the kernel; -EINTR. */
int xsock_engage(struct xsock *s, bool blocking);
/* The same, its TCP state just read. */
int xsock_engage_state(struct xsock *s, bool blocking, int state);
/* The shadow was connected to nothing: connect(2) with AF_UNSPEC. */
void xsock_disconnected(struct xsock *s);
/* It is about to be connected, maybe again: then it is Linux's from here on.
 * Waits for the decision of the service. */
void xsock_reconnects(struct xsock *s);
/* The service said no: NEW, to be asked again, or KERNEL for good. */
void xsock_declined(struct xsock *s, enum xts_reason reason);
/* NEW -> KERNEL; true: it is in KERNEL. */
bool xsock_stays_kernel(struct xsock *s, enum xts_reason reason);
/* NEW: true: the call may go to the kernel, it is counted. */
bool xsock_kernel_enter(struct xsock *s);
/* NEW: not to be offered now. */
bool xsock_waits(const struct xsock *s);
/* NEW: offer it later, not now. */
void xsock_put_off(struct xsock *s);
/* NEW: not to be offered before the calls-th data call. */
void xsock_be_patient(struct xsock *s, uint32_t calls);
/* A data call; before it is routed. */
void xsock_count_call(struct xsock *s);
static inline void xsock_call(struct xsock *s)
{
	if (__builtin_expect(atomic_load_explicit(&s->patience,
						  memory_order_relaxed) != 0,
			     0))
		xsock_count_call(s);
}
/* Linux has no data for it: a good time to ask. */
void xsock_drained(struct xsock *s);
/* ASKING, MOVING, LEAVING: it soon is something else. */
static inline bool xphase_passes(uint32_t phase)
{
	return phase == XPHASE_ASKING || phase == XPHASE_MOVING ||
	       phase == XPHASE_LEAVING;
}
/* The shadow's descriptor, which stays what it is until xsock_fd_drop(). No
 * context's lock may be held, or be taken meanwhile. */
int xsock_fd_hold(struct xsock *s);
static inline void xsock_fd_drop(struct xsock *s)
{
	atomic_fetch_sub(&s->kernel_calls, 1);
}
/* A child of fork() keeps its copies of the shadows of connections that its
 * parent has offloaded, and may xts_handover() them. */
extern bool xsock_child_keeps;
/* OFFLOADED: ctx locked and returned. Otherwise NULL and in *how one of these:
 * use the kernel, then call xsock_kernel_done(); or -errno. deadline_ns 0:
 * don't wait while the service decides. brief: the call in the kernel will not
 * wait, however the socket is set. */
enum {
	XROUTE_KERNEL = 1,
	XROUTE_COUNTED,
	XROUTE_FIRST, /* brief; to be offered afterwards (xsock_offer()) */
	XROUTE_ASKING /* brief; ctx is locked */
};
void xsock_kernel_done(struct xsock *s, int how);
struct xctx *xsock_route(struct xsock *s, uint64_t deadline_ns, bool brief,
			 int *how);
void xsock_offer(struct xsock *s); /* errno stays */
/* Pending error, cleared; under ctx's lock */
int xsock_take_error(struct xsock *s);
int xsock_tcp_state(int fd);
/* The same; an accepted one counts as established: if it no longer is, the
 * service declines it. */
int xsock_state(const struct xsock *s);
/* While the service decides: waits for that, until deadline_ns at most. */
void xsock_await(struct xsock *s, uint64_t deadline_ns);

void xsock_table_lock(void);
void xsock_table_unlock(void);
void xsock_table_fork(void);
void xsock_table_child(void);

/* -1 and errno from -errno */
int xts_result(int ret);

#endif
