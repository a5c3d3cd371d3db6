/* SPDX-License-Identifier: BSD-2-Clause */
/* RFC 9293 3.8.5 and RFC 6093 as Linux has them, both ways. */
#include "tests/unit/fastpath/host.h"

#define M HOST_MSS
#define URG (SEG_ACK | SEG_URG)

/* ---- receiving --------------------------------------------------------------
 */

/* The urgent byte is @pos of the stream, @told bytes of which were told. */
static void expect_reply(struct host *h, uint32_t flags, uint32_t pos,
			 uint32_t told, bool has)
{
	assert_true(host_reply(h, 0));
	assert_int_equal(h->reply.type, XTS_REPLY_URGENT);
	assert_int_equal(h->reply.flags, flags);
	assert_int_equal(h->reply.cookie, h->params.cookie);
	assert_int_equal(h->reply.urgent, pos - told);
	assert_int_equal(h->reply.err,
			 has ? XTS_URGENT_HAS | host_pattern(pos) : 0);
}

static void expect_new(struct host *h, uint32_t pos, uint32_t told, bool has)
{
	expect_reply(h, XTS_F_URGENT, pos, told, has);
}

static void expect_byte(struct host *h, uint32_t pos, uint32_t told)
{
	expect_reply(h, 0, pos, told, true);
}

static void test_the_byte_before_the_pointer_is_urgent(struct host *h)
{
	host_rx(h, (struct seg){.len = 10, .flags = URG, .urg = 10});
	expect_new(h, 9, 0, true);
	expect_data(h, 0, 10);
	assert_false(host_reply(h, 0));
}

static void test_pointer_0_names_the_first_byte(struct host *h)
{
	host_rx(h, (struct seg){.len = 10, .flags = URG});
	expect_new(h, 0, 0, true);
	expect_data(h, 0, 10);
}

static void test_stdurg_takes_the_pointer_as_it_is(struct host *h)
{
	h->params.stdurg = true;
	host_install(h);
	host_release(h);
	host_rx(h, (struct seg){.len = 10, .flags = URG, .urg = 9});
	expect_new(h, 9, 0, true);
	expect_data(h, 0, 10);
}

static void test_earlier_data_are_told_before_the_pointer(struct host *h)
{
	host_push(h, (struct seg){.len = 100});
	host_push(h,
		  (struct seg){.seq = 100, .len = 10, .flags = URG, .urg = 4});
	host_turn(h);
	expect_data(h, 0, 100);
	expect_new(h, 103, 100, true);
	expect_data(h, 100, 10);
}

static void test_an_empty_segment_may_announce(struct host *h)
{
	host_rx(h, (struct seg){.flags = URG, .urg = 30});
	expect_new(h, 29, 0, false);
	assert_false(host_reply(h, 0));
}

static void test_an_announced_byte_is_told_when_it_comes(struct host *h)
{
	host_rx(h, (struct seg){.len = 10, .flags = URG, .urg = 50});
	expect_new(h, 49, 0, false);
	expect_data(h, 0, 10);
	host_rx(h, (struct seg){.seq = 10, .len = 39});
	expect_data(h, 10, 39);
	host_rx(h, (struct seg){.seq = 49, .len = 5});
	expect_byte(h, 49, 49);
	expect_data(h, 49, 5);
}

static void test_a_byte_behind_a_gap_is_told_at_once(struct host *h)
{
	host_rx(h,
		(struct seg){.seq = 100, .len = 10, .flags = URG, .urg = 10});
	expect_new(h, 109, 0, true);
	assert_false(host_reply(h, 0));
	host_rx(h, (struct seg){.len = 100});
	expect_data(h, 0, 110);
	assert_false(host_reply(h, 0));
}

static void test_a_byte_that_comes_twice_is_told_once(struct host *h)
{
	host_rx(h,
		(struct seg){.seq = 100, .len = 10, .flags = URG, .urg = 10});
	expect_new(h, 109, 0, true);
	host_rx(h,
		(struct seg){.seq = 100, .len = 10, .flags = URG, .urg = 10});
	assert_false(host_reply(h, 0));
}

