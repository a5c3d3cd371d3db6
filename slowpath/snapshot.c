/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * snapshot.c - the state of a kernel TCP connection, copied out of its socket
 *
 * Linux lets a privileged process read a connection's inner numbers in repair
 * mode (TCP_REPAIR, made for checkpoint/restore). Repair mode is left with
 * TCP_REPAIR_OFF_NO_WP, so that no window probe betrays the visit, and within a
 * few microseconds. It forces SO_REUSEADDR and clears it when it ends: the
 * program's own value is put back, or its restarted listener could not bind.
 *
 * The order makes a decline harmless. Everything that may fail comes first and
 * only looks: state and options, queue lengths, the numbers, a peek at both
 * queues. The last step alone changes the socket: received bytes, of which the
 * peek made a copy, are thrown away (MSG_TRUNC).
 *
 * What each number is, as seen in Linux 6.1 to 6.18:
 *   TCP_QUEUE_SEQ      send queue: write_seq, the end of unsent data; receive
 *                      queue: rcv_nxt
 *   SIOCOUTQ           write_seq - snd_una
 *   tcpi_notsent_bytes write_seq - snd_nxt
 *   TCP_REPAIR_WINDOW  windows in bytes, scaled already
 *   tcpi_snd_mss       payload, the timestamps option deducted
 *   TCP_TIMESTAMP      TSval of now with bit 0 cleared; bit 0 set: microsecond
 *                      timestamps, which are declined. TSval - ms is known but
 *                      for that bit: the lower value is taken, so that a TSval
 *                      of ours is never ahead of Linux's in the connection's
 *                      TIME_WAIT, or in the next one between the same ports.
 *                      What Linux itself sent shows whether it is one more
 *                      (cache_ts_offset())
 *   send queue         peeked from the oldest segment not wholly acknowledged:
 *                      it may begin before snd_una
 *   tcpi_rcv_ooopack   segments ever received out of order, not those that
 *                      wait now. If there were any, an empty receive memory
 *                      proves that none waits, or else what Linux itself last
 *                      told the peer: it acknowledges at once when a gap
 *                      appears and when the last one is filled, and while there
 *                      is one every segment of its carries SACK blocks (the
 *                      caller saw them, @gap). Without SACK a connection that
 *                      had a gap is declined while it holds unread data
 *   ts_recent          can't be read at all
 *   urgent data        MSG_OOB finds a byte that waits or was announced, unless
 *                      SO_OOBINLINE. One that was taken so still parts the
 *                      queue: SIOCINQ counts to it, to the end with
 *                      SO_OOBINLINE. A program that has to do with these is
 *                      looked at more closely. Nothing of them is carried over
 *   ECN                that it is in use, not whether an ECE is owed or a CWR.
 *                      The peer repeats ECE until it sees CWR, so that a lost
 *                      CWR costs one more reduction of cwnd; a CE mark whose
 *                      echo is lost is followed by others while the queue that
 *                      set it stands. Neither is guessed
 *
 * State: our network namespace's number, read once. @rx and @tx may be memory
 * that a program writes to: nothing is read back from them but to move bytes.
 *
 * Read first: tcp(7), Documentation of CRIU "TCP connection", sock_diag(7).
 */
#include "slowpath/snapshot.h"
#include "libsock/tcp_info.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif
/* linux/tcp.h, which can't be included beside netinet/tcp.h */
#define SNAP_TCP_AO_INFO 40
#define SNAP_OPT_ECN 8u
#define SNAP_OPT_USEC_TS 64u
#define SNAP_SSTHRESH_NONE (1u << 30)

static int opt_int(int fd, int level, int name, int *val)
{
	socklen_t len = sizeof(*val);

	return getsockopt(fd, level, name, val, &len);
}

/* ---- is it one that could be offloaded ------------------------------------
 */

static bool info_get(int fd, struct long_info *i)
{
	socklen_t len = sizeof(*i);

	memset(i, 0, sizeof(*i));
	return !getsockopt(fd, IPPROTO_TCP, TCP_INFO, i, &len) &&
	       len >= offsetof(struct long_info, rcv_wnd);
}

