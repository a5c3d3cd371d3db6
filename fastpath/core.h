/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core.h - what the modules of a fast-path core share with each other
 *
 * One struct fp_core a thread. Everything in it belongs to the core's thread
 * but the two message rings' other ends and the sleeping words, which say so.
 * A turn is: commands of the slow path, a burst of frames, replies to the
 * programs, the programs' commands, timers, segments out, one kick, wake-ups.
 *
 *   core.c      the turn, the thread, sleeping
 *   commands.c  the slow path's commands
 *   events.c    events to the slow path, held frames
 *   rx.c        segments in order, the hot path
 *   recovery.c  every other segment; segment.c parses them
 *   loss.c      what is lost, with the files named in sender.h; cc*.c how fast
 *               to send
 *   tx.c        segments and ACKs out
 *   grow.c      larger buffers
 *   urgent.c    urgent data
 *   timers.c    deadlines
 *   app.c       the programs' commands; reply.c what they are told
 */
#ifndef FASTPATH_CORE_H
#define FASTPATH_CORE_H

#include "fastpath/flow.h"
#include "fastpath/queue.h"
#include "fastpath/ring.h"
#include "fastpath/timers.h"

/* Nothing here is for other libraries: calls need no indirection, and the
 * compiler may inline across them. */
#pragma GCC visibility push(hidden)

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define noinline __attribute__((noinline))
/* Neither inlined nor copied under another name, not even at link time. */
#if __has_attribute(noipa)
#define no_clone __attribute__((noipa))
#else
#define no_clone noinline
#endif

/* Counters are read by other threads at any time: one store, never torn. */
#ifdef __x86_64__
#define COUNT(c, name) __asm__("incq %0" : "+m"((c)->counters.name)::"cc")
#else
#define COUNT(c, name)                                                         \
	__atomic_store_n(&(c)->counters.name, (c)->counters.name + 1,          \
			 __ATOMIC_RELAXED)
#endif

#define DELACK_NS 40000000ull /* delayed ACK; also "answers at once" */
#define RTO_MIN_US 200000u
#define RTO_MAX_US 120000000u
#define RTO_RETRIES 15
#define HOLD_SLOTS 512u	  /* frames held for flows being installed */
#define TX_FLOW_BURST 64u /* segments of one flow a turn */

/* A reply that the slow path relays and the ring had no room for. */
struct relay {
	struct xts_reply reply;
	struct relay *next;
};

/* A core's own view of a program's context: what it has produced and consumed
 * is kept here, never read back from the program's memory. */
struct app_ctx {
	struct fp_ctx *ctx;
	struct xts_ctx_area *head;
	struct xts_core_area *area;
	uint32_t cmd_consumer;
	uint32_t reply_producer; /* filled */
	uint32_t reply_consumer; /* its index as last seen, checked */
	uint32_t woken;		 /* the value of app_sleep that was answered */
	bool parked;		 /* need_doorbell is 1, not polled */
	bool notify;		 /* in the turn's list of contexts to look at */
	bool told;		 /* FP_EV_OFFENDER was sent */
	const char *offence;	 /* ignored from now on */
	uint64_t used_ns;	 /* last command */
	struct flow *blocked;	 /* flows whose reply waits for room */
	struct relay *relays, *relays_tail;
	unsigned int n_relays;
	struct app_ctx *notify_next;
	struct app_ctx *poll_prev, *poll_next; /* polled contexts */
	struct app_ctx *prev, *next;	       /* all contexts */
};

/* An event that waits for room in the ring: all but frames. */
struct pending_event {
	uint32_t type, err, how, value;
	struct flow_id flow;
	struct flow_view view;
	struct fp_ctx *ctx;
	const struct flow_params *params;
	const char *text;
};

struct held_frame {
	uint32_t index; /* of the flow */
	uint32_t len;
	struct held_frame *next;
	uint8_t data[FP_FRAME_MAX];
};

