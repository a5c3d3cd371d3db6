/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bulk.c - goodput of a few connections that carry as much as they can
 *
 *   bulk --listen [--stack kernel|xts] [--congestion NAME] [--address A]
 *        [--port P]
 *   bulk --send|--receive --address A [--port P] [--conns N] [--duration MS]
 *        [--warmup MS] [--stack ...] [--congestion NAME]
 *
 * The connector opens N connections and, when all of them are there, orders on
 * each who sends and when: from START_MS later on, so that set-up under loss
 * does not count. Counted is what the receiving program reads between warm-up
 * and end, whichever end it is; both ends look at one machine's monotonic
 * clock. A listener that received tells the connector by an answer on the
 * connection, which the connector then resets: what is queued must not burden
 * the next measurement.
 *
 * The connector prints "NAME VALUE" lines: mbps of all, flow_mbps of each,
 * Jain's index of these, and the longest time in which a flow got nothing. The
 * listener says "ready", and at its end (SIGTERM, SIGINT) how many connections
 * it had and how many of them were carried by the stack that was asked for.
 */
#include "bench/measure.h"

#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define ORDER_MAGIC 0x62756c6bu
#define START_MS                                                               \
	600u /* time for an order to arrive, also if it is lost once           \
	      */
#define CONNECT_S 20ull
#define ANSWER_S 20ull /* behind the end */
#define CHUNK 65536u
#define ROUNDS 16 /* calls for one connection before the next has its turn */
#define EVENTS 64
#define MAX_CONNS 1000u
#define NS_PER_MS 1000000ull

struct order {
	uint32_t magic;
	uint32_t listener_sends;
	uint64_t start_ns, from_ns, to_ns;
};

struct answer {
	uint64_t bytes, stall_ns;
};

struct conn {
	struct conn *prev, *next; /* listener: in open */
	int s;
	bool connected;
	bool looked; /* in the middle it was asked what carries it */
	bool seen;   /* the end has come */
	bool done;
	uint32_t watched; /* events that the poller was told */
	uint32_t have;	  /* bytes of the order or answer that have passed */
	struct order order;
	struct answer got; /* what was received between from and to */
	uint64_t last_ns;  /* when something was received last */
};

static struct bulk {
	const struct stack *st;
	const char *congestion;
	bool listening, listener_sends;
	unsigned int n, duration_ms, warmup_ms;
	void *poller;
	struct conn listener;
	struct conn *open;
	unsigned long conns, offloaded;
	const char *reason;
} bulk = {.st = &stack_kernel, .n = 1, .duration_ms = 3000};

static volatile sig_atomic_t stopped;
static char scrap[CHUNK];

static void stop(int sig)
{
	stopped = 1;
}

/* ---- both ends ----------------------------------------------------------- */

static bool again(ssize_t n)
{
	return n < 0 && (errno == EAGAIN || errno == EINTR);
}

static void conn_watch(struct conn *c, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = c};

	if (events == c->watched)
		return;
	c->watched = events;
	if (bulk.st->poller_ctl(bulk.poller, EPOLL_CTL_MOD, c->s, &ev) < 0)
		die_errno("epoll_ctl");
}

static void conn_add(struct conn *c, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = c};

	c->watched = events;
	if (bulk.st->poller_ctl(bulk.poller, EPOLL_CTL_ADD, c->s, &ev) < 0)
		die_errno("epoll_ctl");
}

static int conn_socket(int family)
{
	int s = bulk.st->socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0);

	if (s < 0)
		die_errno("socket");
	socket_tune(bulk.st, s);
	if (bulk.congestion &&
	    bulk.st->setsockopt(s, IPPROTO_TCP, TCP_CONGESTION, bulk.congestion,
				(socklen_t)strlen(bulk.congestion)) < 0)
		die_errno("TCP_CONGESTION %s", bulk.congestion);
	return s;
}

static void conn_stall(struct conn *c, uint64_t now)
{
	uint64_t since = c->last_ns > c->order.from_ns ? c->last_ns
						       : c->order.from_ns;

	if (now > c->order.to_ns)
		now = c->order.to_ns;
	if (now > since && now - since > c->got.stall_ns)
		c->got.stall_ns = now - since;
}

