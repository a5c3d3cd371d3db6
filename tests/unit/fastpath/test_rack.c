/* SPDX-License-Identifier: BSD-2-Clause */
/* RFC 8985: what is lost by time, and probes of the tail. */
#include "tests/unit/fastpath/host.h"

#define M HOST_MSS

/* A flow with SACK and a round trip of 40 ms. */
/* Section 6.2: lost if one sent later has arrived; without reordering seen,
 * three SACKed segments leave no doubt. */
static void test_three_sacked_segments_begin_recovery(struct host *h)
{
	struct flow *f = host_open_path(h);

	host_burst(h, 8);
	host_advance_ms(h, 40);
	host_sack(h, 2 * M, 3 * M, 4 * M);
	host_sack(h, 2 * M, 3 * M, 5 * M);
	expect_no_tx(h);
	host_sack(h, 2 * M, 3 * M, 6 * M);
	expect_tx(h, 2 * M, M, 0);
	assert_int_equal(f->ext->loss.state, CC_RECOVERY);
	host_rx(h, (struct seg){.ack = 10 * M});
	assert_int_equal(f->ext->loss.state, CC_OPEN);
	assert_int_equal(f->ext->loss.sb.n, 0);
}

/* Section 6.2 step 5: what is not late yet is looked at by a timer, never
 * early: a quarter of the least round trip. */
static void
test_one_sacked_segment_waits_for_the_reordering_window(struct host *h)
{
	host_open_path(h);
	host_burst(h, 2);
	host_advance_ms(h, 40);
	host_sack(h, 2 * M, 3 * M, 4 * M);
	host_advance_ms(h, 9);
	expect_no_tx(h);
	host_advance_ms(h, 4);
	expect_tx(h, 2 * M, M, 0);
	assert_int_equal(host_count(h, tx_rto), 0);
}

/* Two holes, each repaired once: several losses in one window. */
static void test_many_losses_are_repaired_in_one_round_trip(struct host *h)
{
	struct flow *f = host_open_path(h);

	host_burst(h, 8);
	host_advance_ms(h, 40);
	host_rx(h, (struct seg){.ack = 2 * M,
				.n_blocks = 2,
				.block = {{5 * M, 10 * M}, {3 * M, 4 * M}}});
	expect_tx(h, 2 * M, M, 0);
	expect_tx(h, 4 * M, M, 0);
	expect_no_tx(h);
	host_advance_ms(h, 40);
	host_rx(h, (struct seg){.ack = 10 * M});
	assert_int_equal(host_count(h, tx_retransmits), 2);
	assert_int_equal(f->ext->loss.state, CC_OPEN);
}

/* Section 3: a lost retransmission is found, too. */
static void test_lost_retransmission_is_found_without_a_time_out(struct host *h)
{
	host_open_path(h);
	host_burst(h, 8);
	host_advance_ms(h, 40);
	host_sack(h, 2 * M, 3 * M, 8 * M);
	expect_tx(h, 2 * M, M, 0);
	/* New data, sent after the retransmission, arrive before it. */
	host_advance_ms(h, 1);
	host_send(h, M);
	expect_tx(h, 10 * M, M, 0);
	host_advance_ms(h, 60);
	host_sack(h, 2 * M, 3 * M, 11 * M);
	expect_tx(h, 2 * M, M, 0);
	assert_int_equal(host_count(h, tx_rto), 0);
}

static void test_reordering_widens_the_threshold(struct host *h)
{
	struct flow *f = host_open_path(h);

	host_burst(h, 8);
	host_sack(h, 2 * M, 8 * M, 9 * M);
	host_sack(h, 2 * M, 3 * M, 4 * M); /* late, sent once */
	assert_true(f->ext->loss.reord_seen > 0);
	assert_true(f->ext->loss.reordering >= 5);
}

/* Section 6.2 step 4: D-SACKs widen the reordering window, a step a round. */
static void test_dsack_widens_the_reordering_window(struct host *h)
{
	struct flow *f = host_open_path(h);

	f->ext->loss.reord_seen = 1;
	f->ext->loss.total_retrans = 5;
	host_burst(h, 4);
	host_advance_ms(h, 40);
	host_rx(h, (struct seg){.ack = 3 * M,
				.n_blocks = 1,
				.block = {{1 * M, 2 * M}}});
	assert_int_equal(f->ext->loss.reo_wnd_mult, 2);
}

/* Section 7.2 and 7.3: after two round trips the last segment again. */
static void test_tail_loss_is_probed(struct host *h)
{
	struct flow *f = host_open_path(h);

	host_burst(h, 4);
	host_advance_ms(h, 80);
	expect_no_tx(h);
	host_advance_ms(h, 5);
	expect_tx(h, 5 * M, M, 0);
	assert_int_equal(host_count(h, tx_rto), 0);
	assert_true(f->ext->loss.tlp_on);
	/* The answer shows what is missing. */
	host_advance_ms(h, 40);
	host_sack(h, 2 * M, 5 * M, 6 * M);
	expect_tx(h, 2 * M, M, 0);
	assert_int_equal(f->ext->loss.state, CC_RECOVERY);
}

static void test_probe_takes_new_data_if_there_are_any(struct host *h)
{
	struct flow *f = host_open_path(h);

	f->cwnd = 2 * M;
	host_send(h, 3 * M);
	expect_tx(h, 2 * M, M, 0);
	expect_tx(h, 3 * M, M, 0);
	expect_no_tx(h);
	host_advance_ms(h, 90);
	expect_tx(h, 4 * M, M, 0);
	assert_int_equal(host_count(h, tx_retransmits), 0);
}

/* Section 7.4.2: the probe repaired a loss that nobody would have seen. */
static void test_probe_that_repairs_reduces_cwnd(struct host *h)
{
	struct flow *f = host_open_path(h);
	uint32_t cwnd = f->cwnd;

	host_burst(h, 4);
	host_advance_ms(h, 85);
	expect_tx(h, 5 * M, M, 0);
	host_send(h, M);
	expect_tx(h, 6 * M, M, 0);
	host_rx(h, (struct seg){.ack = 7 * M});
	assert_true(f->cwnd < cwnd);
	assert_int_equal(f->ext->loss.state, CC_OPEN);
}

static void test_probe_that_was_needless_does_not(struct host *h)
{
	struct flow *f = host_open_path(h);
	uint32_t cwnd = f->cwnd;

	host_burst(h, 4);
	host_advance_ms(h, 85);
	expect_tx(h, 5 * M, M, 0);
	host_rx(h, (struct seg){.ack = 6 * M,
				.n_blocks = 1,
				.block = {{5 * M, 6 * M}}});
	assert_true(f->cwnd >= cwnd);
	assert_false(f->ext->loss.tlp_on);
}

int main(void)
{
	static const struct host_test tests[] = {
		T(test_three_sacked_segments_begin_recovery),
		T(test_one_sacked_segment_waits_for_the_reordering_window),
		T(test_many_losses_are_repaired_in_one_round_trip),
		T(test_lost_retransmission_is_found_without_a_time_out),
		T(test_reordering_widens_the_threshold),
		T(test_dsack_widens_the_reordering_window),
		T(test_tail_loss_is_probed),
		T(test_probe_takes_new_data_if_there_are_any),
		T(test_probe_that_repairs_reduces_cwnd),
		T(test_probe_that_was_needless_does_not),
	};

	return HOST_RUN(tests, true);
}
