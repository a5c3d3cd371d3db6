/* SPDX-License-Identifier: BSD-2-Clause */
/* FREEZE and LEAVE: a flow is let go with all that another TCP has to know. */
#include "tests/unit/fastpath/host.h"

static struct flow_frozen z;

static void command(struct host *h, enum fp_cmd type)
{
	struct fp_msg *m = host_fp(h, type);

	memset(&z, 0xaa, sizeof(z));
	m->flow = h->id;
	m->frozen = &z;
	host_fp_go(h);
}

/* Whatever it is, it is right; a test of its own looks closer. */
static void sent(struct host *h)
{
	struct seg s;

	while (host_tx(h, &s))
		;
}

static bool is_there(struct host *h)
{
	return flow_by_id(&h->core->flows, h->id);
}

static void expect_frozen(struct host *h)
{
	expect_event(h, FP_EV_REMOVED);
	assert_int_equal(h->ev.how, FP_REMOVED_FROZEN);
	assert_int_equal(h->ev.err, 0);
	assert_false(is_there(h));
}

static void assert_ring(const uint8_t *ring, uint32_t size, uint32_t off,
			uint32_t pos, uint32_t len)
{
	uint32_t i;

	for (i = 0; i < len; i++)
		assert_int_equal(ring[(off + i) & (size - 1)],
				 host_pattern(pos + i));
}

static void test_idle_flow_is_told_as_it_is(struct host *h)
{
	struct flow was = *host_flow(h);

	command(h, FP_CMD_FREEZE);
	expect_frozen(h);
	assert_int_equal(z.snd_una, h->iss);
	assert_int_equal(z.snd_nxt, h->iss);
	assert_int_equal(z.rcv_nxt, h->irs);
	assert_int_equal(z.snd_wnd, was.snd_wnd);
	assert_int_equal(z.snd_wl1, was.snd_wl1);
	assert_int_equal(z.rcv_wnd, was.rcv_wnd);
	assert_int_equal(z.rcv_wup, was.rcv_wup);
	assert_int_equal(z.snd_wscale, h->v.wscale);
	assert_int_equal(z.rcv_wscale, h->v.wscale);
	assert_int_equal(z.timestamps, h->v.ts);
	assert_int_equal(z.rx_len + z.tx_len, 0);
	assert_false(z.rcv_fin | z.snd_fin | z.shut_wr | z.closing);
	host_quiet(h);
}

static void test_unread_and_unacknowledged_data_are_there(struct host *h)
{
	host_rx(h, (struct seg){.len = 300});
	expect_data(h, 0, 300);
	host_credit(h, 100);
	host_send(h, 50);
	sent(h);
	command(h, FP_CMD_FREEZE);
	expect_frozen(h);
	assert_int_equal(z.rcv_nxt, h->irs + 300);
	assert_int_equal(z.rx_len, 200);
	assert_ring(z.rx_buf, z.rx_size, z.rx_off, 100, 200);
	assert_int_equal(z.snd_una, h->iss);
	assert_int_equal(z.snd_nxt, h->iss + 50);
	assert_int_equal(z.tx_len, 50);
	host_quiet(h);
}

static void test_data_for_a_closed_window_are_there(struct host *h)
{
	host_send(h, 1);
	expect_tx(h, 0, 1, 0);
	host_rx(h, (struct seg){.ack = 1, .win0 = true});
	host_send(h, 70);
	expect_no_tx(h);
	command(h, FP_CMD_FREEZE);
	expect_frozen(h);
	assert_int_equal(z.snd_wnd, 0);
	assert_int_equal(z.snd_nxt, h->iss + 1);
	assert_int_equal(z.tx_len, 70);
	host_quiet(h);
}

/* In the program's ring, and not looked at yet: it is done first. */
static void test_what_the_program_has_commanded_is_done_before(struct host *h)
{
	host_rx(h, (struct seg){.len = 300});
	expect_data(h, 0, 300);
	host_put(h, 0, host_cmd(h, 40, 300, XTS_F_SHUT_WR));
	command(h, FP_CMD_FREEZE);
	expect_frozen(h);
	assert_int_equal(z.rx_len, 0);
	assert_int_equal(z.tx_len, 40);
	assert_true(z.shut_wr);
	sent(h);
	host_quiet(h);
}

