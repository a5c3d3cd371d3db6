/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_urgent.c - urgent data on offloaded sockets
 *
 * The test plays the core; each case checks one rule of tcp(7), recv(2),
 * sockatmark(3) or of Linux's tcp_recvmsg(), tcp_recv_urg(), tcp_poll().
 */
#include "tests/unit/libsock/pair.h"

#include <errno.h>
#include <linux/sockios.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmocka.h>

static struct fakesvc_flow *flow;
static int s, peer;

static int open_pair(uint32_t welcome_flags)
{
	fakesvc_start(FAKESVC_OFFLOAD, welcome_flags);
	s = pair_offloaded(&peer, NULL, 0, &flow);
	return 0;
}

static int start(void **state)
{
	return open_pair(0);
}

static int start_keeping(void **state)
{
	return open_pair(XTS_F_KEEPS);
}

static int stop(void **state)
{
	pair_close(s, peer);
	fakesvc_stop();
	return 0;
}

static void inline_on(void)
{
	int on = 1;

	assert_int_equal(
		xts_setsockopt(s, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on)),
		0);
}

/* All of @data; @at is the urgent byte. As the core: pointer, then data. */
static void give(const char *data, uint32_t at)
{
	fakesvc_urgent(flow, XTS_F_URGENT, at, data[at]);
	fakesvc_reply(flow, data, (uint32_t)strlen(data), 0, 0, 0);
}

static void assert_recv(const char *want, int flags)
{
	char buf[64] = "";
	ssize_t n = xts_recv(s, buf, sizeof(buf), flags | MSG_DONTWAIT);

	assert_int_equal(n, (ssize_t)strlen(want));
	assert_memory_equal(buf, want, strlen(want));
}

static void assert_fails(int err, int flags)
{
	char c;

	assert_int_equal(xts_recv(s, &c, 1, flags | MSG_DONTWAIT), -1);
	assert_int_equal(errno, err);
}

static int asked(unsigned long request)
{
	int n = -1;

	assert_int_equal(xts_ioctl(s, request, &n), 0);
	return n;
}

static void test_a_read_ends_before_the_byte_the_next_leaves_it_out(void **st)
{
	give("abXcd", 2);
	assert_recv("ab", 0);
	assert_recv("cd", 0);
	assert_fails(EAGAIN, 0);
}

static void test_oob_takes_the_byte_once(void **state)
{
	give("abXcd", 2);
	assert_recv("X", MSG_OOB | MSG_PEEK);
	assert_recv("X", MSG_OOB);
	assert_fails(EINVAL, MSG_OOB);
	assert_recv("ab", 0);
	assert_recv("cd", 0);
}

static void test_oob_without_a_byte_is_einval(void **state)
{
	assert_fails(EINVAL, MSG_OOB);
	give("abXcd", 2);
	assert_recv("ab", 0);
	assert_recv("cd", 0); /* past it */
	assert_fails(EINVAL, MSG_OOB);
}

static void test_oob_before_the_byte_came_is_eagain(void **state)
{
	char c;

	fakesvc_urgent(flow, XTS_F_URGENT, 3, -1);
	assert_int_equal(xts_recv(s, &c, 1, MSG_OOB), -1); /* never blocks */
	assert_int_equal(errno, EAGAIN);
	fakesvc_urgent(flow, 0, 3, 'X');
	assert_recv("X", MSG_OOB);
}

static void test_oob_after_the_end_is_0(void **state)
{
	fakesvc_urgent(flow, XTS_F_URGENT, 3, -1);
	fakesvc_reply(flow, NULL, 0, 0, XTS_F_EOF, 0);
	assert_recv("", MSG_OOB);
}

static void test_oob_after_a_reset_is_enotconn(void **state)
{
	give("abX", 2);
	fakesvc_reply(flow, NULL, 0, 0, XTS_F_RESET, ECONNRESET);
	assert_fails(ENOTCONN, MSG_OOB);
	assert_recv("ab", 0);
}

