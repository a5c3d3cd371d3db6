/* SPDX-License-Identifier: BSD-2-Clause */
/* BBR version 1: draft-cardwell-iccrg-bbr-congestion-control-00. */
#include "tests/unit/fastpath/path.h"

#define MBIT 125000ull

/* 4.1, 4.3: the rate is found in STARTUP, and the queue it made is drained:
 * about the BDP is in flight. */
static void test_it_finds_the_rate_and_holds_about_the_bdp(void **state)
{
	static const struct {
		uint64_t rate, rtt_ms;
	} paths[] = {
		{MBIT, 40},
		{10 * MBIT, 20},
		{100 * MBIT, 40},
		{1000 * MBIT, 10},
	};
	unsigned int i;

	for (i = 0; i < 4; i++) {
		uint64_t bdp = paths[i].rate * paths[i].rtt_ms / 1000;
		struct link l = {.rate = paths[i].rate,
				 .limit = 4 * bdp + 50000};
		struct path *p = path_new(&l, &cc_bbr, PATH_MSS,
					  paths[i].rtt_ms * PATH_MS);

		path_go(p, 3 * PATH_S);
		p->flight_max = 0;
		p->rtt_max_us = 0;
		assert_within(path_goodput(p, 6 * PATH_S),
			      0.95 * (double)l.rate, 1.001 * (double)l.rate);
		assert_within(p->flight_max, bdp, 1.4 * bdp + 12 * PATH_MSS);
		path_free(p);
	}
}

/* The rate is within 5 % and STARTUP takes about log2(BDP) rounds. */
static void test_startup_is_over_in_a_few_rounds(void **state)
{
	struct link l = {.rate = 100 * MBIT, .limit = 4000000};
	struct path *p = path_new(&l, &cc_bbr, PATH_MSS, 40 * PATH_MS);

	/* 345 segments from 10: 6 rounds; 3 of up to three times the RTT to
	 * see that it is full; 2 to drain. */
	path_go(p, (6 + 9 + 6) * 40ull * PATH_MS);
	assert_within(p->ext.pacing_rate, 0.70 * 0.94 * 100 * MBIT,
		      1.26 * 1.05 * 100 * MBIT);
	assert_within(p->f.ssthresh, 400000, 900000); /* the pipe is full */
	path_free(p);
}

/* 4.2.1: random loss is no sign of congestion. */
static void test_it_ignores_one_percent_of_loss(void **state)
{
	struct link l = {
		.rate = 100 * MBIT, .limit = 1000000, .loss = 100, .seed = 7};
	struct path *p = path_new(&l, &cc_bbr, PATH_MSS, 40 * PATH_MS);
	struct path *q;

	path_go(p, 3 * PATH_S);
	assert_within(path_goodput(p, 10 * PATH_S), 0.90 * 100 * MBIT,
		      100.1 * MBIT);
	assert_int_equal(p->timeouts, 0);
	/* What it is for: */
	l.free_ns = 0;
	q = path_new(&l, &cc_reno, PATH_MSS, 40 * PATH_MS);
	path_go(q, 3 * PATH_S);
	assert_within(path_goodput(q, 10 * PATH_S), 0, 0.1 * 100 * MBIT);
	path_free(p);
	path_free(q);
}

struct probes {
	unsigned int n;
	bool low;
	uint64_t began, last, at[8];
};

static void watch_probes(struct path *p, const struct cc_sample *s)
{
	struct probes *w = p->arg;

	if (p->ext.cc_low_rate && !w->low) {
		w->began = p->now_ns;
		if (w->n < 8)
			w->at[w->n] = p->now_ns;
		w->n++;
	}
	if (!p->ext.cc_low_rate && w->low)
		w->last = p->now_ns - w->began;
	w->low = p->ext.cc_low_rate;
	if (w->low)
		assert_true(p->f.cwnd <= 4 * PATH_MSS);
}

