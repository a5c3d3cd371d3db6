/* SPDX-License-Identifier: BSD-2-Clause */
/* FIN, half close, close, abort, RST, the program's death. */
#include "tests/unit/fastpath/host.h"

static void
test_fin_goes_to_the_slow_path_and_eof_to_the_program(struct host *h)
{
	host_rx(h, (struct seg){.len = 10, .flags = SEG_ACK | SEG_FIN});
	expect_event(h, FP_EV_FRAME);
	assert_int_equal(h->ev.flow.index, h->id.index);
	assert_int_equal(h->ev.flow.gen, h->id.gen);
	assert_true(h->ev.view.rcv_fin);
	assert_int_equal(h->ev.view.rcv_nxt, h->irs + 10);
	expect_data(h, 0, 10);
	assert_int_equal(h->reply.flags, XTS_F_EOF);
	/* Linux acknowledges it. */
	host_advance_ms(h, 100);
	host_quiet(h);
}

/* Linux gets one that is in order when the gap is filled. */
static void test_fin_behind_a_gap_waits(struct host *h)
{
	struct frame f = {0};

	host_rx(h,
		(struct seg){.seq = 10, .len = 5, .flags = SEG_ACK | SEG_FIN});
	assert_false(host_event(h));
	expect_tx(h, 0, 0, 0);
	host_rx(h, (struct seg){.len = 10});
	expect_event(h, FP_EV_FRAME);
	assert_true(h->ev.view.rcv_fin);
	assert_int_equal(h->ev.view.rcv_nxt, h->irs + 15);
	assert_int_equal(frame_parse(&f, h->ev.frame, h->ev.frame_len),
			 FRAME_TCP);
	assert_true(frame_tcp_checksum_ok(&f));
	assert_true(frame_tcp(&f)->fin);
	assert_int_equal(f.payload_len, 0);
	assert_int_equal(ntohl(frame_tcp(&f)->seq), h->irs + 15);
	expect_data(h, 0, 15);
	assert_int_equal(h->reply.flags, XTS_F_EOF);
	host_quiet(h); /* Linux acknowledges */
}

static void test_data_behind_a_kept_fin_unmake_it(struct host *h)
{
	host_rx(h, (struct seg){.seq = 10, .flags = SEG_ACK | SEG_FIN});
	host_rx(h, (struct seg){.seq = 0, .len = 20});
	expect_data(h, 0, 20);
	assert_int_equal(h->reply.flags, 0);
	assert_false(host_event(h));
	assert_true(host_flow(h)->plain);
}

static void test_repeated_fin_goes_to_linux_again(struct host *h)
{
	host_rx(h, (struct seg){.flags = SEG_ACK | SEG_FIN});
	expect_event(h, FP_EV_FRAME);
	host_rx(h, (struct seg){.flags = SEG_ACK | SEG_FIN});
	expect_event(h, FP_EV_FRAME);
	assert_true(host_reply(h, 0));
	host_quiet(h);
}

static void test_data_can_be_sent_after_the_peers_fin(struct host *h)
{
	struct seg s;

	host_rx(h, (struct seg){.flags = SEG_ACK | SEG_FIN});
	expect_event(h, FP_EV_FRAME);
	host_send(h, 3000);
	s = expect_tx(h, 0, HOST_MSS, 1); /* the FIN is acknowledged too */
	while (host_tx(h, &s))
		;
	host_rx(h, (struct seg){.seq = 1, .ack = 3000});
	assert_int_equal(host_flow(h)->snd_una, h->iss + 3000);
	host_send(h, 10);
	expect_tx(h, 3000, 10, 1);
}

static void test_nothing_comes_behind_a_fin(struct host *h)
{
	host_rx(h, (struct seg){.flags = SEG_ACK | SEG_FIN});
	assert_true(host_reply(h, 0));
	host_rx(h, (struct seg){.seq = 0, .len = 5});
	host_rx(h, (struct seg){.seq = 1, .len = 5});
	assert_false(host_reply(h, 0));
	assert_int_equal(host_flow(h)->rcv_nxt, h->irs);
}

static void test_shutdown_waits_until_all_is_acknowledged(struct host *h)
{
	host_put(h, 0, host_cmd(h, 100, 0, XTS_F_SHUT_WR));
	host_turn(h);
	expect_tx(h, 0, 100, 0);
	assert_false(host_event(h));
	host_rx(h, (struct seg){.ack = 100});
	expect_event(h, FP_EV_SHUT_WR);
	assert_int_equal(h->ev.view.snd_nxt, h->iss + 100);
	assert_int_equal(h->ev.view.snd_una, h->iss + 100);
	assert_true(h->ev.view.snd_fin);
}