static void test_oob_says_so_in_msg_flags(void **state)
{
	char c[2] = "..";
	struct iovec iov[2] = {{NULL, 0}, {c, 2}};
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};

	give("X", 0);
	assert_int_equal(xts_recvmsg(s, &m, MSG_OOB | MSG_PEEK), 1);
	assert_int_equal(m.msg_flags, MSG_OOB);
	assert_memory_equal(c, "X.", 2);
	c[0] = '.';
	assert_int_equal(xts_recvmsg(s, &m, MSG_OOB | MSG_PEEK | MSG_TRUNC), 1);
	assert_memory_equal(c, "..", 2);
	m.msg_iovlen = 1;
	assert_int_equal(xts_recvmsg(s, &m, MSG_OOB), 0);
	assert_int_equal(m.msg_flags, MSG_OOB | MSG_TRUNC);
	assert_fails(EINVAL, MSG_OOB);
}

static void test_inline_the_byte_is_read_in_its_place(void **state)
{
	inline_on();
	give("abXcd", 2);
	assert_fails(EINVAL, MSG_OOB);
	assert_recv("ab", 0);
	assert_recv("Xcd", 0);
}

static void test_mark_is_where_all_before_it_is_read(void **state)
{
	assert_int_equal(asked(SIOCATMARK), 0);
	give("abXcd", 2);
	assert_int_equal(asked(SIOCATMARK), 0);
	assert_recv("ab", 0);
	assert_int_equal(asked(SIOCATMARK), 1);
	assert_recv("X", MSG_OOB);
	assert_int_equal(asked(SIOCATMARK), 1);
	assert_recv("cd", 0);
	assert_int_equal(asked(SIOCATMARK), 0);
}

static void test_the_end_passes_a_byte_that_never_came(void **state)
{
	fakesvc_urgent(flow, XTS_F_URGENT, 2, -1);
	fakesvc_reply(flow, "ab", 2, 0, 0, 0);
	assert_recv("ab", 0);
	assert_int_equal(asked(SIOCATMARK), 1);
	fakesvc_reply(flow, NULL, 0, 0, XTS_F_EOF, 0);
	assert_recv("", 0);
	assert_int_equal(asked(SIOCATMARK), 0);
}

static void test_fionread_counts_to_the_byte(void **state)
{
	give("abXcd", 2);
	assert_int_equal(asked(FIONREAD), 2);
	assert_recv("ab", 0);
	assert_int_equal(asked(FIONREAD), 0);
	inline_on();
	assert_int_equal(asked(FIONREAD), 3);
}

static void test_fionread_counts_all_before_an_announced_byte(void **state)
{
	fakesvc_urgent(flow, XTS_F_URGENT, 9, -1);
	fakesvc_reply(flow, "abc", 3, 0, 0, 0);
	assert_int_equal(asked(FIONREAD), 3);
}

static void test_the_byte_alone_is_nothing_to_read(void **state)
{
	give("X", 0);
	assert_fails(EAGAIN, 0);
	assert_int_equal(asked(SIOCATMARK), 0); /* looked past, as Linux */
	fakesvc_reply(flow, "ab", 2, 0, 0, 0);
	assert_recv("ab", 0);
}

static void test_a_short_read_stops_short(void **state)
{
	char c[2];

	give("abXcd", 2);
	assert_int_equal(xts_recv(s, c, 1, 0), 1);
	assert_recv("b", 0);
	assert_int_equal(xts_recv(s, c, 1, 0), 1);
	assert_int_equal(c[0], 'c');
	assert_recv("d", 0);
}

static void test_waitall_ends_at_the_byte(void **state)
{
	char buf[8];

	give("abXcd", 2);
	assert_int_equal(xts_recv(s, buf, 4, MSG_WAITALL | MSG_PEEK), 2);
	assert_int_equal(xts_recv(s, buf, 4, MSG_WAITALL), 2);
	assert_int_equal(xts_recv(s, buf, 2, MSG_WAITALL | MSG_PEEK), 2);
	assert_memory_equal(buf, "cd", 2);
	assert_int_equal(xts_recv(s, buf, 2, MSG_WAITALL), 2);
	assert_memory_equal(buf, "cd", 2);
}

static void test_peek_leaves_the_mark(void **state)
{
	give("abXcd", 2);
	assert_recv("ab", MSG_PEEK);
	assert_recv("ab", 0);
	assert_recv("cd", MSG_PEEK);
	assert_int_equal(asked(SIOCATMARK), 1);
	assert_recv("cd", 0);
}

