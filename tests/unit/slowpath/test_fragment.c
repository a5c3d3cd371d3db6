/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_fragment.c - segments cut to pieces and put together again
 */
#include "slowpath/fragment.h"
#include "tests/unit/slowpath/segment.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define NOW UINT64_C(1000000000)
#define PIECES_MAX 64u

/* A segment's frame and the pieces of it. */
struct cut {
	struct segment_buf whole, piece[PIECES_MAX];
	uint32_t piece_len[PIECES_MAX];
	uint32_t len, l3_len;
	bool v6;
	uint32_t id;
	unsigned int n;
};

static void segment_of(struct cut *c, bool v6, uint32_t payload)
{
	struct segment s = {.v6 = v6,
			    .sport = 1,
			    .dport = 2,
			    .seq = test_random(),
			    .flags = SEG_ACK,
			    .wscale = -1,
			    .len = payload};

	s.src[0] = 10;
	s.dst[0] = 11;
	memset(c, 0, sizeof(*c));
	c->v6 = v6;
	c->l3_len = v6 ? 40 : 20;
	c->id = test_random();
	c->len = segment_build(&s, c->whole.data);
}

/* A piece of @len bytes from @off of the IP payload. */
static void cut_piece(struct cut *c, uint32_t off, uint32_t len, bool more)
{
	uint8_t *f = c->piece[c->n].data, *ip = f + 14;
	uint32_t fh = c->v6 ? 8 : 0;

	memcpy(f, c->whole.data, 14 + c->l3_len);
	memcpy(ip + c->l3_len + fh, c->whole.data + 14 + c->l3_len + off, len);
	if (c->v6) {
		put_be16(ip + 4, 8 + len);
		ip[6] = 44;
		ip[40] = 6;
		ip[41] = 0;
		put_be16(ip + 42, off | more);
		put_be32(ip + 44, c->id);
	} else {
		put_be16(ip + 2, 20 + len);
		put_be16(ip + 4, c->id & 0xffff);
		put_be16(ip + 6, off / 8 | (more ? 0x2000 : 0));
		put_be16(ip + 10, 0);
		put_be16(ip + 10, (uint16_t)~segment_sum(ip, 20, 0));
	}
	c->piece_len[c->n++] = 14 + c->l3_len + fh + len;
}

/* Pieces of random lengths in random order. */
static void cut_up(struct cut *c)
{
	uint32_t end = c->len - 14 - c->l3_len, off = 0, len, i, j;

	while (off < end) {
		len = 8 * (1 + test_random() % 40);
		if (!off && len < 24) /* the whole header */
			len = 24;
		if (off + len > end || c->n == PIECES_MAX - 1)
			len = end - off;
		cut_piece(c, off, len, off + len < end);
		off += len;
	}
	for (i = 0; i < c->n; i++) {
		struct segment_buf b = c->piece[i];
		uint32_t l = c->piece_len[i];

		j = test_random() % c->n;
		c->piece[i] = c->piece[j];
		c->piece_len[i] = c->piece_len[j];
		c->piece[j] = b;
		c->piece_len[j] = l;
	}
}

static enum fragment_is give(struct fragments *fr, const struct cut *c,
			     unsigned int i, uint64_t now,
			     const uint8_t **whole, uint32_t *len)
{
	return fragment_take(fr, now, c->piece[i].data, c->piece_len[i], whole,
			     len);
}

static void expect_whole(const struct cut *c, const uint8_t *whole,
			 uint32_t len)
{
	struct segment want, got;

	assert_int_equal(len, c->len);
	assert_true(segment_read(&want, c->whole.data, c->len, NULL));
	assert_true(segment_read(&got, whole, len, NULL));
	assert_int_equal(got.seq, want.seq);
	assert_memory_equal(whole + 14 + c->l3_len,
			    c->whole.data + 14 + c->l3_len,
			    c->len - 14 - c->l3_len);
}

