/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_translate.c - every frame that crosses between the two sequence spaces
 *
 * Property style: random connections (numbers near the wrap included, IPv4 and
 * IPv6, with and without timestamps), random segments, and for each of them an
 * expectation from the definition: a position of a stream that is n bytes
 * past the fast path's data is n bytes past the base in Linux.
 */
#include "slowpath/translate.h"
#include "tests/unit/slowpath/segment.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#define ROUNDS 20000
#define NOW 123456789u

/* One random connection. */
struct world {
	struct translation t;
	struct flow_view v;
	struct segment to_wire, to_linux; /* templates, options set */
};

static uint32_t near_wrap(void)
{
	return test_random() % 2 ? test_random() : 0u - test_random() % 4000;
}

static void world_make(struct world *w)
{
	struct segment *s = &w->to_wire;
	unsigned int i;

	memset(w, 0, sizeof(*w));
	w->t.snd_base = near_wrap();
	w->t.rcv_base = near_wrap();
	w->t.ts_offset = test_random();
	w->t.rcv_wscale = test_random() % 15;
	w->t.timestamps = test_random() % 2;
	w->v.snd_nxt = w->t.snd_base + test_random() % 100000;
	w->v.rcv_nxt = w->t.rcv_base + test_random() % 100000;
	w->v.snd_una = w->v.snd_nxt - test_random() % 2 * test_random() % 9000;
	w->v.rcv_wnd = test_random() >> test_random() % 20;
	w->v.ts_recent = test_random();
	s->v6 = test_random() % 2;
	for (i = 0; i < (s->v6 ? 16 : 4); i++) {
		s->src[i] = test_random();
		s->dst[i] = test_random();
	}
	s->sport = test_random();
	s->dport = test_random();
	s->wscale = -1;
	s->flags = SEG_ACK;
	s->ts = w->t.timestamps;
	s->tsval = test_random();
	s->tsecr = test_random();
	s->window = test_random();
	w->to_linux = *s;
	memcpy(w->to_linux.src, s->dst, 16);
	memcpy(w->to_linux.dst, s->src, 16);
	w->to_linux.sport = s->dport;
	w->to_linux.dport = s->sport;
}

static struct frame build(const struct segment *s, struct segment_buf *b)
{
	struct frame f;
	uint32_t len = segment_build(s, b->data);

	assert_int_equal(frame_parse(&f, b->data, len), FRAME_TCP);
	return f;
}

/* What is in the frame now, checksums and lengths checked. */
static struct segment result(const struct frame *f)
{
	struct segment s;
	uint32_t payload = 0;

	assert_true(segment_read(&s, f->data, f->len, &payload));
	assert_int_equal(f->payload, payload);
	assert_int_equal(f->payload_len, s.len);
	return s;
}

static struct segment wire(const struct world *w, bool live,
			   const struct segment *s)
{
	struct segment_buf b;
	struct frame f = build(s, &b);

	translate_to_wire(&w->t, &w->v, live, NOW, &f);
	return result(&f);
}

static struct segment linux_side(const struct world *w, const struct segment *s)
{
	struct segment_buf b;
	struct frame f = build(s, &b);

	translate_to_linux(&w->t, &w->v, &f);
	return result(&f);
}

/* ---- Linux to wire ------------------------------------------------------- */

static void test_numbers_move_by_the_byte_counts(void **state)
{
	struct segment in, out;
	struct world w;
	unsigned int i, j, fin;

	for (i = 0; i < ROUNDS; i++) {
		world_make(&w);
		in = w.to_wire;
		fin = test_random() % 2;
		w.v.snd_fin = fin;
		in.seq = w.t.snd_base + fin;
		in.ack = w.t.rcv_base + test_random() % 2;
		in.flags |= fin ? SEG_FIN : 0;
		in.sacks = test_random() % 4;
		for (j = 0; j < 8; j++)
			in.sack[j] = w.t.rcv_base + test_random() % 70000;
		out = wire(&w, test_random() % 2, &in);
		assert_int_equal(out.seq - w.v.snd_nxt, in.seq - w.t.snd_base);
		assert_int_equal(out.ack - w.v.rcv_nxt, in.ack - w.t.rcv_base);
		assert_int_equal(out.sacks, in.sacks);
		for (j = 0; j < 2 * in.sacks; j++)
			assert_int_equal(out.sack[j] - w.v.rcv_nxt,
					 in.sack[j] - w.t.rcv_base);
		assert_int_equal(out.flags, in.flags);
		assert_int_equal(out.sport, in.sport);
		assert_int_equal(out.dport, in.dport);
		assert_memory_equal(out.src, in.src, 16);
		assert_memory_equal(out.dst, in.dst, 16);
	}
}

static void test_keepalive_probe_lands_below_snd_una(void **state)
{
	struct segment in, out;
	struct world w;
	unsigned int i;

	for (i = 0; i < ROUNDS; i++) {
		world_make(&w);
		in = w.to_wire;
		in.seq = w.t.snd_base - 1;
		in.ack = w.t.rcv_base;
		in.len = test_random() % 2;
		out = wire(&w, true, &in);
		assert_int_equal(out.seq, w.v.snd_una - 1);
		assert_int_equal(out.ack, w.v.rcv_nxt);
		assert_int_equal(out.len, in.len);
	}
}

