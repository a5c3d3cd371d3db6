/* SPDX-License-Identifier: BSD-2-Clause */
/* INSTALL, held and injected frames, RELEASE. */
#include "tests/unit/fastpath/host.h"

static void inject(struct host *h, struct seg s)
{
	struct fp_msg *m = host_fp(h, FP_CMD_INJECT);

	m->flow = h->id;
	m->frame_len = host_build(h, s, m->frame);
	host_fp_go(h);
}

static void test_held_frames_come_after_injected_ones(struct host *h)
{
	host_install(h);
	host_rx(h, (struct seg){.seq = 20, .len = 10});
	host_rx(h, (struct seg){.seq = 30, .len = 10});
	assert_false(host_reply(h, 0));
	assert_int_equal(host_flow(h)->rcv_nxt, h->irs);
	inject(h, (struct seg){.seq = 0, .len = 10});
	inject(h, (struct seg){.seq = 10, .len = 10});
	assert_false(host_reply(h, 0));
	host_release(h);
	assert_int_equal(h->reply.len, 40);
	assert_int_equal(h->reply.off, 0);
	assert_int_equal(host_count(h, rx_out_of_order), 0);
}

static void test_received_data_are_told_with_offloaded(struct host *h)
{
	h->params.rx_len = 500;
	host_install(h);
	inject(h, (struct seg){.seq = 0, .len = 10});
	host_release(h);
	assert_int_equal(h->reply.len, 510);
	assert_int_equal(h->reply.rx_buf, h->buf_off);
	assert_int_equal(h->reply.buf_size, HOST_BUF);
	host_rx(h, (struct seg){.seq = 10, .len = 5});
	assert_true(host_reply(h, 0));
	assert_int_equal(h->reply.off, 510);
}

static void test_nothing_is_sent_before_release(struct host *h)
{
	h->params.tx_len = 100;
	host_install(h);
	host_turn(h);
	expect_no_tx(h);
	memset(h->mem + h->buf_off + HOST_BUF, 0, 1);
	host_fp(h, FP_CMD_RELEASE)->flow = h->id;
	host_fp_go(h);
	assert_int_equal(host_count(h, tx_segments), 1);
	assert_true(queue_mem_pop(h->q, h->out, sizeof(h->out)) > 0);
}

static void test_injected_fin_is_told_after_offloaded(struct host *h)
{
	host_install(h);
	inject(h, (struct seg){.len = 10, .flags = SEG_ACK | SEG_FIN});
	expect_event(h, FP_EV_FRAME);
	assert_true(h->ev.view.rcv_fin);
	host_release(h);
	assert_int_equal(h->reply.len, 10);
	assert_int_equal(h->reply.flags, 0);
	assert_true(host_reply(h, 0));
	assert_int_equal(h->reply.flags, XTS_F_EOF);
}

/* What is injected starts the timer; the core may not run for a while then. */
static void test_in_flight_data_are_sent_again_after_a_long_hold(struct host *h)
{
	uint32_t i;

	h->params.tx_len = 200;
	h->params.snd_nxt = h->iss + 200;
	for (i = 0; i < 200; i++)
		h->mem[h->buf_off + HOST_BUF + i] = host_pattern(i);
	host_install(h);
	inject(h, (struct seg){.ack = 100});
	host_advance_ms(h, 2000);
	expect_no_tx(h);
	host_release(h);
	host_advance_ms(h, 2000);
	expect_tx(h, 100, 100, 0);
}

static void test_held_frames_of_a_removed_flow_go_to_linux(struct host *h)
{
	host_install(h);
	host_rx(h, (struct seg){.len = 10});
	host_rx(h, (struct seg){.seq = 10, .len = 10});
	host_fp(h, FP_CMD_REMOVE)->flow = h->id;
	host_fp_go(h);
	expect_event(h, FP_EV_REMOVED);
	expect_event(h, FP_EV_FRAME);
	assert_int_equal(h->ev.flow.index, FP_NO_FLOW);
	expect_event(h, FP_EV_FRAME);
	host_quiet(h);
}

