/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * setup-client.c - how fast connections are opened
 *
 *   setup-client [--stack kernel|xts] [--address A] [--port P] [--count N]
 *                [--busy] [--conns N]
 *
 * Without --conns, N connections one after another: socket, connect, send 64
 * bytes, and the time from before connect() to the first byte of the answer;
 * then close. With --conns, that many at a time by non-blocking sockets and a
 * poller: connect, one request and its answer, close, and the next; "rps" is
 * then connections a second, and the latency that of a whole connection up to
 * its answer. --busy polls instead of sleeping.
 *
 * The client closes first: TIME_WAIT is its own, none stays with the server.
 * Memory: one small struct a concurrent connection. Prints "NAME VALUE" lines
 * as rpc-client does.
 */
#include "bench/measure.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CONNS 1024u
#define REQUEST 64u
#define SECONDS 120u

enum step { STEP_CONNECTING, STEP_WAITING };

struct conn {
	int s;
	enum step step;
	uint32_t got;
	uint64_t begin_ns;
};

struct client {
	const struct stack *st;
	const char *address;
	unsigned int port, conns;
	bool busy;
	uint64_t count, opened, closed;
	struct sockaddr_storage ss;
	socklen_t ss_len;
	void *poller;
	uint8_t request[REQUEST];
	struct conn conn[MAX_CONNS];
	struct hist hist;
};

static int client_socket(struct client *cl, int flags)
{
	int s = cl->st->socket(cl->ss.ss_family,
			       SOCK_STREAM | SOCK_CLOEXEC | flags, 0);

	if (s < 0)
		die_errno("socket");
	socket_tune(cl->st, s);
	return s;
}

/* Bytes of the answer at @got: true if they are what was sent. */
static void answer_check(struct client *cl, const uint8_t *buf, uint32_t got,
			 size_t len)
{
	if (memcmp(buf, cl->request + got, len) != 0)
		die("connection %llu: the answer is not the request",
		    (unsigned long long)cl->closed);
}

/* ---- one after another --------------------------------------------------- */

/* The rest of the answer, and the time when its first byte had come. */
static uint64_t answer_wait(struct client *cl, int s)
{
	int flags = cl->busy ? MSG_DONTWAIT : 0;
	uint8_t buf[REQUEST];
	uint64_t first = 0;
	uint32_t got = 0;
	ssize_t n;

	while (got < REQUEST) {
		n = cl->st->recv(s, buf, sizeof(buf) - got, flags);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n < 0)
			die_errno("receive");
		if (n == 0)
			die("the server closed a connection");
		if (!first)
			first = now_ns();
		answer_check(cl, buf, got, (size_t)n);
		got += (uint32_t)n;
	}
	return first;
}

/* connect(), busy: calling it again tells whether it is done. */
static void connect_wait(struct client *cl, int s)
{
	const struct sockaddr *sa = (struct sockaddr *)&cl->ss;

	while (cl->st->connect(s, sa, cl->ss_len) < 0) {
		if (cl->busy && errno == EISCONN)
			return;
		if (!cl->busy || (errno != EINPROGRESS && errno != EALREADY))
			die_errno("connect to %s port %u", cl->address,
				  cl->port);
	}
}

static void latency_run(struct client *cl)
{
	uint64_t begin;
	int s;

	while (cl->closed < cl->count) {
		s = client_socket(cl, cl->busy ? SOCK_NONBLOCK : 0);
		begin = now_ns();
		connect_wait(cl, s);
		if (cl->st->send(s, cl->request, REQUEST, MSG_NOSIGNAL) !=
		    REQUEST)
			die_errno("send");
		hist_add(&cl->hist, answer_wait(cl, s) - begin);
		cl->st->close(s);
		cl->closed++;
	}
}

/* ---- many at a time ------------------------------------------------------ */

static void conn_watch(struct client *cl, struct conn *c, int op,
		       uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = c};

	if (cl->st->poller_ctl(cl->poller, op, c->s, &ev) < 0)
		die_errno("epoll_ctl");
}

