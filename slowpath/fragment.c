/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fragment.c - TCP segments that arrive in IP fragments
 *
 * A router that ignores DF, or a peer that does not set it, may cut a segment
 * of an offloaded connection to pieces. Linux must not put them together: what
 * comes out carries the wire's sequence numbers, which mean something else in
 * Linux's space, in the worst case data that it has yet to receive. And only
 * the first piece has ports, so the pieces can't be sorted by connection. So
 * all of TCP's are put together here, and the segment then goes where one in a
 * single frame would have gone.
 *
 * As strict as Linux: pieces that overlap end the datagram (RFC 5722; an exact
 * duplicate is ignored), the first one of IPv6 has all headers (RFC 8200
 * section 4.5), and the datagram has FRAGMENT_NS. One that would not fit a
 * frame is dropped: no peer that heeds our MSS sends one. If a piece carries
 * CE, the whole does (RFC 3168 section 5.3); capable of ECN are all pieces or
 * none, else it is dropped. IPv4 with options and IPv6 with further extension
 * headers are left to Linux, as are such segments unfragmented.
 *
 * State: FRAGMENT_SETS datagrams, the oldest gives way: a flood of pieces costs
 * other fragmented segments, nothing else. One thread.
 */
#include "slowpath/fragment.h"

#include <stdlib.h>

#define FRAGMENT_SETS 64u
#define FRAGMENT_NS UINT64_C(30000000000) /* net.ipv4.ipfrag_time */
#define UNIT 8u				  /* offsets count these */
#define UNITS (FP_FRAME_MAX / UNIT)
#define ECN_MASK 0x3
#define ECN_CE 0x3
#define ECN_SEEN(ecn) (uint8_t)(1u << (ecn))

struct key {
	uint32_t v6; /* 0 or 1: as wide as leaves no padding */
	uint8_t src[16], dst[16];
	uint32_t id;
};

struct set {
	struct key key;
	uint64_t born_ns; /* 0: unused */
	uint32_t total;	  /* payload bytes; 0: the last piece is missing */
	uint32_t units;	  /* that are here */
	uint8_t ecn;	  /* ECN_SEEN() of all pieces */
	uint64_t have[(UNITS + 63) / 64];
	/* The header of the first piece, then the payload. */
	alignas(XTS_CACHELINE) uint8_t frame[FP_FRAME_MAX];
};

struct fragments {
	struct set sets[FRAGMENT_SETS];
};

/* One piece, as it lies in its frame. */
struct piece {
	struct key key;
	const uint8_t *data; /* of its payload */
	uint32_t hdr;	     /* bytes of the header of the whole */
	uint32_t off, len;   /* of its payload */
	bool more;
	uint8_t ecn;
};

struct fragments *fragments_new(void)
{
	return calloc(1, sizeof(struct fragments));
}

void fragments_free(struct fragments *fr)
{
	free(fr);
}

/* ---- reading ---------------------------------------------------------------
 */

static bool read_ip4(const uint8_t *data, uint32_t len, struct piece *p)
{
	const struct iphdr *ip = (const void *)(data + ETH_HLEN);
	uint32_t tot, frag;

	if (len < ETH_HLEN + sizeof(*ip) || ip->version != 4 || ip->ihl != 5 ||
	    ip->protocol != IPPROTO_TCP ||
	    !(ip->frag_off & htons(IP_MF | IP_OFFMASK)) ||
	    csum_fold(csum_add(ip, sizeof(*ip), 0)))
		return false;
	tot = ntohs(ip->tot_len);
	if (tot <= sizeof(*ip) || tot > len - ETH_HLEN)
		return false;
	frag = ntohs(ip->frag_off);
	memcpy(p->key.src, &ip->saddr, 4);
	memcpy(p->key.dst, &ip->daddr, 4);
	p->key.id = ip->id;
	p->hdr = ETH_HLEN + sizeof(*ip);
	p->data = data + p->hdr;
	p->off = (frag & IP_OFFMASK) * UNIT;
	p->len = tot - sizeof(*ip);
	p->more = frag & IP_MF;
	p->ecn = ip->tos & ECN_MASK;
	return true;
}

static bool read_ip6(const uint8_t *data, uint32_t len, struct piece *p)
{
	const struct ip6_hdr *ip = (const void *)(data + ETH_HLEN);
	struct ip6_frag fh;
	uint32_t plen;

	if (len < ETH_HLEN + sizeof(*ip) + sizeof(fh) ||
	    (ip->ip6_vfc & 0xf0) != 0x60 || ip->ip6_nxt != IPPROTO_FRAGMENT)
		return false;
	plen = ntohs(ip->ip6_plen);
	memcpy(&fh, ip + 1, sizeof(fh));
	if (plen <= sizeof(fh) || plen > len - ETH_HLEN - sizeof(*ip) ||
	    fh.ip6f_nxt != IPPROTO_TCP)
		return false;
	memcpy(p->key.src, &ip->ip6_src, 16);
	memcpy(p->key.dst, &ip->ip6_dst, 16);
	p->key.v6 = 1;
	p->key.id = fh.ip6f_ident;
	p->hdr = ETH_HLEN + sizeof(*ip);
	p->data = data + p->hdr + sizeof(fh);
	p->off = ntohs(fh.ip6f_offlg & IP6F_OFF_MASK);
	p->len = plen - sizeof(fh);
	p->more = fh.ip6f_offlg & IP6F_MORE_FRAG;
	p->ecn = ntohl(ip->ip6_flow) >> 20 & ECN_MASK;
	return true;
}

