/* SPDX-License-Identifier: BSD-2-Clause */
/* Hostile programs, full rings, moves, wake-ups, events that find no room. */
#include "tests/unit/fastpath/host.h"

#include <unistd.h>

static struct xts_core_area *area(struct host *h, unsigned int ctx)
{
	return &h->ctx[ctx].area->core[0];
}

static void expect_offender(struct host *h)
{
	expect_event(h, FP_EV_OFFENDER);
	assert_ptr_equal(h->ev.ctx, &h->ctx[0]);
	assert_non_null(h->ev.text);
	assert_int_equal(host_count(h, app_offences), 1);
	/* From now on it is air. */
	area(h, 0)->cmd_index.producer = area(h, 0)->cmd_index.consumer;
	host_put(h, 0, host_cmd(h, 10, 0, 0));
	host_turn(h);
	host_rx(h, (struct seg){.len = 10});
	assert_false(host_event(h));
	assert_false(host_reply(h, 0));
	assert_int_equal(host_flow(h)->tx_len, 0);
}

static void offend(struct host *h, struct xts_cmd cmd)
{
	host_put(h, 0, cmd);
	host_turn(h);
	expect_offender(h);
}

static void test_unknown_command_offends(struct host *h)
{
	struct xts_cmd cmd = host_cmd(h, 0, 0, 0);

	cmd.type = 77;
	offend(h, cmd);
}

static void test_flow_out_of_range_offends(struct host *h)
{
	struct xts_cmd cmd = host_cmd(h, 0, 0, 0);

	cmd.flow = HOST_FLOWS;
	offend(h, cmd);
}

static void test_offset_out_of_range_offends(struct host *h)
{
	struct xts_cmd cmd = host_cmd(h, 1, 0, 0);

	cmd.off = HOST_BUF;
	offend(h, cmd);
}

static void test_more_data_than_room_offends(struct host *h)
{
	struct xts_cmd cmd = host_cmd(h, 1, 0, 0);

	cmd.len = HOST_BUF + 1;
	offend(h, cmd);
}

static void test_huge_length_offends(struct host *h)
{
	struct xts_cmd cmd = host_cmd(h, 1, 0, 0);

	cmd.len = UINT32_MAX;
	offend(h, cmd);
}

static void test_gap_in_the_data_offends(struct host *h)
{
	struct xts_cmd cmd;

	h->q->stats.tx_full = 0;
	host_put(h, 0, host_cmd(h, 10, 0, 0));
	cmd = host_cmd(h, 10, 0, 0);
	cmd.off++;
	host_put(h, 0, cmd);
	host_turn(h);
	expect_event(h, FP_EV_OFFENDER);
	assert_int_equal(host_flow(h)->tx_len, 10);
}

static void test_credits_never_delivered_offend(struct host *h)
{
	offend(h, host_cmd(h, 0, 1, 0));
}

static void test_credits_not_yet_told_offend(struct host *h)
{
	uint32_t i;

	/* The ring is full: the last data are received but not told. */
	for (i = 0; i <= XTS_RING_SLOTS; i++)
		host_rx(h, (struct seg){.seq = i, .len = 1});
	assert_int_equal(host_flow(h)->rx_unread, XTS_RING_SLOTS + 1);
	host_put(h, 0, host_cmd(h, 0, XTS_RING_SLOTS + 1, 0));
	host_turn(h);
	expect_event(h, FP_EV_OFFENDER);
}

static void test_data_after_shutdown_offend(struct host *h)
{
	host_put(h, 0, host_cmd(h, 0, 0, XTS_F_SHUT_WR));
	host_turn(h);
	expect_event(h, FP_EV_SHUT_WR);
	offend(h, host_cmd(h, 1, 0, 0));
}

static void test_command_producer_out_of_range_offends(struct host *h)
{
	area(h, 0)->cmd_index.producer += XTS_RING_SLOTS + 1;
	host_turn(h);
	expect_offender(h);
}

