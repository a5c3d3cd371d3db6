/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tap_peer.c - Linux's TCP on a TAP device, its peer played by hand
 */
#include "tests/unit/slowpath/tap_peer.h"

#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define DEV "tap_peer"

static int tap = -1;
static unsigned int tap_index;

static const char setup[] =
	"ip link set lo up && ip link set " DEV " address 02:00:00:00:00:02 up "
	"&& ip addr add 10.77.0.2/24 dev " DEV
	" && ip -6 addr add fd77::2/64 dev " DEV " nodad"
	" && ip neigh add 10.77.0.1 lladdr 02:00:00:00:00:01 dev " DEV
	" && ip neigh add fd77::1 lladdr 02:00:00:00:00:01 dev " DEV;

unsigned int peer_host(void)
{
	struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI};

	if (tap >= 0)
		return tap_index;
	if (unshare(CLONE_NEWNET))
		err(1, "a network namespace of its own (run as root)");
	tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	strcpy(ifr.ifr_name, DEV);
	if (tap < 0 || ioctl(tap, TUNSETIFF, &ifr))
		err(1, "a TAP device (/dev/net/tun)");
	if (system(setup))
		errx(1, "setting up the TAP device");
	tap_index = if_nametoindex(DEV);
	return tap_index;
}

static int listener_open(const struct peer_opt *o)
{
	struct sockaddr_in6 a6 = {.sin6_family = AF_INET6,
				  .sin6_port = htons(PEER_PORT)};
	struct sockaddr_in a4 = {.sin_family = AF_INET,
				 .sin_port = htons(PEER_PORT)};
	bool six = o->v6 || o->mapped;
	int one = 1;
	int fd =
		socket(six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, six ? (void *)&a6 : (void *)&a4,
		 six ? sizeof(a6) : sizeof(a4)) ||
	    listen(fd, 5))
		err(1, "listen");
	return fd;
}

static void template_fill(struct peer *p, const struct peer_opt *o)
{
	static uint16_t port = 20000;
	struct segment *t = &p->t;

	memset(p, 0, sizeof(*p));
	t->v6 = o->v6;
	inet_pton(o->v6 ? AF_INET6 : AF_INET, o->v6 ? "fd77::1" : "10.77.0.1",
		  t->src);
	inet_pton(o->v6 ? AF_INET6 : AF_INET, o->v6 ? "fd77::2" : "10.77.0.2",
		  t->dst);
	t->sport = port++;
	t->dport = PEER_PORT;
	t->seq = test_random();
	t->window = o->window;
	t->ts = o->ts;
	t->tsval = test_random();
	t->wscale = -1;
}

void peer_connect(struct peer *p, const struct peer_opt *o)
{
	peer_host();
	template_fill(p, o);
	p->listener = listener_open(o);
	p->t.wscale = o->wscale;
	p->t.mss = PEER_MTU - (o->v6 ? 60 : 40);
	p->t.sack_ok = !o->no_sack;
	peer_send(p, SEG_SYN | (o->ecn ? 0xc0 : 0), 0);
	p->t.seq++;
	p->t.wscale = -1;
	p->t.mss = 0;
	p->t.sack_ok = false;
	if (!peer_receive(p) || (p->last.flags & ~0x40) != (SEG_SYN | SEG_ACK))
		errx(1, "no SYN-ACK");
	peer_send(p, SEG_ACK, 0);
	p->fd = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC);
	if (p->fd < 0)
		err(1, "accept");
}

void peer_send_frame(const uint8_t *frame, uint32_t len)
{
	if (write(tap, frame, len) != (ssize_t)len)
		err(1, "write to the TAP");
}

void peer_send(struct peer *p, uint8_t flags, uint32_t len)
{
	struct segment_buf b;

	p->t.flags = flags;
	p->t.len = len;
	p->t.tsval++;
	peer_send_frame(b.data, segment_build(&p->t, b.data));
	p->t.seq += len + !!(flags & SEG_FIN);
}

bool peer_peek(struct peer *p)
{
	ssize_t n;

	while ((n = read(tap, p->b.data, sizeof(p->b.data))) > 0) {
		p->len = n;
		if (segment_read(&p->last, p->b.data, n, NULL) &&
		    p->last.dport == p->t.sport)
			return true;
	}
	return false;
}

bool peer_receive(struct peer *p)
{
	struct pollfd pfd = {.fd = tap, .events = POLLIN};

	while (!peer_peek(p))
		if (poll(&pfd, 1, 300) <= 0)
			return false;
	p->t.ack = p->last.seq + p->last.len +
		   !!(p->last.flags & (SEG_SYN | SEG_FIN));
	p->t.tsecr = p->last.tsval;
	return true;
}

void peer_close(struct peer *p)
{
	struct linger l = {.l_onoff = 1};

	setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
	close(p->fd);
	close(p->listener);
	while (peer_peek(p))
		;
}
