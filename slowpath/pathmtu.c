/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pathmtu.c - flows' segments follow what Linux knows of the path
 *
 * Linux learns a path's MTU from ICMP errors (RFC 1191, RFC 8201) and forgets
 * it after a while (net.ipv4.route.mtu_expires); routes have one, which the
 * administrator changes. Its own TCP sees either when it next sends; a shadow
 * socket never sends. So:
 *   - after an ICMP error about a flow, which reached Linux translated, the
 *     shadow's MTU is the flow's;
 *   - after a change of routes (rtnetlink) all flows are looked at, once for
 *     many changes;
 *   - flows that were made smaller are looked at every NARROW_NS: smaller
 *     still, or larger again up to what the peer's SYN allowed. Linux's PMTU
 *     cache says when that is.
 * The MTU is that of a connected datagram socket from the same to the same
 * address: Linux's whole look-up, policy rules and learned exceptions included,
 * without a packet. (Rules on marks, ports and users are not seen.)
 *
 * Below that a flow looks for the size itself, if the administrator wants it to
 * (net.ipv4.tcp_mtu_probing, RFC 4821): fastpath/mtu.c. The settings are those
 * of when it was taken over.
 *
 * Cost: a look-up for each pair of addresses in a row of flows, a few
 * microseconds. State: in struct daemon and conn.snd_mss. One thread.
 */
#include "slowpath/pathmtu.h"
#include "slowpath/log.h"
#include "slowpath/snapshot.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define SETTLE_NS UINT64_C(50000000) /* after a change of routes */
#define NARROW_NS UINT64_C(5000000000)
#define MSS_MIN 48u /* net.ipv4.tcp_min_snd_mss */

/* linux/in.h and linux/in6.h, which can't be included beside netinet/in.h */
#ifndef IP_MTU
#define IP_MTU 14
#endif
#ifndef IPV6_MTU
#define IPV6_MTU 24
#endif

static const char *const sysctls[PATHMTU_SYSCTLS] = {
	[PATHMTU_PROBING] = "/proc/sys/net/ipv4/tcp_mtu_probing",
	[PATHMTU_BASE] = "/proc/sys/net/ipv4/tcp_base_mss",
	[PATHMTU_FLOOR] = "/proc/sys/net/ipv4/tcp_mtu_probe_floor",
	[PATHMTU_THRESHOLD] = "/proc/sys/net/ipv4/tcp_probe_threshold",
	[PATHMTU_INTERVAL] = "/proc/sys/net/ipv4/tcp_probe_interval",
};

/* ---- what Linux knows ------------------------------------------------------
 */

/* The path's MTU; 0: unknown. */
static uint32_t path_mtu(const struct conn_key *key)
{
	bool v6 = key->family == AF_INET6;
	union {
		struct sockaddr sa;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} local = {0}, peer = {0};
	socklen_t alen = v6 ? sizeof(local.v6) : sizeof(local.v4), len;
	int fd, mtu = 0;

	local.sa.sa_family = peer.sa.sa_family = (sa_family_t)key->family;
	if (v6) {
		memcpy(&local.v6.sin6_addr, key->local, 16);
		memcpy(&peer.v6.sin6_addr, key->peer, 16);
		peer.v6.sin6_port = key->pport;
	} else {
		memcpy(&local.v4.sin_addr, key->local, 4);
		memcpy(&peer.v4.sin_addr, key->peer, 4);
		peer.v4.sin_port = key->pport;
	}
	fd = socket((int)key->family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return 0;
	len = sizeof(mtu);
	if (bind(fd, &local.sa, alen) || connect(fd, &peer.sa, alen) ||
	    getsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP,
		       v6 ? IPV6_MTU : IP_MTU, &mtu, &len))
		mtu = 0;
	close(fd);
	return mtu > 0 ? (uint32_t)mtu : 0;
}

/* Payload of a segment that fits @mtu; @clamp: the MSS of the peer's SYN. */
static uint32_t mss_of(const struct conn *c, uint32_t mtu, uint32_t clamp)
{
	uint32_t hdr = sizeof(struct tcphdr) + (c->key.family == AF_INET6
							? sizeof(struct ip6_hdr)
							: sizeof(struct iphdr));
	uint32_t mss = mtu > hdr ? mtu - hdr : 0;

	if (mss > clamp)
		mss = clamp;
	mss -= c->t.timestamps && mss > TCPOLEN_TSTAMP_APPA
		       ? TCPOLEN_TSTAMP_APPA
		       : 0;
	return mss > MSS_MIN ? mss : MSS_MIN;
}

/* ---- flows -----------------------------------------------------------------
 */

static void set_mss(struct daemon *d, struct conn *c, uint32_t mss)
{
	char name[CONN_NAME_MAX];
	struct fp_msg *m;

	log_debug("%s: segments of %u bytes instead of %u",
		  conn_name(&c->key, name), mss, c->snd_mss);
	c->narrow = mss < c->snd_mss || c->narrow;
	c->snd_mss = mss;
	m = daemon_cmd(d, c->core, FP_CMD_SET_MSS, false);
	m->flow = c->flow;
	m->value = mss;
	daemon_submit(d, c->core);
}

