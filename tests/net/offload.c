// SPDX-License-Identifier: BSD-2-Clause
/*
 * offload - one connection, step by step
 *
 *   offload [--xts] listen ADDRESS PORT STEP...
 *   offload [--xts] connect ADDRESS PORT STEP...
 *
 * Either end, with libsock (--xts) or the kernel's sockets. A kernel socket may
 * become libsock's in the middle (import). Bytes of both directions are agreed:
 * each is a function of its position. Steps:
 *
 *   send:N         N bytes, waiting for room
 *   fill:N         what fits of N bytes without waiting; says filled=
 *   upto:N         what is left of N bytes sent in all
 *   oob            one byte, with MSG_OOB
 *   inline         SO_OOBINLINE
 *   recv:N         N bytes, checked
 *   eof            the stream ends here
 *   error:NAME     receiving fails so, then says end of stream
 *   broken:NAME    sending fails so
 *   shut, close    shutdown(SHUT_WR), close
 *   reset          close with SO_LINGER 0
 *   import         xts_import() of the kernel socket
 *   engage         ask for offload; says reason=
 *   handover       xts_handover(), and all is as it should be afterwards
 *   stays:NAME     xts_handover() fails so
 *   inq:N          FIONREAD says N
 *   outq:N         SIOCOUTQ says N within 10 s
 *   rcvbuf:N       SO_RCVBUF; before the address: of the listener, connector
 *   keepalive:I/N  SO_KEEPALIVE: every I seconds, N probes
 *   info           TCP_INFO: its fields, see step_info()
 *   pace:N         SO_MAX_PACING_RATE, bytes a second
 *   say:WORD       a line on stdout
 *   until:FILE     FILE exists
 *   pause:MS
 *
 * Each step that does not go as it should ends the program with a message.
 */
#include "io.h"
#include "libsock/tcp_info.h"

#include <linux/sockios.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>

#define WAIT_S 20

static int s = -1;
static uint64_t sent, received;
static bool client;

static void __attribute__((noreturn)) step_fails(const char *step, long got)
{
	fprintf(stderr, "%s: %ld (%s); %llu bytes sent, %llu received\n", step,
		got, strerror(errno), (unsigned long long)sent,
		(unsigned long long)received);
	exit(1);
}

static uint8_t byte_at(uint64_t pos, bool from_client)
{
	uint64_t v =
		(pos + (from_client ? 1 : 7)) * UINT64_C(0x9e3779b97f4a7c15);

	return (uint8_t)(v >> 56);
}

/* ---- steps -----------------------------------------------------------------
 */

/* 0: all was sent, else how many were not. */
static long send_some(long n, int flags)
{
	uint8_t buf[16384];

	while (n > 0) {
		size_t len = n < (long)sizeof(buf) ? (size_t)n : sizeof(buf);
		ssize_t k;

		for (size_t i = 0; i < len; i++)
			buf[i] = byte_at(sent + i, client);
		k = io_send(s, buf, len, flags);
		if (k < 0)
			break;
		sent += (uint64_t)k;
		n -= k;
	}
	return n;
}

static void step_recv(const char *step, long n)
{
	uint8_t buf[16384];

	while (n > 0) {
		size_t len = n < (long)sizeof(buf) ? (size_t)n : sizeof(buf);
		ssize_t k = io_recv(s, buf, len, 0);

		if (k <= 0)
			step_fails(step, k);
		for (ssize_t i = 0; i < k; i++)
			if (buf[i] != byte_at(received + (uint64_t)i, !client))
				step_fails("altered bytes", i);
		received += (uint64_t)k;
		n -= k;
	}
}

static bool is_error(const char *name)
{
	return (errno == ECONNRESET && !strcmp(name, "ECONNRESET")) ||
	       (errno == ECONNABORTED && !strcmp(name, "ECONNABORTED")) ||
	       (errno == ETIMEDOUT && !strcmp(name, "ETIMEDOUT")) ||
	       (errno == EPIPE && !strcmp(name, "EPIPE")) ||
	       (errno == EBUSY && !strcmp(name, "EBUSY")) ||
	       (errno == ENOTCONN && !strcmp(name, "ENOTCONN"));
}