static void test_held_frames_are_bounded(struct host *h)
{
	uint32_t i;

	host_install(h);
	for (i = 0; i < HOLD_SLOTS + 5; i++)
		host_rx(h, (struct seg){.seq = i, .len = 1});
	assert_int_equal(host_count(h, rx_hold_full), 5);
	host_release(h);
	assert_int_equal(h->reply.len, HOLD_SLOTS);
}

static void test_table_full_and_double_install_are_refused(struct host *h)
{
	uint32_t i;

	host_install(h);
	host_fp(h, FP_CMD_INSTALL)->params = &h->params;
	host_fp_go(h);
	expect_event(h, FP_EV_INSTALLED);
	assert_int_equal(h->ev.err, EEXIST);
	for (i = 1; i < HOST_FLOWS; i++) {
		h->params.key.pport++;
		host_install(h);
	}
	h->params.key.pport++;
	host_fp(h, FP_CMD_INSTALL)->params = &h->params;
	host_fp_go(h);
	expect_event(h, FP_EV_INSTALLED);
	assert_int_equal(h->ev.err, ENOSPC);
	assert_int_equal(h->ev.flow.index, FP_NO_FLOW);
}

static void test_senseless_params_are_refused(struct host *h)
{
	struct flow_params good = h->params;
	uint32_t i;

	for (i = 0; i < 7; i++) {
		h->params = good;
		switch (i) {
		case 0:
			h->params.buf_size = 3000;
			break;
		case 1:
			h->params.rx_len = HOST_BUF + 1;
			break;
		case 2:
			h->params.tx_len = HOST_BUF + 1;
			break;
		case 3:
			h->params.rx_buf = h->mem_size - HOST_BUF;
			break;
		case 4:
			h->params.snd_nxt++;
			break;
		case 5:
			h->params.snd_wscale = 15;
			break;
		case 6:
			h->params.key.family = 0;
			break;
		}
		host_fp(h, FP_CMD_INSTALL)->params = &h->params;
		host_fp_go(h);
		expect_event(h, FP_EV_INSTALLED);
		assert_int_equal(h->ev.err, EINVAL);
	}
}

static void test_slots_are_used_again_with_a_new_generation(struct host *h)
{
	uint32_t i, gen = 0;

	for (i = 0; i < 3 * HOST_FLOWS; i++) {
		host_install(h);
		assert_int_equal(h->id.index, 0);
		assert_true(h->id.gen > gen);
		gen = h->id.gen;
		host_fp(h, FP_CMD_REMOVE)->flow = h->id;
		host_fp_go(h);
		expect_event(h, FP_EV_REMOVED);
	}
}

static void test_view_shows_the_numbers(struct host *h)
{
	struct flow_view v;

	host_install(h);
	host_release(h);
	host_rx(h, (struct seg){.len = 10});
	host_send(h, 20);
	assert_true(fp_flow_view(h->core, h->id, &v));
	assert_int_equal(v.rcv_nxt, h->irs + 10);
	assert_int_equal(v.snd_nxt, h->iss + 20);
	assert_int_equal(v.snd_una, h->iss);
	h->id.gen += 2;
	assert_false(fp_flow_view(h->core, h->id, &v));
	h->id.gen -= 2;
}

int main(void)
{
	static const struct host_test tests[] = {
		T_BARE(test_held_frames_come_after_injected_ones),
		T_BARE(test_received_data_are_told_with_offloaded),
		T_BARE(test_nothing_is_sent_before_release),
		T_BARE(test_injected_fin_is_told_after_offloaded),
		T_BARE(test_in_flight_data_are_sent_again_after_a_long_hold),
		T_BARE(test_held_frames_of_a_removed_flow_go_to_linux),
		T_BARE(test_held_frames_are_bounded),
		T_BARE(test_table_full_and_double_install_are_refused),
		T_BARE(test_senseless_params_are_refused),
		T_BARE(test_slots_are_used_again_with_a_new_generation),
		T_BARE(test_view_shows_the_numbers),
	};

	return HOST_RUN(tests, true);
}