/* 4.3.5: every 10 s, for 200 ms and a round trip, 4 packets in flight. */
static void test_probe_rtt_comes_every_ten_seconds(void **state)
{
	struct link l = {.rate = 100 * MBIT, .limit = 1000000};
	struct path *p = path_new(&l, &cc_bbr, PATH_MSS, 20 * PATH_MS);
	struct probes w = {0};

	p->watch = watch_probes;
	p->arg = &w;
	path_go(p, 55 * PATH_S);
	assert_within(w.n, 4, 5);
	assert_within(w.at[2] - w.at[1], 10.0 * PATH_S, 11.0 * PATH_S);
	assert_within(w.last, 200.0 * PATH_MS, 280.0 * PATH_MS);
	/* The window it had is back. */
	assert_within(path_goodput(p, 5 * PATH_S), 0.93 * 100 * MBIT,
		      100.1 * MBIT);
	path_free(p);
}

/* The path became longer: PROBE_RTT finds out. */
static void test_a_longer_path_is_seen_within_a_filter(void **state)
{
	struct link l = {.rate = 100 * MBIT, .limit = 4000000};
	struct path *p = path_new(&l, &cc_bbr, PATH_MSS, 20 * PATH_MS);

	path_go(p, 5 * PATH_S);
	p->rtt_ns = 80 * PATH_MS;
	path_go(p, 15 * PATH_S);
	assert_within(path_goodput(p, 5 * PATH_S), 0.9 * 100 * MBIT,
		      100.1 * MBIT);
	path_free(p);
}

/* 4.2.2: more rate is taken, less is followed within the filter's rounds. */
static void test_it_follows_the_rate_of_the_path(void **state)
{
	struct link l = {.rate = 20 * MBIT, .limit = 4000000};
	struct path *p = path_new(&l, &cc_bbr, PATH_MSS, 20 * PATH_MS);

	path_go(p, 5 * PATH_S);
	l.rate = 40 * MBIT;
	path_go(p, 2 * PATH_S);
	assert_within(path_goodput(p, PATH_S), 0.93 * 40 * MBIT, 40.1 * MBIT);
	l.rate = 10 * MBIT;
	path_go(p, 6 * PATH_S);
	p->flight_max = 0;
	assert_within(path_goodput(p, PATH_S), 0.90 * 10 * MBIT, 10.1 * MBIT);
	assert_within(p->ext.pacing_rate, 0.7 * 10 * MBIT, 1.3 * 10 * MBIT);
	path_free(p);
}

/* 4.1.1.3: samples limited by the application don't lower the estimate. */
static void test_it_does_not_starve_after_an_application_limit(void **state)
{
	struct link l = {.rate = 100 * MBIT, .limit = 1000000};
	struct path *p = path_new(&l, &cc_bbr, PATH_MSS, 40 * PATH_MS);

	path_go(p, 3 * PATH_S);
	p->app_rate = MBIT;
	path_go(p, 8 * PATH_S); /* across a PROBE_RTT as well */
	p->app_rate = 0;
	path_go(p, PATH_S);
	assert_within(path_goodput(p, 2 * PATH_S), 0.93 * 100 * MBIT,
		      100.1 * MBIT);
	/* Silent for a minute, then at once. */
	p->app_rate = 1;
	p->app_credit = 0;
	path_go(p, 60 * PATH_S);
	p->app_rate = 0;
	assert_within(path_goodput(p, 2 * PATH_S), 0.90 * 100 * MBIT,
		      100.1 * MBIT);
	path_free(p);
}

/* Limited by the application from the start it never leaves STARTUP, and
 * takes the path as soon as it may. */
static void test_an_application_limited_start_is_no_full_pipe(void **state)
{
	struct link l = {.rate = 100 * MBIT, .limit = 1000000};
	struct path *p = path_new(&l, &cc_bbr, PATH_MSS, 40 * PATH_MS);

	p->app_rate = 5 * MBIT;
	path_go(p, 5 * PATH_S);
	p->app_rate = 0;
	path_go(p, PATH_S);
	assert_within(path_goodput(p, 2 * PATH_S), 0.93 * 100 * MBIT,
		      100.1 * MBIT);
	path_free(p);
}

/* ACKs in heaps of 10 ms on a path of 5 ms: extra_acked makes room. */
static void test_acks_in_heaps_do_not_slow_it(void **state)
{
	struct link l = {.rate = 100 * MBIT, .limit = 1000000};
	struct path *p = path_new(&l, &cc_bbr, PATH_MSS, 5 * PATH_MS);

	p->heap_ns = 10 * PATH_MS;
	path_go(p, 3 * PATH_S);
	assert_within(path_goodput(p, 5 * PATH_S), 0.85 * 100 * MBIT,
		      100.1 * MBIT);
	path_free(p);
}

