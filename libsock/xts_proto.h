/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * xts_proto.h - the contract between the service and a program's libsock
 *
 * Read with seed paper "TCP and ULP Offload via AF_XDP Sockets" (XTS): the
 * message names, the socket number / connection identifier pair and the post
 * credits are that paper's. This header is the shared-memory transport:
 *
 *   control socket   AF_UNIX SOCK_SEQPACKET, one per process, carries the
 *                    rare messages (struct xts_ctl_*) and file descriptors
 *   memory           one memfd per process, made and sealed by the service
 *                    (F_SEAL_SHRINK), mapped by both: context areas, then
 *                    payload buffers
 *   context          one per program thread (or polling context): for each
 *                    service core a reply ring (service -> program) and a
 *                    command ring (program -> service)
 *
 * Trust. The service never believes a word of this memory: it reads an index
 * or a slot once into its own variables, checks it, and uses the copy. What a
 * program may get wrong without being an offender: a stale flow handle (the
 * generation does not match). Everything else out of bounds ends the program's
 * session: its connections are reset, its memory unmapped.
 *
 * Rings. Single producer, single consumer, XTS_RING_SLOTS slots of one cache
 * line. producer and consumer are free-running counters; slot = counter &
 * (XTS_RING_SLOTS - 1). The producer fills the slot, then stores producer with
 * release order; the consumer loads it with acquire order, copies the slot,
 * then stores consumer with release order, which the producer loads with
 * acquire order before it reuses the slot.
 *
 * Sleeping. A program about to sleep makes app_sleep odd, executes a full
 * fence, looks at its rings once more, and sleeps on the context's eventfd; the
 * service, after producing and a full fence, writes the eventfd once for each
 * odd value it sees. Awake again, the program makes app_sleep even. In the
 * other direction a core that does not poll a context's command ring sets
 * that core's need_doorbell to 1, executes a full fence and looks once more;
 * a program that produced a command executes a full fence and, if need_doorbell
 * is 1, writes the core's doorbell eventfd.
 *
 * Payload. Each offloaded connection has a receive and a transmit buffer in
 * the memory. The service chooses offsets in the receive buffer, the program
 * in the transmit buffer; data are contiguous modulo the buffer's size, except
 * that the chooser may start anywhere when nothing is outstanding (both sides
 * then start at 0 again, so that a request/response connection touches one
 * page a direction). Receive credits are bytes the program has consumed,
 * transmit credits are bytes that the peer has acknowledged.
 *
 * Taking. A program may go on with a kernel socket that it has offered, by
 * calls that don't wait, until the service begins to copy it. Requests of a
 * context are numbered (OFFLOAD: flow; not 0), and the service takes them in
 * that order. About to make such a call the program stores the number in
 * in_kernel, executes a full fence, and looks at taken: if that has come to the
 * number, it takes in_kernel back and waits for the answer. After the call it
 * stores 0. The service stores the number in taken, executes a full fence, and
 * looks at in_kernel: while that is the number it waits for a moment and then
 * declines (BUSY).
 *
 * Leaving. A connection goes back to Linux at the program's wish, or at the
 * service's, which asks for it by XTS_F_LEAVE. The program stops to read and to
 * write, puts all that it has to tell into the command ring, consumed bytes
 * above all, and sends XTS_CTL_HANDOVER. The core takes these commands first;
 * so the service knows exactly which bytes the program has not had, and gives
 * them to a new kernel socket, with those that the peer has yet to acknowledge
 * or to get. The socket comes by the control socket (XTS_CTL_HANDED), which
 * XTS_REPLY_HANDED tells of: the buffers are the service's from then on, and
 * replies that came before say nothing any more. With an errno in it
 * everything is as before.
 *
 * Growth. Buffers begin small. For a connection whose window needs more the
 * service moves the receive buffer to a large area (GROWN: buf_size is its new
 * size). Each byte keeps its offset, save those that lay in front of off, the
 * old offset of the oldest byte not credited yet: they come to lie one old
 * size later, so that nothing wraps round. Replies before GROWN speak of the
 * old buffer, which stays readable; those behind it of the new one. Growth
 * within the large area waits until no byte has to move: the other side may be
 * reading. tx_len, if
 * not 0, is a size that the program may give its transmit buffer, in the same
 * way: it moves its data, unacknowledged ones included, by the same rule, and
 * says so with GROW_TX before it sends more.
 */
