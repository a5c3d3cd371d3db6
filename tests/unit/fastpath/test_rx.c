/* SPDX-License-Identifier: BSD-2-Clause */
/* Segments in order, acknowledgments, windows, what is dropped. */
#include "tests/unit/fastpath/host.h"

static void test_in_order_data_reaches_the_program(struct host *h)
{
	host_rx(h, (struct seg){.seq = 0, .len = 64});
	expect_data(h, 0, 64);
	assert_int_equal(h->reply.off, 0);
	assert_int_equal(host_count(h, rx_hot), 1);
	assert_int_equal(host_count(h, rx_cold), 0);
}

static void test_a_burst_becomes_one_reply(struct host *h)
{
	host_push(h, (struct seg){.seq = 0, .len = 100});
	host_push(h, (struct seg){.seq = 100, .len = 100});
	host_push(h, (struct seg){.seq = 200, .len = 55});
	host_turn(h);
	expect_data(h, 0, 255);
	assert_false(host_reply(h, 0));
}

static void test_position_restarts_when_all_is_consumed(struct host *h)
{
	host_rx(h, (struct seg){.seq = 0, .len = 64});
	expect_data(h, 0, 64);
	host_credit(h, 64);
	host_rx(h, (struct seg){.seq = 64, .len = 64});
	expect_data(h, 64, 64);
	assert_int_equal(h->reply.off, 0);
	host_rx(h, (struct seg){.seq = 128, .len = 10});
	expect_data(h, 128, 10);
	assert_int_equal(h->reply.off, 64);
}

static void test_the_buffer_wraps_around(struct host *h)
{
	uint32_t pos = 0, i;

	/* Always 999 bytes unread, so that the position never restarts. */
	for (i = 0; i < 50; i++) {
		host_rx(h, (struct seg){.seq = pos, .len = 999});
		expect_data(h, pos, 999);
		assert_int_equal(h->reply.off, pos & (HOST_BUF - 1));
		if (i)
			host_credit(h, 999);
		pos += 999;
	}
	/* With time stamps one told the round trip. */
	assert_int_equal(host_count(h, rx_hot), h->v.ts ? 49 : 50);
	assert_int_equal(host_count(h, rx_cold), h->v.ts);
}

static void test_first_data_are_acknowledged_at_once(struct host *h)
{
	host_rx(h, (struct seg){.seq = 0, .len = 64});
	expect_tx(h, 0, 0, 64);
}

static void test_ack_rides_on_the_answer(struct host *h)
{
	uint32_t i;

	host_rx(h, (struct seg){.seq = 0, .len = 64});
	expect_tx(h, 0, 0, 64);
	host_send(h, 64);
	expect_tx(h, 0, 64, 64);
	/* From now on it is a conversation: one frame each way. */
	for (i = 1; i < 5; i++) {
		host_rx(h,
			(struct seg){.seq = i * 64, .len = 64, .ack = i * 64});
		expect_no_tx(h);
		host_put(h, 0, host_cmd(h, 64, 64, 0));
		host_turn(h);
		expect_tx(h, i * 64, 64, (i + 1) * 64);
		expect_no_tx(h);
	}
	assert_int_equal(host_count(h, tx_acks), 1);
}

static void converse(struct host *h)
{
	host_rx(h, (struct seg){.seq = 0, .len = 64});
	expect_tx(h, 0, 0, 64);
	host_put(h, 0, host_cmd(h, 64, 64, 0));
	host_turn(h);
	expect_tx(h, 0, 64, 64);
	assert_true(host_reply(h, 0));
}

static void test_ack_waits_40_ms_for_an_answer(struct host *h)
{
	converse(h);
	host_rx(h, (struct seg){.seq = 64, .len = 64, .ack = 64});
	host_advance_ms(h, 39);
	expect_no_tx(h);
	host_advance_ms(h, 3);
	expect_tx(h, 64, 0, 128);
	/* The answer did not come: no more waiting. */
	host_rx(h, (struct seg){.seq = 128, .len = 64, .ack = 64});
	expect_tx(h, 64, 0, 192);
}

