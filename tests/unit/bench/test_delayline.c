/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_delayline.c - frames come out when they are due, and in order
 *
 * The module belongs to one program and is in no library: it is included. A
 * frame's data is its number.
 */
#include "bench/delayline.c" // NOLINT(bugprone-suspicious-include): see above

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define ROOM 1000u

static uint8_t numbers[ROOM];

static struct delayline line(void)
{
	struct delayline dl;

	assert_int_equal(delayline_init(&dl, ROOM), 0);
	return dl;
}

/* The number of the frame that comes out at now; -1: none */
static int take(struct delayline *dl, uint64_t now)
{
	struct delayline_frame f;

	return delayline_take(dl, now, &f) ? (int)(f.data - numbers) : -1;
}

static void test_frames_come_out_by_time(void **state)
{
	struct delayline dl = line();
	struct delayline_frame f;
	uint64_t at = 1, before = 0;
	unsigned int i;

	for (i = 0; i < ROOM; i++) {
		at = at * 48271 % 2147483647;
		assert_true(delayline_add(&dl, at % 300, numbers + i, 1));
	}
	assert_false(delayline_add(&dl, 0, numbers, 1));
	for (i = 0; i < ROOM; i++) {
		assert_true(delayline_next_ns(&dl) >= before);
		before = delayline_next_ns(&dl);
		assert_true(delayline_take(&dl, before, &f));
		assert_int_equal(f.at_ns, before);
	}
	assert_int_equal(delayline_next_ns(&dl), UINT64_MAX);
	delayline_free(&dl);
}

static void test_frames_of_one_time_keep_their_order(void **state)
{
	struct delayline dl = line();
	int i;

	for (i = 0; i < 500; i++)
		delayline_add(&dl, 7, numbers + i, 1);
	for (i = 0; i < 500; i++)
		assert_int_equal(take(&dl, 7), i);
	delayline_free(&dl);
}

static void test_no_frame_comes_out_early(void **state)
{
	struct delayline dl = line();

	delayline_add(&dl, 7, numbers, 1);
	assert_int_equal(take(&dl, 6), -1);
	assert_int_equal(take(&dl, 7), 0);
	assert_int_equal(take(&dl, 8), -1);
	delayline_free(&dl);
}

static void
test_a_held_frame_goes_right_behind_the_last_it_waits_for(void **state)
{
	struct delayline dl = line();
	int i;

	delayline_hold(&dl, 1000, 2, numbers, 1);
	for (i = 1; i <= 3; i++) {
		delayline_add(&dl, 10, numbers + i, 1);
		delayline_passed(&dl, 10);
	}
	assert_int_equal(take(&dl, 10), 1);
	assert_int_equal(take(&dl, 10), 2);
	assert_int_equal(take(&dl, 10), 0);
	assert_int_equal(take(&dl, 10), 3);
	delayline_free(&dl);
}

static void test_a_held_frame_does_not_wait_for_ever(void **state)
{
	struct delayline dl = line();

	delayline_hold(&dl, 1000, 2, numbers, 1);
	delayline_passed(&dl, 10);
	assert_int_equal(delayline_next_ns(&dl), 1000);
	assert_int_equal(take(&dl, 999), -1);
	assert_int_equal(take(&dl, 1000), 0);
	assert_int_equal(delayline_next_ns(&dl), UINT64_MAX);
	delayline_free(&dl);
}

static void test_held_frames_are_bounded(void **state)
{
	struct delayline dl = line();
	unsigned int i;

	for (i = 0; i < DELAYLINE_HELD_MAX; i++)
		assert_true(delayline_hold(&dl, 5, 1, numbers + i, 1));
	assert_false(delayline_hold(&dl, 5, 1, numbers, 1));
	delayline_passed(&dl, 3);
	for (i = 0; i < DELAYLINE_HELD_MAX; i++)
		assert_int_equal(take(&dl, 3), i);
	delayline_free(&dl);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_frames_come_out_by_time),
		cmocka_unit_test(test_frames_of_one_time_keep_their_order),
		cmocka_unit_test(test_no_frame_comes_out_early),
		cmocka_unit_test(
			test_a_held_frame_goes_right_behind_the_last_it_waits_for),
		cmocka_unit_test(test_a_held_frame_does_not_wait_for_ever),
		cmocka_unit_test(test_held_frames_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
