/* SPDX-License-Identifier: BSD-2-Clause */
/* CUBIC: RFC 9438, and HyStart. */
#include "tests/unit/fastpath/path.h"

#include <math.h>

/* A loss at @segs: what loss.c does with it, recovery done. */
static void lose(struct path *p, uint64_t now_ns)
{
	p->f.ssthresh = cc_cubic.ssthresh(&p->f, now_ns);
	p->f.cwnd = p->f.ssthresh;
	p->f.cwnd_acked = 0;
	cc_cubic.event(&p->f, CC_EV_RECOVERY, now_ns);
	cc_cubic.event(&p->f, CC_EV_RECOVERED, now_ns);
}

/* Windows acknowledged evenly for @ns; a window each @rtt_us. */
static void ack_for(struct path *p, uint64_t *now_ns, uint64_t ns,
		    uint32_t rtt_us)
{
	uint64_t until = *now_ns + ns;
	double t = (double)*now_ns;

	while (*now_ns < until) {
		t += rtt_us * 1000.0 * PATH_MSS / p->f.cwnd;
		*now_ns = (uint64_t)t;
		path_ack(p, *now_ns, PATH_MSS, rtt_us);
	}
}

static struct path *after_loss(uint32_t segs, uint64_t *now_ns, uint32_t rtt_us)
{
	struct path *p = path_bare(&cc_cubic, segs);

	*now_ns = PATH_S;
	p->f.ssthresh = p->f.cwnd; /* no HyStart */
	path_ack(p, *now_ns, PATH_MSS, rtt_us);
	p->f.cwnd = segs * PATH_MSS;
	lose(p, *now_ns);
	return p;
}

/* 4.6: ssthresh = cwnd * beta_cubic, at least 2 segments. */
static void test_beta_is_seven_tenths(void **state)
{
	struct path *p = path_bare(&cc_cubic, 1000);

	assert_int_equal(cc_cubic.ssthresh(&p->f, 0), 700 * PATH_MSS);
	p->f.cwnd = 2 * PATH_MSS;
	assert_int_equal(cc_cubic.ssthresh(&p->f, 0), 2 * PATH_MSS);
	path_free(p);
}

/* 4.2: W_cubic(t) = C (t - K)^3 + W_max with K = cbrt((W_max -
 * cwnd_epoch) / C); cwnd is there a round trip later. */
static void test_the_window_follows_the_cubic_function(void **state)
{
	static const uint32_t sizes[] = {200, 1000, 5000, 40000};
	uint64_t now, begin;
	unsigned int i, step;

	for (i = 0; i < 4; i++) {
		double w_max = sizes[i], k = cbrt(0.3 * w_max / 0.4), t, w;
		struct path *p = after_loss(sizes[i], &now, 200000);

		path_ack(p, now, PATH_MSS, 200000);
		begin = now;
		for (step = 1; step <= 20; step++) {
			ack_for(p, &now, (uint64_t)(k * 1e8), 200000);
			t = (double)(now - begin) / 1e9;
			w = 0.4 * pow(t - k, 3) + w_max;
			/* It lags within a round trip at its steepest. */
			assert_within(p->f.cwnd / (double)PATH_MSS,
				      w * 0.97 - 2, w * 1.02 + 2);
		}
		/* K: the plateau is W_max. */
		path_free(p);
	}
}

static void test_it_is_at_w_max_after_k(void **state)
{
	uint64_t now;
	struct path *p = after_loss(1000, &now, 50000);
	double k = cbrt(300 / 0.4);

	ack_for(p, &now, (uint64_t)(k * 1e9), 50000);
	assert_within(p->f.cwnd, 995.0 * PATH_MSS, 1003.0 * PATH_MSS);
	path_free(p);
}

