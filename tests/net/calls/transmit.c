// SPDX-License-Identifier: BSD-2-Clause
/*
 * transmit.c - the calls that write
 *
 * Little is under way at any time, so a call never meets a full buffer but in
 * step_fill(), which says nothing of how much fits.
 */
#include "world.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <unistd.h>

#define BIG 300000u

enum how { SEND, SENDTO, SENDMSG, SENDMMSG, WRITE, WRITEV, HOWS };

static const char *const how_names[] = {"send",	    "sendto", "sendmsg",
					"sendmmsg", "write",  "writev"};

static const void *next_bytes(const struct conn *c)
{
	return bytes_at(stream_ours(c->n), c->out_sent);
}

static int pick_flags(void)
{
	static const int some[] = {MSG_DONTWAIT, MSG_NOSIGNAL, MSG_MORE,
				   MSG_EOR, MSG_NOSIGNAL};
	int flags = 0;

	for (uint32_t i = pick(4); i > 1; i--)
		flags |= some[pick(5)];
	return flags;
}

static ssize_t call_sendmmsg(int fd, struct iovec *iov, int flags)
{
	struct mmsghdr m[2] = {0};
	int n;

	for (int i = 0; i < 2; i++) {
		m[i].msg_hdr.msg_iov = &iov[i];
		m[i].msg_hdr.msg_iovlen = 1;
	}
	n = sendmmsg(fd, m, 2, flags);
	if (n > 0)
		say(" of %d", n);
	return n < 0 ? n : (ssize_t)(m[0].msg_len + (n > 1 ? m[1].msg_len : 0));
}

static ssize_t call(int fd, enum how how, const void *from, size_t len,
		    int flags)
{
	size_t first = len ? pick((uint32_t)len) : 0;
	struct iovec iov[2] = {{(void *)from, first},
			       {(char *)from + first, len - first}};
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};

	switch (how) {
	case SEND:
		return send(fd, from, len, flags);
	case SENDTO:
		/* A connected TCP socket does not look at it. */
		return sendto(fd, from, len, flags, (struct sockaddr *)&w->peer,
			      w->addr_len);
	case SENDMSG:
		return sendmsg(fd, &m, flags);
	case SENDMMSG:
		return call_sendmmsg(fd, iov, flags);
	case WRITE:
		return write(fd, from, len);
	default:
		return writev(fd, iov, 2);
	}
}

static void transmit(int fd, struct conn *c)
{
	enum how how = (enum how)pick(HOWS);
	int flags = how < WRITE ? pick_flags() : 0, before = signals;
	size_t len = chance(8) ? 0 : chance(6) ? 1 : 1 + pick(4000);
	ssize_t n;

	/* The first message's answer is a reset: who knows when. */
	if (how == SENDMMSG && !c->peer_open)
		how = SENDMSG;
	say("%s fd%d len %zu flags %x", how_names[how], fd, len,
	    (unsigned int)flags);
	n = call(fd, how, next_bytes(c), len, flags);
	say_result(n);
	say(" signals %d", signals - before);
	conn_sent(c, n);
}

static void transmit_badly(int fd)
{
	char cmsg[64] = {0};
	struct iovec iov = {bad_pointer(), 10};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	say("bad transmit fd%d", fd);
	switch (pick(10)) {
	case 0:
		n = send(fd, bad_pointer(), 10, MSG_NOSIGNAL);
		break;
	case 1:
		n = send(fd, bad_pointer(), 0, MSG_NOSIGNAL);
		break;
	case 2:
		n = sendto(fd, "x", 1, MSG_NOSIGNAL, bad_page(), 16);
		break;
	case 3:
		n = sendmsg(fd, &m, MSG_NOSIGNAL);
		break;
	case 4:
		m.msg_iov = bad_pointer();
		n = sendmsg(fd, &m, MSG_NOSIGNAL);
		break;
	case 5:
		m.msg_iovlen = IOV_MAX + 1;
		n = sendmsg(fd, &m, MSG_NOSIGNAL);
		break;
	case 6:
		n = writev(fd, &iov, chance(2) ? -1 : IOV_MAX + 1);
		break;
	case 7:
		n = writev(fd, &iov, 0);
		break;
	case 8:
		m.msg_iovlen = 0;
		m.msg_control = cmsg;
		m.msg_controllen = 3 + pick(40);
		n = sendmsg(fd, &m, MSG_NOSIGNAL);
		break;
	default:
		n = sendmsg(fd, bad_pointer(), MSG_NOSIGNAL);
	}
	say_result(n);
	if (n > 0)
		say(" BYTES FROM NOWHERE");
}

static bool can_put(const struct conn *c)
{
	return c->peer_open && !c->reset && !c->shut_wr;
}