static void test_the_byte_wraps_round(void **state)
{
	static char buf[FAKESVC_BUF];
	struct xts_cmd cmd;

	/* Its place is the buffer's first. */
	fakesvc_reply(flow, buf, FAKESVC_BUF - 1, 0, 0, 0);
	assert_int_equal(xts_recv(s, buf, FAKESVC_BUF - 2, 0), FAKESVC_BUF - 2);
	assert_true(fakesvc_command(flow, &cmd)); /* the credits */
	give("bXcd", 1);
	assert_int_equal(asked(FIONREAD), 2);
	assert_int_equal(xts_recv(s, buf, sizeof(buf), 0), 2);
	assert_int_equal(asked(SIOCATMARK), 1);
	assert_recv("cd", 0);
}

static void test_credits_count_the_byte(void **state)
{
	struct xts_cmd cmd;

	give("abXcd", 2);
	assert_recv("ab", 0);
	assert_recv("cd", 0);
	assert_int_equal(xts_send(s, "x", 1, 0), 1);
	assert_true(fakesvc_command(flow, &cmd));
	assert_int_equal(cmd.credits, 5);
}

static void test_a_passed_byte_becomes_data_when_another_is_named(void **st)
{
	give("abXcd", 2);
	fakesvc_urgent(flow, XTS_F_URGENT, 1, 'Y');
	fakesvc_reply(flow, "eYf", 3, 0, 0, 0);
	assert_recv("abXcde", 0);
	assert_recv("Y", MSG_OOB);
	assert_recv("f", 0);
}

/* Linux's special case: who stands right before the byte does not get it. */
static void test_standing_at_the_byte_it_vanishes_with_the_next(void **state)
{
	give("abX", 2);
	assert_recv("ab", 0);
	give("cYd", 1);
	assert_recv("c", 0);
	assert_recv("d", 0);
}

/* The same with the first byte announced only. */
static void test_standing_at_no_byte_none_vanishes(void **state)
{
	fakesvc_urgent(flow, XTS_F_URGENT, 0, -1);
	assert_int_equal(asked(SIOCATMARK), 1);
	fakesvc_urgent(flow, XTS_F_URGENT, 2, -1);
	fakesvc_reply(flow, "ab", 2, 0, 0, 0);
	assert_recv("ab", 0);
	assert_int_equal(asked(SIOCATMARK), 1);
}

static void test_inline_nothing_vanishes(void **state)
{
	inline_on();
	give("abX", 2);
	assert_recv("ab", 0);
	give("cYd", 1);
	assert_recv("Xc", 0);
	assert_recv("Yd", 0);
}

static void test_a_reply_about_what_was_read_is_ignored(void **state)
{
	fakesvc_reply(flow, "abcd", 4, 0, 0, 0);
	assert_recv("abcd", 0);
	fakesvc_urgent(flow, XTS_F_URGENT, -2u, 'c');
	assert_fails(EINVAL, MSG_OOB);
	assert_int_equal(xts_offload_reason(s), 0);
}

static void *feed(void *arg)
{
	usleep(20000);
	give("Xab", 0);
	return NULL;
}

static void test_a_blocked_read_waits_for_what_is_behind_it(void **state)
{
	pthread_t t;
	char buf[8];

	pthread_create(&t, NULL, feed, NULL);
	assert_int_equal(xts_recv(s, buf, sizeof(buf), 0), 2);
	assert_memory_equal(buf, "ab", 2);
	pthread_join(t, NULL);
}

/* ---- events ------------------------------------------------------------- */

static void *ectx;

static int start_polling(void **state)
{
	fakesvc_start(FAKESVC_OFFLOAD, 0);
	ectx = xts_epoll_ctx_create();
	s = pair_offloaded(&peer, ectx, EPOLLPRI | EPOLLIN, &flow);
	return 0;
}

static int stop_polling(void **state)
{
	pair_close(s, peer);
	xts_epoll_ctx_destroy(ectx);
	fakesvc_stop();
	return 0;
}

static uint32_t events(void)
{
	struct epoll_event ev = {0};

	return xts_epoll_wait(ectx, &ev, 1, 0) == 1 ? ev.events : 0;
}

static void test_pri_while_the_byte_waits(void **state)
{
	assert_int_equal(events(), 0);
	fakesvc_urgent(flow, XTS_F_URGENT, 1, -1);
	assert_int_equal(events(), 0);
	fakesvc_urgent(flow, 0, 1, 'X');
	assert_int_equal(events(), EPOLLPRI);
	assert_int_equal(events(), EPOLLPRI);
	assert_recv("X", MSG_OOB);
	assert_int_equal(events(), 0);
}

