/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_epoll.c - polling contexts: epoll(7)'s rules on offloaded sockets, and
 * the promise of xts_epoll_fd()
 */
#include "tests/unit/libsock/pair.h"
#include "tests/unit/libsock/yields.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct fakesvc_flow *flow;
static void *ectx;
static int s, peer;

static int start(void **state)
{
	fakesvc_start(FAKESVC_OFFLOAD, 0);
	ectx = xts_epoll_ctx_create();
	assert_non_null(ectx);
	return 0;
}

static int stop(void **state)
{
	pair_close(s, peer);
	xts_epoll_ctx_destroy(ectx);
	fakesvc_stop();
	return 0;
}

static void open_for(uint32_t events)
{
	s = pair_offloaded(&peer, ectx, events, &flow);
}

/* What xts_epoll() says of s, 0 for nothing. */
static uint32_t events(void)
{
	struct epoll_event ev[4];
	int n = xts_epoll(ectx, ev, 4);

	assert_in_range(n, 0, 1);
	if (n)
		assert_int_equal(ev[0].data.fd, s);
	return n ? ev[0].events : 0;
}

static bool readable(void)
{
	struct pollfd p = {.fd = xts_epoll_fd(ectx), .events = POLLIN};

	return poll(&p, 1, 0) == 1;
}

static void drain(void)
{
	char buf[FAKESVC_BUF];

	while (xts_recv(s, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		;
}

static void test_level_triggered_until_read(void **state)
{
	open_for(EPOLLIN);
	assert_int_equal(events(), 0);
	fakesvc_reply(flow, "abc", 3, 0, 0, 0);
	assert_int_equal(events(), EPOLLIN);
	assert_int_equal(events(), EPOLLIN);
	drain();
	assert_int_equal(events(), 0);
}

static void test_edge_triggered_once_per_arrival(void **state)
{
	open_for(EPOLLIN | EPOLLET);
	fakesvc_reply(flow, "abc", 3, 0, 0, 0);
	assert_int_equal(events(), EPOLLIN);
	assert_int_equal(events(), 0);
	fakesvc_reply(flow, "def", 3, 0, 0, 0);
	assert_int_equal(events(), EPOLLIN);
	assert_int_equal(events(), 0);
}

static void test_oneshot_until_modified(void **state)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLONESHOT};

	open_for(EPOLLIN | EPOLLONESHOT);
	fakesvc_reply(flow, "abc", 3, 0, 0, 0);
	assert_int_equal(events(), EPOLLIN);
	fakesvc_reply(flow, "abc", 3, 0, 0, 0);
	assert_int_equal(events(), 0);
	ev.data.fd = s;
	assert_int_equal(xts_epoll_ctl(ectx, EPOLL_CTL_MOD, s, &ev), 0);
	assert_int_equal(events(), EPOLLIN);
	assert_int_equal(events(), 0);
}

static void test_epollout_when_a_third_is_free(void **state)
{
	static char buf[FAKESVC_BUF];
	struct xts_cmd cmd;

	open_for(EPOLLIN | EPOLLOUT);
	assert_int_equal(events(), EPOLLOUT);
	assert_int_equal(xts_send(s, buf, sizeof(buf), MSG_DONTWAIT),
			 FAKESVC_BUF);
	assert_true(fakesvc_command(flow, &cmd));
	assert_int_equal(events(), 0);
	fakesvc_reply(flow, NULL, 0, FAKESVC_BUF / 3 - 1, 0, 0);
	assert_int_equal(events(), 0);
	fakesvc_reply(flow, NULL, 0, 1, 0, 0);
	assert_int_equal(events(), EPOLLOUT);
}

static void test_edge_epollout_only_after_the_buffer_was_full(void **state)
{
	static char buf[FAKESVC_BUF];
	struct xts_cmd cmd;

	open_for(EPOLLOUT | EPOLLET);
	assert_int_equal(events(), EPOLLOUT);
	xts_send(s, buf, 100, 0);
	assert_true(fakesvc_command(flow, &cmd));
	fakesvc_reply(flow, NULL, 0, 100, 0, 0);
	assert_int_equal(events(), 0);
	xts_send(s, buf, sizeof(buf), 0);
	assert_int_equal(xts_send(s, buf, 1, MSG_DONTWAIT), -1);
	assert_true(fakesvc_command(flow, &cmd));
	fakesvc_reply(flow, NULL, 0, FAKESVC_BUF, 0, 0);
	assert_int_equal(events(), EPOLLOUT);
}