#ifndef XTS_PROTO_H
#define XTS_PROTO_H

#include <assert.h>
#include <stdalign.h>
#include <stddef.h>
#include <stdint.h>

#define XTS_PROTO_VERSION 1u
/* Abstract AF_UNIX name (a leading NUL replaces '@'): one per netns. */
#define XTS_CONTROL_DEFAULT "@tas-xdp"

#define XTS_MAX_CORES 16u
#define XTS_MAX_CTX 64u /* contexts of one process */
#define XTS_RING_SLOTS 256u
#define XTS_CACHELINE 64u
#define XTS_PAGE 4096u

/* ---- rings ------------------------------------------------------------- */

/* flags of xts_cmd and xts_reply */
#define XTS_F_EOF 0x1u /* reply: peer's FIN is behind these data */
/* reply: connection is gone, err says why; ESHUTDOWN: both sides had ended it,
 * nothing is wrong */
#define XTS_F_RESET 0x2u
#define XTS_F_SHUT_WR 0x4u  /* cmd: FIN behind these data */
#define XTS_F_CLOSE 0x8u    /* cmd: the socket is closed, last use of flow */
#define XTS_F_ABORT 0x10u   /* cmd, with CLOSE: reset instead of FIN */
#define XTS_F_NODELAY 0x20u /* OFFLOAD: TCP_NODELAY is on */
#define XTS_F_TUNED 0x400u  /* OFFLOAD: TCP options may differ from defaults */
#define XTS_F_CLOSED 0x40u  /* reply: answer to CLOSE, nothing follows */
#define XTS_F_KEEPS 0x80u   /* WELCOME: see XTS_CTL_RELEASE */
/* cmd: tell me now what the peer has acknowledged (otherwise it comes with
 * data, or when half of the transmit buffer is used); reply: the answer */
#define XTS_F_CREDITS 0x100u
#define XTS_F_MORE 0x200u /* cmd: more data follow soon (MSG_MORE) */
/* cmd: the last byte of these data is urgent (MSG_OOB); URGENT: a new one */
#define XTS_F_URGENT 0x800u
#define XTS_F_LEAVE 0x1000u /* reply: please send XTS_CTL_HANDOVER */
#define XTS_F_TAKES 0x2000u /* WELCOME: it looks at in_kernel, stores taken */

enum xts_cmd_type {
	XTS_CMD_NONE = 0,
	/* Data and/or receive credits and/or shutdown, close. */
	XTS_CMD_SEND = 1,
	/* An option of the connection: off is an enum xts_option, len and
	 * credits its value's lower and upper half, or name. */
	XTS_CMD_SETOPT = 2,
	/* The transmit buffer has len bytes from now on, in the large area:
	 * see GROWN. off: where the first byte not yet acknowledged lay. */
	XTS_CMD_GROW_TX = 3,
	/* The connection's numbers: answered by XTS_REPLY_INFO, or not at all
	 * where the reply ring has no room for that. */
	XTS_CMD_INFO = 4,
};

/* The values are those of the socket options that are named likewise. */
enum xts_option {
	XTS_OPT_NODELAY = 1,
	XTS_OPT_CORK,
	XTS_OPT_USER_TIMEOUT,
	XTS_OPT_CONGESTION, /* name */
	XTS_OPT_MAX_PACING_RATE,
};
#define XTS_NAME_MAX 16u /* with its NUL */

