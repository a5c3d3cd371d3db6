/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sockets.c - calls that open and close connections, names and options
 *
 * The kernel does all of it, on the program's own descriptor. A TCP socket is
 * ours from socket() or accept() on: it may be registered in an epoll before it
 * is connected. It stops being ours where it can't be offloaded: it listens, a
 * rule wants it left alone, its peer is this host.
 *
 * Options that only Linux serves keep the connection with Linux, or hand it
 * over. So do those that we don't know, once it is offloaded: before that the
 * service looks at what Linux has.
 */
#include "libsock/preload/preload.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>

#define TYPE_MASK 0xf /* of socket(2)'s type, without the flags */

/* ---- what is TCP ----------------------------------------------------------
 */

static bool inet_family(int family)
{
	return family == AF_INET || family == AF_INET6;
}

static int int_option(int fd, int name)
{
	socklen_t len = sizeof(int);
	int v = -1, err = errno;

	if (real.getsockopt(fd, SOL_SOCKET, name, &v, &len))
		v = -1;
	errno = err;
	return v;
}

static bool is_tcp(int fd)
{
	return int_option(fd, SO_PROTOCOL) == IPPROTO_TCP &&
	       inet_family(int_option(fd, SO_DOMAIN));
}

static int tcp_state(int fd)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof(info);
	int err = errno;

	if (real.getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len))
		info.tcpi_state = 0;
	errno = err;
	return info.tcpi_state;
}

/* Nothing that goes over a wire */
static bool is_local(const struct sockaddr *a)
{
	const struct sockaddr_in *in = (const void *)a;
	const struct sockaddr_in6 *in6 = (const void *)a;

	if (a->sa_family == AF_INET)
		return ntohl(in->sin_addr.s_addr) >> 24 == 127;
	if (a->sa_family != AF_INET6)
		return false;
	return IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr) ||
	       (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr) &&
		in6->sin6_addr.s6_addr[12] == 127);
}

/* ---- opening --------------------------------------------------------------
 */

int socket(int domain, int type, int protocol)
{
	int fd = real.socket(domain, type, protocol);

	if (fd < 0)
		return fd;
	if (config.connect && inet_family(domain) &&
	    (type & TYPE_MASK) == SOCK_STREAM &&
	    (protocol == 0 || protocol == IPPROTO_TCP))
		fd_adopt(fd, false, type & SOCK_NONBLOCK);
	else
		fd_fresh(fd);
	return fd;
}

/* Made by this process or another, before or past us; maybe we have another
 * descriptor of it. */
static void adopt_stranger(int fd)
{
	int flags = real.fcntl(fd, F_GETFL, 0), other = fd_of_same_file(fd);

	if (other >= 0)
		fd_copied(other, fd, fd_swaps());
	else if (flags >= 0)
		fd_adopt(fd, false, flags & O_NONBLOCK);
}

/* The address of this end; where nobody asks for it it stays unknown. */
static bool may_connect(int fd, const struct sockaddr *to)
{
	struct sockaddr_storage local = {0};
	socklen_t len = sizeof(local);

	if (config_has_rules() && real.getsockname(fd, (void *)&local, &len))
		return false;
	return rule_offloads(false, (void *)&local, to);
}

int connect(int fd, const struct sockaddr *to, socklen_t len)
{
	int s = fd_ours(fd), ret, err;

	if (s)
		xlend_connects(s);
	ret = real.connect(fd, to, len);
	err = errno;
	if (ret && err != EINPROGRESS && err != EINTR)
		return ret;
	if (len < sizeof(sa_family_t) || !to)
		return ret;
	if (s && to->sa_family == AF_UNSPEC)
		xlend_disconnected(s);
	errno = err;
	if (!inet_family(to->sa_family))
		return ret;
	if (!fd_word(fd) && config.connect && is_tcp(fd))
		adopt_stranger(fd);
	s = fd_socket(fd);
	if (s && (is_local(to) || !may_connect(fd, to)))
		xlend_keep(s, is_local(to) ? XTS_REASON_NOT_OURS
					   : XTS_REASON_POLICY);
	errno = err;
	return ret;
}

int listen(int fd, int backlog)
{
	int ret = real.listen(fd, backlog);

	if (!ret && fd_socket(fd))
		fd_disown(fd, fd_word(fd));
	return ret;
}

