/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * restore.c - a kernel socket made to go on where a flow has stopped
 *
 * The other direction of snapshot.c, with the same tool: in repair mode
 * connect() makes an ESTABLISHED socket without a handshake, queues are filled
 * without a segment being sent, and a close is silent. The order is Linux's:
 * sequence numbers while the socket is closed, options before any data, the
 * window after the received data. Repair mode forces address reuse, so that the
 * new socket gets the 4-tuple beside the program's listener; SO_REUSEADDR,
 * which repair mode clears when it ends, is set last.
 *
 * What each step has to know, as seen in Linux 6.1 to 6.18:
 *   MSS       TCP_REPAIR_OPTIONS sets the clamp but not the MSS in use, which
 *             connect() computes: TCP_MAXSEG for as long as that takes
 *   wscale    always given, 0 where none was negotiated: connect() would leave
 *             the receive scale that it had offered. No larger window than can
 *             be said without it: TCP_WINDOW_CLAMP
 *   TSval     the clock goes on between its reading and TCP_TIMESTAMP, and bit
 *             0 is lost: some ms more, so that no TSval is before one sent
 *   windows   the window that the peer was promised has to find room, so the
 *             receive buffer is made large enough first; a program that chose
 *             its buffer's size gets that, and the peer may have to send again
 *   data      those that were sent go in as sent ones (repair mode), the others
 *             as any program's, after it
 *   RTO       Linux knows no round trip yet; an ACK for what is in the send
 *             queue tells it
 *
 * What Linux gives no means to set, so that it is not carried over:
 *   - ECN: the new socket sends no ECT and echoes no CE
 *   - ts_recent; the caller shows Linux a segment of the peer's that has it
 *   - cwnd, ssthresh, round trip, loss recovery: slow start begins anew
 *   - data received out of order: the peer, which was told of them (SACK), has
 *     to find out that it must send them again (RFC 2018 section 8)
 *   - what a socket gets from the process that makes it: cgroup (and so the
 *     BPF programs, classes and memory accounts that go by it) and LSM label
 *     are the service's. Its owner, which rules may match, is the program's
 *   - SO_ATTACH_FILTER, SO_TIMESTAMPING, TCP_WINDOW_CLAMP, TCP_MAXSEG of the
 *     program's, F_SETOWN, TCP_MD5SIG keys
 *
 * State: none. The data lie in memory that a program writes to: nothing but
 * bytes is read from there.
 *
 * Read first: tcp(7), CRIU's libsoccr.
 */
#include "slowpath/restore.h"
#include "slowpath/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif
#define SNDBUF_LOCKED 1
#define RCVBUF_LOCKED 2
#define CHUNK 16384u	   /* given to Linux in one call */
#define BUF_SPARE 65536u   /* beside the data themselves */
#define BUF_MAX (1u << 29) /* Linux doubles it */

static int set_int(int fd, int level, int name, int val)
{
	return setsockopt(fd, level, name, &val, sizeof(val)) ? -errno : 0;
}

static int get_int(int fd, int level, int name, int fallback)
{
	socklen_t len = sizeof(int);
	int val = fallback;

	return getsockopt(fd, level, name, &val, &len) ? fallback : val;
}

/* ---- options of the program's --------------------------------------------
 */

/* In this order: IP_TOS changes SO_PRIORITY. */
static const struct {
	int level, name;
} options[] = {
	{IPPROTO_IPV6, IPV6_V6ONLY},
	{SOL_SOCKET, SO_BINDTODEVICE},
	{SOL_SOCKET, SO_REUSEPORT},
	{SOL_SOCKET, SO_DONTROUTE},
	{SOL_SOCKET, SO_MARK},
	{SOL_SOCKET, SO_LINGER},
	{SOL_SOCKET, SO_KEEPALIVE},
	{SOL_SOCKET, SO_OOBINLINE},
	{SOL_SOCKET, SO_RCVTIMEO},
	{SOL_SOCKET, SO_SNDTIMEO},
	{SOL_SOCKET, SO_MAX_PACING_RATE},
	{SOL_SOCKET, SO_BUSY_POLL},
	{SOL_SOCKET, SO_ZEROCOPY},
	{SOL_SOCKET, SO_TIMESTAMP},
	{IPPROTO_IP, IP_FREEBIND},
	{IPPROTO_IP, IP_TRANSPARENT},
	{IPPROTO_IP, IP_MTU_DISCOVER},
	{IPPROTO_IP, IP_TTL},
	{IPPROTO_IP, IP_MINTTL},
	{IPPROTO_IP, IP_TOS},
	{IPPROTO_IP, IP_RECVERR},
	{IPPROTO_IPV6, IPV6_MTU_DISCOVER},
	{IPPROTO_IPV6, IPV6_UNICAST_HOPS},
	{IPPROTO_IPV6, IPV6_MINHOPCOUNT},
	{IPPROTO_IPV6, IPV6_TCLASS},
	{IPPROTO_IPV6, IPV6_RECVERR},
	{IPPROTO_IPV6, IPV6_AUTOFLOWLABEL},
	{SOL_SOCKET, SO_PRIORITY},
	{IPPROTO_TCP, TCP_CONGESTION},
	{IPPROTO_TCP, TCP_NODELAY},
	{IPPROTO_TCP, TCP_CORK},
	{IPPROTO_TCP, TCP_KEEPIDLE},
	{IPPROTO_TCP, TCP_KEEPINTVL},
	{IPPROTO_TCP, TCP_KEEPCNT},
	{IPPROTO_TCP, TCP_SYNCNT},
	{IPPROTO_TCP, TCP_LINGER2},
	{IPPROTO_TCP, TCP_USER_TIMEOUT},
	{IPPROTO_TCP, TCP_NOTSENT_LOWAT},
	{IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS},
	{IPPROTO_TCP, TCP_INQ},
};

