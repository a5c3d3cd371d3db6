/* SPDX-License-Identifier: BSD-2-Clause */
/* Lost segments, retransmission time-outs, round trips, zero windows. */
#include "tests/unit/fastpath/host.h"

static void test_lost_segment_is_sent_again_after_the_rto(struct host *h)
{
	host_send(h, 100);
	expect_tx(h, 0, 100, 0);
	host_flow(h)->rto_us = 200000;
	host_advance_ms(h, 950);
	expect_no_tx(h);
	host_advance_ms(h, 60); /* 1 s: no round trip was measured yet */
	expect_tx(h, 0, 100, 0);
	assert_int_equal(host_count(h, tx_rto), 1);
	host_rx(h, (struct seg){.ack = 100});
	host_advance_ms(h, 5000);
	expect_no_tx(h);
}

/* Linux's count of tcp_retries2: as long as 15 doublings from 200 ms. */
static void test_rto_backs_off_and_gives_up_after_924_s(struct host *h)
{
	uint64_t first = 0, last = h->now_ns, gap = 0;
	struct seg s;

	host_send(h, 100);
	expect_tx(h, 0, 100, 0);
	while (!host_event(h)) {
		h->now_ns += 50000000;
		host_turn(h);
		if (!host_tx(h, &s))
			continue;
		assert_int_equal(s.len, 100);
		if (!first)
			first = h->now_ns;
		else if (h->now_ns - last < 120000000000ull)
			assert_true(h->now_ns - last + 100000000 >= 2 * gap);
		gap = h->now_ns - last;
		last = h->now_ns;
		assert_true(gap <= 120200000000ull);
		assert_true(h->now_ns - first < 924600000000ull);
	}
	assert_true(h->now_ns - first >= 924600000000ull);
	assert_int_equal(h->ev.type, FP_EV_REMOVED);
	assert_int_equal(h->ev.how, FP_REMOVED_TIMEOUT);
	assert_true(host_reply(h, 0));
	assert_int_equal(h->reply.flags, XTS_F_RESET);
	assert_int_equal(h->reply.err, ETIMEDOUT);
}

/* RFC 6298 section 2 with round trips of 400, 400 and 800 ms. */
static void test_rtt_estimate_follows_rfc_6298(struct host *h)
{
	struct flow *f = host_flow(h);

	host_send(h, 10);
	host_advance_ms(h, 400);
	host_rx(h, (struct seg){.ack = 10});
	assert_int_equal(f->srtt8_us / 8, 400000);
	assert_int_equal(f->rttvar4_us / 4, 200000);
	assert_int_equal(f->rto_us, 1200000);
	host_send(h, 10);
	host_advance_ms(h, 400);
	host_rx(h, (struct seg){.ack = 20});
	assert_int_equal(f->srtt8_us / 8, 400000);
	assert_int_equal(f->rttvar4_us / 4, 150000);
	assert_int_equal(f->rto_us, 1000000);
	host_send(h, 10);
	host_advance_ms(h, 800);
	host_rx(h, (struct seg){.ack = 30});
	assert_int_equal(f->srtt8_us / 8, 450000);
	assert_int_equal(f->rttvar4_us / 4, 212500);
	assert_int_equal(f->rto_us, 1300000);
}

/* As in Linux the variance counts as 200 ms at least. */
static void test_rto_is_200_ms_above_the_round_trip_at_least(struct host *h)
{
	struct flow *f = host_flow(h);

	host_send(h, 10);
	host_advance_ms(h, 1);
	host_rx(h, (struct seg){.ack = 10});
	assert_int_equal(f->srtt8_us / 8, 1000);
	assert_int_equal(f->rto_us, 201000);
}

static void test_retransmitted_segment_is_not_timed(struct host *h)
{
	struct flow *f = host_flow(h);
	uint32_t now_ms;

	host_send(h, 10);
	host_advance_ms(h, 1100);
	host_advance_ms(h, 100);
	now_ms = (uint32_t)(h->now_ns / 1000000);
	/* With time stamps the echo tells which copy it was. */
	host_rx(h, (struct seg){.ack = 10, .tsecr = now_ms + 5000 - 100});
	assert_int_equal(f->srtt8_us / 8, h->v.ts ? 100000 : 0);
}

static void test_three_duplicate_acks_repair_a_loss(struct host *h)
{
	struct seg s;
	uint32_t i;

	host_flow(h)->sack = false;
	host_send(h, 8 * HOST_MSS);
	while (host_tx(h, &s))
		;
	for (i = 0; i < 3; i++) {
		expect_no_tx(h);
		host_rx(h, (struct seg){.ack = 0, .sack = i & 1});
	}
	s = expect_tx(h, 0, HOST_MSS, 0);
	assert_int_equal(host_count(h, tx_retransmits), 1);
	assert_int_equal(host_count(h, tx_rto), 0);
	assert_int_equal(host_flow(h)->ssthresh, 4 * HOST_MSS);
	/* A partial ACK: the next hole at once (RFC 6582). */
	host_rx(h, (struct seg){.ack = 3 * HOST_MSS});
	expect_tx(h, 3 * HOST_MSS, HOST_MSS, 0);
	host_rx(h, (struct seg){.ack = 8 * HOST_MSS});
	/* ssthresh, and one more for the window that was acknowledged. */
	assert_in_range(host_flow(h)->cwnd, 4 * HOST_MSS, 5 * HOST_MSS);
	assert_true(host_flow(h)->plain);
	expect_no_tx(h);
}

static void test_two_duplicate_acks_are_reordering(struct host *h)
{
	struct seg s;

	host_send(h, 3 * HOST_MSS);
	while (host_tx(h, &s))
		;
	host_rx(h, (struct seg){.ack = 0});
	host_rx(h, (struct seg){.ack = 0});
	host_rx(h, (struct seg){.ack = 3 * HOST_MSS});
	assert_int_equal(host_count(h, tx_retransmits), 0);
}