static enum xts_reason options_check(int fd, const struct long_info *i)
{
	static _Atomic bool ao_unknown; /* to this kernel: asked once */
	char ulp[16] = "";
	socklen_t len = sizeof(ulp);
	uint8_t ao[64] = {0};

	if (i->base.tcpi_options & SNAP_OPT_USEC_TS)
		return XTS_REASON_OPTIONS;
	if (!getsockopt(fd, IPPROTO_TCP, TCP_ULP, ulp, &len) && len > 0)
		return XTS_REASON_OPTIONS;
	len = sizeof(ao);
	if (!ao_unknown &&
	    !getsockopt(fd, IPPROTO_TCP, SNAP_TCP_AO_INFO, ao, &len))
		return XTS_REASON_OPTIONS;
	if (!ao_unknown && errno == ENOPROTOOPT)
		ao_unknown = true;
	return XTS_REASON_NONE;
}

static enum xts_reason established_check(int fd, struct long_info *i)
{
	if (!info_get(fd, i))
		return XTS_REASON_REPAIR;
	if (i->base.tcpi_state == TCP_LISTEN)
		return XTS_REASON_LISTENER;
	if (i->base.tcpi_state != TCP_ESTABLISHED)
		return XTS_REASON_NOT_ESTABLISHED;
	return XTS_REASON_NONE;
}

static enum xts_reason state_check(int fd, struct long_info *i)
{
	enum xts_reason reason = established_check(fd, i);

	return reason == XTS_REASON_NONE ? options_check(fd, i) : reason;
}

static uint64_t netns_cookie(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len))
		return 0;
	return cookie;
}

/* A socket of another network namespace may have the same addresses. */
static bool same_netns(int fd)
{
	static _Atomic uint64_t ours; /* a process does not change its own */
	uint64_t cookie = netns_cookie(fd);
	int own;

	if (!ours) {
		own = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		ours = netns_cookie(own);
		close(own);
	}
	return cookie && cookie == ours;
}

union addr {
	struct sockaddr sa;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/* Address and port; the family that its frames have, 0 for neither. */
static int addr_split(const union addr *a, uint8_t *addr, __be16 *port)
{
	if (a->sa.sa_family == AF_INET) {
		memcpy(addr, &a->v4.sin_addr, sizeof(a->v4.sin_addr));
		*port = a->v4.sin_port;
		return AF_INET;
	}
	if (a->sa.sa_family != AF_INET6)
		return 0;
	*port = a->v6.sin6_port;
	if (IN6_IS_ADDR_V4MAPPED(&a->v6.sin6_addr)) {
		memcpy(addr, &a->v6.sin6_addr.s6_addr[12], 4);
		return AF_INET;
	}
	memcpy(addr, &a->v6.sin6_addr, sizeof(a->v6.sin6_addr));
	return AF_INET6;
}

/* 1: yes, 0: not of one family, -errno: not connected. */
static int name_read(int fd, struct conn_key *key)
{
	union addr local = {0}, peer = {0};
	socklen_t llen = sizeof(local), plen = sizeof(peer);
	int lfam, pfam;

	memset(key, 0, sizeof(*key));
	if (getsockname(fd, &local.sa, &llen) ||
	    getpeername(fd, &peer.sa, &plen))
		return -errno;
	lfam = addr_split(&local, key->local, &key->lport);
	pfam = addr_split(&peer, key->peer, &key->pport);
	key->family = lfam;
	return lfam && lfam == pfam;
}

bool snapshot_name(int fd, struct conn_key *key)
{
	int proto = 0;

	return !opt_int(fd, SOL_SOCKET, SO_PROTOCOL, &proto) &&
	       proto == IPPROTO_TCP && same_netns(fd) && name_read(fd, key) > 0;
}

uint64_t snapshot_cookie(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len))
		return 0;
	return cookie;
}

enum xts_reason snapshot_key(int fd, struct conn_key *key)
{
	enum xts_reason reason;
	struct long_info i;
	int proto = 0, rc;

