/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core.h - what the fuzz targets that run a fast-path core share
 *
 * Segments of a peer, and what must hold of a flow after every turn and of
 * every frame that it sends. Payload is a pattern of the byte's place in its
 * stream, so that a byte at a wrong place is seen.
 */
#ifndef TESTS_FUZZ_CORE_H
#define TESTS_FUZZ_CORE_H

#include "fastpath/core.h"
#include "tests/fuzz/fuzz.h"

#define SEGMENT_MAX 2048u

static inline uint8_t pattern(uint32_t pos)
{
	return (uint8_t)(pos * 31 + (pos >> 8) + 7);
}

static inline void put_be32(uint8_t *p, uint32_t v)
{
	v = htonl(v);
	memcpy(p, &v, 4);
}

static inline uint32_t get_be32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, 4);
	return ntohl(v);
}

/* ---- segments of the peer --------------------------------------------------
 */

struct made {
	const struct conn_key *key; /* seen from this host */
	uint32_t seq, ack, len;
	uint32_t isn; /* seq of the first byte */
	uint16_t wnd, urg;
	uint8_t flags, tos;
	uint8_t opts[40];
	uint32_t n_opts; /* bytes, whole words */
};

static inline uint32_t made_ip(const struct made *m, uint8_t *b, uint32_t l4)
{
	struct ip6_hdr *ip6 = (struct ip6_hdr *)(b + ETH_HLEN);
	struct iphdr *ip = (struct iphdr *)(b + ETH_HLEN);

	if (m->key->family == AF_INET6) {
		b[12] = ETHERTYPE_IPV6 >> 8;
		b[13] = ETHERTYPE_IPV6 & 0xff;
		ip6->ip6_flow = htonl(6u << 28 | (uint32_t)m->tos << 20);
		ip6->ip6_plen = htons((uint16_t)l4);
		ip6->ip6_nxt = IPPROTO_TCP;
		ip6->ip6_hlim = 3;
		memcpy(&ip6->ip6_src, m->key->peer, 16);
		memcpy(&ip6->ip6_dst, m->key->local, 16);
		return ETH_HLEN + sizeof(*ip6);
	}
	b[12] = ETHERTYPE_IP >> 8;
	b[13] = ETHERTYPE_IP & 0xff;
	ip->version = 4;
	ip->ihl = 5;
	ip->tos = m->tos;
	ip->tot_len = htons((uint16_t)(sizeof(*ip) + l4));
	ip->ttl = 3;
	ip->protocol = IPPROTO_TCP;
	memcpy(&ip->saddr, m->key->peer, 4);
	memcpy(&ip->daddr, m->key->local, 4);
	return ETH_HLEN + sizeof(*ip);
}

/* The segment in @b, of SEGMENT_MAX bytes; its length. Checksums are right. */
static inline uint32_t made_build(const struct made *m, uint8_t *b)
{
	uint32_t hlen = (uint32_t)sizeof(struct tcphdr) + m->n_opts, at, i;
	struct tcphdr *th;
	struct frame f;

	memset(b, 0, 128);
	at = made_ip(m, b, hlen + m->len);
	th = (struct tcphdr *)(b + at);
	th->source = m->key->pport;
	th->dest = m->key->lport;
	th->seq = htonl(m->seq);
	th->ack_seq = htonl(m->ack);
	th->doff = hlen / 4 & 15;
	b[at + 13] = m->flags;
	th->window = htons(m->wnd);
	th->urg_ptr = htons(m->urg);
	memcpy(th + 1, m->opts, m->n_opts);
	at += hlen;
	for (i = 0; i < m->len; i++)
		b[at + i] = pattern(m->seq + i - m->isn);
	require(frame_parse(&f, b, at + m->len) == FRAME_TCP);
	frame_set_checksums(&f);
	return at + m->len;
}

static inline void made_timestamps(struct made *m, uint32_t val, uint32_t ecr)
{
	uint8_t *p = m->opts + m->n_opts;

	put_be32(p, 0x0101080a);
	put_be32(p + 4, val);
	put_be32(p + 8, ecr);
	m->n_opts += 12;
}

/* ---- the flow --------------------------------------------------------------
 */

