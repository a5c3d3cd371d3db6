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
/* BBR needs 19: a filter of three rates, five instants, and what its separate
 * estimates of rate, RTT, policers and heaps of ACKs remember. */
#define CC_PRIV_WORDS 20u
#define CC_CWND_MAX (1u << 30) /* far above any buffer */

struct flow;

enum cc_event {
	CC_EV_TX_START,	 /* new data go out by cold code, and nothing was on its
			  * way: before they are recorded */
	CC_EV_RECOVERY,	 /* fast recovery or CWR begins; ssthresh was asked */
	CC_EV_RECOVERED, /* it ended; cwnd has its value */
	CC_EV_RTO,	 /* retransmission time-out; ssthresh was asked */
	CC_EV_UNDO,	 /* the loss was none (Eifel, D-SACK) */
	CC_EV_CE,	 /* a segment arrived with congestion experienced */
	CC_EV_NO_CE,	 /* one without, after one with */
};

/* What the sender is doing about loss, as Linux names it. */
enum cc_state {
	CC_OPEN,     /* nothing, disorder included */
	CC_CWR,	     /* cwnd comes down after an ECE, nothing is lost */
	CC_RECOVERY, /* fast recovery */
	CC_LOSS,     /* after a retransmission time-out */
};

/*
 * What an acknowledgment told. The flow's snd_una, snd_nxt and srtt8_us have it
 * in them. acked() is told before the sender acts on loss or ECE: lost,
 * flight_after and state are not filled in yet. grow() and control() are told
 * after that: what it made lost is marked, and a recovery that it begins or
 * ends has begun or ended.
 */
struct cc_sample {
	uint64_t now_ns;
	uint32_t acked;	    /* bytes newly acknowledged cumulatively */
	uint32_t delivered; /* newly acknowledged or newly SACKed */
	uint32_t lost;	 /* marked lost since the last sample, by timers too */
	uint32_t flight; /* bytes in flight before it arrived */
	uint32_t rtt_us; /* of the newest segment it covers; 0: none (Karn) */
	bool ece;	 /* it carried ECE */
	bool cwnd_limited; /* cwnd held data back since the last one */
	/* Delivery rate (draft-cheng-iccrg-delivery-rate-estimation). */
	bool app_limited;	  /* the sample is */
	uint32_t rate_bytes;	  /* delivered within ... */
	uint32_t rate_us;	  /* ... this time; 0: no sample */
	uint64_t prior_delivered; /* ext->delivered when the newest segment it
				   * covers was sent */
	uint64_t total_delivered; /* ext->delivered, this one's included */
	uint32_t flight_after;	  /* bytes in flight now: those delivered and
				   * those marked lost are off, nothing is sent
				   * in answer yet */
	uint8_t state;		  /* enum cc_state, now */
	bool maybe_delayed; /* it covers one segment, shorter than the MSS, that
			     * was alone on its way, and neither SACKs nor has
			     * ECE: perhaps a delayed ACK, its RTT too long */
};

struct cc_ops {
	const char *name;
	/* Wants to know of each CE mark: every segment is ECT and the
	 * receiver echoes precisely (RFC 8257); needs ECN negotiated. */
	bool precise_ecn;
	void (*init)(struct flow *f, uint64_t now_ns);
	/* The new ssthresh, on a loss, an ECE or a time-out; asked before
	 * cwnd is changed, the event follows. */
	uint32_t (*ssthresh)(struct flow *f, uint64_t now_ns);
	/* Grow cwnd: new data were acknowledged, no recovery goes on (slow
	 * start after a time-out included), and cwnd was the limit. */
	void (*grow)(struct flow *f, const struct cc_sample *s);
	/* cwnd after an undo; NULL: the greater of cwnd and the one before. */
	uint32_t (*undo_cwnd)(struct flow *f);
	void (*event)(struct flow *f, enum cc_event ev, uint64_t now_ns);
	/* Every acknowledgment, in every state, before anything that it
	 * causes (ssthresh(), grow()): DCTCP counts marks, CUBIC looks at
	 * RTTs. NULL: not needed. */
	void (*acked)(struct flow *f, const struct cc_sample *s);
	/* Decides cwnd and pacing_rate alone, on every acknowledgment and in
	 * every state (BBR): neither grow() nor PRR run then. */
	void (*control)(struct flow *f, const struct cc_sample *s);
	/* ssthresh on an ECE alone; NULL: as on a loss. See cc_ssthresh_ece().
	 */
	uint32_t (*ssthresh_ece)(struct flow *f, uint64_t now_ns);
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
/* Congestion avoidance: one segment more for each @per_seg bytes acknowledged,
 * at least one byte and at most UINT32_MAX. */
void cc_grow_by(struct flow *f, uint32_t acked, uint64_t per_seg);
/* The new ssthresh on an ECE. */
uint32_t cc_ssthresh_ece(struct flow *f, uint64_t now_ns);
/* What a paced flow may send at once, bytes: a millisecond's worth, at least
 * two segments (one below 150 kbyte/s), at most 64 KiB. BBR counts on it. */
uint32_t cc_pace_burst(const struct flow *f, uint64_t rate);

#pragma GCC visibility pop

#endif
