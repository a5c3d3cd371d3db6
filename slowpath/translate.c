/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * translate.c - between Linux's sequence space and the wire's
 *
 * When a connection is offloaded both spaces agree: Linux's snd_nxt is
 * snd_base, its rcv_nxt is rcv_base. From then on Linux stands still, while the
 * fast path moves the wire. A flow_view counts data only, so the distance of
 * the two spaces is
 *
 *	ds = snd_nxt - snd_base		what the fast path sent
 *	dr = rcv_nxt - rcv_base		what the fast path received
 *
 * and a FIN, which both spaces count, needs no case of its own: ours sits at
 * snd_base in Linux and at snd_nxt on the wire, the peer's at rcv_base and
 * rcv_nxt. A half-closed connection still moves one of the distances; a FIN
 * that is sent again afterwards is translated with the numbers of that moment.
 *
 * Linux to wire: seq += ds, ack += dr, SACK blocks += dr. A probe below
 * snd_base lands below snd_una instead, where the peer has to answer it even
 * while data of the fast path's are in flight. A RST of a connection of which
 * Linux still had data to send is below snd_base, too: it takes the number that
 * the peer expects, snd_nxt. (A RST that answers a segment has no ACK, and the
 * number that the segment named.) TSval is the clock's, so that segments of
 * both origins keep one order; TSecr and the window are the flow's.
 *
 * Wire to Linux: seq -= dr, ack -= ds, SACK blocks -= ds. What the fast path
 * carried does not exist in Linux's space, it is one point there:
 *   - a SACK block of it has no place there and becomes padding;
 *   - payload below rcv_nxt is cut off, an urgent pointer into it is none any
 *     more; what is older still ends at rcv_base -
 *     1, an old segment that Linux answers and conntrack accepts;
 *   - a segment without payload ahead of rcv_nxt (data before it were lost or
 *     are on their way) would lie outside of the window that Linux advertised,
 *     which is smaller: it is moved to rcv_base, a RST one further, so that
 *     Linux challenges it (RFC 5961 section 3.2). One ahead is behind a FIN;
 *   - an ack of the fast path's data becomes snd_base, or less while Linux
 *     still sends what it had to at the offload. Acks older than
 *     OLD_ACK_MAX stay old: that is the check of RFC 5961 section 5.2.
 * ECE, CWR and the IP header's ECN field pass as they are, both ways: a mark on
 * a segment that Linux answers is Linux's to echo, an echo that comes with a
 * FIN finds nothing of Linux's to slow down.
 *
 * After a RST of Linux's nobody takes data of the peer's any more: all that was
 * in flight is moved to rcv_base, too. And an ack is not clamped: a peer that
 * did not take the RST (data in flight) challenges it, and Linux's second RST
 * must carry the number that the peer named (RFC 5961 section 3.2).
 *
 * ICMP errors are matched by the quoted sequence number (RFC 5927 section 4):
 * one in [snd_una, snd_nxt] becomes snd_base, every other stays outside.
 *
 * Everything here comes from the network: a struct frame has been through
 * frame_parse(); ICMP is parsed here, each length before its use. Numbers are
 * read and written byte by byte, for headers are not aligned. A segment of the
 * peer's or an ICMP error that arrived with a wrong checksum leaves with a
 * wrong one, so that Linux still drops and counts it.
 *
 * Read first: RFC 9293 3.4 and 3.10.7, RFC 7323, RFC 2018, RFC 5961, RFC 5927,
 * RFC 1624 (checksums).
 */
#include "slowpath/translate.h"

#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>

#define OLD_ACK_MAX (1u << 20)
#define SACK_BLOCK 8u
#define ICMP_HDR 8u
#define EXT_HDRS_MAX 8	  /* IPv6 extension headers walked over */
#define TCP_QUOTED_MIN 8u /* ports and sequence number (RFC 792) */
#define TCP_SEQ_OFF 4u

static uint32_t get32(const void *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return ntohl(v);
}

static void put32(void *p, uint32_t v)
{
	v = htonl(v);
	memcpy(p, &v, sizeof(v));
}

static uint16_t get16(const void *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return ntohs(v);
}

static void put16(void *p, uint16_t v)
{
	v = htons(v);
	memcpy(p, &v, sizeof(v));
}

/* ---- TCP options --------------------------------------------------------- */