static bool read_piece(const uint8_t *data, uint32_t len, struct piece *p)
{
	const struct ether_header *eth = (const void *)data;

	memset(p, 0, sizeof(*p));
	if (len < sizeof(*eth))
		return false;
	if (eth->ether_type == htons(ETHERTYPE_IP))
		return read_ip4(data, len, p);
	if (eth->ether_type == htons(ETHERTYPE_IPV6))
		return read_ip6(data, len, p);
	return false;
}

/* ---- putting together ------------------------------------------------------
 */

static struct set *find_set(struct fragments *fr, const struct key *key,
			    uint64_t now_ns)
{
	struct set *oldest = fr->sets;

	for (struct set *s = fr->sets; s < fr->sets + FRAGMENT_SETS; s++) {
		if (s->born_ns && now_ns - s->born_ns > FRAGMENT_NS)
			s->born_ns = 0;
		if (s->born_ns && !memcmp(&s->key, key, sizeof(*key)))
			return s;
		if (s->born_ns < oldest->born_ns)
			oldest = s;
	}
	memset(oldest, 0, offsetof(struct set, frame));
	oldest->key = *key;
	oldest->born_ns = now_ns;
	return oldest;
}

/* How many of the piece's units are here already; with @mark they are then. */
static uint32_t units_here(struct set *s, uint32_t first, uint32_t n, bool mark)
{
	uint32_t here = 0;

	for (uint32_t i = first; i < first + n; i++) {
		here += s->have[i / 64] >> i % 64 & 1;
		if (mark)
			s->have[i / 64] |= UINT64_C(1) << i % 64;
	}
	return here;
}

/* false: the datagram makes no sense. */
static bool add(struct set *s, const struct piece *p, const uint8_t *data)
{
	uint32_t n = (p->len + UNIT - 1) / UNIT, here, end = p->off + p->len;
	uint32_t last = p->off / UNIT + n;

	if (end > FP_FRAME_MAX - p->hdr || (p->more && p->len % UNIT) ||
	    (s->total && end > s->total) ||
	    (!p->more && s->total && end != s->total))
		return false;
	here = units_here(s, p->off / UNIT, n, false);
	if (here == n)
		return true; /* again */
	/* Overlaps, or is the last one and others lie behind it. */
	if (here || (!p->more && units_here(s, last, UNITS - last, false)))
		return false;
	units_here(s, p->off / UNIT, n, true);
	s->units += n;
	s->ecn |= ECN_SEEN(p->ecn);
	if (!p->more)
		s->total = end;
	if (p->off == 0)
		memcpy(s->frame, data, p->hdr);
	memcpy(s->frame + p->hdr + p->off, p->data, p->len);
	return true;
}

/* Linux's ip_frag_ecn_table. */
static bool ecn_agrees(const struct set *s)
{
	return !(s->ecn & ECN_SEEN(0)) || s->ecn == ECN_SEEN(0);
}

static void finish(struct set *s)
{
	bool ce = s->ecn & ECN_SEEN(ECN_CE);

	if (s->key.v6) {
		struct ip6_hdr *ip = (void *)(s->frame + ETH_HLEN);

		ip->ip6_plen = htons((uint16_t)s->total);
		ip->ip6_nxt = IPPROTO_TCP;
		if (ce)
			ip->ip6_flow |= htonl(ECN_CE << 20);
	} else {
		struct iphdr *ip = (void *)(s->frame + ETH_HLEN);

		ip->tot_len = htons((uint16_t)(sizeof(*ip) + s->total));
		ip->frag_off = 0;
		if (ce)
			ip->tos |= ECN_CE;
		ip->check = 0;
		ip->check = csum_fold(csum_add(ip, sizeof(*ip), 0));
	}
}

enum fragment_is fragment_take(struct fragments *fr, uint64_t now_ns,
			       const uint8_t *data, uint32_t len,
			       const uint8_t **frame, uint32_t *frame_len)
{
	struct piece p;
	struct set *s;

	if (!read_piece(data, len, &p))
		return FRAGMENT_NOT;
	if (p.key.v6 && !p.off && p.len < sizeof(struct tcphdr))
		return FRAGMENT_KEPT;
	s = find_set(fr, &p.key, now_ns);
	if (!add(s, &p, data)) {
		s->born_ns = 0;
		return FRAGMENT_KEPT;
	}
	if (!s->total || s->units < (s->total + UNIT - 1) / UNIT)
		return FRAGMENT_KEPT;
	s->born_ns = 0;
	if (!ecn_agrees(s))
		return FRAGMENT_KEPT;
	finish(s);
	*frame = s->frame;
	*frame_len = p.hdr + s->total;
	return FRAGMENT_WHOLE;
}