static void test_pieces_in_any_order_make_the_segment(void **state)
{
	struct fragments *fr = fragments_new();
	const uint8_t *whole = NULL;
	struct cut a, b;
	unsigned int i, k;
	uint32_t len = 0;

	for (k = 0; k < 500; k++) {
		segment_of(&a, k % 2, 400 + test_random() % 1000);
		segment_of(&b, k / 2 % 2, 400 + test_random() % 1000);
		cut_up(&a);
		cut_up(&b);
		for (i = 0; i < a.n; i++) {
			/* a second one between them, and repetitions */
			if (i < b.n - 1)
				assert_int_equal(
					give(fr, &b, i, NOW + k, &whole, &len),
					FRAGMENT_KEPT);
			assert_int_equal(give(fr, &a, i, NOW + k, &whole, &len),
					 i == a.n - 1 ? FRAGMENT_WHOLE
						      : FRAGMENT_KEPT);
			if (i < a.n - 1)
				assert_int_equal(
					give(fr, &a, i, NOW + k, &whole, &len),
					FRAGMENT_KEPT);
		}
		expect_whole(&a, whole, len);
	}
	fragments_free(fr);
}

/* RFC 5722 */
static void test_overlap_ends_the_datagram(void **state)
{
	struct fragments *fr = fragments_new();
	const uint8_t *whole;
	struct cut c;
	uint32_t len, i, v6;

	for (v6 = 0; v6 < 2; v6++) {
		segment_of(&c, v6, 780); /* 800 bytes with its header */
		cut_piece(&c, 0, 400, true);
		cut_piece(&c, 392, 16, true);
		cut_piece(&c, 400, 400, false);
		for (i = 0; i < 3; i++)
			assert_int_equal(give(fr, &c, i, NOW, &whole, &len),
					 FRAGMENT_KEPT);
	}
	fragments_free(fr);
}

static void test_pieces_that_make_no_sense_are_dropped(void **state)
{
	struct fragments *fr = fragments_new();
	const uint8_t *whole;
	struct cut c;
	uint32_t len, i;

	segment_of(&c, false, 780);
	cut_piece(&c, 0, 401, true);	/* not whole units */
	cut_piece(&c, 400, 392, false); /* the end ... */
	cut_piece(&c, 0, 400, true);	/* ... alone: 0 was dropped before */
	cut_piece(&c, 792, 8, true);	/* beyond the end */
	for (i = 0; i < 2; i++)
		assert_int_equal(give(fr, &c, i, NOW, &whole, &len),
				 FRAGMENT_KEPT);
	assert_int_equal(give(fr, &c, 3, NOW, &whole, &len), FRAGMENT_KEPT);
	assert_int_equal(give(fr, &c, 2, NOW, &whole, &len), FRAGMENT_KEPT);
	/* further than a frame reaches */
	c.n = 0;
	cut_piece(&c, 0, 8, true);
	put_be16(c.piece[0].data + 14 + 6, 0x2000 | 0x1fff);
	put_be16(c.piece[0].data + 24, 0);
	put_be16(c.piece[0].data + 24,
		 (uint16_t)~segment_sum(c.piece[0].data + 14, 20, 0));
	assert_int_equal(give(fr, &c, 0, NOW, &whole, &len), FRAGMENT_KEPT);
	/* no fragment */
	assert_int_equal(
		fragment_take(fr, NOW, c.whole.data, c.len, &whole, &len),
		FRAGMENT_NOT);
	for (i = 0; i < c.piece_len[0]; i++)
		fragment_take(fr, NOW, c.piece[0].data, i, &whole, &len);
	fragments_free(fr);
}