/* Only what differs is set: a value that was never chosen goes on following the
 * sysctl. One that this kernel or this family does not know is passed over. */
static void option_copy(int fd, int old, int level, int name)
{
	uint8_t was[32] = {0}, is[32] = {0};
	socklen_t was_len = sizeof(was), is_len = sizeof(is);

	if (getsockopt(old, level, name, was, &was_len) ||
	    getsockopt(fd, level, name, is, &is_len))
		return;
	if (was_len == is_len && memcmp(was, is, sizeof(was)) == 0)
		return;
	setsockopt(fd, level, name, was, was_len);
}

static void owner_copy(int fd, int old)
{
	struct stat st;

	/* Rules that match by user keep to it where we may say so. */
	if (fstat(old, &st) == 0 && fchown(fd, st.st_uid, st.st_gid) != 0)
		return;
}

int restore_prepare(int old)
{
	struct sockaddr_storage local = {0};
	socklen_t len = sizeof(local);
	int fd, rc, flags = fcntl(old, F_GETFL);

	if (flags < 0 || getsockname(old, (void *)&local, &len))
		return -errno;
	fd = socket(local.ss_family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
	if (fd < 0)
		return -errno;
	owner_copy(fd, old);
	for (size_t i = 0; i < sizeof(options) / sizeof(*options); i++)
		option_copy(fd, old, options[i].level, options[i].name);
	rc = set_int(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON);
	if (rc == 0 && bind(fd, (void *)&local, len))
		rc = -errno;
	if (rc == 0 && fcntl(fd, F_SETFL, flags))
		rc = -errno;
	if (rc == 0)
		return fd;
	close(fd);
	return rc;
}

/* ---- the connection ------------------------------------------------------
 */

int restore_silence(int fd)
{
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	int rc = set_int(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON);

	if (rc == 0 && connect(fd, &none, sizeof(none)))
		rc = -errno;
	set_int(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP);
	return rc;
}

static int set_seq(int fd, int queue, uint32_t seq)
{
	int rc = set_int(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, queue);

	return rc ? rc : set_int(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, (int)seq);
}

static uint32_t sent_len(const struct flow_frozen *z)
{
	return z->snd_nxt - z->snd_una;
}

static int buf_for(uint64_t bytes)
{
	return (int)(bytes + BUF_SPARE < BUF_MAX ? bytes + BUF_SPARE : BUF_MAX);
}

static int set_closed(int fd, const struct flow_frozen *z, int mss)
{
	int rc;

	set_int(fd, SOL_SOCKET, SO_RCVBUFFORCE,
		buf_for((uint64_t)z->rx_len + z->rcv_wnd));
	set_int(fd, SOL_SOCKET, SO_SNDBUFFORCE, buf_for(2ull * z->tx_len));
	if (mss > 0)
		set_int(fd, IPPROTO_TCP, TCP_MAXSEG, mss);
	if (!z->rcv_wscale)
		set_int(fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, UINT16_MAX);
	rc = set_seq(fd, TCP_SEND_QUEUE, z->snd_una);
	return rc ? rc : set_seq(fd, TCP_RECV_QUEUE, z->rcv_nxt - z->rx_len);
}

static int set_options(int fd, const struct flow_frozen *z, int mss)
{
	struct tcp_repair_opt o[4];
	socklen_t n = 0;

	if (mss > 0)
		o[n++] = (struct tcp_repair_opt){TCPOPT_MAXSEG, (uint32_t)mss};
	o[n++] = (struct tcp_repair_opt){
		TCPOPT_WINDOW, z->snd_wscale | (uint32_t)z->rcv_wscale << 16};
	if (z->sack)
		o[n++] = (struct tcp_repair_opt){TCPOPT_SACK_PERMITTED, 0};
	if (z->timestamps)
		o[n++] = (struct tcp_repair_opt){TCPOPT_TIMESTAMP, 0};
	return setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_OPTIONS, o,
			  n * sizeof(*o))
		       ? -errno
		       : 0;
}

