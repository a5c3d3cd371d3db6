// SPDX-License-Identifier: BSD-2-Clause
/*
 * wait.c - poll, ppoll, select and pselect over all kinds of descriptors
 *
 * What is asked for is looked at without waiting first. If nothing is there,
 * the call is made again to wait: until it is late, for a signal, or for what
 * the peer sends later.
 */
#include "world.h"

#include <poll.h>
#include <signal.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

#define SET 6

enum end { NOTHING, LATE, SIGNALLED, PENDING_SIGNAL, DATA };

static const short masks[] = {POLLIN,
			      POLLOUT,
			      POLLIN | POLLOUT,
			      POLLRDHUP,
			      POLLIN | POLLRDHUP,
			      POLLPRI,
			      0,
			      POLLRDNORM,
			      POLLWRNORM,
			      POLLIN | POLLOUT | POLLPRI | POLLRDHUP};

static struct timespec *limit_of(int ms, struct timespec *ts)
{
	*ts = (struct timespec){ms / 1000, ms % 1000 * 1000000L};
	return ms < 0 ? NULL : ts;
}

/* The connection that is to get something while the call waits */
static struct conn *pick_receiver(const int *fds, int n)
{
	for (int i = 0; i < n; i++)
		for (int k = 0; k < w->n_items; k++) {
			const struct item *it = &w->items[k];

			if (it->fd == fds[i] && it->kind == CONN &&
			    conn_can_get(conn_of(it)) &&
			    conn_of(it)->lowat < 1000)
				return conn_of(it);
		}
	return NULL;
}

/* How the waiting is to end; the cause is under way when this returns. */
static enum end begin(const int *fds, int n)
{
	struct conn *c = pick_receiver(fds, n);
	sigset_t set;

	switch (pick(5)) {
	case 0:
		return LATE;
	case 1:
		signal_start(chance(2));
		return SIGNALLED;
	case 2:
		sigemptyset(&set);
		sigaddset(&set, SIGUSR1);
		sigprocmask(SIG_BLOCK, &set, NULL);
		raise(SIGUSR1);
		return PENDING_SIGNAL;
	default:
		if (!c)
			return LATE;
		peer_sends(c, 1000 + pick(400), 4);
		return DATA;
	}
}

static void end(enum end end)
{
	sigset_t set;

	signal_stop();
	if (end == PENDING_SIGNAL) {
		sigemptyset(&set);
		sigaddset(&set, SIGUSR1);
		sigprocmask(SIG_UNBLOCK, &set, NULL);
	}
	if (end == DATA)
		peer_last();
}

static int end_ms(enum end end)
{
	return end == NOTHING ? 0 : end == LATE ? 12 : LIMIT_MS;
}

static const char *end_text(enum end end)
{
	static const char *const text[] = {"", " until late", " signalled",
					   " with a signal that waits",
					   " for data"};

	return text[end];
}

/* ---- poll ---------------------------------------------------------------- */

static int do_poll(struct pollfd *p, nfds_t n, enum end how)
{
	struct timespec ts;
	uint64_t start = now_ms();
	sigset_t none;
	int got, before = signals;

	sigemptyset(&none);
	if (how == PENDING_SIGNAL || (how != SIGNALLED && chance(2)))
		got = ppoll(p, n, limit_of(end_ms(how), &ts),
			    how == PENDING_SIGNAL ? &none : NULL);
	else
		got = poll(p, n, end_ms(how));
	say("%s", end_text(how));
	say_result(got);
	if (how == PENDING_SIGNAL)
		say(" signals %d", signals - before);
	if (how == LATE && got == 0 && now_ms() - start < 11)
		say(" TOO EARLY");
	for (nfds_t i = 0; got > 0 && i < n; i++)
		say(" %x", (unsigned int)p[i].revents);
	return got;
}

static void poll_badly(void)
{
	struct timespec ts = {0, chance(2) ? -1 : 1000000000};
	struct item *it = item_any();
	struct pollfd p = {.fd = it->fd, .events = POLLIN};
	volatile nfds_t many = 1 << 30; /* the compiler need not know */

	say("bad poll");
	switch (pick(4)) {
	case 0:
		say_result(poll(bad_pointer(), 1, 0));
		break;
	case 1:
		say_result(poll(&p, many, 0));
		break;
	case 2:
		say_result(ppoll(&p, 1, &ts, NULL));
		break;
	default:
		say_result(poll(NULL, 0, 1));
	}
}

