// SPDX-License-Identifier: BSD-2-Clause
/*
 * option.c - options, flags, names, and what a call says to a wrong descriptor
 */
#include "world.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

struct option {
	const char *name;
	int level, opt;
	int values[4]; /* to set; all 0: only to get */
};

/* What has come home was bound to its address once more: that sets it. */
static bool binding_sets(int level, int opt)
{
	return level == IPPROTO_IPV6 && opt == IPV6_V6ONLY;
}

/* Setting what only Linux serves, or nobody knows, sends a connection home. */
static bool goes_home(const struct option *o)
{
	return o->level == 12345 || o->opt == 9999 || o->opt == 999 ||
	       (o->level == SOL_SOCKET && o->opt == SO_TIMESTAMP);
}

#define OPT(level, opt, ...)                                                   \
	{                                                                      \
#opt, level, opt,                                              \
		{                                                              \
			__VA_ARGS__                                            \
		}                                                              \
	}
static const struct option options[] = {
	OPT(SOL_SOCKET, SO_ERROR, 0),
	OPT(SOL_SOCKET, SO_ERROR, 1),
	OPT(SOL_SOCKET, SO_TYPE, 0),
	OPT(SOL_SOCKET, SO_DOMAIN, 0),
	OPT(SOL_SOCKET, SO_PROTOCOL, 0),
	OPT(SOL_SOCKET, SO_ACCEPTCONN, 0),
	OPT(SOL_SOCKET, SO_KEEPALIVE, 0, 1),
	OPT(SOL_SOCKET, SO_REUSEADDR, 0, 1),
	OPT(SOL_SOCKET, SO_OOBINLINE, 0, 1),
	OPT(SOL_SOCKET, SO_RCVLOWAT, 1, 1, 100, 1000),
	OPT(SOL_SOCKET, SO_SNDLOWAT, 1, 2),
	OPT(SOL_SOCKET, SO_PRIORITY, 0, 3),
	OPT(SOL_SOCKET, SO_TIMESTAMP, 0),
	OPT(SOL_SOCKET, SO_BROADCAST, 0, 1),
	OPT(SOL_SOCKET, SO_DONTROUTE, 0),
	OPT(SOL_SOCKET, SO_BUSY_POLL, 0),
	OPT(IPPROTO_TCP, TCP_NODELAY, 0, 1),
	OPT(IPPROTO_TCP, TCP_CORK, 0, 0, 0, 1),
	OPT(IPPROTO_TCP, TCP_KEEPIDLE, 100, 7200),
	OPT(IPPROTO_TCP, TCP_KEEPINTVL, 75, 20),
	OPT(IPPROTO_TCP, TCP_KEEPCNT, 9, 3),
	OPT(IPPROTO_TCP, TCP_SYNCNT, 4, 300),
	OPT(IPPROTO_TCP, TCP_LINGER2, 30, 60),
	OPT(IPPROTO_TCP, TCP_DEFER_ACCEPT, 0),
	OPT(IPPROTO_TCP, TCP_USER_TIMEOUT, 0, 30000),
	OPT(IPPROTO_TCP, TCP_NOTSENT_LOWAT, 100000, 1 << 30),
	OPT(IPPROTO_TCP, TCP_FASTOPEN, 0),
	OPT(IPPROTO_TCP, TCP_REPAIR, 0),
	OPT(IPPROTO_TCP, TCP_QUICKACK, 1, 1),
	OPT(IPPROTO_IP, IP_TOS, 0, 16),
	OPT(IPPROTO_IP, IP_TTL, 64, 60),
	OPT(IPPROTO_IP, IP_RECVERR, 0),
	OPT(IPPROTO_IPV6, IPV6_V6ONLY, 0),
	OPT(IPPROTO_IPV6, IPV6_TCLASS, 0, 16),
	OPT(IPPROTO_IPV6, IPV6_UNICAST_HOPS, 64, 50),
	OPT(SOL_SOCKET, 9999, 1, 0),
	OPT(IPPROTO_TCP, 999, 1, 0),
	OPT(12345, 1, 1, 0),
};
#define OPTIONS (sizeof(options) / sizeof(options[0]))

static struct item *pick_socket(void)
{
	return chance(8) ? item_any() : item_pick(CONN);
}

static void say_bytes(const uint8_t *p, socklen_t len)
{
	say(" %u:", len);
	for (socklen_t i = 0; i < len; i++)
		say("%02x", p[i]);
}

/* What is known of its options, NULL: nothing */
static struct conn *options_of(const struct item *it)
{
	return it->kind == CONN	      ? conn_of(it)
	       : it->kind == LISTENER ? &w->heir
				      : NULL;
}

