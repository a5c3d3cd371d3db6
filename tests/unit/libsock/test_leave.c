/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_leave.c - sockets that go back to the kernel
 *
 * The kernel socket that takes over is one end of a socketpair(): bytes that
 * come from it, or arrive at its other end, have gone through the kernel.
 */
#include "libsock/lend.h"
#include "tests/unit/libsock/pair.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct left {
	struct fakesvc_flow *f;
	int s, peer;
	int fresh[2]; /* the socket that takes over, its other end */
	pthread_t thread;
	int ret, err;
};

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

static void left_open(struct left *l, void *ectx, uint32_t events)
{
	struct timeval tv = {.tv_sec = 5};

	l->s = pair_offloaded(&l->peer, ectx, events, &l->f);
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, l->fresh),
		0);
	setsockopt(l->fresh[1], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
}

static void left_close(struct left *l)
{
	assert_int_equal(xts_close(l->s), 0);
	close(l->peer);
	close(l->fresh[0]);
	close(l->fresh[1]);
}

static void *hand_over(void *arg)
{
	struct left *l = arg;

	l->ret = xts_handover(l->s);
	l->err = errno;
	return NULL;
}

static void begin(struct left *l)
{
	assert_int_equal(pthread_create(&l->thread, NULL, hand_over, l), 0);
	assert_true(fakesvc_leaves(l->f));
}

static void end(struct left *l)
{
	pthread_join(l->thread, NULL);
}

static void assert_is_fresh(const struct left *l)
{
	struct stat is, want;

	assert_int_equal(fstat(xts_shadow_fd(l->s), &is), 0);
	assert_int_equal(fstat(l->fresh[0], &want), 0);
	assert_int_equal(is.st_ino, want.st_ino);
	assert_int_equal(xts_offload_reason(l->s), XTS_REASON_HANDED_OVER);
}

static void assert_arrives(int fd, const char *text)
{
	char buf[64];

	assert_int_equal(recv(fd, buf, strlen(text), MSG_WAITALL),
			 strlen(text));
	assert_memory_equal(buf, text, strlen(text));
}

/* ---- by the program's wish ------------------------------------------------
 */

static void test_all_is_told_before_the_service_is_asked(void **state)
{
	struct xts_cmd cmd;
	struct left l;
	char buf[8];

	left_open(&l, NULL, 0);
	assert_int_equal(xts_send(l.s, "hello", 5, 0), 5);
	fakesvc_reply(l.f, "0123456789", 10, 0, 0, 0);
	while (xts_recv(l.s, buf, 3, MSG_DONTWAIT) != 3)
		;
	begin(&l);
	assert_true(fakesvc_command(l.f, &cmd));
	assert_int_equal(cmd.len, 5);
	assert_true(fakesvc_command(l.f, &cmd));
	assert_int_equal(cmd.credits, 3);
	fakesvc_hand(l.f, l.fresh[0], true);
	end(&l);
	assert_int_equal(l.ret, 0);
	left_close(&l);
}

static void test_it_is_the_new_socket_under_the_old_number(void **state)
{
	struct left l;
	int fd;

	left_open(&l, NULL, 0);
	fd = xts_shadow_fd(l.s);
	assert_int_equal(fcntl(fd, F_GETFD), 0);
	fakesvc_reply(l.f, "unread", 6, 0, 0, 0);
	begin(&l);
	/* it has the bytes that the program had not read */
	assert_int_equal(send(l.fresh[1], "unread", 6, 0), 6);
	fakesvc_hand(l.f, l.fresh[0], true);
	end(&l);
	assert_int_equal(l.ret, 0);
	assert_int_equal(xts_shadow_fd(l.s), fd);
	assert_int_equal(fcntl(fd, F_GETFD), 0);
	assert_is_fresh(&l);
	assert_arrives(fd, "unread");
	assert_int_equal(xts_send(l.s, "answer", 6, 0), 6);
	assert_arrives(l.fresh[1], "answer");
	assert_int_equal(xts_handover(l.s), 0); /* it stays so */
	left_close(&l);
}

static void test_close_on_exec_is_kept(void **state)
{
	struct left l;

	left_open(&l, NULL, 0);
	fcntl(xts_shadow_fd(l.s), F_SETFD, FD_CLOEXEC);
	begin(&l);
	fakesvc_hand(l.f, l.fresh[0], true);
	end(&l);
	assert_int_equal(fcntl(xts_shadow_fd(l.s), F_GETFD), FD_CLOEXEC);
	left_close(&l);
}