static void shut_wr(struct host *h)
{
	host_put(h, 0, host_cmd(h, 0, 0, XTS_F_SHUT_WR));
	host_turn(h);
	expect_event(h, FP_EV_SHUT_WR);
}

static void test_data_are_received_after_shutdown(struct host *h)
{
	shut_wr(h);
	host_rx(h, (struct seg){.len = 100});
	expect_data(h, 0, 100);
	expect_tx(h, 1, 0, 100); /* behind Linux's FIN */
}

static void test_ack_of_our_fin_goes_to_linux(struct host *h)
{
	shut_wr(h);
	host_rx(h, (struct seg){.ack = 1});
	expect_event(h, FP_EV_FRAME);
	assert_int_equal(host_count(h, rx_bad_ack), 0);
	/* Data that carry it again are not for Linux. */
	host_rx(h, (struct seg){.ack = 1, .len = 10});
	assert_false(host_event(h));
	expect_data(h, 0, 10);
	host_rx(h,
		(struct seg){.seq = 10, .ack = 1, .flags = SEG_ACK | SEG_FIN});
	expect_event(h, FP_EV_FRAME);
	assert_true(h->ev.view.rcv_fin);
}

/* Linux would acknowledge data that it got, which may not have come here. */
static void test_data_with_the_ack_of_our_fin_stay_here(struct host *h)
{
	struct frame fr = {0};

	shut_wr(h);
	host_rx(h, (struct seg){.ack = 1, .len = 10});
	expect_event(h, FP_EV_FRAME);
	assert_int_equal(frame_parse(&fr, h->ev.frame, h->ev.frame_len),
			 FRAME_TCP);
	assert_int_equal(fr.payload_len, 0);
	assert_true(frame_tcp_checksum_ok(&fr));
	assert_int_equal(ntohl(frame_tcp(&fr)->seq), h->irs);
	assert_int_equal(ntohl(frame_tcp(&fr)->ack_seq), h->iss + 1);
	expect_data(h, 0, 10);
}

static void test_data_with_a_copied_ack_stay_here(struct host *h)
{
	struct fp_msg *m = host_fp(h, FP_CMD_COPY_ACK);
	struct frame fr = {0};

	m->flow = h->id;
	host_fp_go(h);
	host_rx(h, (struct seg){.len = 10});
	expect_event(h, FP_EV_FRAME);
	assert_int_equal(frame_parse(&fr, h->ev.frame, h->ev.frame_len),
			 FRAME_TCP);
	assert_int_equal(fr.payload_len, 0);
	expect_data(h, 0, 10);
}

static void test_close_ends_when_all_is_acknowledged(struct host *h)
{
	host_put(h, 0, host_cmd(h, 100, 0, XTS_F_CLOSE));
	host_turn(h);
	expect_tx(h, 0, 100, 0);
	assert_false(host_event(h));
	host_rx(h, (struct seg){.ack = 100});
	expect_event(h, FP_EV_REMOVED);
	assert_int_equal(h->ev.how, FP_REMOVED_CLOSE);
	assert_int_equal(h->ev.flow.gen, h->id.gen);
	assert_int_equal(h->ev.view.snd_nxt, h->iss + 100);
	assert_true(h->ev.view.snd_fin);
	assert_true(host_reply(h, 0));
	assert_int_equal(h->reply.flags, XTS_F_CLOSED);
	/* From now on its frames are nobody's. */
	host_rx(h, (struct seg){.ack = 100, .len = 3});
	expect_event(h, FP_EV_FRAME);
	assert_int_equal(h->ev.flow.index, FP_NO_FLOW);
}

static void test_close_with_unread_data_resets(struct host *h)
{
	host_rx(h, (struct seg){.len = 10});
	host_put(h, 0, host_cmd(h, 0, 4, XTS_F_CLOSE));
	host_turn(h);
	expect_event(h, FP_EV_REMOVED);
	assert_int_equal(h->ev.how, FP_REMOVED_ABORT);
}

static void test_data_after_close_reset(struct host *h)
{
	host_put(h, 0, host_cmd(h, 100, 0, XTS_F_CLOSE));
	host_turn(h);
	host_rx(h, (struct seg){.len = 10});
	expect_event(h, FP_EV_REMOVED);
	assert_int_equal(h->ev.how, FP_REMOVED_ABORT);
}

