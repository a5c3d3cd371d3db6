/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_patience.c - a lent socket that is offered with its N-th data call
 */
#include "libsock/lend.h"
#include "tests/unit/libsock/pair.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

static int start(void **state)
{
	fakesvc_start(FAKESVC_DECLINE, 0);
	fakesvc_set_reason(XTS_REASON_OPTIONS);
	return 0;
}

static int stop(void **state)
{
	xlend_patience = 0;
	fakesvc_stop();
	return 0;
}

/* A connected kernel socket, lent; its other end in *peer. */
static int lent_open(int *peer, uint32_t patience)
{
	struct sockaddr_in in;
	int l = pair_listen(&in), fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (void *)&in, sizeof(in)), 0);
	*peer = accept(l, NULL, NULL);
	assert_true(*peer >= 0);
	close(l);
	xlend_patience = patience;
	return xlend_adopt(fd, true, false);
}

static void say(int s, int peer)
{
	char c;

	assert_int_equal(xts_send(s, "x", 1, 0), 1);
	assert_int_equal(recv(peer, &c, 1, 0), 1);
	assert_int_equal(c, 'x');
}

static void hear(int s, int peer)
{
	char c;

	assert_int_equal(send(peer, "y", 1, 0), 1);
	assert_int_equal(xts_recv(s, &c, 1, 0), 1);
	assert_int_equal(c, 'y');
}

static void test_the_nth_call_offers(void **state)
{
	int peer, s = lent_open(&peer, 4);

	hear(s, peer);
	say(s, peer);
	hear(s, peer);
	assert_int_equal(fakesvc_flows(), 0);
	assert_int_equal(xts_offload_reason(s), XTS_REASON_PENDING);
	assert_int_equal(xlend_state(s), XLEND_NEW);
	say(s, peer);
	assert_int_equal(fakesvc_flows(), 1);
	assert_int_equal(xts_offload_reason(s), XTS_REASON_OPTIONS);
	pair_close(s, peer);
}

static void test_0_and_1_are_the_first(void **state)
{
	uint32_t patience;
	int peer, s;

	for (patience = 0; patience < 2; patience++) {
		s = lent_open(&peer, patience);
		say(s, peer);
		assert_int_equal(fakesvc_flows(), patience + 1);
		pair_close(s, peer);
	}
}

static void test_a_call_that_fails_counts(void **state)
{
	int peer, s = lent_open(&peer, 2);
	char c;

	assert_int_equal(xts_recv(s, &c, 1, MSG_DONTWAIT), -1);
	assert_int_equal(fakesvc_flows(), 0);
	say(s, peer);
	assert_int_equal(fakesvc_flows(), 1);
	pair_close(s, peer);
}

static void test_a_slot_used_again_begins_anew(void **state)
{
	int peer, s = lent_open(&peer, 3);

	say(s, peer);
	pair_close(s, peer);
	s = lent_open(&peer, 0);
	say(s, peer);
	assert_int_equal(fakesvc_flows(), 1);
	pair_close(s, peer);
}

static void *hears(void *arg)
{
	char c = 0;

	xts_recv(*(int *)arg, &c, 1, 0);
	return c == 'z' ? arg : NULL;
}

/* Its data must not arrive at a flow that it knows nothing of. */
static void test_not_while_a_thread_is_in_the_kernel(void **state)
{
	int peer, s = lent_open(&peer, 2);
	pthread_t thread;
	void *heard;

	assert_int_equal(pthread_create(&thread, NULL, hears, &s), 0);
	usleep(100000);
	say(s, peer);
	say(s, peer);
	assert_int_equal(fakesvc_flows(), 0);
	assert_int_equal(send(peer, "z", 1, 0), 1);
	pthread_join(thread, &heard);
	assert_non_null(heard);
	say(s, peer);
	assert_int_equal(fakesvc_flows(), 1);
	pair_close(s, peer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_the_nth_call_offers, start,
						stop),
		cmocka_unit_test_setup_teardown(test_0_and_1_are_the_first,
						start, stop),
		cmocka_unit_test_setup_teardown(test_a_call_that_fails_counts,
						start, stop),
		cmocka_unit_test_setup_teardown(
			test_a_slot_used_again_begins_anew, start, stop),
		cmocka_unit_test_setup_teardown(
			test_not_while_a_thread_is_in_the_kernel, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