static void test_window_is_the_flows_while_it_lives(void **state)
{
	struct segment in, out;
	struct world w;
	unsigned int i;

	for (i = 0; i < ROUNDS; i++) {
		uint32_t scaled;

		world_make(&w);
		in = w.to_wire;
		in.seq = w.t.snd_base;
		scaled = w.v.rcv_wnd >> w.t.rcv_wscale;
		out = wire(&w, true, &in);
		assert_int_equal(out.window, scaled > 65535 ? 65535 : scaled);
		out = wire(&w, false, &in);
		assert_int_equal(out.window, in.window);
		in.flags = SEG_RST | SEG_ACK;
		in.window = 0;
		out = wire(&w, true, &in);
		assert_int_equal(out.window, 0);
	}
}

static void test_tsval_is_the_clocks_and_tsecr_the_flows(void **state)
{
	struct segment in, out;
	struct world w;
	unsigned int i;

	for (i = 0; i < ROUNDS; i++) {
		uint32_t newer;

		world_make(&w);
		w.t.timestamps = true;
		in = w.to_wire;
		in.ts = true;
		in.seq = w.t.snd_base;
		out = wire(&w, true, &in);
		assert_int_equal(out.tsval, NOW + w.t.ts_offset);
		assert_int_equal(out.tsecr, w.v.ts_recent);
		newer = (int32_t)(in.tsecr - w.v.ts_recent) > 0 ? in.tsecr
								: w.v.ts_recent;
		out = wire(&w, false, &in);
		assert_int_equal(out.tsval, NOW + w.t.ts_offset);
		if (in.tsecr - w.v.ts_recent != 0x80000000)
			assert_int_equal(out.tsecr, newer);
	}
}

static void test_reset_without_ack_keeps_its_zero_fields(void **state)
{
	struct segment in, out;
	struct world w;

	world_make(&w);
	in = w.to_wire;
	in.flags = SEG_RST;
	in.seq = w.t.snd_base;
	out = wire(&w, false, &in);
	assert_int_equal(out.seq, w.v.snd_nxt);
	assert_int_equal(out.ack, 0);
	assert_int_equal(out.window, in.window);
}

/* The peer takes a RST with the number that it expects, and no other (RFC 5961
 * section 3.2). Linux's is behind where the fast path sends what Linux had to;
 * one without ACK answers a segment, and has the number that this named. */
static void test_rst_has_the_number_that_the_peer_expects(void **state)
{
	struct segment in;
	struct world w;
	unsigned int i;
	uint32_t behind;

	for (i = 0; i < ROUNDS; i++) {
		world_make(&w);
		in = w.to_wire;
		in.flags = SEG_RST | SEG_ACK;
		in.len = 0;
		behind = test_random() % 3000;
		in.seq = w.t.snd_base - behind;
		assert_int_equal(wire(&w, test_random() % 2, &in).seq,
				 w.v.snd_nxt);
		in.flags = SEG_RST;
		assert_int_equal(w.v.snd_nxt - wire(&w, false, &in).seq,
				 behind);
	}
}

static void test_syn_is_left_alone(void **state)
{
	struct segment_buf b, copy;
	struct segment in;
	struct world w;
	struct frame f;
	int ack;

	for (ack = 0; ack < 2; ack++) {
		world_make(&w);
		in = w.to_wire;
		in.flags = SEG_SYN | (ack ? SEG_ACK : 0);
		in.mss = 1460;
		in.wscale = 7;
		in.sack_ok = true;
		in.len = 10; /* TCP Fast Open */
		f = build(&in, &b);
		copy = b;
		translate_to_wire(&w.t, &w.v, true, NOW, &f);
		assert_memory_equal(b.data, copy.data, f.len);
		translate_to_linux(&w.t, &w.v, &f);
		assert_memory_equal(b.data, copy.data, f.len);
	}
}

/* ---- wire to Linux ------------------------------------------------------- */

static void test_numbers_beyond_the_data_move_by_the_byte_counts(void **state)
{
	struct segment in, out;
	struct world w;
	unsigned int i, j;

	for (i = 0; i < ROUNDS; i++) {
		world_make(&w);
		in = w.to_linux;
		in.seq =
			w.v.rcv_nxt + test_random() % 3 * test_random() % 70000;
		in.ack = w.v.snd_nxt + 1 + test_random() % 3;
		in.len = 1 + test_random() % 1200;
		in.flags |= test_random() & (SEG_FIN | SEG_RST | SEG_PSH);
		in.sacks = test_random() % 4;
		for (j = 0; j < 8; j += 2) {
			in.sack[j] = w.v.snd_nxt + test_random() % 70000;
			in.sack[j + 1] = in.sack[j] + 1 + test_random() % 9000;
		}
		out = linux_side(&w, &in);
		assert_int_equal(out.seq - w.t.rcv_base, in.seq - w.v.rcv_nxt);
		assert_int_equal(out.ack - w.t.snd_base, in.ack - w.v.snd_nxt);
		assert_int_equal(out.len, in.len);
		assert_int_equal(out.window, in.window);
		assert_int_equal(out.flags, in.flags);
		assert_int_equal(out.tsval, in.ts ? in.tsval : 0);
		assert_int_equal(out.tsecr, in.ts ? in.tsecr : 0);
		for (j = 0; j < 2 * in.sacks; j++)
			assert_int_equal(out.sack[j] - w.t.snd_base,
					 in.sack[j] - w.v.snd_nxt);
	}
}

