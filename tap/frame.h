/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * frame.h - one Ethernet frame seen as headers: parse, name, checksum
 *
 * The only parser of frames in the service; fast path and slow path share it.
 * frame_parse() checks every length before it reads: after FRAME_TCP the
 * Ethernet, IP and TCP headers, TCP options included, lie inside the buffer and
 * the payload length is what the IP header says (Ethernet padding excluded).
 * It checks no checksum: the fast path folds the TCP one into its copy, and
 * Linux checks all others.
 *
 * Read first: RFC 791 3.1, RFC 8200 3 and 4, RFC 9293 3.1, RFC 1071.
 * State: none. All multi-byte values keep network byte order unless a field's
 * type says otherwise.
 */
#ifndef TAP_FRAME_H
#define TAP_FRAME_H

#include <linux/types.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <arpa/inet.h>

/* A connection, seen from this host: who is local, who the peer. */
struct conn_key {
	uint8_t local[16]; /* IPv4: the first four bytes, the rest zero */
	uint8_t peer[16];
	__be16 pport; /* the ports lie as in an arriving segment */
	__be16 lport;
	uint32_t family; /* AF_INET or AF_INET6 */
};

enum frame_kind {
	FRAME_BAD,   /* too short, or its lengths contradict each other */
	FRAME_OTHER, /* ARP, UDP, ICMP, fragments, extension headers... */
	FRAME_TCP,   /* a whole TCP segment without IP options */
};

struct frame {
	uint8_t *data;
	uint32_t len;	  /* of the frame as captured */
	uint16_t l3;	  /* offset of the IP header */
	uint16_t l4;	  /* offset of the TCP header */
	uint16_t payload; /* offset of the payload */
	uint16_t payload_len;
	bool v6;
};

static inline struct iphdr *frame_ip4(const struct frame *f)
{
	return (struct iphdr *)(f->data + f->l3);
}

static inline struct ip6_hdr *frame_ip6(const struct frame *f)
{
	return (struct ip6_hdr *)(f->data + f->l3);
}

static inline struct tcphdr *frame_tcp(const struct frame *f)
{
	return (struct tcphdr *)(f->data + f->l4);
}

static inline enum frame_kind frame_parse_tcp(struct frame *f, uint32_t l4_len)
{
	const struct tcphdr *th = frame_tcp(f);
	uint32_t hlen;

	if (l4_len < sizeof(*th))
		return FRAME_BAD;
	hlen = th->doff * 4u;
	if (hlen < sizeof(*th) || hlen > l4_len)
		return FRAME_BAD;
	f->payload = f->l4 + hlen;
	f->payload_len = l4_len - hlen;
	return FRAME_TCP;
}

static inline enum frame_kind frame_parse_ip4(struct frame *f)
{
	const struct iphdr *ip = frame_ip4(f);
	uint32_t tot;

	if (f->len < f->l3 + sizeof(*ip) || ip->version != 4 || ip->ihl < 5)
		return FRAME_BAD;
	tot = ntohs(ip->tot_len);
	if (tot < ip->ihl * 4u || f->l3 + tot > f->len)
		return FRAME_BAD;
	if (ip->ihl != 5 || ip->protocol != IPPROTO_TCP ||
	    (ip->frag_off & htons(IP_MF | IP_OFFMASK)))
		return FRAME_OTHER;
	f->v6 = false;
	f->l4 = f->l3 + sizeof(*ip);
	return frame_parse_tcp(f, tot - sizeof(*ip));
}

static inline enum frame_kind frame_parse_ip6(struct frame *f)
{
	const struct ip6_hdr *ip = frame_ip6(f);
	uint32_t plen;

	if (f->len < f->l3 + sizeof(*ip) || (ip->ip6_vfc & 0xf0) != 0x60)
		return FRAME_BAD;
	plen = ntohs(ip->ip6_plen);
	if (f->l3 + sizeof(*ip) + plen > f->len)
		return FRAME_BAD;
	if (ip->ip6_nxt != IPPROTO_TCP)
		return FRAME_OTHER;
	f->v6 = true;
	f->l4 = f->l3 + sizeof(*ip);
	return frame_parse_tcp(f, plen);
}

