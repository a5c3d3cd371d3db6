// SPDX-License-Identifier: BSD-2-Clause
/*
 * epoll.c - epolls, of sockets, pipes, eventfds and each other
 *
 * Events come in no order that anybody promises, nor all by one call where
 * several descriptors are ready: they are collected over some calls and said
 * sorted by what they were registered with. What is to come only once
 * (EPOLLET, EPOLLONESHOT) is said with how often it came.
 *
 * A connection that gets a second entry goes home to Linux. Where one comes or
 * goes, what is ready is told once more. So there are second entries only where
 * steps may do that, and there, and before a connection is used, none that is
 * to come only once. What is over can't go home. Nor is an epoll registered so:
 * what Linux does not know of does not make it ready, but may be an edge.
 */
#include "world.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define EVENTS 64
#define LOOKS 24 /* calls until nothing is left to be told */
#define ONCE (UINT64_C(1) << 16)

static const uint32_t masks[] = {
	EPOLLIN,
	EPOLLOUT,
	EPOLLIN | EPOLLOUT,
	EPOLLIN | EPOLLRDHUP,
	EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI,
	EPOLLRDHUP,
	0,
	EPOLLRDNORM | EPOLLWRNORM,
};

static void open_pipe(void)
{
	int fds[2];

	if (pipe2(fds, O_NONBLOCK) < 0)
		return;
	say("pipe fd%d fd%d", fds[0], fds[1]);
	item_add(fds[0], PIPE_IN, 0);
	item_add(fds[1], PIPE_OUT, 0);
}

/* A pipe or an eventfd becomes ready, or no more. */
static void use_other(void)
{
	enum kind kind = (enum kind)(PIPE_IN + pick(3));
	struct item *it = item_pick(kind);
	uint64_t value = 1;
	long n;

	if (!it)
		return;
	if (kind == PIPE_IN || (kind == EVENT && chance(2)))
		n = read(it->fd, buf, 8);
	else
		n = write(it->fd, &value, sizeof(value));
	say("other fd%d", it->fd);
	say_result(n);
}

void step_epoll_open(void)
{
	int fd;

	if (chance(2) || items_full()) {
		use_other();
		return;
	}
	switch (pick(3)) {
	case 0:
		open_pipe();
		break;
	case 1:
		fd = eventfd(0, EFD_NONBLOCK);
		say("eventfd fd%d", fd);
		item_add(fd, EVENT, 0);
		break;
	default:
		fd = epoll_create1(chance(2) ? EPOLL_CLOEXEC : 0);
		say("epoll fd%d", fd);
		item_add(fd, EPOLL, 0)->epoll = ++w->epolls;
	}
}

/* ---- control ------------------------------------------------------------- */

static uint32_t pick_events(const struct item *it)
{
	uint32_t events = masks[pick(sizeof(masks) / sizeof(masks[0]))];
	bool stays = !w->leave && w->settle && it->kind != EPOLL;

	if (chance(3) && stays)
		events |= EPOLLET;
	if (chance(6) && !w->leave)
		events |= EPOLLONESHOT;
	if (chance(10))
		events |= EPOLLEXCLUSIVE;
	return events;
}

static void control_badly(int ep, int fd)
{
	struct epoll_event ev = {.events = EPOLLIN};

	say(" badly");
	switch (pick(6)) {
	case 0:
		say_result(epoll_ctl(ep, 99, fd, &ev));
		break;
	case 1:
		say_result(epoll_ctl(ep, EPOLL_CTL_ADD, fd, bad_pointer()));
		break;
	case 2:
		say_result(epoll_ctl(ep, EPOLL_CTL_ADD, ep, &ev));
		break;
	case 3:
		say_result(epoll_ctl(fd, EPOLL_CTL_ADD, ep, &ev));
		break;
	case 4:
		say_result(epoll_ctl(ep, EPOLL_CTL_MOD, closed_fd(), &ev));
		break;
	default:
		say_result(epoll_ctl(closed_fd(), EPOLL_CTL_ADD, fd, &ev));
	}
}