/* RFC 2018: what the fast path sent does not exist in Linux's space. */
static void test_sack_blocks_of_the_fast_paths_data_are_padding(void **state)
{
	struct segment in, out;
	struct world w;
	unsigned int i;

	for (i = 0; i < ROUNDS; i++) {
		world_make(&w);
		in = w.to_linux;
		in.seq = w.v.rcv_nxt;
		in.ack = w.v.snd_una;
		in.sacks = 3;
		in.sack[0] = w.v.snd_nxt - 3000;
		in.sack[1] = w.v.snd_nxt - test_random() % 1000;
		in.sack[2] = w.v.snd_nxt - 100;
		in.sack[3] = w.v.snd_nxt + 1; /* a FIN of Linux's */
		in.sack[4] = w.v.snd_nxt - 9000;
		in.sack[5] = w.v.snd_nxt - 8000;
		out = linux_side(&w, &in);
		assert_int_equal(out.sacks, 1);
		assert_int_equal(out.sack[0], w.t.snd_base);
		assert_int_equal(out.sack[1], w.t.snd_base + 1);
		assert_int_equal(out.tsval, in.ts ? in.tsval : 0);
		in.sack[3] = w.v.snd_nxt;
		out = linux_side(&w, &in);
		assert_int_equal(out.sacks, 0);
		assert_int_equal(out.tsval, in.ts ? in.tsval : 0);
		assert_int_equal(out.ack, w.t.snd_base);
	}
}

/* The byte of the IP header that holds the ECN field (RFC 3168 5). */
static uint8_t tos_of(const struct frame *f)
{
	const uint8_t *ip = f->data + f->l3;

	return f->v6 ? (uint8_t)(ip[0] << 4 | ip[1] >> 4) : ip[1];
}

static void test_ecn_bits_pass_both_ways(void **state)
{
	struct segment_buf b;
	struct segment in;
	struct world w;
	struct frame f;
	unsigned int i;
	uint8_t tos;

	for (i = 0; i < ROUNDS; i++) {
		world_make(&w);
		in = i % 2 ? w.to_linux : w.to_wire;
		in.seq = i % 2 ? w.v.rcv_nxt : w.t.snd_base;
		in.ack = i % 2 ? w.v.snd_nxt : w.t.rcv_base;
		in.flags |= SEG_FIN | (test_random() & 0xc0);
		tos = (uint8_t)test_random();
		f = build(&in, &b);
		if (f.v6) {
			b.data[f.l3] = 0x60 | tos >> 4;
			b.data[f.l3 + 1] = (uint8_t)(tos << 4);
		} else {
			b.data[f.l3 + 1] = tos;
		}
		frame_set_checksums(&f);
		if (i % 2)
			translate_to_linux(&w.t, &w.v, &f);
		else
			translate_to_wire(&w.t, &w.v, test_random() % 2, NOW,
					  &f);
		assert_int_equal(result(&f).flags, in.flags);
		assert_int_equal(tos_of(&f), tos);
	}
}

static uint32_t empty_ahead(struct world *w, uint32_t ahead, uint8_t flags)
{
	struct segment in = w->to_linux;

	in.seq = w->v.rcv_nxt + ahead;
	in.ack = w->v.snd_nxt;
	in.flags = flags;
	return linux_side(w, &in).seq - w->t.rcv_base;
}

/* Linux advertised less than the fast path. */
static void test_empty_segment_behind_a_gap_stays_in_the_window(void **state)
{
	struct world w;
	uint32_t n;
	unsigned int i;

	for (i = 0; i < ROUNDS; i++) {
		world_make(&w);
		w.v.rcv_wnd = 131072;
		n = 2 + test_random() % 131071;
		assert_int_equal(empty_ahead(&w, n, SEG_ACK), 0);
		assert_int_equal(empty_ahead(&w, n, SEG_ACK | SEG_RST), 1);
		assert_int_equal(empty_ahead(&w, n, SEG_ACK | SEG_FIN), n);
		/* behind the peer's FIN; a RST as it must be; a forged one */
		assert_int_equal(empty_ahead(&w, 1, SEG_ACK), 1);
		assert_int_equal(empty_ahead(&w, 0, SEG_RST), 0);
		assert_int_equal(empty_ahead(&w, 131072 + n, SEG_RST),
				 131072 + n);
	}
}

