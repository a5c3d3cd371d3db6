/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * impair.c - a bad wire: carry frames between two interfaces and impair them
 *
 *   impair [--seed N] [--stats FILE] [--control PATH]
 *          [--to-server SPEC] [--to-peer SPEC] PEER_IF SERVER_IF
 *   impair --tell PATH to-server|to-peer SPEC
 *   impair --tell PATH stats
 *
 * What comes in at one interface goes out at the other, unchanged but for what
 * SPEC asks for, a comma list of
 *
 *   loss=PERCENT              each frame by itself
 *   burst=BEGIN/END           Gilbert-Elliott: percent chance of a frame to
 * begin a burst, in which all are lost, and to end it drop=N,N-M,... TCP frames
 * with data, 1 is the next; none duplicate=PERCENT reorder=PERCENT/HOLD held
 * back for a time, or behind 2p = two frames (at most 100 ms) corrupt=PERCENT
 * one bit of the IP payload, so that a TCP or UDP checksum tells; whichever
 * field that is delay=TIME                ns, us, ms, s jitter=TIME[/normal]
 * around delay: half width, or standard deviation order=keep|free           may
 * jitter let frames overtake others (keep) rate=RATE                 kbit,
 * mbit, gbit a second, of whole frames queue=SIZE                in front of
 * the rate, drop-tail: 500k bytes, 100p frames (1000p); the one being sent
 * counts ecn=SIZE                  CE for frames that find more in the queue,
 * if the sender is capable of ECN clear                     nothing of what was
 * set before
 *
 * A line that is told to a running program (--control, --tell) changes what it
 * names, for all frames that come after. ARP, neighbour discovery and group
 * messages are only delayed. With one seed, the same frames meet the same fate.
 *
 * Prints "ready" when it forwards. SIGUSR1 and the end (SIGTERM, SIGINT) write
 * the counters, NAME=VALUE words, a line for each direction, to the file or to
 * stdout. Frames that got lost without being asked for ("unplanned") are an
 * error, and the exit status 1: the hosts' offloads must be off (tx, gso, gro,
 * tso), and the machine must keep up.
 *
 * One thread, which sleeps when nothing is due. Delayed frames that follow each
 * other closely leave together, the first of them up to GAP_NS late, none
 * early. A frame that goes at once is sent from the receive ring; one that
 * waits is copied into a pool of POOL_FRAMES, shared by both directions, whose
 * pages are touched only as they are needed.
 */
#include "bench/delayline.h"
#include "bench/impairment.h"
#include "bench/measure.h"
#include "bench/port.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define POOL_FRAMES 131072u
#define GAP_NS 50000u	/* from one delayed frame's leaving to the next */
#define BUSY_ROUNDS 16u /* between looks at signals and the control socket */
#define MESSAGE_MAX 4096u
#define NS_PER_S 1000000000ull

enum { TO_SERVER, TO_PEER, DIRECTIONS };

struct direction {
	const char *name, *option;
	struct port *in, *out;
	struct impairment im;
	struct delayline line;
	uint8_t *leaving[PORT_BATCH]; /* pool frames between send and flush */
	unsigned int n_leaving;
	uint64_t sent;
	uint64_t no_memory;
};

static struct direction directions[DIRECTIONS] = {
	{.name = "to_server", .option = "to-server"},
	{.name = "to_peer", .option = "to-peer"},
};

static struct pool {
	uint8_t *memory;
	uint8_t **free; /* the last one given back is the next to go */
	uint32_t n_free;
} pool;

static struct control {
	int listener, client; /* -1: none; one client at a time */
	const char *path;
} control = {-1, -1, NULL};

static const char *stats_path;
static uint64_t due_sent_ns; /* when delayed frames left last */
static volatile sig_atomic_t stopped, stats_wanted;

/* ---- pool ---------------------------------------------------------------- */