static bool has_entry(const struct item *ep, const struct item *it)
{
	return conn_of(it)->in_epoll == ep->epoll &&
	       conn_of(it)->in_by == it->fd;
}

/* It would be a second entry that is not to be. */
static bool may_add(const struct item *ep, const struct item *it)
{
	const struct conn *c = conn_of(it);

	return it->kind != CONN || !c->in_epoll || has_entry(ep, it) ||
	       (w->leave && !conn_over(c));
}

static int control(const struct item *ep, int op, const struct item *it,
		   struct epoll_event *ev)
{
	int n = epoll_ctl(ep->fd, op, it->fd, ev);
	struct conn *c = conn_of(it);

	if (n || it->kind != CONN)
		return n;
	if (op == EPOLL_CTL_ADD && !c->in_epoll) {
		c->in_epoll = ep->epoll;
		c->in_by = it->fd;
	} else if (op == EPOLL_CTL_DEL && has_entry(ep, it)) {
		c->in_epoll = 0;
	}
	return n;
}

void step_epoll_ctl(void)
{
	static const int ops[] = {EPOLL_CTL_ADD, EPOLL_CTL_ADD, EPOLL_CTL_ADD,
				  EPOLL_CTL_MOD, EPOLL_CTL_MOD, EPOLL_CTL_DEL};
	struct item *ep = item_pick(EPOLL);
	struct item *it = chance(2) ? item_any() : item_pick(CONN);
	struct epoll_event ev = {0};
	int op = ops[pick(6)];

	if (!ep || !it || !may_add(ep, it))
		return;
	say("ctl fd%d of fd%d", ep->fd, it->fd);
	if (!w->tame && chance(15) && it->kind != EPOLL) {
		control_badly(ep->fd, it->fd);
		return;
	}
	ev.events = pick_events(it);
	ev.data.u64 = (uint64_t)w->step << 17 | (uint32_t)it->fd;
	if (ev.events & (EPOLLET | EPOLLONESHOT))
		ev.data.u64 |= ONCE;
	say(" op %d %x", op, ev.events);
	say_result(control(ep, op, it,
			   op == EPOLL_CTL_DEL && chance(2) ? NULL : &ev));
}

/* ---- waiting ------------------------------------------------------------- */

struct seen {
	uint64_t data;
	uint32_t events;
	int times;
};

static int by_data(const void *a, const void *b)
{
	const struct seen *x = a, *y = b;

	if (x->data != y->data)
		return x->data < y->data ? -1 : 1;
	return x->events < y->events ? -1 : x->events > y->events;
}

static int merge(struct seen *seen, int n, const struct epoll_event *evs,
		 int more)
{
	for (int i = 0, k; i < more; i++) {
		for (k = 0; k < n; k++)
			if (seen[k].data == evs[i].data.u64 &&
			    seen[k].events == evs[i].events)
				break;
		if (k == n && n < EVENTS)
			seen[n++] = (struct seen){evs[i].data.u64,
						  evs[i].events, 0};
		if (k < EVENTS)
			seen[k].times++;
	}
	return n;
}

static void say_events(struct seen *seen, int n)
{
	qsort(seen, (size_t)n, sizeof(seen[0]), by_data);
	say(": %d", n);
	for (int i = 0; i < n; i++) {
		say(" %llu/%llu %x", (unsigned long long)seen[i].data >> 17,
		    (unsigned long long)seen[i].data & 0xffff, seen[i].events);
		if (seen[i].data & ONCE)
			say(" x%d", seen[i].times);
	}
}