/* 4.2: no faster than to 1.5 cwnd in a round trip. */
static void test_growth_is_at_most_half_a_window_a_round_trip(void **state)
{
	uint64_t now, i;
	struct path *p = after_loss(100, &now, 2000000);
	uint32_t before;

	ack_for(p, &now, 60 * PATH_S, 2000000);
	for (i = 0; i < 5; i++) {
		before = p->f.cwnd;
		ack_for(p, &now, 2 * PATH_S, 2000000);
		assert_within(p->f.cwnd, 1.0 * before, 1.66 * before);
	}
	path_free(p);
}

/* 4.3: as fast as Reno of the same average, alpha = 3 (1 - beta) / (1 + beta),
 * where that is faster. */
static void test_the_reno_friendly_region_at_short_round_trips(void **state)
{
	uint64_t now, begin;
	struct path *p = after_loss(100, &now, 2000);
	double rounds, w_est;
	unsigned int i;

	path_ack(p, now, PATH_MSS, 2000);
	begin = now;
	for (i = 0; i < 10; i++) {
		ack_for(p, &now, 20 * PATH_MS, 2000);
		rounds = (double)(now - begin) / 2e6;
		w_est = 70 + 9.0 / 17 * rounds;
		assert_within(p->f.cwnd / (double)PATH_MSS, w_est - 2,
			      w_est + 1.5);
	}
	path_free(p);
}

/* 4.7: W_max = cwnd (1 + beta) / 2 if it was not reached again. */
static void test_fast_convergence_lowers_the_plateau(void **state)
{
	uint64_t now;
	struct path *p = after_loss(1000, &now, 50000);
	double k;

	/* Lost again at 900: the plateau is 765, the window 630. */
	path_ack(p, now, PATH_MSS, 50000);
	p->f.cwnd = 900 * PATH_MSS;
	lose(p, now);
	assert_int_equal(p->f.cwnd, 630 * PATH_MSS);
	k = cbrt((765.0 - 630) / 0.4);
	ack_for(p, &now, (uint64_t)(k * 1e9), 50000);
	assert_within(p->f.cwnd, 760.0 * PATH_MSS, 768.0 * PATH_MSS);
	path_free(p);
}

/* 5.8: time with nothing to send does not count. */
static void test_idle_time_does_not_count(void **state)
{
	uint64_t now;
	struct path *p = after_loss(1000, &now, 50000);
	uint32_t before;

	ack_for(p, &now, 5 * PATH_S, 50000);
	before = p->f.cwnd;
	now += 100 * PATH_S;
	cc_cubic.event(&p->f, CC_EV_TX_START, now);
	ack_for(p, &now, PATH_S / 10, 50000);
	assert_within(p->f.cwnd, before, before + 30.0 * PATH_MSS);
	path_free(p);
}

/* 4.9: a reduction that was none brings the curve back. */
static void test_undo_brings_the_curve_back(void **state)
{
	uint64_t now, other;
	struct path *p = after_loss(1000, &now, 50000);
	struct path *q = after_loss(1000, &other, 50000);
	uint32_t cwnd;

	ack_for(p, &now, 5 * PATH_S, 50000);
	ack_for(q, &other, 5 * PATH_S, 50000);
	cwnd = p->f.cwnd;
	lose(p, now);
	p->f.cwnd = cwnd;
	cc_cubic.event(&p->f, CC_EV_UNDO, now);
	ack_for(p, &now, 4 * PATH_S, 50000);
	ack_for(q, &other, 4 * PATH_S, 50000);
	assert_within(p->f.cwnd, q->f.cwnd - PATH_MSS * 2.0,
		      q->f.cwnd + PATH_MSS * 2.0);
	path_free(p);
	path_free(q);
}

/* 4.8: after a time-out slow start, then the curve from where that ended. */
static void test_a_time_out_begins_anew(void **state)
{
	uint64_t now;
	struct path *p = after_loss(1000, &now, 50000);

	ack_for(p, &now, PATH_S, 50000);
	p->f.ssthresh = cc_cubic.ssthresh(&p->f, now);
	p->f.cwnd = PATH_MSS;
	cc_cubic.event(&p->f, CC_EV_RTO, now);
	p->f.ssthresh = 20 * PATH_MSS;
	ack_for(p, &now, 300 * PATH_MS, 50000);
	assert_within(p->f.cwnd, 20 * PATH_MSS, 23 * PATH_MSS);
	path_free(p);
}

