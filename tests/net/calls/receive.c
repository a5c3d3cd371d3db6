// SPDX-License-Identifier: BSD-2-Clause
/*
 * receive.c - the calls that read
 *
 * A call that would wait is seen to its end by one of: MSG_DONTWAIT, the peer's
 * sending or shutting later, a signal, SO_RCVTIMEO.
 */
#include "world.h"

#include <limits.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum how { RECV, RECVFROM, RECVMSG, RECVMMSG, READ, READV, HOWS };

struct call {
	int fd;
	struct conn *c;
	enum how how;
	char *to;
	size_t len;
	int flags;
	int msg_flags;
};

static const char *const how_names[] = {"recv",	    "recvfrom", "recvmsg",
					"recvmmsg", "read",	"readv"};
static const char *const msg_names[] = {
	"OOB",	    "PEEK",	"DONTROUTE", "CTRUNC", "PROXY",	     "TRUNC",
	"DONTWAIT", "EOR",	"WAITALL",   "FIN",    "SYN",	     "CONFIRM",
	"RST",	    "ERRQUEUE", "NOSIGNAL",  "MORE",   "WAITFORONE", NULL};

static size_t pick_len(const struct conn *c)
{
	uint64_t avail = conn_avail(c);

	switch (pick(10)) {
	case 0:
		return 0;
	case 1:
		return 1;
	case 2:
		return avail;
	case 3:
		return avail + 1;
	case 4:
		return avail ? avail - 1 : 0;
	case 5:
		return BUF / 2;
	default:
		return 1 + pick(3000);
	}
}

static int pick_flags(void)
{
	static const int some[] = {MSG_PEEK, MSG_DONTWAIT, MSG_WAITALL,
				   MSG_TRUNC, MSG_NOSIGNAL};
	int flags = 0;

	if (chance(60))
		return MSG_OOB;
	if (chance(60))
		return MSG_ERRQUEUE;
	for (uint32_t i = pick(4); i > 1; i--)
		flags |= some[pick(5)];
	return flags;
}

/* Two or three pieces of @len bytes, one of which may be empty */
static int pieces(struct iovec *iov, char *to, size_t len)
{
	int n = 2 + (int)pick(2);
	size_t done = 0;

	for (int i = 0; i < n; i++) {
		size_t left = len - done;
		size_t take = i + 1 == n || !left ? left
						  : pick((uint32_t)left + 1);

		iov[i] = (struct iovec){to + done, take};
		done += take;
	}
	return n;
}

static ssize_t call_recvmsg(struct call *k)
{
	char name[64], cmsg[64];
	struct iovec iov[3];
	struct msghdr m = {.msg_name = name,
			   .msg_namelen = sizeof(name),
			   .msg_iov = iov,
			   .msg_control = cmsg,
			   .msg_controllen = sizeof(cmsg)};
	ssize_t n;
	int err;

	m.msg_iovlen = (size_t)pieces(iov, k->to, k->len);
	n = recvmsg(k->fd, &m, k->flags);
	err = errno;
	if (n >= 0)
		say(" name %u control %zu flags %s", m.msg_namelen,
		    m.msg_controllen,
		    flag_text((uint32_t)m.msg_flags, msg_names));
	errno = err;
	return n;
}

/* Two messages; never waits for the second. The result is all bytes. */
static ssize_t call_recvmmsg(struct call *k)
{
	struct mmsghdr m[2] = {0};
	struct iovec iov[2];
	struct timespec limit = {1, 0};
	int n, err;
	size_t half = k->len / 2;

	iov[0] = (struct iovec){k->to, half};
	iov[1] = (struct iovec){k->to + half, k->len - half};
	for (int i = 0; i < 2; i++) {
		m[i].msg_hdr.msg_iov = &iov[i];
		m[i].msg_hdr.msg_iovlen = 1;
	}
	n = recvmmsg(k->fd, m, 2, k->flags | MSG_WAITFORONE,
		     chance(2) ? &limit : NULL);
	err = errno;
	for (int i = 0; i < n; i++)
		say(" (%u %s)", m[i].msg_len,
		    flag_text((uint32_t)m[i].msg_hdr.msg_flags, msg_names));
	errno = err;
	/* The bytes lie together only if the first is full. */
	if (n == 2 && m[0].msg_len < half && m[1].msg_len)
		memmove(k->to + m[0].msg_len, k->to + half, m[1].msg_len);
	return n < 0 ? n : (ssize_t)(m[0].msg_len + m[1].msg_len);
}

static ssize_t call(struct call *k)
{
	char name[64];
	socklen_t len = sizeof(name);
	struct iovec iov[3];
	ssize_t n;
	int err;

	switch (k->how) {
	case RECV:
		return recv(k->fd, k->to, k->len, k->flags);
	case RECVFROM:
		n = recvfrom(k->fd, k->to, k->len, k->flags,
			     (struct sockaddr *)name, &len);
		err = errno;
		say(" name %u", n < 0 ? 0 : len);
		errno = err;
		return n;
	case RECVMSG:
		return call_recvmsg(k);
	case RECVMMSG:
		return call_recvmmsg(k);
	case READ:
		return read(k->fd, k->to, k->len);
	default:
		return readv(k->fd, iov, pieces(iov, k->to, k->len));
	}
}

