/* SPDX-License-Identifier: BSD-2-Clause */
/* Time stamps of the peer: PAWS and what is echoed (RFC 7323 sections 4, 5). */
#include "tests/unit/fastpath/host.h"

#define DAY_NS (24ull * 3600 * 1000000000ull)
#define T0 1000000u /* above ts_recent of the installation */

static uint32_t echoed(struct host *h)
{
	struct seg s;

	host_send(h, 1);
	assert_true(host_tx(h, &s));
	return s.tsecr;
}

static void rx(struct host *h, uint32_t seq, uint32_t len, uint32_t tsval)
{
	host_rx(h, (struct seg){.seq = seq, .len = len, .tsval = tsval});
}

/* 5.3 R1: "If ... SEG.TSval < TS.Recent ... treat the arriving segment as not
 * acceptable: send an acknowledgment ... and drop the segment". */
static void test_older_segment_is_dropped_and_acknowledged(struct host *h)
{
	if (!h->v.ts)
		return;
	rx(h, 0, 10, T0);
	expect_tx(h, 0, 0, 10);
	expect_data(h, 0, 10);
	rx(h, 10, 10, T0 - 1);
	expect_tx(h, 0, 0, 10);
	rx(h, 100, 10, T0 - 0x7fffffff); /* behind a gap too */
	expect_tx(h, 0, 0, 10);
	assert_int_equal(host_flow(h)->ext->ooo.n, 0);
	assert_int_equal(host_count(h, rx_paws), 2);
	host_quiet(h);
}

static void test_equal_and_wrapped_time_stamps_pass(struct host *h)
{
	if (!h->v.ts)
		return;
	rx(h, 0, 10, 0x7ffffff0);
	rx(h, 10, 10, 0x7ffffff0);
	rx(h, 20, 10, 0xffffffef);
	rx(h, 30, 10, 5);
	assert_int_equal(host_count(h, rx_paws), 0);
	expect_data(h, 0, 10);
}

/* 5.5: "invalidated if ... the connection has been idle for more than 24 days".
 */
static void test_ts_recent_is_forgotten_after_24_days(struct host *h)
{
	if (!h->v.ts)
		return;
	rx(h, 0, 10, T0);
	expect_tx(h, 0, 0, 10);
	expect_data(h, 0, 10);
	h->now_ns += 24 * DAY_NS - 1000000000;
	host_turn(h);
	rx(h, 10, 10, T0 - 1);
	assert_int_equal(host_count(h, rx_paws), 1);
	expect_tx(h, 0, 0, 10);
	h->now_ns += 2000000000;
	host_turn(h);
	rx(h, 10, 10, T0 - 1);
	expect_tx(h, 0, 0, 20);
	expect_data(h, 10, 10);
	assert_int_equal(echoed(h), T0 - 1); /* valid again */
	rx(h, 20, 10, T0 - 2);
	assert_int_equal(host_count(h, rx_paws), 2);
}

/* 4.3 (2): "If SEG.TSval >= TS.Recent and SEG.SEQ <= Last.ACK.sent then
 * SEG.TSval is copied to TS.Recent". */
static void test_segment_behind_a_gap_leaves_ts_recent(struct host *h)
{
	if (!h->v.ts)
		return;
	rx(h, 0, 10, T0);
	expect_tx(h, 0, 0, 10);
	rx(h, 100, 10, T0 + 5);
	assert_int_equal(expect_tx(h, 0, 0, 10).tsecr, T0);
	/* "the timestamp of the segment that fills the hole" */
	rx(h, 10, 90, T0 + 3);
	assert_int_equal(expect_tx(h, 0, 0, 110).tsecr, T0 + 3);
}

/* A segment that begins below Last.ACK.sent counts as a whole. */
static void test_overlapping_segment_updates_ts_recent(struct host *h)
{
	if (!h->v.ts)
		return;
	rx(h, 0, 10, T0);
	expect_tx(h, 0, 0, 10);
	host_send(h, 1);
	expect_tx(h, 0, 1, 10);
	rx(h, 10, 10, T0 + 1); /* not acknowledged yet */
	expect_no_tx(h);
	rx(h, 5, 20, T0 + 2);
	assert_int_equal(expect_tx(h, 1, 0, 25).tsecr, T0 + 2);
}

/* What is dropped for its acknowledgment has told no time. */
static void test_blind_segment_leaves_ts_recent(struct host *h)
{
	if (!h->v.ts)
		return;
	rx(h, 0, 10, T0);
	expect_tx(h, 0, 0, 10);
	host_rx(h, (struct seg){
			   .seq = 10, .len = 5, .ack = 9, .tsval = T0 + 9999});
	expect_tx(h, 0, 0, 10);
	assert_int_equal(echoed(h), T0);
}

/* Linux's tcp_disordered_ack(): a pure ACK that was overtaken is no attack. */
static void test_overtaken_pure_ack_is_no_paws_case(struct host *h)
{
	if (!h->v.ts)
		return;
	rx(h, 0, 10, T0);
	expect_tx(h, 0, 0, 10);
	rx(h, 10, 0, T0 - 50);
	assert_int_equal(host_count(h, rx_paws), 0);
	expect_no_tx(h);
	assert_int_equal(host_flow(h)->ts_recent, T0);
	rx(h, 10, 0, T0 - 10000);
	assert_int_equal(host_count(h, rx_paws), 1);
	expect_tx(h, 0, 0, 10);
}

/* 3.2 says: SHOULD silently drop; Linux takes it, so do we. */
static void test_segment_without_time_stamps_is_taken(struct host *h)
{
	if (!h->v.ts)
		return;
	host_rx(h, (struct seg){.len = 10, .no_ts = true});
	expect_data(h, 0, 10);
	host_rx(h, (struct seg){.seq = 20, .len = 10, .no_ts = true});
	host_rx(h, (struct seg){.seq = 10, .len = 10, .no_ts = true});
	expect_data(h, 10, 20);
	assert_int_equal(host_flow(h)->ts_recent, h->params.ts_recent);
}

int main(void)
{
	static const struct host_test tests[] = {
		T(test_older_segment_is_dropped_and_acknowledged),
		T(test_equal_and_wrapped_time_stamps_pass),
		T(test_ts_recent_is_forgotten_after_24_days),
		T(test_segment_behind_a_gap_leaves_ts_recent),
		T(test_overlapping_segment_updates_ts_recent),
		T(test_blind_segment_leaves_ts_recent),
		T(test_overtaken_pure_ack_is_no_paws_case),
		T(test_segment_without_time_stamps_is_taken),
	};

	return HOST_RUN(tests, true);
}