struct options {
	uint8_t *ts;   /* TSval, TSecr follow; NULL: none */
	uint8_t *sack; /* first block; NULL: none */
	unsigned int sack_blocks;
};

/* Malformed options end the walk: what was found so far counts. */
static void options_find(const struct frame *f, struct options *o)
{
	uint8_t *p = f->data + f->l4 + sizeof(struct tcphdr);
	uint8_t *end = f->data + f->payload;

	memset(o, 0, sizeof(*o));
	while (p < end && *p != TCPOPT_EOL) {
		uint8_t len;

		if (*p == TCPOPT_NOP) {
			p++;
			continue;
		}
		if (end - p < 2)
			return;
		len = p[1];
		if (len < 2 || len > end - p)
			return;
		if (*p == TCPOPT_TIMESTAMP && len == TCPOLEN_TIMESTAMP)
			o->ts = p + 2;
		if (*p == TCPOPT_SACK && (len - 2) % SACK_BLOCK == 0) {
			o->sack = p + 2;
			o->sack_blocks = (len - 2) / SACK_BLOCK;
		}
		p += len;
	}
}

static void sack_add(const struct options *o, uint32_t delta)
{
	uint8_t *p = o->sack;
	unsigned int i;

	for (i = 0; i < o->sack_blocks * 2; i++, p += 4)
		put32(p, get32(p) + delta);
}

/* Keep the blocks, or the part of them, that lie beyond @base; the room of the
 * others becomes NOPs. */
static void sack_keep_beyond(const struct options *o, uint32_t base)
{
	uint8_t *p = o->sack, *to = p;
	unsigned int i, kept = 0;

	for (i = 0; i < o->sack_blocks; i++, p += SACK_BLOCK) {
		uint32_t left = get32(p), right = get32(p + 4);

		if (seq_leq(right, base))
			continue;
		put32(to, seq_lt(left, base) ? base : left);
		put32(to + 4, right);
		to += SACK_BLOCK;
		kept++;
	}
	if (!o->sack || kept == o->sack_blocks)
		return;
	memset(to, TCPOPT_NOP, (size_t)(p - to));
	if (kept)
		o->sack[-1] = (uint8_t)(2 + kept * SACK_BLOCK);
	else
		memset(o->sack - 2, TCPOPT_NOP, 2);
}

bool translate_reports_gap(const struct frame *f)
{
	uint32_t ack = get32(&frame_tcp(f)->ack_seq);
	struct options o;
	unsigned int i;

	options_find(f, &o);
	for (i = 0; i < o.sack_blocks; i++)
		if (seq_gt(get32(o.sack + (size_t)i * SACK_BLOCK + 4), ack))
			return true;
	return false;
}

bool translate_timestamps(const struct frame *f, uint32_t *tsval,
			  uint32_t *tsecr)
{
	struct options o;

	options_find(f, &o);
	if (!o.ts)
		return false;
	*tsval = get32(o.ts);
	*tsecr = get32(o.ts + 4);
	return true;
}

/* ---- Linux to wire ------------------------------------------------------- */

static uint32_t seq_to_wire(const struct translation *t,
			    const struct flow_view *v, bool live,
			    const struct tcphdr *th)
{
	uint32_t seq = get32(&th->seq);

	if (seq_lt(seq, t->snd_base)) {
		if (th->rst && th->ack)
			return v->snd_nxt;
		if (live)
			return v->snd_una - (t->snd_base - seq);
	}
	return seq + (v->snd_nxt - t->snd_base);
}

static uint16_t window_of(const struct translation *t,
			  const struct flow_view *v)
{
	uint32_t wnd = v->rcv_wnd >> t->rcv_wscale;

	return wnd > UINT16_MAX ? UINT16_MAX : wnd;
}

/* The flow's TSecr while it lives, afterwards the newer of both. */
static uint32_t tsecr_of(const struct flow_view *v, bool live, uint32_t tsecr)
{
	if (live || seq_gt(v->ts_recent, tsecr))
		return v->ts_recent;
	return tsecr;
}

