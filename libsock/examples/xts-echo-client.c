/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * xts-echo-client - sends messages, checks their echo, tells the latency
 *
 * The simplest use of libsock: a blocking socket, one thread, no polling
 * context. Each message is different from the one before, so that an echo of
 * something else is noticed.
 */
#include <xts.h>

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct {
	const char *addr;
	unsigned int port, count, size;
} opt = {.addr = "127.0.0.1", .port = 7777, .count = 1000, .size = 64};

static void die(const char *what)
{
	fprintf(stderr, "xts-echo-client: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static int client_connect(void)
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
	s = xts_socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0);
	if (s < 0)
		die("socket");
	xts_setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (v6 ? xts_connect(s, (struct sockaddr *)&in6, sizeof(in6))
	       : xts_connect(s, (struct sockaddr *)&in, sizeof(in)))
		die("connect");
	return s;
}

/* Sends and receives at the same time: a message may be larger than all
 * buffers on the way. */
static void round_trip(int s, const uint8_t *out, uint8_t *in)
{
	size_t sent = 0, got = 0;
	ssize_t n;

	while (got < opt.size) {
		if (sent < opt.size) {
			n = xts_send(s, out + sent, opt.size - sent,
				     MSG_DONTWAIT | MSG_NOSIGNAL);
			if (n < 0 && errno != EAGAIN && errno != EINTR)
				die("send");
			sent += n > 0 ? (size_t)n : 0;
		}
		n = xts_recv(s, in + got, opt.size - got,
			     sent < opt.size ? MSG_DONTWAIT : 0);
		if (n == 0) {
			errno = ECONNRESET;
			die("the server closed the connection");
		}
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			die("recv");
		got += n > 0 ? (size_t)n : 0;
	}
	if (memcmp(out, in, opt.size) != 0) {
		errno = EBADMSG;
		die("the echo differs");
	}
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void summary(double *us)
{
	double sum = 0;
	unsigned int i;

	qsort(us, opt.count, sizeof(*us), compare);
	for (i = 0; i < opt.count; i++)
		sum += us[i];
	printf("%u messages of %u bytes: avg %.1f us, p50 %.1f, p99 %.1f, max %.1f\n",
	       opt.count, opt.size, sum / opt.count, us[opt.count / 2],
	       us[(size_t)opt.count * 99 / 100], us[opt.count - 1]);
}

static void usage(int status)
{
	fprintf(status ? stderr : stdout,
		"usage: xts-echo-client [--addr A] [--port P] [--count N] [--size BYTES]\n");
	exit(status);
}

static void parse(int argc, char **argv)
{
	static const struct option options[] = {
		{"addr", required_argument, NULL, 'a'},
		{"port", required_argument, NULL, 'p'},
		{"count", required_argument, NULL, 'n'},
		{"size", required_argument, NULL, 's'},
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
		case 'n':
			opt.count = (unsigned int)atoi(optarg);
			break;
		case 's':
			opt.size = (unsigned int)atoi(optarg);
			break;
		case 'h':
			usage(0);
			break;
		default:
			usage(2);
		}
	}
	if (optind != argc || opt.port < 1 || opt.port > 65535 || !opt.count ||
	    !opt.size)
		usage(2);
}

int main(int argc, char **argv)
{
	uint8_t *out, *in;
	unsigned int i, j;
	double *us, start;
	int s;

	parse(argc, argv);
	out = malloc(opt.size);
	in = malloc(opt.size);
	us = calloc(opt.count, sizeof(*us));
	if (!out || !in || !us)
		die("malloc");
	s = client_connect();
	for (i = 0; i < opt.count; i++) {
		for (j = 0; j < opt.size; j++)
			out[j] = (uint8_t)(i * 31 + j);
		start = now_us();
		round_trip(s, out, in);
		us[i] = now_us() - start;
	}
	printf("connection: %s\n", xts_reason_text(xts_offload_reason(s)));
	summary(us);
	if (xts_close(s))
		die("close");
	free(out);
	free(in);
	free(us);
	return 0;
}
