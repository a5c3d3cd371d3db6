/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_measure.c - a benchmark's histogram must not flatter
 *
 * The module belongs to the benchmark programs and is in no library: it is
 * included.
 */
#include "bench/measure.c" // NOLINT(bugprone-suspicious-include): see above

#include <setjmp.h>
#include <cmocka.h>

static struct hist *hist_new(void)
{
	struct hist *h = calloc(1, sizeof(*h));

	assert_non_null(h);
	return h;
}

static void test_values_below_2048_ns_are_exact(void **state)
{
	struct hist *h = hist_new();
	uint64_t ns;

	for (ns = 0; ns < 2048; ns++) {
		assert_int_equal(hist_bucket(ns), ns);
		assert_int_equal(hist_bucket_top(hist_bucket(ns)), ns);
	}
	hist_add(h, 1234);
	assert_int_equal(hist_quantile(h, 0.5), 1234);
	free(h);
}

static void test_a_bucket_errs_upwards_by_at_most_a_thousandth(void **state)
{
	uint64_t ns, top;

	for (ns = 1; ns < 1ull << HIST_MAX_BITS; ns += ns / 7 + 1) {
		top = hist_bucket_top(hist_bucket(ns));
		assert_true(top >= ns);
		assert_true(top - ns <= ns / 1000);
	}
}

static void test_buckets_are_ordered_and_without_gaps(void **state)
{
	unsigned int b;

	for (b = 1; b < HIST_BUCKETS; b++) {
		assert_int_equal(hist_bucket(hist_bucket_top(b)), b);
		assert_int_equal(hist_bucket(hist_bucket_top(b - 1) + 1), b);
	}
}

static void test_longer_than_the_range_counts_in_the_last_bucket(void **state)
{
	struct hist *h = hist_new();

	hist_add(h, UINT64_MAX);
	assert_int_equal(h->count[HIST_BUCKETS - 1], 1);
	assert_int_equal(h->max_ns, UINT64_MAX);
	free(h);
}

static void test_quantiles_are_those_of_the_samples(void **state)
{
	struct hist *h = hist_new();
	uint64_t i;

	for (i = 1; i <= 1000; i++)
		hist_add(h, i);
	assert_int_equal(hist_quantile(h, 0.5), 500);
	assert_int_equal(hist_quantile(h, 0.99), 990);
	assert_int_equal(hist_quantile(h, 0.9999), 1000);
	assert_int_equal(hist_quantile(h, 1.0), 1000);
	assert_int_equal(h->sum_ns, 500500);
	free(h);
}

static void test_one_outlier_in_ten_thousand_is_the_last_quantile(void **state)
{
	struct hist *h = hist_new();
	unsigned int i;

	for (i = 0; i < 9998; i++)
		hist_add(h, 1000);
	hist_add(h, 5000000);
	hist_add(h, 5000000);
	assert_int_equal(hist_quantile(h, 0.99), 1000);
	assert_int_equal(hist_quantile(h, 0.9999), 5000000);
	free(h);
}

static void test_an_empty_histogram_answers_zero(void **state)
{
	struct hist *h = hist_new();

	assert_int_equal(hist_quantile(h, 0.99), 0);
	free(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values_below_2048_ns_are_exact),
		cmocka_unit_test(
			test_a_bucket_errs_upwards_by_at_most_a_thousandth),
		cmocka_unit_test(test_buckets_are_ordered_and_without_gaps),
		cmocka_unit_test(
			test_longer_than_the_range_counts_in_the_last_bucket),
		cmocka_unit_test(test_quantiles_are_those_of_the_samples),
		cmocka_unit_test(
			test_one_outlier_in_ten_thousand_is_the_last_quantile),
		cmocka_unit_test(test_an_empty_histogram_answers_zero),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
