/* SPDX-License-Identifier: BSD-2-Clause */
/* Windows, ours and the peer's: RFC 9293 3.8.6. */
#include "tests/unit/fastpath/host.h"

#include <stdlib.h>

#define UNIT(h) (1u << (h)->v.wscale)

/* Fill the buffer, so that the window is below one unit of its scale. */
static uint32_t fill(struct host *h)
{
	uint32_t pos = 0, n;
	struct seg s;

	while (pos < HOST_BUF) {
		n = host_flow(h)->rcv_wup + host_flow(h)->rcv_wnd - h->irs -
		    pos;
		if (!n)
			break;
		n = n < 1000 ? n : 1000;
		host_rx(h, (struct seg){.seq = pos, .len = n});
		pos += n;
		while (host_tx(h, &s))
			;
	}
	while (host_reply(h, 0))
		;
	return pos;
}

static void test_window_closes_and_opens(struct host *h)
{
	uint32_t pos = fill(h);
	struct seg s;

	assert_true(pos > HOST_BUF - UNIT(h));
	/* Probes with a byte beyond it are answered, the byte isn't taken. */
	host_rx(h, (struct seg){.seq = pos, .len = 1});
	s = expect_tx(h, 0, 0, pos);
	assert_int_equal(s.win, 0);
	assert_false(host_reply(h, 0));
	host_credit(h, HOST_BUF / 2);
	s = expect_tx(h, 0, 0, pos);
	assert_true(s.win >= HOST_BUF / 2 - UNIT(h));
}

/* 3.8.6.2.2: the window opens by a full segment or half of the buffer, not by
 * less: neither in a window update nor in an ACK that is sent anyway. */
static void test_right_edge_stays_until_it_can_move_far(struct host *h)
{
	uint32_t pos = fill(h), i;
	struct seg s;

	for (i = 0; i < 9; i++) {
		host_credit(h, 100);
		expect_no_tx(h);
		host_rx(h, (struct seg){.seq = pos, .len = 1});
		s = expect_tx(h, 0, 0, pos);
		assert_int_equal(s.win, 0);
	}
	host_credit(h, 100 + UNIT(h));
	host_rx(h, (struct seg){.seq = pos, .len = 1});
	assert_true(host_tx(h, &s));
	assert_true(s.win >= 1000 - UNIT(h));
}

/* 3.8.6: "a TCP receiver SHOULD NOT shrink the window": the edge that is
 * honoured never moves to the left; what the header shows falls short of it by
 * less than a unit. */
static void test_right_edge_never_retracts(struct host *h)
{
	uint32_t edge = h->irs, shown = 0, pos = 0, unread = 0, i;
	struct seg s;

	srand(3);
	for (i = 0; i < 3000; i++) {
		const struct flow *f = host_flow(h);
		uint32_t room = flow_rcv_edge(f) - f->rcv_nxt;
		uint32_t n = 1 + (uint32_t)rand() % 1000, gap;

		n = n < room ? n : room;
		gap = rand() % 3 ? 0 : (uint32_t)rand() % (room - n + 1);
		if (n)
			host_rx(h, (struct seg){.seq = pos + gap, .len = n});
		unread += f->rcv_nxt - h->irs - pos;
		pos = f->rcv_nxt - h->irs;
		while (host_reply(h, 0))
			;
		n = (uint32_t)rand() % (unread + 1);
		if (rand() % 2)
			host_credit(h, n), unread -= n;
		while (host_tx(h, &s)) {
			assert_true(
				seq_geq(s.ack + s.win + UNIT(h) - 1, shown));
			if (seq_gt(s.ack + s.win, shown))
				shown = s.ack + s.win;
		}
		assert_true(seq_geq(flow_rcv_edge(f), edge));
		edge = flow_rcv_edge(f);
		assert_true(edge - f->rcv_nxt <= flow_rx_free(f) ||
			    f->rx_unread == 0);
	}
	assert_true(pos > 100000);
}

/* Data behind a gap lie inside of the window: it doesn't shrink by them. */
static void test_held_data_do_not_change_the_window(struct host *h)
{
	struct seg a, b;

	host_rx(h, (struct seg){.len = 1000});
	a = expect_tx(h, 0, 0, 1000);
	host_rx(h, (struct seg){.seq = 3000, .len = 1000});
	b = expect_tx(h, 0, 0, 1000);
	assert_int_equal(a.win, b.win);
	host_rx(h, (struct seg){.seq = 5000, .len = 1000});
	b = expect_tx(h, 0, 0, 1000);
	assert_int_equal(a.win, b.win);
}

/* ---- the peer's window -----------------------------------------------------
 */

static void test_window_of_what_is_new_counts(struct host *h)
{
	struct flow *f = host_flow(h);
	struct seg s;

	/* By SND.WL1: a later segment's, larger or smaller. */
	host_rx(h, (struct seg){.seq = 100, .len = 10, .win = 1280});
	assert_int_equal(f->snd_wnd, 1280);
	/* An earlier one's does not. */
	host_rx(h, (struct seg){.seq = 50, .len = 10, .win = 25600});
	assert_int_equal(f->snd_wnd, 1280);
	/* But it does if it acknowledges something new. */
	host_send(h, 10);
	assert_true(host_tx(h, &s) && host_tx(h, &s) && host_tx(h, &s));
	host_rx(h, (struct seg){.seq = 0, .len = 10, .ack = 10, .win = 2560});
	assert_int_equal(f->snd_wnd, 2560);
}

/* Two ACKs that say the same: the smaller window may be the older one. */
static void test_same_ack_only_raises_the_window(struct host *h)
{
	struct flow *f = host_flow(h);

	host_rx(h, (struct seg){.len = 10, .win = 2560});
	host_rx(h, (struct seg){.seq = 10, .len = 10, .win = 2560});
	host_rx(h, (struct seg){.seq = 10, .win = 1280});
	assert_int_equal(f->snd_wnd, 2560);
	host_rx(h, (struct seg){.seq = 20, .win = 12800});
	assert_int_equal(f->snd_wnd, 12800);
}

int main(void)
{
	static const struct host_test tests[] = {
		T(test_window_closes_and_opens),
		T(test_right_edge_stays_until_it_can_move_far),
		T(test_right_edge_never_retracts),
		T(test_held_data_do_not_change_the_window),
		T(test_window_of_what_is_new_counts),
		T(test_same_ack_only_raises_the_window),
	};

	return HOST_RUN(tests, true);
}