/* Shared words have a line each. */
// NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding)
struct fp_core {
	/* ---- used in every turn ---- */
	struct queue *q;
	uint64_t now_ns;
	uint64_t ms_ns; /* when now_ms began */
	uint32_t now_ms;
	uint32_t n_listed, n_telling;
	struct flow **listed;	/* flows that may send before the turn ends */
	struct flow **telling;	/* flows with something to tell the programs */
	struct app_ctx *polled; /* contexts whose commands are polled */
	struct app_ctx *notify; /* contexts with new replies */
	bool left_over;		/* events were sent, or they or replies wait */
	bool unpublished; /* replies were put that no program can see yet */
	uint64_t slow_ns; /* last command from, event to the slow path */
	bool yield, slow_yield;
	struct app_ctx *yield_for; /* a program on our CPU with new replies */
	bool tx_starved;	   /* something waits for a transmit frame */
	struct flow_table flows;
	struct fp_counters counters;

	/* ---- cold ---- */
	struct app_ctx *contexts;
	unsigned int n_parked, n_blocked;
	bool events_sent; /* the doorbell must ring */
	struct pending_event *pending;
	uint32_t pending_mask, pending_head, pending_tail;
	struct held_frame *held_mem, *held_free, *held, *held_tail;
	uint32_t held_used; /* slots of held_mem used ever */
	struct timers timers;
	uint32_t challenge_s, challenge_left; /* RFC 5961 section 7 */
	struct fp_config cfg;
	int bound_cpu; /* that the thread is bound to, -1: moves about */
	int cpu;       /* that it last ran on */
	uint64_t yield_took_ns; /* smoothed length of a yield */
	uint64_t work_ns, yield_ns, doorbell_ns; /* when it last did */
	int epoll_fd, cmd_fd, ev_fd;
	pthread_t thread;
	bool running;
	bool stop; /* atomic: set by fp_core_stop() */

	/* ---- shared with the slow path ---- */
	struct msg_ring cmd;			       /* slow path produces */
	struct msg_ring ev;			       /* core produces */
	alignas(XTS_CACHELINE) uint32_t sleeping;      /* core stores */
	alignas(XTS_CACHELINE) uint32_t slow_sleeping; /* slow path sets */
};

/* ---- core.c ---- */
/* See what the flow has to send before the turn ends. */
static inline void flow_list(struct fp_core *c, struct flow *f)
{
	if (!f->listed) {
		f->listed = true;
		c->listed[c->n_listed++] = f;
	}
}

/* See what the flow has to tell its program. */
static inline void flow_tell(struct fp_core *c, struct flow *f)
{
	if (!f->telling) {
		f->telling = true;
		c->telling[c->n_telling++] = f;
	}
}

/* Replies wait to be told. Acknowledged bytes alone don't disturb a program
 * that has used less than half of its buffer. */
static inline bool flow_has_reply(const struct flow *f)
{
	if (f->pend_len || f->pend_flags || f->pend_rare)
		return true;
	return f->pend_credits &&
	       f->tx_len + f->pend_credits >= f->tx_size / 2 &&
	       (f->pend_credits >= f->tx_size / 8 || !f->tx_len);
}

/* Take the flow away: events, replies, timers, table. */
void core_remove_flow(struct fp_core *c, struct flow *f, enum fp_removed how,
		      int err);

/* ---- commands.c ---- */
/* Use the congestion control of that name, or what stands in for it. */
void core_set_cc(struct fp_core *c, struct flow *f, const char *name);
bool commands_run(struct fp_core *c);

/* ---- events.c ---- */
int events_init(struct fp_core *c);
void events_free(struct fp_core *c);
/* A frame for the slow path, @f NULL: no flow. false: no room. */
bool event_frame(struct fp_core *c, const struct flow *f, const void *data,
		 uint32_t len);
void event_send(struct fp_core *c, const struct pending_event *e);
void event_flow(struct fp_core *c, const struct flow *f, enum fp_event type,
		enum fp_removed how, uint32_t err);
