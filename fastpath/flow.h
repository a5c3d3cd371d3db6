/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * flow.h - one offloaded connection, and the table that finds it
 *
 * A flow is written by its core's thread alone. Fields are grouped by what
 * writes them: the first line names the flow and is only read after
 * installation; then what a received segment writes, what a sent one writes,
 * the header template, what goes to the program, and what only cold code
 * touches. Fields marked (v) are read by the slow path through fp_flow_view()
 * and therefore stored by flow_set(), a relaxed atomic store.
 *
 * Table: open addressing with linear probing over pairs of hash and index, at
 * most half full, so that a look-up is one line of the table and one of the
 * flow. It is not from a library because the look-up is the hot path's, in
 * stages that prefetch. The hash is seeded at random: peers choose their
 * ports. Flows and table are mapped zero pages, touched when first used.
 */
#ifndef FASTPATH_FLOW_H
#define FASTPATH_FLOW_H

#include "fastpath/cc.h"
#include "fastpath/csum.h"
#include "fastpath/fastpath.h"
#include "fastpath/grow.h"
#include "fastpath/loss.h"
#include "fastpath/mtu.h"
#include "fastpath/reassembly.h"
#include "fastpath/urgent.h"

#include <assert.h>

#define FLOW_HDR_MAX 96u /* Ethernet, IPv6, TCP, timestamps: 86 */
/* Ethernet, IPv4, TCP and timestamps: no other combination is as long, so that
 * this length of a plain flow's header names the whole layout. */
#define FLOW_HDR_HOT 66u

struct app_ctx;

#define PEND_OFFLOADED 0x1u /* XTS_REPLY_OFFLOADED */
#define PEND_GROWN 0x2u	    /* XTS_REPLY_GROWN */
#define PEND_MOVED 0x4u	    /* XTS_REPLY_MOVED: move_to is set; comes last */
#define PEND_URGENT 0x8u    /* XTS_REPLY_URGENT */

enum flow_state {
	FLOW_FREE, /* slot unused */
	FLOW_HOLD, /* installed, frames held */
	FLOW_OPEN,
	FLOW_GONE, /* removed; its last reply waits for room in the ring */
};

/* What Linux had counted before the flow was installed, see flow_params. */
struct flow_before {
	uint64_t bytes_acked, bytes_received, bytes_sent, bytes_retrans;
	uint32_t total_retrans, delivered, delivered_ce, dsack_dups;
};

/* What of a flow only cold code touches and would not fit beside the rest: an
 * array of its own, of zero pages until first used. */
struct flow_ext {
	uint64_t pacing_rate; /* bytes a second, 0: none */
	uint64_t cc_priv[CC_PRIV_WORDS];
	bool cc_low_rate;    /* count what is sent as application-limited */
	uint64_t pace_at;    /* a paced flow may send from then on, ns */
	uint64_t cork_until; /* a corked partial segment goes then; 0: none */
	uint32_t pace_left;  /* bytes of the quantum */
	uint64_t wait_at;    /* look at what tx.c held back, ns; 0: nothing */
	/* 64-bit counts, as of epoch_*: see loss_epoch(). */
	uint64_t delivered; /* bytes, acknowledged or SACKed */
	uint64_t bytes_acked, bytes_received;
	uint32_t epoch_una, epoch_rcv;
	struct loss loss;
	struct reassembly ooo;
	struct grow grow;
	struct mtu mtu;
	struct urgent urgent;
	uint32_t snd_wnd_max; /* MAX.SND.WND (RFC 5961 5.2) as cold code saw */
	bool reset;	      /* the peer's RST was passed on */
	uint64_t max_pacing_rate; /* SO_MAX_PACING_RATE; 0: no limit */
	struct flow_before before;
};

struct flow {
	/* ---- who: written at installation ---- */
	alignas(XTS_CACHELINE) struct conn_key key;
	uint32_t index; /* handle */
	uint32_t gen; /* (v) handle: counts the slot's lives, and half-lives */
	uint8_t *rx_buf;
	uint64_t addrs; /* IPv4: both as they lie in an arriving frame */

