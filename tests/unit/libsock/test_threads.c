/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_threads.c - several threads, whole streams, the echo core
 *
 * What goes through here is checked byte by byte while buffers wrap, rings
 * fill, threads sleep and wake, and sockets are shared or move.
 */
#include "tests/unit/libsock/pair.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define STREAM 300000u
#define THREADS 4

static int start(void **state)
{
	fakesvc_start(FAKESVC_OFFLOAD, 0);
	fakesvc_core_start();
	return 0;
}

static int stop(void **state)
{
	fakesvc_core_stop();
	fakesvc_stop();
	return 0;
}

static uint8_t pattern(uint32_t at)
{
	return (uint8_t)(at * 2654435761u >> 24);
}

static uint32_t fill(uint8_t *buf, uint32_t at, uint32_t max)
{
	uint32_t n = 1 + at * 7919u % max, i;

	if (n > STREAM - at)
		n = STREAM - at;
	for (i = 0; i < n; i++)
		buf[i] = pattern(at + i);
	return n;
}

static bool same(const uint8_t *buf, uint32_t at, ssize_t n)
{
	ssize_t i;

	for (i = 0; i < n; i++)
		if (buf[i] != pattern(at + (uint32_t)i))
			return false;
	return true;
}

static void *sender(void *arg)
{
	int s = *(int *)arg;
	uint8_t buf[9000];
	uint32_t at = 0;
	ssize_t n;

	while (at < STREAM) {
		n = xts_send(s, buf, fill(buf, at, sizeof(buf)), 0);
		if (n <= 0)
			return (void *)1;
		at += (uint32_t)n;
	}
	return xts_shutdown(s, SHUT_WR) ? (void *)2 : NULL;
}

static void *receiver(void *arg)
{
	int s = *(int *)arg;
	uint8_t buf[3000];
	uint32_t at = 0;
	ssize_t n;

	while ((n = xts_recv(s, buf, sizeof(buf), 0)) > 0) {
		if (!same(buf, at, n))
			return (void *)3;
		at += (uint32_t)n;
	}
	return n < 0 || at != STREAM ? (void *)4 : NULL;
}

static void test_two_threads_share_a_socket(void **state)
{
	int peer, s = pair_open(&peer);
	pthread_t tx, rx;
	void *ret;

	pthread_create(&rx, NULL, receiver, &s);
	pthread_create(&tx, NULL, sender, &s);
	pthread_join(tx, &ret);
	assert_null(ret);
	pthread_join(rx, &ret);
	assert_null(ret);
	assert_int_equal(xts_offload_reason(s), 0);
	pair_close(s, peer);
}

/* Echo client with an event loop; paper: the program's own epoll around it. */
static void *event_loop(void *arg)
{
	bool paper = *(bool *)arg;
	void *ectx = xts_epoll_ctx_create();
	struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT}, got[4];
	int ep = epoll_create1(0), peer, s = pair_open(&peer);
	uint32_t sent = 0, seen = 0;
	uint8_t buf[5000];
	void *ret = NULL;
	ssize_t n;
	int k;

	epoll_ctl(ep, EPOLL_CTL_ADD, xts_epoll_fd(ectx), &ev);
	xts_epoll_ctl(ectx, EPOLL_CTL_ADD, s, &ev);
	while (seen < STREAM && !ret) {
		if (paper && epoll_wait(ep, got, 4, 5000) <= 0)
			ret = (void *)1; /* lost a wake-up */
		k = paper ? xts_epoll(ectx, got, 4)
			  : xts_epoll_wait(ectx, got, 4, 5000);
		if (!paper && k <= 0)
			ret = (void *)2;
		if (k <= 0)
			continue;
		if (got[0].events & EPOLLOUT && sent < STREAM) {
			n = xts_send(s, buf, fill(buf, sent, sizeof(buf)),
				     MSG_DONTWAIT);
			sent += n > 0 ? (uint32_t)n : 0;
			ev.events = sent < STREAM ? EPOLLIN | EPOLLOUT
						  : EPOLLIN;
			xts_epoll_ctl(ectx, EPOLL_CTL_MOD, s, &ev);
		}
		n = xts_recv(s, buf, sizeof(buf), MSG_DONTWAIT);
		if (n > 0 && !same(buf, seen, n))
			ret = (void *)3;
		seen += n > 0 ? (uint32_t)n : 0;
	}
	xts_close(s);
	close(peer);
	close(ep);
	xts_epoll_ctx_destroy(ectx);
	return ret;
}

static void loops(bool paper)
{
	pthread_t t[THREADS];
	void *ret;
	int i;

	for (i = 0; i < THREADS; i++)
		pthread_create(&t[i], NULL, event_loop, &paper);
	for (i = 0; i < THREADS; i++) {
		pthread_join(t[i], &ret);
		assert_null(ret);
	}
}

static void test_a_context_each_with_xts_epoll_wait(void **state)
{
	loops(false);
}

static void test_a_context_each_in_their_own_epoll(void **state)
{
	loops(true);
}

/* A socket handed from context to context while its stream runs. */
static void test_moving_loses_nothing(void **state)
{
	void *ectx[2] = {xts_epoll_ctx_create(), xts_epoll_ctx_create()};
	struct epoll_event ev = {.events = EPOLLIN};
	int peer, s = pair_open(&peer), i;
	pthread_t tx, rx;
	void *ret;

	pthread_create(&rx, NULL, receiver, &s);
	pthread_create(&tx, NULL, sender, &s);
	for (i = 0; i < 40; i++) {
		assert_int_equal(
			xts_epoll_ctl(ectx[i % 2], EPOLL_CTL_ADD, s, &ev), 0);
		usleep(500);
		assert_int_equal(
			xts_epoll_ctl(ectx[i % 2], EPOLL_CTL_DEL, s, NULL), 0);
	}
	pthread_join(tx, &ret);
	assert_null(ret);
	pthread_join(rx, &ret);
	assert_null(ret);
	pair_close(s, peer);
	xts_epoll_ctx_destroy(ectx[0]);
	xts_epoll_ctx_destroy(ectx[1]);
}

static void *short_life(void *arg)
{
	int peer, s = pair_open(&peer);
	char buf[3];
	bool ok = xts_send(s, "abc", 3, 0) == 3 &&
		  xts_recv(s, buf, 3, MSG_WAITALL) == 3;

	pair_close(s, peer);
	return ok ? NULL : (void *)1;
}

static void test_threads_that_end_give_their_contexts_back(void **state)
{
	pthread_t t;
	void *ret;
	int i;

	/* More than the service has contexts. */
	for (i = 0; i < 40; i++) {
		pthread_create(&t, NULL, short_life, NULL);
		pthread_join(t, &ret);
		assert_null(ret);
	}
}

static void *closer(void *arg)
{
	usleep(30000);
	xts_close(*(int *)arg);
	return NULL;
}

static void test_close_ends_another_threads_wait(void **state)
{
	int peer, s = pair_open(&peer);
	pthread_t t;
	char c;

	pthread_create(&t, NULL, closer, &s);
	assert_int_equal(xts_recv(s, &c, 1, 0), -1);
	assert_int_equal(errno, EBADF);
	pthread_join(t, NULL);
	close(peer);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_##name, start, stop)
	const struct CMUnitTest tests[] = {
		T(two_threads_share_a_socket),
		T(a_context_each_with_xts_epoll_wait),
		T(a_context_each_in_their_own_epoll),
		T(moving_loses_nothing),
		T(threads_that_end_give_their_contexts_back),
		T(close_ends_another_threads_wait),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