/* Every overlap of a segment with what was taken. */
static void test_taken_payload_is_cut_off(void **state)
{
	struct segment_buf b;
	struct segment in, out;
	struct world w;
	struct frame f;
	int off, len, left, i;

	for (off = -30; off <= 5; off++) {
		for (len = 0; len <= 32; len++) {
			world_make(&w);
			w.v.rcv_wnd = 1; /* nothing is ahead within it */
			in = w.to_linux;
			in.seq = w.v.rcv_nxt + off;
			in.ack = w.v.snd_nxt;
			in.len = len;
			in.flags |= len % 2 ? SEG_FIN : 0;
			f = build(&in, &b);
			translate_to_linux(&w.t, &w.v, &f);
			out = result(&f);
			left = off >= 0 ? len : len + off;
			assert_int_equal(out.len, left > 0 ? left : 0);
			for (i = 0; i < left; i++)
				assert_int_equal(
					b.data[f.payload + i],
					segment_byte(in.seq + len - left + i));
			assert_int_equal(out.seq - w.t.rcv_base,
					 off >= 0    ? (uint32_t)off
					 : left >= 0 ? 0
						     : UINT32_MAX);
			assert_int_equal(out.flags, in.flags);
		}
	}
}

/* The pointer counts from the first byte that is left. */
static void test_an_urgent_pointer_is_cut_with_the_payload(void **state)
{
	struct segment in, out;
	struct world w;
	uint16_t urg;

	for (urg = 1; urg <= 20; urg++) {
		world_make(&w);
		w.v.rcv_wnd = 1;
		in = w.to_linux;
		in.seq = w.v.rcv_nxt - 10;
		in.ack = w.v.snd_nxt;
		in.len = 10;
		in.flags |= SEG_URG | SEG_FIN;
		in.urg = urg;
		out = linux_side(&w, &in);
		assert_int_equal(out.seq, w.t.rcv_base);
		assert_int_equal(out.urg, urg > 10 ? urg - 10 : 0);
		assert_int_equal(out.flags,
				 urg > 10 ? in.flags : SEG_ACK | SEG_FIN);
	}
}

/* The fast path's own notice: nothing is cut. */
static void test_an_urgent_pointer_alone_passes(void **state)
{
	struct segment in, out;
	struct world w;

	world_make(&w);
	in = w.to_linux;
	in.seq = w.v.rcv_nxt;
	in.ack = w.v.snd_una;
	in.flags |= SEG_URG;
	in.urg = 7;
	out = linux_side(&w, &in);
	assert_int_equal(out.seq, w.t.rcv_base);
	assert_int_equal(out.flags, SEG_ACK | SEG_URG);
	assert_int_equal(out.urg, 7);
}

static void test_old_segment_stays_just_old(void **state)
{
	struct segment in, out;
	struct world w;
	unsigned int i;

	for (i = 0; i < ROUNDS; i++) {
		world_make(&w);
		in = w.to_linux;
		in.len = test_random() % 1000;
		in.seq = w.v.rcv_nxt - in.len - 1 - test_random() % 1000000;
		in.ack = w.v.snd_nxt;
		out = linux_side(&w, &in);
		assert_int_equal(out.seq, w.t.rcv_base - 1);
		assert_int_equal(out.len, 0);
	}
}

static void test_ack_of_fast_path_data_is_the_base(void **state)
{
	struct segment in, out;
	struct world w;
	unsigned int i;

	for (i = 0; i < ROUNDS; i++) {
		world_make(&w);
		in = w.to_linux;
		in.seq = w.v.rcv_nxt;
		in.ack = w.v.snd_nxt - test_random() % 100000;
		out = linux_side(&w, &in);
		assert_int_equal(out.ack, w.t.snd_base);
		in.ack = w.v.snd_una - (1u << 20) - 1 - test_random() % 9999;
		out = linux_side(&w, &in);
		assert_int_equal(out.ack - w.t.snd_base, in.ack - w.v.snd_nxt);
	}
}

static void test_segment_without_ack_keeps_its_ack_field(void **state)
{
	struct segment in, out;
	struct world w;

	world_make(&w);
	in = w.to_linux;
	in.flags = SEG_RST;
	in.seq = w.v.rcv_nxt;
	out = linux_side(&w, &in);
	assert_int_equal(out.ack, 0);
	assert_int_equal(out.seq, w.t.rcv_base);
}

/* RFC 5961: the peer lacks data before our RST and challenges it. */
static void test_answer_to_a_challenged_reset_names_the_peers_number(void **st)
{
	struct segment in, out;
	struct world w;

	world_make(&w);
	w.v.snd_una = w.v.snd_nxt - 5000;
	w.t.reset = true;
	in = w.to_linux;
	in.seq = w.v.rcv_nxt;
	in.ack = w.v.snd_una + 100;
	out = linux_side(&w, &in);
	in = w.to_wire;
	in.flags = SEG_RST;
	in.seq = out.ack; /* RFC 9293 3.5.2: SEG.ACK */
	out = wire(&w, false, &in);
	assert_int_equal(out.seq, w.v.snd_una + 100);
}

