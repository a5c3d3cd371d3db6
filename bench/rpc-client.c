/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rpc-client.c - one-thread load generator: request, response, round trip
 *
 *   rpc-client [--stack kernel|xts] [--udp] [--address A] [--port P]
 *              [--conns N] [--busy] [--size BYTES] [--warmup MS]
 *              [--duration MS | --count N] [--interface IF]
 *
 * Keeps one request outstanding on each of N connections. Each request carries
 * the connection's number and a counter, and the response is compared with it
 * byte for byte. A round trip is timed from just before send() to just after
 * the recv() that completed the response.
 *
 * Blocking, one connection waits in recv(), more in epoll_wait(). With --busy
 * neither ever sleeps: recv() with MSG_DONTWAIT, epoll_wait() with timeout 0.
 * XTS sockets are always waited for by their poller, which yields when the
 * service shares the CPU. --udp (one connection) is for the reflector, which
 * knows no TCP.
 *
 * Requests sent before the warm-up is over are not recorded, and those that are
 * outstanding at the end not waited for. Prints "NAME VALUE" lines; with
 * --interface also the frames that it received and sent meanwhile, counted by
 * the kernel, and "total", the requests answered including the warm-up's.
 */
#include "bench/measure.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#define MAX_CONNS 1024u
#define MAX_SIZE 4096u
#define SPARE_SECONDS 10u /* beyond the planned end, before giving up */

struct conn {
	int s;
	uint32_t number;
	uint64_t requests;
	uint64_t sent_ns;
	uint32_t got; /* bytes of the response so far */
	uint8_t request[MAX_SIZE], response[MAX_SIZE];
};

struct client {
	const struct stack *st;
	bool udp, busy;
	const char *address, *interface;
	unsigned int port, conns, size;
	uint64_t warmup_ns, duration_ns; /* duration 0: by count */
	uint64_t count;			 /* 0: by duration */
	void *poller;
	struct conn conn[MAX_CONNS];
	/* the run */
	uint64_t start_ns; /* end of the warm-up; UINT64_MAX: not yet known */
	uint64_t end_ns;
	uint64_t total;
	bool measuring, done;
	struct frames before;
	struct hist hist;
};

static void conn_send(struct client *cl, struct conn *c)
{
	ssize_t n;
	uint32_t off = 0;

	c->requests++;
	memcpy(c->request, &c->number, sizeof(c->number));
	memcpy(c->request + sizeof(c->number), &c->requests,
	       sizeof(c->requests));
	c->got = 0;
	c->sent_ns = now_ns();
	while (off < cl->size) {
		n = cl->st->send(c->s, c->request + off, cl->size - off,
				 MSG_NOSIGNAL);
		if (n > 0)
			off += (uint32_t)n;
		else if (errno != EAGAIN && errno != EINTR)
			die_errno("send");
	}
}

/* Receive once; true when the response is complete. */
static bool conn_receive(struct client *cl, struct conn *c, int flags)
{
	ssize_t n;

	n = cl->st->recv(c->s, c->response + c->got, cl->size - c->got, flags);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n < 0)
		die_errno("receive");
	if (n == 0)
		die("the server closed a connection");
	c->got += (uint32_t)n;
	return c->got == cl->size;
}

/* Cold: the warm-up is over. Requests that are outstanding now wait for this
 * function, so only those sent after it count. */
static __attribute__((noinline)) void client_begin(struct client *cl)
{
	cl->measuring = true;
	if (cl->interface && !frames_read(cl->interface, &cl->before))
		die("no interface %s here", cl->interface);
	cl->start_ns = now_ns();
	cl->end_ns = cl->duration_ns ? cl->start_ns + cl->duration_ns
				     : UINT64_MAX;
}

static void conn_complete(struct client *cl, struct conn *c)
{
	uint64_t now = now_ns();

	if (memcmp(c->request, c->response, cl->size) != 0)
		die("connection %u: response %llu is not its request",
		    c->number, (unsigned long long)c->requests);
	cl->total++;
	if (!cl->measuring) {
		if (now >= cl->end_ns)
			client_begin(cl);
	} else if (c->sent_ns >= cl->start_ns) {
		hist_add(&cl->hist, now - c->sent_ns);
		if (now >= cl->end_ns || cl->hist.n == cl->count) {
			cl->end_ns = now;
			cl->done = true;
			return;
		}
	}
	conn_send(cl, c);
}

/* One kernel connection: the socket itself is waited on. */
static void client_run_direct(struct client *cl)
{
	int flags = cl->busy ? MSG_DONTWAIT : 0;

	while (!cl->done) {
		if (conn_receive(cl, &cl->conn[0], flags))
			conn_complete(cl, &cl->conn[0]);
	}
}

static void client_run_polled(struct client *cl)
{
	struct epoll_event ev[64];
	int timeout = cl->busy ? 0 : -1, i, n;

	while (!cl->done) {
		n = cl->st->poller_wait(cl->poller, ev, 64, timeout);
		if (n < 0 && errno != EINTR)
			die_errno("epoll_wait");
		for (i = 0; i < n && !cl->done; i++) {
			struct conn *c = ev[i].data.ptr;

			if (conn_receive(cl, c, MSG_DONTWAIT))
				conn_complete(cl, c);
		}
	}
}