static void test_a_refused_one_goes_on(void **state)
{
	struct xts_cmd cmd;
	struct left l;

	left_open(&l, NULL, 0);
	begin(&l);
	fakesvc_refuse(l.f, EBUSY);
	end(&l);
	assert_int_equal(l.ret, -1);
	assert_int_equal(l.err, EBUSY);
	assert_int_equal(xts_offload_reason(l.s), XTS_REASON_NONE);
	assert_int_equal(xts_send(l.s, "hello", 5, 0), 5);
	assert_true(fakesvc_command(l.f, &cmd));
	assert_int_equal(cmd.len, 5);
	begin(&l); /* and may try again */
	fakesvc_hand(l.f, l.fresh[0], true);
	end(&l);
	assert_int_equal(l.ret, 0);
	left_close(&l);
}

static void test_a_reset_one_does_not_leave(void **state)
{
	struct left l;
	char c;

	left_open(&l, NULL, 0);
	begin(&l);
	fakesvc_reply(l.f, NULL, 0, 0, XTS_F_RESET, ECONNRESET);
	fakesvc_refuse(l.f, ENOTCONN);
	end(&l);
	assert_int_equal(l.ret, -1);
	assert_int_equal(l.err, ENOTCONN);
	assert_int_equal(xts_recv(l.s, &c, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	assert_int_equal(xts_handover(l.s), -1);
	assert_int_equal(errno, ENOTCONN);
	left_close(&l);
}

static void test_shut_for_reading_stays_so(void **state)
{
	struct left l;
	char c;

	left_open(&l, NULL, 0);
	assert_int_equal(xts_shutdown(l.s, SHUT_RD), 0);
	begin(&l);
	fakesvc_hand(l.f, l.fresh[0], true);
	end(&l);
	assert_int_equal(xts_recv(l.s, &c, 1, MSG_DONTWAIT), 0);
	left_close(&l);
}

static void test_kernel_sockets_have_nothing_to_do(void **state)
{
	struct fakesvc_flow *f;
	int s = xts_socket(AF_INET, SOCK_STREAM, 0), peer, t;

	assert_int_equal(xts_handover(s), 0);
	assert_int_equal(xts_offload_reason(s), XTS_REASON_HANDED_OVER);
	assert_int_equal(xts_close(s), 0);
	assert_int_equal(xts_handover(s), -1);
	assert_int_equal(errno, EBADF);
	/* one that was not offered yet never is */
	t = pair_open(&peer);
	assert_int_equal(xts_handover(t), 0);
	assert_int_equal(xts_send(t, "hello", 5, 0), 5);
	assert_arrives(peer, "hello");
	assert_int_equal(fakesvc_flows(), 0);
	pair_close(t, peer);
	(void)f;
}

/* ---- calls that wait meanwhile --------------------------------------------
 */

struct call {
	struct left *l;
	pthread_t thread;
	char buf[3 * FAKESVC_BUF];
	size_t len;
	int flags;
	ssize_t ret;
	int err;
};

static void *receive(void *arg)
{
	struct call *c = arg;

	c->ret = xts_recv(c->l->s, c->buf, c->len, c->flags);
	c->err = errno;
	return NULL;
}

static void *transmit(void *arg)
{
	struct call *c = arg;

	c->ret = xts_send(c->l->s, c->buf, c->len, c->flags);
	c->err = errno;
	return NULL;
}

static void call(struct call *c, struct left *l, void *(*run)(void *),
		 size_t len, int flags)
{
	c->l = l;
	c->len = len;
	c->flags = flags;
	assert_int_equal(pthread_create(&c->thread, NULL, run, c), 0);
}

static void test_a_blocked_recv_goes_on_in_the_kernel(void **state)
{
	static struct call c;
	struct left l;

	left_open(&l, NULL, 0);
	call(&c, &l, receive, 10, 0);
	usleep(20000);
	begin(&l);
	fakesvc_hand(l.f, l.fresh[0], true);
	end(&l);
	assert_int_equal(send(l.fresh[1], "later", 5, 0), 5);
	pthread_join(c.thread, NULL);
	assert_int_equal(c.ret, 5);
	assert_memory_equal(c.buf, "later", 5);
	left_close(&l);
}

/* What it had before, and what the kernel has, are one answer. */
static void test_waitall_is_filled_from_both(void **state)
{
	static struct call c;
	struct xts_cmd cmd;
	struct left l;

	left_open(&l, NULL, 0);
	call(&c, &l, receive, 8, MSG_WAITALL);
	fakesvc_reply(l.f, "abc", 3, 0, 0, 0);
	usleep(20000);
	begin(&l);
	assert_true(fakesvc_command(l.f, &cmd));
	assert_int_equal(cmd.credits, 3);
	fakesvc_hand(l.f, l.fresh[0], true);
	end(&l);
	assert_int_equal(send(l.fresh[1], "de", 2, 0), 2);
	usleep(20000);
	assert_int_equal(send(l.fresh[1], "fgh", 3, 0), 3);
	pthread_join(c.thread, NULL);
	assert_int_equal(c.ret, 8);
	assert_memory_equal(c.buf, "abcdefgh", 8);
	left_close(&l);
}

static void test_a_blocked_send_goes_on_in_the_kernel(void **state)
{
	static struct call c;
	static char got[sizeof(c.buf)];
	struct left l;
	size_t i;

	for (i = 0; i < sizeof(c.buf); i++)
		c.buf[i] = (char)(i * 31 + i / 251);
	left_open(&l, NULL, 0);
	call(&c, &l, transmit, sizeof(c.buf), 0);
	usleep(20000); /* FAKESVC_BUF bytes are with the service */
	begin(&l);
	fakesvc_hand(l.f, l.fresh[0], true);
	end(&l);
	assert_int_equal(
		recv(l.fresh[1], got, sizeof(c.buf) - FAKESVC_BUF, MSG_WAITALL),
		sizeof(c.buf) - FAKESVC_BUF);
	assert_memory_equal(got, c.buf + FAKESVC_BUF,
			    sizeof(c.buf) - FAKESVC_BUF);
	pthread_join(c.thread, NULL);
	assert_int_equal(c.ret, sizeof(c.buf));
	left_close(&l);
}

static void test_calls_that_may_not_wait_do_not(void **state)
{
	struct left l;
	char c;

	left_open(&l, NULL, 0);
	fakesvc_reply(l.f, "x", 1, 0, 0, 0);
	begin(&l);
	assert_int_equal(xts_recv(l.s, &c, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(xts_send(l.s, "x", 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	fakesvc_hand(l.f, l.fresh[0], true);
	end(&l);
	left_close(&l);
}

static void *set_option(void *arg)
{
	struct call *c = arg;
	int val = 1;

	c->ret = xts_setsockopt(c->l->s, SOL_SOCKET, SO_KEEPALIVE, &val,
				sizeof(val));
	return NULL;
}

/* An option is set on the socket that has the connection, never on the one
 * before it. */
static void test_options_wait(void **state)
{
	static struct call c;
	struct left l;
	int val = 0;
	socklen_t len = sizeof(val);

	left_open(&l, NULL, 0);
	begin(&l);
	call(&c, &l, set_option, 0, 0);
	usleep(20000);
	fakesvc_hand(l.f, l.fresh[0], true);
	end(&l);
	pthread_join(c.thread, NULL);
	assert_int_equal(c.ret, 0);
	getsockopt(l.fresh[0], SOL_SOCKET, SO_KEEPALIVE, &val, &len);
	assert_int_equal(val, 1);
	left_close(&l);
}

static void *close_it(void *arg)
{
	struct call *c = arg;

	c->ret = xts_close(c->l->s);
	return NULL;
}

static void test_close_waits_and_then_closes_the_new_one(void **state)
{
	static struct call c;
	struct left l;
	char b;

	left_open(&l, NULL, 0);
	begin(&l);
	call(&c, &l, close_it, 0, 0);
	usleep(20000);
	fakesvc_hand(l.f, l.fresh[0], true);
	end(&l);
	pthread_join(c.thread, NULL);
	assert_int_equal(c.ret, 0);
	close(l.fresh[0]);
	assert_int_equal(recv(l.fresh[1], &b, 1, 0), 0);
	close(l.fresh[1]);
	close(l.peer);
}

/* ---- polling contexts -----------------------------------------------------
 */

static void test_registrations_go_on(void **state)
{
	void *ectx = xts_epoll_ctx_create();
	struct epoll_event ev;
	struct left l;
	int i;

	for (i = 0; i < 2; i++) {
		left_open(&l, ectx, EPOLLIN | (i ? (uint32_t)EPOLLET : 0));
		begin(&l);
		fakesvc_hand(l.f, l.fresh[0], true);
		end(&l);
		assert_int_equal(xts_epoll_wait(ectx, &ev, 1, 20), 0);
		assert_int_equal(send(l.fresh[1], "x", 1, 0), 1);
		assert_int_equal(xts_epoll_wait(ectx, &ev, 1, 1000), 1);
		assert_int_equal(ev.events, EPOLLIN);
		assert_int_equal(ev.data.fd, l.s);
		assert_int_equal(xts_epoll_wait(ectx, &ev, 1, 20), !i);
		assert_int_equal(xts_epoll_ctl(ectx, EPOLL_CTL_DEL, l.s, NULL),
				 0);
		left_close(&l);
	}
	xts_epoll_ctx_destroy(ectx);
}

/* It was ready, and the program had been told: it hears of it once more. */
static void test_what_is_ready_is_told_anew(void **state)
{
	void *ectx = xts_epoll_ctx_create();
	struct epoll_event ev;
	struct left l;

	left_open(&l, ectx, EPOLLIN | (uint32_t)EPOLLET);
	fakesvc_reply(l.f, "x", 1, 0, 0, 0);
	assert_int_equal(xts_epoll_wait(ectx, &ev, 1, 1000), 1);
	begin(&l);
	assert_int_equal(send(l.fresh[1], "x", 1, 0), 1);
	fakesvc_hand(l.f, l.fresh[0], true);
	end(&l);
	assert_int_equal(xts_epoll_wait(ectx, &ev, 1, 1000), 1);
	assert_int_equal(ev.events, EPOLLIN);
	left_close(&l);
	xts_epoll_ctx_destroy(ectx);
}

static void test_a_one_shot_that_fired_waits_for_its_renewal(void **state)
{
	void *ectx = xts_epoll_ctx_create();
	struct epoll_event ev;
	struct left l;

	left_open(&l, ectx, EPOLLIN | EPOLLONESHOT);
	fakesvc_reply(l.f, "x", 1, 0, 0, 0);
	assert_int_equal(xts_epoll_wait(ectx, &ev, 1, 1000), 1);
	begin(&l);
	fakesvc_hand(l.f, l.fresh[0], true);
	end(&l);
	/* not even the end of the connection */
	shutdown(l.fresh[1], SHUT_RDWR);
	assert_int_equal(xts_epoll_wait(ectx, &ev, 1, 20), 0);
	ev.events = EPOLLIN | EPOLLONESHOT;
	ev.data.u32 = 9;
	assert_int_equal(xts_epoll_ctl(ectx, EPOLL_CTL_MOD, l.s, &ev), 0);
	assert_int_equal(xts_epoll_wait(ectx, &ev, 1, 1000), 1);
	assert_int_equal(ev.data.u32, 9);
	assert_int_equal(xts_epoll_wait(ectx, &ev, 1, 20), 0);
	assert_int_equal(xts_epoll_ctl(ectx, EPOLL_CTL_DEL, l.s, NULL), 0);
	left_close(&l);
	xts_epoll_ctx_destroy(ectx);
}

static void test_added_while_it_leaves(void **state)
{
	void *ectx = xts_epoll_ctx_create();
	struct epoll_event ev = {.events = EPOLLIN};
	struct left l;

	left_open(&l, NULL, 0);
	begin(&l);
	fakesvc_hand(l.f, l.fresh[0], true);
	assert_int_equal(xts_epoll_ctl(ectx, EPOLL_CTL_ADD, l.s, &ev), 0);
	end(&l);
	assert_int_equal(l.ret, 0);
	assert_int_equal(send(l.fresh[1], "x", 1, 0), 1);
	assert_int_equal(xts_epoll_wait(ectx, &ev, 1, 1000), 1);
	left_close(&l);
	xts_epoll_ctx_destroy(ectx);
}

/* ---- by the service's wish ------------------------------------------------
 */

static void test_the_service_may_ask(void **state)
{
	void *ectx = xts_epoll_ctx_create();
	struct epoll_event ev;
	struct left l;

	left_open(&l, ectx, EPOLLIN);
	fakesvc_reply(l.f, NULL, 0, 0, XTS_F_LEAVE, 0);
	assert_int_equal(xts_epoll_wait(ectx, &ev, 1, 20), 0);
	assert_true(fakesvc_leaves(l.f));
	fakesvc_hand(l.f, l.fresh[0], true);
	assert_int_equal(send(l.fresh[1], "x", 1, 0), 1);
	assert_int_equal(xts_epoll_wait(ectx, &ev, 1, 1000), 1);
	assert_is_fresh(&l);
	left_close(&l);
	xts_epoll_ctx_destroy(ectx);
}

/* Data and the wish in one reply; a reader that sleeps. */
static void test_the_service_asks_a_sleeping_reader(void **state)
{
	static struct call c;
	struct xts_cmd cmd;
	struct left l;

	left_open(&l, NULL, 0);
	call(&c, &l, receive, 6, MSG_WAITALL);
	usleep(20000);
	fakesvc_reply(l.f, "abc", 3, 0, XTS_F_LEAVE, 0);
	assert_true(fakesvc_leaves(l.f));
	/* it came before the wish, but was not read before it */
	assert_true(fakesvc_no_command(l.f));
	fakesvc_hand(l.f, l.fresh[0], true);
	assert_int_equal(send(l.fresh[1], "abcdef", 6, 0), 6);
	pthread_join(c.thread, NULL);
	assert_int_equal(c.ret, 6);
	assert_memory_equal(c.buf, "abcdef", 6);
	left_close(&l);
	(void)cmd;
}

static void test_the_services_last_words_count(void **state)
{
	static struct call c;
	struct left l;

	left_open(&l, NULL, 0);
	begin(&l);
	fakesvc_hand(l.f, l.fresh[0], true);
	fakesvc_stop();
	end(&l);
	assert_int_equal(l.ret, 0);
	assert_is_fresh(&l);
	left_close(&l);
	/* without the reply, too, which may have found no room */
	fakesvc_start(FAKESVC_OFFLOAD, 0);
	left_open(&l, NULL, 0);
	begin(&l);
	fakesvc_hand(l.f, l.fresh[0], false);
	fakesvc_stop();
	end(&l);
	assert_int_equal(l.ret, 0);
	assert_is_fresh(&l);
	left_close(&l);
	fakesvc_start(FAKESVC_OFFLOAD, 0);
	(void)c;
}

static void test_a_service_that_ends_without_an_answer(void **state)
{
	struct left l;
	char c;

	left_open(&l, NULL, 0);
	begin(&l);
	fakesvc_stop();
	end(&l);
	assert_int_equal(l.ret, -1);
	assert_int_equal(l.err, ECONNRESET);
	assert_int_equal(xts_recv(l.s, &c, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	left_close(&l);
	fakesvc_start(FAKESVC_OFFLOAD, 0);
}

static void *new_context(void *arg)
{
	struct call *c = arg;

	c->ret = pair_offloaded(&c->err, NULL, 0, &c->l->f);
	return NULL;
}

/* The answer to a question on the control socket comes behind a kernel socket
 * that nobody has taken yet. */
static void test_a_kernel_socket_is_no_answer(void **state)
{
	struct left l, other = {0};
	static struct call c;

	left_open(&l, NULL, 0);
	begin(&l);
	fakesvc_hand(l.f, l.fresh[0], false);
	call(&c, &other, new_context, 0, 0); /* a thread with one of its own */
	pthread_join(c.thread, NULL);
	assert_true(c.ret > 0);
	assert_int_equal(xts_offload_reason((int)c.ret), XTS_REASON_NONE);
	fakesvc_refuse(l.f, 0); /* the reply follows */
	end(&l);
	assert_int_equal(l.ret, 0);
	assert_is_fresh(&l);
	left_close(&l);
	pair_close((int)c.ret, c.err);
}

/* ---- lent ones --------------------------------------------------------------
 */

static struct {
	int s, shadow, fd; /* of the last call, -1: none */
	bool shared;
	unsigned int claims;
} hooks;

static void on_replace(int s, int shadow, int fd)
{
	hooks.s = s;
	hooks.shadow = shadow;
	hooks.fd = dup(fd);
}

static int on_claim(int s)
{
	hooks.claims++;
	xlend_taken(s);
	return 0;
}

static bool on_is_shared(int s)
{
	return hooks.shared;
}

static int start_lent(void **state)
{
	hooks.s = hooks.shadow = hooks.fd = -1;
	hooks.claims = 0;
	hooks.shared = false;
	xlend_replace = on_replace;
	xlend_claim = on_claim;
	xlend_is_shared = on_is_shared;
	return start(state);
}

static int stop_lent(void **state)
{
	xlend_replace = NULL;
	xlend_claim = NULL;
	xlend_is_shared = NULL;
	return stop(state);
}

static int lent_open(int *peer)
{
	struct sockaddr_in in;
	int l = pair_listen(&in), fd, s;

	*peer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(*peer, (void *)&in, sizeof(in)), 0);
	fd = accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(fd >= 0);
	close(l);
	s = xlend_adopt(fd, true, true);
	assert_true(s > 0);
	return s;
}

/* By calls that find nothing, for a second at most. */
static enum xlend_state lent_used(int s)
{
	enum xlend_state state = XLEND_NEW;
	char c;
	int i;

	for (i = 0; i < 1000 && state != XLEND_OFFLOADED; i++) {
		xts_recv(s, &c, 1, MSG_DONTWAIT);
		state = xlend_state(s);
		usleep(1000);
	}
	return state;
}

static void test_the_interposer_replaces_its_descriptors(void **state)
{
	struct left l;
	int fd;

	l.s = lent_open(&l.peer);
	assert_int_equal(lent_used(l.s), XLEND_OFFLOADED);
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, l.fresh), 0);
	l.f = fakesvc_flow(0);
	fd = xts_shadow_fd(l.s);
	begin(&l);
	fakesvc_hand(l.f, l.fresh[0], true);
	end(&l);
	assert_int_equal(l.ret, 0);
	assert_int_equal(hooks.s, l.s);
	assert_int_equal(hooks.shadow, fd);
	assert_int_equal(send(l.fresh[1], "new", 3, 0), 3);
	assert_arrives(hooks.fd, "new");
	assert_int_equal(xlend_state(l.s), XLEND_KERNEL);
	close(hooks.fd);
	left_close(&l);
}

static void test_a_shared_one_is_not_offered(void **state)
{
	int peer, s = lent_open(&peer);
	char c;

	hooks.shared = true;
	xlend_inherited(s);
	assert_int_equal(xts_recv(s, &c, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	/* the service may have it of another process */
	assert_int_equal(hooks.claims, 1);
	assert_int_equal(xlend_state(s), XLEND_NEW);
	assert_int_equal(xts_offload_reason(s), XTS_REASON_SHARED);
	assert_int_equal(xts_send(s, "kernel", 6, 0), 6);
	assert_arrives(peer, "kernel");
	/* the other one has closed it */
	hooks.shared = false;
	assert_int_equal(lent_used(s), XLEND_OFFLOADED);
	assert_int_equal(xts_close(s), 0);
	close(peer);
}

static void test_a_childs_use_is_claimed(void **state)
{
	int peer, s = lent_open(&peer), status = -1;
	pid_t pid;

	assert_int_equal(lent_used(s), XLEND_OFFLOADED);
	pid = fork();
	if (pid == 0)
		_exit(xlend_state(s) != XLEND_FORKED || hooks.claims ||
		      xts_send(s, "x", 1, MSG_NOSIGNAL) != 1 ||
		      hooks.claims != 1 || xlend_state(s) != XLEND_KERNEL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(xlend_state(s), XLEND_OFFLOADED);
	assert_int_equal(xts_close(s), 0);
	close(peer);
}

#define LENT(t) cmocka_unit_test_setup_teardown(t, start_lent, stop_lent)
#define TEST(t) cmocka_unit_test_setup_teardown(t, start, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_all_is_told_before_the_service_is_asked),
		TEST(test_it_is_the_new_socket_under_the_old_number),
		TEST(test_close_on_exec_is_kept),
		TEST(test_a_refused_one_goes_on),
		TEST(test_a_reset_one_does_not_leave),
		TEST(test_shut_for_reading_stays_so),
		TEST(test_kernel_sockets_have_nothing_to_do),
		TEST(test_a_blocked_recv_goes_on_in_the_kernel),
		TEST(test_waitall_is_filled_from_both),
		TEST(test_a_blocked_send_goes_on_in_the_kernel),
		TEST(test_calls_that_may_not_wait_do_not),
		TEST(test_options_wait),
		TEST(test_close_waits_and_then_closes_the_new_one),
		TEST(test_registrations_go_on),
		TEST(test_what_is_ready_is_told_anew),
		TEST(test_a_one_shot_that_fired_waits_for_its_renewal),
		TEST(test_added_while_it_leaves),
		TEST(test_the_service_may_ask),
		TEST(test_the_service_asks_a_sleeping_reader),
		TEST(test_the_services_last_words_count),
		TEST(test_a_service_that_ends_without_an_answer),
		TEST(test_a_kernel_socket_is_no_answer),
		LENT(test_the_interposer_replaces_its_descriptors),
		LENT(test_a_shared_one_is_not_offered),
		LENT(test_a_childs_use_is_claimed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
