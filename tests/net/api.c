// SPDX-License-Identifier: BSD-2-Clause
/*
 * api - each xts_* call over a real connection, with the answer that its BSD
 * counterpart would give
 *
 *   api echo ADDRESS PORT      the peer: kernel sockets; sends back what comes
 *                              and closes after EOF; until SIGTERM
 *   api dial N ADDRESS PORT    the peer the other way round: connects N times
 *   api connect ADDRESS PORT   the tests, on connections to such a peer
 *   api accept ADDRESS PORT    the tests, on accepted ones (api dial 1)
 *
 * The tests print TAP lines. With EXPECT_OFFLOAD in the environment they
 * insist that connections are offloaded.
 */
#include "io.h"
#include "stream.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

static int failed;
static struct sockaddr_storage to;
static socklen_t to_len;

static void check(bool good, const char *name)
{
	int err = errno;

	printf("%sok - %s%s%s\n", good ? "" : "not ", name,
	       good ? "" : "; errno ", good ? "" : strerrorname_np(err));
	failed += !good;
}

#define FAILS(call, err) ((call) < 0 && errno == (err))

/* ---- the peer
 * ------------------------------------------------------------------ */

static void *echo_run(void *arg)
{
	int s = (int)(intptr_t)arg;
	static __thread char buf[65536];
	ssize_t n, k, done;

	while ((n = recv(s, buf, sizeof(buf), 0)) > 0)
		for (done = 0; done < n; done += k) {
			k = send(s, buf + done, (size_t)(n - done),
				 MSG_NOSIGNAL);
			if (k < 0)
				goto out;
		}
out:
	close(s);
	return NULL;
}

static void echo_spawn(int s)
{
	pthread_t t;

	if (pthread_create(&t, NULL, echo_run, (void *)(intptr_t)s))
		io_die("pthread_create");
	pthread_detach(t);
}

static int echo_listen(void)
{
	int l = io_listener(&to, to_len, 0, 128, false), s;

	printf("listening\n");
	while ((s = accept(l, NULL, NULL)) >= 0)
		echo_spawn(s);
	io_die("accept");
}

static int echo_dial(int n)
{
	pthread_t t[16];

	for (int i = 0; i < n && i < 16; i++) {
		int s = socket(to.ss_family, SOCK_STREAM, 0);

		if (connect(s, (struct sockaddr *)&to, to_len) < 0)
			io_die("connect");
		if (pthread_create(&t[i], NULL, echo_run, (void *)(intptr_t)s))
			io_die("pthread_create");
	}
	for (int i = 0; i < n && i < 16; i++)
		pthread_join(t[i], NULL);
	return 0;
}

/* ---- helpers
 * --------------------------------------------------------------------- */

static int dial(void)
{
	int s = xts_socket(to.ss_family, SOCK_STREAM, 0);

	if (s < 0 || xts_connect(s, (struct sockaddr *)&to, to_len) < 0)
		io_die("xts_connect");
	return s;
}

