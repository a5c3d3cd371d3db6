/* SPDX-License-Identifier: BSD-2-Clause */
/* Smaller segments: told by ICMP, or found out (RFC 4821). */
#include "tests/unit/fastpath/host.h"

#define M HOST_MSS

/* A flow with SACK and a round trip of 40 ms. */
static void set_mss(struct host *h, uint32_t mss)
{
	struct fp_msg *m = host_fp(h, FP_CMD_SET_MSS);

	m->flow = h->id;
	m->value = mss;
	host_fp_go(h);
}

static void test_what_is_too_long_goes_again_in_pieces(struct host *h)
{
	struct flow *f = host_open_path(h);
	uint32_t cwnd = f->cwnd;

	host_burst(h, 2);
	set_mss(h, 500);
	expect_tx(h, 2 * M, 500, 0);
	expect_tx(h, 2 * M + 500, 500, 0);
	expect_tx(h, 3 * M, 500, 0);
	expect_tx(h, 3 * M + 500, 500, 0);
	expect_no_tx(h);
	assert_true(loss_valid(f));
	/* It is no congestion. */
	assert_int_equal(f->cwnd, cwnd);
	host_rx(h, (struct seg){.ack = 4 * M});
	assert_true(f->cwnd >= cwnd);
	assert_int_equal(f->ext->loss.state, CC_OPEN);
}

static void test_what_was_sacked_stays(struct host *h)
{
	host_open_path(h);
	host_burst(h, 2);
	host_advance_ms(h, 40);
	host_sack(h, 2 * M, 3 * M, 4 * M);
	set_mss(h, 500);
	expect_tx(h, 2 * M, 500, 0);
	expect_tx(h, 2 * M + 500, 500, 0);
	expect_no_tx(h);
}

/* tcp_mtu_probing 1: the third time-out in a row is no accident. */
static void test_black_hole_is_found(struct host *h)
{
	struct flow *f = host_open_path(h);
	uint32_t i;
	struct seg s;

	f->mtu_probing = 1;
	host_burst(h, 3);
	for (i = 0; i < 20000 && f->snd_mss == M; i++) {
		host_advance_ms(h, 1);
		while (host_tx(h, &s))
			;
	}
	assert_int_equal(f->snd_mss, 512);
	assert_int_equal(host_count(h, tx_rto), 4);
	assert_true(loss_valid(f));
}

static void test_mtu_is_not_probed_unless_asked(struct host *h)
{
	struct flow *f = host_open_path(h);

	host_burst(h, 3);
	host_advance_ms(h, 10000);
	assert_int_equal(f->snd_mss, M);
}

int main(void)
{
	static const struct host_test tests[] = {
		T(test_what_is_too_long_goes_again_in_pieces),
		T(test_what_was_sacked_stays),
		T(test_black_hole_is_found),
		T(test_mtu_is_not_probed_unless_asked),
	};

	return HOST_RUN(tests, true);
}
