// SPDX-License-Identifier: BSD-2-Clause
/*
 * reuse - connections one after another between the same two ports
 *
 *   reuse [--xts] listen ADDRESS PORT ROUNDS
 *   reuse [--xts] connect ADDRESS PORT ROUNDS LOCAL-PORT END [KEEPER]
 *
 * Each round: connect from LOCAL-PORT, exchange some bytes, END, and at once
 * the next one. END is SIDE-rst, or SIDE-fin: that side closes first; SIDE is
 * connector or listener. KEEPER, a side, shuts its direction down instead and
 * keeps all its sockets, with bytes in them that it has not read, until the
 * last round is over; then it reads them.
 *
 * LOCAL-PORT is tried again while this host's own old connection still has it
 * (EADDRNOTAVAIL). Behind the last round nobody listens: one connect more must
 * be refused. The connector says connect_us= (median), longest_us= and, as the
 * listener, reason_X= (how often) and carried=. What does not go as it should
 * ends the program with a message.
 */
#include "io.h"

#include <signal.h>
#include <sys/socket.h>

#define ROUNDS_MAX 500
#define BYTES 1000
#define LATE 5 /* bytes that the keeper has not read */
#define BUSY_MS 5000

enum side { LISTENER = 'l', CONNECTOR = 'c', NOBODY = '-' };

/* The first bytes of a connection: how it is to end. */
struct end {
	uint8_t first; /* enum side */
	uint8_t reset;
	uint8_t keeper; /* enum side */
};

static enum side me;
static int kept[ROUNDS_MAX];
static unsigned int n_kept, reasons[XTS_REASON_COUNT], rounds;
static uint8_t bytes[BYTES + 1];

/* ---- exchange ------------------------------------------------------------ */

static void send_all(int s, const void *buf, size_t len)
{
	if (io_send(s, buf, len, 0) != (ssize_t)len)
		io_die("send");
}

static void recv_all(int s, void *buf, size_t len)
{
	if (io_recv(s, buf, len, MSG_WAITALL) != (ssize_t)len)
		io_die("recv");
}

/* Whether the service carries it is known when this returns. */
static void engage(int s)
{
	uint64_t end = io_now_ns() + UINT64_C(5000000000);
	int reason = XTS_REASON_PENDING;
	char c;

	while (io_use_xts && reason == XTS_REASON_PENDING) {
		xts_recv(s, &c, 1, MSG_DONTWAIT | MSG_PEEK);
		reason = xts_offload_reason(s);
		if (io_now_ns() > end)
			io_die("the service does not answer");
	}
	if (io_use_xts && reason >= 0 && reason < XTS_REASON_COUNT)
		reasons[reason]++;
}

/* ---- the end ------------------------------------------------------------- */

static void await_end(int s, const struct end *e)
{
	ssize_t n = io_recv(s, bytes, 1, 0);

	if (e->reset ? n >= 0 || errno != ECONNRESET : n != 0)
		io_die("the other side's end: %zd", n);
}

/* Shut @s and keep it. */
static void keep(int s, const struct end *e)
{
	if (e->first != me &&
	    io_recv(s, bytes, LATE + 1, MSG_PEEK | MSG_WAITALL) != LATE)
		io_die("the last bytes and the end");
	if (io_shut_wr(s) < 0)
		io_die("shutdown");
	kept[n_kept++] = s;
}

static void end(int s, const struct end *e)
{
	if (e->keeper == me) {
		keep(s, e);
		return;
	}
	if (e->first != me)
		await_end(s, e);
	if (e->keeper != NOBODY)
		send_all(s, "late", LATE);
	if (e->first == me && e->reset) {
		io_linger_reset(s);
	} else if (e->first == me && me == CONNECTOR) {
		/* Or else tcp_tw_reuse does not wait for the other's FIN. */
		if (io_shut_wr(s) < 0)
			io_die("shutdown");
		await_end(s, e);
	}
	if (io_close(s) < 0)
		io_die("close");
}

static void __attribute__((noreturn))
kept_fails(unsigned int i, const char *what)
{
	errno = errno ? errno : EPROTO;
	io_die("kept socket %u: %s", i, what);
}

/* New connections of their name have come and gone: nothing has changed. */
static void look_at_kept(void)
{
	char buf[2 * LATE] = "";
	uint64_t limit = io_now_ns() + UINT64_C(5000000000);

	for (unsigned int i = 0; i < n_kept; i++) {
		errno = 0;
		/* The last one's end may be on its way. */
		if (io_recv(kept[i], buf, sizeof(buf), MSG_WAITALL) != LATE ||
		    memcmp(buf, "late", LATE) != 0)
			kept_fails(i, "its last bytes");
		if (io_recv(kept[i], buf, 1, 0) != 0)
			kept_fails(i, "the end of the stream");
		if (io_error(kept[i]) != 0)
			kept_fails(i, "SO_ERROR");
		if (io_send(kept[i], buf, 1, 0) >= 0 || errno != EPIPE)
			kept_fails(i, "sending");
		if (io_close(kept[i]) < 0)
			kept_fails(i, "close");
		if (io_now_ns() > limit)
			kept_fails(i, "too slow");
	}
}

