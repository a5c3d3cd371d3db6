/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_slots.c - buffers are handed out lowest first, each once
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "slowpath/slots.h"

static void test_lowest_free_number_is_taken(void **state)
{
	struct slots s;

	assert_int_equal(slots_init(&s, 200), 0);
	for (uint32_t i = 0; i < 150; i++)
		assert_int_equal(slots_take(&s), i);
	slots_give(&s, 130);
	slots_give(&s, 7);
	slots_give(&s, 64);
	assert_int_equal(slots_take(&s), 7);
	assert_int_equal(slots_take(&s), 64);
	assert_int_equal(slots_take(&s), 130);
	assert_int_equal(slots_take(&s), 150);
	assert_int_equal(s.used, 151);
	slots_destroy(&s);
}

static void test_no_number_beyond_the_last(void **state)
{
	for (uint32_t n = 1; n < 200; n++) {
		struct slots s;

		assert_int_equal(slots_init(&s, n), 0);
		for (uint32_t i = 0; i < n; i++)
			assert_int_equal(slots_take(&s), i);
		assert_int_equal(slots_take(&s), SLOTS_NONE);
		slots_give(&s, n - 1);
		assert_int_equal(slots_take(&s), n - 1);
		assert_int_equal(slots_take(&s), SLOTS_NONE);
		slots_destroy(&s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lowest_free_number_is_taken),
		cmocka_unit_test(test_no_number_beyond_the_last),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