	/* TCP_INFO and the addresses' family tell the rest. */
	if (opt_int(fd, SOL_SOCKET, SO_PROTOCOL, &proto) ||
	    proto != IPPROTO_TCP)
		return XTS_REASON_NOT_TCP;
	if (!same_netns(fd))
		return XTS_REASON_NOT_OURS;
	reason = state_check(fd, &i);
	if (reason != XTS_REASON_NONE)
		return reason;
	rc = name_read(fd, key);
	if (rc <= 0)
		return rc ? XTS_REASON_NOT_ESTABLISHED : XTS_REASON_NOT_TCP;
	return XTS_REASON_NONE;
}

/* ---- the queues, looked at ------------------------------------------------
 */

struct queues {
	uint32_t rcv; /* bytes that the program has not read */
	uint32_t snd; /* bytes unacknowledged or unsent */
};

/* Urgent data wait beside the receive queue, or are to come. */
static bool urgent_waits(int fd)
{
	char c;

	return recv(fd, &c, 1, MSG_OOB | MSG_PEEK | MSG_DONTWAIT) >= 0 ||
	       errno != EINVAL;
}

bool snapshot_urgent(int fd)
{
	int was, on = 1, off = 0, before = 0, all = 0, mark = 0;
	bool waits;

	if (opt_int(fd, SOL_SOCKET, SO_OOBINLINE, &was))
		return false;
	setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &off, sizeof(off));
	waits = urgent_waits(fd) || ioctl(fd, SIOCINQ, &before) ||
		ioctl(fd, SIOCATMARK, &mark);
	setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on));
	waits |= ioctl(fd, SIOCINQ, &all) || before != all || mark;
	if (!was)
		setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &off, sizeof(off));
	return waits;
}

/* Receive memory is in use though the receive queue is empty, or may be. */
static bool out_of_order_waits(int fd, const struct long_info *i, uint32_t rcv,
			       enum snapshot_gap gap)
{
	uint32_t mem[16] = {0}; /* SK_MEMINFO_*: the first is rmem_alloc */
	socklen_t len = sizeof(mem);

	if (!i->rcv_ooopack)
		return false;
	if (gap == SNAPSHOT_GAP_NONE && i->base.tcpi_options & TCPI_OPT_SACK)
		return false;
	return rcv || getsockopt(fd, SOL_SOCKET, SO_MEMINFO, mem, &len) ||
	       mem[0];
}

/* The peer's stream ended for the program (shutdown), or an error waits. */
static bool receive_is_over(int fd, uint32_t rcv)
{
	struct pollfd p = {.fd = fd, .events = POLLRDHUP};
	ssize_t n;
	char c;

	if (rcv)
		return poll(&p, 1, 0) > 0;
	n = recv(fd, &c, 1, MSG_PEEK | MSG_DONTWAIT);
	return n == 0 || (n < 0 && errno != EAGAIN);
}

/* Received data to @rx; they stay in the queue. */
static enum xts_reason receive_queue_copy(int fd, uint8_t *rx, uint32_t rcv)
{
	ssize_t n;

	if (receive_is_over(fd, rcv))
		return XTS_REASON_NOT_ESTABLISHED;
	if (!rcv)
		return XTS_REASON_NONE;
	n = recv(fd, rx, rcv, MSG_PEEK | MSG_DONTWAIT);
	if (n < 0 && errno != EAGAIN)
		return XTS_REASON_NOT_ESTABLISHED; /* an error waits */
	return n == rcv ? XTS_REASON_NONE : XTS_REASON_KERNEL_QUEUE;
}

static enum xts_reason queues_check(int fd, uint32_t buf_size,
				    const struct long_info *i,
				    enum snapshot_gap gap, struct queues *q)
{
	int rcv, snd;

	if (ioctl(fd, SIOCINQ, &rcv) || ioctl(fd, SIOCOUTQ, &snd) || rcv < 0 ||
	    snd < 0)
		return XTS_REASON_NOT_ESTABLISHED;
	q->rcv = rcv;
	q->snd = snd;
	if (urgent_waits(fd))
		return XTS_REASON_URGENT;
	if (out_of_order_waits(fd, i, q->rcv, gap))
		return XTS_REASON_OUT_OF_ORDER;
	if (q->rcv > buf_size / 2 || q->snd > buf_size)
		return XTS_REASON_KERNEL_QUEUE;
	return XTS_REASON_NONE;
}

