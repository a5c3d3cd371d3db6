/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_ask.c - calls that don't wait, while the service decides
 *
 * They give what Linux's would, whenever the service looks at its request. The
 * sockets are lent ones, as a program has them under tas-run.
 */
#include "libsock/lend.h"
#include "tests/unit/libsock/pair.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static int s, fd, peer, epfd = -1;
static void *ectx;
static int pipes;

static void on_pipe(int sig)
{
	pipes++;
}

static int start(void **state)
{
	struct sigaction sa = {.sa_handler = on_pipe};
	struct timeval tv = {.tv_sec = 5};
	struct sockaddr_in in;
	int l = pair_listen(&in);

	sigaction(SIGPIPE, &sa, NULL);
	pipes = 0;
	fakesvc_start(FAKESVC_SILENT, XTS_F_TAKES);
	peer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	assert_int_equal(connect(peer, (void *)&in, sizeof(in)), 0);
	fd = accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(fd >= 0);
	close(l);
	s = xlend_adopt(fd, true, true);
	assert_true(s > 0);
	return 0;
}

static int stop(void **state)
{
	xts_close(s);
	close(peer);
	if (epfd >= 0) {
		xts_epoll_ctx_destroy(ectx);
		close(epfd);
		epfd = -1;
	}
	fakesvc_stop();
	return 0;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void peer_sends(const char *text)
{
	int n = 0, tries;

	assert_int_equal(send(peer, text, strlen(text), 0), strlen(text));
	for (tries = 0; tries < 1000 && n < (int)strlen(text); tries++) {
		assert_int_equal(ioctl(fd, FIONREAD, &n), 0);
		usleep(100);
	}
}

static void assert_recv(const char *text)
{
	char buf[64];

	assert_int_equal(xts_recv(s, buf, sizeof(buf), 0), strlen(text));
	assert_memory_equal(buf, text, strlen(text));
}

static void assert_peer_gets(const char *text)
{
	char buf[64];

	assert_int_equal(recv(peer, buf, strlen(text), MSG_WAITALL),
			 strlen(text));
	assert_memory_equal(buf, text, strlen(text));
}

/* The request for it, which nobody has begun with. */
static struct fakesvc_flow *asked(void)
{
	struct fakesvc_flow *f;
	char c;

	assert_int_equal(xts_recv(s, &c, 1, MSG_PEEK), -1);
	assert_int_equal(errno, EAGAIN);
	f = fakesvc_flow(0);
	assert_non_null(f);
	return f;
}

static void *answer_later(void *arg)
{
	usleep(30000);
	fakesvc_answer(arg, FAKESVC_OFFLOAD);
	return NULL;
}

static pthread_t answered_later(struct fakesvc_flow *f)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, answer_later, f), 0);
	return thread;
}

/* ---- reading and writing --------------------------------------------------
 */

static void test_the_first_call_is_linuxs(void **state)
{
	peer_sends("hello");
	assert_recv("hello");
	assert_non_null(fakesvc_flow(0));
	assert_int_equal(xlend_state(s), XLEND_ASKING);
}

static void test_the_end_of_a_connection_is_not_offered(void **state)
{
	char c;

	shutdown(peer, SHUT_WR);
	usleep(1000);
	assert_int_equal(xts_recv(s, &c, 1, 0), 0);
	usleep(1000);
	assert_int_equal(fakesvc_flows(), 0);
}

static void test_linux_serves_until_the_service_begins(void **state)
{
	asked();
	peer_sends("hello");
	assert_recv("hello");
	assert_int_equal(xts_send(s, "answer", 6, 0), 6);
	assert_peer_gets("answer");
	assert_int_equal(xts_send(s, "", 0, 0), 0);
	assert_int_equal(xts_shutdown(s, SHUT_WR), 0);
	assert_int_equal(xlend_state(s), XLEND_ASKING);
}

/* The bytes must go where the connection is. */
static void test_what_is_being_taken_is_waited_for(void **state)
{
	struct fakesvc_flow *f = asked();
	struct xts_cmd cmd;
	pthread_t thread;

	assert_true(fakesvc_begin(f));
	thread = answered_later(f);
	assert_int_equal(xts_send(s, "hello", 5, 0), 5);
	pthread_join(thread, NULL);
	assert_true(fakesvc_command(f, &cmd));
	assert_int_equal(cmd.len, 5);
}

static void test_not_for_ever(void **state)
{
	char c;

	assert_true(fakesvc_begin(asked()));
	assert_int_equal(xts_recv(s, &c, 1, 0), -1);
	assert_int_equal(errno, EAGAIN);
}

