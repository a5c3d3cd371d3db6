/* SPDX-License-Identifier: BSD-2-Clause */
/* The records of what is under way, and what SACK blocks do to them. */
#include "tests/unit/fastpath/host.h"

#define M HOST_MSS

/* A flow with SACK and a round trip of 40 ms. */
static void expect_sums(struct host *h, uint32_t sacked, uint32_t lost,
			uint32_t retrans)
{
	const struct flow *f = host_flow(h);

	assert_true(loss_valid(f));
	assert_int_equal(f->ext->loss.sb.sacked, sacked * M);
	assert_int_equal(f->ext->loss.sb.lost, lost * M);
	assert_int_equal(f->ext->loss.sb.retrans, retrans * M);
}

static void test_one_segment_alone_needs_no_record(struct host *h)
{
	host_send(h, 100);
	expect_tx(h, 0, 100, 0);
	assert_int_equal(host_flow(h)->ext->loss.sb.n, 0);
	assert_true(host_flow(h)->plain);
	host_send(h, 100);
	expect_tx(h, 100, 100, 0);
	assert_int_equal(host_flow(h)->ext->loss.sb.n, 2);
	assert_false(host_flow(h)->plain);
	host_rx(h, (struct seg){.ack = 200});
	assert_int_equal(host_flow(h)->ext->loss.sb.n, 0);
	assert_true(host_flow(h)->plain);
	assert_int_equal(host_flow(h)->ext->delivered, 200);
}

static void test_ring_grows_and_becomes_small_again(struct host *h)
{
	struct scoreboard *sb = &host_flow(h)->ext->loss.sb;
	struct seg s;
	uint32_t i;

	for (i = 0; i < 200; i++) {
		host_send(h, 10);
		assert_true(host_tx(h, &s));
	}
	assert_int_equal(sb->n, 200);
	assert_true(loss_valid(host_flow(h)));
	host_rx(h, (struct seg){.ack = 1995});
	assert_int_equal(sb->n, 1);
	assert_int_equal(sb->ring[sb->head].len, 5);
	host_rx(h, (struct seg){.ack = 2000});
	assert_ptr_equal(sb->ring, sb->small);
}

/* RFC 2018 section 5: "turned on" for the segments that a block covers. */
static void test_blocks_cover_whole_segments_only(struct host *h)
{
	host_open_path(h);
	host_burst(h, 4);
	host_advance_ms(h, 40);
	host_sack(h, 2 * M, 3 * M + 1, 5 * M - 1);
	expect_sums(h, 0, 0, 0);
	host_sack(h, 2 * M, 3 * M + 1, 5 * M);
	expect_sums(h, 1, 0, 0);
	host_sack(h, 2 * M, 3 * M, 5 * M);
	expect_sums(h, 2, 0, 0);
	assert_int_equal(host_flow(h)->ext->delivered, 4 * M);
	host_rx(h, (struct seg){.ack = 6 * M});
	expect_sums(h, 0, 0, 0);
	assert_int_equal(host_flow(h)->ext->delivered, 6 * M);
}

static void test_hostile_blocks_are_ignored(struct host *h)
{
	static const struct sack_block bad[] = {
		{6 * M, 7 * M},	     /* never sent */
		{3 * M, 7 * M},	     /* ends there */
		{4 * M, 4 * M},	     /* empty */
		{4 * M, 3 * M},	     /* upside down */
		{2 * M, 4 * M},	     /* begins at snd_una */
		{0x80000000, 3 * M}, /* half the sequence space */
		{3 * M, 0x80000000},
	};
	uint32_t i;

	host_open_path(h);
	host_burst(h, 4);
	host_advance_ms(h, 40);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		host_sack(h, 2 * M, bad[i].start, bad[i].end);
		expect_sums(h, 0, 0, 0);
	}
	assert_int_equal(host_count(h, tx_retransmits), 0);
}

/* One record of four segments, as if Linux had sent all of them. */
static struct scoreboard *long_record(struct host *h)
{
	struct scoreboard *sb = &host_open_path(h)->ext->loss.sb;

	host_burst(h, 4);
	host_advance_ms(h, 40);
	while (sb->n > 1)
		sb_trim(sb, M);
	sb->ring[sb->head].seq = host_flow(h)->snd_una;
	sb->ring[sb->head].len = 4 * M;
	expect_sums(h, 0, 0, 0);
	return sb;
}

static void test_a_long_record_is_cut_by_blocks(struct host *h)
{
	struct scoreboard *sb = long_record(h);

	host_sack(h, 2 * M, 4 * M, 5 * M);
	expect_sums(h, 1, 0, 0);
	assert_int_equal(sb->n, 3);
}

/* Its segments were others than ours would be. */
static void test_a_block_within_a_segment_cuts_nothing_above_it(struct host *h)
{
	struct scoreboard *sb = long_record(h);

	host_sack(h, 2 * M, 2 * M + 1, 3 * M - 1);
	expect_sums(h, 0, 0, 0);
	assert_int_equal(sb->n, 2);
	host_sack(h, 2 * M, 4 * M - 1, 5 * M + 1);
	expect_sums(h, 1, 0, 0);
	host_rx(h, (struct seg){.ack = 6 * M});
	expect_sums(h, 0, 0, 0);
}

/* The peer gave up what it had SACKed (RFC 2018 section 8). */
static void test_reneging_is_answered_by_a_time_out(struct host *h)
{
	host_open_path(h);
	host_burst(h, 4);
	host_advance_ms(h, 40);
	host_sack(h, 2 * M, 3 * M, 4 * M);
	host_rx(h, (struct seg){.ack = 3 * M});
	assert_true(loss_valid(host_flow(h)));
	host_advance_ms(h, 25); /* half a round trip */
	assert_int_equal(host_count(h, tx_rto), 1);
	expect_tx(h, 3 * M, M, 0);
	assert_int_equal(host_flow(h)->ext->loss.sb.sacked, 0);
}

int main(void)
{
	static const struct host_test tests[] = {
		T(test_one_segment_alone_needs_no_record),
		T(test_ring_grows_and_becomes_small_again),
		T(test_blocks_cover_whole_segments_only),
		T(test_hostile_blocks_are_ignored),
		T(test_a_long_record_is_cut_by_blocks),
		T(test_a_block_within_a_segment_cuts_nothing_above_it),
		T(test_reneging_is_answered_by_a_time_out),
	};

	return HOST_RUN(tests, true);
}