static void step_error(const char *step, const char *name)
{
	char c;
	ssize_t n = io_recv(s, &c, 1, 0);

	if (n >= 0 || !is_error(name))
		step_fails(step, n);
	n = io_recv(s, &c, 1, 0);
	if (n != 0)
		step_fails(step, n);
}

static void step_engage(const char *step)
{
	uint64_t end = io_now_ns() + UINT64_C(5000000000);
	int reason = XTS_REASON_PENDING;
	char c;

	while (io_use_xts && reason == XTS_REASON_PENDING) {
		xts_recv(s, &c, 1, MSG_DONTWAIT | MSG_PEEK);
		reason = xts_offload_reason(s);
		if (io_now_ns() > end)
			step_fails(step, reason);
	}
	printf("reason=%d\n", reason);
}

/* The kernel's sockets have nothing to do. */
static void step_handover(const char *step)
{
	int fd, flags;

	if (!io_use_xts)
		return;
	fd = xts_shadow_fd(s);
	flags = fcntl(fd, F_GETFD);
	if (xts_handover(s) || xts_shadow_fd(s) != fd ||
	    fcntl(fd, F_GETFD) != flags ||
	    xts_offload_reason(s) != XTS_REASON_HANDED_OVER)
		step_fails(step, xts_offload_reason(s));
}

static int queued(unsigned long request)
{
	int n = -1;

	if (IO_CALL(ioctl, s, request, &n) < 0)
		step_fails("ioctl", n);
	return n;
}

static void step_outq(const char *step, int want)
{
	uint64_t end = io_now_ns() + UINT64_C(10000000000);

	while (queued(SIOCOUTQ) != want) {
		if (io_now_ns() > end)
			step_fails(step, queued(SIOCOUTQ));
		io_sleep_ms(10);
	}
}

static void step_keepalive(const char *arg)
{
	const char *count = strchr(arg, '/');

	if (io_set(s, SOL_SOCKET, SO_KEEPALIVE, 1) < 0 ||
	    io_set(s, IPPROTO_TCP, TCP_KEEPIDLE, atoi(arg)) < 0 ||
	    io_set(s, IPPROTO_TCP, TCP_KEEPINTVL, atoi(arg)) < 0 ||
	    io_set(s, IPPROTO_TCP, TCP_KEEPCNT, atoi(count + 1)) < 0)
		step_fails("keepalive", -1);
}

static void step_info(void)
{
	uint8_t all[512] = {0};
	socklen_t len = sizeof(all);
	struct long_info i;
	const struct tcp_info *b = &i.base;

	if (IO_CALL(getsockopt, s, IPPROTO_TCP, TCP_INFO, all, &len) < 0)
		step_fails("info", -1);
	memcpy(&i, all, sizeof(i));
#define WORD(name, v) printf("%s=%llu ", name, (unsigned long long)(v))
	WORD("mss", b->tcpi_snd_mss);
	WORD("rtt", b->tcpi_rtt);
	WORD("min_rtt", i.min_rtt);
	WORD("rcv_mss", b->tcpi_rcv_mss);
	WORD("rcv_rtt", b->tcpi_rcv_rtt);
	WORD("acked", i.bytes_acked);
	WORD("received", i.bytes_received);
	WORD("sent", i.bytes_sent);
	WORD("resent", i.bytes_retrans);
	WORD("retrans", b->tcpi_total_retrans);
	WORD("waiting", b->tcpi_unacked + b->tcpi_lost + b->tcpi_sacked +
				b->tcpi_retrans + i.notsent_bytes);
	WORD("cwnd", b->tcpi_snd_cwnd);
	WORD("rate", i.delivery_rate);
	WORD("pacing", i.pacing_rate);
#undef WORD
	printf("\n");
}

static void step_until(const char *step, const char *file)
{
	uint64_t end = io_now_ns() + UINT64_C(1000000000) * WAIT_S;

	while (access(file, F_OK) < 0) {
		if (io_now_ns() > end)
			step_fails(step, -1);
		io_sleep_ms(5);
	}
}

static void step_import(const char *step)
{
	int n = xts_import(s);

	if (n < 0)
		step_fails(step, n);
	s = n;
	io_use_xts = true;
}