/* @len bytes from @off of a ring to where send() puts them. */
static int give(int fd, const uint8_t *ring, uint32_t size, uint32_t off,
		uint32_t len)
{
	while (len > 0) {
		uint32_t at = off & (size - 1), n = size - at;
		ssize_t done;

		n = n < len ? n : len;
		n = n < CHUNK ? n : CHUNK;
		done = send(fd, ring + at, n, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done ? -errno : -EIO;
		off += (uint32_t)done;
		len -= (uint32_t)done;
	}
	return 0;
}

static int give_queue(int fd, int queue, const uint8_t *ring, uint32_t size,
		      uint32_t off, uint32_t len)
{
	int rc = set_int(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, queue);

	return rc ? rc : give(fd, ring, size, off, len);
}

static int set_window(int fd, const struct flow_frozen *z)
{
	struct tcp_repair_window w = {
		.snd_wl1 = z->snd_wl1,
		.snd_wnd = z->snd_wnd,
		.max_window = z->snd_wnd_max > z->snd_wnd ? z->snd_wnd_max
							  : z->snd_wnd,
		.rcv_wnd = z->rcv_wnd,
		.rcv_wup = z->rcv_wup,
	};

	return setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &w, sizeof(w))
		       ? -errno
		       : 0;
}

static uint32_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint32_t)(ts.tv_sec * 1000u + ts.tv_nsec / 1000000);
}

/* Linux's offset must not be below ours: the peer drops what seems old. */
static int set_timestamp(int fd, const struct flow_frozen *z)
{
	uint32_t before;
	int rc;

	do {
		before = now_ms();
		rc = set_int(fd, IPPROTO_TCP, TCP_TIMESTAMP,
			     (int)((before + z->ts_offset + 2) & ~1u));
	} while (rc == 0 && now_ms() - before > 1);
	return rc;
}

static int fill(int fd, const struct flow_frozen *z, int mss)
{
	int rc = set_options(fd, z, mss);

	if (rc == 0)
		rc = give_queue(fd, TCP_RECV_QUEUE, z->rx_buf, z->rx_size,
				z->rx_off, z->rx_len);
	if (rc == 0)
		rc = give_queue(fd, TCP_SEND_QUEUE, z->tx_buf, z->tx_size,
				z->tx_off, sent_len(z));
	if (rc == 0)
		rc = set_window(fd, z);
	if (rc == 0 && z->timestamps)
		rc = set_timestamp(fd, z);
	if (rc == 0)
		rc = set_int(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP);
	return rc;
}

int restore_connect(int fd, int old, const struct flow_frozen *z,
		    bool *silenced)
{
	int mss = snapshot_mss_clamp(old), rc;
	int reuse = get_int(old, SOL_SOCKET, SO_REUSEADDR, 0);
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);

	*silenced = false;
	if (getpeername(old, (void *)&peer, &len))
		return -errno;
	rc = set_closed(fd, z, mss);
	if (rc)
		return rc;
	rc = restore_silence(old);
	if (rc)
		return rc;
	*silenced = true;
	if (connect(fd, (void *)&peer, len))
		return -errno;
	rc = fill(fd, z, mss);
	if (rc)
		return rc;
	set_int(fd, IPPROTO_TCP, TCP_MAXSEG, 0);
	/* Of the old one repair mode has cleared it, too. */
	set_int(fd, SOL_SOCKET, SO_REUSEADDR, reuse);
	option_copy(fd, old, SOL_SOCKET, SO_RCVLOWAT);
	return 0;
}

/* Linux's tuning goes on where the program has left it to that. The receive
 * buffer stays as large as the window that the peer was promised. */
static void buffers_copy(int fd, int old)
{
	int locks = get_int(old, SOL_SOCKET, SO_BUF_LOCK, 0);
	int snd = get_int(old, SOL_SOCKET, SO_SNDBUF, 0) / 2;
	int rcv = get_int(old, SOL_SOCKET, SO_RCVBUF, 0) / 2;

	if (snd > 0)
		set_int(fd, SOL_SOCKET, SO_SNDBUFFORCE, snd);
	if (rcv > 0 && (locks & RCVBUF_LOCKED))
		set_int(fd, SOL_SOCKET, SO_RCVBUFFORCE, rcv);
	/* Linux before 5.14 does not know it: sizes are locked then. */
	set_int(fd, SOL_SOCKET, SO_BUF_LOCK,
		locks & (SNDBUF_LOCKED | RCVBUF_LOCKED));
}

int restore_send(int fd, int old, const struct flow_frozen *z)
{
	uint32_t sent = sent_len(z);
	int rc = give(fd, z->tx_buf, z->tx_size, z->tx_off + sent,
		      z->tx_len - sent);

	if (rc)
		return rc;
	if ((z->shut_wr || z->snd_fin) && shutdown(fd, SHUT_WR))
		return -errno;
	buffers_copy(fd, old);
	return 0;
}
