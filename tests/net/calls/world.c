// SPDX-License-Identifier: BSD-2-Clause
/*
 * world.c - descriptors, connections, output; see world.h
 */
#include "world.h"

#include "tests/net/stream.h"

#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/un.h>
#include <netinet/tcp.h>
#include <time.h>
#include <unistd.h>

#define HANG_S "20"
#define ALL_EVENTS                                                             \
	(POLLIN | POLLOUT | POLLPRI | POLLRDHUP | POLLRDNORM | POLLWRNORM |    \
	 POLLRDBAND | POLLWRBAND)

struct world *w;
char *buf;
volatile int signals;

static int control;
static char line[4096];
static size_t line_len;

/* Each step begins anew, so that one that differs does not change all that
 * follow. */
void world_step(int step)
{
	w->step = step;
	w->rng = w->seed << 20 | (uint32_t)step;
	/* Not a multiple of what the generator adds. */
	w->rng = stream_mix(&w->rng);
}

uint32_t pick(uint32_t n)
{
	return (uint32_t)(stream_mix(&w->rng) % n);
}

const void *bytes_at(uint32_t stream, uint64_t pos)
{
	return stream_at(stream, pos);
}

uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / 1000000u;
}

void sleep_ms(unsigned int ms)
{
	struct timespec ts = {ms / 1000, (long)(ms % 1000) * 1000000};

	while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
		;
}

/* ---- output -------------------------------------------------------------- */

void say(const char *fmt, ...)
{
	int err = errno, n;
	va_list ap;

	va_start(ap, fmt);
	n = vsnprintf(line + line_len, sizeof(line) - line_len, fmt, ap);
	va_end(ap);
	line_len += (size_t)n;
	if (line_len >= sizeof(line))
		line_len = sizeof(line) - 1;
	errno = err;
}

bool said(void)
{
	return line_len > 0;
}

void say_end(void)
{
	say("\n");
	if (write(STDOUT_FILENO, line, line_len) < 0)
		_exit(4);
	line_len = 0;
}

void say_result(long n)
{
	if (n < 0)
		say(": %ld %s", n, strerrorname_np(errno));
	else
		say(": %ld", n);
}

/* The names of the bits set; names end with NULL, an unnamed bit is a number */
const char *flag_text(uint32_t flags, const char *const *names)
{
	static char text[256];
	size_t len = 0;

	text[0] = 0;
	for (uint32_t i = 0; i < 32; i++) {
		const char *name = *names ? *names++ : NULL;

		if (!(flags & 1u << i))
			continue;
		if (name && *name)
			len += (size_t)snprintf(text + len, sizeof(text) - len,
						"%s%s", len ? "|" : "", name);
		else
			len += (size_t)snprintf(text + len, sizeof(text) - len,
						"%s1<<%u", len ? "|" : "", i);
	}
	return len ? text : "0";
}

void say_ready(int fd)
{
	struct pollfd p = {.fd = fd, .events = ALL_EVENTS};
	int n = poll(&p, 1, 0);

	say("; ready %d %x", n, (unsigned int)p.revents);
}

/* ---- start --------------------------------------------------------------- */

static void on_hang(int sig)
{
	static const char text[] = "\nHANGS\n";

	if (write(STDOUT_FILENO, line, line_len) < 0 ||
	    write(STDOUT_FILENO, text, sizeof(text) - 1) < 0)
		_exit(4);
	_exit(3);
}

static void on_signal(int sig)
{
	signals++;
}

/* From now on, this process may take so long for a step. */
void watchdog(void)
{
	static timer_t timer;
	static pid_t pid;
	struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL,
			      .sigev_signo = SIGUSR2};
	const char *limit = getenv("CALLS_LIMIT_S");
	struct itimerspec ts = {0};

	if (pid != getpid()) {
		signal(SIGUSR2, on_hang);
		if (timer_create(CLOCK_MONOTONIC, &ev, &timer) < 0)
			_exit(4);
		pid = getpid();
	}
	ts.it_value.tv_sec = atoi(limit ? limit : HANG_S);
	timer_settime(timer, 0, &ts, NULL);
}

void signal_start(bool restart)
{
	struct sigaction sa = {.sa_handler = on_signal,
			       .sa_flags = restart ? SA_RESTART : 0};
	struct itimerval it = {{0, 3000}, {0, 3000}};

	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &it, NULL);
}

void signal_stop(void)
{
	struct itimerval it = {{0, 0}, {0, 0}};

	setitimer(ITIMER_REAL, &it, NULL);
}