static void test_every_second_full_segment_is_acknowledged(struct host *h)
{
	converse(h);
	host_rx(h, (struct seg){.seq = 64, .len = HOST_MSS, .ack = 64});
	expect_no_tx(h);
	host_rx(h,
		(struct seg){.seq = 64 + HOST_MSS, .len = HOST_MSS, .ack = 64});
	expect_tx(h, 64, 0, 64 + 2 * HOST_MSS);
}

static void test_bad_tcp_checksum_changes_nothing(struct host *h)
{
	host_rx(h, (struct seg){.len = 64, .bad_tcp_sum = true});
	host_rx(h, (struct seg){.seq = 5, .len = 64, .bad_tcp_sum = true});
	assert_int_equal(host_count(h, rx_bad_checksum), 2);
	assert_false(host_reply(h, 0));
	expect_no_tx(h);
	host_rx(h, (struct seg){.len = 64});
	expect_data(h, 0, 64);
}

static void test_bad_ip_checksum_changes_nothing(struct host *h)
{
	if (h->v.v6)
		return; /* IPv6 has none */
	host_rx(h, (struct seg){.len = 64, .bad_ip_sum = true});
	host_rx(h, (struct seg){.seq = 5, .len = 64, .bad_ip_sum = true});
	assert_int_equal(host_count(h, rx_bad_checksum), 2);
	host_quiet(h);
}

static void test_every_payload_length_is_summed_right(struct host *h)
{
	uint32_t len, pos = 0;

	for (len = 1; len <= 130; len++) {
		host_rx(h, (struct seg){.seq = pos, .len = len});
		expect_data(h, pos, len);
		host_credit(h, len);
		pos += len;
	}
	assert_int_equal(host_count(h, rx_bad_checksum), 0);
}

static void test_segment_behind_a_gap_gets_a_duplicate_ack(struct host *h)
{
	host_rx(h, (struct seg){.seq = 100, .len = 64});
	assert_int_equal(host_count(h, rx_out_of_order), 1);
	expect_tx(h, 0, 0, 0);
	host_rx(h, (struct seg){.seq = 0, .len = 100});
	expect_tx(h, 0, 0, 164);
	expect_data(h, 0, 164);
}

static void test_old_segment_gets_an_ack(struct host *h)
{
	host_rx(h, (struct seg){.seq = 0, .len = 64});
	expect_tx(h, 0, 0, 64);
	expect_data(h, 0, 64);
	host_rx(h, (struct seg){.seq = 0, .len = 64});
	expect_tx(h, 0, 0, 64);
	assert_int_equal(host_count(h, rx_old), 1);
	host_quiet(h);
}

static void test_overlap_in_front_is_cut_off(struct host *h)
{
	host_rx(h, (struct seg){.seq = 0, .len = 64});
	expect_data(h, 0, 64);
	host_rx(h, (struct seg){.seq = 32, .len = 64});
	expect_data(h, 64, 32);
}

static void test_data_beyond_the_window_are_cut_off(struct host *h)
{
	uint32_t wnd = h->params.rcv_wnd, pos;

	for (pos = 0; pos + 1000 <= wnd; pos += 1000)
		host_push(h, (struct seg){.seq = pos, .len = 1000});
	host_push(h, (struct seg){.seq = pos, .len = 1000});
	host_turn(h);
	expect_data(h, 0, wnd);
}

static void test_segment_outside_the_window_is_dropped(struct host *h)
{
	host_rx(h, (struct seg){.seq = HOST_BUF * 2, .len = 10});
	assert_int_equal(host_count(h, rx_out_of_window), 1);
	expect_tx(h, 0, 0, 0);
	assert_false(host_reply(h, 0));
}