static void conn_open(struct client *cl, struct conn *c)
{
	if (cl->opened == cl->count) {
		c->s = -1;
		return;
	}
	cl->opened++;
	c->s = client_socket(cl, SOCK_NONBLOCK);
	c->step = STEP_CONNECTING;
	c->got = 0;
	c->begin_ns = now_ns();
	if (cl->st->connect(c->s, (struct sockaddr *)&cl->ss, cl->ss_len) < 0 &&
	    errno != EINPROGRESS)
		die_errno("connect to %s port %u", cl->address, cl->port);
	conn_watch(cl, c, EPOLL_CTL_ADD, EPOLLOUT);
}

static void conn_established(struct client *cl, struct conn *c)
{
	socklen_t len = sizeof(int);
	int err = 0;

	cl->st->getsockopt(c->s, SOL_SOCKET, SO_ERROR, &err, &len);
	if (err) {
		errno = err;
		die_errno("connect to %s port %u", cl->address, cl->port);
	}
	if (cl->st->send(c->s, cl->request, REQUEST, MSG_NOSIGNAL) != REQUEST) {
		if (errno == EAGAIN)
			return; /* being offloaded: EPOLLOUT comes again */
		die_errno("send");
	}
	c->step = STEP_WAITING;
	conn_watch(cl, c, EPOLL_CTL_MOD, EPOLLIN);
}

static void conn_answer(struct client *cl, struct conn *c)
{
	uint8_t buf[REQUEST];
	ssize_t n;

	n = cl->st->recv(c->s, buf, REQUEST - c->got, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0)
		die_errno("receive");
	if (n == 0)
		die("the server closed a connection");
	answer_check(cl, buf, c->got, (size_t)n);
	c->got += (uint32_t)n;
	if (c->got < REQUEST)
		return;
	hist_add(&cl->hist, now_ns() - c->begin_ns);
	cl->st->poller_ctl(cl->poller, EPOLL_CTL_DEL, c->s, NULL);
	cl->st->close(c->s);
	cl->closed++;
	conn_open(cl, c);
}

static void rate_run(struct client *cl)
{
	struct epoll_event ev[64];
	unsigned int k;
	int i, n;

	cl->poller = cl->st->poller_create();
	if (!cl->poller)
		die_errno("poller");
	for (k = 0; k < cl->conns; k++)
		conn_open(cl, &cl->conn[k]);
	while (cl->closed < cl->count) {
		n = cl->st->poller_wait(cl->poller, ev, 64, cl->busy ? 0 : -1);
		if (n < 0 && errno != EINTR)
			die_errno("epoll_wait");
		for (i = 0; i < n; i++) {
			struct conn *c = ev[i].data.ptr;

			if (c->step == STEP_CONNECTING)
				conn_established(cl, c);
			else
				conn_answer(cl, c);
		}
	}
	cl->st->poller_destroy(cl->poller);
}

static void client_run(struct client *cl)
{
	uint64_t begin;
	unsigned int i;

	cl->ss_len = address_parse(cl->address, cl->port, &cl->ss);
	for (i = 0; i < REQUEST; i++)
		cl->request[i] = (uint8_t)(i * 29 + 3);
	begin = now_ns();
	if (cl->conns)
		rate_run(cl);
	else
		latency_run(cl);
	hist_print(&cl->hist, now_ns() - begin);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"stack", required_argument, NULL, 's'},
		{"address", required_argument, NULL, 'a'},
		{"port", required_argument, NULL, 'p'},
		{"count", required_argument, NULL, 'n'},
		{"conns", required_argument, NULL, 'c'},
		{"busy", no_argument, NULL, 'b'},
		{0},
	};
	static struct client cl = {
		.st = &stack_kernel,
		.address = "10.9.0.2",
		.port = 7777,
		.count = 1000,
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (c == 's')
			cl.st = stack_find(optarg);
		else if (c == 'a')
			cl.address = optarg;
		else if (c == 'p')
			cl.port = number_parse("port", optarg, 1, 65535);
		else if (c == 'n')
			cl.count = number_parse("count", optarg, 1, 100000000);
		else if (c == 'c')
			cl.conns = number_parse("conns", optarg, 1, MAX_CONNS);
		else if (c == 'b')
			cl.busy = true;
		else
			return 2;
	}
	descriptors_raise();
	deadline_set(SECONDS);
	client_run(&cl);
	return 0;
}