/* -1: the stream ended. */
static int conn_receive(struct conn *c)
{
	uint64_t now;
	ssize_t n;
	int i;

	for (i = 0; i < ROUNDS; i++) {
		n = bulk.st->recv(c->s, scrap, sizeof(scrap), 0);
		if (again(n))
			return 0;
		if (n <= 0)
			return -1;
		now = now_ns();
		conn_stall(c, now);
		c->last_ns = now;
		if (now >= c->order.from_ns && now < c->order.to_ns)
			c->got.bytes += (uint64_t)n;
	}
	return 0;
}

static int conn_send(struct conn *c)
{
	ssize_t n;
	int i;

	for (i = 0; i < ROUNDS; i++) {
		n = bulk.st->send(c->s, scrap, sizeof(scrap), MSG_NOSIGNAL);
		if (again(n))
			return 0;
		if (n < 0)
			return -1;
	}
	return 0;
}

/* ---- listener ------------------------------------------------------------ */

static void conn_drop(struct conn *c)
{
	bulk.st->poller_ctl(bulk.poller, EPOLL_CTL_DEL, c->s, NULL);
	bulk.st->close(c->s);
	DL_DELETE(bulk.open, c);
	free(c);
}

static void listener_accept(void)
{
	struct conn *c;
	int s;

	for (;;) {
		s = bulk.st->accept4(bulk.listener.s, NULL, NULL,
				     SOCK_NONBLOCK);
		if (s < 0 && errno == ECONNABORTED)
			continue;
		if (s < 0 && again(s))
			return;
		if (s < 0)
			die_errno("accept");
		c = calloc(1, sizeof(*c));
		if (!c)
			die("out of memory");
		c->s = s;
		DL_APPEND(bulk.open, c);
		conn_add(c, EPOLLIN);
	}
}

/* The middle of the measurement, once: who carries it? */
static void listener_look(struct conn *c)
{
	const char *reason = bulk.st->not_offloaded(c->s);

	c->looked = true;
	bulk.conns++;
	if (reason)
		bulk.reason = reason;
	else
		bulk.offloaded++;
}

static void listener_answer(struct conn *c)
{
	c->seen = true;
	if (c->order.listener_sends)
		return;
	conn_stall(c, c->order.to_ns);
	if (bulk.st->send(c->s, &c->got, sizeof(c->got), MSG_NOSIGNAL) !=
	    (ssize_t)sizeof(c->got))
		fprintf(stderr, "an answer could not be sent\n");
}

static uint64_t middle_ns(const struct order *o)
{
	return o->from_ns + (o->to_ns - o->from_ns) / 2;
}

static int listener_order(struct conn *c)
{
	ssize_t n = bulk.st->recv(c->s, (char *)&c->order + c->have,
				  sizeof(c->order) - c->have, 0);

	if (again(n))
		return 0;
	if (n <= 0)
		return -1;
	c->have += (uint32_t)n;
	if (c->have == sizeof(c->order) && c->order.magic != ORDER_MAGIC)
		return -1;
	return 0;
}

static void listener_step(struct conn *c, uint32_t events, uint64_t now)
{
	int err = 0;

	if (c->have < sizeof(c->order))
		err = listener_order(c);
	else if (!c->order.listener_sends || (events & EPOLLIN))
		err = conn_receive(c);
	if (c->have < sizeof(c->order) && !err)
		return;
	if (!err && !c->looked && now >= middle_ns(&c->order))
		listener_look(c);
	if (!err && !c->seen && now >= c->order.to_ns)
		listener_answer(c);
	if (!err && c->order.listener_sends && now >= c->order.start_ns &&
	    now < c->order.to_ns)
		err = conn_send(c);
	if (err || (events & (EPOLLHUP | EPOLLERR))) {
		conn_drop(c);
		return;
	}
	conn_watch(c, EPOLLIN | (c->order.listener_sends && !c->seen &&
						 now >= c->order.start_ns
					 ? EPOLLOUT
					 : 0));
}

/* Connections whose time has come. */
static void listener_tick(void)
{
	struct conn *c, *next;
	uint64_t now = now_ns();

	DL_FOREACH_SAFE (bulk.open, c, next)
		if (c->have == sizeof(c->order) && !c->seen &&
		    (now >= c->order.to_ns ||
		     (now >= middle_ns(&c->order) && !c->looked) ||
		     (now >= c->order.start_ns && !(c->watched & EPOLLOUT))))
			listener_step(c, 0, now);
}

