/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rx.c - the receive burst, and segments in order
 *
 * A burst goes through stages, each over all its frames, so that the memory
 * each needs is on its way: headers, table entries, flows. The hot path is
 * rx_hot(): a segment of an open flow that starts at rcv_nxt, fits, carries the
 * options we expect, and whose acknowledgment is in range. Whatever fails its
 * condition goes to recovery_segment() unmodified; what belongs to no flow or
 * isn't TCP goes to the slow path, in order of arrival.
 *
 * The payload is copied into the program's buffer behind what it was told of,
 * summing it on the way; only when the checksum holds does anything change. A
 * wrong one leaves the flow as it was. The position in the buffer returns to 0
 * when the program has consumed everything; not while data lie behind a gap,
 * but then the flow isn't plain.
 *
 * Read first: RFC 9293 3.10.7.4, RFC 7323 section 5 (PAWS) and 4.3 (ts_recent).
 * State: the receiver's and, by acknowledgments, the sender's half of the flow.
 */
#include "fastpath/core.h"

#define TS_WORD htonl(0x0101080a) /* NOP, NOP, timestamps, 10 bytes */

#define L4_V4 (ETHER_HDR_LEN + (uint32_t)sizeof(struct iphdr))
#define L4_V6 (ETHER_HDR_LEN + (uint32_t)sizeof(struct ip6_hdr))
#define IP_LEN_V4 (ETHER_HDR_LEN + 2)
#define IP_LEN_V6 (ETHER_HDR_LEN + 4)
#define OFF_SEQ 4
#define OFF_ACK 8
#define OFF_FLAGS 12
#define OFF_WIN 14
#define OFF_OPTIONS 20
#define OFF_TSVAL 24

#define FLAG_PSH htons(0x08)

#define CE_V4 3u /* where congestion experienced lies, byte 15 of the frame */
#define CE_V6 0x30u

/* 4, 6: a whole fixed TCP header behind an IP header without options, no
 * fragment, no congestion experienced; the lengths inside are still to be
 * checked. 0: ask frame_parse(). */
static inline uint32_t rx_version(const uint8_t *d, uint32_t len)
{
	uint32_t w;

	if (unlikely(len < L4_V4 + sizeof(struct tcphdr)))
		return 0;
	w = csum_load32(d + 12);
	if (likely((w & htonl(0xffffff00)) == htonl(0x08004500) &&
		   (~w & htonl(CE_V4)) &&
		   (csum_load32(d + 20) & htonl(0x3fff00ff)) ==
			   htonl(IPPROTO_TCP)))
		return 4;
	if (len >= L4_V6 + sizeof(struct tcphdr) &&
	    (w & htonl(0xfffff000)) == htonl(0x86dd6000) &&
	    (~w & htonl(CE_V6)) && d[20] == IPPROTO_TCP)
		return 6;
	return 0;
}

static inline uint32_t rx_hash(const struct flow_table *t, const uint8_t *d,
			       bool v6)
{
	uint64_t addrs;

	if (unlikely(v6)) {
		addrs = flow_hash_v6(t, d + 38, d + 22);
		return flow_hash_words(t, addrs, csum_load32(d + L4_V6));
	}
	addrs = csum_load64(d + 26);
	return flow_hash_words(t, addrs, csum_load32(d + L4_V4));
}

static inline uint16_t load16(const uint8_t *p)
{
	uint16_t be;

	memcpy(&be, p, 2);
	return be;
}

/* Is the checksum of the IPv4 header and, with the sum of the payload, the
 * TCP one right? @th: the TCP header, @ip_len: the IP header's length field. */
static inline bool rx_checksums_ok(const struct flow *f, const uint8_t *th,
				   uint16_t ip_len, uint64_t sum, bool v6,
				   bool ts)
{
	const uint8_t *ip = th - sizeof(struct iphdr);

	sum = csum_add64(sum, (uint64_t)f->csum_base + ip_len);
	if (ts) {
		sum = csum_add_mem256(sum, th);
	} else {
		sum = csum_add_mem128(sum, th);
		sum = csum_add64(sum, csum_load32(th + 16));
	}
	if (unlikely(!csum_ok(sum)))
		return false;
	return v6 || csum_ok(csum_add_mem128(csum_load32(ip + 16), ip));
}

