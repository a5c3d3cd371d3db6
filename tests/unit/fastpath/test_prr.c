/* SPDX-License-Identifier: BSD-2-Clause */
/* RFC 6937, and what ends or undoes a recovery. */
#include "tests/unit/fastpath/host.h"

#define M HOST_MSS

/* A flow with SACK and a round trip of 40 ms. */
/* cwnd comes down to ssthresh, one segment out for two delivered. */
static void test_recovery_ends_with_cwnd_at_ssthresh(struct host *h)
{
	struct flow *f = host_open_path(h);
	uint32_t i, sent = 0, ssthresh;
	struct seg s;

	f->cwnd = 10 * M;
	f->ssthresh = 10 * M;
	host_send(h, 14 * M);
	while (host_tx(h, &s))
		;
	host_advance_ms(h, 40);
	for (i = 0; i < 9; i++) {
		host_sack(h, 2 * M, 3 * M, (4 + i) * M);
		while (host_tx(h, &s))
			sent++;
		assert_true(loss_valid(f));
	}
	ssthresh = f->ssthresh;
	assert_int_equal(f->ext->loss.state, CC_RECOVERY);
	assert_in_range(sent, 3, 7);
	assert_true(f->cwnd <= ssthresh + M);
	host_rx(h, (struct seg){.ack = f->snd_nxt - h->iss});
	assert_int_equal(f->ext->loss.state, CC_OPEN);
	/* The window that was acknowledged made it grow a little. */
	assert_in_range(f->cwnd, ssthresh, ssthresh + 2 * M);
}

/* The first retransmission leaves in any case. */
static void
test_first_retransmission_leaves_whatever_is_in_flight(struct host *h)
{
	host_open_path(h);
	host_burst(h, 8);
	host_advance_ms(h, 40);
	host_sack(h, 2 * M, 3 * M, 6 * M);
	expect_tx(h, 2 * M, M, 0);
}

/* RFC 3522: the acknowledgment echoes a stamp of before the retransmission. */
static void test_eifel_undoes_a_needless_recovery(struct host *h)
{
	struct flow *f = host_open_path(h);
	uint32_t cwnd = f->cwnd, ssthresh = f->ssthresh, stamp;

	if (!h->v.ts)
		return;
	stamp = (uint32_t)(h->now_ns / 1000000) + 5000;
	host_burst(h, 8);
	host_advance_ms(h, 40);
	host_sack(h, 2 * M, 3 * M, 6 * M);
	expect_tx(h, 2 * M, M, 0);
	host_advance_ms(h, 1);
	host_rx(h, (struct seg){.ack = 10 * M, .tsecr = stamp});
	assert_int_equal(f->ext->loss.state, CC_OPEN);
	assert_true(f->cwnd >= cwnd);
	assert_true(f->ssthresh >= ssthresh);
	assert_int_equal(f->ext->loss.sb.lost, 0);
}

/* RFC 2883: every retransmission was a duplicate. */
static void test_dsack_undoes_a_needless_recovery(struct host *h)
{
	struct flow *f = host_open_path(h);
	uint32_t cwnd = f->cwnd;

	host_burst(h, 8);
	host_advance_ms(h, 40);
	host_sack(h, 2 * M, 3 * M, 6 * M);
	expect_tx(h, 2 * M, M, 0);
	assert_true(f->ssthresh < cwnd);
	host_advance_ms(h, 10);
	host_rx(h, (struct seg){.ack = 9 * M,
				.n_blocks = 1,
				.block = {{2 * M, 3 * M}}});
	assert_true(f->cwnd >= cwnd);
	assert_int_equal(f->ext->loss.state, CC_OPEN);
}

/* RFC 3042: without SACK the first two duplicate ACKs let new data go. */
static void test_limited_transmit_sends_new_data(struct host *h)
{
	struct flow *f = host_flow(h);

	f->sack = false;
	f->cwnd = f->ssthresh = 4 * M;
	host_send(h, 8 * M);
	expect_tx(h, 0, M, 0);
	expect_tx(h, M, M, 0);
	expect_tx(h, 2 * M, M, 0);
	expect_tx(h, 3 * M, M, 0);
	expect_no_tx(h);
	host_rx(h, (struct seg){.ack = 0});
	expect_tx(h, 4 * M, M, 0);
	host_rx(h, (struct seg){.ack = 0});
	expect_tx(h, 5 * M, M, 0);
	host_rx(h, (struct seg){.ack = 0});
	expect_tx(h, 0, M, 0);
}

/* RFC 3168 6.1.2: ECE once a window, as a loss; CWR with the next new data,
 * new data are ECT(0), nothing else is. */
static void test_ece_reduces_once_a_window(struct host *h)
{
	struct flow *f;
	uint32_t cwnd;
	struct seg s;

	f = host_open_path(h);
	f->ecn = true;
	cwnd = f->cwnd;
	host_burst(h, 4);
	host_rx(h, (struct seg){.ack = 3 * M, .flags = SEG_ACK | SEG_ECE});
	assert_int_equal(f->ext->loss.state, CC_CWR);
	host_rx(h, (struct seg){.ack = 4 * M, .flags = SEG_ACK | SEG_ECE});
	assert_true(f->ssthresh <= cwnd / 2 + M);
	assert_true(f->ssthresh >= 2 * M);
	host_send(h, 100);
	assert_true(host_tx(h, &s));
	assert_true(s.flags & SEG_CWR);
	host_send(h, 100);
	if (host_tx(h, &s))
		assert_false(s.flags & SEG_CWR);
	host_rx(h, (struct seg){.ack = 6 * M + 100});
	assert_int_equal(f->ext->loss.state, CC_OPEN);
}

int main(void)
{
	static const struct host_test tests[] = {
		T(test_recovery_ends_with_cwnd_at_ssthresh),
		T(test_first_retransmission_leaves_whatever_is_in_flight),
		T(test_eifel_undoes_a_needless_recovery),
		T(test_dsack_undoes_a_needless_recovery),
		T(test_limited_transmit_sends_new_data),
		T(test_ece_reduces_once_a_window),
	};

	return HOST_RUN(tests, true);
}
