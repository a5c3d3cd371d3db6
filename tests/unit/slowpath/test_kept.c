/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_kept.c - buffers of reset connections wait for their release
 */
#include "slowpath/kept.h"
#include "slowpath/slots.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void test_buffers_are_kept_until_released(void **state)
{
	struct kept_set k = {.seed = 5};

	for (uint32_t i = 0; i < 1000; i++)
		assert_true(kept_add(&k, i * UINT64_C(0x100000001), i));
	for (uint32_t i = 0; i < 1000; i += 2)
		assert_int_equal(kept_release(&k, i * UINT64_C(0x100000001), 0),
				 i);
	assert_int_equal(kept_release(&k, 0, 0), SLOTS_NONE);
	assert_int_equal(kept_release(&k, UINT64_C(0x100000001), 0), 1);
	kept_clear(&k);
	assert_null(k.entries);
}

static void test_release_may_come_before_the_reset(void **state)
{
	struct kept_set k = {.seed = 6};

	assert_int_equal(kept_release(&k, 7, 1), SLOTS_NONE);
	assert_int_equal(kept_release(&k, 7, 1), SLOTS_NONE);
	assert_false(kept_add(&k, 7, 3));
	assert_true(kept_add(&k, 7, 3)); /* noted once, counts once */
	assert_int_equal(kept_release(&k, 7, 1), 3);
	assert_null(k.entries);
	assert_int_equal(k.n_early, 0);
}

static void test_early_releases_are_bounded(void **state)
{
	struct kept_set k = {.seed = 7};

	for (uint64_t i = 0; i < 100; i++)
		assert_int_equal(kept_release(&k, i, 10), SLOTS_NONE);
	assert_int_equal(k.n_early, 10);
	assert_true(kept_add(&k, 50, 1));
	assert_false(kept_add(&k, 5, 2));
	assert_int_equal(k.n_early, 9);
	kept_clear(&k);
	assert_int_equal(k.n_early, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buffers_are_kept_until_released),
		cmocka_unit_test(test_release_may_come_before_the_reset),
		cmocka_unit_test(test_early_releases_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