/* Nobody would remember that it is owed. */
static void test_delayed_ack_leaves_at_once(struct host *h)
{
	host_rx(h, (struct seg){.len = 10});
	expect_data(h, 0, 10);
	command(h, FP_CMD_FREEZE);
	expect_tx(h, 0, 0, 10);
	expect_frozen(h);
	assert_int_equal(z.rcv_wup, h->irs + 10);
	host_quiet(h);
}

static void test_later_frames_belong_to_nobody(struct host *h)
{
	command(h, FP_CMD_FREEZE);
	expect_frozen(h);
	host_rx(h, (struct seg){.len = 10});
	expect_event(h, FP_EV_FRAME);
	assert_int_equal(h->ev.flow.index, FP_NO_FLOW);
	host_quiet(h);
}

static void test_half_closed_flows_say_so(struct host *h)
{
	host_rx(h, (struct seg){.len = 10, .flags = SEG_ACK | SEG_FIN});
	expect_event(h, FP_EV_FRAME);
	expect_data(h, 0, 10);
	command(h, FP_CMD_FREEZE);
	sent(h);
	expect_frozen(h);
	assert_true(z.rcv_fin);
	assert_int_equal(z.rcv_nxt, h->irs + 10);
}

static void test_urgent_data_stay(struct host *h)
{
	host_rx(h,
		(struct seg){.len = 10, .flags = SEG_ACK | SEG_URG, .urg = 5});
	expect_event(h, FP_EV_FRAME); /* Linux signals it */
	assert_true(host_reply(h, 0));
	expect_data(h, 0, 10);
	command(h, FP_CMD_FREEZE);
	expect_event(h, FP_EV_STAYS);
	assert_int_equal(h->ev.err, EBUSY);
	assert_true(is_there(h));
	host_credit(h, 4); /* the byte is the next */
	command(h, FP_CMD_FREEZE);
	expect_event(h, FP_EV_STAYS);
	host_credit(h, 1);
	command(h, FP_CMD_FREEZE);
	sent(h);
	expect_frozen(h);
	assert_int_equal(z.rx_len, 5);
}

static void test_urgent_data_of_ours_stay(struct host *h)
{
	host_put(h, 0, host_cmd(h, 5, 0, XTS_F_URGENT));
	host_turn(h);
	expect_tx(h, 0, 5, 0);
	command(h, FP_CMD_FREEZE);
	expect_event(h, FP_EV_STAYS);
	host_rx(h, (struct seg){.ack = 5});
	command(h, FP_CMD_FREEZE);
	expect_frozen(h);
}

static void test_leave_asks_the_program(struct host *h)
{
	command(h, FP_CMD_LEAVE);
	assert_true(host_reply(h, 0));
	assert_int_equal(h->reply.type, XTS_REPLY_RECV);
	assert_int_equal(h->reply.flags, XTS_F_LEAVE);
	assert_int_equal(h->reply.cookie, h->params.cookie);
	assert_true(is_there(h));
	assert_false(host_event(h));
	host_quiet(h);
}

/* It can't be asked any more; it has nothing to say either. */
static void test_leave_takes_what_the_program_has_closed(struct host *h)
{
	host_put(h, 0, host_cmd(h, 30, 0, XTS_F_CLOSE));
	host_turn(h);
	expect_tx(h, 0, 30, 0);
	command(h, FP_CMD_LEAVE);
	expect_frozen(h);
	assert_true(z.closing);
	assert_int_equal(z.tx_len, 30);
	assert_true(host_reply(h, 0));
	assert_int_equal(h->reply.flags, XTS_F_CLOSED);
	host_quiet(h);
}

int main(void)
{
	static const struct host_test tests[] = {
		T(test_idle_flow_is_told_as_it_is),
		T(test_unread_and_unacknowledged_data_are_there),
		T(test_data_for_a_closed_window_are_there),
		T(test_what_the_program_has_commanded_is_done_before),
		T(test_delayed_ack_leaves_at_once),
		T(test_later_frames_belong_to_nobody),
		T(test_half_closed_flows_say_so),
		T(test_urgent_data_stay),
		T(test_urgent_data_of_ours_stay),
		T(test_leave_asks_the_program),
		T(test_leave_takes_what_the_program_has_closed),
	};

	return HOST_RUN(tests, true);
}