/* More was in flight than Linux ever advertised: conntrack must not mind. */
static void test_data_behind_our_reset_stay_in_the_window(void **state)
{
	struct segment in;
	struct world w;
	unsigned int i;

	for (i = 0; i < ROUNDS; i++) {
		world_make(&w);
		w.v.rcv_wnd = 4000000;
		w.t.reset = true;
		in = w.to_linux;
		in.len = test_random() % 1000;
		in.seq = w.v.rcv_nxt + 2 + test_random() % 3999999;
		in.ack = w.v.snd_nxt;
		in.flags = SEG_ACK | (test_random() % 2 ? SEG_FIN : 0);
		assert_int_equal(linux_side(&w, &in).seq, w.t.rcv_base);
	}
}

static void test_wrong_checksum_stays_wrong(void **state)
{
	struct segment_buf b;
	struct segment in;
	struct world w;
	struct frame f;
	unsigned int i;

	for (i = 0; i < ROUNDS; i++) {
		bool in_ip;

		world_make(&w);
		in = w.to_linux;
		in.len = test_random() % 100;
		in.seq = w.v.rcv_nxt - test_random() % 100;
		in.ack = w.v.snd_nxt;
		in_ip = !in.v6 && test_random() % 2;
		f = build(&in, &b);
		b.data[in_ip ? 14 + 10 : f.l4 + 16] ^= 1 + test_random() % 254;
		translate_to_linux(&w.t, &w.v, &f);
		assert_int_equal(frame_tcp_checksum_ok(&f), in_ip);
		if (!in.v6)
			assert_int_equal(segment_sum(b.data + 14, 20, 0) ==
						 0xffff,
					 !in_ip);
	}
}

static void test_padding_goes_with_the_payload(void **state)
{
	struct segment_buf b;
	struct segment in;
	struct world w;
	struct frame f;

	world_make(&w);
	in = w.to_linux;
	in.seq = w.v.rcv_nxt - 3;
	in.len = 3;
	in.flags |= SEG_FIN;
	assert_int_equal(segment_build(&in, b.data) < 120, true);
	assert_int_equal(frame_parse(&f, b.data, 120), FRAME_TCP);
	translate_to_linux(&w.t, &w.v, &f);
	assert_int_equal(f.len, f.payload);
	assert_int_equal(result(&f).flags, SEG_ACK | SEG_FIN);
}

/* ---- closing ------------------------------------------------------------- */

static void test_fins_keep_their_place_while_the_other_half_goes_on(void **st)
{
	struct segment in, out;
	struct world w;
	unsigned int i;

	world_make(&w);
	w.v.snd_una = w.v.snd_nxt;
	w.v.snd_fin = true;
	for (i = 0; i < 1000; i++) {
		/* Linux's FIN, sent again while data keep coming in */
		in = w.to_wire;
		in.flags = SEG_FIN | SEG_ACK;
		in.seq = w.t.snd_base;
		in.ack = w.t.rcv_base;
		out = wire(&w, true, &in);
		assert_int_equal(out.seq, w.v.snd_nxt);
		assert_int_equal(out.ack, w.v.rcv_nxt);
		w.v.rcv_nxt += test_random() % 1448;
		/* its acknowledgment, with data that were taken */
		in = w.to_linux;
		in.len = 50;
		in.seq = w.v.rcv_nxt - 50;
		in.ack = w.v.snd_nxt + 1;
		out = linux_side(&w, &in);
		assert_int_equal(out.seq, w.t.rcv_base);
		assert_int_equal(out.ack, w.t.snd_base + 1);
		assert_int_equal(out.len, 0);
	}
	/* the peer's FIN, and Linux's last ACK */
	in = w.to_linux;
	in.flags |= SEG_FIN;
	in.len = 50;
	in.seq = w.v.rcv_nxt - 50;
	in.ack = w.v.snd_nxt + 1;
	out = linux_side(&w, &in);
	assert_int_equal(out.seq, w.t.rcv_base);
	in = w.to_wire;
	in.seq = w.t.snd_base + 1;
	in.ack = w.t.rcv_base + 1;
	out = wire(&w, false, &in);
	assert_int_equal(out.seq, w.v.snd_nxt + 1);
	assert_int_equal(out.ack, w.v.rcv_nxt + 1);
}

static void test_peers_fin_keeps_its_place_while_we_send_on(void **state)
{
	struct segment in, out;
	struct world w;
	unsigned int i;

	world_make(&w);
	w.v.rcv_fin = true;
	for (i = 0; i < 1000; i++) {
		in = w.to_linux;
		in.flags |= SEG_FIN;
		in.seq = w.v.rcv_nxt;
		in.ack = w.v.snd_una;
		out = linux_side(&w, &in);
		assert_int_equal(out.seq, w.t.rcv_base);
		assert_int_equal(out.ack, w.t.snd_base);
		in = w.to_wire;
		in.seq = w.t.snd_base;
		in.ack = w.t.rcv_base + 1;
		out = wire(&w, true, &in);
		assert_int_equal(out.seq, w.v.snd_nxt);
		assert_int_equal(out.ack, w.v.rcv_nxt + 1);
		w.v.snd_una = w.v.snd_nxt - test_random() % 100;
		w.v.snd_nxt += test_random() % 1448;
	}
}

/* ---- ICMP ---------------------------------------------------------------- */