static void test_window_shows_the_free_buffer(struct host *h)
{
	struct seg s;
	uint32_t pos;

	host_rx(h, (struct seg){.seq = 0, .len = 1000});
	s = expect_tx(h, 0, 0, 1000);
	assert_in_range(s.win, HOST_BUF - 1000 - 127, HOST_BUF - 1000);
	/* Filled up: zero. */
	for (pos = 1000; pos < HOST_BUF - 127; pos += s.len) {
		uint32_t n = HOST_BUF - pos < 1000 ? HOST_BUF - pos : 1000;

		host_rx(h, (struct seg){.seq = pos, .len = n});
		while (host_tx(h, &s))
			;
		s.len = n;
	}
	assert_true(s.win < 128);
	while (host_reply(h, 0))
		;
	/* Opened: the peer is told. */
	host_credit(h, HOST_BUF - 127);
	s = expect_tx(h, 0, 0, s.ack);
	assert_true(s.win >= HOST_BUF - 256);
}

static void test_small_openings_are_not_told(struct host *h)
{
	struct seg s = {0};
	uint32_t pos;

	for (pos = 0; pos < 15000; pos += 1000)
		host_rx(h, (struct seg){.seq = pos, .len = 1000});
	while (host_tx(h, &s) || host_reply(h, 0))
		;
	host_credit(h, 500);
	expect_no_tx(h);
	host_credit(h, 500);
	host_credit(h, 900);
	expect_no_tx(h);
	host_credit(h, 1000);
	expect_tx(h, 0, 0, 15000);
}

static void test_keepalive_of_the_peer_is_answered(struct host *h)
{
	host_rx(h, (struct seg){.seq = -1u});
	expect_tx(h, 0, 0, 0);
	host_advance_ms(h, 1000);
	host_rx(h, (struct seg){.seq = -1u, .len = 1});
	expect_tx(h, 0, 0, 0);
	host_quiet(h);
}

static void test_odd_empty_segments_are_answered_seldom(struct host *h)
{
	uint32_t i;

	for (i = 0; i < 20; i++)
		host_rx(h, (struct seg){.seq = -5u});
	expect_tx(h, 0, 0, 0);
	expect_no_tx(h);
}

static void test_paws_drops_old_time_stamps(struct host *h)
{
	if (!h->v.ts)
		return;
	host_rx(h, (struct seg){.len = 10, .tsval = 999});
	assert_int_equal(host_count(h, rx_paws), 1);
	expect_tx(h, 0, 0, 0);
	assert_false(host_reply(h, 0));
	host_rx(h, (struct seg){.len = 10, .tsval = 1000});
	expect_data(h, 0, 10);
}

static void test_paws_forgets_after_24_days(struct host *h)
{
	if (!h->v.ts)
		return;
	h->now_ns += 25ull * 24 * 3600 * 1000000000ull;
	host_turn(h);
	host_rx(h, (struct seg){.len = 10, .tsval = 999});
	expect_data(h, 0, 10);
}

static void
test_time_stamp_of_the_first_unacknowledged_is_echoed(struct host *h)
{
	struct seg s;

	if (!h->v.ts)
		return;
	converse(h);
	host_rx(h,
		(struct seg){
			.seq = 64, .len = 10, .ack = 64, .tsval = 1000000001});
	host_rx(h,
		(struct seg){
			.seq = 74, .len = 10, .ack = 64, .tsval = 1000000002});
	host_send(h, 5);
	s = expect_tx(h, 64, 5, 84);
	assert_int_equal(s.tsecr, 1000000001);
}

static void test_segment_without_time_stamp_is_taken(struct host *h)
{
	host_rx(h, (struct seg){.len = 10, .no_ts = true});
	expect_data(h, 0, 10);
}

static void test_segment_with_sack_option_is_taken(struct host *h)
{
	host_rx(h, (struct seg){.len = 10, .sack = true});
	expect_data(h, 0, 10);
	assert_int_equal(host_count(h, rx_cold), 1);
}

static void test_ack_of_what_was_never_sent_is_dropped(struct host *h)
{
	host_rx(h, (struct seg){.len = 10, .ack = 1});
	assert_int_equal(host_count(h, rx_bad_ack), 1);
	expect_tx(h, 0, 0, 0);
	assert_false(host_reply(h, 0));
}