/* Of a plain flow: at most one segment is under way, and was sent once. */
static inline __attribute__((always_inline)) void
ack_advance(struct fp_core *c, struct flow *f, uint32_t ack)
{
	uint32_t acked = ack - f->snd_una, left = f->tx_len - acked;

	flow_set(f, snd_una, ack);
	f->tx_pos = (f->tx_pos + acked) & (f->tx_size - 1);
	f->tx_len = left;
	f->pend_credits += acked;
	if (likely(ack == f->snd_nxt)) {
		loss_rtt_ns(f, c->now_ns - f->sent_ns);
		f->rto_at = 0;
	} else {
		timers_set_rto(c, f, c->now_ns + loss_rto_ns(f));
	}
}

/* Data that passed every check and lie in the buffer at @pos. */
static inline void rx_deliver(struct fp_core *c, struct flow *f, uint32_t pos,
			      uint32_t len)
{
	if (!f->pend_len)
		f->pend_off = pos;
	f->pend_len += len;
	f->rx_unread += len;
	f->rx_pos = (pos + len) & (f->rx_size - 1);
	flow_set(f, rcv_nxt, f->rcv_nxt + len);
	f->rcv_ns = c->now_ns;
	if (!f->ack_at) {
		f->ack_at = c->now_ns + DELACK_NS;
		timers_queue(&c->timers, f, f->ack_at);
	}
}

/* Nothing to send: the program's answer is to come, and will acknowledge. */
static inline bool rx_settled(const struct flow *f)
{
	uint32_t unacked = f->rcv_nxt - f->rcv_wup;

	return (likely(!f->tx_len) || !flow_unsent(f)) &&
	       unacked <= f->rcv_mss && (likely(f->pingpong) || !unacked);
}

/* Data in order, an acknowledgment or both were taken. */
static inline void rx_taken(struct fp_core *c, struct flow *f, uint32_t len)
{
	if (likely(len || flow_has_reply(f)))
		flow_tell(c, f);
	if (unlikely(!rx_settled(f))) {
		/* No segment that is larger comes by here as settled. */
		if (len > f->rcv_mss)
			f->rcv_mss = len;
		flow_list(c, f);
	}
	COUNT(c, rx_hot);
	if (unlikely(f->shut_wr && f->tx_len == 0))
		recovery_drained(c, f);
}

/* A segment of @f in the frame @d, whose addresses and ports were compared; f
 * is plain. @hdr_len, @v6 and @ts are the flow's; the compiler knows them where
 * it matters. true: taken, or dropped for its checksum. */
static inline __attribute__((always_inline)) bool
rx_hot(struct fp_core *c, struct flow *f, const uint8_t *d, uint32_t frame_len,
       const uint32_t hdr_len, const bool v6, const bool ts)
{
	const uint8_t *th = d + (v6 ? L4_V6 : L4_V4);
	uint16_t ip_len = load16(d + (v6 ? IP_LEN_V6 : IP_LEN_V4));
	uint32_t end = ntohs(ip_len) + (v6 ? L4_V6 : ETHER_HDR_LEN);
	uint32_t len = end - hdr_len, pos, unread = f->rx_unread;
	uint32_t seq = ntohl(csum_load32(th + OFF_SEQ));
	uint32_t ack = ntohl(csum_load32(th + OFF_ACK));
	uint64_t sum = 0;

	/* All that makes a segment plain: no flag but ACK and PSH, the usual
	 * length of the header, next in order, all there (a @len below 0 is
	 * more than any buffer holds), inside buffer and window, acknowledges
	 * what was sent, the usual options, time doesn't run backwards, and it
	 * says something new. */
	if (unlikely(!((load16(th + OFF_FLAGS) & ~FLAG_PSH) == f->hot_word &&
		       seq == f->rcv_nxt && end <= frame_len &&
		       len <= f->rx_size - unread &&
		       len <= flow_rcv_edge(f) - seq &&
		       ack - f->snd_una <= f->snd_nxt - f->snd_una &&
		       (!ts || (csum_load32(th + OFF_OPTIONS) == TS_WORD &&
				(int32_t)(ntohl(csum_load32(th + OFF_TSVAL)) -
					  f->ts_recent) >= 0)) &&
		       (len || ack != f->snd_una))))
		return false;

	pos = unread ? f->rx_pos : 0;
	if (likely(len))
		sum = csum_copy_into(f->rx_buf, f->rx_size, pos, d + hdr_len,
				     len);
	if (unlikely(!rx_checksums_ok(f, th, ip_len, sum, v6, ts))) {
		COUNT(c, rx_bad_checksum);
		return true;
	}
	/* rcv_wup, the last ACK sent, is never ahead of rcv_nxt. */
	if (ts && seq == f->rcv_wup) {
		flow_set(f, ts_recent, ntohl(csum_load32(th + OFF_TSVAL)));
		f->ts_recent_ms = c->now_ms;
	}
	f->snd_wnd = (uint32_t)ntohs(load16(th + OFF_WIN)) << f->snd_wscale;
	f->snd_wl1 = seq;
	if (ack != f->snd_una)
		ack_advance(c, f, ack);
	if (likely(len))
		rx_deliver(c, f, pos, len);
	rx_taken(c, f, len);
	return true;
}