/* ---- to set -------------------------------------------------------------- */

static void set_timeout(struct item *it)
{
	static const int ms[] = {0, 0, 20, 5000};
	struct conn *c = options_of(it);
	int pos = (int)pick(4), n;
	bool sends = chance(3);
	struct timeval tv = {ms[pos] / 1000, ms[pos] % 1000 * 1000L};
	socklen_t len = chance(8) ? 8 : sizeof(tv);

	if (chance(10))
		tv.tv_usec = 2000000; /* EDOM */
	n = setsockopt(it->fd, SOL_SOCKET, sends ? SO_SNDTIMEO : SO_RCVTIMEO,
		       &tv, len);
	say("timeout fd%d send %d: %ld.%06ld", it->fd, sends, (long)tv.tv_sec,
	    (long)tv.tv_usec);
	say_result(n);
	if (n < 0 || !c)
		return;
	if (sends)
		c->snd_ms = ms[pos];
	else
		c->rcv_ms = ms[pos];
}

static void set_linger(struct item *it)
{
	struct linger l = {.l_onoff = chance(2), .l_linger = chance(2) ? 2 : 0};
	int n = setsockopt(it->fd, SOL_SOCKET, SO_LINGER, &l,
			   chance(8) ? 4 : sizeof(l));

	say("linger fd%d %d %d", it->fd, l.l_onoff, l.l_linger);
	say_result(n);
	if (n == 0 && options_of(it))
		options_of(it)->linger = l.l_onoff && !l.l_linger;
}

static void set_badly(struct item *it)
{
	const struct option *o = &options[pick(OPTIONS)];
	int value = 1, n;
	socklen_t len = 4;
	const void *val = &value;

	/* What it would do is not known. */
	if ((o->opt == TCP_REPAIR && o->level == IPPROTO_TCP) ||
	    (goes_home(o) && !w->leave) ||
	    (binding_sets(o->level, o->opt) && w->leave))
		return;
	if (!w->tame && chance(2))
		val = bad_memory();
	else
		len = chance(2) ? pick(4) : (socklen_t)-1;
	n = setsockopt(it->fd, o->level, o->opt, val, len);
	say("bad setsockopt fd%d %s %u", it->fd, o->name, len);
	say_result(n);
}

static void set_one(struct item *it)
{
	const struct option *o = &options[pick(OPTIONS)];
	int value = o->values[pick(4)], n;

	if ((o->level == IPPROTO_TCP && o->opt == TCP_REPAIR) ||
	    (goes_home(o) && !w->leave) ||
	    (binding_sets(o->level, o->opt) && w->leave))
		return;
	n = setsockopt(it->fd, o->level, o->opt, &value, sizeof(value));
	say("setsockopt fd%d %s %d", it->fd, o->name, value);
	say_result(n);
	if (n == 0 && options_of(it) && o->level == SOL_SOCKET &&
	    o->opt == SO_RCVLOWAT)
		options_of(it)->lowat = value ? value : 1;
}

void step_setsockopt(void)
{
	struct item *it = pick_socket();

	if (!it)
		return;
	switch (pick(6)) {
	case 0:
		set_timeout(it);
		break;
	case 1:
		set_linger(it);
		break;
	case 2:
		set_badly(it);
		break;
	default:
		set_one(it);
	}
	if (chance(2))
		say_ready(it->fd);
}

/* ---- to get -------------------------------------------------------------- */

static void get_info(struct item *it)
{
	struct tcp_info info = {0};
	socklen_t len = chance(2) ? sizeof(info) : pick(sizeof(info));
	int n = getsockopt(it->fd, IPPROTO_TCP, TCP_INFO, &info, &len);

	/* On its way home a FIN is sent once more. */
	if (w->leave && info.tcpi_state == TCP_FIN_WAIT1)
		info.tcpi_state = TCP_FIN_WAIT2;
	say("info fd%d", it->fd);
	say_result(n);
	say(" %u %u", len, info.tcpi_state);
}