static void test_pri_ends_behind_the_byte(void **state)
{
	inline_on();
	give("aXb", 1);
	assert_int_equal(events(), EPOLLPRI | EPOLLIN);
	assert_recv("a", 0);
	assert_int_equal(events(), EPOLLPRI | EPOLLIN);
	assert_recv("Xb", 0);
	assert_int_equal(events(), 0);
}

static void test_the_byte_alone_is_not_readable(void **state)
{
	give("aX", 1);
	assert_int_equal(events(), EPOLLPRI | EPOLLIN);
	assert_recv("a", 0);
	assert_int_equal(events(), EPOLLPRI);
	fakesvc_reply(flow, "b", 1, 0, 0, 0);
	assert_int_equal(events(), EPOLLPRI | EPOLLIN);
	assert_recv("b", 0);
	assert_int_equal(events(), 0);
}

/* ---- sending ------------------------------------------------------------ */

static void test_the_last_byte_sent_is_urgent(void **state)
{
	struct xts_cmd cmd;

	assert_int_equal(xts_send(s, "abc", 3, MSG_OOB), 3);
	assert_true(fakesvc_command(flow, &cmd));
	assert_int_equal(cmd.flags, XTS_F_URGENT);
	assert_int_equal(cmd.len, 3);
	assert_int_equal(xts_send(s, "d", 1, 0), 1);
	assert_true(fakesvc_command(flow, &cmd));
	assert_int_equal(cmd.flags, 0);
	assert_int_equal(xts_send(s, "", 0, MSG_OOB), 0);
	assert_true(fakesvc_no_command(flow));
}

static void test_of_a_partial_send_the_last_byte_taken_is_urgent(void **state)
{
	static char buf[2 * FAKESVC_BUF];
	struct xts_cmd cmd;

	assert_int_equal(xts_send(s, buf, sizeof(buf), MSG_OOB | MSG_DONTWAIT),
			 FAKESVC_BUF);
	assert_true(fakesvc_command(flow, &cmd));
	assert_int_equal(cmd.len, FAKESVC_BUF);
	assert_int_equal(cmd.flags, XTS_F_URGENT);
}

static void test_a_send_that_wraps_is_urgent_at_its_end(void **state)
{
	static char buf[FAKESVC_BUF];
	struct xts_cmd cmd;

	assert_int_equal(xts_send(s, buf, 3000, 0), 3000);
	assert_true(fakesvc_command(flow, &cmd));
	fakesvc_reply(flow, NULL, 0, 2000, 0, 0);
	assert_fails(EAGAIN, 0);
	assert_int_equal(xts_send(s, buf, 2000, MSG_OOB), 2000);
	assert_true(fakesvc_command(flow, &cmd));
	assert_int_equal(cmd.flags, 0);
	assert_true(fakesvc_command(flow, &cmd));
	assert_int_equal(cmd.flags, XTS_F_URGENT);
	assert_int_equal(cmd.len, 2000 - (FAKESVC_BUF - 3000));
}

/* The ring is full: data gather behind the urgent byte. */
static void test_what_gathers_is_parted_behind_the_urgent_byte(void **state)
{
	struct xts_cmd cmd;
	uint32_t i;

	for (i = 0; i < XTS_RING_SLOTS; i++)
		assert_int_equal(xts_send(s, "a", 1, MSG_DONTWAIT), 1);
	assert_int_equal(xts_send(s, "bc", 2, MSG_DONTWAIT), 2);
	assert_int_equal(xts_send(s, "def", 3, MSG_DONTWAIT | MSG_OOB), 3);
	assert_int_equal(xts_send(s, "g", 1, MSG_DONTWAIT | MSG_MORE), 1);
	for (i = 0; i < XTS_RING_SLOTS; i++)
		assert_true(fakesvc_command(flow, &cmd));
	assert_fails(EAGAIN, 0);
	assert_int_equal(xts_send(s, "h", 1, MSG_DONTWAIT), 1);
	assert_true(fakesvc_command(flow, &cmd));
	assert_int_equal(cmd.flags, XTS_F_URGENT);
	assert_int_equal(cmd.len, 5);
	assert_true(fakesvc_command(flow, &cmd));
	assert_int_equal(cmd.flags, 0);
	assert_int_equal(cmd.len, 2);
}