static void test_eof_and_reset_as_tcp_poll(void **state)
{
	open_for(EPOLLIN | EPOLLRDHUP);
	fakesvc_reply(flow, NULL, 0, 0, XTS_F_EOF, 0);
	assert_int_equal(events(), EPOLLIN | EPOLLRDHUP);
	xts_shutdown(s, SHUT_WR);
	assert_int_equal(events(), EPOLLIN | EPOLLRDHUP | EPOLLHUP);
	fakesvc_reply(flow, NULL, 0, 0, XTS_F_RESET, ECONNRESET);
	assert_int_equal(events(), EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR);
}

static void test_ctl_errors_as_epoll_ctl(void **state)
{
	void *other = xts_epoll_ctx_create();
	struct epoll_event ev = {.events = EPOLLIN};

	open_for(EPOLLIN);
	assert_int_equal(xts_epoll_ctl(ectx, EPOLL_CTL_ADD, s, &ev), -1);
	assert_int_equal(errno, EEXIST);
	assert_int_equal(xts_epoll_ctl(other, EPOLL_CTL_ADD, s, &ev), -1);
	assert_int_equal(errno, EBUSY);
	assert_int_equal(xts_epoll_ctl(other, EPOLL_CTL_MOD, s, &ev), -1);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(xts_epoll_ctl(ectx, EPOLL_CTL_DEL, s, NULL), 0);
	assert_int_equal(xts_epoll_ctl(ectx, EPOLL_CTL_DEL, s, NULL), -1);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(xts_epoll_ctl(ectx, EPOLL_CTL_ADD, -1, &ev), -1);
	assert_int_equal(errno, EBADF);
	xts_epoll_ctx_destroy(other);
}

static void test_deleted_socket_is_silent(void **state)
{
	open_for(EPOLLIN);
	fakesvc_reply(flow, "abc", 3, 0, 0, 0);
	assert_int_equal(events(), EPOLLIN);
	xts_epoll_ctl(ectx, EPOLL_CTL_DEL, s, NULL);
	assert_int_equal(events(), 0);
}

static void test_maxevents_is_fair(void **state)
{
	struct fakesvc_flow *f[3];
	struct epoll_event ev;
	int x[3], p[3], i, seen = 0;

	for (i = 0; i < 3; i++) {
		x[i] = pair_offloaded(&p[i], ectx, EPOLLIN, &f[i]);
		fakesvc_reply(f[i], "a", 1, 0, 0, 0);
	}
	for (i = 0; i < 3; i++) {
		assert_int_equal(xts_epoll(ectx, &ev, 1), 1);
		seen |= 1 << (ev.data.fd == x[1]   ? 1
			      : ev.data.fd == x[2] ? 2
						   : 0);
	}
	assert_int_equal(seen, 7);
	for (i = 0; i < 3; i++)
		pair_close(x[i], p[i]);
	open_for(EPOLLIN);
}

static void test_fd_is_readable_while_something_is_ready(void **state)
{
	open_for(EPOLLIN);
	while (readable())
		assert_int_equal(events(), 0);
	assert_int_equal(fakesvc_app_sleep(flow) & 1, 1);
	fakesvc_reply(flow, "abc", 3, 0, 0, 0);
	assert_true(readable());
	assert_int_equal(events(), EPOLLIN);
	/* Reported, not read: still readable. */
	assert_true(readable());
	assert_int_equal(events(), EPOLLIN);
	assert_true(readable());
	drain();
	assert_int_equal(events(), 0);
	assert_false(readable());
	/* Armed again. */
	fakesvc_reply(flow, "abc", 3, 0, 0, 0);
	assert_true(readable());
}

static void test_reply_while_awake_keeps_the_fd_readable(void **state)
{
	open_for(EPOLLIN);
	while (readable())
		events();
	fakesvc_reply(flow, "abc", 3, 0, 0, 0);
	assert_int_equal(events(), EPOLLIN);
	assert_int_equal(fakesvc_app_sleep(flow) & 1, 0);
	drain();
	/* No eventfd is written for this one, we are awake. */
	fakesvc_reply(flow, "def", 3, 0, 0, 0);
	assert_true(readable());
	assert_int_equal(events(), EPOLLIN);
}