/* Program -> service, one cache line. */
struct xts_cmd {
	uint32_t type;		 /* enum xts_cmd_type */
	uint32_t flags;		 /* XTS_F_* */
	uint32_t flow;		 /* flow handle: index on its core */
	uint32_t flow_gen;	 /* and its generation */
	uint32_t off;		 /* data: offset in the transmit buffer */
	uint32_t len;		 /* data: bytes, 0 for none */
	uint32_t credits;	 /* bytes consumed from the receive buffer */
	char name[XTS_NAME_MAX]; /* SETOPT, NUL-terminated */
	uint32_t reserved[5];
};
static_assert(sizeof(struct xts_cmd) == XTS_CACHELINE, "one line a command");

enum xts_reply_type {
	XTS_REPLY_NONE = 0,
	/* Data and/or transmit credits and/or EOF, reset. */
	XTS_REPLY_RECV = 1,
	/* The socket is offloaded: handle and buffers; off/len/credits as in
	 * RECV tell of data that Linux had already received. */
	XTS_REPLY_OFFLOADED = 2,
	/* The socket stays with the kernel: err is an enum xts_reason. */
	XTS_REPLY_DECLINED = 3,
	/* The flow's later replies come on the new context's ring; the last
	 * reply for the flow on this one. */
	XTS_REPLY_MOVED = 4,
	/* Larger buffers, in a large area of the memory at rx_buf: the receive
	 * buffer, XTS_BUF_MAX bytes of room, then the transmit buffer. */
	XTS_REPLY_GROWN = 5,
	/* One of XTS_INFO_PARTS replies in a row, which make a struct xts_info:
	 * flags is the part's number, its bytes are those behind cookie. */
	XTS_REPLY_INFO = 6,
	/* With XTS_F_URGENT: the peer has named a new urgent byte. Without:
	 * the one named last has come, perhaps before its turn. urgent says
	 * which, err is 0 or the byte itself with XTS_URGENT_HAS. It is in the
	 * receive buffer too, when all before it is. */
	XTS_REPLY_URGENT = 7,
	/* Answer to XTS_CTL_HANDOVER. err 0: the kernel socket waits in the
	 * control socket, the flow is no more. Otherwise an errno: the service
	 * goes on to carry the connection. */
	XTS_REPLY_HANDED = 8,
};
#define XTS_URGENT_HAS 0x100u

/* Service -> program, one cache line. */
struct xts_reply {
	uint32_t type;	  /* enum xts_reply_type */
	uint32_t flags;	  /* XTS_F_* */
	uint64_t cookie;  /* the program's name for the socket */
	uint32_t off;	  /* data: offset in the receive buffer */
	uint32_t len;	  /* data: bytes */
	uint32_t credits; /* bytes of the transmit buffer set free */
	uint32_t err;	  /* errno with RESET, reason with DECLINED, byte */
	/* OFFLOADED only: */
	uint32_t flow;
	uint32_t flow_gen;
	uint32_t core;	   /* whose rings carry the flow */
	uint32_t buf_size; /* of each buffer, a power of two */
	uint64_t rx_buf;   /* offset of the receive buffer in the memory */
	uint32_t tx_len;   /* bytes already in the transmit buffer at 0 */
	/* URGENT: bytes between the last one told of and the urgent one; 0 in
	 * other replies. */
	uint32_t urgent;
};
static_assert(sizeof(struct xts_reply) == XTS_CACHELINE, "one line a reply");
/* The transmit buffer follows the receive buffer: at rx_buf + buf_size. */

/* Room for either buffer in a large area; sizes are powers of two up to it. */
#define XTS_BUF_MAX (1u << 25)
/* A connection's numbers, by the names and in the units of struct tcp_info.
 * What counts goes on where Linux's own count stood at the offload. */
