// SPDX-License-Identifier: BSD-2-Clause
/*
 * test_frame.c - frame.h: every length boundary, keys, checksums
 *
 * Frames are built in a buffer that ends where the frame ends (malloc), so that
 * a read beyond it is seen by the address sanitizer.
 */
#include "tap/frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define ETH 14u

struct built {
	uint8_t bytes[256];
	uint32_t len;
};

static void build_tcp(uint8_t *at, unsigned int options, unsigned int payload)
{
	struct tcphdr *th = (void *)at;

	memset(th, 0, sizeof(*th) + options + payload);
	th->source = htons(40000);
	th->dest = htons(80);
	th->seq = htonl(1000);
	th->ack_seq = htonl(2000);
	th->doff = (5 + options / 4) & 0xf;
	th->ack = 1;
	memset(at + sizeof(*th), 1 /* no-operation */, options);
	for (unsigned int i = 0; i < payload; i++)
		at[sizeof(*th) + options + i] = (uint8_t)('a' + i % 26);
}

static struct built build4(unsigned int options, unsigned int payload)
{
	struct built b = {.len = ETH + 20 + 20 + options + payload};
	struct iphdr *ip = (void *)(b.bytes + ETH);

	b.bytes[12] = 0x08;
	ip->version = 4;
	ip->ihl = 5;
	ip->ttl = 64;
	ip->protocol = IPPROTO_TCP;
	ip->tot_len = htons((uint16_t)(b.len - ETH));
	ip->saddr = inet_addr("10.9.0.1");
	ip->daddr = inet_addr("10.9.0.2");
	build_tcp(b.bytes + ETH + 20, options, payload);
	return b;
}

static struct built build6(unsigned int options, unsigned int payload)
{
	struct built b = {.len = ETH + 40 + 20 + options + payload};
	struct ip6_hdr *ip = (void *)(b.bytes + ETH);

	b.bytes[12] = 0x86;
	b.bytes[13] = 0xdd;
	ip->ip6_vfc = 0x60;
	ip->ip6_nxt = IPPROTO_TCP;
	ip->ip6_hlim = 64;
	ip->ip6_plen = htons((uint16_t)(b.len - ETH - 40));
	inet_pton(AF_INET6, "fd09::1", &ip->ip6_src);
	inet_pton(AF_INET6, "fd09::2", &ip->ip6_dst);
	build_tcp(b.bytes + ETH + 40, options, payload);
	return b;
}

/* Parse the first @len bytes, with nothing readable behind them. */
static enum frame_kind parse_cut(const struct built *b, uint32_t len,
				 struct frame *f)
{
	uint8_t *exact = malloc(len ? len : 1);
	enum frame_kind kind;

	assert_non_null(exact);
	memcpy(exact, b->bytes, len);
	kind = frame_parse(f, exact, len);
	free(exact);
	return kind;
}

static enum frame_kind parse(const struct built *b, struct frame *f)
{
	return parse_cut(b, b->len, f);
}

static struct iphdr *ip4_of(struct built *b)
{
	return (struct iphdr *)(b->bytes + ETH);
}

static struct ip6_hdr *ip6_of(struct built *b)
{
	return (struct ip6_hdr *)(b->bytes + ETH);
}

static void test_whole_segment_is_tcp(void **state)
{
	struct frame f = {0};

	for (unsigned int options = 0; options <= 40; options += 4) {
		for (unsigned int payload = 0; payload < 4; payload++) {
			struct built b = build4(options, payload);

			assert_int_equal(parse(&b, &f), FRAME_TCP);
			assert_false(f.v6);
			assert_int_equal(f.l3, ETH);
			assert_int_equal(f.l4, ETH + 20);
			assert_int_equal(f.payload, ETH + 40 + options);
			assert_int_equal(f.payload_len, payload);
			b = build6(options, payload);
			assert_int_equal(parse(&b, &f), FRAME_TCP);
			assert_true(f.v6);
			assert_int_equal(f.l4, ETH + 40);
			assert_int_equal(f.payload, ETH + 60 + options);
			assert_int_equal(f.payload_len, payload);
		}
	}
}