struct icmp {
	struct segment quoted; /* as we sent it */
	uint32_t quoted_len;   /* of its TCP part, 8 or more */
	uint32_t ip_options;   /* bytes in the quoted IPv4 header */
	int ext;	       /* extension headers in the quoted IPv6 header */
	uint32_t outer_options; /* bytes in the outer IPv4 header */
	uint8_t type;
};

static uint32_t quote_build(const struct icmp *c, uint8_t *p)
{
	uint32_t iphl = c->quoted.v6 ? 40 : 20, len = 0;
	struct segment_buf b;
	int i;

	segment_build(&c->quoted, b.data);
	memcpy(p, b.data + 14, iphl);
	len = iphl;
	if (!c->quoted.v6 && c->ip_options) {
		p[0] = 0x45 + c->ip_options / 4;
		memset(p + len, 1, c->ip_options);
		len += c->ip_options;
	}
	for (i = 0; c->quoted.v6 && i < c->ext; i++) {
		static const uint8_t hdr[] = {0, 60, 43, 44};

		if (i == 0)
			p[6] = hdr[0];
		else
			p[len - 8] = hdr[i % 4];
		memset(p + len, 0, 8);
		p[len] = 6;
		len += 8;
	}
	memcpy(p + len, b.data + 14 + iphl, c->quoted_len);
	return len + c->quoted_len;
}

/* A router's error about @c, to us. */
static uint32_t icmp_build(const struct icmp *c, uint8_t *frame)
{
	uint32_t iphl = c->quoted.v6 ? 40 : 20 + c->outer_options, len;
	uint8_t *ip = frame + 14, *icmp = ip + iphl;

	memset(frame, 0, 14 + iphl + 8);
	put_be16(frame + 12, c->quoted.v6 ? 0x86dd : 0x0800);
	icmp[0] = c->type;
	len = 8 + quote_build(c, icmp + 8);
	if (c->quoted.v6) {
		ip[0] = 0x60;
		put_be16(ip + 4, len);
		ip[6] = 58;
		ip[7] = 255;
		memcpy(ip + 24, c->quoted.src, 16);
		put_be16(icmp + 2,
			 0xffff & ~segment_sum(icmp, len,
					       segment_pseudo(frame, len, 58)));
	} else {
		ip[0] = 0x40 + iphl / 4;
		memset(ip + 20, 1, c->outer_options);
		put_be16(ip + 2, iphl + len);
		ip[8] = 64;
		ip[9] = 1;
		memcpy(ip + 16, c->quoted.src, 4);
		put_be16(ip + 10, 0xffff & ~segment_sum(ip, iphl, 0));
		put_be16(icmp + 2, 0xffff & ~segment_sum(icmp, len, 0));
	}
	return 14 + iphl + len;
}

static bool icmp_sum_ok(const uint8_t *frame, uint32_t len, bool v6,
			uint32_t outer_options)
{
	uint32_t off = 14 + (v6 ? 40 : 20 + outer_options);

	return segment_sum(frame + off, len - off,
			   v6 ? segment_pseudo(frame, len - off, 58) : 0) ==
	       0xffff;
}

static void icmp_make(const struct world *w, struct icmp *c)
{
	static const uint8_t v4[] = {3, 4, 5, 11, 12};

	memset(c, 0, sizeof(*c));
	c->quoted = w->to_wire;
	c->quoted.seq = w->v.snd_una;
	c->quoted_len = 8 + test_random() % 25 / 2 * 2;
	c->ip_options = test_random() % 4 * 4;
	c->ext = test_random() % 5;
	c->outer_options = test_random() % 3 * 4;
	c->type = c->quoted.v6 ? 1 + test_random() % 4 : v4[test_random() % 5];
}

static uint32_t quoted_seq(const struct icmp *c, const uint8_t *frame,
			   uint32_t len)
{
	return get_be32(frame + len - c->quoted_len + 4);
}

static void test_icmp_error_names_its_connection(void **state)
{
	struct conn_key key, want;
	struct segment_buf b;
	struct world w;
	struct icmp c;
	unsigned int i;
	uint32_t len;

	for (i = 0; i < ROUNDS; i++) {
		struct frame f;

		world_make(&w);
		icmp_make(&w, &c);
		f = build(&c.quoted, &b);
		frame_key(&f, false, &want);
		len = icmp_build(&c, b.data);
		assert_true(translate_icmp_key(b.data, len, &key));
		assert_memory_equal(&key, &want, sizeof(key));
	}
}

static void test_icmp_quote_keeps_its_place_in_the_window(void **state)
{
	struct segment_buf b;
	struct world w;
	struct icmp c;
	unsigned int i;
	uint32_t len, seq;

	for (i = 0; i < ROUNDS; i++) {
		world_make(&w);
		icmp_make(&w, &c);
		c.quoted.seq = w.v.snd_una - 3000 + test_random() % 15000;
		len = icmp_build(&c, b.data);
		translate_icmp_to_linux(&w.t, &w.v, b.data, len);
		assert_true(
			icmp_sum_ok(b.data, len, c.quoted.v6, c.outer_options));
		seq = quoted_seq(&c, b.data, len);
		if ((int32_t)(c.quoted.seq - w.v.snd_una) >= 0 &&
		    (int32_t)(c.quoted.seq - w.v.snd_nxt) <= 0) {
			assert_int_equal(seq, w.t.snd_base);
		} else {
			assert_int_not_equal(seq, w.t.snd_base);
			assert_int_equal(seq - w.t.snd_base,
					 c.quoted.seq - w.v.snd_nxt);
		}
	}
}