static uint32_t setting(struct daemon *d, enum pathmtu_sysctl which)
{
	return sysctl_value(&d->mtu_sysctl[which], daemon_now_ns());
}

/* Linux itself may be looking for it: then its segments are smaller. */
void pathmtu_install(struct daemon *d, struct conn *c, struct flow_params *p)
{
	int mtu, clamp;

	p->mtu_probing = (uint8_t)setting(d, PATHMTU_PROBING);
	if (!p->mtu_probing)
		return;
	p->mtu_base = setting(d, PATHMTU_BASE);
	p->mtu_floor = setting(d, PATHMTU_FLOOR);
	p->mtu_threshold = setting(d, PATHMTU_THRESHOLD);
	p->mtu_interval_s = setting(d, PATHMTU_INTERVAL);
	mtu = snapshot_pmtu(c->fd);
	clamp = snapshot_mss_clamp(c->fd);
	if (mtu > 0 && clamp > 0)
		p->mss_max = mss_of(c, (uint32_t)mtu, (uint32_t)clamp);
	if (p->mss_max > c->snd_mss)
		c->snd_mss = p->mss_max;
}

static void check_at(struct daemon *d, uint64_t at_ns)
{
	if (!d->mtu_check_ns || at_ns < d->mtu_check_ns)
		d->mtu_check_ns = at_ns;
}

void pathmtu_icmp(struct daemon *d, struct conn *c)
{
	int mtu = snapshot_pmtu(c->fd);
	uint32_t mss;

	if (mtu <= 0)
		return;
	mss = mss_of(c, (uint32_t)mtu, UINT16_MAX);
	if (mss >= c->snd_mss)
		return;
	set_mss(d, c, mss);
	check_at(d, daemon_now_ns() + NARROW_NS);
}

static void look_at(struct daemon *d, struct conn *c, uint32_t mtu)
{
	uint32_t mss = mss_of(c, mtu, UINT16_MAX);
	int clamp;

	if (mss > c->snd_mss) {
		clamp = snapshot_mss_clamp(c->fd);
		if (clamp <= 0)
			return;
		mss = mss_of(c, mtu, (uint32_t)clamp);
		if (mss >= mss_of(c, UINT16_MAX, (uint32_t)clamp))
			c->narrow = false;
		if (mss <= c->snd_mss)
			return;
	}
	if (mss != c->snd_mss)
		set_mss(d, c, mss);
}

int64_t pathmtu_check(struct daemon *d)
{
	const struct conn_key *last = NULL;
	uint64_t now = 0;
	struct conn *c, *tmp;
	bool narrow = false;
	uint32_t mtu = 0;

	if (!d->mtu_check_ns)
		return -1;
	now = daemon_now_ns();
	if (now < d->mtu_check_ns)
		return (int64_t)(d->mtu_check_ns - now);
	HASH_ITER (hh, d->conns, c, tmp) {
		if (c->phase != CONN_LIVE || !(c->narrow || d->routes_changed))
			continue;
		if (!last || memcmp(last->local, c->key.local, 16) != 0 ||
		    memcmp(last->peer, c->key.peer, 16) != 0)
			mtu = path_mtu(&c->key);
		last = &c->key;
		if (mtu)
			look_at(d, c, mtu);
		narrow |= c->narrow;
	}
	d->routes_changed = false;
	d->mtu_check_ns = narrow ? now + NARROW_NS : 0;
	return narrow ? (int64_t)NARROW_NS : -1;
}

/* ---- routes ----------------------------------------------------------------
 */

static void on_routes(void *arg, uint32_t events)
{
	struct daemon *d = arg;
	char buf[4096];

	/* What changed does not matter; nor does it if some were lost. */
	while (recv(d->route_fd, buf, sizeof(buf), MSG_DONTWAIT) > 0 ||
	       errno == ENOBUFS)
		;
	if (!d->conns)
		return;
	d->routes_changed = true;
	check_at(d, daemon_now_ns() + SETTLE_NS);
}

void pathmtu_init(struct daemon *d)
{
	unsigned int i;

	d->route_fd = -1;
	for (i = 0; i < PATHMTU_SYSCTLS; i++)
		d->mtu_sysctl[i].fd = -1;
}

int pathmtu_open(struct daemon *d)
{
	struct sockaddr_nl nl = {
		.nl_family = AF_NETLINK,
		.nl_groups = RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE,
	};
	unsigned int i;
	int rc;

	for (i = 0; i < PATHMTU_SYSCTLS; i++)
		sysctl_open(&d->mtu_sysctl[i], sysctls[i]);
	d->route_fd =
		socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (d->route_fd < 0 || bind(d->route_fd, (const void *)&nl, sizeof(nl)))
		return -errno;
	rc = loop_watch(&d->loop, d->route_fd, POLLIN, on_routes, d);
	return rc < 0 ? rc : 0;
}

void pathmtu_close(struct daemon *d)
{
	unsigned int i;

	if (d->route_fd >= 0)
		close(d->route_fd);
	for (i = 0; i < PATHMTU_SYSCTLS; i++)
		sysctl_close(&d->mtu_sysctl[i]);
}