/* As Linux: it waits until the program reads past it. */
static void test_a_byte_kept_before_it_is_named_has_no_value(struct host *h)
{
	host_rx(h, (struct seg){.seq = 100, .len = 10});
	host_rx(h, (struct seg){.len = 50, .flags = URG, .urg = 105});
	expect_new(h, 104, 0, false);
	expect_data(h, 0, 50);
	host_rx(h, (struct seg){.seq = 50, .len = 50});
	expect_data(h, 50, 60);
	assert_false(host_reply(h, 0));
}

static void test_a_later_pointer_replaces_an_earlier_one(struct host *h)
{
	host_rx(h, (struct seg){.flags = URG, .urg = 30});
	expect_new(h, 29, 0, false);
	host_rx(h, (struct seg){.flags = URG, .urg = 31});
	expect_new(h, 30, 0, false);
	host_rx(h, (struct seg){.len = 40});
	expect_byte(h, 30, 0);
	expect_data(h, 0, 40);
}

static void test_an_equal_or_earlier_pointer_says_nothing(struct host *h)
{
	host_rx(h, (struct seg){.flags = URG, .urg = 30});
	expect_new(h, 29, 0, false);
	host_rx(h, (struct seg){.flags = URG, .urg = 30});
	host_rx(h, (struct seg){.flags = URG, .urg = 20});
	assert_false(host_reply(h, 0));
}

static void test_a_pointer_to_what_was_received_says_nothing(struct host *h)
{
	host_rx(h, (struct seg){.len = 10});
	expect_data(h, 0, 10);
	host_rx(h, (struct seg){.seq = 10, .flags = URG});
	expect_new(h, 10, 10, false); /* the next byte is just right */
	host_rx(h, (struct seg){.seq = 10, .len = 5});
	expect_byte(h, 10, 10);
	expect_data(h, 10, 5);
	host_rx(h, (struct seg){.seq = 10, .len = 5, .flags = URG, .urg = 5});
	assert_false(host_reply(h, 0));
}

static void test_pointers_are_forgotten_when_passed(struct host *h)
{
	host_rx(h, (struct seg){.len = 10, .flags = URG, .urg = 10});
	expect_new(h, 9, 0, true);
	expect_data(h, 0, 10);
	/* Half the sequence space later the old one would look greater. */
	assert_false(host_flow(h)->ext->urgent.receiving);
	assert_true(host_flow(h)->plain);
}

static void test_nothing_is_hot_while_the_byte_is_awaited(struct host *h)
{
	host_rx(h, (struct seg){.flags = URG, .urg = 30});
	expect_new(h, 29, 0, false);
	host_rx(h, (struct seg){.len = 29});
	host_rx(h, (struct seg){.seq = 29, .len = 1});
	assert_int_equal(host_count(h, rx_hot), 0);
	host_rx(h, (struct seg){.seq = 30, .len = 30});
	assert_int_equal(host_count(h, rx_hot), 1);
}

static void test_a_wrong_checksum_announces_nothing(struct host *h)
{
	host_rx(h, (struct seg){.len = 10,
				.flags = URG,
				.urg = 10,
				.bad_tcp_sum = true});
	host_quiet(h);
}

static void test_a_segment_outside_the_window_announces_nothing(struct host *h)
{
	host_rx(h, (struct seg){.seq = HOST_BUF * 2, .flags = URG, .urg = 10});
	assert_false(host_reply(h, 0));
}

static void test_nothing_is_urgent_behind_the_end(struct host *h)
{
	host_rx(h, (struct seg){.flags = SEG_ACK | SEG_FIN});
	assert_true(host_reply(h, 0));
	host_rx(h, (struct seg){.seq = 1, .flags = URG, .urg = 5});
	assert_false(host_reply(h, 0));
}

static void test_a_full_ring_tells_the_last_pointer(struct host *h)
{
	uint32_t i, told = 0;

	for (i = 0; i < XTS_RING_SLOTS; i++)
		host_rx(h, (struct seg){.seq = i, .len = 1});
	host_rx(h, (struct seg){.seq = i, .flags = URG, .urg = 3});
	host_rx(h, (struct seg){.seq = i, .len = 9, .flags = URG, .urg = 5});
	for (; told < XTS_RING_SLOTS; told++)
		expect_data(h, told, 1);
	host_turn(h);
	expect_new(h, i + 4, i, true);
	expect_data(h, i, 9);
}

