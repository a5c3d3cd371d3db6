/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * loss.h - what is on its way, and what of it is lost: a flow's state
 *
 * In the flow's extension, zeroed at installation; loss_init() does the rest.
 * Written by loss.c and its neighbours (sender.h lists them) on the core's
 * thread. Names are those of the RFCs, or Linux's where these have none.
 */
#ifndef FASTPATH_LOSS_H
#define FASTPATH_LOSS_H

#include "fastpath/scoreboard.h"
#include "fastpath/segment.h"

/* What rto_at is; a plain flow's is LOSS_RTO. */
enum loss_timer {
	LOSS_RTO,
	LOSS_TLP, /* RFC 8985 section 7 */
	LOSS_REO, /* RFC 8985 section 6.2, step 5 */
};

/* The least of a window of time, by three candidates, each the least of what
 * came after the one before. */
struct min_rtt {
	uint32_t us[3], ms[3]; /* value, when measured; us[0] 0: none */
};

struct loss {
	struct scoreboard sb;

	/* ---- recovery ---- */
	uint8_t state;	     /* enum cc_state */
	uint8_t timer;	     /* enum loss_timer */
	uint8_t retransmits; /* time-outs since snd_una moved */
	bool frto;	     /* F-RTO goes on (RFC 5682) */
	bool frto_new;	     /* new data go first, and ... */
	bool hold;	     /* ... what is lost waits for the next ACK */
	bool may_undo;	     /* undo_marker holds */
	bool cwr;	     /* CWR goes out with the next new data */
	uint32_t high_seq;   /* recovery_point: snd_nxt when it began */
	uint32_t recover;    /* RFC 6582: the last one's, without SACK */
	uint32_t prior_cwnd, prr_delivered, prr_out; /* RFC 6937 */
	uint32_t prior_ssthresh; /* what an undo restores; 0: nothing */
	uint32_t undo_marker;	 /* snd_una when it began */
	int32_t undo_retrans; /* copies not yet known as needless; -1: none sent
			       */
	uint64_t retrans_ns;  /* first retransmission; 0: none */
	uint32_t retrans_ts;  /* its time stamp */
	uint32_t reno_sacked; /* bytes that duplicate ACKs tell of */
	uint32_t rexmit_seq;  /* nothing due lies below */
	uint32_t snd_sml;     /* end of the last partial segment (Minshall) */
	uint64_t ack_ns;      /* the peer's last sign of life, in cold code */
	uint64_t probes_ns;   /* when probing a zero window began; 0: not */

	/* ---- RACK-TLP, RFC 8985 ---- */
	bool rack_valid, rack_advanced, rack_dsack;
	bool tlp_on, tlp_retrans;
	uint8_t reo_wnd_mult, reo_wnd_persist;
	uint32_t rack_us, rack_end, rack_rtt_us; /* xmit_ts, end_seq, rtt */
	uint32_t rack_delivered;		 /* when reo_wnd_mult grew */
	uint32_t tlp_end;			 /* TLP.end_seq */
	uint32_t reordering;			 /* segments */
	uint32_t reord_seen;			 /* times */
	uint32_t fack; /* end of the highest SACKed segment */
	struct sack_block cache[SEG_SACK_MAX]; /* the last ACK's blocks */
	struct min_rtt min_rtt;

	/* ---- delivery rate ---- */
	uint32_t delivered_us, first_us;
	uint64_t app_limited;	      /* until ext->delivered is more; 0: not */
	uint32_t rate_bytes, rate_us; /* the best of late */
	bool rate_app_limited;
	uint32_t lost_since; /* bytes marked lost since the last sample */

	/* ---- validation of cwnd ---- */
	uint32_t usage_seq; /* end of the window that max_out is of */
	uint32_t max_out;   /* most bytes outstanding in it */
	bool cwnd_limited;  /* in it */
	uint32_t cwnd_used; /* most outstanding since cwnd_ns */
	uint64_t cwnd_ns;   /* when cwnd was used up or judged last */
	bool cwnd_hit;	    /* cwnd held data back when last sending */

	/* ---- TCP_INFO ---- */
	uint64_t bytes_retrans;
	uint32_t total_retrans, total_lost, total_dsack; /* segments */
	uint32_t total_rto, rto_recoveries, delivered_ce;
	uint64_t rto_ns, rto_total_ns; /* of a series of time-outs; of all */
};

/* Nothing of the above concerns the hot path. */
static inline bool loss_plain(const struct loss *l)
{
	return !l->sb.n && !l->state && !l->cwr;
}

struct flow;

#pragma GCC visibility push(hidden)

void loss_init(struct flow *f);
/* Give back the records' memory. */
void loss_free(struct flow *f);

#pragma GCC visibility pop

#endif