static void test_kernel_socket_in_the_context(void **state)
{
	struct epoll_event ev = {.events = EPOLLIN};
	struct sockaddr_in in = {.sin_family = AF_INET};
	socklen_t len = sizeof(in);
	int l = xts_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), c;

	open_for(EPOLLIN);
	xts_bind(l, (void *)&in, sizeof(in));
	xts_listen(l, 4);
	xts_getsockname(l, (void *)&in, &len);
	ev.data.u64 = 0xdeadbeef00000001;
	assert_int_equal(xts_epoll_ctl(ectx, EPOLL_CTL_ADD, l, &ev), 0);
	while (readable())
		assert_int_equal(xts_epoll(ectx, &ev, 1), 0);
	c = socket(AF_INET, SOCK_STREAM, 0);
	(void)connect(c, (void *)&in, len);
	assert_true(readable());
	assert_int_equal(xts_epoll(ectx, &ev, 1), 1);
	assert_true(ev.data.u64 == 0xdeadbeef00000001);
	assert_true(readable());
	xts_close(xts_accept(l, NULL, NULL));
	assert_int_equal(xts_epoll(ectx, &ev, 1), 0);
	assert_false(readable());
	close(c);
	xts_close(l);
}

static void test_declined_socket_goes_on_in_the_context(void **state)
{
	struct epoll_event ev = {.events = EPOLLIN};

	fakesvc_set_mode(FAKESVC_DECLINE);
	s = pair_open(&peer);
	ev.data.fd = s;
	assert_int_equal(xts_epoll_ctl(ectx, EPOLL_CTL_ADD, s, &ev), 0);
	send(peer, "x", 1, 0);
	assert_int_equal(xts_epoll_wait(ectx, &ev, 1, 1000), 1);
	assert_int_equal(ev.data.fd, s);
	assert_int_equal(xts_offload_reason(s), XTS_REASON_NOT_OURS);
	assert_int_equal(xts_epoll_ctl(ectx, EPOLL_CTL_DEL, s, NULL), 0);
	assert_int_equal(xts_epoll_wait(ectx, &ev, 1, 10), 0);
}

static void *feed_late(void *arg)
{
	usleep(30000);
	fakesvc_reply(flow, "abc", 3, 0, 0, 0);
	return NULL;
}

static void test_wait_sleeps_until_a_reply(void **state)
{
	struct epoll_event ev;
	pthread_t t;

	open_for(EPOLLIN);
	assert_int_equal(xts_epoll_wait(ectx, &ev, 1, 10), 0);
	pthread_create(&t, NULL, feed_late, NULL);
	assert_int_equal(xts_epoll_wait(ectx, &ev, 1, -1), 1);
	assert_int_equal(ev.data.fd, s);
	pthread_join(t, NULL);
	drain();
	assert_int_equal(xts_epoll_wait(ectx, &ev, 1, 0), 0);
}

static void *stop_service(void *arg)
{
	usleep(30000);
	fakesvc_stop();
	return NULL;
}

static void test_service_death_wakes_a_waiter(void **state)
{
	struct epoll_event ev;
	pthread_t t;

	open_for(EPOLLIN);
	pthread_create(&t, NULL, stop_service, NULL);
	assert_int_equal(xts_epoll_wait(ectx, &ev, 1, 5000), 1);
	assert_true(ev.events & EPOLLERR);
	pthread_join(t, NULL);
	fakesvc_start(FAKESVC_OFFLOAD, 0); /* for the tear-down */
}

static void test_move_keeps_order_and_data(void **state)
{
	void *other = xts_epoll_ctx_create();
	struct epoll_event ev = {.events = EPOLLIN};
	struct xts_cmd cmd;
	uint32_t from;
	char buf[8];

	open_for(EPOLLIN);
	from = fakesvc_ctx(flow);
	fakesvc_reply(flow, "abcd", 4, 0, 0, 0);
	assert_int_equal(xts_recv(s, buf, 2, 0), 2); /* credits not told */
	assert_int_equal(xts_epoll_ctl(ectx, EPOLL_CTL_DEL, s, NULL), 0);
	fakesvc_core_start(); /* takes commands during the move */
	ev.data.fd = s;
	assert_int_equal(xts_epoll_ctl(other, EPOLL_CTL_ADD, s, &ev), 0);
	fakesvc_core_stop();
	assert_int_not_equal(fakesvc_ctx(flow), from);
	assert_int_equal(xts_epoll_wait(other, &ev, 1, 1000), 1);
	assert_int_equal(xts_recv(s, buf, 8, 0), 2);
	assert_memory_equal(buf, "cd", 2);
	fakesvc_reply(flow, "ef", 2, 0, 0, 0);
	assert_int_equal(xts_epoll_wait(other, &ev, 1, 1000), 1);
	assert_int_equal(xts_recv(s, buf, 8, 0), 2);
	assert_int_equal(xts_send(s, "x", 1, 0), 1);
	assert_true(fakesvc_command(flow, &cmd));
	assert_int_equal(cmd.len, 1);
	assert_int_equal(events(), 0);
	pair_close(s, peer);
	xts_epoll_ctx_destroy(other);
	open_for(EPOLLIN);
}