static void test_ack_below_snd_una_is_ignored_but_not_its_data(struct host *h)
{
	host_send(h, 100);
	expect_tx(h, 0, 100, 0);
	host_rx(h, (struct seg){.ack = 100});
	host_rx(h, (struct seg){.ack = 50, .len = 10});
	expect_data(h, 0, 10);
	assert_int_equal(host_flow(h)->snd_una, h->iss + 100);
}

static void test_frames_of_others_go_to_the_slow_path(struct host *h)
{
	uint8_t arp[60] = {[12] = 8, [13] = 6};

	host_push(h, (struct seg){.len = 3, .pport = 1});
	assert_true(queue_mem_push(h->q, arp, sizeof(arp)));
	host_push(h, (struct seg){.flags = SEG_SYN, .pport = 2});
	host_turn(h);
	expect_event(h, FP_EV_FRAME);
	assert_int_equal(h->ev.flow.index, FP_NO_FLOW);
	assert_memory_equal(h->ev.frame + 12, h->v.v6 ? "\x86\xdd" : "\x8\0",
			    2);
	expect_event(h, FP_EV_FRAME);
	assert_int_equal(h->ev.frame_len, sizeof(arp));
	assert_memory_equal(h->ev.frame, arp, sizeof(arp));
	expect_event(h, FP_EV_FRAME);
	assert_int_equal(host_count(h, rx_exception), 3);
	host_quiet(h);
}

static void test_malformed_frames_are_counted(struct host *h)
{
	uint32_t len = host_build(h, (struct seg){.len = 10}, h->in);

	assert_true(queue_mem_push(h->q, h->in, 10));
	assert_true(queue_mem_push(h->q, h->in, 30));
	assert_true(queue_mem_push(h->q, h->in, len - 1));
	host_turn(h);
	assert_int_equal(host_count(h, rx_bad_frame), 3);
	host_quiet(h);
}

static void test_ethernet_padding_is_not_payload(struct host *h)
{
	uint32_t len = host_build(h, (struct seg){.len = 1}, h->in);

	memset(h->in + len, 0xee, 40);
	assert_true(queue_mem_push(h->q, h->in, len + 40));
	host_turn(h);
	expect_data(h, 0, 1);
}

int main(void)
{
	static const struct host_test tests[] = {
		T(test_in_order_data_reaches_the_program),
		T(test_a_burst_becomes_one_reply),
		T(test_position_restarts_when_all_is_consumed),
		T(test_the_buffer_wraps_around),
		T(test_first_data_are_acknowledged_at_once),
		T(test_ack_rides_on_the_answer),
		T(test_ack_waits_40_ms_for_an_answer),
		T(test_every_second_full_segment_is_acknowledged),
		T(test_bad_tcp_checksum_changes_nothing),
		T(test_bad_ip_checksum_changes_nothing),
		T(test_every_payload_length_is_summed_right),
		T(test_segment_behind_a_gap_gets_a_duplicate_ack),
		T(test_old_segment_gets_an_ack),
		T(test_overlap_in_front_is_cut_off),
		T(test_data_beyond_the_window_are_cut_off),
		T(test_segment_outside_the_window_is_dropped),
		T(test_window_shows_the_free_buffer),
		T(test_small_openings_are_not_told),
		T(test_keepalive_of_the_peer_is_answered),
		T(test_odd_empty_segments_are_answered_seldom),
		T(test_paws_drops_old_time_stamps),
		T(test_paws_forgets_after_24_days),
		T(test_time_stamp_of_the_first_unacknowledged_is_echoed),
		T(test_segment_without_time_stamp_is_taken),
		T(test_segment_with_sack_option_is_taken),
		T(test_ack_of_what_was_never_sent_is_dropped),
		T(test_ack_below_snd_una_is_ignored_but_not_its_data),
		T(test_frames_of_others_go_to_the_slow_path),
		T(test_malformed_frames_are_counted),
		T(test_ethernet_padding_is_not_payload),
	};

	return HOST_RUN(tests, true);
}