static void test_icmp_wrong_checksum_stays_wrong(void **state)
{
	struct segment_buf b;
	struct world w;
	struct icmp c;
	unsigned int i;
	uint32_t len;

	for (i = 0; i < ROUNDS; i++) {
		world_make(&w);
		icmp_make(&w, &c);
		len = icmp_build(&c, b.data);
		b.data[len - c.quoted_len - 1] ^= 0x10;
		translate_icmp_to_linux(&w.t, &w.v, b.data, len);
		assert_false(
			icmp_sum_ok(b.data, len, c.quoted.v6, c.outer_options));
	}
}

/* Each prefix of an error, in memory of exactly that size, with and without
 * the IP length telling the truth. */
static void test_icmp_cut_short_is_no_error_of_ours(void **state)
{
	struct conn_key key;
	struct segment_buf b;
	struct world w;
	struct icmp c;
	unsigned int i;
	uint32_t len, cut, need;

	for (i = 0; i < 300; i++) {
		world_make(&w);
		icmp_make(&w, &c);
		len = icmp_build(&c, b.data);
		need = len - c.quoted_len + 8;
		for (cut = 0; cut < len; cut++) {
			uint8_t *p = malloc(cut + 2);
			uint8_t *d = p + 2;
			bool lie = test_random() % 2;

			assert_non_null(p);
			memcpy(d, b.data, cut);
			if (!lie && cut >= 14 + 40 && c.quoted.v6)
				put_be16(d + 18, cut - 54);
			if (!lie && cut >= 14 + 20 && !c.quoted.v6)
				put_be16(d + 16, cut - 14);
			assert_int_equal(translate_icmp_key(d, cut, &key),
					 !lie && cut >= need);
			translate_icmp_to_linux(&w.t, &w.v, d, cut);
			free(p);
		}
	}
}

static void test_icmp_of_other_kinds_is_no_error_of_ours(void **state)
{
	struct conn_key key;
	struct segment_buf b, orig = {0};
	struct world w;
	struct icmp c;
	unsigned int i;
	uint32_t len, quote;

	for (i = 0; i < 1000; i++) {
		world_make(&w);
		icmp_make(&w, &c);
		c.ext = 0;
		len = icmp_build(&c, orig.data);
		quote = 14 + (c.quoted.v6 ? 40 : 20 + c.outer_options) + 8;
		b = orig; /* echo, neighbour discovery */
		b.data[quote - 8] = c.quoted.v6 ? 128 + i % 10 : 8;
		assert_false(translate_icmp_key(b.data, len, &key));
		b = orig; /* about UDP */
		b.data[quote + (c.quoted.v6 ? 6 : 9)] = 17;
		assert_false(translate_icmp_key(b.data, len, &key));
		b = orig; /* of the other family */
		b.data[quote] ^= 0x20;
		assert_false(translate_icmp_key(b.data, len, &key));
		if (c.quoted.v6)
			continue;
		b = orig; /* about a later fragment */
		b.data[quote + 7] = 1;
		assert_false(translate_icmp_key(b.data, len, &key));
		b = orig; /* itself a later fragment */
		b.data[14 + 7] = 1;
		assert_false(translate_icmp_key(b.data, len, &key));
		b = orig; /* header length too short */
		b.data[quote] = 0x44;
		assert_false(translate_icmp_key(b.data, len, &key));
	}
}

/* ---- options, building --------------------------------------------------- */

static void test_timestamps_are_read_from_any_layout(void **state)
{
	uint32_t tsval = 0, tsecr = 0, len;
	struct segment_buf b;
	struct segment s;
	struct world w;
	struct frame f;

	world_make(&w);
	s = w.to_linux;
	s.ts = true;
	s.mss = 1460;
	s.wscale = 7;
	f = build(&s, &b);
	assert_true(translate_timestamps(&f, &tsval, &tsecr));
	assert_int_equal(tsval, s.tsval);
	assert_int_equal(tsecr, s.tsecr);
	s.ts = false;
	f = build(&s, &b);
	assert_false(translate_timestamps(&f, &tsval, &tsecr));
	/* behind a single NOP, unaligned, and behind the list's end */
	s.ts = true;
	s.mss = 0;
	s.wscale = -1;
	len = segment_build(&s, b.data);
	assert_int_equal(frame_parse(&f, b.data, len), FRAME_TCP);
	memmove(b.data + f.l4 + 21, b.data + f.l4 + 22, 10);
	assert_true(translate_timestamps(&f, &tsval, &tsecr));
	assert_int_equal(tsval, s.tsval);
	b.data[f.l4 + 20] = 0;
	assert_false(translate_timestamps(&f, &tsval, &tsecr));
}

