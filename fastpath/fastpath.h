/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fastpath.h - the contract between the slow path and a fast-path core
 *
 * A core is one thread with one queue, its flows and its contexts' rings. The
 * slow path is one other thread. They share nothing but two SPSC rings of
 * struct fp_msg: commands (slow path -> core) and events (core -> slow path).
 * Both keep their order, and the event ring keeps the order in which frames
 * arrived: an event about a flow never overtakes a frame that came before it.
 *
 * A flow is written by its core alone. The slow path names it by handle (index
 * and generation) and learns its numbers from events, each of which carries a
 * struct flow_view; fp_flow_view() reads the current numbers when no event is
 * at hand (keepalives), each number by itself consistent, the set as a whole
 * possibly a frame old.
 *
 * Life of a flow (F: frames of its 4-tuple):
 *   INSTALL  -> the core keeps arriving F back (held), answers EV_INSTALLED
 *   INJECT*  -> F that the slow path held meanwhile, in order of arrival
 *   RELEASE  -> the core processes its own held F, then normal operation;
 *               the program gets XTS_REPLY_OFFLOADED before any data
 *   ...         EV_FRAME for what only Linux can do: FIN and the ACK of ours,
 *               RST at rcv_nxt, a SYN behind that RST or behind both FINs, a
 *               signal for urgent data; what else the network invents, RST and
 *               SYN elsewhere included, the core answers or drops (RFC 5961)
 *   REMOVE or the program's close -> the core forgets the flow: from here on F
 *               are EV_FRAME with no flow. Answer EV_REMOVED with the
 *               final numbers; after it the buffers belong to the slow path.
 *   FREEZE   -> as REMOVE, and all that another TCP needs to go on is left in
 *               a struct flow_frozen
 *
 * When the event ring is full the core keeps events that must not be lost
 * (all but EV_FRAME) pending and counts frames as dropped. When the command
 * ring is full fp_cmd_reserve() returns NULL: frames are dropped and counted,
 * other commands are retried by the slow path.
 */
#ifndef FASTPATH_FASTPATH_H
#define FASTPATH_FASTPATH_H

#include "libsock/xts_proto.h"
#include "tap/frame.h"

#include <pthread.h>

struct queue;

#define FP_FRAME_MAX 3840u /* bytes of a frame in a message */
#define FP_L2_MAX 14u
/* A burst of a thousand new connections fits: three frames of each. */
#define FP_RING_SLOTS 4096u

#define FP_CC_NAME 16u /* TCP_CA_NAME_MAX */

/* Handle of a flow on its core; index FP_NO_FLOW: none. */
struct flow_id {
	uint32_t index;
	uint32_t gen;
};
#define FP_NO_FLOW UINT32_MAX

/* A flow's numbers in the wire's sequence space, host byte order. */
struct flow_view {
	uint32_t snd_una;
	uint32_t snd_nxt;   /* data only: a FIN is not counted */
	uint32_t rcv_nxt;   /* data only: a FIN is not counted */
	uint32_t rcv_wnd;   /* last advertised, in bytes */
	uint32_t ts_recent; /* RFC 7323; 0 without timestamps */
	bool rcv_fin;	    /* the peer's FIN was received in order */
	bool snd_fin;	    /* Linux was asked for our FIN (SHUT_WR, close) */
};

/* One program context as the cores see it. Made and freed by the slow path
 * (freed only after every core answered CTX_DEL with EV_CTX_GONE). */
struct fp_ctx {
	uint8_t *mem; /* the program's memory, as mapped by the service */
	uint64_t mem_size;
	struct xts_ctx_area *area; /* inside mem */
	uint32_t app;		   /* the slow path's number for the process */
	uint32_t ctx;		   /* number within the process */
	int app_event_fd;	   /* wakes the program; non-blocking */
	int doorbell_fd[XTS_MAX_CORES];	   /* the program wakes core i */
	void *core_private[XTS_MAX_CORES]; /* core i's own, cache line each */
};

