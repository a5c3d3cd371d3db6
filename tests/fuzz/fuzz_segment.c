/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_segment.c - TCP options, and what else is read of a segment
 *
 * Input: a byte of switches, then the bytes of a TCP header, its options and
 * its payload; the headers in front of them are made here, so that every input
 * is a segment. The frame lies in a buffer of exactly its length, so that the
 * sanitizer sees every read beyond it.
 *
 * What must hold: the answer is that of a second reading, below, which is
 * written as RFC 9293 3.1 tells it, with an index into the options and no
 * pointer; reading changes nothing; and one bit that is wrong in what a
 * checksum covers makes it wrong.
 */
#include "fastpath/segment.h"
#include "tests/fuzz/fuzz.h"

#include <netinet/ip6.h>

#define ROOM 2048u

static uint32_t be(const uint8_t *p, unsigned int n)
{
	uint32_t v = 0;

	while (n--)
		v = v << 8 | *p++;
	return v;
}

/* ---- a second reading ------------------------------------------------------
 */

static void model_option(struct segment *s, const uint8_t *o, uint32_t len)
{
	if (o[0] == 8 && len == 10) {
		s->ts = true;
		s->tsval = be(o + 2, 4);
		s->tsecr = be(o + 6, 4);
	}
	if (o[0] != 5 || len < 10 || len % 8 != 2)
		return;
	for (uint32_t at = 2; at < len && s->n_sacks < 4; at += 8) {
		s->sack[s->n_sacks].start = be(o + at, 4);
		s->sack[s->n_sacks].end = be(o + at + 4, 4);
		s->n_sacks++;
	}
}

static void model_options(struct segment *s, const uint8_t *o, uint32_t len)
{
	uint32_t i = 0;

	while (i < len && o[i] != 0) {
		uint32_t left = len - i;

		if (o[i] == 1) {
			i++;
			continue;
		}
		if (left == 1 || o[i + 1] < 2 || o[i + 1] > left)
			return;
		model_option(s, o + i, o[i + 1]);
		i += o[i + 1];
	}
}

static void check_same(const struct segment *s, const struct segment *m)
{
	require(s->ts == m->ts);
	require(s->tsval == m->tsval && s->tsecr == m->tsecr);
	require(s->n_sacks == m->n_sacks && s->n_sacks <= SEG_SACK_MAX);
	for (unsigned int i = 0; i < s->n_sacks; i++) {
		require(s->sack[i].start == m->sack[i].start);
		require(s->sack[i].end == m->sack[i].end);
	}
}

static void check_segment(const struct frame *f)
{
	const uint8_t *tcp = f->data + f->l4;
	struct segment s, m = {0};

	segment_parse(&s, f);
	require(s.seq == be(tcp + 4, 4) && s.first == s.seq);
	require(s.ack == be(tcp + 8, 4));
	require(s.flags == tcp[13] && s.fin == (tcp[13] & 1));
	require(s.wnd == be(tcp + 14, 2) && s.urg == be(tcp + 18, 2));
	require(s.data == f->data + f->payload);
	require(s.len == f->payload_len && !s.old);
	/* Both bits, which lie across two bytes in IPv6's header. */
	require(s.ce ==
		(f->v6 ? be(f->data + 14, 2) >> 4 & 3 : f->data[15] & 3u) > 2);
	model_options(&m, tcp + 20, f->payload - f->l4 - 20u);
	check_same(&s, &m);
}

/* ---- checksums -------------------------------------------------------------
 */

/* Bit @at of the headers and payload that a checksum covers. */
static void check_checksums(struct frame *f, uint32_t at)
{
	uint32_t covered = f->v6 ? f->l4 : f->l3, bit;
	uint8_t *p;

	frame_set_checksums(f);
	require(segment_checksums_ok(f));
	bit = at % (8 * (f->len - covered));
	p = f->data + covered + bit / 8;
	*p ^= 1u << bit % 8;
	require(!segment_checksums_ok(f));
	*p ^= 1u << bit % 8;
	require(segment_checksums_ok(f));
}

/* ---- the frame -------------------------------------------------------------
 */

static uint32_t build(uint8_t *b, struct input *in, uint32_t how)
{
	uint32_t n = (uint32_t)(in->end - in->p), l4, doff;

	memset(b, 0, 54);
	l4 = how & 1 ? 54 : 34;
	n = n > ROOM - l4 ? ROOM - l4 : n;
	n = n < 20 ? 20 : n;
	take_bytes(in, b + l4, n);
	if (how & 1) {
		b[12] = 0x86;
		b[13] = 0xdd;
		b[14] = 0x60 | (how >> 4 & 0xf);
		b[15] = (uint8_t)(how & 0xf0);
		b[18] = (uint8_t)(n >> 8);
		b[19] = (uint8_t)n;
		b[20] = IPPROTO_TCP;
	} else {
		b[12] = 8;
		b[14] = 0x45;
		b[15] = (uint8_t)(how >> 4);
		b[16] = (uint8_t)((n + 20) >> 8);
		b[17] = (uint8_t)(n + 20);
		b[23] = IPPROTO_TCP;
	}
	/* A header that fits, as long as it can be if the input's does not. */
	doff = b[l4 + 12] >> 4;
	if (doff < 5 || doff * 4 > n)
		doff = n / 4 > 15 ? 15 : n / 4;
	b[l4 + 12] = (uint8_t)(doff << 4 | (b[l4 + 12] & 0xf));
	return l4 + n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, data + size};
	uint32_t how = take(&in, 1), at = take(&in, 2), len;
	uint8_t room[ROOM], *copy;
	struct frame f;

	len = build(room, &in, how);
	copy = malloc(len + 2); /* IP headers aligned, the end exact */
	require(copy);
	memcpy(copy + 2, room, len);
	require(frame_parse(&f, copy + 2, len) == FRAME_TCP);
	check_segment(&f);
	require(!memcmp(copy + 2, room, len));
	check_checksums(&f, at);
	check_segment(&f);
	free(copy);
	return 0;
}