	/* ---- receiver: written by segments with data ---- */
	uint32_t rcv_nxt;   /* (v) data only */
	uint32_t rcv_wup;   /* rcv_nxt of the last ACK sent (last_ack_sent) */
	uint32_t rcv_wnd;   /* (v) advertised in that ACK, bytes */
	uint32_t ts_recent; /* (v) RFC 7323 */
	uint32_t ts_recent_ms; /* when it was stored */
	uint32_t rx_pos;       /* offset in rx_buf of rcv_nxt */
	uint32_t rx_unread;    /* bytes delivered, not yet credited back */
	uint32_t rx_size;      /* of rx_buf, a power of two */
	uint64_t rcv_ns;       /* when data last arrived */
	uint64_t ack_at;       /* delayed ACK is due, ns; 0: none */
	uint32_t csum_base;    /* sum of the pseudo header, see
				  flow_template_init() */
	uint16_t hot_word;     /* data offset and flags of a plain segment */
	uint8_t hdr_len; /* of plain segments, both ways; Ethernet included */
	uint8_t l4;	 /* offset of the TCP header */
	uint8_t state;	 /* enum flow_state */
	uint8_t plain;	 /* hdr_len if nothing is unusual, else 0: see
			  * flow_judge() */
	bool timestamps;
	bool listed;   /* in the turn's list of flows that may send */
	bool ack_now;  /* an ACK must leave this turn */
	bool pingpong; /* answers follow requests: delay ACKs */
	uint8_t snd_wscale, rcv_wscale;

	/* ---- sender: written by segments sent and by ACKs ---- */
	uint32_t snd_una; /* (v) */
	uint32_t snd_nxt; /* (v) highest sent, data only */
	uint32_t snd_wnd;
	uint32_t snd_wl1;
	uint32_t snd_mss;
	uint32_t cwnd;	  /* bytes */
	uint32_t tx_pos;  /* offset in tx_buf of snd_una */
	uint32_t tx_len;  /* bytes in tx_buf from there on */
	uint64_t sent_ns; /* last transmission of data; 0: none by us */
	uint64_t rto_at;  /* the loss timer's or persist timer's, ns; 0: off */
	uint32_t rto_us;  /* RFC 6298, without back-off */
	uint32_t ts_offset;
	uint32_t srtt8_us, rttvar4_us; /* times 8 and 4; srtt8 0: no sample */

	/* ---- header template: written at installation ---- */
	uint8_t hdr[FLOW_HDR_MAX];
	uint32_t tcp_sum;   /* of what never changes in pseudo and TCP header */
	uint32_t ip_sum;    /* the same of the IPv4 header */
	uint32_t sws_min;   /* don't open the window by less */
	uint32_t wnd_max;   /* the window when the buffer is empty, and ... */
	uint32_t wnd_field; /* ... shifted */
	uint32_t tx_size;   /* of tx_buf, a power of two */
	uint8_t *tx_buf;
	struct app_ctx *ctx; /* NULL: the program is gone */
	uint64_t cookie;

	/* ---- reply to the program not yet in its ring ---- */
	uint32_t pend_off, pend_len; /* received data */
	uint32_t pend_credits;	     /* acknowledged bytes */
	uint32_t pend_err;
	uint32_t pend_flags; /* XTS_F_* */
	uint8_t pend_rare;   /* PEND_*: replies that come before any data */
	bool blocked;	     /* in its context's list of waiting flows */
	bool telling;	     /* in the turn's list of flows with replies */
	bool consumed;	     /* the program consumed data in this turn */
	/* ---- receiver, seldom written ---- */
	uint32_t rcv_mss; /* payload of the largest segment that arrived */