/* Plain segments over IPv6, or without timestamps. */
static noinline bool rx_hot_other(struct fp_core *c, struct flow *f,
				  const uint8_t *d, uint32_t len,
				  uint32_t version)
{
	if (!f->plain)
		return false;
	if (version == 6)
		return flow_is_v6(f, d + 38, d + 22, csum_load32(d + L4_V6)) &&
		       rx_hot(c, f, d, len, f->hdr_len, true, f->timestamps);
	return flow_is_v4(f, csum_load64(d + 26), csum_load32(d + L4_V4)) &&
	       rx_hot(c, f, d, len, f->hdr_len, false, f->timestamps);
}

static void exception(struct fp_core *c, const struct frame *fr,
		      enum frame_kind kind)
{
	if (kind == FRAME_BAD)
		COUNT(c, rx_bad_frame);
	else
		event_frame(c, NULL, fr->data, fr->len);
}

/* What the hot path doesn't take. @hold: keep it if its flow is in hold. */
static noinline void rx_cold(struct fp_core *c, uint8_t *d, uint32_t len,
			     bool hold)
{
	struct flow *f = NULL;
	struct frame fr;
	enum frame_kind kind = frame_parse(&fr, d, len);

	if (kind == FRAME_TCP)
		f = flow_find_frame(&c->flows, &fr,
				    flow_hash_frame(&c->flows, &fr));
	if (!f)
		exception(c, &fr, kind);
	else if (hold && f->state == FLOW_HOLD)
		hold_add(c, f, d, len);
	else
		recovery_segment(c, f, &fr);
}

/* @f: a guess until the key was compared; another flow with the same hash is
 * served by the cold code. NULL: none. */
static inline __attribute__((always_inline)) void
rx_one(struct fp_core *c, uint8_t *d, uint32_t len, uint32_t version,
       struct flow *f)
{
	if (likely(f && version == 4 && f->plain == FLOW_HDR_HOT &&
		   f->addrs == csum_load64(d + 26) &&
		   csum_load32(&f->key.pport) == csum_load32(d + L4_V4))) {
		if (likely(rx_hot(c, f, d, len, FLOW_HDR_HOT, false, true)))
			return;
	} else if (f && rx_hot_other(c, f, d, len, version)) {
		return;
	}
	rx_cold(c, d, len, true);
}

static noinline void rx_many(struct fp_core *c, const struct queue_frame *q,
			     unsigned int n)
{
	struct flow *flow[QUEUE_BURST];
	uint32_t hash[QUEUE_BURST];
	uint8_t version[QUEUE_BURST];
	unsigned int i;

	for (i = 1; i < n; i++)
		__builtin_prefetch(q[i].data);
	for (i = 0; i < n; i++) {
		version[i] = rx_version(q[i].data, q[i].len);
		if (unlikely(!version[i]))
			continue;
		hash[i] = rx_hash(&c->flows, q[i].data, version[i] == 6);
		flow_prefetch_entry(&c->flows, hash[i]);
	}
	for (i = 0; i < n; i++) {
		flow[i] = NULL;
		if (likely(version[i]))
			flow[i] = flow_candidate(&c->flows, hash[i]);
		if (unlikely(!flow[i]))
			continue;
		__builtin_prefetch(flow[i]);
		__builtin_prefetch(&flow[i]->rcv_nxt);
		__builtin_prefetch(&flow[i]->snd_una);
	}
	for (i = 0; i < n; i++)
		rx_one(c, q[i].data, q[i].len, version[i], flow[i]);
}

void rx_burst(struct fp_core *c, const struct queue_frame *q, unsigned int n)
{
	uint8_t *d = q->data;
	uint32_t version;
	struct flow *f = NULL;

	if (n > 1) {
		rx_many(c, q, n);
		return;
	}
	version = rx_version(d, q->len);
	if (likely(version))
		f = flow_candidate(&c->flows,
				   rx_hash(&c->flows, d, version == 6));
	rx_one(c, d, q->len, version, f);
}

void rx_frame(struct fp_core *c, uint8_t *data, uint32_t len, bool hold)
{
	rx_cold(c, data, len, hold);
}
