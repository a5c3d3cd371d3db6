// SPDX-License-Identifier: BSD-2-Clause
/*
 * traffic - open, use and close many connections, checking every byte
 *
 *   traffic listen  [OPTION...] ADDRESS PORT
 *   traffic connect [OPTION...] ADDRESS PORT
 *
 * Either end may use libsock (--xts) or the kernel's sockets; the dialogue is
 * conn.h's and chosen by the connecting end. Each thread runs one event loop
 * of its own: with --xts the XTS paper's (an own epoll that holds the polling
 * context's descriptor) or xts_epoll_wait() (--wait). The last line of stdout
 * sums up in words NAME=VALUE; the exit status is 0 if nothing failed. stall_ms
 * is the longest time in which a connection that had bytes left passed none.
 *
 * --handover: connections are handed over to the kernel (xts_handover()) at a
 * random point of their dialogue; handed says how many were, hand_us how long
 * that took at most.
 *
 * SIGTERM ends it with the sum. SIGUSR1 ends --no-read: held connections read
 * what is left.
 */
#include "conn.h"

#include <getopt.h>
#include <pthread.h>
#include <signal.h>

static struct options {
	bool listen, rpc, hold, vary;
	unsigned long count, concurrency, bytes, bytes_back, msg_max;
	unsigned int threads, timeout_s, gap_us;
	int backlog;
	enum closing closing;
	const char *congestion;
	struct sockaddr_storage addr;
	socklen_t addr_len;
} opt = {.concurrency = 64,
	 .bytes = 10000,
	 .bytes_back = ~0ul,
	 .msg_max = 4096,
	 .threads = 1,
	 .timeout_s = 120,
	 .backlog = 4096,
	 .closing = CLOSE_CLIENT_FIN};

static atomic_ulong n_begun, n_done, n_failed, n_held, n_complete, n_eof,
	n_reset;
static atomic_ullong n_tx, n_rx, stall_ns;
static volatile sig_atomic_t stop, resume;
static uint64_t deadline_ns;

struct worker {
	pthread_t thread;
	struct io_loop loop;
	int listener;
	struct conn *conns; /* open ones */
	unsigned long open;
	int timeout_ms; /* 1 while a simultaneous close is ahead */
};

/* ---- one connection ------------------------------------------------------ */

static void conn_free(struct worker *w, struct conn *c)
{
	if (c->failure)
		n_failed++;
	else
		n_done++;
	n_tx += c->tx;
	n_rx += c->rx;
	if (c->stall_ns > stall_ns)
		stall_ns = c->stall_ns;
	if (c->held && c->eof)
		*(c->failure_errno ? &n_reset : &n_eof) += 1;
	io_loop_ctl(&w->loop, EPOLL_CTL_DEL, c->s, 0, NULL);
	if (io_close(c->s) < 0)
		fprintf(stderr, "close: %s\n", strerror(errno));
	if (w->conns == c)
		w->conns = c->next;
	else
		c->prev->next = c->next;
	if (c->next)
		c->next->prev = c->prev;
	free(c);
	w->open--;
}

static struct conn *conn_new(struct worker *w, int s)
{
	struct conn *c = calloc(1, sizeof(*c));

	if (!c)
		io_die("calloc");
	c->s = s;
	c->client = !opt.listen;
	c->next = w->conns;
	if (c->next)
		c->next->prev = c;
	w->conns = c;
	w->open++;
	return c;
}

static void conn_interest(struct worker *w, struct conn *c)
{
	bool deaf = c->eof || (conn_no_read && c->started);
	uint32_t want = deaf ? 0 : EPOLLIN;

	if (c->connecting || (c->client && !c->started) ||
	    (c->started && c->tx < conn_tx_limit(c)))
		want |= EPOLLOUT;
	if (want == c->events)
		return;
	c->events = want;
	if (io_loop_ctl(&w->loop, EPOLL_CTL_MOD, c->s, want, c) < 0)
		io_die("epoll_ctl MOD");
}

