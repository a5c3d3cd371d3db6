/* SPDX-License-Identifier: BSD-2-Clause */
/* RFC 6298 and 5682: time-outs, and whether they were needed; idleness. */
#include "tests/unit/fastpath/host.h"

#define M HOST_MSS

/* A flow with SACK and a round trip of 40 ms. */
static void rto(struct host *h, uint32_t ms)
{
	uint32_t i;

	for (i = 0; i < ms; i++) {
		host_advance_ms(h, 1);
		if (host_count(h, tx_rto))
			return;
	}
	fail();
}

/* Without SACK there are no probes: the time-out comes, one segment goes. */
static struct flow *time_out(struct host *h)
{
	struct flow *f = host_flow(h);

	f->sack = false;
	host_burst(h, 2);
	host_advance_ms(h, 40);
	host_rx(h, (struct seg){.ack = 2 * M});
	host_burst(h, 6);
	host_advance_ms(h, 235);
	expect_no_tx(h);
	rto(h, 10);
	expect_tx(h, 2 * M, M, 0);
	expect_no_tx(h);
	assert_int_equal(f->ext->loss.state, CC_LOSS);
	assert_int_equal(f->cwnd, M);
	return f;
}

static void test_time_out_lets_one_segment_go(struct host *h)
{
	struct flow *f = time_out(h);

	assert_int_equal(f->ext->loss.sb.lost, 6 * M);
	host_advance_ms(h, 400);
	expect_no_tx(h);
	host_advance_ms(h, 100);
	expect_tx(h, 2 * M, M, 0); /* twice as long */
	assert_int_equal(f->backoff, 2);
}

/* RFC 5682 section 2.1, step 2b and 3b: new data, and when what was never sent
 * again is acknowledged, nothing was lost. */
static void test_frto_undoes_a_spurious_time_out(struct host *h)
{
	struct flow *f = time_out(h);
	uint32_t ssthresh = f->ssthresh;

	host_send(h, 4 * M);
	expect_no_tx(h);
	host_rx(h, (struct seg){.ack = 3 * M});
	expect_tx(h, 8 * M, M, 0);
	host_rx(h, (struct seg){.ack = 4 * M});
	assert_int_equal(f->ext->loss.state, CC_OPEN);
	assert_int_equal(f->ext->loss.sb.lost, 0);
	assert_true(f->ssthresh > ssthresh);
	assert_int_equal(host_count(h, tx_retransmits), 1);
}

/* Step 3a: a duplicate ACK for the new data: the loss was real. */
static void test_frto_sends_again_after_a_real_loss(struct host *h)
{
	struct flow *f = time_out(h);
	struct seg s;

	host_send(h, 4 * M);
	host_rx(h, (struct seg){.ack = 3 * M});
	expect_tx(h, 8 * M, M, 0);
	while (host_tx(h, &s))
		assert_true(s.seq > 8 * M);
	host_rx(h, (struct seg){.ack = 3 * M});
	expect_tx(h, 3 * M, M, 0);
	assert_int_equal(f->ext->loss.state, CC_LOSS);
}

/* RFC 4015: the echo of a stamp of before the retransmission. */
static void test_eifel_undoes_a_spurious_time_out(struct host *h)
{
	struct flow *f;
	uint32_t stamp;

	if (!h->v.ts)
		return;
	f = time_out(h);
	stamp = (uint32_t)(h->now_ns / 1000000) + 5000 - 240;
	host_rx(h, (struct seg){.ack = 3 * M, .tsecr = stamp});
	assert_int_equal(f->ext->loss.sb.lost, 0);
	assert_true(f->cwnd >= 10 * M);
	assert_int_equal(host_count(h, tx_retransmits), 1);
}

static void test_user_timeout_ends_the_connection(struct host *h)
{
	uint64_t start;
	struct seg s;

	host_flow(h)->user_timeout_ms = 3000;
	time_out(h);
	start = h->now_ns;
	while (!host_event(h)) {
		host_advance_ms(h, 1);
		while (host_tx(h, &s))
			;
		assert_true(h->now_ns - start < 3010000000ull);
	}
	assert_true(h->now_ns - start >= 3000000000ull);
	assert_int_equal(h->ev.how, FP_REMOVED_TIMEOUT);
	assert_true(host_reply(h, 0));
	assert_int_equal(h->reply.err, ETIMEDOUT);
}

/* The steady round trip of a long path is no reason to hurry. */
static void test_rto_stays_200_ms_above_a_steady_round_trip(struct host *h)
{
	struct flow *f = host_flow(h);
	uint32_t i;

	for (i = 0; i < 20; i++) {
		host_send(h, 10);
		host_advance_ms(h, 300);
		host_rx(h, (struct seg){.ack = 10 * (i + 1)});
	}
	assert_true(f->rto_us >= 500000);
	assert_int_equal(host_count(h, tx_rto), 0);
}

/* RFC 2861, tcp_slow_start_after_idle. */
static void test_cwnd_decays_while_idle(struct host *h)
{
	struct flow *f = host_open_path(h);
	struct seg s;

	f->cwnd = 80 * M;
	host_burst(h, 1);
	host_rx(h, (struct seg){.ack = 3 * M});
	host_advance_ms(h, 150);
	assert_int_equal(f->cwnd, 80 * M);
	host_advance_ms(h, 150);
	assert_int_equal(f->cwnd, 40 * M);
	host_advance_ms(h, 2000);
	assert_int_equal(f->cwnd, 10 * M);
	assert_true(f->ssthresh >= 60 * M);
	assert_int_equal(h->core->timers.n_queued, 0);
	while (host_tx(h, &s))
		;
}

/* A segment that was alone is probed for before cwnd is cut. */
static void test_lone_segment_is_probed_first(struct host *h)
{
	struct flow *f = host_open_path(h);

	host_send(h, 100);
	expect_tx(h, 2 * M, 100, 0);
	host_advance_ms(h, 300);
	expect_tx(h, 2 * M, 100, 0);
	assert_int_equal(host_count(h, tx_rto), 0);
	host_rx(h, (struct seg){.ack = 2 * M + 100});
	assert_int_equal(f->ext->loss.state, CC_OPEN);
	assert_true(f->cwnd >= 10 * M);
}

int main(void)
{
	static const struct host_test tests[] = {
		T(test_time_out_lets_one_segment_go),
		T(test_frto_undoes_a_spurious_time_out),
		T(test_frto_sends_again_after_a_real_loss),
		T(test_eifel_undoes_a_spurious_time_out),
		T(test_user_timeout_ends_the_connection),
		T(test_rto_stays_200_ms_above_a_steady_round_trip),
		T(test_cwnd_decays_while_idle),
		T(test_lone_segment_is_probed_first),
	};

	return HOST_RUN(tests, true);
}
