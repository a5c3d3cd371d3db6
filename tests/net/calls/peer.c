// SPDX-License-Identifier: BSD-2-Clause
/*
 * peer.c - the other end of all connections: kernel sockets that do as told
 *
 * One program after the other is served; when its control connection ends, so
 * do all that it had. The peer never does anything of its own accord, so what
 * the program sees does not depend on when it looks: a byte or FIN that was
 * sent has been acknowledged before the order is answered.
 */
#include "order.h"

#include "tests/net/stream.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

struct slot {
	int s; /* -1: none */
	uint32_t n;
	uint64_t sent, seen;
};

static struct slot slots[SLOTS];
static int listener;
static struct sockaddr_storage program;
static struct answer last;
static uint8_t buf[STREAM_BLOCK];

static void __attribute__((noreturn)) die(const char *what)
{
	perror(what);
	exit(1);
}

static void sleep_us(long us)
{
	struct timespec ts = {us / 1000000, us % 1000000 * 1000};

	nanosleep(&ts, NULL);
}

static void slot_open(struct slot *p, int s, uint32_t n)
{
	int on = 1;

	if (s < 0)
		return;
	setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	*p = (struct slot){.s = s, .n = n};
}

static void slot_close(struct slot *p, bool reset)
{
	struct linger l = {.l_onoff = reset};

	if (p->s < 0)
		return;
	setsockopt(p->s, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
	close(p->s);
	p->s = -1;
}

/* All that was sent, and a FIN, has been acknowledged; or all is over. */
static int acknowledged(int s)
{
	int left = 1;

	for (int i = 0; i < LIMIT_MS * 10; i++) {
		if (ioctl(s, SIOCOUTQ, &left) < 0 || left == 0)
			return left ? errno : 0;
		sleep_us(i < 100 ? 20 : 100);
	}
	return ETIMEDOUT;
}

/* n bytes are here to read: then closing is a reset. */
static void await_bytes(int s, uint32_t n)
{
	int here = 0;

	for (int i = 0; i < LIMIT_MS * 10; i++) {
		if (ioctl(s, FIONREAD, &here) < 0 || (uint32_t)here >= n)
			return;
		sleep_us(100);
	}
}

static int readable(int s)
{
	struct pollfd p = {.fd = s, .events = POLLIN};

	return poll(&p, 1, LIMIT_MS) == 1 ? 0 : ETIMEDOUT;
}

static void do_connect(struct slot *p, uint32_t n, struct answer *a)
{
	int s = socket(program.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = program.ss_family == AF_INET
				? sizeof(struct sockaddr_in)
				: sizeof(struct sockaddr_in6);

	if (connect(s, (struct sockaddr *)&program, len) < 0) {
		a->err = errno;
		close(s);
		return;
	}
	slot_open(p, s, n);
}

static void do_send(struct slot *p, uint32_t n, struct answer *a)
{
	ssize_t done = send(p->s, stream_at(stream_theirs(p->n), p->sent), n,
			    MSG_NOSIGNAL);

	if (done < 0) {
		a->err = errno;
		return;
	}
	p->sent += (uint64_t)done;
	a->result = (int)done;
	a->err = acknowledged(p->s);
}

/* Read n bytes and look at them: the result is how many came. */
static void do_expect(struct slot *p, uint32_t n, struct answer *a)
{
	uint32_t done = 0;

	while (done < n) {
		size_t want = n - done < sizeof(buf) ? n - done : sizeof(buf);
		ssize_t got;

		a->err = readable(p->s);
		if (a->err)
			break;
		got = recv(p->s, buf, want, 0);
		if (got < 0)
			a->err = errno;
		if (got <= 0)
			break;
		if (memcmp(buf, stream_at(stream_ours(p->n), p->seen),
			   (size_t)got) != 0)
			a->err = EBADMSG;
		p->seen += (uint64_t)got;
		done += (uint32_t)got;
	}
	a->result = (int)done;
}

static void do_text(struct slot *p, uint32_t n, struct answer *a)
{
	if (n >= sizeof(a->text))
		n = sizeof(a->text) - 1;
	while (a->result < (int)n) {
		ssize_t got;

		a->err = readable(p->s);
		if (a->err)
			break;
		got = recv(p->s, a->text + a->result, n - (size_t)a->result, 0);
		if (got < 0)
			a->err = errno;
		if (got <= 0)
			break;
		a->result += (int)got;
	}
}

static void do_end(struct slot *p, uint32_t n, struct answer *a)
{
	do_expect(p, n, a);
	if (!a->err)
		a->err = readable(p->s);
	if (!a->err) {
		ssize_t got = recv(p->s, buf, 1, 0);

		a->err = got < 0 ? errno : got > 0 ? EMSGSIZE : 0;
	}
	slot_close(p, false);
}

static void carry_out(const struct order *o, struct answer *a)
{
	struct slot *p = &slots[o->slot % SLOTS];

	switch (o->op) {
	case ORDER_HELLO:
		program = o->to;
		break;
	case ORDER_CONNECT:
		do_connect(p, o->n, a);
		break;
	case ORDER_ACCEPT:
		a->err = readable(listener);
		if (!a->err)
			slot_open(p, accept(listener, NULL, NULL), o->n);
		break;
	case ORDER_SEND:
		do_send(p, o->n, a);
		break;
	case ORDER_EXPECT:
		do_expect(p, o->n, a);
		break;
	case ORDER_TEXT:
		do_text(p, o->n, a);
		break;
	case ORDER_FIN:
		a->err = shutdown(p->s, SHUT_WR) < 0 ? errno
						     : acknowledged(p->s);
		break;
	case ORDER_END:
		do_end(p, o->n, a);
		break;
	case ORDER_CLOSE:
		await_bytes(p->s, o->n);
		slot_close(p, false);
		break;
	default:
		slot_close(p, true);
	}
}

static void serve(int control)
{
	struct order o;

	while (recv(control, &o, sizeof(o), 0) == sizeof(o)) {
		struct answer a = {0};

		if (o.op == ORDER_LAST) {
			a = last;
		} else if (!o.later_ms) {
			carry_out(&o, &a);
		}
		if (send(control, &a, sizeof(a), MSG_NOSIGNAL) < 0)
			break;
		if (o.op != ORDER_LAST && o.later_ms) {
			sleep_us(o.later_ms * 1000L);
			last = (struct answer){0};
			carry_out(&o, &last);
		}
	}
	for (int i = 0; i < SLOTS; i++)
		slot_close(&slots[i], true);
}

static int listen_at(const char *port)
{
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6,
				   .sin6_port = htons((uint16_t)atoi(port))};
	int s = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(s, (struct sockaddr *)&in6, sizeof(in6)) < 0 ||
	    listen(s, 16) < 0)
		die("listen");
	return s;
}

/* The connections that no program is left to accept. */
static void forget_rest(void)
{
	struct pollfd p = {.fd = listener, .events = POLLIN};

	while (poll(&p, 1, 0) == 1)
		close(accept(listener, NULL, NULL));
}

int peer_main(const char *path, const char *port)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	stream_init();
	for (int i = 0; i < SLOTS; i++)
		slots[i].s = -1;
	listener = listen_at(port);
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
	if (bind(s, (struct sockaddr *)&un, sizeof(un)) < 0 || listen(s, 4) < 0)
		die(path);
	printf("listening\n");
	fflush(stdout);
	for (;;) {
		int control = accept(s, NULL, NULL);

		if (control < 0)
			die("accept");
		serve(control);
		close(control);
		forget_rest();
	}
}
