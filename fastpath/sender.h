/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sender.h - what the parts of the sender's cold half share
 *
 *   loss.c   one acknowledgment, from beginning to end; round trips
 *   sack.c   SACK blocks and D-SACK (RFC 2018, 2883)
 *   rack.c   what is lost, by time; tail loss probes (RFC 8985)
 *   cwnd.c   the states of recovery, PRR (RFC 6937), undo (RFC 4015)
 *   rto.c    time-outs (RFC 6298, 5682), zero windows
 *   mtu.c    how large segments may be (RFC 4821)
 *   rate.c   delivery rate, and whether cwnd is used
 *   info.c   TCP_INFO
 */
#ifndef FASTPATH_SENDER_H
#define FASTPATH_SENDER_H

#include "fastpath/core.h"

#pragma GCC visibility push(hidden)

#define REORDERING_MAX 300u /* segments, as Linux's tcp_max_reordering */
#define DUP_THRESH 3u
#define REO_PERSIST 16u	   /* recoveries that RACK's wider window lasts */
#define INIT_CWND_SEGS 10u /* RFC 6928 */

/* What an acknowledgment is, beside LOSS_DATA and LOSS_WND. */
enum ack_flags {
	ACK_ADVANCED = 1 << 4,	/* snd_una moved */
	ACK_FRESH = 1 << 5,	/* data that were sent once are acknowledged */
	ACK_RETRANS = 1 << 6,	/* data that were sent again are */
	ACK_SACKED = 1 << 7,	/* newly SACKed */
	ACK_DSACK = 1 << 8,	/* tells of a duplicate */
	ACK_DSACK_TLP = 1 << 9, /* which is the probe */
	ACK_ECE = 1 << 10,
	ACK_ORIG = 1 << 11,   /* of before the recovery, sent once, arrived */
	ACK_RENEGE = 1 << 12, /* what was SACKed isn't acknowledged */
	ACK_TIMER = 1 << 13,  /* the timer begins anew */
	ACK_LOST_RETRANS = 1 << 14 /* a retransmission is lost */
};

/* One acknowledgment while it is processed. */
struct ack {
	const struct segment *s;
	uint32_t ack, flags, now_us;
	uint32_t una, top;     /* snd_una before and after */
	uint32_t fack, sacked; /* of the scoreboard, before */
	uint32_t flight;       /* pipe before */
	uint32_t out;	       /* snd_nxt - snd_una before */
	uint32_t delivered;    /* bytes newly known as delivered */
	uint32_t lost;	       /* marked lost by it */
	uint32_t n_acked;      /* records gone */
	uint32_t reord;	       /* lowest of what filled a hole, sent once */
	/* Transmissions that it answers, sent once: first and last. */
	bool has_ack, has_sack;
	uint32_t first_ack_us, last_ack_us, first_sack_us, last_sack_us;
	/* The newest segment delivered, draft section 3.3. */
	bool rate;
	bool rate_app_limited;
	uint32_t rate_sent_us, rate_end;
	uint32_t rate_delivered, rate_delivered_us, rate_send_us;
	struct cc_sample sample;
};

static inline uint32_t time_us(uint64_t ns)
{
	return (uint32_t)(ns / 1000);
}

/* Bytes in flight: RFC 6675's pipe, as Linux counts it. */
static inline uint32_t loss_pipe(const struct flow *f)
{
	const struct loss *l = &f->ext->loss;
	uint32_t out = f->snd_nxt - f->snd_una + l->sb.retrans;
	uint32_t gone = l->sb.sacked + l->reno_sacked + l->sb.lost;

	return out > gone ? out - gone : 0;
}

/* Bytes a second; 0: as fast as it may. The program's limit counts too. */
static inline uint64_t flow_pace(const struct flow_ext *x)
{
	uint64_t rate = x->pacing_rate, most = x->max_pacing_rate;

	return most && (!rate || most < rate) ? most : rate;
}