/* What INSTALL needs. Sequence numbers, host byte order, wire space. */
struct flow_params {
	struct conn_key key;
	struct fp_ctx *ctx;
	uint64_t cookie;   /* the program's name for the socket */
	uint64_t rx_buf;   /* offset of the receive buffer in ctx->mem; the
			    * transmit buffer follows it */
	uint32_t buf_size; /* of each, a power of two */
	uint32_t buf_max;  /* that they may grow to; 0: they may not */
	uint32_t rx_len;   /* bytes at 0 that Linux had received */
	uint32_t tx_len;   /* bytes at 0 to be carried over, from snd_una on */
	uint32_t snd_una, snd_nxt;	    /* snd_nxt - snd_una <= tx_len */
	uint32_t snd_wnd, snd_wl1;	    /* snd_wnd in bytes */
	uint32_t rcv_nxt, rcv_wup, rcv_wnd; /* rcv_wnd: last advertised bytes */
	uint32_t snd_mss; /* payload bytes a segment, options deducted */
	uint32_t rcv_mss; /* of the peer's, as Linux saw them; 0: none yet */
	uint32_t cwnd_segs,
		ssthresh_segs; /* TCP_INFO; ssthresh >= 2^30: none */
	uint32_t srtt_us, rttvar_us, rto_us; /* 0: no sample yet */
	uint32_t min_rtt_us;		     /* the least seen; 0: none */
	uint8_t snd_wscale, rcv_wscale;
	bool timestamps;
	bool sack, ecn; /* negotiated (RFC 2018, RFC 3168) */
	bool nodelay, cork;
	bool stdurg;		 /* net.ipv4.tcp_stdurg (RFC 6093) */
	uint8_t mtu_probing;	 /* net.ipv4.tcp_mtu_probing (RFC 4821), ... */
	uint32_t mtu_base;	 /* ... tcp_base_mss, ... */
	uint32_t mtu_floor;	 /* ... tcp_mtu_probe_floor, ... */
	uint32_t mtu_threshold;	 /* ... tcp_probe_threshold, ... */
	uint32_t mtu_interval_s; /* ... tcp_probe_interval; 0: as Linux's */
	uint32_t mss_max;    /* if MTUs are probed: what the path takes for all
			      * that Linux knows; 0: snd_mss */
	char cc[FP_CC_NAME]; /* fp_cc_known(), NUL-terminated; "": reno */
	uint32_t user_timeout_ms; /* TCP_USER_TIMEOUT; 0: the default */
	uint64_t max_pacing_rate; /* SO_MAX_PACING_RATE; 0: no limit */
	bool cc_fixed; /* the operator's choice: programs can't change it */
	/* TCP_INFO's of before: the flow counts on from there. */
	uint64_t bytes_acked, bytes_received, bytes_sent, bytes_retrans;
	uint32_t total_retrans, delivered, delivered_ce, dsack_dups;
	uint32_t ts_offset; /* tsval = CLOCK_MONOTONIC ms + this */
	uint32_t ts_recent;
	uint8_t ttl, tos;      /* of Linux's frames; hop limit, traffic class */
	uint32_t flow_label;   /* IPv6, host byte order */
	uint8_t l2[FP_L2_MAX]; /* Ethernet header of frames to the peer */
};

/* A flow as it was when it left its core. Written by the core on FREEZE, read
 * by the slow path after EV_REMOVED. Numbers as in struct flow; the bytes lie
 * in the program's memory, in rings of rx_size and tx_size bytes. */
struct flow_frozen {
	uint32_t snd_una, snd_nxt; /* data only */
	uint32_t snd_wnd, snd_wl1, snd_wnd_max;
	uint32_t rcv_nxt, rcv_wup, rcv_wnd; /* data only */
	uint32_t ts_recent, ts_offset;
	uint8_t snd_wscale, rcv_wscale;
	bool timestamps, sack;
	bool rcv_fin; /* the peer's FIN was received in order */
	bool snd_fin; /* Linux was asked for our FIN */
	bool shut_wr; /* the program wants one behind its data */
	bool closing; /* the program has closed it */
	const uint8_t *rx_buf, *tx_buf;
	uint32_t rx_size, tx_size;
	uint32_t rx_off, rx_len; /* received, not consumed by the program */
	uint32_t tx_off, tx_len; /* from snd_una on */
};