static void test_reply_consumer_out_of_range_offends(struct host *h)
{
	uint32_t i;

	area(h, 0)->reply_index.consumer += 1000;
	for (i = 0; i < XTS_RING_SLOTS + 2; i++)
		host_rx(h, (struct seg){.seq = i, .len = 1});
	expect_event(h, FP_EV_OFFENDER);
	assert_int_equal(host_count(h, app_offences), 1);
	area(h, 0)->reply_index.consumer = area(h, 0)->reply_index.producer;
}

static void test_flow_of_another_program_offends(struct host *h)
{
	h->ctx[1].app = 2;
	host_put(h, 1, host_cmd(h, 10, 0, 0));
	host_turn(h);
	expect_event(h, FP_EV_OFFENDER);
	assert_ptr_equal(h->ev.ctx, &h->ctx[1]);
	assert_int_equal(host_flow(h)->tx_len, 0);
	h->app_off = h->app_sent = 0;
	/* The owner feels nothing. */
	host_send(h, 10);
	expect_tx(h, 0, 10, 0);
}

static void test_stale_generation_is_only_counted(struct host *h)
{
	struct xts_cmd cmd = host_cmd(h, 10, 5, XTS_F_CLOSE);

	cmd.flow_gen += 2;
	host_put(h, 0, cmd);
	cmd.flow_gen -= 1;
	host_put(h, 0, cmd);
	cmd.flow_gen = 0;
	cmd.flow = HOST_FLOWS - 1;
	host_put(h, 0, cmd);
	host_turn(h);
	assert_int_equal(host_count(h, cmd_stale), 3);
	assert_int_equal(host_count(h, app_offences), 0);
	host_quiet(h);
}

static void test_commands_after_close_are_stale(struct host *h)
{
	host_put(h, 0, host_cmd(h, 10, 0, XTS_F_CLOSE));
	host_put(h, 0, host_cmd(h, 10, 0, 0));
	host_turn(h);
	assert_int_equal(host_count(h, cmd_stale), 1);
	expect_tx(h, 0, 10, 0);
}

static void test_scribbled_memory_is_survived(struct host *h)
{
	uint32_t i, k, seed = 12345;

	for (i = 0; i < 3000; i++) {
		uint32_t *w = (uint32_t *)h->ctx[0].area;

		for (k = 0; k < 40; k++) {
			seed = seed * 1664525 + 1013904223;
			w[(seed >> 8) % (XTS_CTX_AREA_SIZE(1) / 4)] = seed;
		}
		host_rx(h, (struct seg){.seq = i, .len = 1});
		while (queue_mem_pop(h->q, h->out, sizeof(h->out)))
			;
		while (host_event(h))
			;
	}
	assert_int_equal(host_count(h, app_offences), 1);
	area(h, 0)->reply_index.consumer = area(h, 0)->reply_index.producer;
}

/* ---- rings
 * ---------------------------------------------------------------------- */

static void test_full_reply_ring_merges(struct host *h)
{
	uint32_t i, pos = 0;

	for (i = 0; i < XTS_RING_SLOTS + 50; i++)
		host_rx(h, (struct seg){.seq = i, .len = 1});
	for (i = 0; i < XTS_RING_SLOTS; i++)
		expect_data(h, pos++, 1);
	assert_false(host_reply(h, 0));
	host_turn(h);
	expect_data(h, pos, 50);
	assert_int_equal(h->core->n_blocked, 0);
	assert_false(host_reply(h, 0));
}

static void test_last_reply_waits_for_room(struct host *h)
{
	struct fp_msg *m;
	uint32_t i;

	for (i = 0; i < XTS_RING_SLOTS; i++)
		host_rx(h, (struct seg){.seq = i, .len = 1});
	m = host_fp(h, FP_CMD_REMOVE);
	m->flow = h->id;
	m->err = EPIPE;
	host_fp_go(h);
	expect_event(h, FP_EV_REMOVED);
	assert_int_equal(h->core->flows.flows[0].state, FLOW_GONE);
	for (i = 0; i < XTS_RING_SLOTS; i++)
		assert_true(host_reply(h, 0));
	host_turn(h);
	assert_true(host_reply(h, 0));
	assert_int_equal(h->reply.flags, XTS_F_RESET);
	assert_int_equal(h->reply.err, EPIPE);
	assert_int_equal(h->core->flows.flows[0].state, FLOW_FREE);
}