struct xts_info {
	uint64_t pacing_rate, delivery_rate;
	uint64_t bytes_acked, bytes_received, bytes_sent, bytes_retrans;
	uint32_t ca_state, retransmits, probes, backoff;
	uint32_t rto, ato, snd_mss, rcv_mss;
	uint32_t unacked, sacked, lost, retrans;
	uint32_t last_data_sent, last_data_recv; /* ms ago; UINT32_MAX: never */
	uint32_t rtt, rttvar, min_rtt, rcv_rtt;
	uint32_t snd_ssthresh, snd_cwnd, reordering;
	uint32_t rcv_space, rcv_ssthresh, snd_wnd, rcv_wnd;
	uint32_t total_retrans, notsent_bytes;
	uint32_t delivery_rate_app_limited;
	uint32_t delivered, delivered_ce, dsack_dups, reord_seen;
	uint32_t total_rto, total_rto_recoveries, total_rto_time;
	uint32_t reserved[13];
};
#define XTS_INFO_PARTS 5u
#define XTS_INFO_PART ((size_t)48) /* bytes of each */
static_assert(sizeof(struct xts_info) == XTS_INFO_PARTS * XTS_INFO_PART,
	      "whole parts");
static_assert(offsetof(struct xts_reply, off) + XTS_INFO_PART ==
		      sizeof(struct xts_reply),
	      "a part fills its reply");

struct xts_ring_index {
	alignas(XTS_CACHELINE) uint32_t producer;
	alignas(XTS_CACHELINE) uint32_t consumer;
};

/* One context's share of the memory for one core. */
struct xts_core_area {
	struct xts_ring_index cmd_index;   /* program produces */
	struct xts_ring_index reply_index; /* service produces */
	struct {
		alignas(XTS_CACHELINE) uint32_t need_doorbell; /* service */
		int32_t cpu; /* CPU the core last ran on, -1: not known */
	} core;
	alignas(XTS_PAGE) struct xts_cmd cmd[XTS_RING_SLOTS];
	struct xts_reply reply[XTS_RING_SLOTS];
};

/* One context: this page, then a core area for each of the cores. */
struct xts_ctx_area {
	alignas(XTS_CACHELINE) uint32_t app_sleep; /* odd: asleep (program) */
	int32_t app_cpu; /* CPU the program's thread last waited on (program) */
	/* The request whose socket is used through Linux now, 0: none. */
	uint32_t in_kernel; /* (program) */
	/* Changes after Linux was given frames: kernel sockets (listeners) may
	 * have become ready, so a spinning program looks at them now. A hint:
	 * programs look from time to time anyway. (service) */
	alignas(XTS_CACHELINE) uint32_t linux_fed;
	uint32_t taken; /* the last request it began with (service) */
	alignas(XTS_PAGE) struct xts_core_area core[];
};
static_assert(offsetof(struct xts_ctx_area, core) == XTS_PAGE, "one page");
static_assert(sizeof(struct xts_core_area) ==
		      XTS_PAGE + 2 * XTS_RING_SLOTS * XTS_CACHELINE,
	      "rings are page aligned");

#define XTS_CTX_AREA_SIZE(cores)                                               \
	(sizeof(struct xts_ctx_area) + (cores) * sizeof(struct xts_core_area))

/* ---- control socket ------------------------------------------------------ */

enum xts_ctl_type {
	XTS_CTL_HELLO = 1,	/* program: first message */
	XTS_CTL_WELCOME = 2,	/* service; fd: the memory */
	XTS_CTL_CTX_CREATE = 3, /* program */
	XTS_CTL_CTX = 4, /* service; fds: context eventfd, a doorbell a core */
	XTS_CTL_CTX_DESTROY = 5, /* program: no socket uses it any more */
	XTS_CTL_OFFLOAD = 6, /* program; fd: the shadow socket. Answered on a
			      * reply ring of the context */
	XTS_CTL_MOVE = 7,    /* program: a flow to another context of its own */
	XTS_CTL_REFUSED = 8, /* service: err is an errno; the last message */
	/* Program: the buffers of a connection that was reset may be used
	 * again. Sent only if the service said XTS_F_KEEPS; without it they
	 * are the service's as soon as it resets, and what the program had
	 * not read is lost. */
	XTS_CTL_RELEASE = 9,
	/* Program: make the connection a kernel socket's. Answered on a reply
	 * ring of its context. */
	XTS_CTL_HANDOVER = 10,
	/* Service, at any time; fd: the new kernel socket. */
	XTS_CTL_HANDED = 11,
};