void step_getsockopt(void)
{
	static const int structs[] = {SO_LINGER, SO_RCVTIMEO, SO_SNDTIMEO,
				      SO_ERROR};
	struct item *it = pick_socket();
	const struct option *o = &options[pick(OPTIONS)];
	int level = o->level, opt = o->opt, n;
	uint8_t val[64] = {0};
	socklen_t len = chance(2) ? 4 : pick(24);

	if (!it)
		return;
	if (chance(8)) {
		get_info(it);
		return;
	}
	if (chance(3)) {
		level = SOL_SOCKET;
		opt = structs[pick(4)];
	}
	/* Whether ACKs are quick is a matter of the moment. */
	if ((level == IPPROTO_TCP && opt == TCP_QUICKACK) ||
	    (binding_sets(level, opt) && w->leave))
		return;
	say("getsockopt fd%d %d %d %u", it->fd, level, opt, len);
	if (w->tame || !chance(12)) {
		n = getsockopt(it->fd, level, opt, val, &len);
	} else if (chance(3)) {
		n = getsockopt(it->fd, level, opt, val, bad_memory());
		len = 0;
	} else if (chance(2)) {
		n = getsockopt(it->fd, level, opt, bad_memory(), &len);
	} else {
		len = (socklen_t)-1;
		n = getsockopt(it->fd, level, opt, val, &len);
	}
	say_result(n);
	if (n == 0 && len < sizeof(val))
		say_bytes(val, len);
}

/* ---- flags --------------------------------------------------------------- */

