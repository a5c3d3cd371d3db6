/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_data.c - sending and receiving on offloaded sockets
 *
 * The test plays the core, command by command; each case checks one rule of
 * send(2), recv(2), tcp(7) or xts_proto.h.
 */
#include "tests/unit/libsock/pair.h"
#include "tests/unit/libsock/yields.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static struct fakesvc_flow *flow;
static int s, peer;
static atomic_int signals;

static void on_signal(int sig)
{
	signals++;
}

static int open_pair(uint32_t welcome_flags)
{
	struct sigaction sa = {.sa_handler = on_signal};

	sigaction(SIGPIPE, &sa, NULL);
	sigaction(SIGUSR1, &sa, NULL);
	signals = 0;
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

static void assert_recv(const char *want, int flags)
{
	char buf[64];
	ssize_t n = xts_recv(s, buf, sizeof(buf), flags);

	assert_int_equal(n, (ssize_t)strlen(want));
	assert_memory_equal(buf, want, strlen(want));
}

static void assert_recv_fails(int err)
{
	char c;

	assert_int_equal(xts_recv(s, &c, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, err);
}

static void test_send_is_one_command_that_carries_credits(void **state)
{
	struct xts_cmd cmd;

	fakesvc_reply(flow, "request", 7, 0, 0, 0);
	assert_recv("request", 0);
	assert_true(fakesvc_no_command(flow));
	assert_int_equal(xts_send(s, "answer", 6, 0), 6);
	assert_true(fakesvc_command(flow, &cmd));
	assert_int_equal(cmd.credits, 7);
	assert_int_equal(cmd.len, 6);
	assert_int_equal(cmd.off, 0);
	assert_memory_equal(fakesvc_tx(flow, 0), "answer", 6);
	assert_true(fakesvc_no_command(flow));
}

static void test_everything_acknowledged_restarts_at_zero(void **state)
{
	struct xts_cmd cmd;
	int i;

	for (i = 0; i < 3; i++) {
		assert_int_equal(xts_send(s, "abc", 3, 0), 3);
		assert_true(fakesvc_command(flow, &cmd));
		assert_int_equal(cmd.off, 0);
		fakesvc_reply(flow, "x", 1, 3, 0, 0);
		assert_recv("x", 0);
	}
}

static void test_send_wraps_as_two_commands(void **state)
{
	static char buf[FAKESVC_BUF];
	struct xts_cmd cmd;

	memset(buf, 'a', sizeof(buf));
	assert_int_equal(xts_send(s, buf, 3000, 0), 3000);
	assert_true(fakesvc_command(flow, &cmd));
	fakesvc_reply(flow, NULL, 0, 2000, 0, 0);
	memset(buf, 'b', sizeof(buf));
	assert_recv_fails(EAGAIN);
	assert_int_equal(xts_send(s, buf, 2000, 0), 2000);
	assert_true(fakesvc_command(flow, &cmd));
	assert_int_equal(cmd.off, 3000);
	assert_int_equal(cmd.len, FAKESVC_BUF - 3000);
	assert_true(fakesvc_command(flow, &cmd));
	assert_int_equal(cmd.off, 0);
	assert_int_equal(cmd.len, 2000 - (FAKESVC_BUF - 3000));
	assert_int_equal(*fakesvc_tx(flow, cmd.len - 1), 'b');
	assert_int_equal(*fakesvc_tx(flow, cmd.len), 'a');
}

static void test_full_buffer_is_eagain(void **state)
{
	static char buf[2 * FAKESVC_BUF];
	int queued;

	assert_int_equal(xts_send(s, buf, sizeof(buf), MSG_DONTWAIT),
			 FAKESVC_BUF);
	assert_int_equal(xts_send(s, buf, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(xts_ioctl(s, SIOCOUTQ, &queued), 0);
	assert_int_equal(queued, FAKESVC_BUF);
}

/* The core: the peer had acknowledged all but one byte. */
static void *answer_credits(void *arg)
{
	struct xts_cmd cmd;

	assert_true(fakesvc_command(flow, &cmd)); /* the data */
	assert_int_equal(cmd.flags, 0);
	assert_true(fakesvc_command(flow, &cmd));
	assert_int_equal(cmd.flags, XTS_F_CREDITS);
	assert_int_equal(cmd.len, 0);
	fakesvc_reply(flow, NULL, 0, 99, XTS_F_CREDITS, 0);
	return NULL;
}

static void test_outq_asks_what_is_acknowledged(void **state)
{
	static char buf[100];
	pthread_t core;
	int outq = -1;

	assert_int_equal(xts_send(s, buf, sizeof(buf), 0), sizeof(buf));
	pthread_create(&core, NULL, answer_credits, NULL);
	assert_int_equal(xts_ioctl(s, SIOCOUTQ, &outq), 0);
	assert_int_equal(outq, 1);
	pthread_join(core, NULL);
	/* no answer: as far as is known */
	assert_int_equal(xts_ioctl(s, SIOCOUTQ, &outq), 0);
	assert_int_equal(outq, 1);
	fakesvc_reply(flow, NULL, 0, 1, XTS_F_CREDITS, 0);
	assert_int_equal(xts_ioctl(s, SIOCOUTQ, &outq), 0);
	assert_int_equal(outq, 0);
}

static void test_outq_of_a_reset_socket_is_empty(void **state)
{
	int outq = -1;

	assert_int_equal(xts_send(s, "abc", 3, 0), 3);
	fakesvc_reply(flow, NULL, 0, 0, XTS_F_RESET, ECONNRESET);
	assert_int_equal(xts_ioctl(s, SIOCOUTQ, &outq), 0);
	assert_int_equal(outq, 0);
}

static void test_credits_alone_go_at_half_a_buffer_or_when_waiting(void **state)
{
	static char buf[FAKESVC_BUF];
	struct xts_cmd cmd;

	fakesvc_reply(flow, buf, FAKESVC_BUF / 2 - 1, 0, 0, 0);
	assert_int_equal(xts_recv(s, buf, sizeof(buf), 0), FAKESVC_BUF / 2 - 1);
	assert_true(fakesvc_no_command(flow));
	fakesvc_reply(flow, buf, 1, 0, 0, 0);
	assert_int_equal(xts_recv(s, buf, sizeof(buf), 0), 1);
	assert_true(fakesvc_command(flow, &cmd));
	assert_int_equal(cmd.credits, FAKESVC_BUF / 2);
}

static void test_peek_leaves_and_trunc_drops(void **state)
{
	char c[4] = "....";

	fakesvc_reply(flow, "abcdef", 6, 0, 0, 0);
	assert_recv("abcdef", MSG_PEEK);
	assert_int_equal(xts_recv(s, c, 2, MSG_TRUNC), 2);
	assert_memory_equal(c, "....", 4);
	assert_recv("cdef", 0);
}

static void *feed(void *arg)
{
	usleep(20000);
	fakesvc_reply(flow, "def", 3, 0, 0, 0);
	return NULL;
}

static void test_waitall_waits_for_all(void **state)
{
	pthread_t t;
	char buf[6];

	fakesvc_reply(flow, "abc", 3, 0, 0, 0);
	pthread_create(&t, NULL, feed, NULL);
	assert_int_equal(xts_recv(s, buf, 6, MSG_WAITALL | MSG_PEEK), 6);
	assert_int_equal(xts_recv(s, buf, 6, MSG_WAITALL), 6);
	assert_memory_equal(buf, "abcdef", 6);
	pthread_join(t, NULL);
}

static void test_vectors_scatter_and_gather(void **state)
{
	char a[2], b[1], c[8];
	struct iovec in[] = {{a, 2}, {NULL, 0}, {b, 1}, {c, 8}};
	struct iovec out[] = {{"he", 2}, {NULL, 0}, {"llo", 3}};
	struct msghdr m = {.msg_iov = out, .msg_iovlen = 3};
	struct xts_cmd cmd;

	assert_int_equal(xts_sendmsg(s, &m, 0), 5);
	assert_true(fakesvc_command(flow, &cmd));
	assert_memory_equal(fakesvc_tx(flow, 0), "hello", 5);
	fakesvc_reply(flow, "world", 5, 0, 0, 0);
	m.msg_iov = in;
	m.msg_iovlen = 4;
	assert_int_equal(xts_recvmsg(s, &m, 0), 5);
	assert_memory_equal(a, "wo", 2);
	assert_memory_equal(b, "r", 1);
	assert_memory_equal(c, "ld", 2);
}

static void test_receive_timeout_is_eagain(void **state)
{
	struct timeval tv = {0, 30000};
	char c;

	xts_setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	assert_int_equal(xts_recv(s, &c, 1, 0), -1);
	assert_int_equal(errno, EAGAIN);
}

static void test_nonblock_by_fcntl_and_ioctl(void **state)
{
	int on = 1, off = 0;
	char c;

	assert_int_equal(xts_fcntl(s, F_SETFL, O_NONBLOCK), 0);
	assert_true(xts_fcntl(s, F_GETFL) & O_NONBLOCK);
	assert_int_equal(xts_recv(s, &c, 1, 0), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(xts_ioctl(s, FIONBIO, &off), 0);
	assert_false(xts_fcntl(s, F_GETFL) & O_NONBLOCK);
	assert_int_equal(xts_ioctl(s, FIONBIO, &on), 0);
	assert_int_equal(xts_recv(s, &c, 1, 0), -1);
	fakesvc_reply(flow, "abc", 3, 0, 0, 0);
	assert_int_equal(xts_ioctl(s, FIONREAD, &on), 0);
	assert_int_equal(on, 3);
}

static void test_eof_after_data(void **state)
{
	fakesvc_reply(flow, "last", 4, 0, XTS_F_EOF, 0);
	assert_recv("last", 0);
	assert_recv("", 0);
	assert_recv("", 0);
	assert_int_equal(xts_send(s, "still", 5, 0), 5);
}

static void test_half_close_still_receives(void **state)
{
	struct xts_cmd cmd;

	assert_int_equal(xts_send(s, "end", 3, 0), 3);
	assert_int_equal(xts_shutdown(s, SHUT_WR), 0);
	assert_true(fakesvc_command(flow, &cmd));
	assert_true(fakesvc_command(flow, &cmd));
	assert_int_equal(cmd.flags, XTS_F_SHUT_WR);
	assert_int_equal(xts_send(s, "x", 1, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EPIPE);
	assert_int_equal(signals, 0);
	fakesvc_reply(flow, "late", 4, 3, 0, 0);
	assert_recv("late", 0);
}

static void test_shutdown_read_is_eof(void **state)
{
	assert_int_equal(xts_shutdown(s, SHUT_RD), 0);
	assert_recv("", 0);
	assert_int_equal(xts_shutdown(s, 7), -1);
	assert_int_equal(errno, EINVAL);
}

static void test_reset_is_told_once_then_eof_and_epipe(void **state)
{
	fakesvc_reply(flow, NULL, 0, 0, XTS_F_RESET, ECONNRESET);
	assert_recv_fails(ECONNRESET);
	assert_recv("", 0);
	assert_int_equal(xts_send(s, "x", 1, 0), -1);
	assert_int_equal(errno, EPIPE);
	assert_int_equal(signals, 1);
	assert_int_equal(xts_send(s, "x", 1, MSG_NOSIGNAL), -1);
	assert_int_equal(signals, 1);
	assert_int_equal(xts_shutdown(s, SHUT_WR), -1);
	assert_int_equal(errno, ENOTCONN);
}

static void test_reset_is_told_to_a_sender_without_signal(void **state)
{
	fakesvc_reply(flow, NULL, 0, 0, XTS_F_RESET, ETIMEDOUT);
	xts_offload_reason(s); /* takes the reply */
	assert_int_equal(xts_send(s, "x", 1, 0), -1);
	assert_int_equal(errno, ETIMEDOUT);
	assert_int_equal(signals, 0);
	assert_recv("", 0);
}

static void test_pending_error_is_so_error(void **state)
{
	int err = 0;
	socklen_t len = sizeof(err);

	fakesvc_reply(flow, NULL, 0, 0, XTS_F_RESET, ECONNRESET);
	assert_int_equal(xts_getsockopt(s, SOL_SOCKET, SO_ERROR, &err, &len),
			 0);
	assert_int_equal(err, ECONNRESET);
	assert_recv("", 0);
}

static void test_kept_data_are_read_before_the_reset(void **state)
{
	int i;

	fakesvc_reply(flow, "tail", 4, 0, 0, 0);
	fakesvc_reply(flow, NULL, 0, 0, XTS_F_RESET, ECONNRESET);
	assert_recv("tail", 0);
	assert_recv_fails(ECONNRESET);
	assert_recv("", 0);
	xts_close(s);
	for (i = 0; i < 1000 && !fakesvc_released(); i++)
		usleep(1000);
	assert_int_equal(fakesvc_released(), 1);
}

/* The context that it is registered in has never had to do with a service. */
static void test_kept_data_move_along_with_the_socket(void **state)
{
	struct epoll_event ev = {.events = EPOLLIN};
	void *ectx = xts_epoll_ctx_create();
	int i;

	fakesvc_reply(flow, "tail", 4, 0, 0, 0);
	fakesvc_reply(flow, NULL, 0, 0, XTS_F_RESET, ECONNRESET);
	assert_int_equal(xts_recv(s, &ev.data, 1, MSG_PEEK), 1);
	assert_int_equal(xts_epoll_ctl(ectx, EPOLL_CTL_ADD, s, &ev), 0);
	assert_int_equal(xts_epoll(ectx, &ev, 1), 1);
	assert_recv("tail", 0);
	xts_close(s);
	for (i = 0; i < 1000 && !fakesvc_released(); i++)
		usleep(1000);
	assert_int_equal(fakesvc_released(), 1);
	xts_epoll_ctx_destroy(ectx);
}

static void *reset_later(void *arg)
{
	usleep(20000);
	fakesvc_reply(flow, NULL, 0, 0, XTS_F_RESET, ECONNRESET);
	return NULL;
}

/* tcp_disconnect() */
static void test_disconnected_it_can_be_connected_again(void **state)
{
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP};
	void *ectx = xts_epoll_ctx_create();
	struct sockaddr_in in;
	pthread_t thread;
	int l = pair_listen(&in), fd;
	char buf[8];

	assert_int_equal(xts_epoll_ctl(ectx, EPOLL_CTL_ADD, s, &ev), 0);
	fakesvc_reply(flow, "unread", 6, 0, XTS_F_EOF, 0);
	assert_int_equal(pthread_create(&thread, NULL, reset_later, NULL), 0);
	assert_int_equal(xts_connect(s, &none, sizeof(none)), 0);
	pthread_join(thread, NULL);
	assert_int_equal(xts_epoll(ectx, &ev, 1), 1);
	assert_int_equal(ev.events, EPOLLOUT | EPOLLHUP | EPOLLERR);
	assert_recv_fails(ECONNRESET);
	assert_recv_fails(ENOTCONN);
	assert_int_equal(xts_send(s, "x", 1, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EPIPE);
	assert_int_equal(xts_connect(s, (void *)&in, sizeof(in)), 0);
	fd = accept(l, NULL, NULL);
	assert_int_equal(xts_send(s, "again", 5, 0), 5);
	assert_int_equal(recv(fd, buf, sizeof(buf), 0), 5);
	assert_int_equal(xts_epoll(ectx, &ev, 1), 1);
	assert_int_equal(ev.events, EPOLLOUT);
	xts_close(s);
	xts_epoll_ctx_destroy(ectx);
	close(fd);
	close(l);
}

/* There is nothing that Linux would reset. */
static void test_an_ended_one_is_closed_when_disconnected(void **state)
{
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	struct xts_cmd cmd;

	assert_int_equal(xts_shutdown(s, SHUT_WR), 0);
	assert_true(fakesvc_command(flow, &cmd));
	fakesvc_reply(flow, "unread", 6, 0, XTS_F_EOF, 0);
	assert_int_equal(xts_connect(s, &none, sizeof(none)), 0);
	assert_recv_fails(ENOTCONN);
	assert_true(fakesvc_command(flow, &cmd));
	assert_int_equal(cmd.flags, XTS_F_CLOSE);
	assert_int_equal(cmd.credits, 6);
	fakesvc_reply(flow, NULL, 0, 0, XTS_F_CLOSED, 0);
	assert_recv_fails(ENOTCONN);
}

static void test_close_that_crosses_a_reset_releases(void **state)
{
	struct xts_cmd cmd;
	int i;

	xts_close(s);
	assert_true(fakesvc_command(flow, &cmd));
	assert_int_equal(cmd.flags, XTS_F_CLOSE);
	fakesvc_reply(flow, NULL, 0, 0, XTS_F_RESET, ECONNRESET);
	close(peer);
	s = pair_offloaded(&peer, NULL, 0, &flow); /* looks at the ring */
	for (i = 0; i < 1000 && !fakesvc_released(); i++)
		usleep(1000);
	assert_int_equal(fakesvc_released(), 1);
}

static void test_data_not_kept_are_gone_with_the_reset(void **state)
{
	fakesvc_reply(flow, "tail", 4, 0, 0, 0);
	fakesvc_reply(flow, NULL, 0, 0, XTS_F_RESET, ECONNRESET);
	assert_recv_fails(ECONNRESET);
	xts_close(s);
	assert_int_equal(fakesvc_released(), 0);
}

static void *interrupt(void *arg)
{
	usleep(50000);
	pthread_kill(*(pthread_t *)arg, SIGUSR1);
	return NULL;
}

static void test_signal_interrupts_a_sleeping_call(void **state)
{
	pthread_t me = pthread_self(), t;
	char c;

	pthread_create(&t, NULL, interrupt, &me);
	assert_int_equal(xts_recv(s, &c, 1, 0), -1);
	assert_int_equal(errno, EINTR);
	pthread_join(t, NULL);
}

static void test_sleeper_is_odd_and_a_reply_wakes_it(void **state)
{
	pthread_t t;
	char buf[3];

	assert_int_equal(fakesvc_app_sleep(flow) & 1, 0);
	pthread_create(&t, NULL, feed, NULL);
	assert_int_equal(xts_recv(s, buf, 3, 0), 3);
	assert_int_equal(fakesvc_app_sleep(flow) & 1, 0);
	assert_int_not_equal(fakesvc_app_sleep(flow), 0);
	pthread_join(t, NULL);
}

static void test_doorbell_rings_only_for_a_sleeping_core(void **state)
{
	assert_int_equal(xts_send(s, "a", 1, 0), 1);
	assert_false(fakesvc_doorbell_rang(flow));
	fakesvc_need_doorbell(flow, true);
	assert_int_equal(xts_send(s, "a", 1, 0), 1);
	assert_true(fakesvc_doorbell_rang(flow));
	fakesvc_need_doorbell(flow, false);
	assert_int_equal(xts_send(s, "a", 1, 0), 1);
	assert_false(fakesvc_doorbell_rang(flow));
}

static void test_full_command_ring_loses_nothing(void **state)
{
	struct xts_cmd cmd;
	uint32_t i, got = 0;
	char c;

	for (i = 0; i < XTS_RING_SLOTS + 100; i++)
		assert_int_equal(xts_send(s, "a", 1, MSG_DONTWAIT), 1);
	for (i = 0; i < XTS_RING_SLOTS; i++) {
		assert_true(fakesvc_command(flow, &cmd));
		got += cmd.len;
	}
	assert_int_equal(xts_recv(s, &c, 1, MSG_DONTWAIT), -1);
	assert_int_equal(xts_send(s, "a", 1, MSG_DONTWAIT), 1);
	while (got < XTS_RING_SLOTS + 101) {
		assert_true(fakesvc_command(flow, &cmd));
		got += cmd.len;
	}
	assert_int_equal(got, XTS_RING_SLOTS + 101);
}

static void test_nonsense_from_the_service_is_its_death(void **state)
{
	struct fakesvc_flow bad = *flow;

	bad.rx_pos = 17; /* data with a hole before them */
	fakesvc_reply(flow, "abc", 3, 0, 0, 0);
	assert_recv("abc", MSG_PEEK);
	fakesvc_reply(&bad, "abc", 3, 0, 0, 0);
	xts_offload_reason(s);
	xts_offload_reason(s);
	assert_recv_fails(ECONNRESET);
	assert_int_equal(xts_offload_reason(s), XTS_REASON_LOST_SERVICE);
}

/* A program that asks again and again must not keep the core from
 * running. */
static void test_finding_nothing_yields_to_a_core_on_this_cpu(void **state)
{
	static char buf[FAKESVC_BUF];
	int cpu = on_one_cpu();

	fakesvc_set_cpu(flow, cpu);
	yields = 0;
	assert_int_equal(xts_recv(s, buf, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(yields, 1);
	assert_int_equal(xts_send(s, buf, sizeof(buf), MSG_DONTWAIT),
			 sizeof(buf));
	assert_int_equal(yields, 1);
	assert_int_equal(xts_send(s, buf, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(yields, 2);
	fakesvc_reply(flow, "a", 1, 0, 0, 0);
	assert_int_equal(xts_recv(s, buf, 1, MSG_DONTWAIT), 1);
	assert_int_equal(yields, 2);
	on_all_cpus();
}

static void
test_finding_nothing_does_not_yield_to_a_core_elsewhere(void **state)
{
	int cpu = on_one_cpu();
	char c;

	fakesvc_set_cpu(flow, cpu + 1);
	yields = 0;
	assert_int_equal(xts_recv(s, &c, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(yields, 0);
	on_all_cpus();
}

static void assert_recv_nothing_fails(int err)
{
	char c;

	assert_int_equal(xts_recv(s, &c, 0, MSG_DONTWAIT), -1);
	assert_int_equal(errno, err);
}

static void test_recv_of_no_bytes_is_like_any_other(void **state)
{
	char c;

	assert_recv_nothing_fails(EAGAIN);
	fakesvc_reply(flow, "ab", 2, 0, 0, 0);
	assert_int_equal(xts_recv(s, &c, 0, 0), 0);
	assert_int_equal(xts_recv(s, &c, 0, MSG_PEEK | MSG_WAITALL), 0);
	assert_recv("ab", 0);
	assert_recv_nothing_fails(EAGAIN);
	fakesvc_reply(flow, NULL, 0, 0, XTS_F_RESET, ECONNRESET);
	assert_recv_nothing_fails(ECONNRESET);
	assert_int_equal(xts_recv(s, &c, 0, 0), 0);
}

static void test_recv_of_no_bytes_says_0_once_it_has_waited(void **state)
{
	struct timeval tv = {.tv_usec = 20000};
	char c;

	assert_int_equal(
		xts_setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)), 0);
	assert_int_equal(xts_recv(s, &c, 0, 0), 0);
	assert_int_equal(xts_recv(s, &c, 1, 0), -1);
	assert_int_equal(errno, EAGAIN);
}

static ssize_t send_control(size_t cmsg_len, int level, int type)
{
	union {
		struct cmsghdr cm;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {.cm = {.cmsg_len = cmsg_len,
			    .cmsg_level = level,
			    .cmsg_type = type}};
	struct iovec iov = {"x", 1};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = &control,
			     .msg_controllen = sizeof(control)};

	return xts_sendmsg(s, &msg, MSG_NOSIGNAL);
}

static void test_control_messages_that_linux_does_not_take(void **state)
{
	size_t good = CMSG_LEN(sizeof(int));

	assert_int_equal(send_control(0, SOL_SOCKET, SO_MARK), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(send_control(good + 100, SOL_SOCKET, SO_MARK), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(send_control(good, SOL_SOCKET, SO_TYPE), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(send_control(good, SOL_SOCKET, SCM_RIGHTS), 1);
	assert_int_equal(send_control(good, IPPROTO_IP, 99), 1);
	xts_shutdown(s, SHUT_WR);
	assert_int_equal(send_control(0, SOL_SOCKET, SO_MARK), -1);
	assert_int_equal(errno, EPIPE);
}

static void test_shutdown_of_what_is_over(void **state)
{
	fakesvc_reply(flow, NULL, 0, 0, XTS_F_RESET, ECONNRESET);
	assert_int_equal(xts_shutdown(s, SHUT_WR), -1);
	assert_int_equal(errno, ENOTCONN);
}

/* The other end of Linux's connection ends it as the wire's does. */
static void test_shutdown_when_both_directions_have_ended(void **state)
{
	struct xts_cmd cmd;
	int i, ret = 0;

	fakesvc_reply(flow, NULL, 0, 0, XTS_F_EOF, 0);
	assert_int_equal(xts_shutdown(s, SHUT_WR), 0);
	assert_true(fakesvc_command(flow, &cmd));
	assert_int_equal(xts_shutdown(s, SHUT_RD), 0);
	shutdown(peer, SHUT_WR);
	shutdown(xts_shadow_fd(s), SHUT_WR);
	for (i = 0; i < 1000 && !ret; i++) {
		usleep(1000);
		ret = xts_shutdown(s, SHUT_RDWR);
	}
	assert_int_equal(ret, -1);
	assert_int_equal(errno, ENOTCONN);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_##name, start, stop)
	const struct CMUnitTest tests[] = {
		T(recv_of_no_bytes_is_like_any_other),
		T(recv_of_no_bytes_says_0_once_it_has_waited),
		T(control_messages_that_linux_does_not_take),
		T(shutdown_of_what_is_over),
		T(shutdown_when_both_directions_have_ended),
		T(send_is_one_command_that_carries_credits),
		T(everything_acknowledged_restarts_at_zero),
		T(send_wraps_as_two_commands),
		T(full_buffer_is_eagain),
		T(credits_alone_go_at_half_a_buffer_or_when_waiting),
		T(peek_leaves_and_trunc_drops),
		T(waitall_waits_for_all),
		T(vectors_scatter_and_gather),
		T(receive_timeout_is_eagain),
		T(nonblock_by_fcntl_and_ioctl),
		T(eof_after_data),
		T(half_close_still_receives),
		T(shutdown_read_is_eof),
		T(outq_asks_what_is_acknowledged),
		T(outq_of_a_reset_socket_is_empty),
		T(reset_is_told_once_then_eof_and_epipe),
		T(reset_is_told_to_a_sender_without_signal),
		T(pending_error_is_so_error),
		T(finding_nothing_yields_to_a_core_on_this_cpu),
		T(finding_nothing_does_not_yield_to_a_core_elsewhere),
		cmocka_unit_test_setup_teardown(
			test_kept_data_are_read_before_the_reset, start_keeping,
			stop),
		cmocka_unit_test_setup_teardown(
			test_kept_data_move_along_with_the_socket,
			start_keeping, stop),
		cmocka_unit_test_setup_teardown(
			test_close_that_crosses_a_reset_releases, start_keeping,
			stop),
		T(data_not_kept_are_gone_with_the_reset),
		T(disconnected_it_can_be_connected_again),
		T(an_ended_one_is_closed_when_disconnected),
		T(signal_interrupts_a_sleeping_call),
		T(sleeper_is_odd_and_a_reply_wakes_it),
		T(doorbell_rings_only_for_a_sleeping_core),
		T(full_command_ring_loses_nothing),
		T(nonsense_from_the_service_is_its_death),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