	/* ---- cold ---- */
	bool shut_wr;	     /* program asked for FIN */
	bool closing;	     /* program closed; data still to be acknowledged */
	bool snd_fin;	     /* (v) */
	bool rcv_fin;	     /* (v) */
	bool fin_acked;	     /* the peer's ACK of our FIN was passed on */
	bool copy_ack;	     /* FP_CMD_COPY_ACK */
	bool persist;	     /* rto_at is the persist timer */
	bool nodelay;	     /* TCP_NODELAY */
	bool cork;	     /* TCP_CORK: a partial segment waits a while */
	uint8_t mtu_probing; /* net.ipv4.tcp_mtu_probing */
	uint8_t backoff;
	uint8_t probes;	   /* persist probes without any answer */
	uint32_t ssthresh; /* bytes */
	uint32_t cwnd_acked;
	uint32_t user_timeout_ms; /* TCP_USER_TIMEOUT; 0: the default */
	uint32_t oow_ms; /* last ACK in answer to an odd empty segment */
	bool sack;	 /* negotiated (RFC 2018) */
	bool ecn;	 /* negotiated (RFC 3168) */
	bool more;	 /* MSG_MORE: as cork, until the next data */
	bool cc_fixed;	 /* XTS_OPT_CONGESTION changes nothing */
	bool ece;	 /* CE arrived: our segments say so by ECE */
	const struct cc_ops *cc;
	struct flow_ext *ext;
	struct app_ctx *move_to;   /* FP_CMD_MOVE waits for room in the ring */
	struct flow *blocked_next; /* list of the context */
	uint64_t timer_at; /* tick the node is queued for; 0: not queued */
	struct flow *timer_prev, *timer_next; /* in the wheel */
	uint32_t hash;
	uint32_t free_next; /* index + 1 of the next free slot */
};

static_assert(offsetof(struct flow, rcv_nxt) == 64, "receiver on a line");
static_assert(offsetof(struct flow, snd_una) == 128, "sender on a line");
static_assert(offsetof(struct flow, hdr) == 192, "template on a line");
static_assert(sizeof(struct flow) <= 512, "memory of an idle connection");
static_assert(sizeof(struct flow) % XTS_CACHELINE == 0, "whole lines");

#define flow_set(f, field, v)                                                  \
	__atomic_store_n(&(f)->field, (v), __ATOMIC_RELAXED)

struct flow_entry {
	uint32_t hash;
	uint32_t slot; /* index + 1; 0: empty */
};

struct flow_table {
	struct flow *flows;
	struct flow_ext *ext; /* of each flow */
	struct flow_entry *entries;
	uint32_t mask; /* of entries */
	uint32_t max_flows;
	uint32_t n_flows;   /* in the table */
	uint32_t high;	    /* slots used ever */
	uint32_t free_head; /* index + 1 */
	uint64_t seed[2];
};

#pragma GCC visibility push(hidden)

int flow_table_init(struct flow_table *t, uint32_t max_flows);
void flow_table_free(struct flow_table *t); /* no flow may be in use */

/* A slot filled from @p and entered: NULL with *err set if there is no room
 * (ENOSPC), the 4-tuple exists (EEXIST) or @p makes no sense (EINVAL). */
struct flow *flow_install(struct flow_table *t, const struct flow_params *p,
			  int *err);
/* Out of the table; the handle is stale from now on. */
void flow_remove(struct flow_table *t, struct flow *f);
/* The slot may be used again. Before: flow_remove(), no timer queued, no reply
 * waiting. */
void flow_free(struct flow_table *t, struct flow *f);
/* The flow of a handle, NULL if it is stale. */
struct flow *flow_by_id(const struct flow_table *t, struct flow_id id);
/* Of the receive buffer, and what follows from it; before: snd_mss, rcv_wscale.
 */
void flow_set_rx_size(struct flow *f, uint32_t size);
/* Set f->plain after a change of what it depends on. */
void flow_judge(struct flow *f);
void flow_view_fill(const struct flow *f, struct flow_view *v);
/* Build the header template. */
void flow_template_init(struct flow *f, const struct flow_params *p);

/* Both halves of a product of secrets: peers, who choose their ports and
 * addresses, can't tell which of them meet in the table. */
static inline uint64_t flow_mix(uint64_t a, uint64_t b)
{
	unsigned __int128 p = (unsigned __int128)a * b;

	return (uint64_t)p ^ (uint64_t)(p >> 64);
}

/* @addrs and @ports as they lie in an arriving IPv4 frame; for IPv6 @addrs is
 * flow_hash_v6(). */
static inline uint32_t flow_hash_words(const struct flow_table *t,
				       uint64_t addrs, uint32_t ports)
{
	return (uint32_t)flow_mix(addrs ^ t->seed[0], ports ^ t->seed[1]);
}