/* More than fits: it goes on as the peer reads. */
static void transmit_big(int fd, struct conn *c)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	char *from = malloc(BIG);
	ssize_t n;

	conn_drain(c);
	for (uint32_t i = 0; i < BIG; i += BUF)
		memcpy(from + i, bytes_at(stream_ours(c->n), c->out_sent + i),
		       BIG - i < BUF ? BIG - i : BUF);
	say("; big");
	ask(ORDER_EXPECT, conn_index(c), BIG, 4);
	n = chance(2) ? write(fd, from, BIG) : send(fd, from, BIG, 0);
	say_result(n);
	peer_last();
	/* The last acknowledgements are on their way. */
	if (poll(&p, 1, LIMIT_MS) != 1)
		say(" too late");
	c->out_sent += BIG;
	c->out_seen += BIG;
	free(from);
}

void step_send(void)
{
	struct item *it = item_pick(CONN);
	struct conn *c;

	if (!it)
		return;
	c = conn_of(it);
	if (!w->tame && chance(12))
		transmit_badly(it->fd);
	else
		transmit(it->fd, c);
	if (chance(25) && can_put(c) && !c->nonblock && !c->snd_ms)
		transmit_big(it->fd, c);
	if (chance(3))
		conn_drain(c);
	if (chance(2))
		say_ready(it->fd);
}

/* ---- a full buffer ------------------------------------------------------- */

/* Until nothing more fits, and nothing is on its way that makes room. */
static uint64_t fill(int fd, struct conn *c)
{
	uint64_t before = c->out_sent;
	int full = 0, queued = -1, last;

	while (full < 8) {
		ssize_t n = send(fd, next_bytes(c), 4096, MSG_DONTWAIT);

		if (n > 0) {
			c->out_sent += (uint64_t)n;
			full = 0;
			continue;
		}
		if (errno != EAGAIN) {
			say_result(n);
			break;
		}
		last = queued;
		ioctl(fd, SIOCOUTQ, &queued);
		full = queued == last ? full + 1 : 0;
		sleep_ms(5);
	}
	return c->out_sent - before;
}

/* What the peer has read was acknowledged before: that is on its way, and until
 * it is here the next bytes may be too many for the buffer to be writable. */
static void await_acked(int fd)
{
	int queued = 0;

	for (int i = 0; i < LIMIT_MS * 10; i++) {
		if (ioctl(fd, SIOCOUTQ, &queued) < 0 || !queued)
			return;
		usleep(100);
	}
	say("; too late for ACKs");
}

void step_fill(void)
{
	struct item *it = item_pick(CONN);
	struct pollfd p = {.events = POLLOUT};
	struct conn *c;

	if (!it || !can_put(conn_of(it)))
		return;
	c = conn_of(it);
	p.fd = it->fd;
	conn_drain(c);
	say("fill fd%d: %s", it->fd,
	    fill(it->fd, c) > 30000 ? "much" : "little");
	say_ready(it->fd);
	if (!c->nonblock && c->snd_ms != 20) {
		ssize_t n;

		say(" interrupted");
		signal_start(c->snd_ms && chance(2));
		n = write(it->fd, next_bytes(c), 100);
		signal_stop();
		say_result(n);
	} else {
		say_result(write(it->fd, next_bytes(c), 100));
	}
	say(" poll %d", poll(&p, 1, 1));
	conn_drain(c);
	say(" poll %d", poll(&p, 1, LIMIT_MS));
	say(" %x", (unsigned int)p.revents);
	await_acked(p.fd);
}

/* ---- from a file --------------------------------------------------------- */

void step_sendfile(void)
{
	struct item *it = item_pick(CONN);
	uint32_t n = pick(5000);
	off_t at = 7;
	ssize_t done;
	int fd, before = signals;
	struct conn *c;

	if (!it)
		return;
	c = conn_of(it);
	fd = memfd_create("file", MFD_CLOEXEC);
	say("sendfile fd%d from fd%d len %u", it->fd, fd, n);
	if (pwrite(fd, next_bytes(c), n, 7) < 0)
		say(" no file");
	switch (pick(4)) {
	case 0:
		lseek(fd, 7, SEEK_SET);
		done = sendfile(it->fd, fd, NULL, n);
		break;
	case 1:
		done = sendfile(fd, it->fd, NULL, n);
		say(" (from the socket)");
		say_result(done);
		done = 0;
		break;
	default:
		done = sendfile(it->fd, fd, &at, n + pick(2) * 100);
	}
	say_result(done);
	say(" at %ld signals %d", (long)at, signals - before);
	close(fd);
	conn_sent(c, done);
	if (chance(2))
		conn_drain(c);
}
