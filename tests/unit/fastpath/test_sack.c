/* SPDX-License-Identifier: BSD-2-Clause */
/* The receiver's half of SACK: what is reported, in which order, and when. */
#include "tests/unit/fastpath/host.h"

/* The next segment sent acknowledges @ack and has exactly these blocks. */
#define expect_sack(h, ack, ...)                                               \
	expect_sack_at(h, ack, (const struct sack_block[]){__VA_ARGS__},       \
		       sizeof((const struct sack_block[]){__VA_ARGS__}) / 8,   \
		       __FILE__, __LINE__)
static struct seg expect_sack_at(struct host *h, uint32_t ack,
				 const struct sack_block *b, uint32_t n,
				 const char *file, int line)
{
	struct seg s = {0};
	uint32_t i;

	if (!host_tx(h, &s))
		_fail(file, line);
	_assert_int_equal(s.ack, ack, file, line);
	_assert_int_equal(s.n_blocks, n, file, line);
	for (i = 0; i < n; i++) {
		_assert_int_equal(s.block[i].start, b[i].start, file, line);
		_assert_int_equal(s.block[i].end, b[i].end, file, line);
	}
	return s;
}

static void rx(struct host *h, uint32_t seq, uint32_t len)
{
	host_rx(h, (struct seg){.seq = seq, .len = len});
}

/* RFC 2018 section 4: "the data receiver SHOULD generate SACK options on all
 * ACKs that do not ACK the highest sequence number"; "the first SACK block MUST
 * specify the contiguous block of data containing the segment which triggered
 * this ACK"; then "repeating the most recently reported SACK blocks". */
static void test_newest_block_comes_first(struct host *h)
{
	rx(h, 100, 10);
	expect_sack(h, 0, {100, 110});
	rx(h, 300, 10);
	expect_sack(h, 0, {300, 310}, {100, 110});
	rx(h, 200, 10);
	expect_sack(h, 0, {200, 210}, {300, 310}, {100, 110});
	rx(h, 110, 10);
	expect_sack(h, 0, {100, 120}, {200, 210}, {300, 310});
	rx(h, 0, 100);
	expect_sack(h, 120, {200, 210}, {300, 310});
	rx(h, 120, 80);
	expect_sack(h, 210, {300, 310});
	rx(h, 210, 90);
	assert_int_equal(expect_tx(h, 0, 0, 310).n_blocks, 0);
}

/* RFC 2018 section 3: four blocks, three beside timestamps. */
static void test_as_many_blocks_as_fit(struct host *h)
{
	struct seg s;
	uint32_t i;

	for (i = 1; i <= 6; i++) {
		rx(h, i * 100, 10);
		assert_true(host_tx(h, &s));
		assert_int_equal(s.block[0].start, i * 100);
	}
	assert_int_equal(s.n_blocks, h->v.ts ? 3 : 4);
	assert_int_equal(s.block[2].start, 400);
}

/* RFC 5681 4.2: "A TCP receiver SHOULD send an immediate duplicate ACK when an
 * out-of-order segment arrives": for each, also of one burst. */
static void test_each_segment_behind_a_gap_is_answered(struct host *h)
{
	uint32_t i;

	for (i = 1; i <= 5; i++)
		host_push(h, (struct seg){.seq = i * 1000, .len = 1000});
	host_turn(h);
	for (i = 1; i <= 5; i++)
		expect_sack(h, 0, {1000, (i + 1) * 1000});
	expect_no_tx(h);
}

/* RFC 5681 4.2: "a TCP receiver SHOULD send an immediate ACK when it receives a
 * segment that fills in all or part of a gap", in a conversation too. */
static void test_filled_gap_is_acknowledged_at_once(struct host *h)
{
	rx(h, 0, 10);
	expect_tx(h, 0, 0, 10);
	host_send(h, 10);
	expect_tx(h, 0, 10, 10);
	assert_true(host_flow(h)->pingpong);
	host_rx(h, (struct seg){.seq = 30, .len = 10, .ack = 10});
	expect_tx(h, 10, 0, 10);
	host_rx(h, (struct seg){.seq = 10, .len = 10, .ack = 10});
	expect_tx(h, 10, 0, 20);
	host_rx(h, (struct seg){.seq = 20, .len = 10, .ack = 10});
	expect_tx(h, 10, 0, 40);
}

