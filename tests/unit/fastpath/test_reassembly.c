/* SPDX-License-Identifier: BSD-2-Clause */
/* Data behind gaps: kept, delivered at once, never beyond the buffer. */
#include "tests/unit/fastpath/host.h"

#include <stdlib.h>

static void check_ranges(struct host *h)
{
	const struct flow *f = host_flow(h);
	const struct reassembly *r = &f->ext->ooo;
	uint32_t i;

	for (i = 0; i < r->n; i++) {
		assert_true(seq_lt(r->range[i].start, r->range[i].end));
		assert_true(seq_gt(r->range[i].start,
				   i ? r->range[i - 1].end : f->rcv_nxt));
		assert_true(seq_leq(r->range[i].end, flow_rcv_edge(f)));
		assert_true(r->range[i].end - f->rcv_nxt <= flow_rx_free(f));
	}
}

static void gap(struct host *h, uint32_t seq, uint32_t len)
{
	host_rx(h, (struct seg){.seq = seq, .len = len});
	check_ranges(h);
}

/* ---- the ranges themselves ------------------------------------------------
 */

#define SPACE 600u

/* Against one byte of memory for each byte of the stream. */
static void test_ranges_are_what_arrived(struct host *h)
{
	static uint8_t have[SPACE];
	uint32_t base = h->irs, nxt = 0, i, k, n;
	struct reassembly r = {0};
	struct sack_block part;

	memset(have, 0, sizeof(have));
	srand(7);
	for (n = 0; n < 3000; n++) {
		uint32_t s = nxt + (uint32_t)rand() % 120;
		uint32_t e = s + 1 + (uint32_t)rand() % 9;
		bool known = false, any;

		if (s >= SPACE || e > SPACE)
			break;
		for (i = s; i < e; i++)
			known |= have[i];
		any = reassembly_overlap(&r, base + s, base + e, &part);
		assert_true(any == (known && s > nxt) || s <= nxt);
		if (any)
			for (i = part.start - base; i < part.end - base; i++)
				assert_true(have[i]);
		memset(have + s, 1, e - s);
		if (s == nxt)
			nxt = reassembly_advance(&r, base + e) - base;
		else
			assert_true(reassembly_add(&r, base + s, base + e));
		for (i = 0, k = 0; i < r.n; i++) {
			k += r.range[i].end - r.range[i].start;
			assert_true(i == 0 || seq_gt(r.range[i].start,
						     r.range[i - 1].end));
			assert_true(seq_gt(r.range[i].start, base + nxt));
		}
		for (i = nxt; i < SPACE; i++)
			k -= have[i];
		assert_int_equal(k, 0);
	}
	assert_true(n > 500);
}

/* ---- RFC 9293 3.10.7.4: "segments with higher beginning sequence numbers
 * SHOULD be held for later processing" ---------------------------------------
 */

static void
test_data_behind_a_gap_are_held_and_delivered_at_once(struct host *h)
{
	gap(h, 1000, 500);
	gap(h, 2000, 500);
	assert_false(host_reply(h, 0));
	gap(h, 1500, 500);
	assert_int_equal(host_flow(h)->ext->ooo.n, 1);
	assert_false(host_flow(h)->plain);
	gap(h, 0, 1000);
	expect_data(h, 0, 2500);
	assert_int_equal(h->reply.off, 0);
	assert_true(host_flow(h)->plain);
	assert_false(host_reply(h, 0));
}

static void test_a_gap_is_filled_piece_by_piece(struct host *h)
{
	gap(h, 1000, 100);
	gap(h, 2000, 100);
	gap(h, 0, 500);
	expect_data(h, 0, 500);
	gap(h, 500, 500);
	expect_data(h, 500, 600);
	gap(h, 1100, 900);
	expect_data(h, 1100, 1000);
	assert_true(host_flow(h)->plain);
}

static void test_overlaps_join(struct host *h)
{
	gap(h, 100, 100);
	gap(h, 300, 100);
	gap(h, 150, 200); /* both */
	assert_int_equal(host_flow(h)->ext->ooo.n, 1);
	gap(h, 50, 400); /* around all */
	gap(h, 450, 1);	 /* touches */
	gap(h, 60, 10);	 /* known */
	assert_int_equal(host_flow(h)->ext->ooo.n, 1);
	gap(h, 0, 200);
	expect_data(h, 0, 451);
}

static void test_in_order_data_over_ranges(struct host *h)
{
	gap(h, 100, 50);
	gap(h, 300, 50);
	gap(h, 600, 50);
	gap(h, 0, 500);
	expect_data(h, 0, 500);
	gap(h, 500, 1000); /* over the end of the last */
	expect_data(h, 500, 1000);
	assert_true(host_flow(h)->plain);
}

/* The position may not restart while data lie behind a gap. */
static void test_position_stays_while_there_are_ranges(struct host *h)
{
	gap(h, 0, 700);
	expect_data(h, 0, 700);
	gap(h, 1700, 1000);
	host_credit(h, 700); /* nothing unread */
	gap(h, 700, 1000);
	expect_data(h, 700, 2000);
	assert_int_equal(h->reply.off, 700);
	host_credit(h, 2000);
	gap(h, 3000, 10); /* and here it may */
	gap(h, 2700, 300);
	expect_data(h, 2700, 310);
	assert_int_equal(h->reply.off, 0);
}

