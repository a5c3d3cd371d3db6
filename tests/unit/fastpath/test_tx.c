/* SPDX-License-Identifier: BSD-2-Clause */
/* Segmentation, windows, credits, the transmit buffer. */
#include "tests/unit/fastpath/host.h"

static void test_data_go_out_with_psh(struct host *h)
{
	struct seg s;

	host_send(h, 64);
	s = expect_tx(h, 0, 64, 0);
	assert_int_equal(s.flags, SEG_ACK | SEG_PSH);
	assert_int_equal(host_count(h, tx_segments), 1);
	expect_no_tx(h);
}

static void test_data_are_cut_to_the_mss(struct host *h)
{
	struct seg s;

	host_send(h, 2 * HOST_MSS + 500);
	s = expect_tx(h, 0, HOST_MSS, 0);
	assert_int_equal(s.flags, SEG_ACK);
	expect_tx(h, HOST_MSS, HOST_MSS, 0);
	s = expect_tx(h, 2 * HOST_MSS, 500, 0);
	assert_int_equal(s.flags, SEG_ACK | SEG_PSH);
}

static void test_cwnd_limits_what_is_sent(struct host *h)
{
	uint32_t i;

	host_send(h, 14 * HOST_MSS);
	for (i = 0; i < 10; i++)
		expect_tx(h, i * HOST_MSS, HOST_MSS, 0);
	expect_no_tx(h);
	/* Slow start: two for each that is acknowledged. */
	host_rx(h, (struct seg){.ack = HOST_MSS});
	expect_tx(h, 10 * HOST_MSS, HOST_MSS, 0);
	expect_tx(h, 11 * HOST_MSS, HOST_MSS, 0);
	expect_no_tx(h);
}

static void test_cwnd_does_not_grow_when_it_is_not_the_limit(struct host *h)
{
	uint32_t i, cwnd = host_flow(h)->cwnd;

	for (i = 0; i < 20; i++) {
		host_send(h, 100);
		expect_tx(h, i * 100, 100, 0);
		host_rx(h, (struct seg){.ack = (i + 1) * 100});
	}
	assert_int_equal(host_flow(h)->cwnd, cwnd);
}

static void test_peer_window_limits_what_is_sent(struct host *h)
{
	host_rx(h, (struct seg){.len = 1, .win = 2560});
	expect_tx(h, 0, 0, 1);
	host_send(h, 5000);
	expect_tx(h, 0, HOST_MSS, 1);
	expect_tx(h, HOST_MSS, HOST_MSS, 1);
	/* 560 more would fit, but a silly little segment is not sent. */
	expect_no_tx(h);
	host_rx(h, (struct seg){.seq = 1, .ack = 2000, .win = 2560});
	expect_tx(h, 2000, HOST_MSS, 1);
	expect_tx(h, 3000, HOST_MSS, 1);
}

static void test_small_window_is_used_when_nothing_is_under_way(struct host *h)
{
	host_rx(h, (struct seg){.len = 1, .win = 256});
	expect_tx(h, 0, 0, 1);
	host_send(h, 500);
	expect_tx(h, 0, 256, 1);
	expect_no_tx(h);
}

static void test_credits_come_with_the_next_data(struct host *h)
{
	host_send(h, 100);
	expect_tx(h, 0, 100, 0);
	/* Alone they don't wake the program: there is room enough. */
	host_rx(h, (struct seg){.ack = 100});
	assert_false(host_reply(h, 0));
	host_rx(h, (struct seg){.ack = 100, .len = 5});
	expect_data(h, 0, 5);
	assert_int_equal(h->reply.credits, 100);
}

static void test_credits_come_alone_when_the_buffer_is_half_full(struct host *h)
{
	uint32_t got = 0, sent = 0;
	struct seg s;

	host_send(h, HOST_BUF);
	while (sent < HOST_BUF) {
		while (host_tx(h, &s))
			sent += s.len;
		host_rx(h, (struct seg){.ack = sent});
		while (host_reply(h, 0))
			got += h->reply.credits;
	}
	/* What is kept back is less than half of the buffer. */
	assert_true(got > HOST_BUF / 2);
	assert_int_equal(host_flow(h)->tx_len, 0);
}

static void test_transmit_buffer_wraps_around(struct host *h)
{
	uint32_t i, pos = 0;

	host_send(h, 777);
	expect_tx(h, 0, 777, 0);
	for (i = 0; i < 60; i++) {
		/* Something is always outstanding: positions go on. */
		host_send(h, 777);
		pos += 777;
		expect_tx(h, pos, 777, 0);
		host_rx(h, (struct seg){.ack = pos});
	}
}

static void test_program_may_start_anywhere_when_nothing_is_out(struct host *h)
{
	host_send(h, 10);
	expect_tx(h, 0, 10, 0);
	host_rx(h, (struct seg){.ack = 10});
	h->app_off = HOST_BUF - 3;
	host_send(h, 10);
	expect_tx(h, 10, 10, 0);
}

