// SPDX-License-Identifier: BSD-2-Clause
/*
 * urgent - a generated sequence of urgent and other data, and what the reader
 * sees of it after each step
 *
 *   urgent NETNS ROLE HOW SEED STEPS ADDRESS PORT
 *
 *   NETNS   of the peer, a file; its end of the connection is a kernel socket
 *   ROLE    what our end does: read or write
 *   HOW     xts or kernel: our end's calls
 *   ADDRESS the peer's, where it listens: our end connects
 *
 * One process has both ends, so that steps follow one another: what was sent
 * has been acknowledged, and signalled, before the next step. The output is a
 * line a step, which must be the same whoever carries the connection; with xts
 * it is an error if the service does not.
 */
#include "io.h"
#include "stream.h"

#include <linux/sockios.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>

#define WAIT_MS 5000

struct end {
	int s;
	bool xts;
};

static struct end reader, writer;
static struct io_loop loop;
static uint64_t rng;
static volatile sig_atomic_t signals;
static unsigned int sent_urgent;

static uint32_t pick(uint32_t n)
{
	return (uint32_t)(stream_mix(&rng) % n);
}

static void on_urgent(int sig)
{
	signals++;
}

/* ---- the ends ------------------------------------------------------------ */

static void enter(int ns)
{
	if (setns(ns, CLONE_NEWNET) < 0)
		io_die("setns");
}

/* The peer's listener, in its namespace. */
static int peer_listen(const char *netns, const struct sockaddr_storage *to,
		       socklen_t len)
{
	int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	int ns = open(netns, O_RDONLY | O_CLOEXEC), l;

	if (own < 0 || ns < 0)
		io_die("%s", netns);
	enter(ns);
	l = io_listener(to, len, 0, 1, false);
	enter(own);
	close(ns);
	close(own);
	return l;
}

/* All calls on an end are of its kind. */
static struct end *use(struct end *e)
{
	io_use_xts = e->xts;
	return e;
}

static int ask(struct end *e, unsigned long request)
{
	int n = -1;

	use(e);
	if (IO_CALL(ioctl, e->s, request, &n) < 0)
		io_die("ioctl %lx", request);
	return n;
}

static void connect_ends(char **argv, bool xts, bool reads)
{
	struct sockaddr_storage to;
	socklen_t len = io_addr(&to, argv[6], argv[7]);
	struct end *ours = reads ? &reader : &writer;
	struct end *peer = reads ? &writer : &reader;
	int l = peer_listen(argv[1], &to, len);

	ours->xts = xts;
	use(ours);
	ours->s = io_socket(to.ss_family, SOCK_STREAM);
	if (io_connect(ours->s, &to, len) < 0)
		io_die("connect");
	use(peer);
	peer->s = io_accept(l, 0);
	if (peer->s < 0)
		io_die("accept");
	io_set(use(&writer)->s, IPPROTO_TCP, TCP_NODELAY, 1);
	use(&reader);
	if (IO_CALL(fcntl, reader.s, F_SETOWN, getpid()) < 0)
		io_die("F_SETOWN");
	io_loop_open(&loop);
	if (io_loop_ctl(&loop, EPOLL_CTL_ADD, reader.s, EPOLLIN | EPOLLPRI,
			NULL) < 0)
		io_die("epoll_ctl");
	close(l);
}

/* The first use, and the service's decision. */
static void settle(const struct end *e)
{
	for (int i = 0; e->xts && i < WAIT_MS; i++) {
		if (!xts_offload_reason(e->s))
			return;
		io_sleep_ms(1);
	}
	if (!e->xts)
		return;
	fprintf(stderr, "not offloaded: %s\n",
		xts_reason_text(xts_offload_reason(e->s)));
	exit(1);
}

/* ---- steps --------------------------------------------------------------- */

/* Until the reader's end has all of it, and the signals for it. */
static void arrived(void)
{
	int i;

	for (i = 0; i < WAIT_MS && ask(&writer, SIOCOUTQ); i++) {
		/* As far as it is Linux's: no waiting for more to acknowledge.
		 */
		if (!reader.xts)
			io_set(use(&reader)->s, IPPROTO_TCP, TCP_QUICKACK, 1);
		if (i > 10)
			io_sleep_ms(1);
	}
	for (; i < WAIT_MS && signals < (int)sent_urgent; i++)
		io_sleep_ms(1);
	if (i == WAIT_MS)
		printf("too late: ");
}

