// SPDX-License-Identifier: BSD-2-Clause
/*
 * probe - what connect() says
 *
 *   probe [--xts] [--count N] [--gap-ms N] [--timeout-ms N] ADDRESS PORT
 *
 * Starts N connections, one every gap, and waits for each at most the timeout
 * from its start. stdout: one line NAME=COUNT per outcome in alphabetical
 * order of the program's table: ok, timeout, or the errno's name.
 */
#include "io.h"

#include <getopt.h>
#include <poll.h>

struct attempt {
	int s;
	uint64_t until_ns;
	int result; /* -1: still waiting */
};

#define RESULT_TIMEOUT 4095 /* no errno */

static unsigned int count = 1, gap_ms, timeout_ms = 1000;

static void attempt_begin(struct attempt *a, const struct sockaddr_storage *ss,
			  socklen_t len)
{
	a->result = -1;
	a->until_ns = io_now_ns() + timeout_ms * 1000000ull;
	a->s = io_socket(ss->ss_family, SOCK_STREAM | SOCK_NONBLOCK);
	if (a->s < 0)
		io_die("socket");
	if (io_connect(a->s, ss, len) == 0)
		a->result = 0;
	else if (errno != EINPROGRESS)
		a->result = errno;
}

/* Look at all that wait; how many still do? */
static unsigned int attempts_look(struct attempt *as, unsigned int n)
{
	unsigned int waiting = 0;

	for (unsigned int i = 0; i < n; i++) {
		struct pollfd p = {.events = POLLOUT};

		if (as[i].result >= 0)
			continue;
		p.fd = io_use_xts ? xts_shadow_fd(as[i].s) : as[i].s;
		if (poll(&p, 1, 0) > 0)
			as[i].result = io_error(as[i].s);
		else if (io_now_ns() >= as[i].until_ns)
			as[i].result = RESULT_TIMEOUT;
		else
			waiting++;
	}
	return waiting;
}

static void print(const struct attempt *as)
{
	unsigned int sums[RESULT_TIMEOUT + 1] = {0};

	for (unsigned int i = 0; i < count; i++)
		sums[as[i].result]++;
	for (int r = 0; r <= RESULT_TIMEOUT; r++)
		if (sums[r])
			printf("%s=%u\n",
			       r == 0		     ? "ok"
			       : r == RESULT_TIMEOUT ? "timeout"
						     : strerrorname_np(r),
			       sums[r]);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"xts", no_argument, NULL, 'x'},
		{"count", required_argument, NULL, 'n'},
		{"gap-ms", required_argument, NULL, 'g'},
		{"timeout-ms", required_argument, NULL, 't'},
		{0},
	};
	struct sockaddr_storage ss;
	struct attempt *as;
	socklen_t len;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'x':
			io_use_xts = true;
			break;
		case 'n':
			count = (unsigned int)atoi(optarg);
			break;
		case 'g':
			gap_ms = (unsigned int)atoi(optarg);
			break;
		case 't':
			timeout_ms = (unsigned int)atoi(optarg);
			break;
		default:
			return 2;
		}
	}
	if (argc - optind != 2 || !count) {
		fprintf(stderr, "probe [OPTION...] ADDRESS PORT\n");
		return 2;
	}
	len = io_addr(&ss, argv[optind], argv[optind + 1]);
	as = calloc(count, sizeof(*as));
	if (!as)
		io_die("calloc");
	for (unsigned int i = 0; i < count; i++) {
		attempt_begin(&as[i], &ss, len);
		attempts_look(as, i + 1);
		if (gap_ms)
			io_sleep_ms(gap_ms);
	}
	while (attempts_look(as, count))
		io_sleep_ms(1);
	print(as);
	free(as);
	return 0;
}