/* ---- before the offload ------------------------------------------------- */

static int start_declined(void **state)
{
	char c;

	fakesvc_start(FAKESVC_DECLINE, 0);
	fakesvc_set_reason(XTS_REASON_URGENT);
	s = pair_open(&peer);
	xts_recv(s, &c, 1, MSG_DONTWAIT);
	assert_non_null(fakesvc_flow(0));
	while (xts_offload_reason(s) != XTS_REASON_URGENT)
		usleep(1000);
	return 0;
}

static void test_urgent_data_in_the_kernel_are_a_reason_that_passes(void **st)
{
	char c;

	usleep(30000);
	xts_recv(s, &c, 1, MSG_DONTWAIT);
	assert_non_null(fakesvc_flow(1));
}

/* What the peer has not read is acknowledged all the same; a full window is
 * not. */
static void test_no_offload_while_linux_sends_urgent_data(void **state)
{
	static char buf[1 << 20];
	ssize_t n;
	char c;

	while (xts_send(s, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		;
	assert_int_equal(fakesvc_flows(), 1);
	n = read(peer, buf, 4096);
	assert_true(n > 0);
	while (xts_send(s, "X", 1, MSG_DONTWAIT | MSG_OOB) < 0)
		assert_true(read(peer, buf, sizeof(buf)) > 0);
	usleep(30000);
	n = (ssize_t)fakesvc_flows();
	xts_recv(s, &c, 1, MSG_DONTWAIT);
	xts_recv(s, &c, 1, MSG_DONTWAIT);
	assert_int_equal(fakesvc_flows(), n);
	assert_int_equal(xts_offload_reason(s), XTS_REASON_URGENT);
	while (recv(peer, buf, sizeof(buf), 0) == sizeof(buf) ||
	       asked(SIOCOUTQ))
		;
	usleep(30000);
	xts_recv(s, &c, 1, MSG_DONTWAIT);
	assert_non_null(fakesvc_flow((unsigned int)n));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_##name, start, stop)
#define P(name)                                                                \
	cmocka_unit_test_setup_teardown(test_##name, start_polling,            \
					stop_polling)
#define D(name)                                                                \
	cmocka_unit_test_setup_teardown(test_##name, start_declined, stop)
	const struct CMUnitTest tests[] = {
		T(a_read_ends_before_the_byte_the_next_leaves_it_out),
		T(oob_takes_the_byte_once),
		T(oob_without_a_byte_is_einval),
		T(oob_before_the_byte_came_is_eagain),
		T(oob_after_the_end_is_0),
		cmocka_unit_test_setup_teardown(
			test_oob_after_a_reset_is_enotconn, start_keeping,
			stop),
		T(oob_says_so_in_msg_flags),
		T(inline_the_byte_is_read_in_its_place),
		T(mark_is_where_all_before_it_is_read),
		T(the_end_passes_a_byte_that_never_came),
		T(fionread_counts_to_the_byte),
		T(fionread_counts_all_before_an_announced_byte),
		T(the_byte_alone_is_nothing_to_read),
		T(a_short_read_stops_short),
		T(waitall_ends_at_the_byte),
		T(peek_leaves_the_mark),
		T(the_byte_wraps_round),
		T(credits_count_the_byte),
		T(a_passed_byte_becomes_data_when_another_is_named),
		T(standing_at_the_byte_it_vanishes_with_the_next),
		T(standing_at_no_byte_none_vanishes),
		T(inline_nothing_vanishes),
		T(a_reply_about_what_was_read_is_ignored),
		T(a_blocked_read_waits_for_what_is_behind_it),
		P(pri_while_the_byte_waits),
		P(pri_ends_behind_the_byte),
		P(the_byte_alone_is_not_readable),
		T(the_last_byte_sent_is_urgent),
		T(of_a_partial_send_the_last_byte_taken_is_urgent),
		T(a_send_that_wraps_is_urgent_at_its_end),
		T(what_gathers_is_parted_behind_the_urgent_byte),
		D(urgent_data_in_the_kernel_are_a_reason_that_passes),
		D(no_offload_while_linux_sends_urgent_data),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
