/* SPDX-License-Identifier: BSD-2-Clause */
/* RFC 9293 3.7.4 in Minshall's form, and corks. */
#include "tests/unit/fastpath/host.h"

#define M HOST_MSS

static void test_partial_segment_waits_for_a_partial_one(struct host *h)
{
	host_flow(h)->nodelay = false;
	host_send(h, 10);
	expect_tx(h, 0, 10, 0);
	host_send(h, 10);
	host_send(h, 10);
	expect_no_tx(h);
	host_rx(h, (struct seg){.ack = 10});
	expect_tx(h, 10, 20, 0);
}

/* Minshall: full segments under way hold nothing back. */
static void test_full_segments_hold_nothing_back(struct host *h)
{
	host_flow(h)->nodelay = false;
	host_send(h, 2 * M + 100);
	expect_tx(h, 0, M, 0);
	expect_tx(h, M, M, 0);
	expect_tx(h, 2 * M, 100, 0);
	host_send(h, 50);
	expect_no_tx(h);
	host_send(h, M - 50);
	expect_tx(h, 2 * M + 100, M, 0);
}

static void test_nodelay_sends_at_once(struct host *h)
{
	host_send(h, 10);
	expect_tx(h, 0, 10, 0);
	host_send(h, 10);
	expect_tx(h, 10, 10, 0);
}

static void test_the_last_segment_before_fin_does_not_wait(struct host *h)
{
	host_flow(h)->nodelay = false;
	host_send(h, 10);
	expect_tx(h, 0, 10, 0);
	host_put(h, 0, host_cmd(h, 10, 0, XTS_F_SHUT_WR));
	host_turn(h);
	expect_tx(h, 10, 10, 0);
}

static void test_cork_holds_for_200_ms_at_most(struct host *h)
{
	struct flow *f = host_flow(h);

	f->cork = true;
	flow_judge(f);
	host_send(h, M + 10);
	expect_tx(h, 0, M, 0);
	host_rx(h, (struct seg){.ack = M});
	host_advance_ms(h, 199);
	expect_no_tx(h);
	host_advance_ms(h, 3);
	expect_tx(h, M, 10, 0);
	host_rx(h, (struct seg){.ack = M + 10});
	host_send(h, 10);
	expect_no_tx(h);
	f->cork = false;
	flow_judge(f);
	flow_list(h->core, f);
	host_turn(h);
	expect_tx(h, M + 10, 10, 0);
}

int main(void)
{
	static const struct host_test tests[] = {
		T(test_partial_segment_waits_for_a_partial_one),
		T(test_full_segments_hold_nothing_back),
		T(test_nodelay_sends_at_once),
		T(test_the_last_segment_before_fin_does_not_wait),
		T(test_cork_holds_for_200_ms_at_most),
	};

	return HOST_RUN(tests, true);
}