/* Fill @f from @len bytes at @data. Only FRAME_TCP fills l4 and payload. */
static inline enum frame_kind frame_parse(struct frame *f, void *data,
					  uint32_t len)
{
	const struct ether_header *eth = data;

	f->data = data;
	f->len = len;
	f->l3 = sizeof(*eth);
	if (len < sizeof(*eth))
		return FRAME_BAD;
	if (eth->ether_type == htons(ETHERTYPE_IP))
		return frame_parse_ip4(f);
	if (eth->ether_type == htons(ETHERTYPE_IPV6))
		return frame_parse_ip6(f);
	return FRAME_OTHER;
}

/* The connection of a FRAME_TCP; @inbound: its destination is local. */
static inline void frame_key(const struct frame *f, bool inbound,
			     struct conn_key *key)
{
	const struct tcphdr *th = frame_tcp(f);
	const void *src, *dst;
	size_t alen;

	memset(key, 0, sizeof(*key));
	if (f->v6) {
		src = &frame_ip6(f)->ip6_src;
		dst = &frame_ip6(f)->ip6_dst;
		alen = 16;
		key->family = AF_INET6;
	} else {
		src = &frame_ip4(f)->saddr;
		dst = &frame_ip4(f)->daddr;
		alen = 4;
		key->family = AF_INET;
	}
	memcpy(key->local, inbound ? dst : src, alen);
	memcpy(key->peer, inbound ? src : dst, alen);
	key->lport = inbound ? th->dest : th->source;
	key->pport = inbound ? th->source : th->dest;
}

/* ---- Internet checksum (RFC 1071) ---------------------------------------- */

/* Sum of @len bytes onto @sum; the result stays unfolded. */
static inline uint64_t csum_add(const void *data, size_t len, uint64_t sum)
{
	const uint8_t *p = data;
	uint32_t w;
	uint16_t h;

	for (; len >= 4; len -= 4, p += 4) {
		memcpy(&w, p, 4);
		sum += w;
	}
	if (len >= 2) {
		memcpy(&h, p, 2);
		sum += h;
		p += 2;
		len -= 2;
	}
	if (len) {
		h = 0;
		memcpy(&h, p, 1);
		sum += h;
	}
	return sum;
}

static inline uint16_t csum_fold(uint64_t sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* Sum of the pseudo header of a TCP segment of @l4_len bytes. */
static inline uint64_t csum_pseudo(const struct frame *f, uint32_t l4_len)
{
	uint64_t sum = htons(IPPROTO_TCP);

	sum += htonl(l4_len);
	if (f->v6)
		return csum_add(&frame_ip6(f)->ip6_src, 32, sum);
	return csum_add(&frame_ip4(f)->saddr, 8, sum);
}

/* Write the TCP checksum (and for IPv4 the header's) of a FRAME_TCP anew. */
static inline void frame_set_checksums(const struct frame *f)
{
	struct tcphdr *th = frame_tcp(f);
	uint32_t l4_len = f->payload - f->l4 + f->payload_len;

	th->check = 0;
	th->check = csum_fold(csum_add(th, l4_len, csum_pseudo(f, l4_len)));
	if (!f->v6) {
		struct iphdr *ip = frame_ip4(f);

		ip->check = 0;
		ip->check = csum_fold(csum_add(ip, sizeof(*ip), 0));
	}
}

/* Does the TCP checksum of a FRAME_TCP hold? */
static inline bool frame_tcp_checksum_ok(const struct frame *f)
{
	uint32_t l4_len = f->payload - f->l4 + f->payload_len;

	return csum_fold(csum_add(frame_tcp(f), l4_len,
				  csum_pseudo(f, l4_len))) == 0;
}

/* ---- sequence numbers (RFC 9293 3.4) --------------------------------------
 */

static inline bool seq_lt(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) < 0;
}

static inline bool seq_leq(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) <= 0;
}

static inline bool seq_gt(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) > 0;
}

static inline bool seq_geq(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) >= 0;
}

#endif
