/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_log.c - what a peer can trigger does not flood the log
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "slowpath/log.h"

static void test_burst_passes_then_nothing(void **state)
{
	struct log_limit l = {0};

	for (unsigned int i = 0; i < LOG_BURST; i++)
		assert_true(log_limit_pass(&l, 100));
	assert_false(log_limit_pass(&l, 100));
	assert_false(log_limit_pass(&l, 100 + LOG_WINDOW_S - 1));
	assert_int_equal(l.kept, 2);
}

static void test_new_window_lets_pass_again(void **state)
{
	struct log_limit l = {0};

	for (unsigned int i = 0; i <= LOG_BURST; i++)
		log_limit_pass(&l, 100);
	assert_true(log_limit_pass(&l, 100 + LOG_WINDOW_S));
}

static void test_level_names(void **state)
{
	enum log_level level;

	assert_true(log_level_parse("warn", &level));
	assert_int_equal(level, LOG_LEVEL_WARN);
	assert_false(log_level_parse("", &level));
	assert_false(log_level_parse("warning", &level));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_burst_passes_then_nothing),
		cmocka_unit_test(test_new_window_lets_pass_again),
		cmocka_unit_test(test_level_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