void translate_to_wire(const struct translation *t, const struct flow_view *v,
		       bool live, uint32_t now_ms, struct frame *f)
{
	struct tcphdr *th = frame_tcp(f);
	uint32_t dr = v->rcv_nxt - t->rcv_base;
	struct options o;

	if (th->syn)
		return;
	put32(&th->seq, seq_to_wire(t, v, live, th));
	if (th->ack)
		put32(&th->ack_seq, get32(&th->ack_seq) + dr);
	if (live && !th->rst)
		put16(&th->window, window_of(t, v));
	options_find(f, &o);
	sack_add(&o, dr);
	if (o.ts && t->timestamps) {
		put32(o.ts, now_ms + t->ts_offset);
		if (th->ack)
			put32(o.ts + 4, tsecr_of(v, live, get32(o.ts + 4)));
	}
	frame_set_checksums(f);
}

/* ---- wire to Linux ------------------------------------------------------- */

/* Take the first @n bytes of payload out of the frame. */
static void payload_cut(struct frame *f, uint16_t n)
{
	uint8_t *p = f->data + f->payload;
	struct tcphdr *th = frame_tcp(f);
	uint32_t l3_len;

	/* It counts from the first byte: 1 names that one. */
	if (th->urg) {
		th->urg = get16(&th->urg_ptr) > n;
		put16(&th->urg_ptr, th->urg ? get16(&th->urg_ptr) - n : 0);
	}
	f->payload_len -= n;
	memmove(p, p + n, f->payload_len);
	f->len = f->payload + f->payload_len;
	l3_len = f->len - f->l3;
	if (f->v6)
		put16(&frame_ip6(f)->ip6_plen, l3_len - sizeof(struct ip6_hdr));
	else
		put16(&frame_ip4(f)->tot_len, l3_len);
}

/* Cut the payload that the fast path took; Linux's number for what is left. */
static uint32_t seq_to_linux(const struct translation *t,
			     const struct flow_view *v, struct frame *f,
			     uint32_t seq)
{
	uint32_t old = v->rcv_nxt - seq, ahead = seq - v->rcv_nxt;

	if (!seq_lt(seq, v->rcv_nxt)) {
		if (ahead > 1 && ahead <= v->rcv_wnd &&
		    (t->reset || (!f->payload_len && !frame_tcp(f)->fin)))
			ahead = frame_tcp(f)->rst;
		return t->rcv_base + ahead;
	}
	if (old <= f->payload_len) {
		payload_cut(f, old);
		return t->rcv_base;
	}
	payload_cut(f, f->payload_len);
	return t->rcv_base - 1;
}

static uint32_t ack_to_linux(const struct translation *t,
			     const struct flow_view *v, uint32_t ack)
{
	if (!t->reset && seq_leq(ack, v->snd_nxt) &&
	    seq_geq(ack, v->snd_una - OLD_ACK_MAX))
		return t->snd_base - t->snd_behind;
	return ack - (v->snd_nxt - t->snd_base);
}

void translate_to_linux(const struct translation *t, const struct flow_view *v,
			struct frame *f)
{
	struct tcphdr *th = frame_tcp(f);
	bool tcp_ok, ip_ok;
	struct options o;

	if (th->syn)
		return;
	tcp_ok = frame_tcp_checksum_ok(f);
	ip_ok = f->v6 ||
		!csum_fold(csum_add(frame_ip4(f), sizeof(struct iphdr), 0));
	options_find(f, &o);
	sack_add(&o, t->snd_base - v->snd_nxt);
	sack_keep_beyond(&o, t->snd_base);
	put32(&th->seq, seq_to_linux(t, v, f, get32(&th->seq)));
	if (th->ack)
		put32(&th->ack_seq, ack_to_linux(t, v, get32(&th->ack_seq)));
	frame_set_checksums(f);
	/* One bit off is wrong whatever the sum was. */
	if (!tcp_ok)
		th->check ^= 1;
	if (!ip_ok)
		frame_ip4(f)->check ^= 1;
}

/* ---- ICMP errors --------------------------------------------------------- */

/* Offsets in a frame that holds an ICMP error about a segment of ours. */
struct quote {
	uint32_t icmp; /* the ICMP header; its checksum is at + 2 */
	uint32_t ip;   /* the quoted IP header */
	uint32_t tcp;  /* the quoted TCP header, TCP_QUOTED_MIN bytes of it */
	bool v6;
};

/* The upper-layer header behind the IPv6 header at @off, with the first
 * fragment at most; false: not @proto, or not within @len. */