static void test_destroyed_context_leaves_the_socket_usable(void **state)
{
	char buf[4];

	open_for(EPOLLIN);
	assert_int_equal(xts_epoll_ctx_destroy(ectx), 0);
	fakesvc_reply(flow, "abc", 3, 0, 0, 0);
	assert_int_equal(xts_recv(s, buf, 3, 0), 3);
	ectx = xts_epoll_ctx_create();
}

static void test_finding_nothing_yields_to_a_core_on_this_cpu(void **state)
{
	int cpu = on_one_cpu();
	struct epoll_event ev;

	open_for(EPOLLIN);
	fakesvc_set_cpu(flow, cpu + 1);
	yields = 0;
	assert_int_equal(xts_epoll_wait(ectx, &ev, 1, 0), 0);
	assert_int_equal(yields, 0);
	fakesvc_set_cpu(flow, cpu);
	assert_int_equal(xts_epoll_wait(ectx, &ev, 1, 0), 0);
	assert_int_equal(yields, 1);
	fakesvc_reply(flow, "abc", 3, 0, 0, 0);
	assert_int_equal(xts_epoll_wait(ectx, &ev, 1, 0), 1);
	assert_int_equal(yields, 1);
	on_all_cpus();
}

static int control(int op, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.fd = s};

	return xts_epoll_ctl(ectx, op, s, &ev) ? -errno : 0;
}

static void test_exclusive_is_for_registering_and_goes_with_few(void **state)
{
	open_for(EPOLLIN);
	assert_int_equal(control(EPOLL_CTL_MOD, EPOLLIN | EPOLLEXCLUSIVE),
			 -EINVAL);
	assert_int_equal(control(EPOLL_CTL_DEL, 0), 0);
	assert_int_equal(
		control(EPOLL_CTL_ADD, EPOLLIN | EPOLLRDHUP | EPOLLEXCLUSIVE),
		-EINVAL);
	assert_int_equal(control(EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT |
							(uint32_t)EPOLLET |
							EPOLLEXCLUSIVE),
			 0);
	assert_int_equal(control(EPOLL_CTL_MOD, EPOLLIN), -EINVAL);
	assert_int_equal(events(), EPOLLOUT);
}

static void test_the_normal_band_alone(void **state)
{
	open_for(EPOLLRDNORM | EPOLLET);
	assert_int_equal(events(), 0);
	fakesvc_reply(flow, "abc", 3, 0, 0, 0);
	assert_int_equal(events(), EPOLLRDNORM);
	assert_int_equal(events(), 0);
}

static void test_the_peers_fin_wakes_who_waits_for_room(void **state)
{
	open_for(EPOLLOUT | EPOLLET);
	assert_int_equal(events(), EPOLLOUT);
	assert_int_equal(events(), 0);
	fakesvc_reply(flow, "abc", 3, 0, 0, 0);
	assert_int_equal(events(), 0);
	fakesvc_reply(flow, NULL, 0, 0, XTS_F_EOF, 0);
	assert_int_equal(events(), EPOLLOUT);
	assert_int_equal(events(), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_##name, start, stop)
	const struct CMUnitTest tests[] = {
		T(exclusive_is_for_registering_and_goes_with_few),
		T(the_normal_band_alone),
		T(the_peers_fin_wakes_who_waits_for_room),
		T(level_triggered_until_read),
		T(edge_triggered_once_per_arrival),
		T(oneshot_until_modified),
		T(epollout_when_a_third_is_free),
		T(edge_epollout_only_after_the_buffer_was_full),
		T(eof_and_reset_as_tcp_poll),
		T(ctl_errors_as_epoll_ctl),
		T(deleted_socket_is_silent),
		T(maxevents_is_fair),
		T(fd_is_readable_while_something_is_ready),
		T(reply_while_awake_keeps_the_fd_readable),
		T(kernel_socket_in_the_context),
		T(declined_socket_goes_on_in_the_context),
		T(wait_sleeps_until_a_reply),
		T(service_death_wakes_a_waiter),
		T(move_keeps_order_and_data),
		T(destroyed_context_leaves_the_socket_usable),
		T(finding_nothing_yields_to_a_core_on_this_cpu),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