static void test_what_was_held_is_urgent_behind_the_offload(struct host *h)
{
	h->params.rx_len = 5;
	host_install(h);
	host_rx(h, (struct seg){.len = 10, .flags = URG, .urg = 10});
	host_release(h);
	assert_int_equal(h->reply.len, 5);
	expect_new(h, 9, 0, true);
	expect_data(h, 0, 10);
}

/* ---- what Linux sees --------------------------------------------------------
 */

static void expect_notice(struct host *h, uint32_t seq, uint16_t pointer)
{
	const struct tcphdr *th;
	struct frame f = {0};

	expect_event(h, FP_EV_FRAME);
	assert_int_equal(h->ev.flow.index, h->id.index);
	assert_int_equal(frame_parse(&f, h->ev.frame, h->ev.frame_len),
			 FRAME_TCP);
	assert_true(frame_tcp_checksum_ok(&f));
	assert_int_equal(f.payload_len, 0);
	th = frame_tcp(&f);
	assert_int_equal(f.data[f.l4 + 13], URG);
	assert_int_equal(ntohl(th->seq), h->irs + seq);
	assert_int_equal(ntohl(th->seq), h->ev.view.rcv_nxt);
	assert_int_equal(ntohs(th->urg_ptr), pointer);
}

static void test_linux_hears_of_each_new_pointer(struct host *h)
{
	host_rx(h, (struct seg){.len = 10, .flags = URG, .urg = 10});
	expect_notice(h, 0, 1);
	host_rx(h,
		(struct seg){.seq = 10, .len = 10, .flags = URG, .urg = 300});
	expect_notice(h, 10, 2);
	host_rx(h,
		(struct seg){.seq = 20, .len = 10, .flags = URG, .urg = 290});
	assert_false(host_event(h));
}

static void test_linux_hears_of_65535_pointers_at_most(struct host *h)
{
	host_flow(h)->ext->urgent.notices = UINT16_MAX - 1;
	host_rx(h, (struct seg){.flags = URG, .urg = 1});
	expect_notice(h, 0, UINT16_MAX);
	host_rx(h, (struct seg){.flags = URG, .urg = 2});
	assert_false(host_event(h));
	expect_new(h, 0, 0, false);
	expect_new(h, 1, 0, false);
}

/* Flags of the FIN that Linux gets. */
static void expect_plain_fin(struct host *h)
{
	struct frame f = {0};

	expect_event(h, FP_EV_FRAME);
	assert_int_equal(frame_parse(&f, h->ev.frame, h->ev.frame_len),
			 FRAME_TCP);
	assert_true(frame_tcp_checksum_ok(&f));
	assert_int_equal(f.data[f.l4 + 13], SEG_ACK | SEG_FIN);
	assert_int_equal(frame_tcp(&f)->urg_ptr, 0);
}

static void test_a_fin_goes_to_linux_without_the_pointer(struct host *h)
{
	host_rx(h, (struct seg){.len = 10, .flags = URG | SEG_FIN, .urg = 10});
	expect_notice(h, 0, 1);
	expect_plain_fin(h);
	expect_new(h, 9, 0, true);
	expect_data(h, 0, 10);
	assert_true(h->reply.flags & XTS_F_EOF);
}

static void test_the_ack_of_our_fin_goes_without_the_pointer(struct host *h)
{
	struct frame f = {0};

	host_put(h, 0, host_cmd(h, 0, 0, XTS_F_SHUT_WR));
	host_turn(h);
	expect_event(h, FP_EV_SHUT_WR);
	host_rx(h, (struct seg){.ack = 1, .flags = URG, .urg = 7});
	expect_event(h, FP_EV_FRAME);
	assert_int_equal(frame_parse(&f, h->ev.frame, h->ev.frame_len),
			 FRAME_TCP);
	assert_int_equal(f.data[f.l4 + 13], SEG_ACK);
	expect_notice(h, 0, 1);
}

