/* SPDX-License-Identifier: BSD-2-Clause */
/* TCP_INFO: what the core says of a flow. */
#include "fastpath/info.h"
#include "tests/unit/fastpath/host.h"

static struct fp_info info(struct host *h)
{
	struct fp_info i;

	flow_info_fill(host_flow(h), h->now_ns, &i);
	return i;
}

static void drop_sent(struct host *h)
{
	struct seg s;

	while (host_tx(h, &s))
		;
}

/* @len bytes from @seq that answer what was sent @ms ago, taken at once. */
static void take(struct host *h, uint32_t seq, uint32_t len, uint32_t ms)
{
	uint32_t now = (uint32_t)(h->now_ns / 1000000) + h->params.ts_offset;

	host_rx(h, (struct seg){.seq = seq, .len = len, .tsecr = now - ms});
	while (host_reply(h, 0))
		;
	host_credit(h, len);
	drop_sent(h);
}

static void test_rcv_mss_is_of_the_largest_segment(struct host *h)
{
	uint32_t seq = 0, len;

	assert_int_equal(info(h).rcv_mss, 536);
	take(h, seq, 100, 1);
	seq += 100;
	assert_int_equal(info(h).rcv_mss, 536);
	for (len = 700; len <= 900; len += 50) {
		take(h, seq, len, 1);
		seq += len;
		assert_int_equal(info(h).rcv_mss, len);
	}
	take(h, seq, 800, 1);
	assert_int_equal(info(h).rcv_mss, 900);
	assert_int_equal(info(h).snd_mss, HOST_MSS);
}

/* Of one that came out of order, and of one whose beginning was known. */
static void test_rcv_mss_in_cold_code(struct host *h)
{
	host_rx(h, (struct seg){.seq = 2000, .len = 700});
	assert_int_equal(info(h).rcv_mss, 700);
	host_rx(h, (struct seg){.seq = 0, .len = 500});
	host_rx(h, (struct seg){.seq = 400, .len = 800});
	assert_int_equal(info(h).rcv_mss, 800);
	/* outside of the window: nobody's */
	host_rx(h, (struct seg){.seq = 1u << 30, .len = 900});
	assert_int_equal(info(h).rcv_mss, 800);
	drop_sent(h);
}

static void test_what_linux_saw_counts(struct host *h)
{
	h->params.rcv_mss = 777;
	host_install(h);
	host_release(h);
	assert_int_equal(info(h).rcv_mss, 777);
}

/* A path of 30 ms, a full-sized segment each 5 ms: the smoothed value comes
 * near, whatever it began with. */
static void test_rcv_rtt_by_time_stamps(struct host *h)
{
	uint32_t seq = 0, i;

	if (!h->v.ts)
		return;
	assert_int_equal(info(h).rcv_rtt, 0);
	for (i = 0; i < 2; i++, seq += 600)
		take(h, seq, 600, 90 + i);
	for (i = 0; i < 200; i++) {
		host_advance_ms(h, 5);
		take(h, seq, 600, 30);
		seq += 600;
		if (i == 20)
			assert_in_range(info(h).rcv_rtt, 31000, 90000);
	}
	assert_in_range(info(h).rcv_rtt, 29900, 31000);
	/* Most of them were the hot path's. */
	assert_in_range(host_count(h, rx_cold), 10, 110);
}

/* An echo is measured once, and only of full-sized segments. */
static void test_rcv_rtt_is_not_of_what_waited(struct host *h)
{
	if (!h->v.ts)
		return;
	take(h, 0, 600, 30); /* the hot path's, as nobody asked yet */
	host_advance_ms(h, 100);
	take(h, 600, 600, 30);
	host_advance_ms(h, 100);
	assert_int_equal(info(h).rcv_rtt, 30000);
	take(h, 1200, 600, 130); /* the same echo */
	host_advance_ms(h, 100);
	take(h, 1800, 50, 99); /* a short one */
	host_advance_ms(h, 100);
	assert_int_equal(info(h).rcv_rtt, 30000);
}

/* A window full takes a round trip at most. */
static void test_rcv_rtt_without_time_stamps(struct host *h)
{
	uint32_t seq = 0, i;

	if (h->v.ts)
		return;
	for (i = 0; i < 200; i++) {
		take(h, seq, 800, 0);
		seq += 800;
		host_advance_ms(h, 2);
	}
	/* 16384 bytes, 800 in 2 ms */
	assert_in_range(info(h).rcv_rtt, 36000, 46000);
}

static void test_the_programs_limit_bounds_pacing_rate(struct host *h)
{
	struct flow_ext *x = host_flow(h)->ext;

	x->pacing_rate = 0;
	assert_int_equal(info(h).pacing_rate, UINT64_MAX);
	x->max_pacing_rate = 5000;
	assert_int_equal(info(h).pacing_rate, 5000);
	x->pacing_rate = 9000;
	assert_int_equal(info(h).pacing_rate, 5000);
	x->pacing_rate = 4000;
	assert_int_equal(info(h).pacing_rate, 4000);
}

int main(void)
{
	static const struct host_test tests[] = {
		T(test_rcv_mss_is_of_the_largest_segment),
		T(test_rcv_mss_in_cold_code),
		T_BARE(test_what_linux_saw_counts),
		T(test_rcv_rtt_by_time_stamps),
		T(test_rcv_rtt_is_not_of_what_waited),
		T(test_rcv_rtt_without_time_stamps),
		T(test_the_programs_limit_bounds_pacing_rate),
	};

	return HOST_RUN(tests, true);
}