static void test_data_before_a_reset_are_told(struct host *h)
{
	struct fp_msg *m;
	uint32_t i;

	for (i = 0; i < XTS_RING_SLOTS + 5; i++)
		host_rx(h, (struct seg){.seq = i, .len = 1});
	m = host_fp(h, FP_CMD_REMOVE);
	m->flow = h->id;
	m->err = ECONNRESET;
	host_fp_go(h);
	expect_event(h, FP_EV_REMOVED);
	assert_int_equal(h->ev.err, ECONNRESET);
	for (i = 0; i < XTS_RING_SLOTS; i++)
		expect_data(h, i, 1);
	host_turn(h);
	assert_true(host_reply(h, 0));
	assert_int_equal(h->reply.len, 5);
	assert_int_equal(h->reply.flags, XTS_F_RESET);
	assert_int_equal(h->reply.err, ECONNRESET);
}

static void test_removal_ends_a_move_that_waits(struct host *h)
{
	struct fp_msg *m;
	uint32_t i;

	for (i = 0; i < XTS_RING_SLOTS; i++)
		host_rx(h, (struct seg){.seq = i, .len = 1});
	m = host_fp(h, FP_CMD_MOVE);
	m->flow = h->id;
	m->ctx = &h->ctx[1];
	host_fp_go(h);
	m = host_fp(h, FP_CMD_REMOVE); /* tells the program nothing else */
	m->flow = h->id;
	host_fp_go(h);
	expect_event(h, FP_EV_REMOVED);
	assert_int_equal(h->ev.err, 0);
	for (i = 0; i < XTS_RING_SLOTS; i++)
		expect_data(h, i, 1);
	host_turn(h);
	assert_true(host_reply(h, 0));
	assert_int_equal(h->reply.type, XTS_REPLY_MOVED);
	assert_int_equal(h->reply.cookie, h->params.cookie);
	assert_int_equal(h->core->flows.flows[0].state, FLOW_FREE);
}

static void test_acknowledged_bytes_are_told_when_asked(struct host *h)
{
	host_send(h, 100);
	expect_tx(h, 0, 100, 0);
	host_rx(h, (struct seg){.ack = 60});
	assert_false(host_reply(h, 0));
	host_put(h, 0, host_cmd(h, 0, 0, XTS_F_CREDITS));
	host_turn(h);
	assert_true(host_reply(h, 0));
	assert_int_equal(h->reply.flags, XTS_F_CREDITS);
	assert_int_equal(h->reply.credits, 60);
	host_put(h, 0, host_cmd(h, 0, 0, XTS_F_CREDITS));
	host_turn(h);
	assert_true(host_reply(h, 0));
	assert_int_equal(h->reply.flags, XTS_F_CREDITS);
	assert_int_equal(h->reply.credits, 0);
	host_rx(h, (struct seg){.ack = 100});
	assert_false(host_reply(h, 0)); /* not asked any more */
}

static void test_context_with_waiting_replies_can_go(struct host *h)
{
	uint32_t i;

	for (i = 0; i < XTS_RING_SLOTS + 5; i++)
		host_rx(h, (struct seg){.seq = i, .len = 1});
	for (i = 0; i < 3; i++) {
		struct fp_msg *m = host_fp(h, FP_CMD_REPLY);

		m->ctx = &h->ctx[0];
		m->reply.type = XTS_REPLY_DECLINED;
		host_fp_go(h);
	}
	host_fp(h, FP_CMD_CTX_DEL)->ctx = &h->ctx[0];
	host_fp_go(h);
	expect_event(h, FP_EV_CTX_GONE);
	assert_int_equal(h->core->n_blocked, 0);
}