static bool step_quiet(const char *name)
{
	if (!strcmp(name, "shut")) {
		if (io_shut_wr(s) < 0)
			step_fails(name, -1);
	} else if (!strcmp(name, "reset") || !strcmp(name, "close")) {
		if (*name == 'r')
			io_linger_reset(s);
		if (io_close(s) < 0)
			step_fails(name, -1);
	} else if (!strcmp(name, "import")) {
		step_import(name);
	} else if (!strcmp(name, "info")) {
		step_info();
	} else if (!strcmp(name, "oob")) {
		if (send_some(1, MSG_OOB))
			step_fails(name, 1);
	} else if (!strcmp(name, "inline")) {
		if (io_set(s, SOL_SOCKET, SO_OOBINLINE, 1) < 0)
			step_fails(name, -1);
	} else if (!strcmp(name, "handover")) {
		step_handover(name);
	} else if (!strcmp(name, "engage")) {
		step_engage(name);
	} else if (!strcmp(name, "eof")) {
		char c;
		ssize_t n = io_recv(s, &c, 1, 0);

		if (n != 0)
			step_fails(name, n);
	} else {
		return false;
	}
	return true;
}

static bool is(const char *step, const char *name)
{
	size_t n = strlen(name);

	return !strncmp(step, name, n) && step[n] == ':';
}

static void step_run(const char *step)
{
	const char *arg = strchr(step, ':');
	long n;

	if (!arg && step_quiet(step))
		return;
	if (!arg)
		step_fails("no such step", 0);
	n = atol(++arg);
	if (is(step, "upto")) {
		if (send_some(n - (long)sent, 0))
			step_fails(step, n);
	} else if (is(step, "send")) {
		if (send_some(n, 0))
			step_fails(step, n);
	} else if (is(step, "fill")) {
		printf("filled=%ld\n", n - send_some(n, MSG_DONTWAIT));
	} else if (is(step, "recv")) {
		step_recv(step, n);
	} else if (is(step, "error")) {
		step_error(step, arg);
	} else if (is(step, "broken")) {
		if (!send_some(1, 0) || !is_error(arg))
			step_fails(step, 1);
	} else if (is(step, "stays")) {
		if (io_use_xts && (!xts_handover(s) || !is_error(arg)))
			step_fails(step, 0);
	} else if (is(step, "inq")) {
		if (queued(FIONREAD) != n)
			step_fails(step, queued(FIONREAD));
	} else if (is(step, "outq")) {
		step_outq(step, (int)n);
	} else if (is(step, "keepalive")) {
		step_keepalive(arg);
	} else if (is(step, "pace")) {
		if (io_set(s, SOL_SOCKET, SO_MAX_PACING_RATE, (int)n) < 0)
			step_fails(step, n);
	} else if (is(step, "say")) {
		printf("%s\n", arg);
	} else if (is(step, "until")) {
		step_until(step, arg);
	} else if (is(step, "pause")) {
		io_sleep_ms((unsigned int)n);
	} else {
		step_fails("no such step", 0);
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_storage ss;
	socklen_t len;
	int i = 1, rcvbuf = 0, l;

	setlinebuf(stdout);
	signal(SIGPIPE, SIG_IGN);
	alarm(3 * WAIT_S);
	if (i < argc && !strcmp(argv[i], "--xts") && i++)
		io_use_xts = true;
	if (i < argc && is(argv[i], "rcvbuf"))
		rcvbuf = atoi(argv[i++] + 7);
	if (argc - i < 3) {
		fprintf(stderr,
			"offload [--xts] [rcvbuf:N] listen|connect ADDRESS PORT STEP...\n");
		return 2;
	}
	client = !strcmp(argv[i], "connect");
	len = io_addr(&ss, argv[i + 1], argv[i + 2]);
	l = client ? io_socket(ss.ss_family, SOCK_STREAM)
		   : io_listener(&ss, len, 0, 16, false);
	if (rcvbuf)
		io_set(l, SOL_SOCKET, SO_RCVBUF, rcvbuf);
	if (!client)
		printf("listening\n");
	s = client ? l : io_accept(l, 0);
	if (s < 0 || (client && io_connect(s, &ss, len) < 0))
		io_die("%s", argv[i]);
	for (i += 3; i < argc; i++)
		step_run(argv[i]);
	printf("done\n");
	return 0;
}