static void test_abort_drops_what_is_unsent(struct host *h)
{
	host_put(h, 0, host_cmd(h, 0, 0, XTS_F_CLOSE | XTS_F_ABORT));
	host_turn(h);
	expect_event(h, FP_EV_REMOVED);
	assert_int_equal(h->ev.how, FP_REMOVED_ABORT);
	assert_true(host_reply(h, 0));
	assert_int_equal(h->reply.flags, XTS_F_CLOSED);
	host_quiet(h);
}

static void test_shutdown_then_close(struct host *h)
{
	shut_wr(h);
	host_put(h, 0, host_cmd(h, 0, 0, XTS_F_CLOSE));
	host_turn(h);
	expect_event(h, FP_EV_REMOVED);
	assert_int_equal(h->ev.how, FP_REMOVED_CLOSE);
	assert_int_equal(h->ev.view.snd_nxt, h->iss);
}

static void test_rst_is_an_exception(struct host *h)
{
	struct fp_msg *m;

	host_rx(h, (struct seg){.flags = SEG_RST | SEG_ACK});
	expect_event(h, FP_EV_FRAME);
	assert_int_equal(h->ev.flow.index, h->id.index);
	/* Linux judges; the slow path then takes the flow away. */
	m = host_fp(h, FP_CMD_REMOVE);
	m->flow = h->id;
	m->err = ECONNRESET;
	host_fp_go(h);
	expect_event(h, FP_EV_REMOVED);
	assert_int_equal(h->ev.how, FP_REMOVED_ASKED);
	assert_true(host_reply(h, 0));
	assert_int_equal(h->reply.flags, XTS_F_RESET);
	assert_int_equal(h->reply.err, ECONNRESET);
}

static void test_rst_with_a_wrong_checksum_is_dropped(struct host *h)
{
	host_rx(h, (struct seg){.flags = SEG_RST, .bad_tcp_sum = true});
	assert_int_equal(host_count(h, rx_bad_checksum), 1);
	host_quiet(h);
}

static void test_remove_with_data_pending(struct host *h)
{
	host_send(h, 14 * HOST_MSS);
	host_push(h, (struct seg){.len = 10});
	host_fp(h, FP_CMD_REMOVE)->flow = h->id;
	host_fp_go(h);
	expect_event(h, FP_EV_REMOVED);
	assert_int_equal(h->ev.view.snd_nxt, h->iss + 10 * HOST_MSS);
	expect_event(h, FP_EV_FRAME); /* that came after it */
	assert_int_equal(h->ev.flow.index, FP_NO_FLOW);
	assert_false(host_reply(h, 0));
	assert_false(fp_flow_view(h->core, h->id, &h->ev.view));
}

static void test_died_program_is_closed_like_close(struct host *h)
{
	host_put(h, 0, host_cmd(h, 100, 0, 0));
	host_fp(h, FP_CMD_CTX_DEL)->ctx = &h->ctx[0];
	host_fp_go(h);
	expect_event(h, FP_EV_CTX_GONE);
	assert_ptr_equal(h->ev.ctx, &h->ctx[0]);
	expect_tx(h, 0, 100, 0); /* its last command was read out */
	host_fp(h, FP_CMD_CLOSE)->flow = h->id;
	host_fp_go(h);
	assert_false(host_event(h));
	host_rx(h, (struct seg){.ack = 100});
	expect_event(h, FP_EV_REMOVED);
	assert_int_equal(h->ev.how, FP_REMOVED_CLOSE);
}

static void test_died_program_with_unread_data_resets(struct host *h)
{
	host_rx(h, (struct seg){.len = 10});
	host_fp(h, FP_CMD_CTX_DEL)->ctx = &h->ctx[0];
	host_fp_go(h);
	host_fp(h, FP_CMD_CLOSE)->flow = h->id;
	host_fp_go(h);
	expect_event(h, FP_EV_CTX_GONE);
	expect_event(h, FP_EV_REMOVED);
	assert_int_equal(h->ev.how, FP_REMOVED_ABORT);
}