static void test_slow_path_replies_keep_order_in_a_full_ring(struct host *h)
{
	uint32_t i;

	for (i = 0; i < XTS_RING_SLOTS + 20; i++) {
		struct fp_msg *m = host_fp(h, FP_CMD_REPLY);

		m->ctx = &h->ctx[1];
		m->reply.type = XTS_REPLY_DECLINED;
		m->reply.cookie = i;
		host_fp_go(h);
	}
	for (i = 0; i < XTS_RING_SLOTS + 20; i++) {
		if (!host_reply(h, 1)) {
			host_turn(h);
			assert_true(host_reply(h, 1));
		}
		assert_int_equal(h->reply.cookie, i);
	}
}

static void test_replies_never_read_offend(struct host *h)
{
	uint32_t i;

	for (i = 0; i < 20000 && !host_event(h); i++) {
		struct fp_msg *m = host_fp(h, FP_CMD_REPLY);

		m->ctx = &h->ctx[1];
		m->reply.type = XTS_REPLY_DECLINED;
		host_fp_go(h);
	}
	assert_int_equal(h->ev.type, FP_EV_OFFENDER);
}

static void test_moved_flow_replies_on_the_new_ring(struct host *h)
{
	struct fp_msg *m;

	host_rx(h, (struct seg){.len = 10});
	host_put(h, 0, host_cmd(h, 10, 0, 0));
	m = host_fp(h, FP_CMD_MOVE);
	m->flow = h->id;
	m->ctx = &h->ctx[1];
	host_fp_go(h);
	assert_int_equal(host_flow(h)->tx_len, 10);
	expect_data(h, 0, 10);
	assert_true(host_reply(h, 0));
	assert_int_equal(h->reply.type, XTS_REPLY_MOVED);
	assert_int_equal(h->reply.cookie, h->params.cookie);
	host_rx(h, (struct seg){.seq = 10, .len = 10});
	assert_false(host_reply(h, 0));
	assert_true(host_reply(h, 1));
	assert_int_equal(h->reply.len, 10);
	/* Commands of the same program are taken on either. */
	host_put(h, 1, host_cmd(h, 10, 20, 0));
	host_turn(h);
	assert_int_equal(host_count(h, app_offences), 0);
	assert_int_equal(host_flow(h)->rx_unread, 0);
}

static void test_move_waits_for_room_in_the_old_ring(struct host *h)
{
	struct fp_msg *m;
	uint32_t i;

	for (i = 0; i < XTS_RING_SLOTS; i++)
		host_rx(h, (struct seg){.seq = i, .len = 1});
	m = host_fp(h, FP_CMD_MOVE);
	m->flow = h->id;
	m->ctx = &h->ctx[1];
	host_fp_go(h);
	host_rx(h, (struct seg){.seq = i, .len = 7});
	for (i = 0; i < XTS_RING_SLOTS; i++)
		expect_data(h, i, 1);
	host_turn(h);
	expect_data(h, i, 7);
	assert_true(host_reply(h, 0));
	assert_int_equal(h->reply.type, XTS_REPLY_MOVED);
}