/* More in Linux's queue than fits, and the service would not take it. */
static void test_large_sends_wait_for_the_service(void **state)
{
	static char large[100000];
	struct fakesvc_flow *f = asked();
	struct xts_cmd cmd;
	pthread_t thread;

	thread = answered_later(f);
	assert_int_equal(xts_send(s, large, sizeof(large), 0), FAKESVC_BUF);
	pthread_join(thread, NULL);
	assert_true(fakesvc_command(f, &cmd));
	assert_int_equal(cmd.len, FAKESVC_BUF);
}

/* It waits for what nobody knows who will bring. */
static void test_a_blocking_call_waits_for_the_service(void **state)
{
	struct fakesvc_flow *f = asked();
	struct xts_cmd cmd;
	pthread_t thread;
	int off = 0;

	assert_int_equal(xts_ioctl(s, FIONBIO, &off), 0);
	thread = answered_later(f);
	assert_int_equal(xts_send(s, "hello", 5, 0), 5);
	pthread_join(thread, NULL);
	assert_true(fakesvc_command(f, &cmd));
	assert_int_equal(cmd.len, 5);
}

/* It may be the program's last call of all. */
static void test_close_waits_for_the_service(void **state)
{
	struct fakesvc_flow *f = asked();
	pthread_t thread = answered_later(f);
	struct xts_cmd cmd;

	assert_int_equal(xts_close(s), 0);
	pthread_join(thread, NULL);
	assert_true(fakesvc_command(f, &cmd));
	assert_true(cmd.flags & XTS_F_CLOSE);
}