/* Long-term bandwidth: what a policer lets through is sent, not more. */
static void test_a_policer_is_recognized(void **state)
{
	struct link l = {.rate = 100 * MBIT,
			 .limit = 1000000,
			 .police_rate = 10 * MBIT,
			 .police_depth = 100000};
	struct path *p = path_new(&l, &cc_bbr, PATH_MSS, 40 * PATH_MS);
	uint64_t drops, got;

	path_go(p, 10 * PATH_S);
	drops = l.drops;
	got = path_goodput(p, 20 * PATH_S);
	assert_within(got, 0.80 * 10 * MBIT, 10.1 * MBIT);
	/* Far from the half that is lost without it. */
	assert_within((l.drops - drops) * PATH_MSS, 0, 0.2 * 20.0 * got);
	path_free(p);
}

/* Phases begin at random, and the queue of one is seen by the other. */
static void test_two_flows_share(void **state)
{
	struct link l = {.rate = 100 * MBIT, .limit = 2000000};
	struct path *p[2] = {path_new(&l, &cc_bbr, PATH_MSS, 40 * PATH_MS),
			     path_new(&l, &cc_bbr, PATH_MSS, 40 * PATH_MS)};
	uint64_t a, b;

	p[1]->f.hash = 12345;
	path_run(p, 1, 5 * PATH_S);
	p[1]->now_ns = 5 * PATH_S;
	path_run(p, 2, 40 * PATH_S);
	a = p[0]->delivered;
	b = p[1]->delivered;
	path_run(p, 2, 100 * PATH_S);
	a = p[0]->delivered - a;
	b = p[1]->delivered - b;
	assert_within((double)a / (double)b, 0.5, 2);
	assert_within(a + b, 0.9 * 60 * 100 * MBIT, 60.1 * 100 * MBIT);
	path_free(p[0]);
	path_free(p[1]);
}

struct phase {
	bool drained;
	uint64_t first_rate; /* after DRAIN */
};

static void watch_phase(struct path *p, const struct cc_sample *s)
{
	struct phase *w = p->arg;

	if (p->ext.pacing_rate < p->link->rate / 2 && p->now_ns > 2 * PATH_S)
		w->drained = true;
	else if (w->drained && !w->first_rate)
		w->first_rate = p->ext.pacing_rate;
}

/* 4.3.4: the first phase is any at random but that of 3/4. */
static void test_probing_begins_at_a_random_phase(void **state)
{
	unsigned int i, probing = 0, cruising = 0;

	for (i = 0; i < 100; i++) {
		struct link l = {.rate = 20 * MBIT, .limit = 4000000};
		struct path *p = path_new(&l, &cc_bbr, PATH_MSS, 100 * PATH_MS);
		struct phase w = {0};

		p->f.hash = i;
		p->watch = watch_phase;
		p->arg = &w;
		path_go(p, 4 * PATH_S);
		if (w.first_rate > l.rate * 115 / 100)
			probing++;
		else if (w.first_rate > l.rate * 90 / 100)
			cruising++;
		path_free(p);
	}
	assert_int_equal(probing + cruising, 100);
	assert_within(probing, 5, 30); /* one of seven */
}

/* Recovery: what is in flight when it begins is conserved for a round, and
 * the window before it comes back. */