/* Say when all connections have passed what they may, and all there is. */
static void conn_hold(struct conn *c)
{
	if (!c->held && c->started && c->tx == c->tx_total &&
	    (c->rx == c->rx_total || conn_no_read)) {
		c->held = true;
		if (++n_held == opt.count && !opt.listen)
			printf("held %lu\n", opt.count);
	}
	if (!c->complete && conn_complete(c)) {
		c->complete = true;
		if (++n_complete == opt.count && !opt.listen)
			printf("complete %lu\n", opt.count);
	}
}

static void conn_step(struct worker *w, struct conn *c, uint32_t events)
{
	if (c->connecting) {
		int err = io_error(c->s);

		if (err)
			conn_fail(c, "connect", err);
		else if (!(events & (EPOLLOUT | EPOLLHUP | EPOLLERR)))
			return;
		c->connecting = false;
	}
	if (conn_no_read && (events & EPOLLERR))
		conn_ended(c, io_error(c->s));
	if (!c->failure)
		conn_transfer(c);
	if (!c->failure && c->h.closing == CLOSE_HOLD)
		conn_hold(c);
	if (c->failure || (c->started && conn_may_close(c))) {
		conn_free(w, c);
		return;
	}
	conn_interest(w, c);
}

/* ---- begin --------------------------------------------------------------- */

static void add(struct worker *w, struct conn *c, uint32_t events)
{
	c->events = events;
	if (io_loop_ctl(&w->loop, EPOLL_CTL_ADD, c->s, events, c) < 0)
		io_die("epoll_ctl ADD");
}

static void accept_some(struct worker *w)
{
	struct conn *c;
	int s, i;

	for (i = 0; i < 64; i++) {
		s = io_accept(w->listener, SOCK_NONBLOCK);
		if (s < 0 && (errno == EAGAIN || errno == ECONNABORTED))
			return;
		if (s < 0)
			io_die("accept4");
		n_begun++;
		c = conn_new(w, s);
		add(w, c, EPOLLIN);
		conn_step(w, c, EPOLLIN);
	}
}

static void make_hello(struct hello *h, unsigned long number)
{
	uint64_t seed = number;

	h->magic = HELLO_MAGIC;
	h->closing = (uint8_t)(opt.hold			  ? CLOSE_HOLD
			       : opt.closing == CLOSE_MIX ? number % CLOSE_MIX
							  : opt.closing);
	/* The others need the order of their own. */
	h->rpc = opt.rpc && h->closing != CLOSE_CLIENT_HALF &&
		 h->closing != CLOSE_SERVER_HALF &&
		 h->closing != CLOSE_SERVER_RST;
	h->number = (uint32_t)number;
	h->c2s_seed = (uint32_t)stream_mix(&seed);
	h->s2c_seed = (uint32_t)stream_mix(&seed);
	h->msg_max = (uint32_t)opt.msg_max;
	h->c2s = opt.bytes;
	h->s2c = opt.bytes_back == ~0ul ? opt.bytes : opt.bytes_back;
	if (opt.vary) {
		h->c2s = 1 + stream_mix(&seed) % h->c2s;
		h->s2c = h->rpc ? h->c2s : 1 + stream_mix(&seed) % h->s2c;
	}
	/* Both ends look at their clocks about every millisecond. */
	h->close_at_ns = (io_now_ns() / 1000000 + 30) * 1000000;
}

/* Accepted sockets have their listener's. */
static void set_congestion(int s)
{
	if (opt.congestion &&
	    IO_CALL(setsockopt, s, IPPROTO_TCP, TCP_CONGESTION, opt.congestion,
		    (socklen_t)strlen(opt.congestion)) < 0)
		io_die("TCP_CONGESTION");
}

static void connect_one(struct worker *w, unsigned long number)
{
	int s = io_socket(opt.addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK);
	struct conn *c;

	if (s < 0)
		io_die("socket");
	io_set(s, IPPROTO_TCP, TCP_NODELAY, 1);
	set_congestion(s);
	c = conn_new(w, s);
	make_hello(&c->h, number);
	c->connecting = true;
	if (io_connect(s, &opt.addr, opt.addr_len) < 0 && errno != EINPROGRESS)
		conn_fail(c, "connect", errno);
	add(w, c, EPOLLOUT);
}

static void connect_some(struct worker *w)
{
	while (w->open * opt.threads < opt.concurrency) {
		unsigned long number = n_begun++;

		if (number >= opt.count) {
			n_begun--;
			return;
		}
		connect_one(w, number);
		if (opt.gap_us)
			usleep(opt.gap_us);
	}
}