static void test_window_updates_are_no_duplicate_acks(struct host *h)
{
	struct seg s;
	uint32_t i;

	host_send(h, 3 * HOST_MSS);
	while (host_tx(h, &s))
		;
	for (i = 0; i < 5; i++)
		host_rx(h, (struct seg){.ack = 0, .win = 30000 + i * 1280});
	assert_int_equal(host_count(h, tx_retransmits), 0);
}

static void test_time_out_goes_back_to_snd_una(struct host *h)
{
	struct seg s;

	host_flow(h)->sack = false;
	host_send(h, 4 * HOST_MSS);
	while (host_tx(h, &s))
		;
	host_advance_ms(h, 1010);
	expect_tx(h, 0, HOST_MSS, 0);
	expect_no_tx(h); /* cwnd is one segment */
	/* The view never goes back. */
	assert_int_equal(host_flow(h)->snd_nxt, h->iss + 4 * HOST_MSS);
	host_rx(h, (struct seg){.ack = HOST_MSS});
	expect_tx(h, HOST_MSS, HOST_MSS, 0);
	expect_tx(h, 2 * HOST_MSS, HOST_MSS, 0);
	/* The peer had the rest. Karn: without time stamps nothing was timed,
	 * and the back-off stays. */
	host_rx(h, (struct seg){.ack = 4 * HOST_MSS});
	assert_true(host_flow(h)->plain || !h->v.ts);
	assert_int_equal(host_flow(h)->ext->loss.sb.n, 0);
	host_advance_ms(h, 3000);
	expect_no_tx(h);
}

static void close_window(struct host *h)
{
	host_rx(h, (struct seg){.len = 1, .win0 = true});
	expect_tx(h, 0, 0, 1);
	host_send(h, 100);
}

static void test_zero_window_stops_and_is_probed(struct host *h)
{
	close_window(h);
	expect_no_tx(h);
	host_advance_ms(h, 1010);
	expect_tx(h, -1u, 0, 1);
	assert_int_equal(host_count(h, tx_probes), 1);
	host_rx(h, (struct seg){.seq = 1, .win0 = true});
	host_advance_ms(h, 1900);
	expect_no_tx(h);
	host_advance_ms(h, 150);
	expect_tx(h, -1u, 0, 1);
	host_rx(h, (struct seg){.seq = 1});
	expect_tx(h, 0, 100, 1);
	host_rx(h, (struct seg){.seq = 1, .ack = 100});
	assert_true(host_flow(h)->plain);
}

static void test_answered_probes_go_on_for_ever(struct host *h)
{
	uint32_t probes = 0;
	struct seg s;

	close_window(h);
	while (probes < 40) {
		h->now_ns += 500000000;
		host_turn(h);
		if (!host_tx(h, &s))
			continue;
		probes++;
		host_rx(h, (struct seg){.seq = 1, .win0 = true});
	}
	assert_false(host_event(h));
}

static void test_unanswered_probes_end_the_connection(struct host *h)
{
	uint32_t i;

	close_window(h);
	for (i = 0; i < 10000 && !host_event(h); i++) {
		h->now_ns += 500000000;
		host_turn(h);
	}
	assert_int_equal(h->ev.type, FP_EV_REMOVED);
	assert_int_equal(h->ev.how, FP_REMOVED_TIMEOUT);
	assert_int_equal(host_count(h, tx_probes), 15);
}

static void test_window_that_closes_on_data_under_way(struct host *h)
{
	host_send(h, 1500);
	expect_tx(h, 0, HOST_MSS, 0);
	expect_tx(h, HOST_MSS, 500, 0);
	host_rx(h, (struct seg){.ack = HOST_MSS, .win0 = true});
	host_advance_ms(h, 210);
	/* The lost one is tried again although the window is closed. */
	expect_tx(h, HOST_MSS, 500, 0);
	host_rx(h, (struct seg){.ack = 1500});
	host_advance_ms(h, 5000);
	expect_no_tx(h);
	host_send(h, 5);
	expect_tx(h, 1500, 5, 0);
	host_rx(h, (struct seg){.ack = 1505});
	assert_true(host_flow(h)->plain);
}

static void test_old_acks_do_not_open_the_window(struct host *h)
{
	host_rx(h, (struct seg){.seq = 0, .len = 10, .win = 1280});
	host_rx(h, (struct seg){.seq = 10, .len = 10, .win = 640});
	assert_int_equal(host_flow(h)->snd_wnd, 640);
	host_rx(h, (struct seg){.seq = 0, .win = 5120});
	assert_int_equal(host_flow(h)->snd_wnd, 640);
}

int main(void)
{
	static const struct host_test tests[] = {
		T(test_lost_segment_is_sent_again_after_the_rto),
		T(test_rto_backs_off_and_gives_up_after_924_s),
		T(test_rtt_estimate_follows_rfc_6298),
		T(test_rto_is_200_ms_above_the_round_trip_at_least),
		T(test_retransmitted_segment_is_not_timed),
		T(test_three_duplicate_acks_repair_a_loss),
		T(test_two_duplicate_acks_are_reordering),
		T(test_window_updates_are_no_duplicate_acks),
		T(test_time_out_goes_back_to_snd_una),
		T(test_zero_window_stops_and_is_probed),
		T(test_answered_probes_go_on_for_ever),
		T(test_unanswered_probes_end_the_connection),
		T(test_window_that_closes_on_data_under_way),
		T(test_old_acks_do_not_open_the_window),
	};

	return HOST_RUN(tests, true);
}