static void listen_at(const char *address, unsigned int port)
{
	struct sockaddr_storage ss;
	socklen_t len = address_parse(address, port, &ss);
	int one = 1, s = conn_socket(ss.ss_family);

	bulk.st->setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bulk.st->bind(s, (struct sockaddr *)&ss, len) < 0)
		die_errno("bind to %s port %u", address, port);
	if (bulk.st->listen(s, 4096) < 0)
		die_errno("listen on %s port %u", address, port);
	bulk.listener.s = s;
	conn_add(&bulk.listener, EPOLLIN);
}

static void listener_run(void)
{
	struct epoll_event ev[EVENTS];
	int i, n;

	printf("ready\n");
	fflush(stdout);
	while (!stopped) {
		n = bulk.st->poller_wait(bulk.poller, ev, EVENTS,
					 bulk.open ? 5 : 100);
		if (n < 0 && errno != EINTR)
			die_errno("epoll_wait");
		for (i = 0; i < n; i++)
			if (ev[i].data.ptr == &bulk.listener)
				listener_accept();
			else
				listener_step(ev[i].data.ptr, ev[i].events,
					      now_ns());
		listener_tick();
	}
	while (bulk.open)
		conn_drop(bulk.open);
	printf("connections %lu\noffloaded %lu\n", bulk.conns, bulk.offloaded);
	if (bulk.st == &stack_xts && bulk.reason)
		printf("reason %s\n", bulk.reason);
}

/* ---- connector ----------------------------------------------------------- */

static unsigned int wait_events(void (*step)(struct conn *c, uint32_t events))
{
	struct epoll_event ev[EVENTS];
	int i, n;

	n = bulk.st->poller_wait(bulk.poller, ev, EVENTS, 5);
	if (n < 0 && errno != EINTR)
		die_errno("epoll_wait");
	for (i = 0; i < n; i++)
		step(ev[i].data.ptr, ev[i].events);
	return n > 0 ? (unsigned int)n : 0;
}

static unsigned int n_connected, n_done;