/* ---- sides --------------------------------------------------------------- */

static void listen_rounds(const struct sockaddr_storage *ss, socklen_t len)
{
	int l = io_listener(ss, len, 0, 16, false);

	printf("listening\n");
	for (unsigned int i = 0; i < rounds; i++) {
		struct end e;
		int s = io_accept(l, 0);

		if (s < 0)
			io_die("accept");
		if (i + 1 == rounds)
			io_close(l);
		engage(s);
		recv_all(s, &e, sizeof(e));
		recv_all(s, bytes, BYTES);
		send_all(s, bytes, BYTES);
		/* Not before all has arrived: a reset discards the rest. */
		if (e.first == LISTENER)
			recv_all(s, bytes, 1);
		end(s, &e);
	}
}

/* Its result; the socket in *s, the time in *us. */
static int try_connect(const struct sockaddr_storage *to,
		       const struct sockaddr_storage *from, socklen_t len,
		       int *s, uint32_t *us)
{
	uint64_t t0, limit = io_now_ns() + UINT64_C(1000000) * BUSY_MS;
	int err;

	do {
		*s = io_socket(to->ss_family, SOCK_STREAM);
		if (*s < 0)
			io_die("socket");
		io_set(*s, SOL_SOCKET, SO_REUSEADDR, 1);
		if (IO_CALL(bind, *s, (const struct sockaddr *)from, len) < 0)
			io_die("bind");
		t0 = io_now_ns();
		if (io_connect(*s, to, len) == 0) {
			*us = (uint32_t)((io_now_ns() - t0) / 1000);
			return 0;
		}
		err = errno;
		io_close(*s);
	} while (err == EADDRNOTAVAIL && io_now_ns() < limit);
	return err;
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void connect_rounds(const struct sockaddr_storage *to, socklen_t len,
			   const char *port, struct end e)
{
	struct sockaddr_storage from;
	uint32_t us[ROUNDS_MAX], no_us;
	int s, err;

	io_addr(&from, to->ss_family == AF_INET ? "0.0.0.0" : "::", port);
	for (unsigned int i = 0; i < rounds; i++) {
		err = try_connect(to, &from, len, &s, &us[i]);
		if (err) {
			errno = err;
			io_die("connect, round %u", i);
		}
		engage(s);
		send_all(s, &e, sizeof(e));
		send_all(s, bytes, BYTES);
		recv_all(s, bytes, BYTES);
		if (e.first == LISTENER)
			send_all(s, bytes, 1);
		end(s, &e);
	}
	err = try_connect(to, &from, len, &s, &no_us);
	printf("refused=%d\n", err == ECONNREFUSED);
	qsort(us, rounds, sizeof(us[0]), by_value);
	printf("connect_us=%u longest_us=%u\n", us[rounds / 2], us[rounds - 1]);
}

/* ---- command line -------------------------------------------------------- */

static void __attribute__((noreturn)) usage(void)
{
	fprintf(stderr,
		"reuse [--xts] listen ADDRESS PORT ROUNDS\n"
		"reuse [--xts] connect ADDRESS PORT ROUNDS LOCAL-PORT END [KEEPER]\n");
	exit(2);
}

static uint8_t side_of(const char *text)
{
	if (!strncmp(text, "connector", 9))
		return CONNECTOR;
	if (!strncmp(text, "listener", 8))
		return LISTENER;
	usage();
}

int main(int argc, char **argv)
{
	struct sockaddr_storage ss;
	struct end e = {.keeper = NOBODY};
	socklen_t len;
	char **a = argv + 1;

	setlinebuf(stdout);
	signal(SIGPIPE, SIG_IGN);
	alarm(60);
	if (argc > 1 && !strcmp(*a, "--xts") && a++)
		io_use_xts = true;
	argc -= (int)(a - argv);
	if (argc < 4)
		usage();
	me = strcmp(a[0], "listen") ? CONNECTOR : LISTENER;
	len = io_addr(&ss, a[1], a[2]);
	rounds = (unsigned int)atoi(a[3]);
	if (rounds < 1 || rounds > ROUNDS_MAX)
		usage();
	if (me == LISTENER) {
		listen_rounds(&ss, len);
	} else {
		if (argc < 6)
			usage();
		e.first = side_of(a[5]);
		e.reset = strstr(a[5], "-rst") != NULL;
		if (argc > 6)
			e.keeper = side_of(a[6]);
		connect_rounds(&ss, len, a[4], e);
	}
	look_at_kept();
	for (int i = 0; i < XTS_REASON_COUNT; i++)
		if (reasons[i])
			printf("reason_%d=%u\n", i, reasons[i]);
	printf("carried=%u\n", reasons[XTS_REASON_NONE]);
	return 0;
}