/* ---- the numbers, in repair mode ------------------------------------------
 */

static uint32_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint32_t)(ts.tv_sec * 1000u + ts.tv_nsec / 1000000);
}

#define CLOCK_TRIES 4

/* The clock is read afterwards: what passes between makes the offset too small,
 * never too great; and bit 0, which Linux hides, is taken as clear. */
static enum xts_reason timestamp_read(int fd, struct flow_params *p)
{
	uint32_t before, after = now_ms();
	int val, i = 0;

	do {
		before = after;
		if (opt_int(fd, IPPROTO_TCP, TCP_TIMESTAMP, &val))
			return XTS_REASON_REPAIR;
		if (val & 1)
			return XTS_REASON_OPTIONS;
		after = now_ms();
	} while (after != before && ++i < CLOCK_TRIES);
	p->ts_offset = (uint32_t)val - after;
	return XTS_REASON_NONE;
}

static bool queue_seq(int fd, int queue, uint32_t *seq)
{
	int val;

	if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, &queue,
		       sizeof(queue)) ||
	    opt_int(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, &val))
		return false;
	*seq = val;
	return true;
}

/* Unacknowledged and unsent data to @tx; Linux copies whole segments, from the
 * one that snd_una is in. Of more than fits it still tells the length. */
static enum xts_reason send_queue_copy(int fd, uint32_t buf_size, uint8_t *tx,
				       uint32_t snd)
{
	ssize_t n;

	if (!snd)
		return XTS_REASON_NONE;
	n = recv(fd, tx, buf_size, MSG_PEEK | MSG_DONTWAIT);
	if (n > (ssize_t)buf_size || (n < 0 && errno == EFAULT))
		return XTS_REASON_KERNEL_QUEUE;
	if (n < (ssize_t)snd)
		return XTS_REASON_REPAIR;
	memmove(tx, tx + (n - snd), snd);
	return XTS_REASON_NONE;
}

static enum xts_reason repair_read(int fd, uint32_t buf_size, uint8_t *tx,
				   const struct queues *q,
				   struct flow_params *p)
{
	struct tcp_repair_window w;
	socklen_t len = sizeof(w);
	uint32_t write_seq;
	enum xts_reason reason;

	if (getsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &w, &len) ||
	    len != sizeof(w) || !queue_seq(fd, TCP_RECV_QUEUE, &p->rcv_nxt) ||
	    !queue_seq(fd, TCP_SEND_QUEUE, &write_seq))
		return XTS_REASON_REPAIR;
	p->snd_una = write_seq - q->snd;
	p->tx_len = q->snd;
	p->snd_wnd = w.snd_wnd;
	p->snd_wl1 = w.snd_wl1;
	p->rcv_wup = w.rcv_wup;
	p->rcv_wnd = w.rcv_wnd;
	reason = send_queue_copy(fd, buf_size, tx, q->snd);
	if (reason != XTS_REASON_NONE)
		return reason;
	return timestamp_read(fd, p);
}

/* Repair mode, entered and left again without a trace. */
static bool repair_enter(int fd, int *reuse)
{
	int on = TCP_REPAIR_ON;

	return !opt_int(fd, SOL_SOCKET, SO_REUSEADDR, reuse) &&
	       !setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on));
}

static bool repair_leave(int fd, int reuse)
{
	int off = TCP_REPAIR_OFF_NO_WP;
	bool ok = !setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &off, sizeof(off));

	return (!reuse || !setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &reuse,
				      sizeof(reuse))) &&
	       ok;
}

static enum xts_reason repair_visit(int fd, uint32_t buf_size, uint8_t *tx,
				    const struct queues *q,
				    struct flow_params *p)
{
	enum xts_reason reason;
	int reuse;

	if (!repair_enter(fd, &reuse))
		return XTS_REASON_REPAIR;
	reason = repair_read(fd, buf_size, tx, q, p);
	return repair_leave(fd, reuse) ? reason : XTS_REASON_REPAIR;
}

