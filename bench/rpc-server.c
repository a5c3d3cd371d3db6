/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rpc-server.c - one-thread echo server, over Linux or over tas-xdp
 *
 *   rpc-server [--stack kernel|kernel-spin|xts] [--address A] [--port P]
 *              [--verbose]
 *
 * kernel       kernel sockets, blocks in epoll_wait()
 * kernel-spin  kernel sockets, calls epoll_wait() with timeout 0 for ever
 * xts          libsock, waits in xts_epoll_wait()
 *
 * Sends back what it receives, byte for byte, with TCP_NODELAY. A connection
 * whose peer does not read is not read from either, so that what it holds is
 * bounded by one buffer. Says "ready" on stdout when it listens; on SIGTERM or
 * SIGINT how many connections it served and how many of them were not carried
 * by the stack that was asked for, and why.
 */
#include "bench/measure.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#define BUFFER_SIZE 4096u
#define EVENTS 64

struct conn {
	struct conn *prev, *next; /* in server.open */
	int s;
	bool seen;    /* it was asked what carries it */
	uint32_t off; /* of what is still to be sent back */
	uint32_t len; /* 0: nothing */
	uint8_t buf[BUFFER_SIZE];
};

struct server {
	const struct stack *st;
	bool spin;
	bool verbose;
	void *poller;
	struct conn listener;
	struct conn *open;	 /* list */
	unsigned long conns;	 /* echoed at least once */
	unsigned long offloaded; /* of those, carried by tas-xdp */
	const char *reason;	 /* of the last one that was not */
};

static volatile sig_atomic_t stopped;

/* The alarm interrupts a wait that began just before the first signal. */
static void stop(int sig)
{
	stopped = 1;
	alarm(1);
}

static void server_drop(struct server *srv, struct conn *c)
{
	srv->st->poller_ctl(srv->poller, EPOLL_CTL_DEL, c->s, NULL);
	srv->st->close(c->s);
	DL_DELETE(srv->open, c);
	free(c);
}

static void server_watch(struct server *srv, struct conn *c, int op,
			 uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = c};

	if (srv->st->poller_ctl(srv->poller, op, c->s, &ev) < 0)
		die_errno("epoll_ctl");
}

/* Accept all that wait: a burst of set-ups costs one wake-up. */
static void server_accept(struct server *srv)
{
	struct conn *c;
	int s;

	for (;;) {
		s = srv->st->accept4(srv->listener.s, NULL, NULL,
				     SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (s < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (s < 0 && errno == ECONNABORTED)
			continue;
		if (s < 0)
			die_errno("accept");
		c = malloc(sizeof(*c));
		if (!c)
			die("out of memory");
		c->s = s;
		c->seen = false;
		c->len = 0;
		DL_APPEND(srv->open, c);
		server_watch(srv, c, EPOLL_CTL_ADD, EPOLLIN);
	}
}

/* Cold: after a connection's first echo. */
static __attribute__((noinline)) void server_see(struct server *srv,
						 struct conn *c)
{
	const char *reason = srv->st->not_offloaded(c->s);

	c->seen = true;
	srv->conns++;
	if (reason)
		srv->reason = reason;
	else
		srv->offloaded++;
	if (srv->verbose)
		printf("connection %lu is carried by %s%s%s\n", srv->conns,
		       reason ? "the kernel: " : "tas-xdp",
		       reason ? reason : "", "");
	fflush(stdout);
}

/* Send what the connection holds; false: the connection is gone. */
static bool server_send(struct server *srv, struct conn *c)
{
	ssize_t n;

	n = srv->st->send(c->s, c->buf + c->off, c->len, MSG_NOSIGNAL);
	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		server_drop(srv, c);
		return false;
	}
	if (n > 0) {
		c->off += (uint32_t)n;
		c->len -= (uint32_t)n;
	}
	return true;
}

static void server_echo(struct server *srv, struct conn *c)
{
	ssize_t n;

	n = srv->st->recv(c->s, c->buf, sizeof(c->buf), 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		server_drop(srv, c);
		return;
	}
	c->off = 0;
	c->len = (uint32_t)n;
	if (!server_send(srv, c))
		return;
	if (!c->seen)
		server_see(srv, c);
	if (c->len)
		server_watch(srv, c, EPOLL_CTL_MOD, EPOLLOUT);
}

static void server_event(struct server *srv, struct conn *c)
{
	if (c == &srv->listener) {
		server_accept(srv);
	} else if (!c->len) {
		server_echo(srv, c);
	} else if (server_send(srv, c) && !c->len) {
		server_watch(srv, c, EPOLL_CTL_MOD, EPOLLIN);
	}
}

static void server_loop(struct server *srv)
{
	int timeout = srv->spin ? 0 : -1, i, n;
	struct epoll_event ev[EVENTS];

	while (!stopped) {
		n = srv->st->poller_wait(srv->poller, ev, EVENTS, timeout);
		if (n < 0 && errno != EINTR)
			die_errno("epoll_wait");
		for (i = 0; i < n; i++)
			server_event(srv, ev[i].data.ptr);
	}
}

static void server_listen(struct server *srv, const char *address,
			  unsigned int port)
{
	struct sockaddr_storage ss;
	socklen_t len = address_parse(address, port, &ss);
	int one = 1, s;

	s = srv->st->socket(ss.ss_family,
			    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s < 0)
		die_errno("socket");
	srv->st->setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	socket_tune(srv->st, s);
	if (srv->st->bind(s, (struct sockaddr *)&ss, len) < 0)
		die_errno("bind to %s port %u", address, port);
	if (srv->st->listen(s, 4096) < 0)
		die_errno("listen on %s port %u", address, port);
	srv->poller = srv->st->poller_create();
	if (!srv->poller)
		die_errno("poller");
	srv->listener.s = s;
	server_watch(srv, &srv->listener, EPOLL_CTL_ADD, EPOLLIN);
}

static void stack_choose(struct server *srv, const char *name)
{
	srv->spin = strcmp(name, "kernel-spin") == 0;
	if (srv->spin || strcmp(name, "kernel") == 0)
		srv->st = &stack_kernel;
	else if (strcmp(name, "xts") == 0)
		srv->st = &stack_xts;
	else
		die("--stack is kernel, kernel-spin or xts, not '%s'", name);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"stack", required_argument, NULL, 's'},
		{"address", required_argument, NULL, 'a'},
		{"port", required_argument, NULL, 'p'},
		{"verbose", no_argument, NULL, 'v'},
		{0},
	};
	struct sigaction sa = {.sa_handler = stop};
	struct server srv = {.st = &stack_kernel};
	const char *address = "::";
	unsigned int port = 7777;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (c == 's')
			stack_choose(&srv, optarg);
		else if (c == 'a')
			address = optarg;
		else if (c == 'p')
			port = number_parse("port", optarg, 1, 65535);
		else if (c == 'v')
			srv.verbose = true;
		else
			return 2;
	}
	descriptors_raise();
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGALRM, &sa, NULL);
	server_listen(&srv, address, port);
	printf("ready\n");
	fflush(stdout);
	server_loop(&srv);
	while (srv.open)
		server_drop(&srv, srv.open);
	srv.st->poller_destroy(srv.poller);
	printf("connections %lu\noffloaded %lu\n", srv.conns, srv.offloaded);
	if (srv.st == &stack_xts && srv.reason)
		printf("reason %s\n", srv.reason);
	return 0;
}
