/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_sock.c - opening, falling back to the kernel, closing
 */
#include "tests/unit/libsock/pair.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define TEXT(n) xts_reason_text(n)

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

static void exchange(int s, int peer)
{
	char buf[8];

	assert_int_equal(xts_send(s, "hello", 5, 0), 5);
	assert_int_equal(recv(peer, buf, sizeof(buf), 0), 5);
	assert_int_equal(send(peer, "world", 5, 0), 5);
	assert_int_equal(xts_recv(s, buf, sizeof(buf), 0), 5);
	assert_memory_equal(buf, "world", 5);
}

static void test_without_service_the_kernel_carries(void **state)
{
	int peer, s;

	setenv("XTS_CONTROL", "@xts-test-nobody", 1);
	s = pair_open(&peer);
	assert_int_equal(xts_offload_reason(s), XTS_REASON_PENDING);
	exchange(s, peer);
	assert_int_equal(xts_offload_reason(s), XTS_REASON_NO_SERVICE);
	pair_close(s, peer);
	usleep(150000); /* the pause between attempts */
}

static void test_udp_stays_with_the_kernel(void **state)
{
	struct sockaddr_in in = {.sin_family = AF_INET}, from;
	socklen_t len = sizeof(in), flen = sizeof(from);
	int a = xts_socket(AF_INET, SOCK_DGRAM, 0);
	int b = xts_socket(AF_INET, SOCK_DGRAM, 0);
	char buf[8];

	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(xts_bind(a, (void *)&in, sizeof(in)), 0);
	assert_int_equal(xts_getsockname(a, (void *)&in, &len), 0);
	assert_int_equal(xts_sendto(b, "x", 1, 0, (void *)&in, len), 1);
	assert_int_equal(
		xts_recvfrom(a, buf, sizeof(buf), 0, (void *)&from, &flen), 1);
	assert_int_equal(from.sin_addr.s_addr, in.sin_addr.s_addr);
	assert_int_equal(xts_offload_reason(a), XTS_REASON_NOT_TCP);
	xts_close(a);
	xts_close(b);
}

static void test_declined_socket_works_and_says_why(void **state)
{
	int peer, s;

	fakesvc_set_mode(FAKESVC_DECLINE);
	s = pair_open(&peer);
	exchange(s, peer);
	assert_int_equal(xts_offload_reason(s), XTS_REASON_NOT_OURS);
	assert_string_equal(
		TEXT(XTS_REASON_NOT_OURS),
		"its local address is not one that the service owns");
	pair_close(s, peer);
}

static void test_listener_is_never_offloaded(void **state)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	int s = xts_socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(xts_bind(s, (void *)&in, sizeof(in)), 0);
	assert_int_equal(xts_listen(s, 1), 0);
	assert_int_equal(xts_offload_reason(s), XTS_REASON_LISTENER);
	assert_int_equal(fakesvc_flows(), 0);
	xts_close(s);
}

static void test_accepted_socket_is_offloaded_at_first_use(void **state)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	socklen_t len = sizeof(in);
	int l = xts_socket(AF_INET, SOCK_STREAM, 0), c, s;
	char b;

	assert_int_equal(xts_bind(l, (void *)&in, sizeof(in)), 0);
	assert_int_equal(xts_listen(l, 1), 0);
	assert_int_equal(xts_getsockname(l, (void *)&in, &len), 0);
	c = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(c, (void *)&in, len), 0);
	s = xts_accept4(l, NULL, NULL, SOCK_NONBLOCK);
	assert_true(s > 0);
	assert_int_equal(xts_offload_reason(s), XTS_REASON_PENDING);
	assert_int_equal(xts_recv(s, &b, 1, 0), -1);
	assert_int_equal(errno, EAGAIN);
	assert_non_null(fakesvc_flow(0));
	pair_close(s, c);
	xts_close(l);
}

static void test_bad_number_is_ebadf(void **state)
{
	int s = xts_socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(xts_close(s), 0);
	assert_int_equal(xts_close(s), -1);
	assert_int_equal(errno, EBADF);
	assert_int_equal(xts_recv(-1, NULL, 0, 0), -1);
	assert_int_equal(errno, EBADF);
	assert_int_equal(xts_send(0, NULL, 0, 0), -1);
	assert_int_equal(errno, EBADF);
}

static void test_import_takes_the_descriptor_over(void **state)
{
	struct fakesvc_flow *f;
	int sv[2], s, peer, fd;
	char b;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	s = xts_import(sv[0]);
	assert_int_equal(xts_offload_reason(s), XTS_REASON_NOT_TCP);
	assert_int_equal(xts_shadow_fd(s), sv[0]);
	xts_close(s);
	assert_int_equal(fcntl(sv[0], F_GETFD), -1);
	close(sv[1]);
	s = pair_open(&peer);
	fd = dup(xts_shadow_fd(s));
	xts_close(s);
	s = xts_import(fd);
	assert_int_equal(xts_recv(s, &b, 1, MSG_DONTWAIT), -1);
	f = fakesvc_flow(0);
	assert_non_null(f);
	pair_close(s, peer);
	assert_int_equal(xts_import(-1), -1);
	assert_int_equal(errno, EBADF);
}