static void test_without_sack_duplicate_acks_are_bare(struct host *h)
{
	h->params.sack = false;
	host_install(h);
	host_release(h);
	rx(h, 100, 10);
	assert_int_equal(expect_tx(h, 0, 0, 0).n_blocks, 0);
	rx(h, 100, 10);
	assert_int_equal(expect_tx(h, 0, 0, 0).n_blocks, 0);
	rx(h, 0, 100);
	assert_int_equal(expect_tx(h, 0, 0, 110).n_blocks, 0);
	rx(h, 0, 10);
	assert_int_equal(expect_tx(h, 0, 0, 110).n_blocks, 0);
}

/* ---- data segments --------------------------------------------------------
 */

static void test_blocks_ride_on_data_within_the_mss(struct host *h)
{
	struct seg s;

	rx(h, 100, 10);
	expect_sack(h, 0, {100, 110});
	host_send(h, 1500);
	s = expect_sack(h, 0, {100, 110});
	assert_int_equal(s.len, HOST_MSS - 12);
	s = expect_sack(h, 0, {100, 110});
	assert_int_equal(s.seq, HOST_MSS - 12);
	assert_int_equal(s.len, 1500 - HOST_MSS + 12);
	host_rx(h, (struct seg){.len = 100, .ack = 1500});
	expect_tx(h, 1500, 0, 110);
}

/* ---- RFC 2883 --------------------------------------------------------------
 */

/* 4.1.1: "a duplicate segment is received below the cumulative ACK". */
static void test_duplicate_below_rcv_nxt_is_reported(struct host *h)
{
	rx(h, 0, 500);
	expect_tx(h, 0, 0, 500);
	rx(h, 0, 300);
	expect_sack(h, 500, {0, 300});
	/* "A D-SACK block is used to report a duplicate contiguous sequence
	 * ... only in the ACK" for it. */
	rx(h, 500, 100);
	assert_int_equal(expect_tx(h, 0, 0, 600).n_blocks, 0);
	assert_true(host_flow(h)->plain);
	host_rx(h, (struct seg){.seq = -1u, .len = 1});
	expect_sack(h, 600, {-1u, 0});
}

/* Below rcv_nxt, but not yet acknowledged: the ACK field counts. */
static void test_duplicate_that_was_not_acknowledged(struct host *h)
{
	rx(h, 0, 10);
	expect_tx(h, 0, 0, 10);
	host_send(h, 10);
	expect_tx(h, 0, 10, 10);
	host_rx(h, (struct seg){.seq = 10, .len = 10});
	expect_no_tx(h);
	host_rx(h, (struct seg){.seq = 10, .len = 10, .ack = 10});
	expect_sack(h, 20, {10, 20});
	assert_int_equal(host_flow(h)->snd_una, h->iss + 10);
}

/* 4.1.2 and 4.1.3: the block above it follows. */
static void test_duplicate_below_with_a_gap_above(struct host *h)
{
	rx(h, 0, 100);
	expect_tx(h, 0, 0, 100);
	rx(h, 200, 100);
	expect_sack(h, 100, {200, 300});
	rx(h, 50, 50);
	expect_sack(h, 100, {50, 100}, {200, 300});
}

/* 4.2: "a duplicate segment inside a SACK block": that block comes second. */
static void test_duplicate_inside_a_block(struct host *h)
{
	rx(h, 100, 300);
	expect_sack(h, 0, {100, 400});
	rx(h, 600, 100);
	expect_sack(h, 0, {600, 700}, {100, 400});
	rx(h, 200, 50);
	expect_sack(h, 0, {200, 250}, {100, 400}, {600, 700});
	rx(h, 800, 10);
	expect_sack(h, 0, {800, 810}, {100, 400}, {600, 700});
}

/* 4.2.2: parts of it are new. */
static void test_partial_duplicates(struct host *h)
{
	rx(h, 100, 100);
	expect_sack(h, 0, {100, 200});
	rx(h, 150, 100);
	expect_sack(h, 0, {150, 200}, {100, 250});
	rx(h, 0, 50);
	expect_sack(h, 50, {100, 250});
	rx(h, 0, 60); /* over rcv_nxt */
	expect_sack(h, 60, {0, 50}, {100, 250});
}

int main(void)
{
	static const struct host_test tests[] = {
		T(test_newest_block_comes_first),
		T(test_as_many_blocks_as_fit),
		T(test_each_segment_behind_a_gap_is_answered),
		T(test_filled_gap_is_acknowledged_at_once),
		T_BARE(test_without_sack_duplicate_acks_are_bare),
		T(test_blocks_ride_on_data_within_the_mss),
		T(test_duplicate_below_rcv_nxt_is_reported),
		T(test_duplicate_that_was_not_acknowledged),
		T(test_duplicate_below_with_a_gap_above),
		T(test_duplicate_inside_a_block),
		T(test_partial_duplicates),
	};

	return HOST_RUN(tests, true);
}