/* Has anything that is under way been sent again? */
static inline bool loss_any_retrans(const struct loss *l)
{
	return l->sb.retrans ||
	       (l->sb.n && sb_at(&l->sb, 0)->flags & SENT_EVER);
}

static inline bool loss_reducing(const struct loss *l)
{
	return l->state == CC_CWR || l->state == CC_RECOVERY;
}

/* Was (@us, @end) sent after (@us2, @end2)? */
static inline bool sent_after(uint32_t us, uint32_t end, uint32_t us2,
			      uint32_t end2)
{
	return us == us2 ? seq_gt(end, end2) : seq_gt(us, us2);
}

/* ---- loss.c ---- */
uint32_t loss_min_rtt(const struct loss *l); /* us; UINT32_MAX: none */
void loss_timer_set(struct fp_core *c, struct flow *f, enum loss_timer kind,
		    uint64_t at_ns);
/* The first retransmission of a series is due: when, for undo and patience. */
void loss_stamp(struct fp_core *c, struct flow *f);
/* The retransmission timer, from now or from when the head was sent. */
void loss_rearm(struct fp_core *c, struct flow *f);

/* ---- sack.c ---- */
void sack_process(struct flow *f, struct ack *a);
/* A hole at @seq was filled by what was sent once: reordering. */
void sack_reordered(struct flow *f, uint32_t seq);
/* RFC 6582 with the count of duplicate ACKs as Linux emulates SACK. */
void reno_duplicate(struct flow *f, struct ack *a);
void reno_advanced(struct flow *f, struct ack *a, uint32_t acked);
/* More can't have arrived than was sent, without what is missing. true: the
 * count said so. */
bool reno_limit(struct flow *f);

/* ---- rack.c ---- */
void rack_delivered(struct flow *f, const struct sent *r, uint32_t now_us);
void rack_adapt(struct flow *f, const struct ack *a);
void loss_mark(struct flow *f, struct sent *r);
/* Mark what is lost. */
void rack_detect(struct fp_core *c, struct flow *f, struct ack *a);
void rack_timeout(struct fp_core *c, struct flow *f);
/* Time before what was sent at @sent_us counts as lost; <= 0: it does. */
int32_t rack_remaining(const struct loss *l, uint32_t sent_us, uint32_t reo,
		       uint32_t now_us);
bool tlp_schedule(struct fp_core *c, struct flow *f, bool advancing);
void tlp_timeout(struct fp_core *c, struct flow *f);
void tlp_acked(struct fp_core *c, struct flow *f, const struct ack *a);

/* ---- cwnd.c ---- */
void cwnd_event(struct fp_core *c, struct flow *f, enum cc_event ev);
/* Undo what a needless recovery did; @unmark: nothing is lost, either. */
void cwnd_undo(struct fp_core *c, struct flow *f, bool unmark);
void cwnd_undo_init(struct flow *f);
void cwnd_alert(struct fp_core *c, struct flow *f, struct ack *a);
void cwnd_control(struct flow *f, struct ack *a);
void cwnd_reduce_begin(struct fp_core *c, struct flow *f, bool ece);
void cwnd_reduce_end(struct fp_core *c, struct flow *f);
void cwnd_prr(struct flow *f, uint32_t delivered, uint32_t lost, bool advanced);
void cwnd_recovery(struct fp_core *c, struct flow *f, bool ece);
void cwnd_try_open(struct flow *f);
uint32_t cwnd_ssthresh_now(const struct flow *f);

/* ---- rate.c ---- */
void rate_sent(struct fp_core *c, struct flow *f, struct sent *r);
void rate_delivered(struct flow *f, struct ack *a, const struct sent *r);
void rate_sample(struct flow *f, struct ack *a);
/* Have the data sent up to now used cwnd up? */
void rate_validate(struct fp_core *c, struct flow *f);
bool rate_cwnd_limited(const struct flow *f);

#pragma GCC visibility pop

#endif