static void test_frame_cut_anywhere_is_bad(void **state)
{
	struct built b4 = build4(12, 5), b6 = build6(12, 5);
	struct frame f = {0};

	for (uint32_t len = 0; len < b4.len; len++)
		assert_int_equal(parse_cut(&b4, len, &f), FRAME_BAD);
	for (uint32_t len = 0; len < b6.len; len++)
		assert_int_equal(parse_cut(&b6, len, &f), FRAME_BAD);
}

static void test_ethernet_padding_is_no_payload(void **state)
{
	struct built b = build4(0, 0);
	struct frame f = {0};

	b.len = 60;
	assert_int_equal(parse(&b, &f), FRAME_TCP);
	assert_int_equal(f.payload_len, 0);
	b = build6(0, 1);
	b.len += 7;
	assert_int_equal(parse(&b, &f), FRAME_TCP);
	assert_int_equal(f.payload_len, 1);
}

static void test_ip4_total_length_must_fit(void **state)
{
	struct built b = build4(0, 4);
	struct frame f = {0};

	for (uint16_t total = 0; total < 40; total++) {
		ip4_of(&b)->tot_len = htons(total);
		assert_int_equal(parse(&b, &f), FRAME_BAD);
	}
	ip4_of(&b)->tot_len = htons(40);
	assert_int_equal(parse(&b, &f), FRAME_TCP);
	ip4_of(&b)->tot_len = htons((uint16_t)(b.len - ETH + 1));
	assert_int_equal(parse(&b, &f), FRAME_BAD);
	ip4_of(&b)->tot_len = htons(65535);
	assert_int_equal(parse(&b, &f), FRAME_BAD);
}

static void test_ip6_payload_length_must_fit(void **state)
{
	struct built b = build6(0, 4);
	struct frame f = {0};

	for (uint16_t len = 0; len < 20; len++) {
		ip6_of(&b)->ip6_plen = htons(len);
		assert_int_equal(parse(&b, &f), FRAME_BAD);
	}
	ip6_of(&b)->ip6_plen = htons(20);
	assert_int_equal(parse(&b, &f), FRAME_TCP);
	ip6_of(&b)->ip6_plen = htons(25);
	assert_int_equal(parse(&b, &f), FRAME_BAD);
	ip6_of(&b)->ip6_plen = htons(65535);
	assert_int_equal(parse(&b, &f), FRAME_BAD);
}

static void test_ip4_header_length_and_version(void **state)
{
	struct built b = build4(0, 40);
	struct frame f = {0};

	for (unsigned int ihl = 0; ihl < 16; ihl++) {
		ip4_of(&b)->ihl = ihl & 0xf;
		assert_int_equal(parse(&b, &f), ihl < 5	   ? FRAME_BAD
						: ihl == 5 ? FRAME_TCP
							   : FRAME_OTHER);
	}
	b = build4(0, 0);
	ip4_of(&b)->ihl = 11; /* longer than the packet */
	assert_int_equal(parse(&b, &f), FRAME_BAD);
	for (unsigned int version = 0; version < 16; version++) {
		b = build4(0, 0);
		ip4_of(&b)->version = version & 0xf;
		assert_int_equal(parse(&b, &f),
				 version == 4 ? FRAME_TCP : FRAME_BAD);
	}
	b = build6(0, 0);
	ip6_of(&b)->ip6_vfc = 0x40;
	assert_int_equal(parse(&b, &f), FRAME_BAD);
	ip6_of(&b)->ip6_vfc = 0x6f;
	assert_int_equal(parse(&b, &f), FRAME_TCP);
}

static void test_tcp_header_length_must_fit(void **state)
{
	struct frame f = {0};

	for (unsigned int doff = 0; doff < 16; doff++) {
		struct built b = build4(0, 20);
		struct tcphdr *th = (void *)(b.bytes + ETH + 20);

		/* 40 bytes behind the IP header: room for a doff of 10 */
		th->doff = doff & 0xf;
		assert_int_equal(parse(&b, &f),
				 doff < 5 || doff > 10 ? FRAME_BAD : FRAME_TCP);
		if (doff >= 5 && doff <= 10)
			assert_int_equal(f.payload_len, 40 - 4 * doff);
	}
}