/* Every control message, both ways, is one of these; unused fields are 0. */
struct xts_ctl_msg {
	uint32_t type;	   /* enum xts_ctl_type */
	uint32_t version;  /* XTS_PROTO_VERSION */
	uint32_t err;	   /* REFUSED, CTX: errno, 0 for success */
	uint32_t ctx;	   /* CTX*, OFFLOAD, MOVE (target): context number */
	uint64_t cookie;   /* OFFLOAD, MOVE, RELEASE, HANDOVER, HANDED: name of
			    * the socket */
	uint32_t cores;	   /* WELCOME: fast-path cores */
	uint32_t buf_size; /* WELCOME: of each connection buffer */
	uint64_t mem_size; /* WELCOME: bytes of the memory */
	uint64_t ctx_off;  /* CTX: offset of its struct xts_ctx_area */
	uint32_t flow;	   /* MOVE, HANDOVER; OFFLOAD: its number, 0: none */
	uint32_t flow_gen; /* MOVE, HANDOVER */
	uint32_t core;	   /* MOVE, HANDOVER: the flow's core */
	uint32_t flags;	   /* OFFLOAD: XTS_F_NODELAY, XTS_F_TUNED; WELCOME:
			    * XTS_F_KEEPS, XTS_F_TAKES */
};
static_assert(sizeof(struct xts_ctl_msg) == 64, "control message layout");

/* ---- why a socket is not offloaded --------------------------------------- */

/* name, text for people */
#define XTS_REASONS(X)                                                         \
	X(NONE, "offloaded")                                                   \
	X(PENDING, "not asked yet, or the service is still deciding")          \
	X(NO_SERVICE, "no tas-xdp service runs in this network namespace")     \
	X(REFUSED, "the service refused this process")                         \
	X(LOST_SERVICE, "the service ended")                                   \
	X(NOT_TCP, "not a TCP socket")                                         \
	X(LISTENER, "a listening socket always belongs to Linux")              \
	X(NOT_ESTABLISHED, "the connection is not in ESTABLISHED")             \
	X(NOT_OURS, "its local address is not one that the service owns")      \
	X(NO_ROUTE_SEEN, "Linux sent no frame of it through the TAP device")   \
	X(OPTIONS, "it uses a TCP option that the fast path does not know")    \
	X(KERNEL_QUEUE, "the kernel holds more data than fit a buffer")        \
	X(OUT_OF_ORDER, "the kernel holds data received out of order")         \
	X(NO_MEMORY, "the program's memory has no free buffers")               \
	X(NO_FLOW, "the flow table is full (--flows)")                         \
	X(REPAIR, "Linux did not let its state be read (TCP_REPAIR)")          \
	X(DUPLICATE, "the connection is offloaded already")                    \
	X(STOPPING, "the service is stopping")                                 \
	X(DISABLED, "switched off by XTS_DISABLE in the environment")          \
	X(URGENT, "the kernel holds urgent data")                              \
	X(POLICY, "a rule of tas-run's leaves it with Linux")                  \
	X(SHARED, "it is used in a way that only Linux serves")                \
	X(HANDED_OVER, "it was handed over to the kernel")                     \
	X(BUSY, "the program was using it when it was to be taken")

enum xts_reason {
#define X(name, text) XTS_REASON_##name,
	XTS_REASONS(X)
#undef X
		XTS_REASON_COUNT
};

#endif