/* ---- loop ---------------------------------------------------------------- */

static bool finished(const struct worker *w)
{
	if (stop)
		return true;
	return opt.count && n_begun >= opt.count && !w->open;
}

/* Ends that are not told by an event: the instant of a simultaneous close,
 * and reading again. */
static void tick(struct worker *w)
{
	struct conn *c, *next;

	w->timeout_ms = 50;
	for (c = w->conns; c; c = next) {
		next = c->next;
		if (c->h.closing == CLOSE_BOTH)
			w->timeout_ms = 1;
		if ((c->h.closing == CLOSE_BOTH && conn_complete(c)) ||
		    (resume && c->h.closing == CLOSE_HOLD) ||
		    (conn_pause_ns && c->started && !c->tx))
			conn_step(w, c, 0);
	}
}

static void *worker_run(void *arg)
{
	struct epoll_event evs[64];
	struct worker *w = arg;
	uint64_t tick_ns = 0;
	int i, n;

	while (!finished(w)) {
		if (!opt.listen)
			connect_some(w);
		n = io_loop_wait(&w->loop, evs, 64, w->timeout_ms);
		if (n < 0 && errno != EINTR)
			io_die("epoll_wait");
		for (i = 0; i < n; i++) {
			if (!evs[i].data.ptr)
				accept_some(w);
			else
				conn_step(w, evs[i].data.ptr, evs[i].events);
		}
		if (io_now_ns() - tick_ns >= 1000000) {
			tick_ns = io_now_ns();
			tick(w);
		}
		if (tick_ns > deadline_ns)
			break;
	}
	while (w->conns) {
		if (!stop)
			conn_fail(w->conns, "not finished in time", 0);
		conn_free(w, w->conns);
	}
	return NULL;
}

static void worker_open(struct worker *w)
{
	io_loop_open(&w->loop);
	if (!opt.listen)
		return;
	w->listener = io_listener(&opt.addr, opt.addr_len, SOCK_NONBLOCK,
				  opt.backlog, opt.threads > 1);
	set_congestion(w->listener);
	if (io_loop_ctl(&w->loop, EPOLL_CTL_ADD, w->listener, EPOLLIN, NULL) <
	    0)
		io_die("epoll_ctl of the listener");
}

/* ---- start and end ------------------------------------------------------- */

static void on_signal(int sig)
{
	if (sig == SIGUSR1) {
		conn_no_read = false;
		resume = 1;
	} else {
		stop = 1;
	}
}

static const char *const closing_names[] = {
	[CLOSE_CLIENT_FIN] = "client-fin",
	[CLOSE_SERVER_FIN] = "server-fin",
	[CLOSE_CLIENT_RST] = "client-rst",
	[CLOSE_SERVER_RST] = "server-rst",
	[CLOSE_BOTH] = "both",
	[CLOSE_CLIENT_HALF] = "client-half",
	[CLOSE_SERVER_HALF] = "server-half",
	[CLOSE_MIX] = "mix",
};

static enum closing closing_parse(const char *name)
{
	for (int i = 0; i <= CLOSE_MIX; i++)
		if (!strcmp(name, closing_names[i]))
			return (enum closing)i;
	fprintf(stderr, "unknown --close %s\n", name);
	exit(2);
}

static const struct option long_options[] = {
	{"xts", no_argument, NULL, 'x'},
	{"wait", no_argument, NULL, 'w'},
	{"count", required_argument, NULL, 'n'},
	{"concurrency", required_argument, NULL, 'c'},
	{"bytes", required_argument, NULL, 'b'},
	{"bytes-back", required_argument, NULL, 'B'},
	{"message", required_argument, NULL, 'm'},
	{"rpc", no_argument, NULL, 'r'},
	{"close", required_argument, NULL, 'C'},
	{"hold", no_argument, NULL, 'h'},
	{"vary", no_argument, NULL, 'V'},
	{"pause-ms", required_argument, NULL, 'p'},
	{"no-read", no_argument, NULL, 'R'},
	{"threads", required_argument, NULL, 't'},
	{"timeout", required_argument, NULL, 'T'},
	{"gap-us", required_argument, NULL, 'g'},
	{"backlog", required_argument, NULL, 'k'},
	{"congestion", required_argument, NULL, 'A'},
	{"handover", no_argument, NULL, 'H'},
	{0},
};

