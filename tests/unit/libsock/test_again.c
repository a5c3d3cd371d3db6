/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_again.c - a connection that is declined for a while is offered again
 */
#include "tests/unit/libsock/pair.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static int start(void **state)
{
	fakesvc_start(FAKESVC_DECLINE, 0);
	fakesvc_set_reason(XTS_REASON_OUT_OF_ORDER);
	return 0;
}

static int stop(void **state)
{
	fakesvc_stop();
	return 0;
}

static void to_kernel(int s, int peer)
{
	char buf[8];

	assert_int_equal(xts_send(s, "hello", 5, 0), 5);
	assert_int_equal(recv(peer, buf, sizeof(buf), 0), 5);
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* The service was asked n times. Says nothing on a machine that is so busy that
 * it is ms later than since. */
static void asked_by(uint64_t since, unsigned int ms, unsigned int n)
{
	unsigned int asked = fakesvc_flows();

	if (now_ms() - since < ms)
		assert_int_equal(asked, n);
}

static int wait_reason(int s, int reason)
{
	int tries;

	for (tries = 0; tries < 1000; tries++) {
		if (xts_offload_reason(s) == reason)
			return reason;
		usleep(1000);
	}
	return xts_offload_reason(s);
}

static void test_a_passing_reason_is_asked_again_later(void **state)
{
	struct fakesvc_flow *f;
	struct xts_cmd cmd;
	int peer, s = pair_open(&peer);
	unsigned int n;
	uint64_t since = now_ms();

	to_kernel(s, peer);
	assert_int_equal(fakesvc_flows(), 1);
	assert_int_equal(xts_offload_reason(s), XTS_REASON_OUT_OF_ORDER);
	to_kernel(s, peer); /* not within 10 ms */
	asked_by(since, 10, 1);
	fakesvc_set_reason(XTS_REASON_KERNEL_QUEUE);
	usleep(15000);
	since = now_ms();
	n = fakesvc_flows();
	to_kernel(s, peer);
	assert_true(fakesvc_flows() == n + 1 || n == 2);
	assert_int_equal(wait_reason(s, XTS_REASON_KERNEL_QUEUE),
			 XTS_REASON_KERNEL_QUEUE);
	n = fakesvc_flows();
	usleep(12000); /* twice as long now */
	to_kernel(s, peer);
	asked_by(since, 20, n);
	fakesvc_set_mode(FAKESVC_OFFLOAD);
	usleep(90000);
	assert_int_equal(xts_send(s, "hello", 5, 0), 5);
	f = fakesvc_flow(fakesvc_flows() - 1);
	assert_true(fakesvc_command(f, &cmd));
	assert_int_equal(cmd.len, 5);
	assert_int_equal(xts_offload_reason(s), 0);
	pair_close(s, peer);
}

/* A call that was in its way is over. */
static void test_a_busy_one_is_asked_again_at_once(void **state)
{
	int peer, s = pair_open(&peer), tries;

	fakesvc_set_reason(XTS_REASON_BUSY);
	to_kernel(s, peer);
	assert_int_equal(wait_reason(s, XTS_REASON_BUSY), XTS_REASON_BUSY);
	fakesvc_set_mode(FAKESVC_OFFLOAD);
	for (tries = 0; tries < 4 && xts_offload_reason(s); tries++) {
		usleep(1500);
		assert_int_equal(xts_send(s, "hello", 5, 0), 5);
	}
	assert_int_equal(xts_offload_reason(s), 0);
	pair_close(s, peer);
}

static void test_a_lasting_reason_is_not(void **state)
{
	int peer, s = pair_open(&peer);

	fakesvc_set_reason(XTS_REASON_OPTIONS);
	to_kernel(s, peer);
	usleep(50000);
	to_kernel(s, peer);
	assert_int_equal(fakesvc_flows(), 1);
	pair_close(s, peer);
}

/* A full table is a matter of other connections: no hurry. */
static void test_no_room_is_asked_again_after_a_second(void **state)
{
	int peer, s = pair_open(&peer);
	unsigned int n;
	uint64_t since = now_ms();

	fakesvc_set_reason(XTS_REASON_NO_FLOW);
	to_kernel(s, peer);
	usleep(100000);
	to_kernel(s, peer);
	asked_by(since, 1000, 1);
	n = fakesvc_flows();
	usleep(1000000);
	to_kernel(s, peer);
	assert_int_equal(fakesvc_flows(), n + 1);
	pair_close(s, peer);
}

static void test_a_drained_queue_shortens_the_wait(void **state)
{
	int peer, s = pair_open(&peer), i;
	char c;

	/* until the wait is 640 ms */
	to_kernel(s, peer);
	for (i = 1; i < 7; i++) {
		usleep((10u << (i - 1)) * 1000 + 3000);
		to_kernel(s, peer);
		assert_int_equal(fakesvc_flows(), i + 1);
	}
	assert_int_equal(xts_recv(s, &c, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	usleep(12000);
	to_kernel(s, peer);
	assert_int_equal(fakesvc_flows(), 8);
	pair_close(s, peer);
}

struct receiver {
	int s;
	_Atomic pid_t tid;
	char c;
};

static void *receiver(void *arg)
{
	struct receiver *r = arg;

	r->tid = gettid();
	assert_int_equal(xts_recv(r->s, &r->c, 1, 0), 1);
	return NULL;
}

/* Waits until it sleeps in the kernel's recvmsg(). */
static void wait_inside(struct receiver *r)
{
	char path[64];
	int tries, call = -1;
	FILE *f;

	while (!r->tid)
		sched_yield();
	snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", r->tid);
	for (tries = 0; tries < 10000 && call != SYS_recvmsg; tries++) {
		usleep(1000);
		f = fopen(path, "re");
		assert_non_null(f);
		if (fscanf(f, "%d", &call) != 1)
			call = -1; /* running */
		fclose(f);
	}
	assert_int_equal(call, SYS_recvmsg);
}

/* It would sleep there for ever. */
static void test_never_while_a_thread_is_inside_the_kernel(void **state)
{
	struct receiver r = {0};
	pthread_t thread;
	int peer, asked;

	r.s = pair_open(&peer);
	to_kernel(r.s, peer);
	pthread_create(&thread, NULL, receiver, &r);
	wait_inside(&r);
	asked = fakesvc_flows();
	fakesvc_set_mode(FAKESVC_OFFLOAD);
	usleep(50000); /* it could be offered again, but for the receiver */
	to_kernel(r.s, peer);
	to_kernel(r.s, peer);
	assert_int_equal(fakesvc_flows(), asked);
	assert_int_equal(send(peer, "x", 1, 0), 1);
	pthread_join(thread, NULL);
	assert_int_equal(r.c, 'x');
	usleep(50000);
	assert_int_equal(xts_send(r.s, "y", 1, 0), 1);
	assert_int_equal(fakesvc_flows(), asked + 1);
	assert_int_equal(xts_offload_reason(r.s), 0);
	pair_close(r.s, peer);
}

static int events(void *ectx, int ms)
{
	struct epoll_event ev[4];

	return xts_epoll_wait(ectx, ev, 4, ms);
}

/* Registered: the kernel's epoll first, the ready list afterwards. */
static void registered(uint32_t flags)
{
	void *ectx = xts_epoll_ctx_create();
	struct epoll_event ev = {.events = EPOLLIN | flags};
	struct fakesvc_flow *f;
	int peer, s = pair_open(&peer);
	char c;

	ev.data.fd = s;
	assert_int_equal(xts_epoll_ctl(ectx, EPOLL_CTL_ADD, s, &ev), 0);
	assert_int_equal(wait_reason(s, XTS_REASON_OUT_OF_ORDER),
			 XTS_REASON_OUT_OF_ORDER);
	assert_int_equal(send(peer, "x", 1, 0), 1);
	assert_int_equal(events(ectx, 1000), 1);
	assert_int_equal(xts_recv(s, &c, 1, MSG_DONTWAIT), 1);
	fakesvc_set_mode(FAKESVC_OFFLOAD);
	usleep(20000);
	if (flags & EPOLLONESHOT) {
		/* who handles the event is not to be disturbed */
		assert_int_equal(xts_recv(s, &c, 1, MSG_DONTWAIT), -1);
		assert_int_equal(fakesvc_flows(), 1);
		usleep(20000);
		assert_int_equal(xts_epoll_ctl(ectx, EPOLL_CTL_MOD, s, &ev), 0);
	} else {
		assert_int_equal(xts_recv(s, &c, 1, MSG_DONTWAIT), -1);
	}
	f = fakesvc_flow(1);
	assert_non_null(f);
	assert_int_equal(wait_reason(s, 0), 0);
	assert_int_equal(events(ectx, 0), 0);
	fakesvc_reply(f, "y", 1, 0, 0, 0);
	assert_int_equal(events(ectx, 1000), 1);
	assert_int_equal(xts_recv(s, &c, 1, MSG_DONTWAIT), 1);
	assert_int_equal(c, 'y');
	assert_int_equal(events(ectx, 0), 0);
	pair_close(s, peer);
	xts_epoll_ctx_destroy(ectx);
}

static void test_registrations_move_along(void **state)
{
	registered(0);
}

static void test_edge_triggered_ones_too(void **state)
{
	registered(EPOLLET);
}

static void test_one_shot_ones_when_they_are_renewed(void **state)
{
	registered(EPOLLONESHOT);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_##name, start, stop)
	const struct CMUnitTest tests[] = {
		T(a_passing_reason_is_asked_again_later),
		T(a_busy_one_is_asked_again_at_once),
		T(a_lasting_reason_is_not),
		T(no_room_is_asked_again_after_a_second),
		T(a_drained_queue_shortens_the_wait),
		T(never_while_a_thread_is_inside_the_kernel),
		T(registrations_move_along),
		T(edge_triggered_ones_too),
		T(one_shot_ones_when_they_are_renewed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