/* In order, disjoint, not touching, above rcv_nxt, inside window and buffer;
 * what lies there is what the peer, whose first byte was @irs, sent. */
static inline void check_ranges(const struct flow *f, uint32_t irs)
{
	const struct reassembly *r = &f->ext->ooo;
	uint32_t last = f->rcv_nxt, i, seq, at;

	require(r->n <= REASSEMBLY_MAX);
	for (i = 0; i < r->n; i++) {
		require(seq_gt(r->range[i].start, last));
		last = r->range[i].end;
		require(seq_gt(last, r->range[i].start));
		for (seq = r->range[i].start; seq != last; seq++) {
			at = f->rx_pos + seq - f->rcv_nxt;
			require(f->rx_buf[at & (f->rx_size - 1)] ==
				pattern(seq - irs));
		}
	}
	if (!r->n)
		return;
	require(seq_leq(last, flow_rcv_edge(f)));
	require(last - f->rcv_nxt <= flow_rx_free(f));
	require(!f->rcv_fin);
}

static inline void check_sizes(const struct flow *f)
{
	require(f->tx_size && !(f->tx_size & (f->tx_size - 1)));
	require(f->rx_size && !(f->rx_size & (f->rx_size - 1)));
	require(f->snd_nxt - f->snd_una <= f->tx_len);
	require(f->tx_len <= f->tx_size && f->tx_pos < f->tx_size);
	require(f->rx_unread <= f->rx_size && f->pend_len <= f->rx_unread);
	require(f->rx_pos < f->rx_size);
}

/* What must hold between two turns of a flow that is there. */
static inline void check_flow(const struct flow *f)
{
	check_sizes(f);
	require(f->cwnd >= 1 && f->cwnd <= CC_CWND_MAX);
	require(f->snd_mss >= 32 && f->cc && f->ext);
	require(f->rto_us >= RTO_MIN_US && f->rto_us <= RTO_MAX_US);
	require(!f->rto_at || f->timer_at);
	require(!f->ack_at || f->timer_at);
	require(!f->ext->wait_at || f->timer_at);
	require(!f->plain ||
		(f->state == FLOW_OPEN && !reassembly_busy(&f->ext->ooo) &&
		 !f->ece && !f->rcv_fin && !f->snd_fin && !f->closing &&
		 !f->persist && !f->backoff && !f->cork && !f->more));
	require(loss_valid(f));
	if (f->state != FLOW_OPEN)
		return;
	/* Something is under way: a timer must be running. */
	require(f->snd_una == f->snd_nxt || f->rto_at);
	/* Of a window that is closed nobody else would tell. */
	require(!f->persist || f->rto_at);
	require(f->listed || f->persist || f->snd_wnd || !f->tx_len ||
		f->rto_at);
}

/* ---- what it sends ---------------------------------------------------------
 */

/* Blocks that a frame of the flow reports; the option fills the header. */
static inline unsigned int sent_sacks(const struct frame *f, bool timestamps,
				      struct sack_block *out)
{
	uint32_t at = f->l4 + (timestamps ? 32u : 20u), n, i;

	if (timestamps)
		require(get_be32(f->data + f->l4 + 20) == 0x0101080a);
	if (at == f->payload)
		return 0;
	require(get_be32(f->data + at) >> 8 == 0x010105);
	n = (f->data[at + 3] - 2u) / 8;
	require(n >= 1 && n <= SEG_SACK_MAX);
	require(at + 4 + 8 * n == f->payload);
	for (i = 0, at += 4; i < n; i++, at += 8) {
		out[i].start = get_be32(f->data + at);
		out[i].end = get_be32(f->data + at + 4);
		require(seq_lt(out[i].start, out[i].end));
	}
	return n;
}

/* A whole segment of the connection with right checksums. */
static inline void sent_parse(struct frame *f, uint8_t *data, uint32_t len,
			      const struct conn_key *key)
{
	struct conn_key k;

	require(frame_parse(f, data, len) == FRAME_TCP);
	require(f->payload + f->payload_len == len);
	require(frame_tcp_checksum_ok(f));
	require(f->v6 ||
		!csum_fold(csum_add(frame_ip4(f), sizeof(struct iphdr), 0)));
	frame_key(f, false, &k);
	require(!memcmp(&k, key, sizeof(k)));
}

#endif