static inline uint64_t flow_hash_v6(const struct flow_table *t,
				    const uint8_t *local, const uint8_t *peer)
{
	uint64_t h = flow_mix(csum_load64(local) ^ t->seed[0],
			      csum_load64(peer) ^ t->seed[1]);

	return h ^ flow_mix(csum_load64(local + 8) ^ t->seed[1] ^ h,
			    csum_load64(peer + 8) ^ t->seed[0]);
}

static inline uint64_t flow_addrs(const struct conn_key *k)
{
	return csum_load32(k->peer) | (uint64_t)csum_load32(k->local) << 32;
}

static inline uint32_t flow_hash_key(const struct flow_table *t,
				     const struct conn_key *k)
{
	uint64_t addrs;

	if (k->family == AF_INET)
		addrs = flow_addrs(k);
	else
		addrs = flow_hash_v6(t, k->local, k->peer);
	return flow_hash_words(t, addrs, csum_load32(&k->pport));
}

/* Hash of an arriving FRAME_TCP: its destination is local. */
static inline uint32_t flow_hash_frame(const struct flow_table *t,
				       const struct frame *fr)
{
	uint32_t ports = csum_load32(fr->data + fr->l4);
	uint64_t addrs;

	if (__builtin_expect(!fr->v6, 1)) {
		addrs = csum_load64(fr->data + fr->l3 + 12);
	} else {
		const struct ip6_hdr *ip = frame_ip6(fr);

		addrs = flow_hash_v6(t, ip->ip6_dst.s6_addr,
				     ip->ip6_src.s6_addr);
	}
	return flow_hash_words(t, addrs, ports);
}

static inline bool flow_is_v6(const struct flow *f, const uint8_t *local,
			      const uint8_t *peer, uint32_t ports)
{
	const struct conn_key *k = &f->key;

	return csum_load32(&k->pport) == ports && k->family == AF_INET6 &&
	       !memcmp(k->local, local, 16) && !memcmp(k->peer, peer, 16);
}

static inline bool flow_is_v4(const struct flow *f, uint64_t addrs,
			      uint32_t ports)
{
	return csum_load32(&f->key.pport) == ports &&
	       f->key.family == AF_INET && f->addrs == addrs;
}

static inline bool flow_is_frame(const struct flow *f, const struct frame *fr)
{
	uint32_t ports = csum_load32(fr->data + fr->l4);

	if (fr->v6)
		return flow_is_v6(f, frame_ip6(fr)->ip6_dst.s6_addr,
				  frame_ip6(fr)->ip6_src.s6_addr, ports);
	return flow_is_v4(f, csum_load64(fr->data + fr->l3 + 12), ports);
}

static inline void flow_prefetch_entry(const struct flow_table *t, uint32_t h)
{
	__builtin_prefetch(&t->entries[h & t->mask]);
}

/* First flow with this hash, to prefetch it; NULL: none. */
static inline struct flow *flow_candidate(const struct flow_table *t,
					  uint32_t h)
{
	const struct flow_entry *e;
	uint32_t i;

	for (i = h & t->mask; (e = &t->entries[i])->slot;
	     i = (i + 1) & t->mask) {
		if (e->hash == h)
			return &t->flows[e->slot - 1];
	}
	return NULL;
}

struct flow *flow_find_frame(const struct flow_table *t, const struct frame *fr,
			     uint32_t hash);
struct flow *flow_find_key(const struct flow_table *t,
			   const struct conn_key *key);

/* Bytes in tx_buf that were never sent. */
static inline uint32_t flow_unsent(const struct flow *f)
{
	return f->tx_len - (f->snd_nxt - f->snd_una);
}

static inline uint32_t flow_rx_free(const struct flow *f)
{
	return f->rx_size - f->rx_unread;
}

/* Offset in rx_buf of rcv_nxt: the buffer starts anew when nothing is in it. */
static inline uint32_t flow_rx_pos(const struct flow *f)
{
	return f->rx_unread || f->ext->ooo.n ? f->rx_pos : 0;
}

/* Sequence number of the right edge of the advertised window. */
static inline uint32_t flow_rcv_edge(const struct flow *f)
{
	return f->rcv_wup + f->rcv_wnd;
}

#pragma GCC visibility pop

#endif