static void test_closed_flow_is_not_kept_for_a_closed_window(struct host *h)
{
	uint32_t i;
	struct seg s;

	host_rx(h, (struct seg){.len = 1, .win0 = true});
	host_put(h, 0, host_cmd(h, 100, 1, XTS_F_CLOSE));
	for (i = 0; i < 100000 && !host_event(h); i++) {
		h->now_ns += 100000000;
		host_turn(h);
		if (host_tx(h, &s))
			host_rx(h, (struct seg){.seq = 1, .win0 = true});
	}
	assert_int_equal(h->ev.type, FP_EV_REMOVED);
	assert_int_equal(h->ev.how, FP_REMOVED_ABORT);
}

/* Linux is in TIME_WAIT, or through with it, while the program has still to
 * close: a SYN of the peer's is for Linux. Before that it is challenged. */
static void test_syn_behind_both_fins_goes_to_linux(struct host *h)
{
	shut_wr(h);
	host_rx(h, (struct seg){.seq = 90000, .flags = SEG_SYN});
	assert_false(host_event(h));
	expect_tx(h, 1, 0, 0);
	host_rx(h, (struct seg){.ack = 1});
	expect_event(h, FP_EV_FRAME);
	host_rx(h, (struct seg){.ack = 1, .flags = SEG_ACK | SEG_FIN});
	expect_event(h, FP_EV_FRAME);
	host_rx(h, (struct seg){.seq = 90000, .flags = SEG_SYN});
	expect_event(h, FP_EV_FRAME);
	assert_int_equal(h->ev.flow.index, h->id.index);
	expect_no_tx(h);
}

/* The peer's FIN acknowledges ours: no other segment does. */
static void test_syn_behind_a_fin_that_acks_ours(struct host *h)
{
	shut_wr(h);
	host_rx(h, (struct seg){.ack = 1, .flags = SEG_ACK | SEG_FIN});
	expect_event(h, FP_EV_FRAME);
	host_rx(h, (struct seg){.seq = 90000, .flags = SEG_SYN});
	expect_event(h, FP_EV_FRAME);
	expect_no_tx(h);
}

/* Its FIN was on its way when ours was: the one that it sends again tells. */
static void test_syn_behind_a_repeated_fin_that_acks_ours(struct host *h)
{
	shut_wr(h);
	host_rx(h, (struct seg){.flags = SEG_ACK | SEG_FIN});
	expect_event(h, FP_EV_FRAME);
	host_rx(h, (struct seg){.ack = 1, .flags = SEG_ACK | SEG_FIN});
	expect_event(h, FP_EV_FRAME);
	host_rx(h, (struct seg){.seq = 90000, .flags = SEG_SYN});
	expect_event(h, FP_EV_FRAME);
	expect_no_tx(h);
}

static void test_copy_ack_copies_one_frame(struct host *h)
{
	host_fp(h, FP_CMD_COPY_ACK)->flow = h->id;
	host_fp_go(h);
	host_rx(h, (struct seg){.ack = 0});
	expect_event(h, FP_EV_FRAME);
	host_rx(h, (struct seg){.ack = 0});
	host_quiet(h);
}

int main(void)
{
	static const struct host_test tests[] = {
		T(test_fin_goes_to_the_slow_path_and_eof_to_the_program),
		T(test_fin_behind_a_gap_waits),
		T(test_data_behind_a_kept_fin_unmake_it),
		T(test_repeated_fin_goes_to_linux_again),
		T(test_data_can_be_sent_after_the_peers_fin),
		T(test_nothing_comes_behind_a_fin),
		T(test_shutdown_waits_until_all_is_acknowledged),
		T(test_data_are_received_after_shutdown),
		T(test_ack_of_our_fin_goes_to_linux),
		T(test_data_with_the_ack_of_our_fin_stay_here),
		T(test_data_with_a_copied_ack_stay_here),
		T(test_close_ends_when_all_is_acknowledged),
		T(test_close_with_unread_data_resets),
		T(test_data_after_close_reset),
		T(test_abort_drops_what_is_unsent),
		T(test_shutdown_then_close),
		T(test_rst_is_an_exception),
		T(test_rst_with_a_wrong_checksum_is_dropped),
		T(test_remove_with_data_pending),
		T(test_died_program_is_closed_like_close),
		T(test_died_program_with_unread_data_resets),
		T(test_closed_flow_is_not_kept_for_a_closed_window),
		T(test_syn_behind_both_fins_goes_to_linux),
		T(test_syn_behind_a_fin_that_acks_ours),
		T(test_syn_behind_a_repeated_fin_that_acks_ours),
		T(test_copy_ack_copies_one_frame),
	};

	return HOST_RUN(tests, true);
}
