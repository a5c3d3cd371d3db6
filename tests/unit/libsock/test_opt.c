/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_opt.c - socket options of an offloaded connection, and TCP_INFO
 */
#include "tests/unit/libsock/pair.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static int start(void **state)
{
	fakesvc_start(FAKESVC_OFFLOAD, 0);
	return 0;
}

static int stop(void **state)
{
	fakesvc_stop();
	return 0;
}

static void expect_setopt(struct fakesvc_flow *f, uint32_t option, uint64_t v)
{
	struct xts_cmd cmd;

	assert_true(fakesvc_command(f, &cmd));
	assert_int_equal(cmd.type, XTS_CMD_SETOPT);
	assert_int_equal(cmd.off, option);
	assert_int_equal(cmd.flow, f->index);
	assert_int_equal((uint64_t)cmd.credits << 32 | cmd.len, v);
}

static void set(int s, int level, int name, int v)
{
	assert_int_equal(xts_setsockopt(s, level, name, &v, sizeof(v)), 0);
}

static void test_options_reach_the_fast_path_and_linux(void **state)
{
	uint64_t rate = UINT64_C(6000000000);
	struct fakesvc_flow *f;
	struct xts_cmd cmd;
	int peer, s = pair_offloaded(&peer, NULL, 0, &f), v = 0;
	socklen_t len = sizeof(v);
	char name[16];

	set(s, IPPROTO_TCP, TCP_NODELAY, 1);
	expect_setopt(f, XTS_OPT_NODELAY, 1);
	set(s, IPPROTO_TCP, TCP_NODELAY, 0);
	expect_setopt(f, XTS_OPT_NODELAY, 0);
	set(s, IPPROTO_TCP, TCP_CORK, 1);
	expect_setopt(f, XTS_OPT_CORK, 1);
	set(s, IPPROTO_TCP, TCP_USER_TIMEOUT, 30000);
	expect_setopt(f, XTS_OPT_USER_TIMEOUT, 30000);
	assert_int_equal(
		xts_getsockopt(s, IPPROTO_TCP, TCP_USER_TIMEOUT, &v, &len), 0);
	assert_int_equal(v, 30000);
	set(s, SOL_SOCKET, SO_MAX_PACING_RATE, 1000000);
	expect_setopt(f, XTS_OPT_MAX_PACING_RATE, 1000000);
	assert_int_equal(xts_setsockopt(s, SOL_SOCKET, SO_MAX_PACING_RATE,
					&rate, sizeof(rate)),
			 0);
	expect_setopt(f, XTS_OPT_MAX_PACING_RATE, rate);
	rate = UINT64_MAX;
	xts_setsockopt(s, SOL_SOCKET, SO_MAX_PACING_RATE, &rate, sizeof(rate));
	expect_setopt(f, XTS_OPT_MAX_PACING_RATE, 0);
	assert_int_equal(
		xts_setsockopt(s, IPPROTO_TCP, TCP_CONGESTION, "reno", 4), 0);
	assert_true(fakesvc_command(f, &cmd));
	assert_int_equal(cmd.off, XTS_OPT_CONGESTION);
	assert_string_equal(cmd.name, "reno");
	len = sizeof(name);
	assert_int_equal(
		xts_getsockopt(s, IPPROTO_TCP, TCP_CONGESTION, name, &len), 0);
	assert_string_equal(name, "reno");
	/* What Linux refuses the fast path does not hear of. */
	assert_int_equal(
		xts_setsockopt(s, IPPROTO_TCP, TCP_CONGESTION, "no-such", 7),
		-1);
	v = -1;
	assert_int_equal(
		xts_setsockopt(s, IPPROTO_TCP, TCP_USER_TIMEOUT, &v, sizeof(v)),
		-1);
	assert_int_equal(errno, EINVAL);
	assert_true(fakesvc_no_command(f));
	pair_close(s, peer);
}

static void test_msg_more_is_told_with_the_data(void **state)
{
	struct fakesvc_flow *f;
	struct xts_cmd cmd;
	int peer, s = pair_offloaded(&peer, NULL, 0, &f);

	assert_int_equal(xts_send(s, "head", 4, MSG_MORE), 4);
	assert_true(fakesvc_command(f, &cmd));
	assert_int_equal(cmd.len, 4);
	assert_true(cmd.flags & XTS_F_MORE);
	assert_int_equal(xts_send(s, "body", 4, 0), 4);
	assert_true(fakesvc_command(f, &cmd));
	assert_int_equal(cmd.len, 4);
	assert_false(cmd.flags & XTS_F_MORE);
	pair_close(s, peer);
}

