/* SPDX-License-Identifier: BSD-2-Clause */
/* Reno: RFC 5681 sections 3.1 and 3.2, and the table of algorithms. */
#include "tests/unit/fastpath/path.h"

/* 3.1: cwnd is increased by at most SMSS for each SMSS acknowledged; with
 * bytes counted it doubles in a round trip. */
static void test_slow_start_doubles_each_round_trip(void **state)
{
	struct path *p = path_bare(&cc_reno, 10);
	uint32_t i;

	for (i = 0; i < 10; i++)
		path_ack(p, PATH_S, PATH_MSS, 10000);
	assert_int_equal(p->f.cwnd, 20 * PATH_MSS);
	path_free(p);
}

/* 3.1: congestion avoidance adds one full-sized segment a round trip. */
static void test_congestion_avoidance_adds_a_segment_a_window(void **state)
{
	struct path *p = path_bare(&cc_reno, 20);
	uint32_t i, n;

	p->f.ssthresh = p->f.cwnd;
	for (n = 20; n < 30; n++) {
		for (i = 0; i < n; i++)
			path_ack(p, PATH_S, PATH_MSS, 10000);
		assert_int_equal(p->f.cwnd, (n + 1) * PATH_MSS);
	}
	path_free(p);
}

/* The part of an ACK that crosses ssthresh counts for what follows. */
static void test_an_ack_across_ssthresh_is_divided(void **state)
{
	struct path *p = path_bare(&cc_reno, 10);

	p->f.ssthresh = 12 * PATH_MSS;
	path_ack(p, PATH_S, 10 * PATH_MSS, 10000);
	assert_int_equal(p->f.cwnd, 12 * PATH_MSS);
	path_ack(p, PATH_S, 4 * PATH_MSS, 10000);
	assert_int_equal(p->f.cwnd, 13 * PATH_MSS);
	path_free(p);
}

/* 3.1 equation (4): ssthresh = max (FlightSize / 2, 2*SMSS). */
static void test_ssthresh_is_half_of_the_flight(void **state)
{
	struct path *p = path_bare(&cc_reno, 20);

	p->f.snd_nxt = p->f.snd_una + 20 * PATH_MSS;
	assert_int_equal(cc_reno.ssthresh(&p->f, 0), 10 * PATH_MSS);
	p->f.snd_nxt = p->f.snd_una + 3 * PATH_MSS;
	assert_int_equal(cc_reno.ssthresh(&p->f, 0), 2 * PATH_MSS);
	/* All of a flight before a time-out still counts as outstanding. */
	p->f.snd_nxt = p->f.snd_una + 20 * PATH_MSS;
	p->f.cwnd = 8 * PATH_MSS;
	assert_int_equal(cc_reno.ssthresh(&p->f, 0), 4 * PATH_MSS);
	path_free(p);
}

static void test_cwnd_stops_at_its_greatest(void **state)
{
	struct path *p = path_bare(&cc_reno, 10);

	p->f.cwnd = CC_CWND_MAX - 1;
	path_ack(p, PATH_S, UINT32_MAX / 2, 10000);
	assert_int_equal(p->f.cwnd, CC_CWND_MAX);
	p->f.ssthresh = 2 * PATH_MSS;
	path_ack(p, PATH_S, UINT32_MAX / 2, 10000);
	path_ack(p, PATH_S, UINT32_MAX / 2, 10000);
	path_ack(p, PATH_S, UINT32_MAX / 2, 10000);
	assert_int_equal(p->f.cwnd, CC_CWND_MAX);
	path_free(p);
}

static void test_the_link_is_used_and_shared(void **state)
{
	struct link l = {.rate = 12500000, .limit = 600000};
	struct path *p[2] = {path_new(&l, &cc_reno, PATH_MSS, 20 * PATH_MS),
			     path_new(&l, &cc_reno, PATH_MSS, 20 * PATH_MS)};
	uint64_t a;

	path_run(p, 2, 10 * PATH_S);
	a = p[0]->delivered + p[1]->delivered;
	assert_within(a, 0.85 * 9 * 12500000, 9.0 * 12500000);
	path_run(p, 2, 60 * PATH_S);
	a = p[0]->delivered;
	path_run(p, 2, 120 * PATH_S);
	assert_within(p[0]->delivered - a, 0.4 * 60 * 12500000,
		      0.6 * 60 * 12500000);
	path_free(p[0]);
	path_free(p[1]);
}

static void test_not_growing_when_cwnd_is_not_the_limit(void **state)
{
	static const struct cc_ops *const all[] = {&cc_reno, &cc_cubic,
						   &cc_dctcp};
	unsigned int i;

	for (i = 0; i < 3; i++) {
		struct link l = {.rate = 12500000, .limit = 600000};
		struct path *p = path_new(&l, all[i], PATH_MSS, 20 * PATH_MS);

		p->app_rate = 200000; /* three segments a round trip */
		path_go(p, 10 * PATH_S);
		assert_int_equal(p->f.cwnd, 10 * PATH_MSS);
		path_free(p);
	}
}

static void test_algorithms_are_found_by_name(void **state)
{
	assert_ptr_equal(cc_find("reno"), &cc_reno);
	assert_ptr_equal(cc_find("cubic"), &cc_cubic);
	assert_ptr_equal(cc_find("dctcp"), &cc_dctcp);
	assert_ptr_equal(cc_find("bbr"), &cc_bbr);
	assert_null(cc_find("vegas"));
	assert_null(cc_find(""));
}

static void test_a_paced_burst_is_a_millisecond_within_bounds(void **state)
{
	struct path *p = path_bare(&cc_reno, 10);

	p->ext.pacing_rate = 10000000;
	assert_int_equal(cc_pace_burst(&p->f, p->ext.pacing_rate), 10000);
	p->ext.pacing_rate = 1000000000;
	assert_int_equal(cc_pace_burst(&p->f, p->ext.pacing_rate), 65536);
	p->ext.pacing_rate = 1000000;
	assert_int_equal(cc_pace_burst(&p->f, p->ext.pacing_rate),
			 2 * PATH_MSS);
	p->ext.pacing_rate = 10000;
	assert_int_equal(cc_pace_burst(&p->f, p->ext.pacing_rate), PATH_MSS);
	path_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_slow_start_doubles_each_round_trip),
		cmocka_unit_test(
			test_congestion_avoidance_adds_a_segment_a_window),
		cmocka_unit_test(test_an_ack_across_ssthresh_is_divided),
		cmocka_unit_test(test_ssthresh_is_half_of_the_flight),
		cmocka_unit_test(test_cwnd_stops_at_its_greatest),
		cmocka_unit_test(test_the_link_is_used_and_shared),
		cmocka_unit_test(test_not_growing_when_cwnd_is_not_the_limit),
		cmocka_unit_test(test_algorithms_are_found_by_name),
		cmocka_unit_test(
			test_a_paced_burst_is_a_millisecond_within_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