static bool ip6_upper(const uint8_t *data, uint32_t len, uint32_t *off,
		      uint8_t proto)
{
	uint32_t pos = *off + sizeof(struct ip6_hdr);
	uint8_t next;
	int i;

	if (len < pos || (data[*off] & 0xf0) != 0x60)
		return false;
	next = data[*off + offsetof(struct ip6_hdr, ip6_nxt)];
	for (i = 0; i < EXT_HDRS_MAX && next != proto; i++) {
		if (len - pos < 8)
			return false;
		if (next == IPPROTO_FRAGMENT) {
			if (get16(data + pos + 2) & 0xfff8)
				return false;
			next = data[pos];
			pos += 8;
			continue;
		}
		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING &&
		    next != IPPROTO_DSTOPTS)
			return false;
		next = data[pos];
		pos += (data[pos + 1] + 1u) * 8;
		if (pos > len)
			return false;
	}
	*off = pos;
	return next == proto;
}

/* The same for IPv4: options, first fragment. */
static bool ip4_upper(const uint8_t *data, uint32_t len, uint32_t *off,
		      uint8_t proto)
{
	const uint8_t *ip = data + *off;
	uint32_t hlen;

	if (len < *off || len - *off < sizeof(struct iphdr) ||
	    (ip[0] & 0xf0) != 0x40)
		return false;
	hlen = (ip[0] & 0xf) * 4u;
	if (hlen < sizeof(struct iphdr) || len - *off < hlen ||
	    (get16(ip + offsetof(struct iphdr, frag_off)) & IP_OFFMASK) ||
	    ip[offsetof(struct iphdr, protocol)] != proto)
		return false;
	*off += hlen;
	return true;
}

static bool icmp_is_error(bool v6, uint8_t type)
{
	if (v6)
		return type >= ICMP6_DST_UNREACH && type <= ICMP6_PARAM_PROB;
	return type == ICMP_DEST_UNREACH || type == ICMP_SOURCE_QUENCH ||
	       type == ICMP_REDIRECT || type == ICMP_TIME_EXCEEDED ||
	       type == ICMP_PARAMETERPROB;
}

/* The length of the IP packet that the frame holds; 0: it doesn't fit. */
static uint32_t l3_end(const uint8_t *data, uint32_t len, uint32_t l3, bool v6)
{
	uint32_t end;

	if (len - l3 < (v6 ? sizeof(struct ip6_hdr) : sizeof(struct iphdr)))
		return 0;
	end = v6 ? sizeof(struct ip6_hdr) +
			      get16(data + l3 +
				    offsetof(struct ip6_hdr, ip6_plen))
		 : get16(data + l3 + offsetof(struct iphdr, tot_len));
	return end > len - l3 ? 0 : l3 + end;
}

static bool quote_find(const uint8_t *data, uint32_t len, struct quote *q)
{
	uint32_t off = ETH_HLEN, end;
	uint16_t type;

	if (len < ETH_HLEN)
		return false;
	type = get16(data + offsetof(struct ether_header, ether_type));
	if (type != ETHERTYPE_IP && type != ETHERTYPE_IPV6)
		return false;
	q->v6 = type == ETHERTYPE_IPV6;
	end = l3_end(data, len, off, q->v6);
	if (!(q->v6 ? ip6_upper(data, end, &off, IPPROTO_ICMPV6)
		    : ip4_upper(data, end, &off, IPPROTO_ICMP)))
		return false;
	q->icmp = off;
	if (end - off < ICMP_HDR || !icmp_is_error(q->v6, data[off]))
		return false;
	off += ICMP_HDR;
	q->ip = off;
	if (!(q->v6 ? ip6_upper(data, end, &off, IPPROTO_TCP)
		    : ip4_upper(data, end, &off, IPPROTO_TCP)))
		return false;
	q->tcp = off;
	return end - off >= TCP_QUOTED_MIN;
}

bool translate_icmp_key(const uint8_t *data, uint32_t len, struct conn_key *key)
{
	size_t alen, src;
	struct quote q;

	if (!quote_find(data, len, &q))
		return false;
	alen = q.v6 ? sizeof(struct in6_addr) : sizeof(struct in_addr);
	src = q.v6 ? offsetof(struct ip6_hdr, ip6_src)
		   : offsetof(struct iphdr, saddr);
	memset(key, 0, sizeof(*key));
	key->family = q.v6 ? AF_INET6 : AF_INET;
	memcpy(key->local, data + q.ip + src, alen);
	memcpy(key->peer, data + q.ip + src + alen, alen);
	memcpy(&key->lport, data + q.tcp, 2);
	memcpy(&key->pport, data + q.tcp + 2, 2);
	return true;
}