static void connected_step(struct conn *c, uint32_t events)
{
	int err = 0;
	socklen_t len = sizeof(err);

	if (c->connected || !(events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
		return;
	if (bulk.st->getsockopt(c->s, SOL_SOCKET, SO_ERROR, &err, &len) < 0 ||
	    err)
		die("connect: %s", strerror(err));
	c->connected = true;
	n_connected++;
	conn_watch(c, 0);
}

static void connect_all(struct conn *conns, const char *address,
			unsigned int port)
{
	uint64_t end = now_ns() + CONNECT_S * 1000 * NS_PER_MS;
	struct sockaddr_storage ss;
	socklen_t len = address_parse(address, port, &ss);
	unsigned int i;

	for (i = 0; i < bulk.n; i++) {
		conns[i].s = conn_socket(ss.ss_family);
		if (bulk.st->connect(conns[i].s, (struct sockaddr *)&ss, len) <
			    0 &&
		    errno != EINPROGRESS)
			die_errno("connect to %s port %u", address, port);
		conn_add(&conns[i], EPOLLOUT);
	}
	while (n_connected < bulk.n) {
		wait_events(connected_step);
		if (now_ns() > end)
			die("%u of %u connections set up", n_connected, bulk.n);
	}
}

static void order_all(struct conn *conns)
{
	struct order o = {.magic = ORDER_MAGIC,
			  .listener_sends = bulk.listener_sends};
	unsigned int i;

	o.start_ns = now_ns() + START_MS * NS_PER_MS;
	o.from_ns = o.start_ns + bulk.warmup_ms * NS_PER_MS;
	o.to_ns = o.from_ns + bulk.duration_ms * NS_PER_MS;
	for (i = 0; i < bulk.n; i++) {
		conns[i].order = o;
		if (bulk.st->send(conns[i].s, &o, sizeof(o), MSG_NOSIGNAL) !=
		    (ssize_t)sizeof(o))
			die_errno("send of an order");
	}
}

static int answer_receive(struct conn *c)
{
	ssize_t n = bulk.st->recv(c->s, (char *)&c->got + c->have,
				  sizeof(c->got) - c->have, 0);

	if (again(n))
		return 0;
	if (n <= 0)
		return -1;
	c->have += (uint32_t)n;
	if (c->have == sizeof(c->got)) {
		c->done = true;
		n_done++;
		conn_watch(c, 0);
	}
	return 0;
}

static void connector_step(struct conn *c, uint32_t events)
{
	uint64_t now = now_ns();
	int err = 0;

	if (c->done)
		return;
	if (bulk.listener_sends)
		err = conn_receive(c);
	else if (events & EPOLLIN)
		err = answer_receive(c);
	if (!err && !c->done && !bulk.listener_sends &&
	    now >= c->order.start_ns && now < c->order.to_ns)
		err = conn_send(c);
	if (err)
		die("a connection broke in the middle: %s", strerror(errno));
}

static void connector_tick(struct conn *c, uint64_t now)
{
	if (c->done)
		return;
	if (bulk.listener_sends && now >= c->order.to_ns) {
		conn_stall(c, now);
		c->done = true;
		n_done++;
		conn_watch(c, 0);
		return;
	}
	conn_watch(c, EPOLLIN | (!bulk.listener_sends &&
						 now >= c->order.start_ns &&
						 now < c->order.to_ns
					 ? EPOLLOUT
					 : 0));
}

static void report(const struct conn *conns)
{
	double sum = 0, squares = 0, mbps, s = bulk.duration_ms / 1e3;
	uint64_t stall = 0;
	unsigned int i;

	printf("flow_mbps [");
	for (i = 0; i < bulk.n; i++) {
		mbps = (double)conns[i].got.bytes * 8 / 1e6 / s;
		printf("%s%.3f", i ? "," : "", mbps);
		sum += mbps;
		squares += mbps * mbps;
		if (conns[i].got.stall_ns > stall)
			stall = conns[i].got.stall_ns;
	}
	printf("]\nmbps %.3f\njain %.4f\nstall_ms %llu\n", sum,
	       squares > 0 ? sum * sum / (bulk.n * squares) : 0,
	       (unsigned long long)(stall / NS_PER_MS));
}

static void connector_run(const char *address, unsigned int port)
{
	struct conn *conns = calloc(bulk.n, sizeof(*conns));
	uint64_t now, end;
	unsigned int i;

	if (!conns)
		die("out of memory");
	connect_all(conns, address, port);
	order_all(conns);
	end = conns[0].order.to_ns + ANSWER_S * 1000 * NS_PER_MS;
	while (n_done < bulk.n) {
		now = now_ns();
		if (stopped || now > end)
			die("%u of %u connections answered", n_done, bulk.n);
		for (i = 0; i < bulk.n; i++)
			connector_tick(&conns[i], now);
		wait_events(connector_step);
	}
	for (i = 0; i < bulk.n; i++) {
		socket_linger_reset(bulk.st, conns[i].s);
		bulk.st->close(conns[i].s);
	}
	report(conns);
	free(conns);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"listen", no_argument, NULL, 'l'},
		{"send", no_argument, NULL, 'S'},
		{"receive", no_argument, NULL, 'R'},
		{"stack", required_argument, NULL, 's'},
		{"congestion", required_argument, NULL, 'C'},
		{"address", required_argument, NULL, 'a'},
		{"port", required_argument, NULL, 'p'},
		{"conns", required_argument, NULL, 'c'},
		{"duration", required_argument, NULL, 'd'},
		{"warmup", required_argument, NULL, 'w'},
		{0},
	};
	struct sigaction sa = {.sa_handler = stop};
	const char *address = "::";
	unsigned int port = 7777;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (c == 'l')
			bulk.listening = true;
		else if (c == 'S' || c == 'R')
			bulk.listener_sends = c == 'R';
		else if (c == 's')
			bulk.st = stack_find(optarg);
		else if (c == 'C')
			bulk.congestion = optarg;
		else if (c == 'a')
			address = optarg;
		else if (c == 'p')
			port = number_parse("port", optarg, 1, 65535);
		else if (c == 'c')
			bulk.n = number_parse("conns", optarg, 1, MAX_CONNS);
		else if (c == 'd')
			bulk.duration_ms =
				number_parse("duration", optarg, 1, 3600000);
		else if (c == 'w')
			bulk.warmup_ms =
				number_parse("warmup", optarg, 0, 60000);
		else
			return 2;
	}
	descriptors_raise();
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	bulk.poller = bulk.st->poller_create();
	if (!bulk.poller)
		die_errno("poller");
	if (bulk.listening) {
		listen_at(address, port);
		listener_run();
	} else {
		connector_run(address, port);
	}
	bulk.st->poller_destroy(bulk.poller);
	return 0;
}