/* Number of events ever sent, those that wait for room included. */
uint32_t events_sent(const struct fp_core *c);
/* Move waiting events into the ring. true: none left. */
bool events_flush_slow(struct fp_core *c);
/* Before the turn ends: what waits, and the doorbell. */
void events_turn(struct fp_core *c);
static inline bool events_flush(struct fp_core *c)
{
	return likely(c->pending_head == c->pending_tail) ||
	       events_flush_slow(c);
}
/* Keep a frame of a flow in hold. false: no room. */
bool hold_add(struct fp_core *c, const struct flow *f, const void *data,
	      uint32_t len);
/* Take out the flow's first held frame; given back by hold_free(). */
struct held_frame *hold_take(struct fp_core *c, const struct flow *f);
void hold_free(struct fp_core *c, struct held_frame *h);

/* ---- rx.c ---- */
void rx_burst(struct fp_core *c, const struct queue_frame *q, unsigned int n);
/* A frame that did not come from the queue; @hold: keep it if the flow is in
 * hold. */
void rx_frame(struct fp_core *c, uint8_t *data, uint32_t len, bool hold);

/* ---- recovery.c ---- */
/* Every segment of a flow that the hot path doesn't take. */
void recovery_segment(struct fp_core *c, struct flow *f, struct frame *fr);
/* All data acknowledged and the program wants to end: tell the slow path.
 * true: the flow is gone. */
bool recovery_drained(struct fp_core *c, struct flow *f);

/* ---- loss.c ---- */
/* Linux has seen round trips of @us; 0: none. */
void loss_seed_min_rtt(struct flow *f, uint32_t us, uint32_t now_ms);
/* What loss_ack() is told beside the segment. */
#define LOSS_DATA 1u /* it carries data or FIN */
#define LOSS_WND 2u  /* it changed the window */
/* An acknowledgment up to @ack, new or not, at most snd_nxt; one below snd_una
 * counts for its SACK blocks. The window is known already. */
void loss_ack(struct fp_core *c, struct flow *f, const struct segment *s,
	      uint32_t ack, uint32_t flags);
void loss_rtt_first(struct flow *f, uint32_t rtt_us);
/* Deadlines that passed. May remove the flow. */
void loss_timeout(struct fp_core *c, struct flow *f);
/* Nothing is under way. When to be called again, ns; 0: not. */
uint64_t loss_idle(struct fp_core *c, struct flow *f);
/* Bring the 64-bit counts up to date: once in 2 GB at least. */
void loss_epoch(struct flow *f);
/* Make the record of what the hot path sent. */
void loss_record(struct fp_core *c, struct flow *f);
/* @len bytes leave from snd_nxt on. false: no room, they must not. */
bool loss_sent(struct fp_core *c, struct flow *f, uint32_t len);
/* Record @i was sent again. */
void loss_resent(struct fp_core *c, struct flow *f, uint32_t i);
/* @fresh: new data were sent, not only old ones again. */
void loss_after_send(struct fp_core *c, struct flow *f, bool fresh);
/* A closed window and nothing under way: probe it. It opened again. */
void loss_persist(struct fp_core *c, struct flow *f);
void loss_window_open(struct fp_core *c, struct flow *f);
/* Does the flow's state fit together? For tests and fuzzing. */
bool loss_valid(const struct flow *f);
/* The path lets no larger segments through. */
void loss_set_mss(struct fp_core *c, struct flow *f, uint32_t mss);

/* A round trip was measured: RFC 6298 section 2, in Jacobson's scaled form. As
 * in Linux the variance counts as RTO_MIN_US at least: on a steady path of long
 * round trips a delayed ACK must not look like a loss. */
static inline void loss_rtt(struct flow *f, uint32_t rtt_us)
{
	uint32_t srtt8 = f->srtt8_us, var, rto;
	int32_t err;

	if (unlikely(!srtt8 || rtt_us > RTO_MAX_US)) {
		loss_rtt_first(f, rtt_us);
		return;
	}
	err = (int32_t)(rtt_us - (srtt8 >> 3));
	srtt8 += (uint32_t)err;
	f->srtt8_us = srtt8;
	if (err < 0)
		err = -err;
	var = f->rttvar4_us + (uint32_t)err - (f->rttvar4_us >> 2);
	f->rttvar4_us = var;
	rto = (srtt8 >> 3) + (likely(var <= RTO_MIN_US) ? RTO_MIN_US : var);
	f->rto_us = likely(rto <= RTO_MAX_US) ? rto : RTO_MAX_US;
}