/* ---- accepting ------------------------------------------------------------
 */

/* FD_LISTENER with what is known of it; found out once. */
static uint64_t listener_word(int fd)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);
	uint64_t word = fd_word(fd);
	int err = errno;

	if (fd_kind_of(word) == FD_LISTENER)
		return word;
	if (fd_socket(fd))
		fd_disown(fd, word);
	word = fd_make(FD_LISTENER, 0, 0);
	if (is_tcp(fd) && !real.getsockname(fd, (void *)&a, &len))
		word = fd_make(
			FD_LISTENER, FD_F_TCP,
			ntohs(a.ss_family == AF_INET
				      ? ((struct sockaddr_in *)&a)->sin_port
				      : ((struct sockaddr_in6 *)&a)
						->sin6_port));
	fd_set_word(fd, word);
	errno = err;
	return word;
}

static bool wanted(int fd)
{
	struct sockaddr_storage local, peer = {0};
	socklen_t len = sizeof(local), plen = sizeof(peer);

	if (!config.accept)
		return false;
	if (real.getsockname(fd, (void *)&local, &len) ||
	    is_local((void *)&local))
		return false;
	if (config_has_rules() && real.getpeername(fd, (void *)&peer, &plen))
		return false;
	return rule_offloads(true, (void *)&local, (void *)&peer);
}

static int accepted(int listener, int fd, bool nonblock)
{
	int err = errno;

	if (fd < 0)
		return fd;
	if (!(listener_word(listener) & FD_F_TCP)) {
		fd_fresh(fd);
	} else if (wanted(fd)) {
		fd_adopt(fd, true, nonblock);
	} else {
		fd_fresh(fd);
		report_not_ours(XTS_REASON_POLICY);
	}
	errno = err;
	return fd;
}

int accept(int fd, struct sockaddr *addr, socklen_t *len)
{
	return accepted(fd, real.accept(fd, addr, len), false);
}

int accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	return accepted(fd, real.accept4(fd, addr, len, flags),
			flags & SOCK_NONBLOCK);
}

/* Taken for one that was accepted: nobody knows. */
static void adopt_established(int fd)
{
	if (!config.accept || fd_word(fd) || !is_tcp(fd) ||
	    tcp_state(fd) != TCP_ESTABLISHED || !wanted(fd))
		return;
	adopt_stranger(fd);
	if (fd_socket(fd))
		xlend_inherited(fd_socket(fd));
}

void adopt_inherited(void)
{
	int fd, err = errno;

	/* Nobody passes on more than a few; a closed one ends the row late. */
	for (fd = 0; fd < 64; fd++)
		adopt_established(fd);
	errno = err;
}