static void *map(size_t len, int prot, int flags)
{
	void *p = mmap(NULL, len, prot, flags | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		exit(4);
	return p;
}

void *bad_page(void)
{
	static void *page;

	if (!page)
		page = map(BUF, PROT_NONE, MAP_PRIVATE);
	return page;
}

void *bad_pointer(void)
{
	return chance(3) ? NULL : (void *)-4096L;
}

void *bad_memory(void)
{
	return chance(2) ? bad_pointer() : bad_page();
}

void world_open(uint64_t seed, const char *path)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct sigaction sa = {.sa_handler = on_signal};

	stream_init();
	w = map(sizeof(*w), PROT_READ | PROT_WRITE, MAP_SHARED);
	buf = map(BUF, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	w->seed = seed;
	world_step(0);
	w->pending = -1;
	sigaction(SIGUSR1, &sa, NULL);
	sigaction(SIGPIPE, &sa, NULL);
	/* Where the table of descriptors ends makes a difference to select().
	 */
	close(dup2(STDIN_FILENO, 1000));
	control = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
	if (connect(control, (struct sockaddr *)&un, sizeof(un)) < 0) {
		perror(path);
		exit(4);
	}
}

/* ---- descriptors --------------------------------------------------------- */

static struct item *pick_one(enum kind kind)
{
	int n = 0;

	for (int i = 0; i < w->n_items; i++)
		n += w->items[i].kind == kind;
	if (!n)
		return NULL;
	n = (int)pick((uint32_t)n);
	for (int i = 0;; i++)
		if (w->items[i].kind == kind && n-- == 0)
			return &w->items[i];
}

/* What is over, and why, is the parent's to know. */
static bool is_parents(const struct item *it)
{
	return w->in_child && it->kind == CONN && conn_over(conn_of(it));
}

struct item *item_pick(enum kind kind)
{
	struct item *it = pick_one(kind);

	/* Of connections, those that live are of more interest. */
	for (int i = 0; i < 3 && it && kind == CONN && conn_over(conn_of(it));
	     i++)
		it = pick_one(kind);
	return it && is_parents(it) ? NULL : it;
}

struct item *item_any(void)
{
	struct item *it = &w->items[pick((uint32_t)w->n_items)];

	return is_parents(it) ? pick_one(LISTENER) : it;
}

struct item *item_over(void)
{
	for (int i = 0; i < w->n_items; i++)
		if (w->items[i].kind == CONN &&
		    conn_over(conn_of(&w->items[i])))
			return &w->items[i];
	return NULL;
}

struct item *item_of_conn(const struct conn *c)
{
	for (int i = 0; i < w->n_items; i++)
		if (w->items[i].kind == CONN && conn_of(&w->items[i]) == c)
			return &w->items[i];
	return NULL;
}

bool items_full(void)
{
	return w->n_items >= ITEMS - 2;
}

struct item *item_add(int fd, enum kind kind, int conn)
{
	struct item *it = &w->items[w->n_items++];

	*it = (struct item){.fd = fd, .kind = kind, .conn = conn};
	if (kind == CONN)
		w->conns[conn].refs++;
	return it;
}

struct item *item_add_copy(int fd, const struct item *of)
{
	uint32_t epoll = of->epoll;
	struct item *it = item_add(fd, of->kind, of->conn);

	it->epoll = epoll;
	return it;
}

/* Its entries are gone with its last descriptor. */
static void epoll_gone(uint32_t epoll)
{
	for (int i = 0; i < w->n_items; i++)
		if (w->items[i].epoll == epoll)
			return;
	for (int i = 0; i < SLOTS; i++)
		if (w->conns[i].in_epoll == epoll)
			w->conns[i].in_epoll = 0;
}

static void conn_gone(struct conn *c)
{
	struct answer a;

	if (c->peer_open) {
		a = ask(ORDER_END, conn_index(c),
			(uint32_t)(c->out_sent - c->out_seen), 0);
		say("; the peer saw %d of %llu, then %s", a.result,
		    (unsigned long long)(c->out_sent - c->out_seen),
		    a.err ? strerrorname_np(a.err) : "the end");
	}
	*c = (struct conn){0};
}

void item_gone(struct item *it)
{
	struct conn *c = conn_of(it);
	bool last = it->kind == CONN && --c->refs == 0;
	uint32_t epoll = it->epoll;

	*it = w->items[--w->n_items];
	if (epoll)
		epoll_gone(epoll);
	if (last)
		conn_gone(c);
}

int closed_fd(void)
{
	static const int none[] = {-1, 200, 1023, 5000};

	return none[pick(4)];
}

/* ---- the peer ------------------------------------------------------------ */

struct answer ask(enum order_op op, int slot, uint32_t n, unsigned int later_ms)
{
	struct order o = {.op = (uint8_t)op,
			  .slot = (uint8_t)slot,
			  .later_ms = (uint16_t)later_ms,
			  .n = n,
			  .to = w->self};
	struct answer a = {0};

	if (send(control, &o, sizeof(o), MSG_NOSIGNAL) < 0)
		_exit(5);
	while (recv(control, &a, sizeof(a), 0) < 0)
		if (errno != EINTR)
			_exit(5);
	return a;
}

static void say_late(const char *what, const struct answer *a)
{
	if (a->err)
		say("; the peer's %s: %s", what, strerrorname_np(a->err));
}

void await_states(const struct conn *c, uint32_t states)
{
	const struct item *it = item_of_conn(c);

	for (int i = 0; it && i < LIMIT_MS * 10; i++) {
		struct tcp_info info = {0};
		socklen_t len = 1;

		if (getsockopt(it->fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
			break;
		if (states & 1u << info.tcpi_state)
			return;
		usleep(100);
	}
	if (it)
		say("; too late for states %x", states);
}

static void await_events(const struct conn *c, short events)
{
	const struct item *it = item_of_conn(c);
	struct pollfd p = {.fd = it ? it->fd : -1, .events = events};

	if (it && poll(&p, 1, LIMIT_MS) != 1)
		say("; too late for events %x", (unsigned int)events);
}

/* Its error is there: a hang-up may have been, before. */
static void await_reset(struct conn *c)
{
	const struct item *it = item_of_conn(c);
	struct pollfd p = {.fd = it ? it->fd : -1};

	c->reset = true;
	await_states(c, 1u << TCP_CLOSE);
	for (int i = 0; it && i < LIMIT_MS * 10; i++) {
		if (poll(&p, 1, 0) == 1 && p.revents & POLLERR)
			return;
		usleep(100);
	}
	if (it)
		say("; too late for an error");
}

void await_fin(struct conn *c)
{
	c->fin = true;
	await_states(c, 1u << TCP_CLOSE_WAIT | 1u << TCP_CLOSE |
				1u << TCP_TIME_WAIT | 1u << TCP_LAST_ACK);
	await_events(c, POLLRDHUP);
}

void await_fin_acked(const struct conn *c)
{
	await_states(c, 1u << TCP_FIN_WAIT2 | 1u << TCP_CLOSE |
				1u << TCP_TIME_WAIT);
}

bool conn_can_get(const struct conn *c)
{
	return c->refs && c->peer_open && !c->fin && !c->reset &&
	       !(c->shut_rd && c->shut_wr) && conn_avail(c) < BUF / 4;
}

void peer_sends(struct conn *c, uint32_t n, unsigned int later_ms)
{
	struct answer a = ask(ORDER_SEND, conn_index(c), n, later_ms);

	c->in_sent += n;
	say_late("send", &a);
}

void peer_fin(struct conn *c, unsigned int later_ms)
{
	struct answer a = ask(ORDER_FIN, conn_index(c), 0, later_ms);

	say_late("fin", &a);
	if (later_ms)
		c->fin = true;
	else
		await_fin(c);
}

void peer_last(void)
{
	struct answer a = ask(ORDER_LAST, 0, 0, 0);

	say_late("order", &a);
}

void peer_resets(struct conn *c)
{
	ask(ORDER_RESET, conn_index(c), 0, 0);
	c->peer_open = false;
	if (!conn_over(c))
		await_reset(c);
}

void peer_closes(struct conn *c)
{
	uint64_t unread = c->out_sent - c->out_seen;

	ask(ORDER_CLOSE, conn_index(c), (uint32_t)unread, 0);
	c->peer_open = false;
	if (conn_over(c))
		return;
	if (unread)
		await_reset(c);
	else if (!c->fin)
		await_fin(c);
}

void conn_drain(struct conn *c)
{
	uint32_t n = (uint32_t)(c->out_sent - c->out_seen);
	struct answer a;

	if (!c->peer_open || !n)
		return;
	a = ask(ORDER_EXPECT, conn_index(c), n, 0);
	c->out_seen += (uint64_t)a.result;
	if (n > BUF)
		say("; the peer read much");
	else
		say("; the peer read %u", n);
	if ((uint32_t)a.result != n || a.err)
		say(": but %d %s", a.result,
		    a.err ? strerrorname_np(a.err) : "");
}

/* ---- connections --------------------------------------------------------- */

int conn_free(void)
{
	for (int i = 0; i < SLOTS; i++)
		if (!w->conns[i].n && i != w->pending)
			return i;
	return -1;
}

void conn_begin(int conn)
{
	w->conns[conn] = (struct conn){
		.n = ++w->opened,
		.peer_open = true,
		.lowat = 1,
	};
}

void conn_touched(struct conn *c)
{
	if (!c->touched)
		sleep_ms(2);
	c->touched = true;
}

void conn_settle(struct conn *c, int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	char byte;

	if (!w->settle)
		return;
	recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	conn_touched(c);
	if (poll(&p, 1, LIMIT_MS) != 1)
		say("; too late to write");
}

void conn_sent(struct conn *c, ssize_t n)
{
	if (n <= 0)
		return;
	c->out_sent += (uint64_t)n;
	conn_touched(c);
	if (!c->peer_open && !c->reset)
		await_reset(c);
	if (c->out_sent - c->out_seen > BUF / 4)
		conn_drain(c);
}