static uint64_t rung(int fd)
{
	uint64_t n = 0;

	return read(fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

static void test_only_a_sleeper_is_woken_and_once(struct host *h)
{
	host_rx(h, (struct seg){.len = 1});
	assert_int_equal(rung(h->ctx[0].app_event_fd), 0);
	h->ctx[0].area->app_sleep = 1;
	host_rx(h, (struct seg){.seq = 1, .len = 1});
	host_rx(h, (struct seg){.seq = 2, .len = 1});
	assert_int_equal(rung(h->ctx[0].app_event_fd), 1);
	h->ctx[0].area->app_sleep = 3;
	host_rx(h, (struct seg){.seq = 3, .len = 1});
	assert_int_equal(rung(h->ctx[0].app_event_fd), 1);
	assert_int_equal(host_count(h, app_wakeups), 2);
}

static void test_silent_context_is_parked_and_a_reply_unparks(struct host *h)
{
	host_advance_ms(h, 3);
	assert_int_equal(area(h, 0)->core.need_doorbell, 1);
	assert_int_equal(h->core->n_parked, 2);
	host_rx(h, (struct seg){.len = 1});
	assert_int_equal(area(h, 0)->core.need_doorbell, 0);
	assert_int_equal(area(h, 1)->core.need_doorbell, 1);
	host_send(h, 10);
	expect_tx(h, 0, 0, 1);
	expect_tx(h, 0, 10, 1);
}

/* ---- events that find no room
 * ------------------------------------------------------ */

static void test_full_event_ring_drops_frames_only(struct host *h)
{
	uint32_t i, frames = 0;

	for (i = 0; i < FP_RING_SLOTS + 10; i++)
		host_rx(h, (struct seg){.flags = SEG_SYN, .pport = 9});
	assert_int_equal(host_count(h, rx_event_full), 10);
	/* A FIN that can't be told was not received. */
	host_rx(h, (struct seg){.flags = SEG_ACK | SEG_FIN});
	assert_false(host_flow(h)->rcv_fin);
	host_put(h, 0, host_cmd(h, 0, 0, XTS_F_SHUT_WR));
	host_turn(h);
	host_put(h, 0, host_cmd(h, 0, 0, XTS_F_CLOSE));
	host_turn(h);
	/* What is asked now waits: it would cause another event. */
	host_fp(h, FP_CMD_CTX_DEL)->ctx = &h->ctx[1];
	host_fp_go(h);
	while (host_event(h) && h->ev.type == FP_EV_FRAME)
		frames++;
	assert_int_equal(frames, FP_RING_SLOTS);
	host_turn(h);
	expect_event(h, FP_EV_SHUT_WR);
	expect_event(h, FP_EV_REMOVED);
	host_turn(h);
	expect_event(h, FP_EV_CTX_GONE);
}

static void test_slow_path_is_woken_when_it_sleeps(struct host *h)
{
	host_rx(h, (struct seg){.flags = SEG_SYN, .pport = 9});
	assert_int_equal(rung(fp_ev_fd(h->core)), 0);
	assert_false(fp_ev_arm(h->core));
	assert_true(host_event(h));
	assert_true(fp_ev_arm(h->core));
	host_rx(h, (struct seg){.flags = SEG_SYN, .pport = 9});
	host_rx(h, (struct seg){.flags = SEG_SYN, .pport = 9});
	assert_int_equal(rung(fp_ev_fd(h->core)), 1);
}

int main(void)
{
	static const struct host_test tests[] = {
		T(test_unknown_command_offends),
		T(test_flow_out_of_range_offends),
		T(test_offset_out_of_range_offends),
		T(test_more_data_than_room_offends),
		T(test_huge_length_offends),
		T(test_gap_in_the_data_offends),
		T(test_credits_never_delivered_offend),
		T(test_credits_not_yet_told_offend),
		T(test_data_after_shutdown_offend),
		T(test_command_producer_out_of_range_offends),
		T(test_reply_consumer_out_of_range_offends),
		T(test_flow_of_another_program_offends),
		T(test_stale_generation_is_only_counted),
		T(test_commands_after_close_are_stale),
		T(test_scribbled_memory_is_survived),
		T(test_full_reply_ring_merges),
		T(test_last_reply_waits_for_room),
		T(test_data_before_a_reset_are_told),
		T(test_removal_ends_a_move_that_waits),
		T(test_acknowledged_bytes_are_told_when_asked),
		T(test_context_with_waiting_replies_can_go),
		T(test_slow_path_replies_keep_order_in_a_full_ring),
		T(test_replies_never_read_offend),
		T(test_moved_flow_replies_on_the_new_ring),
		T(test_move_waits_for_room_in_the_old_ring),
		T(test_only_a_sleeper_is_woken_and_once),
		T(test_silent_context_is_parked_and_a_reply_unparks),
		T(test_full_event_ring_drops_frames_only),
		T(test_slow_path_is_woken_when_it_sleeps),
	};

	return HOST_RUN(tests, false);
}
