/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cc.h - congestion control: a table of operations per algorithm
 *
 * An algorithm decides cwnd, ssthresh (bytes, in struct flow) and, if it
 * paces, ext->pacing_rate (bytes a second). What is lost, what is sent again
 * and how cwnd comes down during recovery (PRR) is loss.c's, the same for all
 * algorithms without control(). Called from cold code only: while one segment
 * at a time is on its way nothing of this runs.
 *
 * State: CC_PRIV_WORDS words a flow, zeroed before init(). Core thread.
 */
#ifndef FASTPATH_CC_H
#define FASTPATH_CC_H

#include <stdbool.h>
#include <stdint.h>

#define CC_NAME_MAX 16u /* TCP_CA_NAME_MAX */
#define CC_PRIV_WORDS 16u
#define CC_CWND_MAX (1u << 30) /* far above any buffer */

struct flow;

enum cc_event {
	CC_EV_TX_START,	 /* data go out, nothing was on its way */
	CC_EV_RECOVERY,	 /* fast recovery or CWR begins; ssthresh was asked */
	CC_EV_RECOVERED, /* it ended; cwnd has its value */
	CC_EV_RTO,	 /* retransmission time-out; ssthresh was asked */
	CC_EV_UNDO,	 /* the loss was none (Eifel, D-SACK) */
	CC_EV_CE,	 /* a segment arrived with congestion experienced */
	CC_EV_NO_CE,	 /* one without, after one with */
};

/* What an acknowledgment told. */
struct cc_sample {
	uint64_t now_ns;
	uint32_t acked;	    /* bytes newly acknowledged cumulatively */
	uint32_t delivered; /* newly acknowledged or newly SACKed */
	uint32_t lost;	    /* newly marked lost */
	uint32_t flight;    /* bytes in flight before it arrived */
	uint32_t rtt_us;   /* of the newest segment it covers; 0: none (Karn) */
	bool ece;	   /* it carried ECE */
	bool cwnd_limited; /* cwnd held data back since the last one */
	/* Delivery rate (draft-cheng-iccrg-delivery-rate-estimation). */
	bool app_limited;	  /* the sample is */
	uint32_t rate_bytes;	  /* delivered within ... */
	uint32_t rate_us;	  /* ... this time; 0: no sample */
	uint64_t prior_delivered; /* ext->delivered when the newest segment it
				   * covers was sent */
};

struct cc_ops {
	const char *name;
	/* Wants to know of each CE mark: every segment is ECT and the
	 * receiver echoes precisely (RFC 8257); needs ECN negotiated. */
	bool precise_ecn;
	void (*init)(struct flow *f, uint64_t now_ns);
	/* The new ssthresh, on a loss, an ECE or a time-out. */
	uint32_t (*ssthresh)(struct flow *f, uint64_t now_ns);
	/* Grow cwnd: new data were acknowledged, no recovery goes on (slow
	 * start after a time-out included), and cwnd was the limit. */
	void (*grow)(struct flow *f, const struct cc_sample *s);
	/* cwnd after an undo; NULL: the greater of cwnd and the one before. */
	uint32_t (*undo_cwnd)(struct flow *f);
	void (*event)(struct flow *f, enum cc_event ev, uint64_t now_ns);
	/* Every acknowledgment, in every state, before grow(): DCTCP counts
	 * marks. NULL: not needed. */
	void (*acked)(struct flow *f, const struct cc_sample *s);
	/* Decides cwnd and pacing_rate alone, on every acknowledgment and in
	 * every state (BBR): neither grow() nor PRR run then. */
	void (*control)(struct flow *f, const struct cc_sample *s);
};

#pragma GCC visibility push(hidden)

extern const struct cc_ops cc_reno, cc_cubic, cc_dctcp, cc_bbr;

/* By its name in TCP_CONGESTION; NULL: none of ours. */
const struct cc_ops *cc_find(const char *name);
/* Use @ops from now on: clears the private words and calls init(). */
void cc_set(struct flow *f, const struct cc_ops *ops, uint64_t now_ns);
/* Slow start as all but BBR do it: cwnd by what was acknowledged, up to
 * ssthresh. What of @acked is left over. */
uint32_t cc_slow_start(struct flow *f, uint32_t acked);

#pragma GCC visibility pop

#endif
