/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * measure.c - clock, histogram and stacks of the benchmark programs
 *
 * Linked into every program of this folder; one thread, no state of its own.
 * Times are CLOCK_MONOTONIC in nanoseconds. Quantiles are the upper edge of
 * the bucket that holds them, so that an error of rounding never flatters.
 */
#include "bench/measure.h"
#include "libsock/xts.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* ---- options and errors -------------------------------------------------- */

#define MESSAGE_MAX 512
/* clang-tidy 14 loses va_start() after the first file of its command line:
 * hence the two suppressions. */

static void message_print(const char *text, const char *colon, const char *why)
{
	fflush(stdout);
	fprintf(stderr, "%s: %s%s%s\n", program_invocation_short_name, text,
		colon, why);
}

void die(const char *fmt, ...)
{
	char text[MESSAGE_MAX];
	va_list ap;

	va_start(ap, fmt);
	// NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized)
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	message_print(text, "", "");
	exit(1);
}

void die_errno(const char *fmt, ...)
{
	const char *why = strerror(errno);
	char text[MESSAGE_MAX];
	va_list ap;

	va_start(ap, fmt);
	// NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized)
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	message_print(text, ": ", why);
	exit(1);
}

unsigned long number_parse(const char *option, const char *text,
			   unsigned long min, unsigned long max)
{
	char *end;
	unsigned long v;

	errno = 0;
	v = strtoul(text, &end, 10);
	if (errno || end == text || *end || *text == '-' || v < min || v > max)
		die("--%s wants a number from %lu to %lu, not '%s'", option,
		    min, max, text);
	return v;
}

socklen_t address_parse(const char *text, unsigned int port,
			struct sockaddr_storage *ss)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)ss;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ss;

	memset(ss, 0, sizeof(*ss));
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)port);
		return sizeof(*v4);
	}
	if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons((uint16_t)port);
		return sizeof(*v6);
	}
	die("'%s' is no IPv4 or IPv6 address", text);
}

static void deadline_passed(int sig)
{
	static const char text[] = "benchmark: no end in sight, giving up "
				   "(a reply got lost?)\n";

	if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
		_exit(2);
	_exit(1);
}

void deadline_set(unsigned int seconds)
{
	struct sigaction sa = {.sa_handler = deadline_passed};

	sigaction(SIGALRM, &sa, NULL);
	alarm(seconds);
}

void descriptors_raise(void)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim) == 0) {
		lim.rlim_cur = lim.rlim_max;
		setrlimit(RLIMIT_NOFILE, &lim);
	}
}

/* ---- clock and histogram ------------------------------------------------- */

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Bucket 2^SUB and up: the exponent picks a row, the bits below it a column. */
static unsigned int hist_bucket(uint64_t ns)
{
	unsigned int shift;

	if (ns >> HIST_MAX_BITS)
		return HIST_BUCKETS - 1;
	if (!(ns >> (HIST_SUB_BITS + 1)))
		return (unsigned int)ns;
	shift = 63u - (unsigned int)__builtin_clzll(ns) - HIST_SUB_BITS;
	return (shift << HIST_SUB_BITS) + (unsigned int)(ns >> shift);
}

static uint64_t hist_bucket_top(unsigned int bucket)
{
	unsigned int shift;

	if (bucket < 2u << HIST_SUB_BITS)
		return bucket;
	shift = (bucket >> HIST_SUB_BITS) - 1;
	return ((uint64_t)(bucket - (shift << HIST_SUB_BITS) + 1) << shift) - 1;
}

void hist_add(struct hist *h, uint64_t ns)
{
	h->n++;
	h->sum_ns += ns;
	if (ns > h->max_ns)
		h->max_ns = ns;
	h->count[hist_bucket(ns)]++;
}

uint64_t hist_quantile(const struct hist *h, double q)
{
	uint64_t want = (uint64_t)(q * (double)h->n + 0.5), seen = 0;
	unsigned int i;

	for (i = 0; i < HIST_BUCKETS; i++) {
		seen += h->count[i];
		if (h->count[i] && seen >= want)
			break;
	}
	if (i == HIST_BUCKETS || hist_bucket_top(i) > h->max_ns)
		return h->max_ns;
	return hist_bucket_top(i);
}

void hist_print(const struct hist *h, uint64_t elapsed_ns)
{
	double n = h->n ? (double)h->n : 1.0;

	printf("avg_us %.3f\n", (double)h->sum_ns / n / 1e3);
	printf("p50_us %.3f\n", (double)hist_quantile(h, 0.5) / 1e3);
	printf("p99_us %.3f\n", (double)hist_quantile(h, 0.99) / 1e3);
	printf("p9999_us %.3f\n", (double)hist_quantile(h, 0.9999) / 1e3);
	printf("max_us %.3f\n", (double)h->max_ns / 1e3);
	printf("n %llu\n", (unsigned long long)h->n);
	printf("rps %.1f\n", (double)h->n * 1e9 / (double)elapsed_ns);
}