void translate_icmp_to_linux(const struct translation *t,
			     const struct flow_view *v, uint8_t *data,
			     uint32_t len)
{
	uint16_t check;
	uint32_t seq, old, new;
	struct quote q;
	uint64_t sum;

	if (!quote_find(data, len, &q))
		return;
	memcpy(&old, data + q.tcp + TCP_SEQ_OFF, sizeof(old));
	seq = ntohl(old);
	if (seq_geq(seq, v->snd_una) && seq_leq(seq, v->snd_nxt))
		seq = t->snd_base;
	else
		seq = t->snd_base + (seq - v->snd_nxt);
	new = htonl(seq);
	memcpy(data + q.tcp + TCP_SEQ_OFF, &new, sizeof(new));
	/* RFC 1624 equation 3; the quote lies at an even offset. */
	memcpy(&check, data + q.icmp + 2, sizeof(check));
	sum = (uint16_t)~check;
	sum += (uint32_t)~old;
	sum += new;
	check = csum_fold(sum);
	memcpy(data + q.icmp + 2, &check, sizeof(check));
}

/* ---- segments in the peer's name ----------------------------------------- */

static void build_ip(const struct conn_key *key, struct frame *f,
		     uint32_t l4_len)
{
	if (f->v6) {
		struct ip6_hdr *ip = frame_ip6(f);

		ip->ip6_vfc = 0x60;
		put16(&ip->ip6_plen, l4_len);
		ip->ip6_nxt = IPPROTO_TCP;
		ip->ip6_hlim = IPDEFTTL;
		memcpy(&ip->ip6_src, key->peer, sizeof(ip->ip6_src));
		memcpy(&ip->ip6_dst, key->local, sizeof(ip->ip6_dst));
	} else {
		struct iphdr *ip = frame_ip4(f);

		ip->version = 4;
		ip->ihl = sizeof(*ip) / 4;
		put16(&ip->tot_len, sizeof(*ip) + l4_len);
		put16(&ip->frag_off, IP_DF);
		ip->ttl = IPDEFTTL;
		ip->protocol = IPPROTO_TCP;
		memcpy(&ip->saddr, key->peer, sizeof(ip->saddr));
		memcpy(&ip->daddr, key->local, sizeof(ip->daddr));
	}
}

uint32_t translate_build_ack(const struct conn_key *key, const uint8_t *l2,
			     const struct translation *t, uint32_t seq,
			     uint32_t ack, uint16_t window, uint32_t tsval,
			     uint32_t tsecr, bool keepalive, uint8_t *buf)
{
	struct frame f = {.data = buf, .l3 = ETH_HLEN};
	uint32_t hlen = sizeof(struct tcphdr) +
			(t->timestamps ? TCPOLEN_TSTAMP_APPA : 0);
	struct tcphdr *th;
	uint8_t *opt;

	f.v6 = key->family == AF_INET6;
	f.l4 = f.l3 + (f.v6 ? sizeof(struct ip6_hdr) : sizeof(struct iphdr));
	f.payload = f.l4 + hlen;
	f.payload_len = keepalive;
	f.len = f.payload + f.payload_len;
	memset(buf, 0, f.len);
	memcpy(buf, l2 + ETH_ALEN, ETH_ALEN);
	memcpy(buf + ETH_ALEN, l2, ETH_ALEN);
	put16(buf + offsetof(struct ether_header, ether_type),
	      f.v6 ? ETHERTYPE_IPV6 : ETHERTYPE_IP);
	build_ip(key, &f, hlen + f.payload_len);
	th = frame_tcp(&f);
	memcpy(&th->source, &key->pport, 2);
	memcpy(&th->dest, &key->lport, 2);
	put32(&th->seq, seq - keepalive);
	put32(&th->ack_seq, ack);
	put16(&th->window, window);
	th->doff = hlen / 4;
	th->ack = 1;
	if (t->timestamps) {
		opt = (uint8_t *)(th + 1);
		put32(opt, TCPOPT_TSTAMP_HDR);
		put32(opt + 4, tsval);
		put32(opt + 8, tsecr);
	}
	frame_set_checksums(&f);
	return f.len;
}
