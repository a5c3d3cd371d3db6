/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * xts-echo-server - sends back what it receives, over XTS sockets
 *
 * An example of the two event loops that libsock offers: xts_epoll_wait(), and
 * with --paper-loop the program's own epoll that holds xts_epoll_fd(). Each
 * thread has a listener of its own (SO_REUSEPORT) and a polling context of its
 * own; a connection never leaves its thread.
 *
 * A connection reads into its buffer, then writes it out; while something is
 * left to write it doesn't read, so a peer that doesn't read stops us instead
 * of filling memory. After the peer's FIN what is left is written and the
 * connection closed: a half-closed peer gets all of its echo.
 */
#include <xts.h>

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_EVENTS 64
#define BUF_SIZE 16384
#define MAX_THREADS 64

struct conn {
	int s;
	uint32_t events;   /* registered */
	size_t start, end; /* what is left to write: buf[start .. end) */
	bool eof;
	bool told; /* its offload reason was printed */
	char buf[BUF_SIZE];
};

static struct {
	const char *addr;
	unsigned int port, threads;
	bool paper_loop, spin, verbose;
} opt = {.addr = "0.0.0.0", .port = 7777, .threads = 1};

static atomic_bool stop;

static void on_signal(int sig)
{
	stop = true;
}

static void die(const char *what)
{
	fprintf(stderr, "xts-echo-server: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int listener_open(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET,
				 .sin_port = htons((uint16_t)opt.port)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6,
				   .sin6_port = htons((uint16_t)opt.port)};
	bool v6 = inet_pton(AF_INET6, opt.addr, &in6.sin6_addr) == 1;
	int s, one = 1;

	if (!v6 && inet_pton(AF_INET, opt.addr, &in.sin_addr) != 1) {
		errno = EINVAL;
		die(opt.addr);
	}
	s = xts_socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (s < 0)
		die("socket");
	xts_setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (opt.threads > 1)
		xts_setsockopt(s, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
	if (v6 ? xts_bind(s, (struct sockaddr *)&in6, sizeof(in6))
	       : xts_bind(s, (struct sockaddr *)&in, sizeof(in)))
		die("bind");
	if (xts_listen(s, 4096))
		die("listen");
	return s;
}

static void conn_close(struct conn *c)
{
	xts_close(c->s);
	free(c);
}

static void tell_reason(struct conn *c)
{
	int why = xts_offload_reason(c->s);

	if (!opt.verbose || c->told || why < 0)
		return;
	c->told = true;
	printf("socket %d: %s\n", c->s, xts_reason_text(why));
	fflush(stdout);
}

/* Waits for what the connection can go on with. */
static void conn_arm(void *ectx, struct conn *c)
{
	struct epoll_event ev = {.data.ptr = c};

	ev.events = c->start < c->end ? EPOLLOUT : EPOLLIN;
	if (ev.events == c->events)
		return;
	c->events = ev.events;
	xts_epoll_ctl(ectx, EPOLL_CTL_MOD, c->s, &ev);
}

/* 0: go on waiting, -1: the connection is over */
static int conn_write(struct conn *c)
{
	ssize_t n;

	while (c->start < c->end) {
		n = xts_send(c->s, c->buf + c->start, c->end - c->start,
			     MSG_NOSIGNAL);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -1;
		c->start += (size_t)n;
	}
	c->start = c->end = 0;
	return c->eof ? -1 : 0;
}

static void conn_ready(void *ectx, struct conn *c)
{
	ssize_t n;

	tell_reason(c);
	if (c->start == c->end && !c->eof) {
		n = xts_recv(c->s, c->buf, sizeof(c->buf), 0);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0) {
			conn_close(c);
			return;
		}
		c->eof = n == 0;
		c->end = (size_t)n;
	}
	if (conn_write(c) || (c->eof && c->start == c->end)) {
		conn_close(c);
		return;
	}
	conn_arm(ectx, c);
}

