// SPDX-License-Identifier: BSD-2-Clause
/*
 * handover - connections that leave the service while threads are busy on them
 *
 *   handover threads ADDRESS PORT COUNT BYTES   listens, libsock
 *   handover peer ADDRESS PORT COUNT BYTES      connects, kernel sockets
 *   handover fork ADDRESS PORT                  listens, libsock
 *   handover forkpeer ADDRESS PORT              connects, kernel sockets
 *
 * threads and peer: connections one after the other, on each of which both ends
 * send and receive BYTES at once, in blocking calls of random size (receiving
 * with MSG_WAITALL), every byte checked. A third thread of the listening end
 * asks for names and options all the time, a fourth calls xts_handover() at a
 * random moment. Says slowest_us=, that call's longest time.
 *
 * fork: the listening process forks on an offloaded connection; the child,
 * which has kept its copy of the shadow, hands over; then both use the
 * connection.
 */
#include "io.h"
#include "libsock/sock.h"
#include "stream.h"

#include <linux/sockios.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#define BLOCK_MAX 200000u

static struct {
	int s;
	uint32_t seed_out, seed_in;
	uint64_t bytes, random;
	atomic_bool done;
} conn;

static void __attribute__((noreturn)) fails(const char *what, long long got)
{
	fprintf(stderr, "%s: %lld (%s)\n", what, got, strerror(errno));
	exit(1);
}

/* ---- threads ---------------------------------------------------------------
 */

static size_t block(uint64_t *state, uint64_t left)
{
	uint64_t n = 1 + stream_mix(state) % BLOCK_MAX;

	return n < left ? n : left;
}

static void copy_stream(uint8_t *to, uint32_t seed, uint64_t pos, size_t n)
{
	while (n) {
		size_t k = n < STREAM_BLOCK ? n : STREAM_BLOCK;

		memcpy(to, stream_at(seed, pos), k);
		to += k;
		pos += k;
		n -= k;
	}
}

static void *sender(void *arg)
{
	static uint8_t buf[BLOCK_MAX];
	uint64_t pos = 0, state = conn.random + 1;

	while (pos < conn.bytes) {
		size_t n = block(&state, conn.bytes - pos);
		ssize_t k;

		copy_stream(buf, conn.seed_out, pos, n);
		k = io_send(conn.s, buf, n, 0);
		if (k != (ssize_t)n)
			fails("a blocking send took a part", k);
		pos += n;
	}
	return NULL;
}

static void *receiver(void *arg)
{
	static uint8_t buf[BLOCK_MAX], want[BLOCK_MAX];
	uint64_t pos = 0, state = conn.random + 2;

	while (pos < conn.bytes) {
		size_t n = block(&state, conn.bytes - pos);
		int flags = stream_mix(&state) % 2 ? MSG_WAITALL : 0;
		ssize_t k = io_recv(conn.s, buf, n, flags);

		if (k <= 0 || (flags && k != (ssize_t)n))
			fails("receive", k);
		copy_stream(want, conn.seed_in, pos, (size_t)k);
		if (memcmp(buf, want, (size_t)k) != 0)
			fails("altered bytes behind", (long long)pos);
		pos += (uint64_t)k;
	}
	return NULL;
}

static void probe_once(const struct sockaddr_storage *name, int val)
{
	struct sockaddr_storage is = {0};
	socklen_t len = sizeof(is);
	struct tcp_info ti = {0};
	int got = -1, flags;

	if (xts_getsockname(conn.s, (void *)&is, &len) ||
	    memcmp(&is, name, len) != 0)
		fails("its name changed", len);
	len = sizeof(is);
	if (xts_getpeername(conn.s, (void *)&is, &len))
		fails("its peer is gone", 0);
	if (io_error(conn.s))
		fails("SO_ERROR", 0);
	if (io_set(conn.s, IPPROTO_TCP, TCP_KEEPINTVL, val))
		fails("TCP_KEEPINTVL", val);
	len = sizeof(got);
	if (xts_getsockopt(conn.s, IPPROTO_TCP, TCP_KEEPINTVL, &got, &len) ||
	    got != val)
		fails("TCP_KEEPINTVL is another one", got);
	len = sizeof(ti);
	if (xts_getsockopt(conn.s, IPPROTO_TCP, TCP_INFO, &ti, &len) ||
	    (ti.tcpi_state != TCP_ESTABLISHED &&
	     ti.tcpi_state != TCP_CLOSE_WAIT))
		fails("its state", ti.tcpi_state);
	flags = xts_fcntl(conn.s, F_GETFL);
	if (flags < 0 || xts_ioctl(conn.s, SIOCINQ, &got) || got < 0)
		fails("fcntl or ioctl", got);
}

static void *prober(void *arg)
{
	struct sockaddr_storage name = {0};
	socklen_t len = sizeof(name);
	int val = 0;

	xts_getsockname(conn.s, (void *)&name, &len);
	while (!conn.done)
		probe_once(&name, 1 + val++ % 100);
	return NULL;
}

static void engage(int s)
{
	uint64_t end = io_now_ns() + UINT64_C(5000000000);
	char c;

	while (xts_offload_reason(s) == XTS_REASON_PENDING) {
		xts_recv(s, &c, 1, MSG_DONTWAIT | MSG_PEEK);
		if (io_now_ns() > end)
			fails("not decided", 0);
	}
}

