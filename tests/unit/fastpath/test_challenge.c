/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * RFC 5961: segments of somebody who does not see the connection. For each what
 * leaves on the wire, what Linux gets to see, and what has changed: nothing.
 */
#include "tests/unit/fastpath/host.h"

#define A_WHILE_MS 600 /* longer than the limit on odd segments */

static void no_event(struct host *h)
{
	assert_false(host_event(h));
	assert_int_equal(host_count(h, rx_exception), 0);
}

/* A challenge ACK: "<SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>". */
static void expect_challenge(struct host *h, uint32_t seq, uint32_t ack)
{
	struct seg s = expect_tx(h, seq, 0, ack);

	assert_int_equal(s.flags, SEG_ACK);
	no_event(h);
	expect_no_tx(h);
}

/* ---- section 3.2, RST ------------------------------------------------------
 */

/* "1) If the RST bit is set and the sequence number is outside the current
 * receive window, silently drop the segment." */
static void test_rst_outside_the_window_is_dropped(struct host *h)
{
	host_rx(h, (struct seg){.seq = 0, .len = 64});
	expect_tx(h, 0, 0, 64);
	expect_data(h, 0, 64);
	host_rx(h, (struct seg){.seq = 63, .flags = SEG_RST});
	host_rx(h, (struct seg){.seq = 0, .flags = SEG_RST | SEG_ACK});
	host_rx(h, (struct seg){.seq = HOST_BUF + 64, .flags = SEG_RST});
	host_rx(h, (struct seg){.seq = 0x80000000, .flags = SEG_RST});
	assert_int_equal(host_count(h, rx_out_of_window), 4);
	no_event(h);
	host_quiet(h);
}

/* "2) ... exactly matches the next expected sequence number, then TCP endpoints
 * MUST reset the connection": Linux does, it gets the segment as it came. */
static void test_rst_at_rcv_nxt_goes_to_linux(struct host *h)
{
	host_rx(h, (struct seg){.seq = 0, .len = 64});
	expect_tx(h, 0, 0, 64);
	/* Time stamps don't matter (RFC 7323 5.2), nor does an ACK. */
	host_rx(h, (struct seg){.seq = 64, .flags = SEG_RST, .tsval = 1});
	expect_event(h, FP_EV_FRAME);
	assert_int_equal(h->ev.view.rcv_nxt, h->irs + 64);
	host_rx(h, (struct seg){
			   .seq = 64, .flags = SEG_RST | SEG_ACK, .ack = 999});
	expect_event(h, FP_EV_FRAME);
	expect_no_tx(h);
	assert_int_equal(host_count(h, rx_challenge), 0);
}

/* "3) ... does not exactly match the next expected sequence value, yet is
 * within the current receive window, TCP endpoints MUST send an acknowledgment
 * (challenge ACK)". What the honest peer answers is exact. */
static void test_rst_in_the_window_is_challenged(struct host *h)
{
	host_rx(h, (struct seg){.seq = 1, .flags = SEG_RST});
	expect_challenge(h, 0, 0);
	host_advance_ms(h, A_WHILE_MS);
	host_rx(h, (struct seg){.seq = h->params.rcv_wnd - 1,
				.flags = SEG_RST | SEG_ACK});
	expect_challenge(h, 0, 0);
	assert_int_equal(host_count(h, rx_challenge), 2);
	host_rx(h, (struct seg){.seq = 0, .flags = SEG_RST});
	expect_event(h, FP_EV_FRAME);
}

/* Not even where data behind a gap end (Linux would reset). */
static void test_rst_behind_a_gap_is_challenged(struct host *h)
{
	struct seg s;

	host_rx(h, (struct seg){.seq = 100, .len = 50});
	expect_tx(h, 0, 0, 0);
	host_rx(h, (struct seg){.seq = 150, .flags = SEG_RST});
	s = expect_tx(h, 0, 0, 0);
	assert_int_equal(s.n_blocks, 1);
	no_event(h);
}