void step_poll(void)
{
	struct pollfd p[SET];
	int n = 1 + (int)pick(SET), fds[SET];
	enum end how;

	if (!w->tame && chance(15)) {
		poll_badly();
		return;
	}
	say("poll");
	for (int i = 0; i < n; i++) {
		struct item *it = chance(2) ? item_pick(CONN) : item_any();

		p[i].fd = chance(20) || !it ? closed_fd() : it->fd;
		p[i].events = masks[pick(sizeof(masks) / sizeof(masks[0]))];
		fds[i] = p[i].events & POLLIN ? p[i].fd : -1;
		say(" fd%d %x", p[i].fd, (unsigned int)p[i].events);
	}
	if (do_poll(p, (nfds_t)n, NOTHING) || chance(2)) {
		/* With something ready, a signal that waits makes no odds. */
		return;
	}
	how = begin(fds, n);
	do_poll(p, (nfds_t)n, how);
	end(how);
}

/* ---- select -------------------------------------------------------------- */

struct sets {
	fd_set in, out, except;
	int n;
};

static void say_set(const char *name, const fd_set *set, int n)
{
	say(" %s", name);
	for (int fd = 0; fd < n; fd++)
		if (FD_ISSET(fd, set))
			say(" %d", fd);
}

static int do_select(const struct sets *asked, enum end how)
{
	struct sets s = *asked;
	struct timespec ts;
	struct timeval tv;
	uint64_t start = now_ms();
	sigset_t none;
	int got, ms = end_ms(how), before = signals;

	sigemptyset(&none);
	tv = (struct timeval){ms / 1000, ms % 1000 * 1000L};
	if (how == PENDING_SIGNAL || (how != SIGNALLED && chance(2)))
		got = pselect(s.n, &s.in, &s.out, &s.except, limit_of(ms, &ts),
			      how == PENDING_SIGNAL ? &none : NULL);
	else
		got = select(s.n, &s.in, &s.out, &s.except, &tv);
	say("%s", end_text(how));
	say_result(got);
	if (how == PENDING_SIGNAL)
		say(" signals %d", signals - before);
	if (how == LATE && got == 0 && now_ms() - start < 11)
		say(" TOO EARLY");
	if (got >= 0) {
		say_set("in", &s.in, s.n);
		say_set("out", &s.out, s.n);
		say_set("except", &s.except, s.n);
	}
	return got;
}

static void select_badly(struct sets *s)
{
	struct timeval tv = {0, 0};

	say(" badly");
	switch (pick(4)) {
	case 0:
		say_result(select(-1, &s->in, NULL, NULL, &tv));
		break;
	case 1:
		say_result(select(s->n, bad_pointer(), NULL, NULL, &tv));
		break;
	case 2:
		tv.tv_usec = -1;
		say_result(select(s->n, &s->in, NULL, NULL, &tv));
		break;
	default:
		FD_SET(900, &s->in);
		say_result(select(901, &s->in, NULL, NULL, &tv));
	}
}

void step_select(void)
{
	struct sets s = {0};
	int fds[SET], n = 1 + (int)pick(SET);
	enum end how;

	say("select");
	for (int i = 0; i < n; i++) {
		struct item *it = chance(2) ? item_pick(CONN) : item_any();
		uint32_t which = 1 + pick(7);

		fds[i] = -1;
		if (!it)
			continue;
		if (which & 1) {
			FD_SET(it->fd, &s.in);
			fds[i] = it->fd;
		}
		if (which & 2)
			FD_SET(it->fd, &s.out);
		if (which & 4)
			FD_SET(it->fd, &s.except);
		say(" fd%d %x", it->fd, which);
		if (it->fd >= s.n)
			s.n = it->fd + 1;
	}
	if (!w->tame && chance(15)) {
		select_badly(&s);
		return;
	}
	if (do_select(&s, NOTHING) || chance(2))
		return;
	how = begin(fds, n);
	do_select(&s, how);
	end(how);
}