static void test_a_broken_pipe_is_told_by_signal_and_error(void **state)
{
	struct linger reset = {.l_onoff = 1};

	asked();
	setsockopt(peer, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(peer);
	usleep(1000);
	assert_int_equal(xts_send(s, "x", 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	assert_int_equal(xts_send(s, "x", 1, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EPIPE);
	assert_int_equal(pipes, 0);
	assert_int_equal(xts_send(s, "x", 1, 0), -1);
	assert_int_equal(errno, EPIPE);
	assert_int_equal(pipes, 1);
	peer = dup(fd);
}

static void test_declined_it_stays_linuxs(void **state)
{
	struct fakesvc_flow *f = asked();

	fakesvc_answer(f, FAKESVC_DECLINE);
	peer_sends("hello");
	assert_recv("hello");
	assert_int_equal(xlend_state(s), XLEND_KERNEL);
}

static void assert_peer_sees(ssize_t n, int err)
{
	char c;

	assert_int_equal(recv(peer, &c, 1, 0), n);
	if (n < 0)
		assert_int_equal(errno, err);
}

/* The program need not make another call for that. */
static void test_the_end_does_not_wait_for_the_service(void **state)
{
	asked();
	assert_int_equal(xts_send(s, "x", 1, 0), 1);
	assert_int_equal(xts_close(s), 0);
	assert_peer_gets("x");
	assert_peer_sees(0, 0);
}

static void test_unread_data_reset_it(void **state)
{
	asked();
	peer_sends("unread");
	assert_int_equal(xts_close(s), 0);
	assert_peer_sees(-1, ECONNRESET);
}

static void test_so_does_a_linger_time_of_zero(void **state)
{
	struct linger reset = {.l_onoff = 1};

	asked();
	xts_setsockopt(s, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	assert_int_equal(xts_close(s), 0);
	assert_peer_sees(-1, ECONNRESET);
}

static void test_what_is_being_taken_is_closed_by_the_service(void **state)
{
	struct fakesvc_flow *f = asked();
	struct xts_cmd cmd;
	pthread_t thread;

	assert_true(fakesvc_begin(f));
	thread = answered_later(f);
	assert_int_equal(xts_close(s), 0);
	pthread_join(thread, NULL);
	assert_true(fakesvc_command(f, &cmd));
	assert_int_equal(cmd.flags, XTS_F_CLOSE);
}

static void *register_it(void *arg)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = 7};

	return xts_epoll_ctl(ectx, EPOLL_CTL_ADD, s, &ev) ? arg : NULL;
}

/* Something else that comes to the context of the first call is not the
 * decision. */
static void test_registered_meanwhile_it_is_heard_of(void **state)
{
	struct fakesvc_flow *f = asked(), *other;
	struct epoll_event ev;
	struct sockaddr_in in;
	int l = pair_listen(&in), peer2, s2;
	pthread_t thread;
	void *failed;
	char c;

	epfd = epoll_create1(EPOLL_CLOEXEC);
	ectx = xlend_epoll_borrow(epfd);
	assert_non_null(ectx);
	fakesvc_set_mode(FAKESVC_OFFLOAD);
	peer2 = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(peer2, (void *)&in, sizeof(in)), 0);
	s2 = xlend_adopt(accept4(l, NULL, NULL, SOCK_CLOEXEC), true, true);
	close(l);
	assert_int_equal(xts_recv(s2, &c, 1, 0), -1);
	other = fakesvc_flow(1);
	xlend_await(s2, now_ns() + 2000000000u);
	assert_int_equal(xlend_state(s2), XLEND_OFFLOADED);
	assert_int_equal(pthread_create(&thread, NULL, register_it, &ev), 0);
	usleep(20000);
	fakesvc_reply(other, "x", 1, 0, 0, 0);
	usleep(20000);
	fakesvc_answer(f, FAKESVC_OFFLOAD);
	pthread_join(thread, &failed);
	assert_null(failed);
	fakesvc_reply(f, "abc", 3, 0, 0, 0);
	assert_int_equal(
		xlend_epoll_wait(ectx, &ev, 1, 2000000000u + now_ns(), NULL),
		1);
	assert_int_equal(ev.events, EPOLLIN);
	assert_int_equal(ev.data.fd, 7);
	pair_close(s2, peer2);
}

struct user {
	pthread_t thread;
	_Atomic bool stop;
	unsigned int calls;
};

static void *use(void *arg)
{
	struct user *u = arg;
	char c;

	while (!u->stop) {
		assert_int_equal(xts_recv(s, &c, 1, 0), -1);
		assert_int_equal(errno, EAGAIN);
		u->calls++;
	}
	return NULL;
}

/* However often it calls, the service gets its turn. */
static void test_a_busy_program_does_not_keep_it_off(void **state)
{
	struct fakesvc_flow *f = asked();
	struct user u = {0};
	unsigned int tries = 0;

	assert_int_equal(pthread_create(&u.thread, NULL, use, &u), 0);
	usleep(10000);
	while (!fakesvc_begin(f) && tries++ < 1000)
		usleep(100);
	assert_true(fakesvc_begin(f));
	fakesvc_answer(f, FAKESVC_OFFLOAD);
	usleep(10000);
	u.stop = true;
	pthread_join(u.thread, NULL);
	assert_true(u.calls > 0);
	assert_int_equal(xlend_state(s), XLEND_OFFLOADED);
}

/* ---- readiness ------------------------------------------------------------
 */

static short ready(void)
{
	struct pollfd p = {.fd = fd, .events = POLLIN | POLLOUT};

	assert_true(xlend_poll(&p, &s, 1, 0, NULL, false) >= 0);
	return p.revents;
}

static void test_poll_sees_what_linux_has(void **state)
{
	asked();
	assert_int_equal(ready(), POLLOUT);
	peer_sends("hello");
	assert_int_equal(ready(), POLLIN | POLLOUT);
	assert_recv("hello");
	assert_int_equal(ready(), POLLOUT);
}

/* select(): a hang-up is no exception, and ends no wait for one. */
static void test_select_waits_for_what_it_asked_for(void **state)
{
	struct pollfd p = {.fd = fd, .events = POLLPRI};
	uint64_t end;

	asked();
	shutdown(peer, SHUT_WR);
	shutdown(fd, SHUT_RDWR);
	assert_true(ready() & POLLHUP);
	end = now_ns() + 20000000;
	assert_int_equal(xlend_poll(&p, &s, 1, end, NULL, true), 0);
	assert_true(now_ns() >= end);
}

static void test_poll_waits_for_what_is_being_taken(void **state)
{
	struct fakesvc_flow *f = asked();
	pthread_t thread;

	assert_true(fakesvc_begin(f));
	thread = answered_later(f);
	assert_int_equal(ready(), POLLOUT);
	pthread_join(thread, NULL);
}

static void *send_later(void *arg)
{
	usleep(80000); /* longer than it spins */
	send(peer, "hello", 5, 0);
	return NULL;
}

static void test_a_poll_that_sleeps_sees_linuxs_data(void **state)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	struct timespec ts;
	pthread_t thread;

	asked();
	clock_gettime(CLOCK_MONOTONIC, &ts);
	assert_int_equal(pthread_create(&thread, NULL, send_later, NULL), 0);
	assert_int_equal(xlend_poll(&p, &s, 1,
				    (uint64_t)(ts.tv_sec + 5) * 1000000000u,
				    NULL, false),
			 1);
	assert_int_equal(p.revents, POLLIN);
	pthread_join(thread, NULL);
}

static void registered(uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.u64 = 7};

	epfd = epoll_create1(EPOLL_CLOEXEC);
	ectx = xlend_epoll_borrow(epfd);
	assert_non_null(ectx);
	assert_int_equal(xts_epoll_ctl(ectx, EPOLL_CTL_ADD, s, &ev), 0);
}