/* ---- TCP_INFO -------------------------------------------------------------
 */

struct question {
	int s;
	uint8_t buf[512];
	socklen_t len;
	int ret;
};

static void *ask(void *arg)
{
	struct question *q = arg;

	q->ret = xts_getsockopt(q->s, IPPROTO_TCP, TCP_INFO, q->buf, &q->len);
	return NULL;
}

static uint32_t u32_at(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static uint64_t u64_at(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static const struct xts_info numbers = {
	.bytes_acked = UINT64_C(5000000001),
	.bytes_received = UINT64_C(5000000002),
	.bytes_sent = UINT64_C(5000000003),
	.bytes_retrans = UINT64_C(5000000004),
	.delivery_rate = UINT64_C(5000000005),
	.pacing_rate = UINT64_C(5000000006),
	.rtt = 4711,
	.rttvar = 12,
	.min_rtt = 1,
	.snd_cwnd = 77,
	.snd_ssthresh = 66,
	.snd_mss = 1111,
	.rcv_mss = 1000000,
	.rcv_rtt = 99,
	.total_retrans = 9,
	.notsent_bytes = 8,
	.lost = 7,
	.unacked = 6,
	.retransmits = 300,
};

static _Atomic int answered; /* questions */

/* An answer may come too late, when the machine is busy. */
static void *ask_until_answered(void *arg)
{
	struct question *q = arg;
	int tries;

	for (tries = 0; tries < 1000; tries++) {
		q->len = sizeof(q->buf);
		ask(q);
		if (q->ret || u64_at(q->buf + 120) == numbers.bytes_acked)
			break;
	}
	answered++;
	return NULL;
}

/* The service answers until @n are. */
static void answer(struct fakesvc_flow *f, int n)
{
	struct xts_cmd cmd;

	while (answered < n) {
		if (fakesvc_no_command(f) || !fakesvc_command(f, &cmd))
			continue;
		if (cmd.type != XTS_CMD_INFO)
			continue;
		assert_int_equal(cmd.flow, f->index);
		fakesvc_info(f, &numbers);
	}
}

static void test_tcp_info_is_the_fast_paths(void **state)
{
	struct question q = {.len = sizeof(q.buf)};
	struct tcp_info *i = (void *)q.buf;
	struct fakesvc_flow *f;
	pthread_t thread;
	int peer;

	q.s = pair_offloaded(&peer, NULL, 0, &f);
	answered = 0;
	pthread_create(&thread, NULL, ask_until_answered, &q);
	answer(f, 1);
	pthread_join(thread, NULL);
	assert_int_equal(q.ret, 0);
	assert_true(q.len >= 232);
	assert_int_equal(i->tcpi_state, TCP_ESTABLISHED);
	assert_int_equal(i->tcpi_rtt, 4711);
	assert_int_equal(i->tcpi_snd_cwnd, 77);
	assert_int_equal(i->tcpi_snd_ssthresh, 66);
	assert_int_equal(i->tcpi_snd_mss, 1111);
	assert_int_equal(i->tcpi_rcv_mss, i->tcpi_advmss);
	assert_int_equal(i->tcpi_rcv_rtt, 99);
	assert_int_equal(i->tcpi_total_retrans, 9);
	assert_int_equal(i->tcpi_retransmits, 255);
	assert_int_equal(i->tcpi_unacked, 6);
	assert_int_equal(i->tcpi_lost, 7);
	assert_true(i->tcpi_snd_wscale > 0); /* the shadow's */
	assert_int_equal(u64_at(q.buf + 104), numbers.pacing_rate);
	assert_int_equal(u64_at(q.buf + 120), numbers.bytes_acked);
	assert_int_equal(u64_at(q.buf + 128), numbers.bytes_received);
	assert_int_equal(u32_at(q.buf + 144), 8);
	assert_int_equal(u32_at(q.buf + 148), 1);
	assert_int_equal(u64_at(q.buf + 160), numbers.delivery_rate);
	assert_int_equal(u64_at(q.buf + 200), numbers.bytes_sent);
	assert_int_equal(u64_at(q.buf + 208), numbers.bytes_retrans);
	pair_close(q.s, peer);
}

static void test_a_short_buffer_gets_its_part(void **state)
{
	struct question q = {.len = sizeof(struct tcp_info)};
	struct fakesvc_flow *f;
	int peer;

	q.s = pair_offloaded(&peer, NULL, 0, &f);
	memset(q.buf, 0xee, sizeof(q.buf));
	ask(&q); /* no answer: the shadow's */
	assert_int_equal(q.ret, 0);
	assert_int_equal(q.len, sizeof(struct tcp_info));
	assert_int_equal(q.buf[q.len], 0xee);
	assert_int_equal(((struct tcp_info *)(void *)q.buf)->tcpi_state,
			 TCP_ESTABLISHED);
	/* An answer that comes too late is nobody's. */
	fakesvc_info(f, &numbers);
	xts_offload_reason(q.s);
	pair_close(q.s, peer);
}

static void test_threads_may_ask_at_once(void **state)
{
	struct question q[4] = {0};
	struct fakesvc_flow *f;
	pthread_t thread[4];
	int peer, s, i;

	s = pair_offloaded(&peer, NULL, 0, &f);
	answered = 0;
	for (i = 0; i < 4; i++) {
		q[i].s = s;
		pthread_create(&thread[i], NULL, ask_until_answered, &q[i]);
	}
	answer(f, 4);
	for (i = 0; i < 4; i++) {
		pthread_join(thread[i], NULL);
		assert_int_equal(q[i].ret, 0);
		assert_int_equal(u64_at(q[i].buf + 120), numbers.bytes_acked);
	}
	pair_close(s, peer);
}

static void test_a_lower_mark_wakes_those_who_wait(void **state)
{
	void *ectx = xts_epoll_ctx_create();
	struct epoll_event ev;
	struct fakesvc_flow *f;
	int peer, s = pair_offloaded(&peer, ectx, EPOLLIN | EPOLLET, &f);

	set(s, SOL_SOCKET, SO_RCVLOWAT, 100);
	fakesvc_reply(f, "abc", 3, 0, 0, 0);
	assert_int_equal(xts_epoll(ectx, &ev, 1), 0);
	set(s, SOL_SOCKET, SO_RCVLOWAT, 4);
	assert_int_equal(xts_epoll(ectx, &ev, 1), 0);
	set(s, SOL_SOCKET, SO_RCVLOWAT, 3);
	assert_int_equal(xts_epoll(ectx, &ev, 1), 1);
	assert_int_equal(ev.events, EPOLLIN);
	set(s, SOL_SOCKET, SO_RCVLOWAT, -1);
	assert_int_equal(xts_epoll(ectx, &ev, 1), 0);
	pair_close(s, peer);
	xts_epoll_ctx_destroy(ectx);
}

static void test_so_error_checks_its_arguments_first(void **state)
{
	struct fakesvc_flow *f;
	int peer, s = pair_offloaded(&peer, NULL, 0, &f), err = 0;
	void *nowhere = (void *)16;
	socklen_t len = 4;

	fakesvc_reply(f, NULL, 0, 0, XTS_F_RESET, ECONNRESET);
	assert_int_equal(xts_getsockopt(s, SOL_SOCKET, SO_ERROR, nowhere, &len),
			 -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(xts_getsockopt(s, SOL_SOCKET, SO_ERROR, &err, nowhere),
			 -1);
	assert_int_equal(errno, EFAULT);
	len = (socklen_t)-1;
	assert_int_equal(xts_getsockopt(s, SOL_SOCKET, SO_ERROR, &err, &len),
			 -1);
	assert_int_equal(errno, EINVAL);
	len = 100;
	assert_int_equal(xts_getsockopt(s, SOL_SOCKET, SO_ERROR, &err, &len),
			 0);
	assert_int_equal(len, sizeof(err));
	assert_int_equal(err, ECONNRESET);
	pair_close(s, peer);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_##name, start, stop)
	const struct CMUnitTest tests[] = {
		T(a_lower_mark_wakes_those_who_wait),
		T(so_error_checks_its_arguments_first),
		T(options_reach_the_fast_path_and_linux),
		T(msg_more_is_told_with_the_data),
		T(tcp_info_is_the_fast_paths),
		T(a_short_buffer_gets_its_part),
		T(threads_may_ask_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