static void accept_all(void *ectx, int listener)
{
	struct epoll_event ev = {.events = EPOLLIN};
	struct conn *c;
	int s, one = 1;

	while ((s = xts_accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
		c = calloc(1, sizeof(*c));
		if (!c) {
			xts_close(s);
			continue;
		}
		c->s = s;
		c->events = ev.events;
		ev.data.ptr = c;
		xts_setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		if (xts_epoll_ctl(ectx, EPOLL_CTL_ADD, s, &ev))
			conn_close(c);
	}
}

static void handle(void *ectx, int listener, struct epoll_event *ev, int n)
{
	int i;

	for (i = 0; i < n; i++) {
		if (ev[i].data.ptr)
			conn_ready(ectx, ev[i].data.ptr);
		else
			accept_all(ectx, listener);
	}
}

/* As in the paper: an epoll of the program's own, the context inside it. */
static void paper_loop(void *ectx, int listener)
{
	struct epoll_event outer = {.events = EPOLLIN, .data.ptr = ectx};
	struct epoll_event evs[MAX_EVENTS], xevs[MAX_EVENTS];
	int epfd = epoll_create1(EPOLL_CLOEXEC), i, n, xn;

	if (epfd < 0 ||
	    epoll_ctl(epfd, EPOLL_CTL_ADD, xts_epoll_fd(ectx), &outer))
		die("epoll");
	while (!stop) {
		n = epoll_wait(epfd, evs, MAX_EVENTS, 500);
		for (i = 0; i < n; i++) {
			if (evs[i].data.ptr != ectx)
				continue;
			xn = xts_epoll(ectx, xevs, MAX_EVENTS);
			handle(ectx, listener, xevs, xn);
		}
	}
	close(epfd);
}

static void *thread_main(void *arg)
{
	struct epoll_event ev = {.events = EPOLLIN}, evs[MAX_EVENTS];
	void *ectx = xts_epoll_ctx_create();
	int listener = *(int *)arg, n;

	if (!ectx || xts_epoll_ctl(ectx, EPOLL_CTL_ADD, listener, &ev))
		die("polling context");
	if (opt.paper_loop)
		paper_loop(ectx, listener);
	while (!stop) {
		n = xts_epoll_wait(ectx, evs, MAX_EVENTS, 500);
		if (n < 0 && errno != EINTR)
			die("xts_epoll_wait");
		handle(ectx, listener, evs, n);
	}
	xts_close(listener);
	xts_epoll_ctx_destroy(ectx);
	return NULL;
}

static void usage(int status)
{
	fprintf(status ? stderr : stdout,
		"usage: xts-echo-server [--addr A] [--port P] [--threads N]\n"
		"                       [--paper-loop] [--spin] [--verbose]\n"
		"  --addr A      IPv4 or IPv6 address to listen on (0.0.0.0)\n"
		"  --port P      (7777)\n"
		"  --threads N   each with its own listener (SO_REUSEPORT)\n"
		"  --paper-loop  own epoll around xts_epoll_fd()\n"
		"  --spin        never sleep\n"
		"  --verbose     say which connections are offloaded, or why not\n");
	exit(status);
}

static void parse(int argc, char **argv)
{
	static const struct option options[] = {
		{"addr", required_argument, NULL, 'a'},
		{"port", required_argument, NULL, 'p'},
		{"threads", required_argument, NULL, 't'},
		{"paper-loop", no_argument, NULL, 'l'},
		{"spin", no_argument, NULL, 's'},
		{"verbose", no_argument, NULL, 'v'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int o;

	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (o) {
		case 'a':
			opt.addr = optarg;
			break;
		case 'p':
			opt.port = (unsigned int)atoi(optarg);
			break;
		case 't':
			opt.threads = (unsigned int)atoi(optarg);
			break;
		case 'l':
			opt.paper_loop = true;
			break;
		case 's':
			opt.spin = true;
			break;
		case 'v':
			opt.verbose = true;
			break;
		case 'h':
			usage(0);
			break;
		default:
			usage(2);
		}
	}
	if (optind != argc || opt.port < 1 || opt.port > 65535 ||
	    opt.threads < 1 || opt.threads > MAX_THREADS)
		usage(2);
}

int main(int argc, char **argv)
{
	struct sigaction sa = {.sa_handler = on_signal};
	pthread_t thread[MAX_THREADS] = {0};
	int listener[MAX_THREADS] = {0};
	unsigned int i;

	parse(argc, argv);
	/* The library reads it once, at the first call. */
	if (opt.spin)
		setenv("XTS_SPIN_US", "1000000000000", 1);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	for (i = 0; i < opt.threads; i++)
		listener[i] = listener_open();
	printf("listening on %s port %u\n", opt.addr, opt.port);
	fflush(stdout);
	for (i = 1; i < opt.threads; i++)
		if (pthread_create(&thread[i], NULL, thread_main, &listener[i]))
			die("pthread_create");
	thread_main(&listener[0]);
	for (i = 1; i < opt.threads; i++)
		pthread_join(thread[i], NULL);
	return 0;
}
