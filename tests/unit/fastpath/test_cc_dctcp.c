/* SPDX-License-Identifier: BSD-2-Clause */
/* DCTCP: RFC 8257. */
#include "tests/unit/fastpath/path.h"

/* A window of @n ACKs of which the first @marked have ECE. */
static void window(struct path *p, unsigned int n, unsigned int marked)
{
	unsigned int i;

	p->f.snd_nxt = p->f.snd_una + n * PATH_MSS;
	for (i = 0; i < n; i++) {
		struct cc_sample s = {
			.now_ns = PATH_S,
			.acked = PATH_MSS,
			.delivered = PATH_MSS,
			.ece = i < marked,
		};

		p->f.snd_una += PATH_MSS;
		if (i == n - 1) /* data go out as ACKs come in */
			p->f.snd_nxt = p->f.snd_una + n * PATH_MSS;
		cc_dctcp.acked(&p->f, &s);
	}
}

/* alpha in thousandths, as the reduction shows it. */
static uint32_t alpha(struct path *p)
{
	p->f.cwnd = 2000 * PATH_MSS;
	return (p->f.cwnd - cc_dctcp.ssthresh_ece(&p->f, 0)) / PATH_MSS;
}

/* 3.3: cwnd = cwnd * (1 - alpha / 2), alpha is 1 at first. */
static void test_the_first_mark_halves(void **state)
{
	struct path *p = path_bare(&cc_dctcp, 100);

	assert_int_equal(cc_ssthresh_ece(&p->f, 0), 50 * PATH_MSS);
	path_free(p);
}

/* 3.3: alpha = alpha * (1 - g) + g * M each window, g = 1/16. */
static void test_alpha_converges_to_the_share_of_marks(void **state)
{
	static const unsigned int share[] = {0, 25, 100, 50, 1};
	struct path *p = path_bare(&cc_dctcp, 100);
	unsigned int i, n;

	window(p, 1, 1);
	for (i = 0; i < 5; i++) {
		for (n = 0; n < 150; n++)
			window(p, 100, share[i]);
		assert_within(alpha(p), 10.0 * share[i] - 1.5,
			      10.0 * share[i] + 1.5);
	}
	path_free(p);
}

static void test_alpha_moves_by_a_sixteenth_a_window(void **state)
{
	struct path *p = path_bare(&cc_dctcp, 100);
	double want = 1000;
	unsigned int n;

	window(p, 2, 2);
	for (n = 0; n < 20; n++) {
		window(p, 100, 0);
		if (n)
			assert_within(alpha(p), want * 15 / 16 - 1.5,
				      want + 1.5);
		want = alpha(p);
	}
	assert_within(want, 1000 * 0.27, 1000 * 0.33);
	path_free(p);
}

/* 3.5: a loss is answered as conventional TCP does. */
static void test_a_loss_halves_whatever_alpha(void **state)
{
	struct path *p = path_bare(&cc_dctcp, 100);
	unsigned int n;

	for (n = 0; n < 200; n++)
		window(p, 100, 0);
	p->f.cwnd = 100 * PATH_MSS;
	assert_within(cc_ssthresh_ece(&p->f, 0), 99.9 * PATH_MSS,
		      100 * PATH_MSS);
	p->f.snd_nxt = p->f.snd_una + 100 * PATH_MSS;
	assert_int_equal(cc_dctcp.ssthresh(&p->f, 0), 50 * PATH_MSS);
	path_free(p);
}

struct seen {
	uint64_t sum, n, max;
};

static void watch_queue(struct path *p, const struct cc_sample *s)
{
	struct seen *q = p->arg;
	uint64_t queue = link_queue(p->link, p->now_ns);

	q->sum += queue;
	q->n++;
	if (queue > q->max)
		q->max = queue;
}

/* 1: high throughput and a queue near the threshold. */
static void test_the_queue_stays_near_the_threshold(void **state)
{
	struct link l = {.rate = 125000000, .limit = 1000000, .mark = 60000};
	struct path *p = path_new(&l, &cc_dctcp, PATH_MSS, PATH_MS / 2);
	struct seen q = {0};
	uint64_t got;

	path_go(p, PATH_S);
	p->watch = watch_queue;
	p->arg = &q;
	got = path_goodput(p, 2 * PATH_S);
	assert_within(got, 0.97 * 125000000, 125100000);
	assert_within((double)q.sum / (double)q.n, 0.4 * 60000, 1.2 * 60000);
	assert_within(q.max, 60000, 100000);
	assert_int_equal(l.drops, 0);
	path_free(p);
}

/* 3.3: once for every window of data. */
static void test_reduction_is_once_a_window(void **state)
{
	struct link l = {.rate = 125000000, .limit = 1000000, .mark = 60000};
	struct path *p = path_new(&l, &cc_dctcp, PATH_MSS, PATH_MS);

	path_go(p, 2 * PATH_S);
	/* Round trips of 1.0 to 1.6 ms. */
	assert_within(p->reductions, 50, 2000);
	assert_true(p->marked > 2 * p->reductions);
	path_free(p);
}

static void test_two_flows_share_evenly(void **state)
{
	struct link l = {.rate = 125000000, .limit = 1000000, .mark = 60000};
	struct path *p[2] = {path_new(&l, &cc_dctcp, PATH_MSS, PATH_MS),
			     path_new(&l, &cc_dctcp, PATH_MSS, PATH_MS)};

	assert_within(path_share(p, 2 * PATH_S, 5 * PATH_S, 10 * PATH_S), 0.8,
		      1.25);
	path_free(p[0]);
	path_free(p[1]);
}

/* Without marks it is Reno, overflow included. */
static void test_no_overflow_on_the_longest_and_slowest_paths(void **state)
{
	struct link fat = {
		.rate = 1250000000, .limit = 400000000, .mark = 200000000};
	struct link thin = {.rate = 1250, .limit = 20000, .mark = 5000};
	struct path *p = path_new(&fat, &cc_dctcp, 8948, 500 * PATH_MS);
	struct path *q = path_new(&thin, &cc_dctcp, PATH_MSS, 500 * PATH_MS);

	path_go(p, 10 * PATH_S);
	assert_within(path_goodput(p, 3 * PATH_S), 0.6e9, 1.26e9);
	path_go(q, 200 * PATH_S);
	assert_within(path_goodput(q, 400 * PATH_S), 1100, 1255);
	path_free(p);
	path_free(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_first_mark_halves),
		cmocka_unit_test(test_alpha_converges_to_the_share_of_marks),
		cmocka_unit_test(test_alpha_moves_by_a_sixteenth_a_window),
		cmocka_unit_test(test_a_loss_halves_whatever_alpha),
		cmocka_unit_test(test_the_queue_stays_near_the_threshold),
		cmocka_unit_test(test_reduction_is_once_a_window),
		cmocka_unit_test(test_two_flows_share_evenly),
		cmocka_unit_test(
			test_no_overflow_on_the_longest_and_slowest_paths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