bool snapshot_numbers(int fd, uint32_t *rcv_nxt, uint32_t *snd_una)
{
	uint32_t write_seq = 0;
	int reuse, unacked = 0;
	bool ok;

	if (!repair_enter(fd, &reuse))
		return false;
	ok = queue_seq(fd, TCP_RECV_QUEUE, rcv_nxt) &&
	     queue_seq(fd, TCP_SEND_QUEUE, &write_seq) &&
	     !ioctl(fd, SIOCOUTQ, &unacked);
	*snd_una = write_seq - (uint32_t)unacked;
	return repair_leave(fd, reuse) && ok;
}

/* ---- everything together --------------------------------------------------
 */

/* After repair mode: what TCP_INFO says. */
static void info_apply(const struct long_info *i, struct flow_params *p)
{
	const struct tcp_info *b = &i->base;
	uint32_t unsent = i->notsent_bytes;

	if (unsent > p->tx_len)
		unsent = p->tx_len;
	p->snd_nxt = p->snd_una + p->tx_len - unsent;
	p->snd_mss = b->tcpi_snd_mss;
	p->rcv_mss = b->tcpi_rcv_mss;
	p->cwnd_segs = b->tcpi_snd_cwnd;
	p->ssthresh_segs = b->tcpi_snd_ssthresh;
	if (p->ssthresh_segs > SNAP_SSTHRESH_NONE)
		p->ssthresh_segs = SNAP_SSTHRESH_NONE;
	p->srtt_us = b->tcpi_rtt;
	p->rttvar_us = b->tcpi_rtt ? b->tcpi_rttvar : 0;
	p->rto_us = b->tcpi_rto >> (b->tcpi_backoff < 16 ? b->tcpi_backoff : 0);
	p->snd_wscale = p->rcv_wscale = 0;
	if (b->tcpi_options & TCPI_OPT_WSCALE) {
		p->snd_wscale = b->tcpi_snd_wscale;
		p->rcv_wscale = b->tcpi_rcv_wscale;
	}
	p->min_rtt_us = i->min_rtt == UINT32_MAX ? 0 : i->min_rtt;
	p->max_pacing_rate =
		i->max_pacing_rate == UINT64_MAX ? 0 : i->max_pacing_rate;
	p->bytes_acked = i->bytes_acked;
	p->bytes_received = i->bytes_received;
	p->bytes_sent = i->bytes_sent;
	p->bytes_retrans = i->bytes_retrans;
	p->total_retrans = b->tcpi_total_retrans;
	p->delivered = i->delivered;
	p->delivered_ce = i->delivered_ce;
	p->dsack_dups = i->dsack_dups;
	p->sack = b->tcpi_options & TCPI_OPT_SACK;
	p->ecn = b->tcpi_options & SNAP_OPT_ECN;
	p->timestamps = b->tcpi_options & TCPI_OPT_TIMESTAMPS;
	if (!p->timestamps)
		p->ts_offset = 0;
}

static void receive_queue_discard(int fd, uint32_t len)
{
	while (len > 0) {
		ssize_t n = recv(fd, NULL, len, MSG_TRUNC | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		len -= n;
	}
}

enum xts_reason snapshot_take(int fd, uint32_t buf_size, uint8_t *rx,
			      uint8_t *tx, enum snapshot_gap gap,
			      struct flow_params *p)
{
	enum xts_reason reason;
	struct queues q;
	struct long_info i;

	/* What can't change any more snapshot_key() has looked at. */
	reason = established_check(fd, &i);
	if (reason != XTS_REASON_NONE)
		return reason;
	reason = queues_check(fd, buf_size, &i, gap, &q);
	if (reason != XTS_REASON_NONE)
		return reason;
	reason = receive_queue_copy(fd, rx, q.rcv);
	if (reason != XTS_REASON_NONE)
		return reason;
	reason = repair_visit(fd, buf_size, tx, &q, p);
	if (reason != XTS_REASON_NONE)
		return reason;
	p->rx_len = q.rcv;
	info_apply(&i, p);
	receive_queue_discard(fd, q.rcv);
	return XTS_REASON_NONE;
}

void snapshot_options(int fd, bool tuned, struct flow_params *p)
{
	socklen_t len = sizeof(p->cc);
	int v = 0;

	if (getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, p->cc, &len))
		*p->cc = '\0';
	p->cc[sizeof(p->cc) - 1] = '\0';
	if (!tuned)
		return;
	opt_int(fd, IPPROTO_TCP, TCP_CORK, &v);
	p->cork = v;
	v = 0;
	opt_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &v);
	p->user_timeout_ms = (uint32_t)v;
}

