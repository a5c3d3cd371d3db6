/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * snapshot.h - the state of a kernel TCP connection, copied out of its socket
 *
 * Works on any descriptor of the socket, needs CAP_NET_ADMIN in its network
 * namespace (TCP_REPAIR). The caller sees to it that no frame of the connection
 * reaches Linux between snapshot_key() and the flow's installation, so that
 * the state stands still. Blocks only for system calls that never wait.
 */
#ifndef SLOWPATH_SNAPSHOT_H
#define SLOWPATH_SNAPSHOT_H

#include "fastpath/fastpath.h"

/* Is @fd an established TCP connection of this network namespace that could be
 * offloaded? Fills @key. Nothing is read or changed. XTS_REASON_NONE: yes. */
enum xts_reason snapshot_key(int fd, struct conn_key *key);

/* The name of @fd's connection; false: it has none that frames could have. */
bool snapshot_name(int fd, struct conn_key *key);
/* The socket's number in Linux (SO_COOKIE), 0: it tells none. */
uint64_t snapshot_cookie(int fd);

/*
 * Copy the connection, to which snapshot_key() said yes, into @p (all but key,
 * ctx, cookie, rx_buf, buf_size, ttl, tos, flow_label, l2, nodelay, ts_recent,
 * mtu_*, mss_max, stdurg, which are the caller's: Linux tells ts_recent only in
 * frames, see cache.h; the same goes for the last millisecond of ts_offset; and
 * what snapshot_options() reads): received data are moved into @rx,
 * unacknowledged and unsent data copied into @tx (each of buf_size bytes).
 * @gap: what the last segment that Linux sent said of its receive queue. On any
 * reason but NONE the socket is as before, data included.
 *
 * After NONE, while p->tx_len > 0, Linux must be told that its data arrived:
 * see snapshot_unacked(). Linux's snd_nxt is then p->snd_una + p->tx_len, the
 * translation's snd_base. Moving received data may have made Linux send a
 * window update: a pure ACK that must not reach the wire.
 */
enum snapshot_gap {
	SNAPSHOT_GAP_UNKNOWN,
	SNAPSHOT_GAP_NONE, /* it could have reported one (SACK), and did not */
};
enum xts_reason snapshot_take(int fd, uint32_t buf_size, uint8_t *rx,
			      uint8_t *tx, enum snapshot_gap gap,
			      struct flow_params *p);

/* Is there anything urgent about what was received, or is to come? Also what
 * snapshot_take() does not see: where SO_OOBINLINE is set, or the byte was
 * taken. For programs that may have to do with urgent data. */
bool snapshot_urgent(int fd);

/* The program's wishes: cc, and if it is known to have others (@tuned): cork,
 * user_timeout_ms. */
void snapshot_options(int fd, bool tuned, struct flow_params *p);

/* Linux's rcv_nxt and snd_una; false: it does not tell. */
bool snapshot_numbers(int fd, uint32_t *rcv_nxt, uint32_t *snd_una);

/* Bytes that Linux still holds unacknowledged or unsent; -errno. */
int snapshot_unacked(int fd);

/* The path's MTU as the socket knows it; -EINVAL. */
int snapshot_pmtu(int fd);

/* The MSS that the peer's SYN allowed, options not deducted; -EINVAL. */
int snapshot_mss_clamp(int fd);

/* Reset it as a program's abort does: the RST leaves through the TAP, every
 * other descriptor of the socket sees ECONNRESET. 0 or -errno. */
int snapshot_reset(int fd);

/* Does Linux still have a socket (TIME_WAIT included) for @key? Asks inet_diag
 * on @diag_fd (NETLINK_SOCK_DIAG, from snapshot_diag_open()). @ifindex is the
 * TAP's: sockets bound to it are found too. When in doubt: true. */
int snapshot_diag_open(void);
bool snapshot_exists(int diag_fd, const struct conn_key *key,
		     unsigned int ifindex);

#endif