static void test_rst_behind_a_fin(struct host *h)
{
	host_rx(h, (struct seg){.flags = SEG_ACK | SEG_FIN});
	expect_event(h, FP_EV_FRAME);
	host_rx(h, (struct seg){.seq = 1, .flags = SEG_RST});
	expect_event(h, FP_EV_FRAME);
	host_rx(h, (struct seg){.seq = 0, .flags = SEG_RST});
	expect_event(h, FP_EV_FRAME); /* Linux: tcp_reset_check() */
	host_rx(h, (struct seg){.seq = 2, .flags = SEG_RST});
	expect_tx(h, 0, 0, 1);
	assert_false(host_event(h));
}

/* ---- section 4.2, SYN ------------------------------------------------------
 */

/* "If the SYN bit is set, irrespective of the sequence number, TCP endpoints
 * MUST send an ACK (challenge ACK) to the remote peer ... the TCP endpoint MUST
 * drop the unacceptable segment and stop processing further." */
static void test_syn_is_challenged_wherever_it_is(struct host *h)
{
	static const uint32_t at[] = {0, 5, 5000, 0x80000000, -1u};
	uint32_t i;

	for (i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		host_rx(h, (struct seg){.seq = at[i],
					.flags = i & 1 ? SEG_SYN
						       : SEG_SYN | SEG_ACK});
		expect_challenge(h, 0, 0);
		host_advance_ms(h, A_WHILE_MS);
	}
	assert_int_equal(host_flow(h)->rcv_nxt, h->irs);
	assert_true(host_flow(h)->plain);
}

/* The peer has done with the connection and begins the next one from the same
 * port: Linux, which got the RST, takes it. */
static void test_syn_behind_a_rst_goes_to_the_slow_path(struct host *h)
{
	uint32_t i;

	host_rx(h, (struct seg){.len = 64});
	expect_tx(h, 0, 0, 64);
	host_rx(h, (struct seg){.seq = 64, .flags = SEG_RST});
	expect_event(h, FP_EV_FRAME);
	for (i = 0; i < 3; i++) {
		host_rx(h, (struct seg){.seq = 70000 + i, .flags = SEG_SYN});
		expect_event(h, FP_EV_FRAME);
		assert_int_equal(h->ev.flow.index, h->id.index);
		assert_int_equal(h->ev.flow.gen, h->id.gen);
		assert_int_equal(h->ev.view.rcv_nxt, h->irs + 64);
	}
	assert_int_equal(host_count(h, rx_challenge), 0);
	expect_no_tx(h);
}

/* One that was not exact is Linux's business only when the next one is. */
static void test_syn_behind_a_challenged_rst_is_challenged(struct host *h)
{
	host_rx(h, (struct seg){.seq = 1, .flags = SEG_RST});
	expect_challenge(h, 0, 0);
	host_advance_ms(h, A_WHILE_MS);
	host_rx(h, (struct seg){.seq = 70000, .flags = SEG_SYN});
	expect_challenge(h, 0, 0);
}

/* ---- section 5.2, ACK ------------------------------------------------------
 */

static void send_and_ack(struct host *h, uint32_t n)
{
	struct seg s;

	host_send(h, n);
	while (host_tx(h, &s))
		;
	host_rx(h, (struct seg){.ack = n});
}

/* "The ACK value is considered acceptable only if it is in the range of
 * ((SND.UNA - MAX.SND.WND) <= SEG.ACK <= SND.NXT). All incoming segments whose
 * ACK value doesn't satisfy the above condition MUST be discarded and an ACK
 * sent back." */