int snapshot_unacked(int fd)
{
	int n;

	return ioctl(fd, SIOCOUTQ, &n) ? -errno : n;
}

int snapshot_pmtu(int fd)
{
	struct long_info i;

	return info_get(fd, &i) ? (int)i.base.tcpi_pmtu : -EINVAL;
}

/* In repair mode TCP_MAXSEG is that. */
int snapshot_mss_clamp(int fd)
{
	int reuse, mss = 0;
	bool ok;

	if (!repair_enter(fd, &reuse))
		return -EINVAL;
	ok = !opt_int(fd, IPPROTO_TCP, TCP_MAXSEG, &mss);
	return repair_leave(fd, reuse) && ok ? mss : -EINVAL;
}

int snapshot_reset(int fd)
{
	struct sockaddr sa = {.sa_family = AF_UNSPEC};

	return connect(fd, &sa, sizeof(sa)) ? -errno : 0;
}

/* ---- does it still exist --------------------------------------------------
 */

int snapshot_diag_open(void)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);

	return fd < 0 ? -errno : fd;
}

static bool diag_ask(int fd, const struct conn_key *key, unsigned int ifindex,
		     uint32_t seq)
{
	struct {
		struct nlmsghdr nlh;
		struct inet_diag_req_v2 req;
	} m = {
		.nlh =
			{
				.nlmsg_len = sizeof(m),
				.nlmsg_type = SOCK_DIAG_BY_FAMILY,
				.nlmsg_flags = NLM_F_REQUEST,
				.nlmsg_seq = seq,
			},
		.req =
			{
				.sdiag_family = key->family,
				.sdiag_protocol = IPPROTO_TCP,
				.idiag_states = UINT32_MAX,
				.id =
					{
						.idiag_sport = key->lport,
						.idiag_dport = key->pport,
						.idiag_if = ifindex,
						.idiag_cookie =
							{INET_DIAG_NOCOOKIE,
							 INET_DIAG_NOCOOKIE},
					},
			},
	};

	memcpy(m.req.id.idiag_src, key->local, sizeof(m.req.id.idiag_src));
	memcpy(m.req.id.idiag_dst, key->peer, sizeof(m.req.id.idiag_dst));
	return send(fd, &m, sizeof(m), 0) == sizeof(m);
}

/* A message of Linux's: without the connection it finds the listener. */
static bool diag_found(const struct nlmsghdr *nlh)
{
	if (nlh->nlmsg_type == NLMSG_ERROR) {
		const struct nlmsgerr *err = NLMSG_DATA(nlh);

		return nlh->nlmsg_len < NLMSG_LENGTH(sizeof(*err)) ||
		       err->error != -ENOENT;
	}
	if (nlh->nlmsg_type == SOCK_DIAG_BY_FAMILY &&
	    nlh->nlmsg_len >= NLMSG_LENGTH(sizeof(struct inet_diag_msg))) {
		const struct inet_diag_msg *d = NLMSG_DATA(nlh);

		return d->idiag_state != TCP_LISTEN;
	}
	return true;
}

bool snapshot_exists(int diag_fd, const struct conn_key *key,
		     unsigned int ifindex)
{
	static _Atomic uint32_t last_seq;
	uint32_t seq = ++last_seq;
	union {
		struct nlmsghdr nlh;
		char buf[4096];
	} m;

	if (!diag_ask(diag_fd, key, ifindex, seq))
		return true;
	/* Linux answers within send(); an answer of an earlier call that was
	 * cut short is read over. */
	for (;;) {
		ssize_t n = recv(diag_fd, &m, sizeof(m), MSG_DONTWAIT);

		if (n < (ssize_t)sizeof(m.nlh))
			return true;
		if (m.nlh.nlmsg_len <= (uint32_t)n && m.nlh.nlmsg_seq == seq)
			return diag_found(&m.nlh);
	}
}