bool frames_read(const char *ifname, struct frames *f)
{
	char line[512], name[64];
	unsigned long long rx, tx;
	FILE *file = fopen("/proc/self/net/dev", "r");
	bool found = false;

	if (!file)
		return false;
	while (!found && fgets(line, sizeof(line), file)) {
		if (sscanf(line,
			   " %63[^:]: %*u %llu %*u %*u %*u %*u %*u %*u %*u "
			   "%llu",
			   name, &rx, &tx) != 3 ||
		    strcmp(name, ifname) != 0)
			continue;
		f->rx = rx;
		f->tx = tx;
		found = true;
	}
	fclose(file);
	return found;
}

/* ---- stacks ---------------------------------------------------------------*/

/* glibc declares these with a transparent union for the address. */
static int kernel_bind(int s, const struct sockaddr *addr, socklen_t len)
{
	return bind(s, addr, len);
}

static int kernel_connect(int s, const struct sockaddr *addr, socklen_t len)
{
	return connect(s, addr, len);
}

static int kernel_accept4(int s, struct sockaddr *addr, socklen_t *len,
			  int flags)
{
	return accept4(s, addr, len, flags);
}

static const char *kernel_not_offloaded(int s)
{
	return "a kernel socket";
}

/* An epoll instance lives in a box, as a stack's poller is a pointer. */
static void *kernel_poller_create(void)
{
	int *epfd = malloc(sizeof(*epfd));

	if (!epfd)
		return NULL;
	*epfd = epoll_create1(EPOLL_CLOEXEC);
	if (*epfd < 0) {
		free(epfd);
		return NULL;
	}
	return epfd;
}

static int kernel_poller_destroy(void *p)
{
	int *epfd = p;

	close(*epfd);
	free(epfd);
	return 0;
}

static int kernel_poller_ctl(void *p, int op, int s, struct epoll_event *ev)
{
	return epoll_ctl(*(int *)p, op, s, ev);
}

static int kernel_poller_wait(void *p, struct epoll_event *ev, int max,
			      int timeout_ms)
{
	return epoll_wait(*(int *)p, ev, max, timeout_ms);
}

const struct stack stack_kernel = {
	.name = "kernel",
	.socket = socket,
	.bind = kernel_bind,
	.listen = listen,
	.accept4 = kernel_accept4,
	.connect = kernel_connect,
	.send = send,
	.recv = recv,
	.setsockopt = setsockopt,
	.getsockopt = getsockopt,
	.close = close,
	.not_offloaded = kernel_not_offloaded,
	.poller_create = kernel_poller_create,
	.poller_destroy = kernel_poller_destroy,
	.poller_ctl = kernel_poller_ctl,
	.poller_wait = kernel_poller_wait,
};

static const char *xts_not_offloaded(int s)
{
	int reason = xts_offload_reason(s);

	if (reason < 0)
		return "not an open socket";
	return reason ? xts_reason_text(reason) : NULL;
}

const struct stack stack_xts = {
	.name = "xts",
	.socket = xts_socket,
	.bind = xts_bind,
	.listen = xts_listen,
	.accept4 = xts_accept4,
	.connect = xts_connect,
	.send = xts_send,
	.recv = xts_recv,
	.setsockopt = xts_setsockopt,
	.getsockopt = xts_getsockopt,
	.close = xts_close,
	.not_offloaded = xts_not_offloaded,
	.poller_create = xts_epoll_ctx_create,
	.poller_destroy = xts_epoll_ctx_destroy,
	.poller_ctl = xts_epoll_ctl,
	.poller_wait = xts_epoll_wait,
};

const struct stack *stack_find(const char *name)
{
	if (strcmp(name, stack_kernel.name) == 0)
		return &stack_kernel;
	if (strcmp(name, stack_xts.name) == 0)
		return &stack_xts;
	die("--stack is kernel or xts, not '%s'", name);
}

void socket_tune(const struct stack *st, int s)
{
	static const char cubic[] = "cubic";
	static bool said;
	int one = 1;

	if (st->setsockopt(s, IPPROTO_TCP, TCP_CONGESTION, cubic,
			   sizeof(cubic) - 1) < 0 &&
	    !said) {
		said = true;
		fprintf(stderr,
			"note: no cubic here (%s): measuring with the "
			"host's default congestion control\n",
			strerror(errno));
	}
	if (st->setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0)
		die_errno("TCP_NODELAY");
}

void socket_linger_reset(const struct stack *st, int s)
{
	struct linger lin = {.l_onoff = 1, .l_linger = 0};

	if (st->setsockopt(s, SOL_SOCKET, SO_LINGER, &lin, sizeof(lin)) < 0)
		die_errno("SO_LINGER");
}