static void test_ack_out_of_range_is_challenged(struct host *h)
{
	uint32_t una = 5000, max = h->params.snd_wnd;
	const uint32_t bad[] = {una + 1, una - max - 1, una + 0x7fffffff,
				una + 0x80000000};
	struct flow before;
	uint32_t i;

	send_and_ack(h, una);
	before = *host_flow(h);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		host_rx(h, (struct seg){.len = 10, .ack = bad[i], .win = 1});
		expect_challenge(h, una, 0);
		assert_false(host_reply(h, 0));
		assert_int_equal(host_flow(h)->snd_wnd, before.snd_wnd);
		assert_int_equal(host_flow(h)->ts_recent, before.ts_recent);
		assert_int_equal(host_flow(h)->rcv_nxt, before.rcv_nxt);
		host_advance_ms(h, A_WHILE_MS);
	}
	assert_int_equal(host_count(h, rx_bad_ack), 4);
	host_rx(h, (struct seg){.len = 10, .ack = una - max});
	expect_data(h, 0, 10);
}

/* Behind a gap as well: nothing is stored. */
static void test_blind_data_behind_a_gap_are_dropped(struct host *h)
{
	host_rx(h, (struct seg){.seq = 100, .len = 10, .ack = 77});
	expect_challenge(h, 0, 0);
	assert_int_equal(host_flow(h)->ext->ooo.n, 0);
	assert_true(host_flow(h)->plain);
}

/* RFC 9293 3.10.7.4: "if the ACK bit is off, drop the segment". */
static void test_segment_without_ack_is_dropped(struct host *h)
{
	host_rx(h, (struct seg){.len = 10, .flags = SEG_PSH});
	host_rx(h, (struct seg){.flags = SEG_FIN});
	assert_int_equal(host_count(h, rx_bad_ack), 2);
	no_event(h);
	host_quiet(h);
}

/* ---- section 7, throttling --------------------------------------------------
 */

static void test_a_flow_challenges_twice_a_second(struct host *h)
{
	uint32_t i, n = 0;
	struct seg s;

	for (i = 0; i < 3000; i++) {
		host_advance_ms(h, 1);
		host_rx(h, (struct seg){.seq = 1, .flags = SEG_RST});
		host_rx(h, (struct seg){.seq = 9, .flags = SEG_SYN});
		host_rx(h, (struct seg){.ack = 9});
		while (host_tx(h, &s))
			n++;
	}
	assert_in_range(n, 5, 7);
	assert_int_equal(host_count(h, rx_challenge), n);
}

/* All flows of a core together: what is left is not to be told from outside,
 * so the limit isn't the same each second. */
static void test_a_core_challenges_a_thousand_times_a_second(struct host *h)
{
	uint32_t second, i, n[4];
	struct seg s;

	for (second = 0; second < 4; second++) {
		host_advance_ms(h, 1000);
		for (i = 0, n[second] = 0; i < 3000; i++) {
			host_flow(h)->oow_ms = 0; /* as if another flow */
			host_rx(h, (struct seg){.seq = 1, .flags = SEG_RST});
			n[second] += host_tx(h, &s);
		}
		assert_in_range(n[second], 500, 1500);
	}
	assert_false(n[0] == n[1] && n[1] == n[2] && n[2] == n[3]);
	no_event(h);
}

int main(void)
{
	static const struct host_test tests[] = {
		T(test_rst_outside_the_window_is_dropped),
		T(test_rst_at_rcv_nxt_goes_to_linux),
		T(test_rst_in_the_window_is_challenged),
		T(test_rst_behind_a_gap_is_challenged),
		T(test_rst_behind_a_fin),
		T(test_syn_is_challenged_wherever_it_is),
		T(test_syn_behind_a_rst_goes_to_the_slow_path),
		T(test_syn_behind_a_challenged_rst_is_challenged),
		T(test_ack_out_of_range_is_challenged),
		T(test_blind_data_behind_a_gap_are_dropped),
		T(test_segment_without_ack_is_dropped),
		T(test_a_flow_challenges_twice_a_second),
		T(test_a_core_challenges_a_thousand_times_a_second),
	};

	return HOST_RUN(tests, true);
}