/* HyStart: on a path with a deep queue slow start ends before it overflows. */
static void test_hystart_ends_slow_start_before_the_queue_is_full(void **state)
{
	struct link l = {.rate = 12500000, .limit = 2000000};
	struct path *p = path_new(&l, &cc_cubic, PATH_MSS, 50 * PATH_MS);
	uint64_t bdp = 625000;

	path_go(p, 2 * PATH_S);
	assert_true(p->f.ssthresh < CC_CWND_MAX);
	assert_within(p->f.ssthresh, 0.4 * bdp, 2.2 * bdp);
	assert_int_equal(l.drops, 0);
	path_free(p);
}

static void test_the_link_is_used(void **state)
{
	static const struct {
		uint64_t rate, limit, rtt_ms;
	} paths[] = {
		{125000, 30000, 40},	 {1250000, 60000, 20},
		{12500000, 600000, 40},	 {12500000, 250000, 100},
		{125000000, 1000000, 1},
	};
	unsigned int i;

	for (i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		struct link l = {.rate = paths[i].rate,
				 .limit = paths[i].limit};
		struct path *p = path_new(&l, &cc_cubic, PATH_MSS,
					  paths[i].rtt_ms * PATH_MS);

		path_go(p, 20 * PATH_S);
		assert_within(path_goodput(p, 20 * PATH_S),
			      0.90 * (double)l.rate, 1.001 * (double)l.rate);
		assert_int_equal(p->timeouts, 0);
		path_free(p);
	}
}

static void test_two_flows_share_evenly(void **state)
{
	struct link l = {.rate = 12500000, .limit = 400000};
	struct path *p[2] = {path_new(&l, &cc_cubic, PATH_MSS, 40 * PATH_MS),
			     path_new(&l, &cc_cubic, PATH_MSS, 40 * PATH_MS)};

	assert_within(path_share(p, 10 * PATH_S, 60 * PATH_S, 240 * PATH_S),
		      0.8, 1.25);
	path_free(p[0]);
	path_free(p[1]);
}

static void test_no_overflow_on_the_longest_and_slowest_paths(void **state)
{
	struct link fat = {.rate = 1250000000, .limit = 400000000};
	struct link thin = {.rate = 1250, .limit = 20000};
	struct path *p = path_new(&fat, &cc_cubic, 8948, 500 * PATH_MS);
	struct path *q = path_new(&thin, &cc_cubic, PATH_MSS, 500 * PATH_MS);

	p->f.ssthresh = 500000000;
	path_go(p, 10 * PATH_S);
	assert_within(path_goodput(p, 3 * PATH_S), 0.7e9, 1.26e9);
	path_go(q, 200 * PATH_S);
	assert_within(path_goodput(q, 400 * PATH_S), 1100, 1255);
	path_free(p);
	path_free(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_beta_is_seven_tenths),
		cmocka_unit_test(test_the_window_follows_the_cubic_function),
		cmocka_unit_test(test_it_is_at_w_max_after_k),
		cmocka_unit_test(
			test_growth_is_at_most_half_a_window_a_round_trip),
		cmocka_unit_test(
			test_the_reno_friendly_region_at_short_round_trips),
		cmocka_unit_test(test_fast_convergence_lowers_the_plateau),
		cmocka_unit_test(test_idle_time_does_not_count),
		cmocka_unit_test(test_undo_brings_the_curve_back),
		cmocka_unit_test(test_a_time_out_begins_anew),
		cmocka_unit_test(
			test_hystart_ends_slow_start_before_the_queue_is_full),
		cmocka_unit_test(test_the_link_is_used),
		cmocka_unit_test(test_two_flows_share_evenly),
		cmocka_unit_test(
			test_no_overflow_on_the_longest_and_slowest_paths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