static void test_what_is_no_whole_tcp_segment_is_other(void **state)
{
	struct built b = build4(0, 8);
	struct frame f = {0};

	ip4_of(&b)->frag_off = htons(IP_MF);
	assert_int_equal(parse(&b, &f), FRAME_OTHER);
	ip4_of(&b)->frag_off = htons(1);
	assert_int_equal(parse(&b, &f), FRAME_OTHER);
	ip4_of(&b)->frag_off = htons(IP_DF);
	assert_int_equal(parse(&b, &f), FRAME_TCP);
	ip4_of(&b)->protocol = IPPROTO_UDP;
	assert_int_equal(parse(&b, &f), FRAME_OTHER);
	b = build6(0, 8);
	ip6_of(&b)->ip6_nxt = IPPROTO_FRAGMENT;
	assert_int_equal(parse(&b, &f), FRAME_OTHER);
	ip6_of(&b)->ip6_nxt = IPPROTO_HOPOPTS;
	assert_int_equal(parse(&b, &f), FRAME_OTHER);
	b.bytes[12] = 0x81; /* VLAN tag */
	b.bytes[13] = 0x00;
	assert_int_equal(parse(&b, &f), FRAME_OTHER);
	b.bytes[12] = 0x08; /* ARP */
	b.bytes[13] = 0x06;
	assert_int_equal(parse_cut(&b, ETH, &f), FRAME_OTHER);
}

static void test_key_names_local_and_peer(void **state)
{
	struct built b = build4(0, 0);
	struct conn_key in, out;
	struct in6_addr expect;
	struct frame f = {0};

	assert_int_equal(frame_parse(&f, b.bytes, b.len), FRAME_TCP);
	frame_key(&f, true, &in);
	frame_key(&f, false, &out);
	assert_int_equal(in.family, AF_INET);
	assert_memory_equal(in.local, "\x0a\x09\x00\x02\0\0\0\0\0\0\0\0\0\0\0",
			    16);
	assert_memory_equal(in.peer, "\x0a\x09\x00\x01\0\0\0\0\0\0\0\0\0\0\0",
			    16);
	assert_int_equal(in.lport, htons(80));
	assert_int_equal(in.pport, htons(40000));
	assert_memory_equal(in.local, out.peer, 16);
	assert_memory_equal(in.peer, out.local, 16);
	assert_int_equal(out.lport, htons(40000));

	b = build6(0, 0);
	assert_int_equal(frame_parse(&f, b.bytes, b.len), FRAME_TCP);
	frame_key(&f, true, &in);
	inet_pton(AF_INET6, "fd09::2", &expect);
	assert_int_equal(in.family, AF_INET6);
	assert_memory_equal(in.local, &expect, 16);
}

/* RFC 1071 section 3: 00 01 f2 03 f4 f5 f6 f7 sums to ddf2. */
static void test_checksum_of_rfc1071_example(void **state)
{
	static const uint8_t data[] = {0x00, 0x01, 0xf2, 0x03,
				       0xf4, 0xf5, 0xf6, 0xf7};

	assert_int_equal(csum_fold(csum_add(data, 8, 0)), htons(0x220d));
	assert_int_equal(csum_fold(csum_add(data, 0, 0)), 0xffff);
}

/* An IPv4 header as captured: 45 00 00 73 ... b8 61 ... */
static void test_checksum_of_known_ip4_header(void **state)
{
	uint8_t header[20] = {0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40,
			      0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8,
			      0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7};

	assert_int_equal(csum_fold(csum_add(header, 20, 0)), 0);
	header[10] = header[11] = 0;
	assert_int_equal(csum_fold(csum_add(header, 20, 0)), htons(0xb861));
}

