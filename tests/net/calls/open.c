// SPDX-License-Identifier: BSD-2-Clause
/*
 * open.c - connections come and go
 */
#include "world.h"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static void say_addr(const struct sockaddr_storage *ss, socklen_t len)
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;

	memcpy(&in, ss, sizeof(in));
	memcpy(&in6, ss, sizeof(in6));
	say(" len %u family %d", len, ss->ss_family);
	if (ss->ss_family == AF_INET)
		say(" %08x", ntohl(in.sin_addr.s_addr));
	else
		say(" ..%08x", ntohl(in6.sin6_addr.s6_addr32[3]));
}

/* ---- from the peer ------------------------------------------------------- */

static void accepted(int fd, bool nonblock)
{
	item_add(fd, CONN, w->pending);
	w->conns[w->pending].nonblock = nonblock;
	conn_settle(&w->conns[w->pending], fd);
	w->pending = -1;
}

static void inherit(struct conn *c)
{
	c->rcv_ms = w->heir.rcv_ms;
	c->snd_ms = w->heir.snd_ms;
	c->linger = w->heir.linger;
	if (w->heir.lowat)
		c->lowat = w->heir.lowat;
}

static bool peer_connects(unsigned int later_ms)
{
	struct answer a;

	w->pending = conn_free();
	if (w->pending < 0)
		return false;
	conn_begin(w->pending);
	inherit(&w->conns[w->pending]);
	a = ask(ORDER_CONNECT, w->pending, w->conns[w->pending].n, later_ms);
	if (a.err)
		say("; the peer's connect: %s", strerrorname_np(a.err));
	return true;
}

static void do_accept(int listener)
{
	struct sockaddr_storage ss = {0};
	socklen_t len = chance(3) ? pick(30) : sizeof(ss);
	int flags = chance(2) ? SOCK_NONBLOCK : 0, fd;

	if (chance(3))
		flags |= SOCK_CLOEXEC;
	switch (pick(3)) {
	case 0:
		flags = 0;
		fd = accept(listener, NULL, NULL);
		say(" accept");
		break;
	case 1:
		flags = 0;
		fd = accept(listener, (struct sockaddr *)&ss, &len);
		say(" accept");
		if (fd >= 0)
			say(" len %u family %d", len, ss.ss_family);
		break;
	default:
		fd = accept4(listener, (struct sockaddr *)&ss, &len, flags);
		say(" accept4 %x", (unsigned int)flags);
		if (fd >= 0 && len > 2)
			say_addr(&ss, len);
	}
	say_result(fd);
	if (fd < 0)
		return;
	if (w->pending < 0)
		say(" NOBODY CONNECTED");
	else
		accepted(fd, flags & SOCK_NONBLOCK);
}

static void accept_step(struct item *it)
{
	bool later = chance(4) && !w->accepting && !w->heir.rcv_ms;
	struct pollfd p = {.fd = it->fd, .events = POLLIN};

	say("listener fd%d", it->fd);
	if (w->pending < 0 && !peer_connects(later ? 4 : 0))
		return;
	if (!later && poll(&p, 1, LIMIT_MS) != 1)
		say(" too late");
	if (!later && chance(5)) {
		say(" left alone");
		return; /* for some other step */
	}
	if (later)
		signal_start(true);
	do_accept(it->fd);
	signal_stop();
	if (later)
		peer_last();
}

/* With nobody there, or wrong arguments */
void step_listener(void)
{
	struct item *it = item_pick(LISTENER);
	socklen_t len = 16;
	int fd;

	say("listener fd%d", it->fd);
	switch (pick(6)) {
	case 0:
		w->accepting = chance(2);
		fd = fcntl(it->fd, F_GETFL);
		fcntl(it->fd, F_SETFL,
		      w->accepting ? fd | O_NONBLOCK : fd & ~O_NONBLOCK);
		say(" flags %x", (unsigned int)fd);
		break;
	case 1:
		say(" accept4 bad flags");
		say_result(accept4(it->fd, NULL, NULL, 1));
		break;
	case 2:
		say(" recv");
		say_result(recv(it->fd, buf, 10, MSG_DONTWAIT));
		break;
	case 3:
		say(" send");
		say_result(send(it->fd, buf, 10, MSG_NOSIGNAL));
		break;
	default:
		if (w->pending >= 0)
			break;
		if (!w->accepting && w->heir.rcv_ms != 20)
			signal_start(false);
		if (chance(2))
			fd = accept(it->fd, bad_memory(), &len);
		else
			fd = accept4(it->fd, NULL, NULL, 0);
		say(" nobody");
		say_result(fd);
		signal_stop();
	}
	say_ready(it->fd);
}