static void conn_open(struct client *cl, struct conn *c)
{
	int type = cl->udp ? SOCK_DGRAM : SOCK_STREAM;
	struct sockaddr_storage ss;
	socklen_t len = address_parse(cl->address, cl->port, &ss);
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
	uint32_t i;

	for (i = 0; i < cl->size; i++)
		c->request[i] = (uint8_t)(i * 31 + c->number * 7 + 1);
	c->s = cl->st->socket(ss.ss_family, type | SOCK_CLOEXEC, 0);
	if (c->s < 0)
		die_errno("socket");
	if (!cl->udp)
		socket_tune(cl->st, c->s);
	if (cl->st->connect(c->s, (struct sockaddr *)&ss, len) < 0)
		die_errno("connect to %s port %u", cl->address, cl->port);
	if (cl->poller &&
	    cl->st->poller_ctl(cl->poller, EPOLL_CTL_ADD, c->s, &ev) < 0)
		die_errno("epoll_ctl");
}

static void client_open(struct client *cl)
{
	unsigned int i;

	if (cl->conns > 1 || cl->st != &stack_kernel) {
		cl->poller = cl->st->poller_create();
		if (!cl->poller)
			die_errno("poller");
	}
	for (i = 0; i < cl->conns; i++) {
		cl->conn[i].number = i;
		conn_open(cl, &cl->conn[i]);
	}
}

static void client_run(struct client *cl)
{
	unsigned int i;

	cl->start_ns = UINT64_MAX;
	cl->end_ns = now_ns() + cl->warmup_ns; /* of the warm-up */
	for (i = 0; i < cl->conns; i++)
		conn_send(cl, &cl->conn[i]);
	if (cl->poller)
		client_run_polled(cl);
	else
		client_run_direct(cl);
}

static void client_report(struct client *cl)
{
	unsigned int i, offloaded = 0;
	struct frames after;

	if (cl->interface && frames_read(cl->interface, &after)) {
		printf("rx_frames %llu\n",
		       (unsigned long long)(after.rx - cl->before.rx));
		printf("tx_frames %llu\n",
		       (unsigned long long)(after.tx - cl->before.tx));
	}
	hist_print(&cl->hist, cl->end_ns - cl->start_ns);
	printf("total %llu\n", (unsigned long long)cl->total);
	for (i = 0; i < cl->conns; i++)
		offloaded += cl->st->not_offloaded(cl->conn[i].s) == NULL;
	printf("offloaded %u\n", offloaded);
	for (i = 0; i < cl->conns; i++)
		cl->st->close(cl->conn[i].s);
	if (cl->poller)
		cl->st->poller_destroy(cl->poller);
}

static bool options_parse(struct client *cl, int argc, char **argv)
{
	static const struct option options[] = {
		{"stack", required_argument, NULL, 's'},
		{"udp", no_argument, NULL, 'u'},
		{"address", required_argument, NULL, 'a'},
		{"port", required_argument, NULL, 'p'},
		{"conns", required_argument, NULL, 'c'},
		{"busy", no_argument, NULL, 'b'},
		{"size", required_argument, NULL, 'z'},
		{"warmup", required_argument, NULL, 'w'},
		{"duration", required_argument, NULL, 'd'},
		{"count", required_argument, NULL, 'n'},
		{"interface", required_argument, NULL, 'i'},
		{0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (c) {
		case 's':
			cl->st = stack_find(optarg);
			break;
		case 'u':
			cl->udp = true;
			break;
		case 'a':
			cl->address = optarg;
			break;
		case 'p':
			cl->port = number_parse("port", optarg, 1, 65535);
			break;
		case 'c':
			cl->conns = number_parse("conns", optarg, 1, MAX_CONNS);
			break;
		case 'b':
			cl->busy = true;
			break;
		case 'z':
			cl->size = number_parse("size", optarg, 16, MAX_SIZE);
			break;
		case 'w':
			cl->warmup_ns = 1000000 * number_parse("warmup", optarg,
							       0, 60000);
			break;
		case 'd':
			cl->duration_ns =
				1000000 *
				number_parse("duration", optarg, 1, 3600000);
			break;
		case 'n':
			cl->count =
				number_parse("count", optarg, 1, 1000000000);
			cl->duration_ns = 0;
			break;
		case 'i':
			cl->interface = optarg;
			break;
		default:
			return false;
		}
	}
	if (cl->udp && (cl->conns != 1 || cl->st != &stack_kernel))
		die("--udp goes with one kernel connection");
	return optind == argc;
}

int main(int argc, char **argv)
{
	static struct client cl = {
		.st = &stack_kernel,
		.address = "10.9.0.2",
		.port = 7777,
		.conns = 1,
		.size = 64,
		.warmup_ns = 200000000,
		.duration_ns = 1000000000,
	};

	if (!options_parse(&cl, argc, argv))
		return 2;
	descriptors_raise();
	if (cl.duration_ns)
		deadline_set((cl.warmup_ns + cl.duration_ns) / 1000000000 +
			     SPARE_SECONDS);
	client_open(&cl);
	client_run(&cl);
	client_report(&cl);
	return 0;
}