/* ---- sending ----------------------------------------------------------------
 */

static void send_urgent(struct host *h, uint32_t len)
{
	host_put(h, 0, host_cmd(h, len, 0, XTS_F_URGENT));
	host_turn(h);
}

static void expect_urg(struct host *h, uint32_t seq, uint32_t len, uint16_t urg)
{
	struct seg s = expect_tx(h, seq, len, 0);

	assert_int_equal(s.urg, urg);
	assert_int_equal(!(s.flags & SEG_URG), !urg);
}

static void test_the_pointer_is_behind_the_urgent_byte(struct host *h)
{
	send_urgent(h, 10);
	expect_urg(h, 0, 10, 10);
}

static void test_each_segment_before_the_urgent_byte_points(struct host *h)
{
	send_urgent(h, 2 * M + 500);
	expect_urg(h, 0, M, 2 * M + 500);
	expect_urg(h, M, M, M + 500);
	expect_urg(h, 2 * M, 500, 500);
	host_send(h, 100);
	expect_urg(h, 2 * M + 500, 100, 0);
}

static void test_urgent_mode_ends_with_the_acknowledgment(struct host *h)
{
	send_urgent(h, 10);
	expect_urg(h, 0, 10, 10);
	host_rx(h, (struct seg){.ack = 9});
	assert_false(host_flow(h)->plain);
	host_rx(h, (struct seg){.ack = 10});
	assert_true(host_flow(h)->plain);
	host_send(h, 10);
	expect_urg(h, 10, 10, 0);
}

static void test_a_retransmission_points_too(struct host *h)
{
	struct seg s = {0};
	uint32_t i;

	send_urgent(h, 10);
	expect_urg(h, 0, 10, 10);
	for (i = 0; i < 3000 && !host_tx(h, &s); i++)
		host_advance_ms(h, 1);
	assert_int_equal(s.seq, 0);
	assert_int_equal(s.len, 10);
	assert_int_equal(s.urg, 10);
}

static void test_more_data_with_a_mark_move_the_pointer(struct host *h)
{
	struct flow *f = host_flow(h);

	send_urgent(h, 10);
	expect_urg(h, 0, 10, 10);
	send_urgent(h, 5);
	expect_urg(h, 10, 5, 5);
	host_rx(h, (struct seg){.ack = 10});
	assert_false(f->plain);
	host_rx(h, (struct seg){.ack = 15});
	assert_true(f->plain);
}

static void test_the_mark_is_behind_what_waited(struct host *h)
{
	host_rx(h, (struct seg){.win0 = true});
	host_rx(h, (struct seg){.seq = 0, .win0 = true, .len = 1});
	expect_tx(h, 0, 0, 1);
	host_send(h, 10);
	send_urgent(h, 10);
	host_send(h, 10);
	expect_no_tx(h);
	/* An acknowledgment points as well. */
	host_rx(h, (struct seg){.seq = 1, .win0 = true, .len = 1});
	host_advance_ms(h, 50);
	assert_int_equal(expect_tx(h, 0, 0, 2).urg, 20);
	host_rx(h, (struct seg){.seq = 2});
	assert_int_equal(expect_tx(h, 0, 30, 2).urg, 20);
}

static void test_nagle_does_not_hold_what_is_urgent(struct host *h)
{
	host_flow(h)->nodelay = false;
	host_send(h, 10);
	expect_urg(h, 0, 10, 0);
	host_send(h, 10);
	expect_no_tx(h);
	send_urgent(h, 10);
	expect_urg(h, 10, 20, 20);
}

static void test_a_cork_does_not_hold_what_is_urgent(struct host *h)
{
	struct flow *f = host_flow(h);

	f->cork = true;
	flow_judge(f);
	host_send(h, 10);
	expect_no_tx(h);
	send_urgent(h, 1);
	expect_urg(h, 0, 11, 11);
}

static void test_more_does_not_hold_what_is_urgent(struct host *h)
{
	host_put(h, 0, host_cmd(h, 10, 0, XTS_F_URGENT | XTS_F_MORE));
	host_turn(h);
	expect_urg(h, 0, 10, 10);
}