/* ---- to the peer --------------------------------------------------------- */

static int fresh(int *flags)
{
	*flags = chance(2) ? SOCK_NONBLOCK : 0;
	return socket(w->family, SOCK_STREAM | *flags, 0);
}

/* It is connected, or refused: an error comes a moment before the rest. */
static int await_connect(int fd, struct pollfd *p)
{
	int n = 0;

	*p = (struct pollfd){.fd = fd, .events = POLLOUT};
	for (int i = 0; i < LIMIT_MS && !(p->revents & POLLOUT); i++) {
		n = poll(p, 1, LIMIT_MS);
		if (!(p->revents & POLLOUT))
			sleep_ms(1);
	}
	return n;
}

/* After EINPROGRESS */
static int finish_connect(int fd)
{
	struct pollfd p;
	int err = -1;
	socklen_t len = sizeof(err);

	say("; in progress, poll %d", await_connect(fd, &p));
	say(" %x", (unsigned int)p.revents);
	if (chance(2)) {
		getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len);
		say(" error %d", err);
	}
	if (err == 0 || err == -1)
		err = connect(fd, (struct sockaddr *)&w->peer, w->addr_len);
	say("; again");
	say_result(err ? -1 : 0);
	if (err && errno == EINPROGRESS)
		await_connect(fd, &p);
	return err;
}

static void connect_step(void)
{
	int conn = conn_free(), flags, fd, n;
	struct answer a;

	if (conn < 0)
		return;
	fd = fresh(&flags);
	say("connect fd%d flags %x", fd, (unsigned int)flags);
	n = connect(fd, (struct sockaddr *)&w->peer, w->addr_len);
	say_result(n);
	if (n < 0 && errno == EINPROGRESS)
		n = finish_connect(fd);
	if (n) {
		close(fd);
		return;
	}
	conn_begin(conn);
	a = ask(ORDER_ACCEPT, conn, w->conns[conn].n, 0);
	if (a.err)
		say("; the peer's accept: %s", strerrorname_np(a.err));
	item_add(fd, CONN, conn);
	w->conns[conn].nonblock = flags;
	conn_settle(&w->conns[conn], fd);
}

/* To where nobody listens, or with wrong arguments */
static void connect_badly(void)
{
	struct sockaddr_storage to = w->peer;
	int flags, fd = fresh(&flags), n;
	struct sockaddr_in *in = (struct sockaddr_in *)&to;

	say("bad connect fd%d", fd);
	switch (pick(6)) {
	case 0:
		n = connect(fd, (struct sockaddr *)&to, 3);
		break;
	case 1:
		n = connect(fd, bad_memory(), w->addr_len);
		break;
	case 2:
		to.ss_family = AF_UNIX;
		n = connect(fd, (struct sockaddr *)&to, w->addr_len);
		break;
	case 3:
		n = connect(fd, (struct sockaddr *)&to, 100000);
		break;
	default:
		in->sin_port = htons((uint16_t)(ntohs(in->sin_port) + 1));
		n = connect(fd, (struct sockaddr *)&to, w->addr_len);
		say_result(n);
		if (n < 0 && errno == EINPROGRESS) {
			n = finish_connect(fd);
			break;
		}
		say_ready(fd);
		n = (int)recv(fd, buf, 10, MSG_DONTWAIT);
	}
	say_result(n);
	say_ready(fd);
	close(fd);
}

void step_open(void)
{
	if (items_full())
		return;
	if (chance(10))
		connect_badly();
	else if (chance(2))
		connect_step();
	else
		accept_step(item_pick(LISTENER));
}

/* ---- the end ------------------------------------------------------------- */