/* The definition: 16-bit words in network order, odd byte padded by zero. */
static uint16_t checksum_by_definition(const uint8_t *p, size_t len)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < len; i += 2) {
		sum += (uint32_t)p[i] << 8 | (i + 1 < len ? p[i + 1] : 0);
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return htons((uint16_t)~sum);
}

static void test_checksum_of_every_length_and_offset(void **state)
{
	uint8_t data[80];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 151 + 255 - i);
	for (size_t off = 0; off < 8; off++) {
		for (size_t len = 0; len + off <= sizeof(data); len++)
			assert_int_equal(
				csum_fold(csum_add(data + off, len, 0)),
				checksum_by_definition(data + off, len));
	}
	memset(data, 0xff, sizeof(data));
	assert_int_equal(csum_fold(csum_add(data, 80, 0)), 0);
	assert_int_equal(csum_fold(UINT64_MAX), 0);
}

static void set_and_verify(struct built b)
{
	struct frame f = {0};

	assert_int_equal(frame_parse(&f, b.bytes, b.len), FRAME_TCP);
	frame_set_checksums(&f);
	assert_true(frame_tcp_checksum_ok(&f));
	for (uint32_t i = f.l4; i < b.len; i++) {
		b.bytes[i] ^= 0x10;
		assert_false(frame_tcp_checksum_ok(&f));
		b.bytes[i] ^= 0x10;
	}
	/* the pseudo header is covered too */
	b.bytes[f.l4 - 1] ^= 1;
	assert_false(frame_tcp_checksum_ok(&f));
}

static void test_checksums_set_anew_hold_and_notice_changes(void **state)
{
	for (unsigned int payload = 0; payload < 9; payload++) {
		set_and_verify(build4(0, payload));
		set_and_verify(build4(12, payload));
		set_and_verify(build6(12, payload));
	}
}

/* An ACK without data, 10.9.0.1:40000 -> 10.9.0.2:80, summed by hand. */
static void test_tcp_checksum_by_hand(void **state)
{
	struct built b = build4(0, 0);
	struct frame f = {0};
	/* pseudo: 0a09+0001+0a09+0002+0006+0014 = 142f
	 * tcp: 9c40+0050+03e8+07d0+5010 = f858 ; sum 10c87 -> 0c88 */
	uint16_t expect = htons((uint16_t)~0x0c88);

	assert_int_equal(frame_parse(&f, b.bytes, b.len), FRAME_TCP);
	frame_set_checksums(&f);
	assert_int_equal(frame_tcp(&f)->check, expect);
}

static void test_sequence_numbers_compare_across_the_wrap(void **state)
{
	assert_true(seq_lt(0xfffffff0, 0x10));
	assert_false(seq_lt(0x10, 0xfffffff0));
	assert_false(seq_lt(7, 7));
	assert_true(seq_leq(7, 7));
	assert_true(seq_gt(0x10, 0xfffffff0));
	assert_true(seq_geq(0, 0xffffffff));
	assert_true(seq_geq(7, 7));
	assert_false(seq_gt(7, 7));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole_segment_is_tcp),
		cmocka_unit_test(test_frame_cut_anywhere_is_bad),
		cmocka_unit_test(test_ethernet_padding_is_no_payload),
		cmocka_unit_test(test_ip4_total_length_must_fit),
		cmocka_unit_test(test_ip6_payload_length_must_fit),
		cmocka_unit_test(test_ip4_header_length_and_version),
		cmocka_unit_test(test_tcp_header_length_must_fit),
		cmocka_unit_test(test_what_is_no_whole_tcp_segment_is_other),
		cmocka_unit_test(test_key_names_local_and_peer),
		cmocka_unit_test(test_checksum_of_rfc1071_example),
		cmocka_unit_test(test_checksum_of_known_ip4_header),
		cmocka_unit_test(test_checksum_of_every_length_and_offset),
		cmocka_unit_test(
			test_checksums_set_anew_hold_and_notice_changes),
		cmocka_unit_test(test_tcp_checksum_by_hand),
		cmocka_unit_test(test_sequence_numbers_compare_across_the_wrap),
	};

	return cmocka_run_group_tests_name("frame", tests, NULL, NULL);
}