/* Its events now, 0: none */
static uint32_t event(void)
{
	struct epoll_event ev[2];
	int n = xlend_epoll_wait(ectx, ev, 2, 0, NULL);

	assert_true(n == 0 || n == 1);
	if (n)
		assert_int_equal(ev[0].data.u64, 7);
	return n ? ev[0].events : 0;
}

static void test_epoll_sees_what_linux_has(void **state)
{
	registered(EPOLLIN | EPOLLOUT);
	asked();
	assert_int_equal(event(), EPOLLOUT);
	peer_sends("hello");
	assert_int_equal(event(), EPOLLIN | EPOLLOUT);
	assert_recv("hello");
	assert_int_equal(event(), EPOLLOUT);
}

static void test_epoll_goes_on_when_it_is_decided(void **state)
{
	struct fakesvc_flow *f;

	registered(EPOLLIN | EPOLLOUT);
	f = asked();
	fakesvc_answer(f, FAKESVC_OFFLOAD);
	assert_int_equal(event(), EPOLLOUT);
	fakesvc_reply(f, "hello", 5, 0, 0, 0);
	assert_int_equal(event(), EPOLLIN | EPOLLOUT);
	assert_recv("hello");
	assert_int_equal(event(), EPOLLOUT);
}

static void test_epoll_waits_for_what_is_being_taken(void **state)
{
	struct fakesvc_flow *f;
	pthread_t thread;

	registered(EPOLLOUT);
	f = asked();
	assert_true(fakesvc_begin(f));
	thread = answered_later(f);
	assert_int_equal(event(), EPOLLOUT);
	pthread_join(thread, NULL);
	assert_int_equal(xlend_state(s), XLEND_OFFLOADED);
}

/* Whether it fired before it was offered is not known: only one that is
 * renewed afterwards may be. */
static void test_one_shot_fires_once(void **state)
{
	struct epoll_event ev = {.events = EPOLLOUT | EPOLLONESHOT,
				 .data.u64 = 7};
	struct fakesvc_flow *f;
	char c;

	registered(EPOLLOUT | EPOLLONESHOT);
	assert_int_equal(xts_recv(s, &c, 1, 0), -1);
	usleep(15000);
	assert_int_equal(fakesvc_flows(), 0);
	assert_int_equal(xts_epoll_ctl(ectx, EPOLL_CTL_MOD, s, &ev), 0);
	f = fakesvc_flow(0);
	assert_non_null(f);
	assert_int_equal(event(), EPOLLOUT);
	assert_int_equal(event(), 0);
	fakesvc_answer(f, FAKESVC_OFFLOAD);
	assert_int_equal(event(), 0);
	assert_int_equal(xts_epoll_ctl(ectx, EPOLL_CTL_MOD, s, &ev), 0);
	assert_int_equal(event(), EPOLLOUT);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_##name, start, stop)
	const struct CMUnitTest tests[] = {
		T(the_first_call_is_linuxs),
		T(the_end_of_a_connection_is_not_offered),
		T(linux_serves_until_the_service_begins),
		T(what_is_being_taken_is_waited_for),
		T(not_for_ever),
		T(large_sends_wait_for_the_service),
		T(a_blocking_call_waits_for_the_service),
		T(close_waits_for_the_service),
		T(a_broken_pipe_is_told_by_signal_and_error),
		T(declined_it_stays_linuxs),
		T(the_end_does_not_wait_for_the_service),
		T(unread_data_reset_it),
		T(so_does_a_linger_time_of_zero),
		T(what_is_being_taken_is_closed_by_the_service),
		T(a_busy_program_does_not_keep_it_off),
		T(poll_sees_what_linux_has),
		T(select_waits_for_what_it_asked_for),
		T(poll_waits_for_what_is_being_taken),
		T(a_poll_that_sleeps_sees_linuxs_data),
		T(epoll_sees_what_linux_has),
		T(epoll_goes_on_when_it_is_decided),
		T(epoll_waits_for_what_is_being_taken),
		T(one_shot_fires_once),
		T(registered_meanwhile_it_is_heard_of),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