static bool send_all(int s, const uint8_t *p, size_t len)
{
	while (len) {
		ssize_t n = xts_send(s, p, len, 0);

		if (n <= 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

static bool recv_all(int s, const uint8_t *want, size_t len)
{
	uint8_t buf[4096];

	while (len) {
		ssize_t n = xts_recv(s, buf, len < 4096 ? len : 4096, 0);

		if (n <= 0 || memcmp(buf, want, (size_t)n) != 0)
			return false;
		want += n;
		len -= (size_t)n;
	}
	return true;
}

/* Until data wait on s, at most 2 s. */
static int wait_bytes(int s)
{
	int n = 0;

	for (int i = 0; i < 2000; i++) {
		if (xts_ioctl(s, FIONREAD, &n) < 0 || n > 0)
			break;
		io_sleep_ms(1);
	}
	return n;
}

/* ---- data
 * ------------------------------------------------------------------------ */

static void test_data(int s)
{
	const uint8_t *p = stream_at(1, 0);
	uint8_t buf[60000];
	struct iovec out[3] = {{(void *)(uintptr_t)p, 10},
			       {(void *)(uintptr_t)(p + 10), 0},
			       {(void *)(uintptr_t)(p + 10), 990}};
	struct iovec in[2] = {{buf, 300}, {buf + 300, 700}};
	struct msghdr mo = {.msg_iov = out, .msg_iovlen = 3};
	struct msghdr mi = {.msg_iov = in, .msg_iovlen = 2};

	check(send_all(s, p, 100) && recv_all(s, p, 100),
	      "blocking send and recv");
	check(FAILS(xts_recv(s, buf, 10, MSG_DONTWAIT), EAGAIN),
	      "MSG_DONTWAIT without data is EAGAIN");
	xts_send(s, p, 20, 0);
	check(wait_bytes(s) == 20, "FIONREAD tells what waits");
	check(xts_recv(s, buf, 60, MSG_PEEK) == 20 && !memcmp(buf, p, 20) &&
		      xts_recv(s, buf, 60, 0) == 20 && !memcmp(buf, p, 20),
	      "MSG_PEEK leaves data to be read");
	check(send_all(s, p, 60000) &&
		      xts_recv(s, buf, 60000, MSG_WAITALL) == 60000 &&
		      !memcmp(buf, p, 60000),
	      "MSG_WAITALL waits for all");
	check(xts_sendmsg(s, &mo, 0) == 1000 &&
		      xts_recvmsg(s, &mi, MSG_WAITALL) == 1000 &&
		      !memcmp(buf, p, 1000),
	      "sendmsg gathers, recvmsg scatters");
	check(xts_sendto(s, p, 30, 0, NULL, 0) == 30 &&
		      xts_recvfrom(s, buf, 30, MSG_WAITALL, NULL, NULL) == 30,
	      "sendto and recvfrom without an address");
	check(xts_send(s, p, 0, 0) == 0, "a send of nothing sends nothing");
}

static void test_blocking(int s)
{
	struct timeval tv = {.tv_usec = 50000};
	uint8_t buf[8];
	uint64_t start;
	int flags = xts_fcntl(s, F_GETFL);

	check(xts_fcntl(s, F_SETFL, flags | O_NONBLOCK) == 0 &&
		      FAILS(xts_recv(s, buf, 8, 0), EAGAIN) &&
		      (xts_fcntl(s, F_GETFL) & O_NONBLOCK),
	      "O_NONBLOCK by fcntl");
	xts_fcntl(s, F_SETFL, flags);
	start = io_now_ns();
	xts_setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	check(FAILS(xts_recv(s, buf, 8, 0), EAGAIN) &&
		      io_now_ns() - start >= 40000000,
	      "SO_RCVTIMEO bounds a blocked recv");
	tv.tv_usec = 0;
	xts_setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
}

static void on_alarm(int sig)
{
}

static void test_signal(int s)
{
	struct sigaction sa = {.sa_handler = on_alarm};
	uint8_t b;

	sigaction(SIGALRM, &sa, NULL);
	ualarm(100000, 100000);
	check(FAILS(xts_recv(s, &b, 1, 0), EINTR),
	      "a signal interrupts a blocked recv");
	ualarm(0, 0);
}

static void test_names(int s)
{
	struct sockaddr_storage a = {0}, b = {0};
	socklen_t la = sizeof(a), lb = sizeof(b), ln = sizeof(int);
	int on = 1, got = 0;

	check(xts_getsockname(s, (struct sockaddr *)&a, &la) == 0 &&
		      xts_getpeername(s, (struct sockaddr *)&b, &lb) == 0 &&
		      a.ss_family == to.ss_family && b.ss_family == a.ss_family,
	      "getsockname and getpeername");
	check(xts_setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) ==
			      0 &&
		      xts_getsockopt(s, IPPROTO_TCP, TCP_NODELAY, &got, &ln) ==
			      0 &&
		      got,
	      "TCP_NODELAY can be set and read");
	check(io_error(s) == 0, "SO_ERROR is 0");
}

static void test_reason(int s)
{
	int reason = xts_offload_reason(s);

	if (getenv("EXPECT_OFFLOAD"))
		check(reason == 0, "the connection is offloaded");
	else
		check(reason > 0 && xts_reason_text(reason),
		      "the reason why it is not offloaded can be read");
	if (reason > 0)
		printf("# reason: %s\n", xts_reason_text(reason));
}

/* ---- events
 * ---------------------------------------------------------------------- */

/* The events of s within the time, 0: none. */
static uint32_t events_of(void *ectx, int ms)
{
	struct epoll_event ev = {0};

	return xts_epoll_wait(ectx, &ev, 1, ms) == 1 ? ev.events : 0;
}

static void events_set(void *ectx, int op, int s, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.u64 = 5};

	if (xts_epoll_ctl(ectx, op, s, &ev) < 0)
		io_die("xts_epoll_ctl");
}

static void test_events(int s)
{
	const uint8_t *p = stream_at(2, 0);
	void *ectx = xts_epoll_ctx_create();
	struct epoll_event ev = {.events = EPOLLIN};
	struct pollfd pfd = {.events = POLLIN};

	events_set(ectx, EPOLL_CTL_ADD, s, EPOLLIN);
	check(!events_of(ectx, 30), "no event without a cause");
	check(FAILS(xts_epoll_ctl(ectx, EPOLL_CTL_ADD, s, &ev), EEXIST),
	      "a second ADD is EEXIST");
	pfd.fd = xts_epoll_fd(ectx);
	xts_send(s, p, 10, 0);
	check(poll(&pfd, 1, 2000) == 1,
	      "the context's descriptor becomes readable");
	check(events_of(ectx, 2000) == EPOLLIN && wait_bytes(s) == 10 &&
		      events_of(ectx, 0) == EPOLLIN,
	      "EPOLLIN is level-triggered");
	events_set(ectx, EPOLL_CTL_MOD, s, EPOLLIN | EPOLLOUT);
	check(events_of(ectx, 500) == (EPOLLIN | EPOLLOUT),
	      "EPOLLOUT while there is room");
	check(recv_all(s, p, 10) && events_of(ectx, 500) == EPOLLOUT,
	      "EPOLLIN ends when all is read");
	events_set(ectx, EPOLL_CTL_MOD, s, EPOLLIN | EPOLLET);
	xts_send(s, p, 10, 0);
	check(events_of(ectx, 2000) == EPOLLIN && wait_bytes(s) == 10 &&
		      !events_of(ectx, 30),
	      "EPOLLET reports once");
	xts_send(s, p, 10, 0);
	check(events_of(ectx, 2000) == EPOLLIN,
	      "EPOLLET reports again when more arrives");
	while (wait_bytes(s) < 20)
		;
	events_set(ectx, EPOLL_CTL_MOD, s, EPOLLIN | EPOLLONESHOT);
	check(events_of(ectx, 500) == EPOLLIN && !events_of(ectx, 30),
	      "EPOLLONESHOT reports once");
	events_set(ectx, EPOLL_CTL_MOD, s, EPOLLIN | EPOLLONESHOT);
	check(events_of(ectx, 500) == EPOLLIN, "MOD arms EPOLLONESHOT again");
	check(xts_epoll_ctl(ectx, EPOLL_CTL_DEL, s, NULL) == 0 &&
		      !events_of(ectx, 30),
	      "a deleted socket reports nothing");
	recv_all(s, p, 10);
	check(recv_all(s, p, 10), "and still works");
	xts_epoll_ctx_destroy(ectx);
}

/* ---- end
 * ------------------------------------------------------------------------- */

static void test_end(int s)
{
	void *ectx = xts_epoll_ctx_create();
	uint8_t b[20];

	events_set(ectx, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLRDHUP);
	xts_send(s, "last", 4, 0);
	check(xts_shutdown(s, SHUT_WR) == 0, "shutdown(SHUT_WR)");
	check(FAILS(xts_send(s, "x", 1, MSG_NOSIGNAL), EPIPE),
	      "a send after shutdown is EPIPE");
	check(xts_recv(s, b, 4, MSG_WAITALL) == 4 && !memcmp(b, "last", 4),
	      "data still arrive after it");
	for (int i = 0; i < 100 && !(events_of(ectx, 100) & EPOLLRDHUP); i++)
		;
	check(events_of(ectx, 0) & EPOLLRDHUP, "EPOLLRDHUP at the peer's end");
	check(xts_recv(s, b, 4, 0) == 0, "recv at the end is 0");
	check(xts_recv(s, b, 4, 0) == 0,
	      "recv at the end is 0, again and again");
	check(xts_close(s) == 0 && FAILS(xts_close(s), EBADF) &&
		      FAILS(xts_recv(s, b, 4, 0), EBADF),
	      "a closed socket is EBADF");
	check(!events_of(ectx, 30), "a closed socket reports nothing");
	xts_epoll_ctx_destroy(ectx);
}

static void test_errors(void)
{
	struct sockaddr_storage ss = to;
	int s = xts_socket(to.ss_family, SOCK_STREAM, 0);
	uint8_t b;

	check(FAILS(xts_recv(s, &b, 1, 0), ENOTCONN),
	      "recv before connect is ENOTCONN");
	((struct sockaddr_in *)&ss)->sin_port = htons(9);
	check(FAILS(xts_connect(s, (struct sockaddr *)&ss, to_len),
		    ECONNREFUSED),
	      "connect to a closed port is ECONNREFUSED");
	xts_close(s);
	check(FAILS(xts_recv(99999, &b, 1, 0), EBADF) &&
		      FAILS(xts_socket(-1, SOCK_STREAM, 0), EAFNOSUPPORT),
	      "nonsense fails as in the kernel");
}

/* ---- threads
 * --------------------------------------------------------------------- */

static void *thread_echo(void *arg)
{
	int s = (int)(intptr_t)arg;
	uint64_t sizes = (uint64_t)(uintptr_t)arg, pos = 0;

	if (s < 0)
		s = dial();
	for (int i = 0; i < 300; i++) {
		size_t len = 1 + stream_mix(&sizes) % 20000;
		const uint8_t *p = stream_at(7, pos += len);

		if (!send_all(s, p, len) || !recv_all(s, p, len))
			return "failed";
	}
	if (getenv("EXPECT_OFFLOAD") && xts_offload_reason(s))
		return "not offloaded";
	if ((int)(intptr_t)arg < 0)
		xts_close(s);
	return NULL;
}

static void test_threads(int s)
{
	pthread_t t[8];
	void *bad = NULL, *r;

	for (int i = 0; i < 8; i++)
		pthread_create(&t[i], NULL, thread_echo,
			       (void *)(intptr_t)(-1 - i));
	for (int i = 0; i < 8; i++) {
		pthread_join(t[i], &r);
		bad = bad ? bad : r;
	}
	check(!bad, "eight threads, a blocking connection and a context each");
	pthread_create(&t[0], NULL, thread_echo, (void *)(intptr_t)s);
	pthread_join(t[0], &r);
	check(!r && !thread_echo((void *)(intptr_t)s),
	      "a socket goes to another thread and back");
}

/* Non-blocking sockets, asked in turn without any epoll. */
static void test_poll_by_hand(void)
{
	const uint8_t *p = stream_at(11, 0);
	int s[8], got[8] = {0}, left = 8;
	uint64_t end = io_now_ns() + 10000000000u;
	uint8_t buf[1000];

	for (int i = 0; i < 8; i++) {
		s[i] = dial();
		xts_fcntl(s[i], F_SETFL, O_NONBLOCK);
		while (xts_send(s[i], p, 1000, 0) < 0 && errno == EAGAIN &&
		       io_now_ns() < end)
			;
	}
	while (left && io_now_ns() < end)
		for (int i = 0; i < 8; i++) {
			ssize_t n = got[i] < 1000 ? xts_recv(s[i], buf, 1000, 0)
						  : -1;

			if (n > 0 && !memcmp(buf, p + got[i], (size_t)n))
				left -= (got[i] += (int)n) == 1000;
		}
	check(!left, "non-blocking sockets polled by hand");
	for (int i = 0; i < 8; i++)
		xts_close(s[i]);
}

static int tests(int s, bool may_dial)
{
	test_data(s);
	test_reason(s);
	test_blocking(s);
	test_signal(s);
	test_names(s);
	test_events(s);
	if (may_dial) {
		test_threads(s);
		test_poll_by_hand();
		test_errors();
	}
	test_end(s);
	return failed ? 1 : 0;
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	int l;

	setlinebuf(stdout);
	signal(SIGPIPE, SIG_IGN);
	stream_init();
	if (argc < 4)
		return 2;
	to_len = io_addr(&to, argv[argc - 2], argv[argc - 1]);
	if (!strcmp(mode, "echo"))
		return echo_listen();
	if (!strcmp(mode, "dial") && argc == 5)
		return echo_dial(atoi(argv[2]));
	io_use_xts = true;
	if (!strcmp(mode, "connect"))
		return tests(dial(), true);
	if (strcmp(mode, "accept") != 0)
		return 2;
	l = io_listener(&to, to_len, 0, 16, false);
	printf("# listening\n");
	return tests(xts_accept(l, NULL, NULL), false);
}