enum fp_cmd {
	FP_CMD_TX = 1,	 /* frame: put on the wire as it is */
	FP_CMD_INSTALL,	 /* params (owned by the slow path until the answer);
			  * value 1: the slow path holds no F, so RELEASE at
			  * once if no event was sent since event number how
			  * (fp_ev_taken()) */
	FP_CMD_INJECT,	 /* frame, flow: as if it had arrived now */
	FP_CMD_RELEASE,	 /* flow */
	FP_CMD_REMOVE,	 /* flow; err: errno told to the program, 0: nothing,
			  * but that a move which waited is done */
	FP_CMD_FREEZE,	 /* flow, frozen (the slow path's until EV_REMOVED):
			  * what its program has commanded so far is done, then
			  * it is removed; the program is told nothing. If that
			  * can't be: EV_STAYS */
	FP_CMD_LEAVE,	 /* flow, frozen: ask its program for XTS_CTL_HANDOVER;
			  * one that the program has closed is frozen */
	FP_CMD_CLOSE,	 /* flow: the program died; as its close() */
	FP_CMD_COPY_ACK, /* flow: copy the next frame of it as EV_FRAME too
			  * (an answer to a keepalive of Linux's) */
	FP_CMD_SET_MSS,	 /* flow; value: payload that the path takes; if it is
			  * less, what is longer is sent again; if MTUs are
			  * probed, snd_mss may be smaller */
	FP_CMD_CTX_ADD,	 /* ctx */
	FP_CMD_CTX_DEL,	 /* ctx: command ring read out once more, then forgotten
			  */
	FP_CMD_MOVE,	 /* flow, ctx: its replies go to another context */
	FP_CMD_REPLY,	 /* ctx, reply: relay to the program */
	FP_CMD_GROW,	 /* flow; mem: offset of its large area in its program's
			  * memory, value: bytes granted for either buffer */
};

enum fp_event {
	FP_EV_FRAME = 1, /* frame; flow if one is installed; view if so */
	FP_EV_INSTALLED, /* flow; err: ENOSPC if the table is full; value 1:
			  * released already */
	FP_EV_SHUT_WR,	 /* flow, view: all sent and acknowledged, Linux's FIN
			  * may go out */
	FP_EV_REMOVED,	 /* flow, view; how: enum fp_removed; err: what the
			  * program is told (it may still read the buffer), 0
			  * if it had closed or is told nothing */
	FP_EV_CTX_GONE,	 /* ctx */
	FP_EV_OFFENDER,	 /* ctx; text: what the program got wrong */
	FP_EV_STAYS,	 /* flow; err: why FP_CMD_FREEZE did nothing; EBUSY:
			  * urgent data are under way */
	FP_EV_GROW,	 /* flow; value: bytes wanted for a buffer. Answered by
			  * FP_CMD_GROW, or not at all */
};

enum fp_removed {
	FP_REMOVED_ASKED, /* FP_CMD_REMOVE */
	FP_REMOVED_CLOSE, /* program's close; all acknowledged: FIN */
	FP_REMOVED_ABORT, /* program's abort, or close with unread data: RST */
	FP_REMOVED_TIMEOUT, /* retransmissions exhausted: ETIMEDOUT */
	FP_REMOVED_FROZEN,  /* FP_CMD_FREEZE, FP_CMD_LEAVE */
};

/* One message, either direction. The frame's bytes are touched only as far as
 * frame_len says. */
struct fp_msg {
	uint32_t type; /* enum fp_cmd or enum fp_event */
	uint32_t frame_len;
	struct flow_id flow;
	uint32_t err;
	uint32_t value;
	uint32_t how; /* enum fp_removed */
	struct flow_view view;
	struct fp_ctx *ctx;
	const struct flow_params *params; /* INSTALL and INSTALLED */
	union {
		struct xts_reply reply;
		const char *text;
		uint64_t mem;
		struct flow_frozen *frozen;
	};
	alignas(XTS_CACHELINE) uint8_t frame[FP_FRAME_MAX];
};