static void test_ranges_wrap_round_the_buffer(struct host *h)
{
	uint32_t pos = 0, i;

	/* A byte stays unread, so that the position never restarts. */
	for (i = 0; i < 60; i++, pos += 2100) {
		gap(h, pos + 1400, 700);
		gap(h, pos + 700, 700);
		gap(h, pos, 700);
		expect_data(h, pos, 2100);
		assert_int_equal(h->reply.off, pos & (HOST_BUF - 1));
		host_credit(h, i ? 2100 : 2099);
	}
}

static void test_held_data_keep_to_the_window(struct host *h)
{
	uint32_t wnd = h->params.rcv_wnd;

	gap(h, wnd - 500, 1000); /* the end is cut off */
	assert_int_equal(host_flow(h)->ext->ooo.range[0].end, h->irs + wnd);
	gap(h, HOST_BUF, 1000); /* the ACK opened the window */
	assert_int_equal(host_count(h, rx_out_of_window), 1);
	for (uint32_t pos = 0; pos < wnd - 500; pos += 1000)
		host_push(h, (struct seg){.seq = pos, .len = 1000});
	host_turn(h);
	expect_data(h, 0, wnd);
}

/* Linux may have advertised more than the buffer holds. */
static void test_held_data_keep_to_the_buffer(struct host *h)
{
	h->params.rcv_wnd = 2 * HOST_BUF;
	host_install(h);
	host_release(h);
	host_rx(h, (struct seg){.seq = HOST_BUF - 100, .len = 1000});
	host_rx(h, (struct seg){.seq = HOST_BUF + 100, .len = 100});
	check_ranges(h);
	assert_int_equal(host_flow(h)->ext->ooo.n, 1);
	assert_int_equal(host_flow(h)->ext->ooo.range[0].end,
			 h->irs + HOST_BUF);
}

/* RFC 2018 section 8 would allow to drop what was reported: never done. */
static void test_more_gaps_than_are_kept(struct host *h)
{
	struct seg s;
	uint32_t i;

	for (i = 0; i < REASSEMBLY_MAX; i++)
		gap(h, 10 + 20 * i, 10);
	while (host_tx(h, &s))
		;
	gap(h, 10 + 20 * i, 10);
	assert_int_equal(host_count(h, rx_too_many_gaps), 1);
	expect_tx(h, 0, 0, 0); /* but answered */
	/* What makes no new range is taken. */
	gap(h, 20, 10);
	assert_int_equal(host_flow(h)->ext->ooo.n, REASSEMBLY_MAX - 1);
	gap(h, 10 + 20 * i, 10);
	assert_int_equal(host_count(h, rx_too_many_gaps), 1);
	gap(h, 0, 10);
	expect_data(h, 0, 40);
}

static void test_bad_checksum_behind_a_gap(struct host *h)
{
	host_rx(h, (struct seg){.seq = 10, .len = 64, .bad_tcp_sum = true});
	assert_int_equal(host_flow(h)->ext->ooo.n, 0);
	host_quiet(h);
}

/* A program that scribbles behind what it was told of hurts its own data. */
static void test_program_may_scribble(struct host *h)
{
	gap(h, 100, 100);
	memset(h->mem + h->params.rx_buf, 0xee, HOST_BUF);
	gap(h, 0, 100);
	assert_true(host_reply(h, 0));
	assert_int_equal(h->reply.len, 200);
	gap(h, 200, 100);
	expect_data(h, 200, 100);
}

static void test_data_behind_a_gap_after_close_abort(struct host *h)
{
	host_send(h, 10);
	host_put(h, 0, host_cmd(h, 0, 0, XTS_F_CLOSE));
	host_turn(h);
	host_rx(h, (struct seg){.seq = 50, .len = 10});
	expect_event(h, FP_EV_REMOVED);
	assert_int_equal(h->ev.how, FP_REMOVED_ABORT);
}

/* Reordered, repeated, overlapping and lost; every byte at its place. */
static void test_random_disorder(struct host *h)
{
	uint32_t told = 0, n;
	struct seg s;

	srand(11);
	for (n = 0; n < 4000; n++) {
		const struct flow *f = host_flow(h);
		uint32_t next = f->rcv_nxt - h->irs;
		int32_t off = rand() % 6000 - 600;
		uint32_t len = 1 + (uint32_t)rand() % 900;

		if (off < 0 && next < 600)
			off = 0;
		if (rand() % 4 == 0)
			off = 0;
		gap(h, next + (uint32_t)off, len);
		while (host_tx(h, &s))
			;
		if (f->pend_len || f->rx_unread != 0) {
			uint32_t got = f->rcv_nxt - h->irs - told;

			if (got)
				expect_data(h, told, got);
			told += got;
			host_credit(h, got);
		}
	}
	assert_true(told > 500000);
}

int main(void)
{
	static const struct host_test tests[] = {
		T(test_ranges_are_what_arrived),
		T(test_data_behind_a_gap_are_held_and_delivered_at_once),
		T(test_a_gap_is_filled_piece_by_piece),
		T(test_overlaps_join),
		T(test_in_order_data_over_ranges),
		T(test_position_stays_while_there_are_ranges),
		T(test_ranges_wrap_round_the_buffer),
		T(test_held_data_keep_to_the_window),
		T_BARE(test_held_data_keep_to_the_buffer),
		T(test_more_gaps_than_are_kept),
		T(test_bad_checksum_behind_a_gap),
		T(test_program_may_scribble),
		T(test_data_behind_a_gap_after_close_abort),
		T(test_random_disorder),
	};

	return HOST_RUN(tests, true);
}