static void start(pthread_t *t, void *(*run)(void *))
{
	if (pthread_create(t, NULL, run, NULL))
		fails("pthread_create", 0);
}

/* One byte each way first, so that both ends are there. */
static void one_connection(unsigned int n, bool listens, uint64_t bytes,
			   uint64_t *slowest_ns)
{
	uint64_t state = n, began;
	pthread_t out, in, probe;
	char c = 0;

	conn.random = stream_mix(&state);
	conn.seed_out = n * 2 + listens;
	conn.seed_in = n * 2 + !listens;
	conn.bytes = bytes;
	conn.done = false;
	if (io_send(conn.s, &c, 1, 0) != 1 || io_recv(conn.s, &c, 1, 0) != 1)
		fails("hello", n);
	if (listens)
		engage(conn.s);
	start(&out, sender);
	start(&in, receiver);
	if (listens) {
		start(&probe, prober);
		usleep((useconds_t)(stream_mix(&state) % 30000));
		began = io_now_ns();
		if (xts_handover(conn.s))
			fails("xts_handover", n);
		began = io_now_ns() - began;
		*slowest_ns = began > *slowest_ns ? began : *slowest_ns;
		if (xts_offload_reason(conn.s) != XTS_REASON_HANDED_OVER)
			fails("reason", xts_offload_reason(conn.s));
	}
	pthread_join(out, NULL);
	pthread_join(in, NULL);
	conn.done = true;
	if (listens)
		pthread_join(probe, NULL);
	if (io_shut_wr(conn.s) || io_recv(conn.s, &c, 1, 0) != 0 ||
	    io_close(conn.s))
		fails("the end", n);
}

static int many(bool listens, const struct sockaddr_storage *ss, socklen_t len,
		unsigned int count, uint64_t bytes)
{
	uint64_t slowest_ns = 0;
	int l = -1;

	stream_init();
	if (listens) {
		l = io_listener(ss, len, 0, 16, false);
		printf("listening\n");
	}
	for (unsigned int n = 0; n < count; n++) {
		conn.s = listens ? io_accept(l, 0)
				 : io_socket(ss->ss_family, SOCK_STREAM);
		if (conn.s < 0 || (!listens && io_connect(conn.s, ss, len)))
			fails("a connection", n);
		one_connection(n, listens, bytes, &slowest_ns);
	}
	printf("done=%u slowest_us=%llu\n", count,
	       (unsigned long long)slowest_ns / 1000);
	return 0;
}

/* ---- fork ------------------------------------------------------------------
 */

static void expect(int s, const char *text)
{
	char buf[16];
	ssize_t n = io_recv(s, buf, strlen(text), MSG_WAITALL);

	if (n != (ssize_t)strlen(text) || memcmp(buf, text, (size_t)n) != 0)
		fails(text, n);
}

static void say(int s, const char *text)
{
	if (io_send(s, text, strlen(text), 0) != (ssize_t)strlen(text))
		fails(text, 0);
}

static int child(int s)
{
	char c;

	if (xts_recv(s, &c, 1, 0) >= 0 || errno != EBADF)
		fails("the child's own use", errno);
	if (xts_handover(s))
		fails("the child's xts_handover", 0);
	if (xts_offload_reason(s) != XTS_REASON_HANDED_OVER)
		fails("the child's reason", xts_offload_reason(s));
	say(s, "child");
	return xts_close(s);
}

static int forks(const struct sockaddr_storage *ss, socklen_t len)
{
	int l = io_listener(ss, len, 0, 1, false), s, status = -1;
	pid_t pid;

	printf("listening\n");
	s = io_accept(l, 0);
	if (s < 0)
		fails("accept", s);
	expect(s, "hello");
	engage(s);
	printf("reason=%d\n", xts_offload_reason(s));
	fflush(stdout);
	xsock_child_keeps = true;
	pid = fork();
	if (pid == 0)
		_exit(child(s));
	/* Whoever takes replies serves the child's wish. */
	expect(s, "after");
	if (xts_offload_reason(s) != XTS_REASON_HANDED_OVER)
		fails("the parent's reason", xts_offload_reason(s));
	waitpid(pid, &status, 0);
	if (status)
		fails("the child's status", status);
	say(s, "parent");
	expect(s, "end");
	return xts_close(s);
}

static int fork_peer(const struct sockaddr_storage *ss, socklen_t len)
{
	int s = io_socket(ss->ss_family, SOCK_STREAM);
	char c;

	if (s < 0 || io_connect(s, ss, len))
		fails("connect", s);
	say(s, "hello");
	expect(s, "child");
	say(s, "after");
	expect(s, "parent");
	say(s, "end");
	return io_recv(s, &c, 1, 0) != 0;
}

int main(int argc, char **argv)
{
	struct sockaddr_storage ss;
	socklen_t len;
	bool threads;

	setlinebuf(stdout);
	signal(SIGPIPE, SIG_IGN);
	alarm(120);
	if (argc < 4)
		return 2;
	len = io_addr(&ss, argv[2], argv[3]);
	threads = !strcmp(argv[1], "threads");
	io_use_xts = threads || !strcmp(argv[1], "fork");
	if (argc == 6)
		return many(threads, &ss, len, (unsigned int)atoi(argv[4]),
			    strtoull(argv[5], NULL, 10));
	return io_use_xts ? forks(&ss, len) : fork_peer(&ss, len);
}