/* Why a frame left the hot path or was dropped: counter names.
 * name, text */
#define FP_COUNTERS(X)                                                         \
	X(rx_hot, "segments processed on the hot path")                        \
	X(rx_cold, "segments of flows processed by cold code")                 \
	X(rx_exception, "frames passed to the slow path")                      \
	X(rx_bad_frame, "drop: malformed frame")                               \
	X(rx_bad_checksum, "drop: wrong IP or TCP checksum")                   \
	X(rx_out_of_order, "segments behind a gap")                            \
	X(rx_too_many_gaps, "drop: segment behind more gaps than are kept")    \
	X(rx_old, "drop: segment or acknowledgment already seen")              \
	X(rx_out_of_window, "drop: segment outside the receive window")        \
	X(rx_bad_ack, "drop: no acknowledgment, or one out of range")          \
	X(rx_challenge, "segments answered by a challenge ACK (RFC 5961)")     \
	X(rx_ce, "data segments marked: congestion experienced")               \
	X(rx_paws, "drop: timestamp too old (RFC 7323)")                       \
	X(rx_event_full, "drop: the slow path did not keep up")                \
	X(rx_hold_full, "drop: too many frames held during offload")           \
	X(tx_segments, "data segments sent")                                   \
	X(tx_acks, "pure acknowledgments sent")                                \
	X(tx_retransmits, "segments sent again")                               \
	X(tx_rto, "retransmission time-outs")                                  \
	X(tx_probes, "zero-window probes sent")                                \
	X(tx_no_frame, "waits for a free transmit frame")                      \
	X(cmd_stale, "program commands for a flow that is gone")               \
	X(app_offences, "programs that broke the shared-memory contract")      \
	X(app_wakeups, "event descriptors written to wake programs")           \
	X(slow_wakeups, "event descriptors written to wake the slow path")     \
	X(sleeps, "times the core went to sleep")

struct fp_counters {
#define X(name, text) uint64_t name;
	FP_COUNTERS(X)
#undef X
};

struct fp_config {
	unsigned int index; /* this core's number, 0 .. XTS_MAX_CORES - 1 */
	unsigned int max_flows;
	unsigned int spin_us; /* spin this long after the last work */
	int cpu;	      /* pin the thread, -1: don't */
	struct queue *queue;  /* the core's from now on; closed by destroy */
	/* fake clock for tests, NULL: CLOCK_MONOTONIC, ns */
	uint64_t (*now_ns)(void *arg);
	void *now_arg;
};

struct fp_core;

struct fp_core *fp_core_create(const struct fp_config *cfg); /* NULL, errno */
int fp_core_start(struct fp_core *c);			     /* 0 or -errno */
/* Joins the thread, which does what it was told before. */
void fp_core_stop(struct fp_core *c);
void fp_core_destroy(struct fp_core *c);
/* One loop turn without a thread (tests, instruction counts); true: it did
 * something. */
bool fp_core_turn(struct fp_core *c);
const struct fp_counters *fp_core_counters(const struct fp_core *c);

/* Is there a congestion control of this name (as in TCP_CONGESTION)? */
bool fp_cc_known(const char *name);

/* Slow path's side; all from its one thread, none blocks. */
struct fp_msg *fp_cmd_reserve(struct fp_core *c); /* NULL: full */
void fp_cmd_submit(struct fp_core *c);		  /* no system call */
void fp_cmd_flush(struct fp_core *c); /* wake the core if it sleeps */
const struct fp_msg *fp_ev_peek(struct fp_core *c); /* NULL: none */
void fp_ev_release(struct fp_core *c);
uint32_t fp_ev_taken(const struct fp_core *c); /* number of events ever */
int fp_ev_fd(const struct fp_core *c); /* eventfd: readable, events wait */
/* About to sleep on fp_ev_fd(): true if the ring is still empty. */
bool fp_ev_arm(struct fp_core *c);
/* false: no such flow */
bool fp_flow_view(const struct fp_core *c, struct flow_id id,
		  struct flow_view *view);

#endif