/* One in the window that points, and the usual one. */
static void test_a_closed_window_is_probed_twice(struct host *h)
{
	struct seg s = {0};
	uint32_t i;

	host_rx(h, (struct seg){.win0 = true, .len = 1});
	expect_tx(h, 0, 0, 1);
	send_urgent(h, 10);
	for (i = 0; i < 3000 && !host_tx(h, &s); i++)
		host_advance_ms(h, 1);
	assert_int_equal(s.seq, 0);
	assert_int_equal(s.len, 0);
	assert_int_equal(s.urg, 10);
	s = expect_tx(h, -1u, 0, 1);
	assert_int_equal(s.urg, 11);
	assert_int_equal(host_count(h, tx_probes), 2);
}

static void test_the_pointer_reaches_16_bits_far(struct host *h)
{
	struct flow *f = host_flow(h), saved = *f;
	struct urgent *u = &f->ext->urgent;

	u->sending = true;
	u->snd_up = f->snd_una + 70000;
	assert_int_equal(urgent_pointer(f, f->snd_una + 4465), 65535);
	/* Farther: as far as it goes, if that is behind what was sent. */
	assert_int_equal(urgent_pointer(f, f->snd_una), 65535);
	f->snd_nxt += 65535;
	assert_int_equal(urgent_pointer(f, f->snd_una), 0);
	assert_int_equal(urgent_pointer(f, f->snd_una + 70000), 0);
	u->sending = false;
	*f = saved;
}

static void test_no_data_no_mark(struct host *h)
{
	host_put(h, 0, host_cmd(h, 0, 0, XTS_F_URGENT));
	host_turn(h);
	assert_true(host_flow(h)->plain);
	host_quiet(h);
}

int main(void)
{
	static const struct host_test tests[] = {
		T(test_the_byte_before_the_pointer_is_urgent),
		T(test_pointer_0_names_the_first_byte),
		T_BARE(test_stdurg_takes_the_pointer_as_it_is),
		T(test_earlier_data_are_told_before_the_pointer),
		T(test_an_empty_segment_may_announce),
		T(test_an_announced_byte_is_told_when_it_comes),
		T(test_a_byte_behind_a_gap_is_told_at_once),
		T(test_a_byte_that_comes_twice_is_told_once),
		T(test_a_byte_kept_before_it_is_named_has_no_value),
		T(test_a_later_pointer_replaces_an_earlier_one),
		T(test_an_equal_or_earlier_pointer_says_nothing),
		T(test_a_pointer_to_what_was_received_says_nothing),
		T(test_pointers_are_forgotten_when_passed),
		T(test_nothing_is_hot_while_the_byte_is_awaited),
		T(test_a_wrong_checksum_announces_nothing),
		T(test_a_segment_outside_the_window_announces_nothing),
		T(test_nothing_is_urgent_behind_the_end),
		T(test_a_full_ring_tells_the_last_pointer),
		T_BARE(test_what_was_held_is_urgent_behind_the_offload),
		T(test_linux_hears_of_each_new_pointer),
		T(test_linux_hears_of_65535_pointers_at_most),
		T(test_a_fin_goes_to_linux_without_the_pointer),
		T(test_the_ack_of_our_fin_goes_without_the_pointer),
		T(test_the_pointer_is_behind_the_urgent_byte),
		T(test_each_segment_before_the_urgent_byte_points),
		T(test_urgent_mode_ends_with_the_acknowledgment),
		T(test_a_retransmission_points_too),
		T(test_more_data_with_a_mark_move_the_pointer),
		T(test_the_mark_is_behind_what_waited),
		T(test_nagle_does_not_hold_what_is_urgent),
		T(test_a_cork_does_not_hold_what_is_urgent),
		T(test_more_does_not_hold_what_is_urgent),
		T(test_a_closed_window_is_probed_twice),
		T(test_the_pointer_reaches_16_bits_far),
		T(test_no_data_no_mark),
	};

	return HOST_RUN(tests, true);
}
