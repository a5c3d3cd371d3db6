/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * segment.c - TCP segments and ICMP errors for tests, made and read by hand
 */
#include "tests/unit/slowpath/segment.h"

#include <string.h>

void put_be16(uint8_t *p, uint32_t v)
{
	p[0] = v >> 8;
	p[1] = v;
}

void put_be32(uint8_t *p, uint32_t v)
{
	put_be16(p, v >> 16);
	put_be16(p + 2, v & 0xffff);
}

uint32_t get_be16(const uint8_t *p)
{
	return p[0] << 8 | p[1];
}

uint32_t get_be32(const uint8_t *p)
{
	return get_be16(p) << 16 | get_be16(p + 2);
}

uint32_t test_random(void)
{
	static uint64_t x = 0x9e3779b97f4a7c15;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x >> 16;
}

uint8_t segment_byte(uint32_t seq)
{
	return (seq * 2654435761u) >> 24;
}

uint16_t segment_sum(const uint8_t *p, uint32_t len, uint32_t sum)
{
	uint32_t i;

	for (i = 0; i < len; i++)
		sum += i % 2 ? p[i] : p[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static uint32_t ip_len(const uint8_t *frame)
{
	return frame[12] == 0x86 ? 40 : 20;
}

uint32_t segment_pseudo(const uint8_t *frame, uint32_t l4_len, uint8_t proto)
{
	bool v6 = ip_len(frame) == 40;

	return segment_sum(frame + 14 + (v6 ? 8 : 12), v6 ? 32 : 8,
			   l4_len + proto);
}

static uint32_t build_options(const struct segment *s, uint8_t *p)
{
	uint8_t *start = p;
	unsigned int i;

	if (s->mss) {
		put_be32(p, 2u << 24 | 4 << 16 | s->mss);
		p += 4;
	}
	if (s->sack_ok) {
		put_be32(p, 0x01010402);
		p += 4;
	}
	if (s->wscale >= 0) {
		put_be32(p, 0x01030300 | s->wscale);
		p += 4;
	}
	if (s->ts) {
		put_be32(p, 0x0101080a);
		put_be32(p + 4, s->tsval);
		put_be32(p + 8, s->tsecr);
		p += 12;
	}
	if (s->sacks) {
		put_be32(p, 0x01010500 | (2 + 8 * s->sacks));
		p += 4;
		for (i = 0; i < 2 * s->sacks; i++, p += 4)
			put_be32(p, s->sack[i]);
	}
	return p - start;
}

static void build_ip(const struct segment *s, uint8_t *ip, uint32_t l4_len)
{
	if (s->v6) {
		ip[0] = 0x60;
		put_be16(ip + 4, l4_len);
		ip[6] = 6;
		ip[7] = 64;
		memcpy(ip + 8, s->src, 16);
		memcpy(ip + 24, s->dst, 16);
		return;
	}
	ip[0] = 0x45;
	put_be16(ip + 2, 20 + l4_len);
	put_be16(ip + 6, 0x4000);
	ip[8] = 64;
	ip[9] = 6;
	memcpy(ip + 12, s->src, 4);
	memcpy(ip + 16, s->dst, 4);
	put_be16(ip + 10, 0xffff & ~segment_sum(ip, 20, 0));
}

uint32_t segment_build(const struct segment *s, uint8_t *frame)
{
	uint32_t l4 = 14 + (s->v6 ? 40 : 20), l4_len, i;
	uint8_t *th = frame + l4, *payload;

	memset(frame, 0, l4 + 60);
	frame[0] = frame[6] = frame[5] = 2;
	frame[11] = 1;
	put_be16(frame + 12, s->v6 ? 0x86dd : 0x0800);
	put_be16(th, s->sport);
	put_be16(th + 2, s->dport);
	put_be32(th + 4, s->seq);
	put_be32(th + 8, s->ack);
	payload = th + 20 + build_options(s, th + 20);
	th[12] = (payload - th) / 4 << 4;
	th[13] = s->flags;
	put_be16(th + 14, s->window);
	put_be16(th + 18, s->urg);
	for (i = 0; i < s->len; i++)
		payload[i] = segment_byte(s->seq + i);
	l4_len = payload - th + s->len;
	build_ip(s, frame + 14, l4_len);
	put_be16(th + 16,
		 0xffff & ~segment_sum(th, l4_len,
				       segment_pseudo(frame, l4_len, 6)));
	return l4 + l4_len;
}

static bool read_options(struct segment *s, const uint8_t *p,
			 const uint8_t *end)
{
	unsigned int i;

	for (; p < end && *p; p += *p == 1 ? 1 : p[1]) {
		if (*p == 1)
			continue;
		if (end - p < 2 || p[1] < 2 || p[1] > end - p)
			return false;
		if (*p == 2)
			s->mss = get_be16(p + 2);
		if (*p == 3)
			s->wscale = p[2];
		if (*p == 4)
			s->sack_ok = true;
		if (*p == 8) {
			s->ts = true;
			s->tsval = get_be32(p + 2);
			s->tsecr = get_be32(p + 6);
		}
		if (*p == 5) {
			s->sacks = (p[1] - 2) / 8;
			for (i = 0; i < 2 * s->sacks && i < 8; i++)
				s->sack[i] = get_be32(&p[2 + 4 * i]);
		}
	}
	return true;
}

static bool read_ip(struct segment *s, const uint8_t *ip, uint32_t len,
		    uint32_t *l4_len)
{
	if (s->v6) {
		if (len < 40 || ip[6] != 6 || get_be16(ip + 4) > len - 40)
			return false;
		memcpy(s->src, ip + 8, 16);
		memcpy(s->dst, ip + 24, 16);
		*l4_len = get_be16(ip + 4);
		return true;
	}
	if (len < 20 || ip[0] != 0x45 || ip[9] != 6 ||
	    segment_sum(ip, 20, 0) != 0xffff || get_be16(ip + 2) > len)
		return false;
	memcpy(s->src, ip + 12, 4);
	memcpy(s->dst, ip + 16, 4);
	*l4_len = get_be16(ip + 2) - 20;
	return true;
}

bool segment_read(struct segment *s, const uint8_t *frame, uint32_t len,
		  uint32_t *payload)
{
	uint32_t l4, l4_len, hlen;
	const uint8_t *th;

	memset(s, 0, sizeof(*s));
	s->wscale = -1;
	if (len < 34 ||
	    (get_be16(frame + 12) != 0x0800 && get_be16(frame + 12) != 0x86dd))
		return false;
	s->v6 = get_be16(frame + 12) == 0x86dd;
	l4 = 14 + ip_len(frame);
	if (!read_ip(s, frame + 14, len - 14, &l4_len) || l4_len < 20)
		return false;
	th = frame + l4;
	hlen = (th[12] >> 4) * 4;
	if (hlen < 20 || hlen > l4_len ||
	    segment_sum(th, l4_len, segment_pseudo(frame, l4_len, 6)) != 0xffff)
		return false;
	s->sport = get_be16(th);
	s->dport = get_be16(th + 2);
	s->seq = get_be32(th + 4);
	s->ack = get_be32(th + 8);
	s->flags = th[13];
	s->window = get_be16(th + 14);
	s->urg = get_be16(th + 18);
	s->len = l4_len - hlen;
	if (payload)
		*payload = l4 + hlen;
	return read_options(s, th + 20, th + hlen);
}