static void reset_on_close(struct item *it)
{
	struct linger l = {.l_onoff = 1};

	say(" reset");
	setsockopt(it->fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
	conn_of(it)->linger = true;
}

/* The socket is as if it had never been connected. */
static void disconnect(int fd)
{
	struct sockaddr none = {.sa_family = AF_UNSPEC};

	struct pollfd p = {.fd = fd, .events = POLLIN | POLLRDHUP};
	int n;

	say(" disconnect");
	n = connect(fd, &none, sizeof(none));
	say_result(n);
	/* What was sent may still take up room. */
	n = poll(&p, 1, 0);
	say("; ready %d %x", n, (unsigned int)p.revents);
	say("; recv");
	say_result(recv(fd, buf, 10, MSG_DONTWAIT));
}

void step_close(void)
{
	struct item *it = chance(4)   ? item_any()
			  : chance(4) ? item_pick(CONN)
				      : item_over();
	struct conn *c;
	int n;

	if (!it || it->kind == LISTENER || w->n_items < 4)
		return;
	say("close fd%d", it->fd);
	c = conn_of(it);
	if (it->kind == CONN && c->refs == 1) {
		if (chance(4))
			reset_on_close(it);
		/* A reset throws away what is on its way. */
		if (c->linger || conn_avail(c))
			conn_drain(c);
		if (chance(10)) {
			conn_drain(c);
			disconnect(it->fd);
		}
	}
	n = chance(4)
		    ? close_range((unsigned int)it->fd, (unsigned int)it->fd, 0)
		    : close(it->fd);
	say_result(n);
	if (chance(4))
		say_result(close(it->fd));
	item_gone(it);
}

void step_shutdown(void)
{
	static const char *const names[] = {"rd", "wr", "rdwr"};
	struct item *it = item_pick(CONN);
	int how = (int)pick(3), n;
	struct conn *c;

	if (!it)
		return;
	c = conn_of(it);
	if (chance(10)) {
		say("shutdown fd%d badly", it->fd);
		say_result(shutdown(it->fd, chance(2) ? -1 : 3));
		return;
	}
	say("shutdown fd%d %s", it->fd, names[how]);
	n = shutdown(it->fd, how);
	say_result(n);
	if (n == 0) {
		c->shut_rd |= how != SHUT_WR;
		c->shut_wr |= how != SHUT_RD;
		if (how != SHUT_RD)
			await_fin_acked(c);
	}
	say_ready(it->fd);
}

/* Something happens at the other end. */
void step_peer(void)
{
	struct item *it = item_pick(CONN);
	struct conn *c;

	if (!it || !conn_of(it)->peer_open)
		return;
	c = conn_of(it);
	if (conn_can_get(c) && !chance(40)) {
		uint32_t n = chance(8) ? 6000 : 1 + pick(1500);

		say("peer sends %u to fd%d", n, it->fd);
		peer_sends(c, n, 0);
	} else if (chance(2)) {
		say("peer reads for fd%d", it->fd);
		conn_drain(c);
	} else if (!c->fin && chance(2)) {
		say("peer shuts fd%d", it->fd);
		peer_fin(c, 0);
	} else if (w->in_child) {
		; /* what ends it is told to one process */
	} else if (chance(2)) {
		conn_drain(c);
		say("peer resets fd%d", it->fd);
		peer_resets(c);
	} else if (chance(2)) {
		say("peer closes fd%d", it->fd);
		peer_closes(c);
	}
	say_ready(it->fd);
}

/* ---- duplicates ---------------------------------------------------------- */

static void added_copy(int fd, const struct item *of)
{
	say_result(fd);
	if (fd >= 0)
		item_add_copy(fd, of);
}

/* it's descriptor in place of another one's */
static void replace(struct item *it)
{
	struct item *old = item_any(), of = *it;
	int to = old->fd, n;
	struct conn *c = conn_of(old);
	bool same = old == it;

	if (old->kind == LISTENER || (old->kind == CONN && c->refs == 1))
		return;
	say(" over fd%d", to);
	n = chance(2) ? dup2(it->fd, to)
		      : dup3(it->fd, to, chance(2) ? O_CLOEXEC : 0);
	say_result(n);
	if (n < 0 || same)
		return;
	item_gone(old);
	item_add_copy(n, &of);
}

void step_dup(void)
{
	struct item *it = chance(4) ? item_any() : item_pick(CONN);

	if (!it || items_full())
		return;
	say("dup fd%d", it->fd);
	switch (pick(6)) {
	case 0:
	case 1:
		added_copy(dup(it->fd), it);
		break;
	case 2:
		added_copy(fcntl(it->fd, F_DUPFD, 40 + pick(10)), it);
		break;
	case 3:
		added_copy(fcntl(it->fd, F_DUPFD_CLOEXEC, 0), it);
		break;
	case 4:
		say(" wrong");
		say_result(dup2(it->fd, chance(2) ? -1 : 1 << 30));
		say_result(dup2(closed_fd(), it->fd));
		say_result(fcntl(it->fd, F_DUPFD, -1));
		break;
	default:
		replace(it);
	}
}