/* The same in ns; 32 bits are divided faster. */
static inline void loss_rtt_ns(struct flow *f, uint64_t ns)
{
	if (unlikely(ns > UINT32_MAX))
		loss_rtt(f, (uint32_t)(ns / 1000));
	else
		loss_rtt(f, (uint32_t)ns / 1000);
}

static inline uint64_t loss_rto_ns(const struct flow *f)
{
	uint64_t us = f->rto_us;

	if (unlikely(f->backoff)) {
		us <<= f->backoff < 12 ? f->backoff : 12;
		us = us > RTO_MAX_US ? RTO_MAX_US : us;
	}
	return us * 1000;
}

/* ---- tx.c ---- */
/* Send what the flows in the turn's list may send, ACK what must be. Those
 * that wait for a free frame or for their turn stay in the list. */
void tx_turn(struct fp_core *c);
bool tx_ack(struct fp_core *c, struct flow *f); /* now */
/* Send @len new bytes now, or record @i again; false: no frame, no room. */
bool tx_new(struct fp_core *c, struct flow *f, uint32_t len);
bool tx_again(struct fp_core *c, struct flow *f, uint32_t i);
/* A segment that the peer must answer (RFC 9293 3.8.6.1). */
bool tx_probe(struct fp_core *c, struct flow *f);

/* ---- timers.c ---- */
static inline void timers_set_rto(struct fp_core *c, struct flow *f,
				  uint64_t at_ns)
{
	f->rto_at = at_ns;
	timers_queue(&c->timers, f, at_ns);
}

/* ---- app.c ---- */
struct app_ctx *app_ctx_add(struct fp_core *c, struct fp_ctx *ctx);
void app_ctx_del(struct fp_core *c, struct app_ctx *a);
/* Take some of the @n > 0 commands that wait. true: it did. */
bool app_take(struct fp_core *c, struct app_ctx *a, uint32_t n);
/* Read the command ring out now. */
void app_drain(struct fp_core *c, struct app_ctx *a);
void app_offend(struct fp_core *c, struct app_ctx *a, const char *text);
void app_park(struct fp_core *c, struct app_ctx *a);
void app_unpark(struct fp_core *c, struct app_ctx *a);
/* Commands that wait in the ring, as the program says. */
static inline uint32_t app_waiting(const struct app_ctx *a)
{
	return __atomic_load_n(&a->area->cmd_index.producer, __ATOMIC_ACQUIRE) -
	       a->cmd_consumer;
}

/* Replies that the program has not taken, as it says. */
static inline bool app_unread(const struct app_ctx *a)
{
	return __atomic_load_n(&a->area->reply_index.consumer,
			       __ATOMIC_RELAXED) != a->reply_producer;
}

/* ---- reply.c ---- */
/* What the flows in the turn's list have to tell, made visible. */
void reply_turn(struct fp_core *c);
/* Tell the program what is pending for the flow, now or when there is room. */
void reply_flow(struct fp_core *c, struct flow *f);
/* The flow's numbers, to the context that asked, if they find room. */
void reply_info(struct fp_core *c, struct flow *f, struct app_ctx *a);
void reply_relay(struct fp_core *c, struct app_ctx *a,
		 const struct xts_reply *r);
/* Contexts whose ring was full: try again. true: something moved. */
bool reply_retry(struct fp_core *c);
/* Make filled replies visible. */
void reply_publish(struct fp_core *c);
/* Wake programs that sleep, of those (at least one) with new replies. */
void reply_wake(struct fp_core *c);
/* Forget replies of this flow. */
void reply_unblock(struct fp_core *c, struct flow *f);

#pragma GCC visibility pop

#endif