static void set_option(int c)
{
	switch (c) {
	case 'x':
		io_use_xts = true;
		break;
	case 'w':
		io_wait_in_xts = true;
		break;
	case 'n':
		opt.count = strtoul(optarg, NULL, 10);
		break;
	case 'c':
		opt.concurrency = strtoul(optarg, NULL, 10);
		break;
	case 'b':
		opt.bytes = strtoul(optarg, NULL, 10);
		break;
	case 'B':
		opt.bytes_back = strtoul(optarg, NULL, 10);
		break;
	case 'm':
		opt.msg_max = strtoul(optarg, NULL, 10);
		break;
	case 'r':
		opt.rpc = true;
		break;
	case 'C':
		opt.closing = closing_parse(optarg);
		break;
	case 'h':
		opt.hold = true;
		break;
	case 'V':
		opt.vary = true;
		break;
	case 'p':
		conn_pause_ns = strtoul(optarg, NULL, 10) * 1000000ul;
		break;
	case 'R':
		conn_no_read = true;
		break;
	case 't':
		opt.threads = (unsigned int)atoi(optarg);
		break;
	case 'T':
		opt.timeout_s = (unsigned int)atoi(optarg);
		break;
	case 'g':
		opt.gap_us = (unsigned int)atoi(optarg);
		break;
	case 'k':
		opt.backlog = atoi(optarg);
		break;
	case 'H':
		conn_handover = true;
		break;
	case 'A':
		opt.congestion = optarg;
		break;
	default:
		exit(2);
	}
}

static void parse(int argc, char **argv)
{
	int c;

	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		set_option(c);
	if (argc - optind != 3) {
		fprintf(stderr,
			"traffic listen|connect [OPTION...] ADDRESS PORT\n");
		exit(2);
	}
	opt.listen = !strcmp(argv[optind], "listen");
	opt.addr_len = io_addr(&opt.addr, argv[optind + 1], argv[optind + 2]);
	if (!opt.listen && !opt.count)
		opt.count = 1;
	deadline_ns = io_now_ns() + opt.timeout_s * 1000000000ull;
}

static int sum_up(uint64_t start_ns)
{
	static const char *const names[] = {
#define X(name, text) #name,
		XTS_REASONS(X)
#undef X
	};

	printf("done=%lu failed=%lu begun=%lu tx=%llu rx=%llu held=%lu eof=%lu reset=%lu offloaded=%lu ms=%llu stall_ms=%llu handed=%lu hand_us=%llu",
	       n_done, n_failed, n_begun, n_tx, n_rx, n_held, n_eof, n_reset,
	       conn_reasons[XTS_REASON_NONE],
	       (unsigned long long)(io_now_ns() - start_ns) / 1000000,
	       stall_ns / 1000000, conn_handed, conn_hand_ns / 1000);
	for (int i = 1; i < XTS_REASON_COUNT; i++)
		if (conn_reasons[i])
			printf(" reason_%s=%lu", names[i], conn_reasons[i]);
	printf("\n");
	if (!opt.listen && n_done != opt.count && !stop)
		return 1;
	return n_failed ? 1 : 0;
}

int main(int argc, char **argv)
{
	struct sigaction sa = {.sa_handler = on_signal};
	uint64_t start_ns = io_now_ns();
	struct worker *workers;
	unsigned int i;

	setlinebuf(stdout);
	parse(argc, argv);
	stream_init();
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGUSR1, &sa, NULL);
	workers = calloc(opt.threads, sizeof(*workers));
	if (!workers)
		io_die("calloc");
	for (i = 0; i < opt.threads; i++)
		worker_open(&workers[i]);
	if (opt.listen)
		printf("listening\n");
	for (i = 0; i < opt.threads; i++)
		if (pthread_create(&workers[i].thread, NULL, worker_run,
				   &workers[i]))
			io_die("pthread_create");
	for (i = 0; i < opt.threads; i++)
		pthread_join(workers[i].thread, NULL);
	free(workers);
	return sum_up(start_ns);
}