/* The call and what it gave */
static void make(struct call *k)
{
	struct conn *c = k->c;
	ssize_t n;
	bool peeks = k->flags & MSG_PEEK, cuts = k->flags & MSG_TRUNC;

	memset(buf, 0, k->len);
	n = call(k);
	say_result(n);
	if (n > 0 && !(k->flags & (MSG_OOB | MSG_ERRQUEUE))) {
		/* Both messages of recvmmsg peek at the same bytes. */
		if (!cuts && !(peeks && k->how == RECVMMSG) &&
		    memcmp(buf, bytes_at(stream_theirs(c->n), c->in_read),
			   (size_t)n) != 0)
			say(" WRONG BYTES");
		if (!peeks)
			c->in_read += (uint64_t)n;
	}
	conn_touched(c);
}

/* How many bytes have to come for @target. Less than SO_RCVLOWAT wakes nobody;
 * what is there is taken first, and does not count as that any more. */
static uint64_t bytes_to_wake(const struct call *k, uint64_t target)
{
	uint64_t avail = conn_avail(k->c), lowat = (uint64_t)k->c->lowat;

	if (k->flags & MSG_PEEK)
		return (target > lowat ? target : lowat) - avail;
	return target - avail > lowat ? target - avail : lowat;
}

/* Something happens that ends the waiting for @target bytes. */
static void make_waiting(struct call *k, uint64_t target)
{
	struct conn *c = k->c;
	uint64_t missing = bytes_to_wake(k, target);
	bool later = conn_can_get(c) && missing < 1400 && c->rcv_ms != 20;
	uint64_t start = now_ms();
	uint32_t way = pick(12);
	/* Where there is a limit, or something already, they would end the
	 * waiting. */
	bool signalled = way < 6 && !c->rcv_ms && !conn_avail(c);

	if (c->rcv_ms == 20) {
		say(" until it is late");
		make(k);
		if (now_ms() - start < 19)
			say(" TOO EARLY");
	} else if (way < 3 || !later) {
		say(" interrupted");
		/* It is not gone on with where there is a limit. */
		signal_start(c->rcv_ms && chance(2));
		make(k);
		signal_stop();
	} else if (way == 3) {
		say(" ended");
		peer_fin(c, 4);
		make(k);
		peer_last();
		await_fin(c);
	} else {
		/* One segment, so that all of it comes at once. */
		say(" to come%s", signalled ? ", with signals" : "");
		peer_sends(c, (uint32_t)(missing + pick(50)),
			   signalled ? 12 : 4);
		if (signalled)
			signal_start(true);
		make(k);
		signal_stop();
		peer_last();
	}
}

static void receive(struct call *k)
{
	struct conn *c = k->c;
	uint64_t target = (uint64_t)c->lowat < k->len ? (uint64_t)c->lowat
						      : k->len;

	if (k->flags & MSG_WAITALL)
		target = k->len;
	if (target == 0)
		target = 1;
	if (k->how >= READ && k->len == 0)
		target = 0; /* does nothing */
	say("%s fd%d len %zu %s", how_names[k->how], k->fd, k->len,
	    flag_text((uint32_t)k->flags, msg_names));
	if (k->how == RECVMMSG && k->len < 2)
		k->flags |= MSG_DONTWAIT;
	if (c->nonblock ||
	    (k->flags & (MSG_DONTWAIT | MSG_OOB | MSG_ERRQUEUE)) ||
	    !conn_waits(c, target))
		make(k);
	else if (k->how < RECVMMSG && chance(3)) {
		k->flags |= MSG_DONTWAIT;
		say(" or not");
		make(k);
	} else if (k->how == RECVMMSG) {
		k->flags |= MSG_DONTWAIT;
		make(k);
	} else {
		make_waiting(k, target);
	}
	say_ready(k->fd);
}

static void receive_badly(struct call *k)
{
	struct iovec iov = {bad_pointer(), 10};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	say("bad receive fd%d", k->fd);
	switch (pick(9)) {
	case 0:
		n = recv(k->fd, bad_pointer(), 10, MSG_DONTWAIT);
		break;
	case 1:
		n = recv(k->fd, bad_pointer(), 10, MSG_DONTWAIT | MSG_PEEK);
		break;
	case 2:
		n = recv(k->fd, bad_pointer(), 0, MSG_DONTWAIT);
		break;
	case 3:
		n = recvmsg(k->fd, &m, MSG_DONTWAIT);
		break;
	case 4:
		m.msg_iov = bad_pointer();
		n = recvmsg(k->fd, &m, MSG_DONTWAIT);
		break;
	case 5:
		m.msg_iovlen = IOV_MAX + 1;
		n = recvmsg(k->fd, &m, MSG_DONTWAIT);
		break;
	case 6:
		n = readv(k->fd, &iov, chance(2) ? -1 : IOV_MAX + 1);
		break;
	case 7:
		n = readv(k->fd, &iov, 0);
		break;
	default:
		n = recvmsg(k->fd, bad_pointer(), MSG_DONTWAIT);
	}
	say_result(n);
	if (n > 0)
		say(" BYTES TO NOWHERE");
	say_ready(k->fd);
}

void step_recv(void)
{
	struct item *it = item_pick(CONN);
	struct call k;

	if (!it)
		return;
	k = (struct call){.fd = it->fd,
			  .c = conn_of(it),
			  .how = (enum how)pick(HOWS),
			  .to = buf};
	if (k.how == READ || k.how == READV)
		k.flags = 0;
	else
		k.flags = pick_flags();
	k.len = pick_len(k.c);
	if (w->tame && k.len < 2)
		k.len = 2;
	if (!w->tame && chance(12))
		receive_badly(&k);
	else
		receive(&k);
}