static void step_send(int flags)
{
	char buf[32];
	uint32_t n = 1 + pick(flags ? 4 : 20);

	for (uint32_t i = 0; i < n; i++)
		buf[i] = (char)((flags ? 'A' : 'a') + pick(26));
	use(&writer);
	printf("send%s %.*s: %zd", flags ? " oob" : "", (int)n, buf,
	       io_send(writer.s, buf, n, flags));
	sent_urgent += flags != 0;
	arrived();
}

static void step_recv(int flags)
{
	char buf[41] = "";
	uint32_t len = flags & MSG_OOB ? pick(8) != 0 : 1 + pick(40);
	struct iovec iov = {buf, len};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	use(&reader);
	n = IO_CALL(recvmsg, reader.s, &m, flags | MSG_DONTWAIT);
	printf("recv %u flags %x: %zd", len, flags, n);
	if (n < 0)
		printf(" %s", strerrorname_np(errno));
	else
		printf(" \"%s\" %x", buf, m.msg_flags);
}

static void step_inline(void)
{
	int on = (int)pick(2);

	printf("inline %d", on);
	io_set(use(&reader)->s, SOL_SOCKET, SO_OOBINLINE, on);
}

static uint32_t events(void)
{
	struct epoll_event ev = {0};

	use(&reader);
	return io_loop_wait(&loop, &ev, 1, 0) == 1
		       ? ev.events & (EPOLLIN | EPOLLPRI)
		       : 0;
}

static void state(void)
{
	printf("; mark %d queued %d events %x signals %d\n",
	       ask(&reader, SIOCATMARK), ask(&reader, FIONREAD), events(),
	       (int)signals);
}

static void step(void)
{
	switch (pick(12)) {
	case 0:
	case 1:
		step_send(0);
		break;
	case 2:
	case 3:
		step_send(MSG_OOB);
		break;
	case 4:
	case 5:
	case 6:
		step_recv(0);
		break;
	case 7:
		step_recv(MSG_PEEK);
		break;
	case 8:
		step_recv(MSG_OOB);
		break;
	case 9:
		step_recv(MSG_OOB | MSG_PEEK);
		break;
	case 10:
		step_recv(pick(2) ? MSG_TRUNC : MSG_WAITALL);
		break;
	default:
		step_inline();
	}
	state();
}

/* The end comes behind an urgent byte that nobody has read. */
static void finish(void)
{
	struct pollfd p = {.fd = reader.s, .events = POLLRDHUP};

	step_send(MSG_OOB);
	state();
	use(&writer);
	io_shut_wr(writer.s);
	use(&reader);
	if (!reader.xts)
		poll(&p, 1, WAIT_MS);
	for (int i = 0; reader.xts && i < WAIT_MS; i++) {
		struct epoll_event ev = {0};

		io_loop_ctl(&loop, EPOLL_CTL_MOD, reader.s, EPOLLRDHUP, NULL);
		if (io_loop_wait(&loop, &ev, 1, 1) == 1)
			break;
	}
	io_loop_ctl(&loop, EPOLL_CTL_MOD, reader.s, EPOLLIN | EPOLLPRI, NULL);
	step_recv(MSG_OOB | MSG_PEEK);
	state();
	for (int i = 0; i < 10; i++) {
		step_recv(0);
		state();
	}
	step_recv(MSG_OOB);
	state();
}

int main(int argc, char **argv)
{
	struct sigaction sa = {.sa_handler = on_urgent, .sa_flags = SA_RESTART};
	bool reads, xts;
	int steps;

	if (argc != 8)
		return 2;
	setlinebuf(stdout);
	sigaction(SIGURG, &sa, NULL);
	stream_init();
	reads = !strcmp(argv[2], "read");
	xts = !strcmp(argv[3], "xts");
	rng = strtoull(argv[4], NULL, 10);
	steps = atoi(argv[5]);
	connect_ends(argv, xts, reads);
	/* Both have been used, and what was sent is as it will be. */
	step_send(0);
	printf("\n");
	step_recv(0);
	printf("\n");
	settle(&reader);
	settle(&writer);
	for (int i = 0; i < steps; i++)
		step();
	settle(&reader);
	settle(&writer);
	finish();
	use(&writer);
	io_close(writer.s);
	use(&reader);
	io_close(reader.s);
	return 0;
}