static void pool_init(uint32_t frame_size)
{
	uint32_t i;

	frame_size = (frame_size + 63) / 64 * 64;
	pool.memory = mmap(NULL, (size_t)POOL_FRAMES * frame_size,
			   PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	pool.free = calloc(POOL_FRAMES, sizeof(*pool.free));
	if (pool.memory == MAP_FAILED || !pool.free)
		die("no memory for %u frames", POOL_FRAMES);
	for (i = POOL_FRAMES; i; i--)
		pool.free[pool.n_free++] =
			pool.memory + (size_t)(i - 1) * frame_size;
}

static uint8_t *pool_copy(const uint8_t *data, uint32_t len)
{
	uint8_t *copy;

	if (!pool.n_free)
		return NULL;
	copy = pool.free[--pool.n_free];
	memcpy(copy, data, len);
	return copy;
}

/* ---- frames -------------------------------------------------------------- */

static void direction_flush(struct direction *d)
{
	port_flush(d->out);
	while (d->n_leaving)
		pool.free[pool.n_free++] = d->leaving[--d->n_leaving];
}

static void frame_send(struct direction *d, uint8_t *data, uint32_t len)
{
	if (!port_send(d->out, data, len)) {
		direction_flush(d);
		port_send(d->out, data, len);
	}
	d->sent++;
}

static void send_due(struct direction *d, uint64_t now)
{
	struct delayline_frame f;

	while (delayline_take(&d->line, now, &f)) {
		frame_send(d, f.data, f.len);
		d->leaving[d->n_leaving++] = f.data;
		due_sent_ns = now;
	}
}

static void frame_keep(struct direction *d, const struct port_frame *f,
		       const struct impairment_out *out)
{
	uint8_t *copy = pool_copy(f->data, f->len);
	uint64_t at = out->at_ns;

	if (!copy) {
		d->no_memory++;
		return;
	}
	if (out->behind) {
		if (delayline_hold(&d->line, at, out->behind, copy, f->len))
			return;
		at -= IMPAIRMENT_HELD_NS; /* enough are being held already */
	}
	/* It has room for the whole pool. */
	delayline_add(&d->line, at, copy, f->len);
}

static void frame_forward(struct direction *d, const struct port_frame *f,
			  uint64_t now)
{
	struct impairment_out out[IMPAIRMENT_COPIES];
	uint64_t at = f->at_ns < now ? f->at_ns : now;
	unsigned int i, n;

	n = impairment_decide(&d->im, at, f->data, f->len, out);
	for (i = 0; i < n; i++) {
		/* What was due before it has been sent. */
		if (!out[i].behind && out[i].at_ns <= now)
			frame_send(d, f->data, f->len);
		else
			frame_keep(d, f, &out[i]);
		if (out[i].overtakes)
			delayline_passed(&d->line, out[i].at_ns);
		send_due(d, now);
	}
}

static bool direction_run(struct direction *d, uint64_t now,
			  int64_t to_monotonic_ns)
{
	struct port_frame f;
	bool any = false;

	send_due(d, now);
	while (port_receive(d->in, to_monotonic_ns, &f)) {
		frame_forward(d, &f, now);
		any = true;
	}
	direction_flush(d);
	port_release(d->in);
	return any;
}

/* ---- counters ------------------------------------------------------------ */

static uint64_t direction_print(struct direction *d, FILE *file)
{
	const struct impairment_counters *c = &d->im.counters;
	uint64_t rx = port_rx_losses(d->in), tx = port_tx_losses(d->out);
	uint64_t unplanned = rx + tx + d->no_memory;

#define X(counter, text)                                                       \
	fprintf(file, "%s_" #counter "=%llu ", d->name,                        \
		(unsigned long long)c->counter);
	IMPAIRMENT_COUNTERS(X)
#undef X
	fprintf(file, "%s_sent=%llu %s_waiting=%zu ", d->name,
		(unsigned long long)d->sent, d->name,
		d->line.n + d->line.n_held);
	fprintf(file, "%s_unplanned=%llu", d->name,
		(unsigned long long)unplanned);
	if (unplanned)
		fprintf(file,
			" error: of these receive=%llu send=%llu memory=%llu",
			(unsigned long long)rx, (unsigned long long)tx,
			(unsigned long long)d->no_memory);
	fprintf(file, "\n");
	return unplanned;
}

static uint64_t counters_print(FILE *file)
{
	uint64_t unplanned = 0;
	int i;

	for (i = 0; i < DIRECTIONS; i++)
		unplanned += direction_print(&directions[i], file);
	fflush(file);
	return unplanned;
}

/* Whoever waits for the file finds all of it. */
static uint64_t counters_write(void)
{
	char temporary[4096];
	uint64_t unplanned;
	FILE *file;

	if (!stats_path)
		return counters_print(stdout);
	snprintf(temporary, sizeof(temporary), "%s.new", stats_path);
	file = fopen(temporary, "w");
	if (!file)
		die_errno("%s", temporary);
	unplanned = counters_print(file);
	if (fclose(file) || rename(temporary, stats_path) < 0)
		die_errno("%s", stats_path);
	return unplanned;
}

/* ---- control ------------------------------------------------------------- */

static int control_socket(const char *path, struct sockaddr_un *un)
{
	int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	*un = (struct sockaddr_un){.sun_family = AF_UNIX};
	if ((size_t)snprintf(un->sun_path, sizeof(un->sun_path), "%s", path) >=
	    sizeof(un->sun_path))
		die("%s: too long for a socket", path);
	if (s < 0)
		die_errno("control socket");
	return s;
}

static void control_open(const char *path)
{
	struct sockaddr_un un;

	control.listener = control_socket(path, &un);
	unlink(path);
	if (bind(control.listener, (struct sockaddr *)&un, sizeof(un)) < 0 ||
	    listen(control.listener, 8) < 0)
		die_errno("%s", path);
	control.path = path;
}

static void control_answer(char *line, FILE *answer)
{
	char err[IMPAIRMENT_ERR_MAX];
	char *spec = strchr(line, ' ');
	int i;

	if (!strcmp(line, "stats")) {
		counters_print(answer);
		return;
	}
	if (spec)
		*spec++ = '\0';
	for (i = 0; i < DIRECTIONS; i++) {
		if (!spec || strcmp(line, directions[i].option) != 0)
			continue;
		if (impairment_set(&directions[i].im, spec, err) < 0)
			fprintf(answer, "error: %s: %s\n", line, err);
		else
			fprintf(answer, "ok\n");
		return;
	}
	fprintf(answer, "error: to-server SPEC, to-peer SPEC or stats\n");
}

static void control_serve(void)
{
	char line[MESSAGE_MAX], *text = NULL;
	size_t len = 0;
	FILE *answer;
	ssize_t n;

	n = recv(control.client, line, sizeof(line) - 1, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		line[n] = '\0';
		answer = open_memstream(&text, &len);
		if (!answer)
			die_errno("memory");
		control_answer(line, answer);
		fclose(answer);
		send(control.client, text, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		free(text);
	}
	close(control.client);
	control.client = -1;
}

/* The other end of the socket: all words are one line. */
static int tell(const char *path, char **words)
{
	char line[MESSAGE_MAX] = "";
	struct sockaddr_un un;
	int s = control_socket(path, &un);
	size_t len = 0;
	ssize_t n;

	for (; *words && len < sizeof(line); words++)
		len += (size_t)snprintf(line + len, sizeof(line) - len, "%s%s",
					len ? " " : "", *words);
	if (!len || len >= sizeof(line))
		die("--tell PATH to-server|to-peer SPEC, or stats");
	if (connect(s, (struct sockaddr *)&un, sizeof(un)) < 0 ||
	    send(s, line, len, MSG_NOSIGNAL) < 0)
		die_errno("%s", path);
	n = recv(s, line, sizeof(line) - 1, 0);
	if (n <= 0)
		die("%s: no answer", path);
	line[n] = '\0';
	close(s);
	if (!strncmp(line, "error: ", strlen("error: "))) {
		fprintf(stderr, "impair: %s", line + strlen("error: "));
		return 1;
	}
	fputs(line, stdout);
	return 0;
}

/* ---- loop ---------------------------------------------------------------- */

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* Until when may we sleep? */
static struct timespec *timeout_until_due(struct timespec *ts)
{
	uint64_t next = UINT64_MAX, due, now = clock_ns(CLOCK_MONOTONIC);
	int i;

	for (i = 0; i < DIRECTIONS; i++) {
		due = delayline_next_ns(&directions[i].line);
		if (due < next)
			next = due;
	}
	if (next == UINT64_MAX)
		return NULL;
	if (next < due_sent_ns + GAP_NS)
		next = due_sent_ns + GAP_NS;
	next = next > now ? next - now : 0;
	ts->tv_sec = (time_t)(next / NS_PER_S);
	ts->tv_nsec = (long)(next % NS_PER_S);
	return ts;
}

static void port_error_clear(const struct port *p)
{
	socklen_t len = sizeof(int);
	int error = 0;

	getsockopt(p->fd, SOL_SOCKET, SO_ERROR, &error, &len);
	if (error)
		fprintf(stderr, "impair: %s: %s\n", p->ifname, strerror(error));
}

static void wait_for_work(bool busy, const sigset_t *signals)
{
	struct pollfd fds[DIRECTIONS + 1] = {0};
	struct timespec ts = {0}, *timeout = &ts;
	int i;

	for (i = 0; i < DIRECTIONS; i++) {
		fds[i].fd = directions[i].in->fd;
		fds[i].events = POLLIN;
	}
	fds[DIRECTIONS].fd = control.client >= 0 ? control.client
						 : control.listener;
	fds[DIRECTIONS].events = POLLIN;
	if (!busy)
		timeout = timeout_until_due(&ts);
	if (ppoll(fds, DIRECTIONS + 1, timeout, signals) <= 0)
		return;
	for (i = 0; i < DIRECTIONS; i++)
		if (fds[i].revents & POLLERR)
			port_error_clear(directions[i].in);
	if (!fds[DIRECTIONS].revents)
		return;
	if (control.client >= 0)
		control_serve();
	else
		control.client =
			accept4(control.listener, NULL, NULL, SOCK_CLOEXEC);
}

static void run(const sigset_t *signals)
{
	unsigned int rounds = 0;
	uint64_t now;
	int64_t offset;
	bool busy;
	int i;

	while (!stopped) {
		now = clock_ns(CLOCK_MONOTONIC);
		offset = (int64_t)(now - clock_ns(CLOCK_REALTIME));
		busy = false;
		for (i = 0; i < DIRECTIONS; i++)
			busy |= direction_run(&directions[i], now, offset);
		if (!busy || ++rounds % BUSY_ROUNDS == 0)
			wait_for_work(busy, signals);
		if (stats_wanted) {
			stats_wanted = 0;
			counters_write();
		}
	}
}

/* ---- start --------------------------------------------------------------- */

static void on_signal(int sig)
{
	if (sig == SIGUSR1)
		stats_wanted = 1;
	else
		stopped = 1;
}

/* Signals come only while we wait. */
static void signals_init(sigset_t *while_waiting)
{
	static const int sigs[] = {SIGUSR1, SIGTERM, SIGINT};
	const struct sigaction sa = {.sa_handler = on_signal};
	sigset_t blocked;
	size_t i;

	sigemptyset(&blocked);
	for (i = 0; i < sizeof(sigs) / sizeof(sigs[0]); i++) {
		sigaction(sigs[i], &sa, NULL);
		sigaddset(&blocked, sigs[i]);
	}
	sigprocmask(SIG_BLOCK, &blocked, while_waiting);
}

__attribute__((noreturn)) static void usage(void)
{
	fprintf(stderr,
		"impair [--seed N] [--stats FILE] [--control PATH] [--to-server SPEC]\n"
		"       [--to-peer SPEC] PEER_IF SERVER_IF\n"
		"impair --tell PATH to-server|to-peer SPEC, or stats\n");
	exit(2);
}

static void spec_option(struct direction *d, const char *text)
{
	char err[IMPAIRMENT_ERR_MAX];

	if (impairment_set(&d->im, text, err) < 0) {
		fprintf(stderr, "impair: --%s: %s\n", d->option, err);
		exit(2);
	}
}

static void options_parse(int argc, char **argv)
{
	static const struct option options[] = {
		{"seed", required_argument, NULL, 's'},
		{"stats", required_argument, NULL, 'f'},
		{"control", required_argument, NULL, 'c'},
		{"tell", required_argument, NULL, 't'},
		{"to-server", required_argument, NULL, 'S'},
		{"to-peer", required_argument, NULL, 'P'},
		{0},
	};
	unsigned long seed = 1;
	int c, i;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (c == 's')
			seed = number_parse("seed", optarg, 0, ~0ul);
		else if (c == 'f')
			stats_path = optarg;
		else if (c == 'c')
			control.path = optarg;
		else if (c == 't')
			exit(tell(optarg, argv + optind));
		else if (c == 'S')
			spec_option(&directions[TO_SERVER], optarg);
		else if (c == 'P')
			spec_option(&directions[TO_PEER], optarg);
		else
			usage();
	}
	if (argc - optind != 2)
		usage();
	for (i = 0; i < DIRECTIONS; i++)
		impairment_init(&directions[i].im, seed, (unsigned int)i);
}

int main(int argc, char **argv)
{
	static struct port peer, server;
	uint64_t unplanned;
	sigset_t signals;
	int i;

	options_parse(argc, argv);
	signals_init(&signals);
	prctl(PR_SET_TIMERSLACK, 1ul);
	port_open(&peer, argv[optind]);
	port_open(&server, argv[optind + 1]);
	directions[TO_SERVER].in = directions[TO_PEER].out = &peer;
	directions[TO_SERVER].out = directions[TO_PEER].in = &server;
	pool_init(peer.frame_max > server.frame_max ? peer.frame_max
						    : server.frame_max);
	for (i = 0; i < DIRECTIONS; i++)
		if (delayline_init(&directions[i].line, POOL_FRAMES) < 0)
			die("no memory");
	if (control.path)
		control_open(control.path);
	printf("ready\n");
	fflush(stdout);
	run(&signals);
	unplanned = counters_write();
	if (control.path)
		unlink(control.path);
	port_close(&peer);
	port_close(&server);
	if (unplanned)
		die("%llu frames lost that nobody asked for",
		    (unsigned long long)unplanned);
	return 0;
}