static void test_close_sends_close_and_frees_at_the_answer(void **state)
{
	struct fakesvc_flow *f, *g;
	struct xts_cmd cmd;
	int peer, s = pair_offloaded(&peer, NULL, 0, &f), peer2, t;

	assert_int_equal(xts_send(s, "bye", 3, 0), 3);
	assert_int_equal(xts_close(s), 0);
	assert_true(fakesvc_command(f, &cmd));
	assert_int_equal(cmd.len, 3);
	assert_true(fakesvc_command(f, &cmd));
	assert_int_equal(cmd.flags, XTS_F_CLOSE);
	assert_int_equal(xts_recv(s, &cmd, 1, 0), -1);
	assert_int_equal(errno, EBADF);
	/* Not answered yet: the number is not used again. */
	t = pair_offloaded(&peer2, NULL, 0, &g);
	assert_int_not_equal(t, s);
	assert_true(f->cookie != g->cookie);
	fakesvc_reply(f, NULL, 0, 0, XTS_F_CLOSED, 0);
	pair_close(t, peer2);
	close(peer);
}

static void test_late_reply_for_a_closed_socket_is_ignored(void **state)
{
	struct fakesvc_flow *f, *g, old;
	int peer, s = pair_offloaded(&peer, NULL, 0, &f), peer2, t;
	char b;

	xts_close(s);
	old = *f;
	fakesvc_reply(f, NULL, 0, 0, XTS_F_CLOSED, 0);
	t = pair_offloaded(&peer2, NULL, 0, &g); /* takes the reply */
	xts_close(t);
	fakesvc_reply(g, NULL, 0, 0, XTS_F_CLOSED, 0);
	t = pair_offloaded(&peer2, NULL, 0, &g);
	assert_int_equal((uint32_t)g->cookie, (uint32_t)old.cookie);
	fakesvc_reply(&old, "stale", 5, 0, XTS_F_EOF, 0);
	assert_int_equal(xts_recv(t, &b, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	close(peer);
	pair_close(t, peer2);
}

static void test_close_while_asking_closes_the_flow_later(void **state)
{
	struct fakesvc_flow *f;
	struct xts_cmd cmd;
	int peer, s, u;
	char b;

	fakesvc_set_mode(FAKESVC_SILENT);
	s = pair_open(&peer);
	assert_int_equal(xts_recv(s, &b, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	f = fakesvc_flow(0);
	assert_int_equal(xts_close(s), 0);
	fakesvc_answer(f, FAKESVC_OFFLOAD);
	u = pair_open(&s);
	xts_recv(u, &b, 1, MSG_DONTWAIT); /* any call on the context: */
	xts_recv(u, &b, 1, MSG_DONTWAIT); /* this joins it, this looks */
	assert_true(fakesvc_command(f, &cmd));
	assert_int_equal(cmd.flags, XTS_F_CLOSE);
	assert_int_equal(cmd.flow, f->index);
	pair_close(u, s);
	close(peer);
}

static void test_linger_zero_aborts(void **state)
{
	struct linger lg = {1, 0};
	struct fakesvc_flow *f;
	struct xts_cmd cmd;
	int peer, s = pair_offloaded(&peer, NULL, 0, &f);

	assert_int_equal(
		xts_setsockopt(s, SOL_SOCKET, SO_LINGER, &lg, sizeof(lg)), 0);
	xts_close(s);
	assert_true(fakesvc_command(f, &cmd));
	assert_int_equal(cmd.flags, XTS_F_CLOSE | XTS_F_ABORT);
	close(peer);
}

static void test_linger_time_waits_as_long_as_it_lasts(void **state)
{
	struct linger lg = {1, 1};
	struct fakesvc_flow *f;
	struct timespec a, b;
	int peer, s = pair_offloaded(&peer, NULL, 0, &f);

	xts_setsockopt(s, SOL_SOCKET, SO_LINGER, &lg, sizeof(lg));
	xts_send(s, "x", 1, 0);
	clock_gettime(CLOCK_MONOTONIC, &a);
	assert_int_equal(xts_close(s), 0);
	clock_gettime(CLOCK_MONOTONIC, &b);
	assert_in_range((b.tv_sec - a.tv_sec) * 1000 +
				(b.tv_nsec - a.tv_nsec) / 1000000,
			990, 3000);
	close(peer);
}

static void test_service_death_resets_and_a_new_service_is_found(void **state)
{
	struct fakesvc_flow *f;
	int peer, s = pair_offloaded(&peer, NULL, 0, &f), peer2, t;
	char b;

	fakesvc_stop();
	assert_int_equal(xts_recv(s, &b, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	assert_int_equal(xts_recv(s, &b, 1, 0), 0);
	assert_int_equal(xts_offload_reason(s), XTS_REASON_LOST_SERVICE);
	t = pair_open(&peer2);
	exchange(t, peer2);
	assert_int_equal(xts_offload_reason(t), XTS_REASON_NO_SERVICE);
	pair_close(t, peer2);
	pair_close(s, peer);
	usleep(150000); /* the pause between attempts */
	fakesvc_start(FAKESVC_OFFLOAD, 0);
	s = pair_offloaded(&peer, NULL, 0, &f);
	fakesvc_reply(f, "again", 5, 0, 0, 0);
	assert_int_equal(xts_recv(s, &b, 1, 0), 1);
	pair_close(s, peer);
}

static int child_checks(int s, int fresh)
{
	int peer, t;
	char b;

	if (xts_recv(s, &b, 1, MSG_DONTWAIT) != -1 || errno != EBADF)
		return 1;
	if (xts_send(s, "x", 1, MSG_NOSIGNAL) != -1 || errno != EBADF)
		return 2;
	if (xts_close(s))
		return 3;
	/* A socket that was not offloaded yet goes on in the child. */
	t = pair_open(&peer);
	if (t < 0 || xts_recv(fresh, &b, 1, 0) != 1 || b != 'k')
		return 4;
	return 0;
}

static void test_fork_leaves_the_connection_to_the_parent(void **state)
{
	struct fakesvc_flow *f;
	int peer, s = pair_offloaded(&peer, NULL, 0, &f);
	int peer2, fresh = pair_open(&peer2), status;
	struct xts_cmd cmd;
	pid_t pid;
	char b;

	/* The child has no service of its own here: the kernel carries. */
	fakesvc_set_mode(FAKESVC_DECLINE);
	send(peer2, "k", 1, 0);
	pid = fork();
	if (pid == 0)
		_exit(child_checks(s, fresh));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	fakesvc_reply(f, "p", 1, 0, 0, 0);
	assert_int_equal(xts_recv(s, &b, 1, 0), 1);
	assert_int_equal(xts_send(s, "q", 1, 0), 1);
	assert_true(fakesvc_command(f, &cmd));
	assert_int_equal(cmd.credits, 1);
	assert_int_equal(cmd.len, 1);
	pair_close(s, peer);
	pair_close(fresh, peer2);
}

static void
test_nonblocking_connect_is_reported_after_the_decision(void **state)
{
	struct epoll_event ev = {.events = EPOLLOUT}, got;
	void *ectx = xts_epoll_ctx_create();
	struct sockaddr_in in;
	int l = pair_listen(&in), err = 1;
	socklen_t len = sizeof(err);
	int s = xts_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	fakesvc_set_mode(FAKESVC_SILENT);
	assert_int_equal(xts_connect(s, (void *)&in, sizeof(in)), -1);
	assert_int_equal(errno, EINPROGRESS);
	assert_int_equal(xts_epoll_ctl(ectx, EPOLL_CTL_ADD, s, &ev), 0);
	assert_int_equal(xts_epoll_wait(ectx, &got, 1, 50), 0);
	fakesvc_answer(fakesvc_flow(0), FAKESVC_OFFLOAD);
	assert_int_equal(xts_epoll_wait(ectx, &got, 1, 1000), 1);
	assert_int_equal(got.events, EPOLLOUT);
	assert_int_equal(xts_getsockopt(s, SOL_SOCKET, SO_ERROR, &err, &len),
			 0);
	assert_int_equal(err, 0);
	xts_close(s);
	xts_epoll_ctx_destroy(ectx);
	close(l);
}

static void test_refused_connect_is_reported_by_the_kernel(void **state)
{
	struct epoll_event ev = {.events = EPOLLOUT}, got;
	void *ectx = xts_epoll_ctx_create();
	struct sockaddr_in in;
	socklen_t len = sizeof(int);
	int l = pair_listen(&in), err = 0;
	int s = xts_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	close(l);
	assert_int_equal(xts_epoll_ctl(ectx, EPOLL_CTL_ADD, s, &ev), 0);
	assert_int_equal(xts_connect(s, (void *)&in, sizeof(in)), -1);
	assert_true(errno == EINPROGRESS || errno == ECONNREFUSED);
	if (errno == EINPROGRESS) {
		assert_int_equal(xts_epoll_wait(ectx, &got, 1, 1000), 1);
		assert_true(got.events & EPOLLERR);
		xts_getsockopt(s, SOL_SOCKET, SO_ERROR, &err, &len);
		assert_int_equal(err, ECONNREFUSED);
	}
	xts_close(s);
	xts_epoll_ctx_destroy(ectx);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_##name, start, stop)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_without_service_the_kernel_carries),
		T(udp_stays_with_the_kernel),
		T(declined_socket_works_and_says_why),
		T(listener_is_never_offloaded),
		T(accepted_socket_is_offloaded_at_first_use),
		T(bad_number_is_ebadf),
		T(import_takes_the_descriptor_over),
		T(close_sends_close_and_frees_at_the_answer),
		T(late_reply_for_a_closed_socket_is_ignored),
		T(close_while_asking_closes_the_flow_later),
		T(linger_zero_aborts),
		T(linger_time_waits_as_long_as_it_lasts),
		T(service_death_resets_and_a_new_service_is_found),
		T(fork_leaves_the_connection_to_the_parent),
		T(nonblocking_connect_is_reported_after_the_decision),
		T(refused_connect_is_reported_by_the_kernel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