static void test_recovery_conserves_packets_then_restores(void **state)
{
	struct link l = {.rate = 10 * MBIT, .limit = 400000};
	struct path *p = path_new(&l, &cc_bbr, PATH_MSS, 40 * PATH_MS);
	struct cc_sample s = {0};
	uint32_t cwnd;

	path_go(p, 3 * PATH_S);
	cwnd = p->f.cwnd;
	assert_int_equal(cc_bbr.ssthresh(&p->f, p->now_ns), p->f.ssthresh);
	s.now_ns = p->now_ns + 1000;
	s.delivered = PATH_MSS;
	s.lost = 5 * PATH_MSS;
	s.flight = cwnd;
	s.flight_after = cwnd / 2;
	s.total_delivered = p->delivered + PATH_MSS;
	s.prior_delivered = 0;
	s.state = CC_RECOVERY;
	cc_bbr.control(&p->f, &s);
	assert_int_equal(p->f.cwnd, cwnd / 2 + PATH_MSS);
	s.lost = 0;
	s.total_delivered += PATH_MSS;
	cc_bbr.control(&p->f, &s);
	assert_int_equal(p->f.cwnd, cwnd / 2 + PATH_MSS);
	s.state = CC_OPEN;
	cc_bbr.control(&p->f, &s);
	assert_within(p->f.cwnd, cwnd - 2.0 * PATH_MSS, cwnd + 3.0 * PATH_MSS);
	path_free(p);
}

static void test_no_overflow_on_the_longest_and_slowest_paths(void **state)
{
	struct link fat = {.rate = 10000 * MBIT, .limit = 400000000};
	struct link thin = {.rate = 1250, .limit = 60000};
	struct path *p = path_new(&fat, &cc_bbr, 8948, 500 * PATH_MS);
	struct path *q = path_new(&thin, &cc_bbr, PATH_MSS, 500 * PATH_MS);

	path_go(p, 13 * PATH_S); /* STARTUP, DRAIN and a PROBE_RTT */
	assert_within(path_goodput(p, 3 * PATH_S), 0.9 * 10000 * MBIT,
		      10001 * MBIT);
	path_go(q, 200 * PATH_S);
	assert_within(path_goodput(q, 400 * PATH_S), 1100, 1255);
	path_free(p);
	path_free(q);
}

/* Numbers that no honest path has. */
static void test_senseless_samples_do_no_harm(void **state)
{
	struct path *p = path_bare(&cc_bbr, 10);
	uint64_t now = PATH_S;
	uint32_t x = 1;
	unsigned int i;

	for (i = 0; i < 100000; i++) {
		struct cc_sample s = {0};

		x = x * 1664525 + 1013904223;
		now += x % 7 ? x : 40ull * x;
		s.now_ns = now;
		s.acked = s.delivered = x >> (x >> 8) % 30;
		s.lost = x % 3 ? 0 : x;
		s.flight = s.flight_after = x >> 2;
		s.rtt_us = x % 5 ? x >> (x >> 13) % 32 : 0;
		s.rate_bytes = ~x;
		s.rate_us = x % 11;
		s.total_delivered = (uint64_t)i << x % 40;
		s.prior_delivered = s.total_delivered / 2;
		s.state = x >> 30;
		if (x % 97 == 0)
			cc_bbr.event(&p->f, x % 2 ? CC_EV_RTO : CC_EV_TX_START,
				     now);
		if (x % 89 == 0)
			p->f.cwnd = cc_bbr.undo_cwnd(&p->f);
		cc_bbr.control(&p->f, &s);
		assert_within(p->f.cwnd, PATH_MSS, CC_CWND_MAX);
		assert_true(p->ext.pacing_rate > 0);
	}
	path_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			test_it_finds_the_rate_and_holds_about_the_bdp),
		cmocka_unit_test(test_startup_is_over_in_a_few_rounds),
		cmocka_unit_test(test_it_ignores_one_percent_of_loss),
		cmocka_unit_test(test_probe_rtt_comes_every_ten_seconds),
		cmocka_unit_test(test_a_longer_path_is_seen_within_a_filter),
		cmocka_unit_test(test_it_follows_the_rate_of_the_path),
		cmocka_unit_test(
			test_it_does_not_starve_after_an_application_limit),
		cmocka_unit_test(
			test_an_application_limited_start_is_no_full_pipe),
		cmocka_unit_test(test_acks_in_heaps_do_not_slow_it),
		cmocka_unit_test(test_a_policer_is_recognized),
		cmocka_unit_test(test_two_flows_share),
		cmocka_unit_test(test_probing_begins_at_a_random_phase),
		cmocka_unit_test(test_recovery_conserves_packets_then_restores),
		cmocka_unit_test(
			test_no_overflow_on_the_longest_and_slowest_paths),
		cmocka_unit_test(test_senseless_samples_do_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
