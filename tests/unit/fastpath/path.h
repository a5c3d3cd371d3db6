/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * path.h - flows over one bottleneck, simulated, to watch congestion control
 *
 * A link has a rate, a finite queue that drops at its tail or marks above a
 * threshold, and may lose at random. Senders share it; each has a delay of its
 * own behind it and a receiver that acknowledges every segment (or holds ACKs
 * back and sends them in heaps). A sender does for its algorithm what loss.c
 * does: it records segments, measures RTT and delivery rate, finds a segment
 * lost when three later ones arrived, comes down to ssthresh in recovery or
 * once a window on an ECE, has a time-out, and paces. It has always something
 * to send unless app_rate says how much.
 *
 * Everything is deterministic; time is the simulation's. Segments are all of
 * snd_mss. The flow is a bare struct flow: only what cc.h names is filled.
 */
#ifndef TESTS_UNIT_FASTPATH_PATH_H
#define TESTS_UNIT_FASTPATH_PATH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "fastpath/flow.h"

#define PATH_MS 1000000ull
#define PATH_S 1000000000ull
#define PATH_MSS 1448u

struct link {
	uint64_t rate;	/* bytes a second */
	uint64_t limit; /* of the queue, bytes */
	uint64_t mark;	/* CE from this many in the queue on; 0: never */
	uint32_t loss;	/* of 10000 segments at random */
	uint64_t seed;
	/* A policer in front of it: a bucket; 0: none. */
	uint64_t police_rate, police_depth;
	/* ---- the simulation's ---- */
	uint64_t free_ns; /* the queue is empty then */
	uint64_t tokens, tokens_ns;
	uint64_t drops;
};

struct path_seg {
	uint64_t sent_ns, ack_ns; /* ack_ns UINT64_MAX: it was dropped */
	uint64_t prior_delivered, prior_ns, first_ns;
	uint64_t order; /* of transmission */
	bool delivered, lost, sent_again, ce, app_limited;
};

struct path {
	struct flow f;
	struct flow_ext ext;
	struct link *link;
	uint64_t rtt_ns;   /* without the queue */
	uint64_t heap_ns;  /* ACKs wait for a multiple of this; 0: they don't */
	uint64_t app_rate; /* bytes a second; 0: no limit, 1: silent */
	/* ---- the simulation's ---- */
	uint64_t now_ns;
	struct path_seg *segs;	 /* ring, by number */
	uint64_t mask, una, nxt; /* numbers of segments */
	uint64_t order;
	uint64_t *wire; /* ring: numbers in order of arrival */
	uint64_t wire_head, wire_tail;
	uint64_t flight;     /* segments */
	uint64_t lost_out;   /* lost and not sent again */
	uint64_t lost_from;  /* none below is lost and not sent again */
	uint64_t high_order; /* of what arrived */
	uint64_t *sent;	     /* ring: numbers by order of transmission */
	uint64_t judged;     /* by order: lost or not */
	uint64_t recover;
	uint8_t state;
	uint64_t delivered, delivered_ns, first_ns;
	uint64_t pace_ns, rto_at, app_ns;
	double app_credit;
	uint64_t app_limited; /* until so much is delivered */
	bool cwnd_limited;
	uint32_t lost_bytes;
	/* ---- for the test ---- */
	uint64_t marked, acks, reductions, timeouts;
	uint32_t rtt_us;		 /* the last */
	uint32_t rtt_max_us, flight_max; /* the test clears them */
	/* Called after each ACK. */
	void (*watch)(struct path *p, const struct cc_sample *s);
	void *arg;
};

struct path *path_new(struct link *l, const struct cc_ops *ops, uint32_t mss,
		      uint64_t rtt_ns);
void path_free(struct path *p);
/* Run @n senders of one link up to @until_ns. */
void path_run(struct path *const *p, unsigned int n, uint64_t until_ns);
/* ... one sender, for @ns more. */
void path_go(struct path *p, uint64_t ns);
/* Bytes a second delivered while running for @ns. */
uint64_t path_goodput(struct path *p, uint64_t ns);
/* Two senders of one link, the second from @join_ns on: what the first carries
 * between @from_ns and @until_ns, divided by what the second does. */
double path_share(struct path *const *p, uint64_t join_ns, uint64_t from_ns,
		  uint64_t until_ns);
/* Bytes in the queue now. */
uint64_t link_queue(const struct link *l, uint64_t now_ns);

/* A bare flow for calls of one operation, mss PATH_MSS, cwnd of @segs. */
struct path *path_bare(const struct cc_ops *ops, uint32_t segs);
/* One ACK of @bytes at @now_ns through acked() and grow(). */
void path_ack(struct path *p, uint64_t now_ns, uint32_t bytes, uint32_t rtt_us);

#define assert_within(v, lo, hi)                                               \
	do {                                                                   \
		double v_ = (double)(v);                                       \
		if (v_ < (double)(lo) || v_ > (double)(hi))                    \
			fail_msg("%s is %.6g, not from %.6g to %.6g", #v, v_,  \
				 (double)(lo), (double)(hi));                  \
	} while (0)

#endif