static int wait_call(int ep, struct epoll_event *evs, int ms,
		     const sigset_t *mask)
{
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000L};

	switch (mask ? 1 + pick(2) : pick(3)) {
	case 0:
		return epoll_wait(ep, evs, EVENTS, ms);
	case 1:
		return epoll_pwait(ep, evs, EVENTS, ms, mask);
	default:
		return epoll_pwait2(ep, evs, EVENTS, &ts, mask);
	}
}

static int wait_once(int ep, int ms, const sigset_t *mask)
{
	struct epoll_event evs[EVENTS];
	struct seen seen[EVENTS];
	int n = wait_call(ep, evs, ms, mask), all;

	if (n <= 0) {
		say_result(n);
		return n;
	}
	all = merge(seen, 0, evs, n);
	for (int i = 0; i < LOOKS; i++) {
		usleep(5);
		n = epoll_wait(ep, evs, EVENTS, 0);
		if (n > 0)
			all = merge(seen, all, evs, n);
	}
	say_events(seen, all);
	return all;
}

static void wait_badly(int ep)
{
	struct epoll_event ev;
	struct timespec ts = {0, -1};
	volatile int many = 1 << 30; /* the compiler need not know */

	say(" badly");
	switch (pick(4)) {
	case 0:
		say_result(epoll_wait(ep, &ev, chance(2) ? 0 : -1, 0));
		break;
	case 1:
		say_result(epoll_pwait2(ep, &ev, 1, &ts, NULL));
		break;
	case 2:
		say_result(epoll_wait(ep, &ev, many, 0));
		break;
	default:
		say_result(epoll_wait(closed_fd(), &ev, 1, 0));
	}
}

static void wait_signalled(int ep)
{
	int before = signals;
	sigset_t set, none;

	sigemptyset(&none);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	if (chance(2)) {
		signal_start(chance(2));
		say("; signalled");
		wait_once(ep, LIMIT_MS, NULL);
		signal_stop();
		return;
	}
	sigprocmask(SIG_BLOCK, &set, NULL);
	raise(SIGUSR1);
	say("; with a signal that waits");
	wait_once(ep, LIMIT_MS, &none);
	say(" signals %d", signals - before);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
}

/* Registering it may show that it is in there already; either way, it is. */
static bool registered(const struct item *ep, const struct item *it)
{
	struct epoll_event ev = {.events = EPOLLIN};

	ev.data.u64 = (uint64_t)w->step << 17 | (uint32_t)it->fd;
	if (!may_add(ep, it))
		return false;
	if (control(ep, EPOLL_CTL_ADD, it, &ev) == 0)
		return true;
	return errno == EEXIST && control(ep, EPOLL_CTL_MOD, it, &ev) == 0;
}

static void wait_for_data(const struct item *ep)
{
	struct item *it = item_pick(CONN);
	struct conn *c;

	if (!it || !conn_can_get(conn_of(it)) || conn_of(it)->lowat >= 1000)
		return;
	c = conn_of(it);
	say("; for data on fd%d", it->fd);
	if (!registered(ep, it))
		return;
	/* As it may be readable already */
	if (wait_once(ep->fd, 0, NULL))
		return;
	peer_sends(c, 1000 + pick(400), 4);
	wait_once(ep->fd, LIMIT_MS, NULL);
	peer_last();
}

void step_epoll_wait(void)
{
	struct item *ep = item_pick(EPOLL);
	uint64_t start;

	if (!ep)
		return;
	say("wait fd%d", ep->fd);
	if (chance(20)) {
		wait_badly(ep->fd);
		return;
	}
	if (wait_once(ep->fd, 0, NULL) == 0 && chance(2)) {
		switch (pick(4)) {
		case 0:
			wait_signalled(ep->fd);
			break;
		case 1:
			start = now_ms();
			say("; until late");
			if (wait_once(ep->fd, 12, NULL) == 0 &&
			    now_ms() - start < 11)
				say(" TOO EARLY");
			break;
		default:
			wait_for_data(ep);
		}
	}
	say_ready(ep->fd);
}