void adopt_passed(int by, const struct msghdr *msg)
{
	struct cmsghdr *cm;
	size_t i, n;
	int fd;

	for (cm = CMSG_FIRSTHDR(msg); cm;
	     cm = CMSG_NXTHDR((struct msghdr *)msg, cm)) {
		if (cm->cmsg_level != SOL_SOCKET || cm->cmsg_type != SCM_RIGHTS)
			continue;
		n = (cm->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (i = 0; i < n; i++) {
			memcpy(&fd, CMSG_DATA(cm) + i * sizeof(fd), sizeof(fd));
			fd_fresh(fd);
			adopt_established(fd);
			share_passed(fd_socket(fd), by);
		}
	}
}

/* ---- ending ---------------------------------------------------------------
 */

int shutdown(int fd, int how)
{
	int s = fd_ours(fd);

	if (likely(!s))
		return real.shutdown(fd, how);
	return xts_shutdown(s, how);
}

/* ---- options --------------------------------------------------------------
 */

/* Those that the library and the service serve: what Linux does with them on
 * the shadow is all there is to it, or they look after the rest. */
static const uint8_t socket_options[] = {
	SO_DEBUG,	SO_REUSEADDR,	 SO_TYPE,
	SO_ERROR,	SO_DONTROUTE,	 SO_BROADCAST,
	SO_SNDBUF,	SO_RCVBUF,	 SO_KEEPALIVE,
	SO_OOBINLINE,	SO_PRIORITY,	 SO_LINGER,
	SO_REUSEPORT,	SO_PASSCRED,	 SO_PEERCRED,
	SO_RCVLOWAT,	SO_SNDLOWAT,	 SO_RCVTIMEO,
	SO_SNDTIMEO,	SO_ACCEPTCONN,	 SO_SNDBUFFORCE,
	SO_RCVBUFFORCE, SO_PROTOCOL,	 SO_DOMAIN,
	SO_BUSY_POLL,	SO_INCOMING_CPU, SO_MAX_PACING_RATE,
};
static const uint8_t tcp_options[] = {
	TCP_NODELAY,	      TCP_CORK,		 TCP_KEEPIDLE,
	TCP_KEEPINTVL,	      TCP_KEEPCNT,	 TCP_SYNCNT,
	TCP_LINGER2,	      TCP_DEFER_ACCEPT,	 TCP_INFO,
	TCP_QUICKACK,	      TCP_CONGESTION,	 TCP_THIN_LINEAR_TIMEOUTS,
	TCP_THIN_DUPACK,      TCP_USER_TIMEOUT,	 TCP_FASTOPEN,
	TCP_FASTOPEN_CONNECT, TCP_NOTSENT_LOWAT,
};

static bool is_among(const uint8_t *list, size_t n, int name)
{
	while (n--)
		if (list[n] == name)
			return true;
	return false;
}

static bool is_served(int level, int name)
{
	if (level == SOL_SOCKET)
		return is_among(socket_options, sizeof(socket_options), name);
	if (level == IPPROTO_TCP)
		return is_among(tcp_options, sizeof(tcp_options), name);
	/* Linux gives its frames to the fast path as a model. */
	return level == IPPROTO_IP || level == IPPROTO_IPV6;
}

/* They need the data to pass Linux. */
static bool is_linux_alone(int level, int name)
{
	if (level == SOL_SOCKET)
		return name == SO_ZEROCOPY || name == SO_ATTACH_FILTER ||
		       name == SO_ATTACH_BPF || name == SO_TIMESTAMP_OLD ||
		       name == SO_TIMESTAMPNS_OLD ||
		       name == SO_TIMESTAMPING_OLD ||
		       name == SO_TIMESTAMP_NEW || name == SO_TIMESTAMPNS_NEW ||
		       name == SO_TIMESTAMPING_NEW;
	return level == IPPROTO_TCP &&
	       (name == TCP_ULP || name == TCP_MD5SIG ||
		name == TCP_MD5SIG_EXT || name == TCP_REPAIR);
}

/* false: it is not to be set. One that Linux does not know either is no reason
 * to leave. On a connection that is over, Linux says what it says. */
static bool leave_for_option(int s, int level, int name, const void *val,
			     socklen_t len)
{
	bool alone = is_linux_alone(level, name);
	int rc;

	if (is_served(level, name) || (!alone && xlend_state(s) == XLEND_NEW))
		return true;
	if (!alone && xts_setsockopt(s, level, name, val, len) &&
	    errno == ENOPROTOOPT)
		return false;
	rc = sock_leave(s, XTS_REASON_SHARED);
	if (!rc || rc == -ENOTCONN || !alone)
		return true;
	errno = EOPNOTSUPP;
	return false;
}

int setsockopt(int fd, int level, int name, const void *val, socklen_t len)
{
	int s = fd_ours(fd);

	if (likely(!s))
		return real.setsockopt(fd, level, name, val, len);
	if (!leave_for_option(s, level, name, val, len))
		return -1;
	return xts_setsockopt(s, level, name, val, len);
}

int getsockopt(int fd, int level, int name, void *val, socklen_t *len)
{
	int s = fd_ours(fd);

	if (likely(!s))
		return real.getsockopt(fd, level, name, val, len);
	/* It receives. */
	if (level == IPPROTO_TCP && name == TCP_ZEROCOPY_RECEIVE &&
	    sock_leave(s, XTS_REASON_SHARED)) {
		errno = EOPNOTSUPP;
		return -1;
	}
	return xts_getsockopt(s, level, name, val, len);
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;
	int s;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	/* The descriptor's, not the socket's; or an error */
	if (request == FIOCLEX || request == FIONCLEX || memory_none(arg))
		return real.ioctl(fd, request, arg);
	s = fd_ours(fd);
	if (likely(!s))
		return real.ioctl(fd, request, arg);
	return xts_ioctl(s, request, arg);
}
