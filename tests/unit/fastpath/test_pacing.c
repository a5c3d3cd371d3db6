/* SPDX-License-Identifier: BSD-2-Clause */
/* A paced flow sends a quantum, then waits its time. */
#include "tests/unit/fastpath/host.h"

#define M HOST_MSS

static void test_quantum_then_wait(struct host *h)
{
	struct flow *f = host_flow(h);
	uint32_t n = 0, ms;
	struct seg s;

	f->cwnd = 1000 * M;
	f->ext->pacing_rate = 1000000; /* a segment a millisecond */
	host_send(h, 14 * M);
	while (host_tx(h, &s))
		n++;
	assert_int_equal(n, 2);
	for (ms = 0; ms < 8; ms++) {
		host_advance_ms(h, 1);
		while (host_tx(h, &s))
			n++;
		/* Never early: a quantum ahead at most. */
		assert_true(n <= 2 + ms + 2);
	}
	assert_true(n >= 8);
	host_advance_ms(h, 10);
	while (host_tx(h, &s))
		n++;
	assert_int_equal(n, 14);
}

static void test_time_not_used_is_not_saved_up(struct host *h)
{
	struct flow *f = host_flow(h);
	uint32_t n = 0;
	struct seg s;

	f->ext->pacing_rate = 1000000;
	host_send(h, 2 * M);
	while (host_tx(h, &s))
		n++;
	host_rx(h, (struct seg){.ack = 2 * M});
	host_advance_ms(h, 1000);
	host_send(h, 8 * M);
	n = 0;
	while (host_tx(h, &s))
		n++;
	assert_true(n <= 4);
}

static void test_waiting_to_be_paced_is_no_zero_window(struct host *h)
{
	struct flow *f = host_flow(h);
	struct seg s;

	f->ext->pacing_rate = 10000;
	host_send(h, 4 * M);
	while (host_tx(h, &s))
		;
	host_rx(h, (struct seg){.ack = f->snd_nxt - h->iss});
	assert_false(f->persist);
	host_advance_ms(h, 500);
	while (host_tx(h, &s))
		;
	assert_int_equal(host_count(h, tx_probes), 0);
}

/* SO_MAX_PACING_RATE holds for what congestion control would let go too, and
 * for single answers. */
static void test_the_programs_limit(struct host *h)
{
	struct flow *f = host_flow(h);
	uint32_t n = 0, i;
	struct seg s;

	f->cwnd = 1000 * M;
	f->ext->max_pacing_rate = 1000000;
	flow_judge(f);
	assert_int_equal(f->plain, 0);
	f->ext->pacing_rate = 1000000000;
	host_send(h, 14 * M);
	while (host_tx(h, &s))
		n++;
	assert_int_equal(n, 2);
	host_advance_ms(h, 30);
	while (host_tx(h, &s))
		n++;
	assert_int_equal(n, 14);
	host_rx(h, (struct seg){.ack = 14 * M});
	for (i = 0, n = 0; i < 10; i++) {
		host_send(h, M);
		while (host_tx(h, &s))
			n++;
		host_rx(h, (struct seg){.ack = f->snd_nxt - h->iss});
	}
	assert_true(n <= 4);
}

static void test_a_higher_limit_changes_nothing(struct host *h)
{
	struct flow *f = host_flow(h);
	uint32_t n = 0;
	struct seg s;

	f->cwnd = 1000 * M;
	f->ext->max_pacing_rate = 1000000000;
	f->ext->pacing_rate = 1000000;
	host_send(h, 14 * M);
	while (host_tx(h, &s))
		n++;
	assert_int_equal(n, 2);
}

int main(void)
{
	static const struct host_test tests[] = {
		T(test_quantum_then_wait),
		T(test_time_not_used_is_not_saved_up),
		T(test_waiting_to_be_paced_is_no_zero_window),
		T(test_the_programs_limit),
		T(test_a_higher_limit_changes_nothing),
	};

	return HOST_RUN(tests, true);
}