/* A piece behind the end does not stand for one that is missing. */
static void test_a_piece_behind_the_end_ends_the_datagram(void **state)
{
	struct fragments *fr = fragments_new();
	const uint8_t *whole;
	struct cut c;
	uint32_t len, i, v6;

	for (v6 = 0; v6 < 2; v6++) {
		segment_of(&c, v6, 780);
		cut_piece(&c, 640, 160, true);	/* behind ... */
		cut_piece(&c, 320, 160, false); /* ... what is the last one */
		cut_piece(&c, 0, 160, true);	/* 160 to 320 is missing */
		for (i = 0; i < 3; i++)
			assert_int_equal(give(fr, &c, i, NOW, &whole, &len),
					 FRAGMENT_KEPT);
	}
	fragments_free(fr);
}

static void test_half_a_datagram_is_forgotten(void **state)
{
	struct fragments *fr = fragments_new();
	const uint8_t *whole;
	struct cut c;
	uint32_t len;

	segment_of(&c, false, 780);
	cut_piece(&c, 0, 400, true);
	cut_piece(&c, 400, 400, false);
	give(fr, &c, 0, NOW, &whole, &len);
	assert_int_equal(
		give(fr, &c, 1, NOW + UINT64_C(31000000000), &whole, &len),
		FRAGMENT_KEPT);
	fragments_free(fr);
}

static void set_ecn(struct cut *c, unsigned int i, uint8_t ecn)
{
	uint8_t *ip = c->piece[i].data + 14;

	if (c->v6) {
		ip[1] = (uint8_t)((ip[1] & 0xcf) | ecn << 4);
		return;
	}
	ip[1] = (uint8_t)((ip[1] & 0xfc) | ecn);
	put_be16(ip + 10, 0);
	put_be16(ip + 10, (uint16_t)~segment_sum(ip, 20, 0));
}

/* RFC 3168 section 5.3; which mixtures make no sense is Linux's word. */
static void test_congestion_on_one_piece_is_on_the_whole(void **state)
{
	struct fragments *fr = fragments_new();
	const uint8_t *whole;
	struct cut c;
	uint32_t len, k;

	for (k = 0; k < 32; k++) {
		uint8_t a = k & 3, b = k >> 2 & 3;
		bool good = (!a && !b) || (a && b);

		segment_of(&c, k >> 4, 780);
		cut_piece(&c, 0, 400, true);
		cut_piece(&c, 400, 400, false);
		set_ecn(&c, 0, a);
		set_ecn(&c, 1, b);
		give(fr, &c, 0, NOW, &whole, &len);
		assert_int_equal(give(fr, &c, 1, NOW, &whole, &len),
				 good ? FRAGMENT_WHOLE : FRAGMENT_KEPT);
		if (!good)
			continue;
		expect_whole(&c, whole, len);
		assert_int_equal(whole[15] >> (c.v6 ? 4 : 0) & 3,
				 a == 3 || b == 3 ? 3 : a);
	}
	fragments_free(fr);
}

/* RFC 8200 section 4.5; IPv4 has no such rule. */
static void test_the_first_piece_of_ipv6_has_all_headers(void **state)
{
	struct fragments *fr = fragments_new();
	const uint8_t *whole;
	struct cut c;
	uint32_t len, v6;

	for (v6 = 0; v6 < 2; v6++) {
		segment_of(&c, v6, 780);
		cut_piece(&c, 16, 784, false);
		cut_piece(&c, 0, 16, true);
		give(fr, &c, 0, NOW, &whole, &len);
		assert_int_equal(give(fr, &c, 1, NOW, &whole, &len),
				 v6 ? FRAGMENT_KEPT : FRAGMENT_WHOLE);
	}
	fragments_free(fr);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pieces_in_any_order_make_the_segment),
		cmocka_unit_test(test_overlap_ends_the_datagram),
		cmocka_unit_test(test_pieces_that_make_no_sense_are_dropped),
		cmocka_unit_test(test_a_piece_behind_the_end_ends_the_datagram),
		cmocka_unit_test(test_half_a_datagram_is_forgotten),
		cmocka_unit_test(test_congestion_on_one_piece_is_on_the_whole),
		cmocka_unit_test(test_the_first_piece_of_ipv6_has_all_headers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