static void test_sequence_numbers_wrap_around(struct host *h)
{
	uint32_t i;

	for (i = 0; i < 100; i++) {
		host_rx(h, (struct seg){
				   .seq = i * 900, .len = 900, .ack = i * 900});
		expect_data(h, i * 900, 900);
		host_put(h, 0, host_cmd(h, 900, 900, 0));
		host_turn(h);
		while (host_count(h, tx_segments) == i)
			host_turn(h);
		struct seg s;

		while (host_tx(h, &s))
			assert_true(!s.len || s.seq == i * 900);
	}
	assert_int_equal(host_count(h, rx_hot), 100);
}

static void test_many_commands_become_full_segments(struct host *h)
{
	uint32_t i;

	for (i = 0; i < 20; i++)
		host_put(h, 0, host_cmd(h, 100, 0, 0));
	host_turn(h);
	expect_tx(h, 0, HOST_MSS, 0);
	expect_tx(h, HOST_MSS, HOST_MSS, 0);
	expect_no_tx(h);
}

static void test_no_free_frame_only_delays(struct host *h)
{
	struct queue_frame taken[HOST_FRAMES];
	uint32_t n = 0, i;

	while (h->q->ops->tx_alloc(h->q, &taken[n]))
		n++;
	assert_int_equal(n, HOST_FRAMES);
	host_send(h, 1500);
	assert_true(host_count(h, tx_no_frame) > 0);
	expect_no_tx(h);
	for (i = 0; i < n; i++)
		h->q->ops->tx_abandon(h->q, &taken[i]);
	host_turn(h);
	expect_tx(h, 0, HOST_MSS, 0);
	expect_tx(h, HOST_MSS, 500, 0);
}

static void test_carried_over_data_are_sent_and_acknowledged(struct host *h)
{
	uint8_t *tx = h->mem + h->buf_off + HOST_BUF;
	uint32_t i;

	for (i = 0; i < 3000; i++)
		tx[i] = host_pattern(i);
	h->params.tx_len = 3000;
	h->params.snd_nxt = h->iss + 1000;
	host_install(h);
	host_release(h);
	assert_int_equal(h->reply.tx_len, 3000);
	expect_tx(h, 1000, 1000, 0);
	expect_tx(h, 2000, 1000, 0);
	host_rx(h, (struct seg){.ack = 3000});
	assert_int_equal(host_flow(h)->tx_len, 0);
}

static void test_one_kick_a_turn(struct host *h)
{
	uint64_t kicks = h->q->stats.kicks;

	host_send(h, 10 * HOST_MSS);
	assert_int_equal(h->q->stats.kicks, kicks + 1);
	host_turn(h);
	assert_int_equal(h->q->stats.kicks, kicks + 1);
}

static void test_slow_path_frames_go_out_as_they_are(struct host *h)
{
	struct fp_msg *m = host_fp(h, FP_CMD_TX);

	memset(m->frame, 0xa5, 60);
	m->frame_len = 60;
	host_fp_go(h);
	assert_int_equal(queue_mem_pop(h->q, h->out, sizeof(h->out)), 60);
	assert_int_equal(h->out[59], 0xa5);
}

static void test_smaller_mss_sends_again_in_smaller_segments(struct host *h)
{
	struct fp_msg *m;

	host_send(h, 1500);
	expect_tx(h, 0, HOST_MSS, 0);
	expect_tx(h, HOST_MSS, 500, 0);
	m = host_fp(h, FP_CMD_SET_MSS);
	m->flow = h->id;
	m->value = 600;
	host_fp_go(h);
	/* What fits the new MSS was not too long: it may well arrive. */
	expect_tx(h, 0, 600, 0);
	expect_tx(h, 600, 400, 0);
	expect_no_tx(h);
	host_rx(h, (struct seg){.ack = 1500});
	assert_true(host_flow(h)->plain);
}

int main(void)
{
	static const struct host_test tests[] = {
		T(test_data_go_out_with_psh),
		T(test_data_are_cut_to_the_mss),
		T(test_cwnd_limits_what_is_sent),
		T(test_cwnd_does_not_grow_when_it_is_not_the_limit),
		T(test_peer_window_limits_what_is_sent),
		T(test_small_window_is_used_when_nothing_is_under_way),
		T(test_credits_come_with_the_next_data),
		T(test_credits_come_alone_when_the_buffer_is_half_full),
		T(test_transmit_buffer_wraps_around),
		T(test_program_may_start_anywhere_when_nothing_is_out),
		T(test_sequence_numbers_wrap_around),
		T(test_many_commands_become_full_segments),
		T(test_no_free_frame_only_delays),
		T_BARE(test_carried_over_data_are_sent_and_acknowledged),
		T(test_one_kick_a_turn),
		T(test_slow_path_frames_go_out_as_they_are),
		T(test_smaller_mss_sends_again_in_smaller_segments),
	};

	return HOST_RUN(tests, true);
}