static void test_any_bytes_as_options_do_no_harm(void **state)
{
	struct segment_buf b;
	struct segment s;
	struct world w;
	struct frame f;
	unsigned int i, j;

	for (i = 0; i < ROUNDS; i++) {
		world_make(&w);
		s = w.to_linux;
		s.seq = w.v.rcv_nxt;
		s.ts = true;
		s.sacks = 3;
		f = build(&s, &b);
		for (j = f.l4 + 20; j < f.payload; j++)
			b.data[j] = test_random() % 4 ? test_random() % 12
						      : test_random();
		frame_set_checksums(&f);
		translate_to_linux(&w.t, &w.v, &f);
		assert_true(frame_tcp_checksum_ok(&f));
		translate_to_wire(&w.t, &w.v, false, NOW, &f);
		assert_true(frame_tcp_checksum_ok(&f));
		assert_int_equal(get_be32(b.data + f.l4 + 4),
				 w.v.snd_nxt + (w.t.rcv_base - w.t.snd_base));
	}
}

static void test_built_segment_is_from_the_peer(void **state)
{
	struct segment_buf b;
	struct segment s, out;
	struct conn_key key;
	struct world w;
	struct frame f;
	unsigned int i;
	uint8_t l2[14];
	uint32_t len, payload;

	for (i = 0; i < ROUNDS; i++) {
		bool keepalive = i % 2;

		world_make(&w);
		s = w.to_wire;
		f = build(&s, &b);
		frame_key(&f, false, &key);
		memcpy(l2, b.data, 14);
		s.seq = test_random();
		s.ack = test_random();
		len = translate_build_ack(&key, l2, &w.t, s.seq, s.ack,
					  s.window, s.tsval, s.tsecr, keepalive,
					  b.data);
		assert_true(len <= 128);
		assert_true(segment_read(&out, b.data, len, &payload));
		assert_memory_equal(b.data, l2 + 6, 6);
		assert_memory_equal(b.data + 6, l2, 6);
		assert_memory_equal(out.src, s.dst, 16);
		assert_memory_equal(out.dst, s.src, 16);
		assert_int_equal(out.sport, s.dport);
		assert_int_equal(out.dport, s.sport);
		assert_int_equal(out.seq, s.seq - keepalive);
		assert_int_equal(out.ack, s.ack);
		assert_int_equal(out.window, s.window);
		assert_int_equal(out.flags, SEG_ACK);
		assert_int_equal(out.len, keepalive);
		assert_int_equal(out.ts, w.t.timestamps);
		if (out.ts) {
			assert_int_equal(out.tsval, s.tsval);
			assert_int_equal(out.tsecr, s.tsecr);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers_move_by_the_byte_counts),
		cmocka_unit_test(test_keepalive_probe_lands_below_snd_una),
		cmocka_unit_test(test_window_is_the_flows_while_it_lives),
		cmocka_unit_test(test_tsval_is_the_clocks_and_tsecr_the_flows),
		cmocka_unit_test(test_reset_without_ack_keeps_its_zero_fields),
		cmocka_unit_test(test_rst_has_the_number_that_the_peer_expects),
		cmocka_unit_test(test_syn_is_left_alone),
		cmocka_unit_test(
			test_numbers_beyond_the_data_move_by_the_byte_counts),
		cmocka_unit_test(
			test_sack_blocks_of_the_fast_paths_data_are_padding),
		cmocka_unit_test(test_ecn_bits_pass_both_ways),
		cmocka_unit_test(
			test_empty_segment_behind_a_gap_stays_in_the_window),
		cmocka_unit_test(test_taken_payload_is_cut_off),
		cmocka_unit_test(
			test_an_urgent_pointer_is_cut_with_the_payload),
		cmocka_unit_test(test_an_urgent_pointer_alone_passes),
		cmocka_unit_test(test_old_segment_stays_just_old),
		cmocka_unit_test(test_ack_of_fast_path_data_is_the_base),
		cmocka_unit_test(test_segment_without_ack_keeps_its_ack_field),
		cmocka_unit_test(
			test_answer_to_a_challenged_reset_names_the_peers_number),
		cmocka_unit_test(test_data_behind_our_reset_stay_in_the_window),
		cmocka_unit_test(test_wrong_checksum_stays_wrong),
		cmocka_unit_test(test_padding_goes_with_the_payload),
		cmocka_unit_test(
			test_fins_keep_their_place_while_the_other_half_goes_on),
		cmocka_unit_test(
			test_peers_fin_keeps_its_place_while_we_send_on),
		cmocka_unit_test(test_icmp_error_names_its_connection),
		cmocka_unit_test(test_icmp_quote_keeps_its_place_in_the_window),
		cmocka_unit_test(test_icmp_wrong_checksum_stays_wrong),
		cmocka_unit_test(test_icmp_cut_short_is_no_error_of_ours),
		cmocka_unit_test(test_icmp_of_other_kinds_is_no_error_of_ours),
		cmocka_unit_test(test_timestamps_are_read_from_any_layout),
		cmocka_unit_test(test_any_bytes_as_options_do_no_harm),
		cmocka_unit_test(test_built_segment_is_from_the_peer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