static void set_nonblock(struct item *it)
{
	bool on = chance(2);
	int flags = fcntl(it->fd, F_GETFL), value = on, n;

	if (chance(2))
		n = fcntl(it->fd, F_SETFL,
			  on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
	else
		n = ioctl(it->fd, FIONBIO, &value);
	say("nonblock fd%d %d", it->fd, on);
	say_result(n);
	say(" flags %x", (unsigned int)fcntl(it->fd, F_GETFL));
	if (it->kind == CONN)
		conn_of(it)->nonblock = on;
}

void step_fcntl(void)
{
	struct item *it = pick_socket();
	int value;

	if (!it)
		return;
	if (chance(2)) {
		if (it->kind == CONN)
			set_nonblock(it);
		return;
	}
	say("fcntl fd%d", it->fd);
	switch (pick(6)) {
	case 0:
		value = (int)pick(2);
		say(" setfd %d", value);
		say_result(fcntl(it->fd, F_SETFD, value));
		break;
	case 1:
		say(" getfl %x", (unsigned int)fcntl(it->fd, F_GETFL));
		break;
	case 2:
		say(" wrong");
		say_result(fcntl(it->fd, 9999, 0));
		break;
	case 3:
		say(" owner");
		say_result(fcntl(it->fd, F_GETOWN));
		break;
	case 4:
		say(" pipe size");
		say_result(it->kind == CONN ? fcntl(it->fd, F_GETPIPE_SZ) : 0);
		break;
	default:
		say(" getfd %d", fcntl(it->fd, F_GETFD));
	}
}

/* Everything sent has been acknowledged. */
static void say_outq(struct item *it)
{
	struct conn *c = conn_of(it);
	int n = -1;

	conn_drain(c);
	if (c->reset || (c->out_sent != c->out_seen && c->peer_open))
		return;
	for (int i = 0; i < LIMIT_MS; i++) {
		if (ioctl(it->fd, SIOCOUTQ, &n) < 0 || n == 0)
			break;
		sleep_ms(1);
	}
	say(" outq %d", n);
}

void step_ioctl(void)
{
	struct item *it = pick_socket();
	int value = -1, n;

	if (!it)
		return;
	say("ioctl fd%d", it->fd);
	switch (pick(w->tame ? 8 : 10)) {
	case 0:
		say(" mark");
		n = it->kind == CONN ? ioctl(it->fd, SIOCATMARK, &value) : 0;
		break;
	case 1:
		if (it->kind == CONN)
			say_outq(it);
		n = 0;
		break;
	case 2:
		say(" wrong");
		n = ioctl(it->fd, 0x12345678, &value);
		break;
	case 3:
		say(" tty");
		n = isatty(it->fd) - 1;
		break;
	case 8:
		say(" bad");
		n = ioctl(it->fd, FIONREAD, bad_pointer());
		break;
	case 9:
		say(" bad");
		n = ioctl(it->fd, FIONBIO, bad_pointer());
		break;
	default:
		say(" inq");
		n = ioctl(it->fd, FIONREAD, &value);
	}
	say_result(n);
	say(" %d", value);
}

/* ---- names --------------------------------------------------------------- */

static void say_name(const struct sockaddr_storage *ss, socklen_t len,
		     bool whole)
{
	const struct sockaddr_in *self = (const void *)&w->self;
	const struct sockaddr_in *peer = (const void *)&w->peer;
	struct sockaddr_in in;

	say(" %u", len);
	if (!whole)
		return;
	memcpy(&in, ss, sizeof(in));
	say(" family %d port %s", ss->ss_family,
	    in.sin_port == self->sin_port   ? "ours"
	    : in.sin_port == peer->sin_port ? "theirs"
	    : in.sin_port		    ? "some"
					    : "none");
}

void step_name(void)
{
	struct item *it = pick_socket();
	struct sockaddr_storage ss = {0};
	socklen_t len = chance(3) ? pick(40) : sizeof(ss);
	bool self = chance(2), whole = len >= sizeof(struct sockaddr_in6);
	struct sockaddr *at = (struct sockaddr *)&ss;
	int n;

	if (!it)
		return;
	if (!w->tame && chance(6))
		at = bad_memory();
	n = self ? getsockname(it->fd, at, &len)
		 : getpeername(it->fd, at, &len);
	say("name fd%d %s", it->fd, self ? "self" : "peer");
	say_result(n);
	if (n == 0)
		say_name(&ss, len, whole);
}

/* ---- wrong descriptors and wrong calls ----------------------------------- */

static int wrong_call(int fd, struct item *it, uint32_t what)
{
	struct iovec iov = {buf, 10};
	struct sockaddr *to = (struct sockaddr *)&w->peer;
	struct stat st;
	int n;

	switch (what) {
	case 0:
		return (int)pread(fd, buf, 10, 0);
	case 1:
		return (int)preadv(fd, &iov, 1, 0);
	case 2:
		return (int)pwrite(fd, buf, 10, 0);
	case 3:
		return (int)pwritev(fd, &iov, 1, 5);
	case 4:
		return (int)lseek(fd, 0, SEEK_CUR);
	case 5:
		return ftruncate(fd, 0);
	case 6:
		return fsync(fd);
	case 7:
		/* After its end, one that came home still has its port. */
		if (w->leave && it->kind == CONN)
			return 0;
		return bind(fd, (struct sockaddr *)&w->self, w->addr_len);
	case 8:
		return it->kind == CONN ? listen(fd, 5) : 0;
	case 9:
		return it->kind == CONN ? accept(fd, NULL, NULL) : 0;
	case 10:
		return it->kind == CONN ? connect(fd, to, w->addr_len) : 0;
	case 11:
		n = fstat(fd, &st);
		say(" mode %x", n ? 0 : st.st_mode & S_IFMT);
		return n;
	case 12:
		n = (int)preadv2(fd, &iov, 1, 3, 0);
		return n;
	default:
		return fd < 0 ? 0 : fchdir(fd);
	}
}

static int closed_call(int fd, uint32_t what)
{
	struct epoll_event ev;
	struct iovec iov = {buf, 10};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	int val = 0;
	socklen_t len = 4;

	switch (what) {
	case 0:
		return (int)recv(fd, buf, 10, 0);
	case 1:
		return (int)send(fd, buf, 10, 0);
	case 2:
		return (int)read(fd, buf, 10);
	case 3:
		return (int)write(fd, buf, 10);
	case 4:
		return (int)recvmsg(fd, &m, 0);
	case 5:
		return (int)sendmsg(fd, &m, 0);
	case 6:
		return shutdown(fd, SHUT_WR);
	case 7:
		return close(fd);
	case 8:
		return getsockopt(fd, SOL_SOCKET, SO_ERROR, &val, &len);
	case 9:
		return fcntl(fd, F_GETFL);
	case 10:
		return ioctl(fd, FIONREAD, &val);
	case 11:
		return dup(fd);
	case 12:
		return epoll_wait(fd, &ev, 1, 0);
	default:
		return accept(fd, NULL, NULL);
	}
}

/* Socket calls on what is none */
static int stranger_call(int fd, uint32_t what)
{
	int val = 0;
	socklen_t len = 4;

	switch (what % 6) {
	case 0:
		return (int)recv(fd, buf, 10, 0);
	case 1:
		return (int)send(fd, buf, 10, MSG_NOSIGNAL);
	case 2:
		return shutdown(fd, SHUT_WR);
	case 3:
		return getsockopt(fd, SOL_SOCKET, SO_ERROR, &val, &len);
	case 4:
		return accept(fd, NULL, NULL);
	default:
		return getpeername(fd, (struct sockaddr *)buf, &len);
	}
}

void step_error(void)
{
	struct item *it = pick_socket();
	uint32_t what = pick(14);
	int fd, n;

	if (!it || chance(3)) {
		fd = closed_fd();
		say("closed fd%d call %u", fd, what);
		n = closed_call(fd, what);
	} else if (it->kind == PIPE_IN || it->kind == PIPE_OUT ||
		   it->kind == EVENT || it->kind == EPOLL) {
		say("stranger fd%d call %u", it->fd, what % 6);
		n = stranger_call(it->fd, what);
	} else {
		say("wrong fd%d call %u", it->fd, what);
		n = wrong_call(it->fd, it, what);
	}
	say_result(n);
}
