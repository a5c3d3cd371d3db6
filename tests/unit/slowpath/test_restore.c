/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_restore.c - kernel sockets that go on where a flow has stopped
 *
 * Linux's peer is played by hand over a TAP device (tap_peer.h). A connection
 * is set up, its snapshot is taken, and its numbers jump by what a fast path
 * might have carried; then a socket is restored with the new ones, and the peer
 * goes on as if nothing had happened. What Linux says of the restored socket is
 * read by the snapshot, which has tests of its own.
 */
#include "slowpath/restore.h"
#include "slowpath/snapshot.h"
#include "tests/unit/slowpath/tap_peer.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#define BUF 262144u
/* IPv4, IPv6, IPv4 on an IPv6 socket; timestamps; SACK and window scale */
#define MATRIX 12

static uint8_t rx[BUF], tx[BUF];

struct stop {
	struct peer p;
	struct flow_params fp;
	struct flow_frozen z;
	int fd; /* restored */
};

static uint32_t ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint32_t)(ts.tv_sec * 1000 + ts.tv_nsec / 1000000);
}

static void fill_ring(uint8_t *ring, uint32_t off, uint32_t seq, uint32_t len)
{
	uint32_t i;

	for (i = 0; i < len; i++)
		ring[(off + i) & (BUF - 1)] = segment_byte(seq + i);
}

/* The wire after a jump: @unread bytes wait for the program, @sent for the
 * peer's ACK, @unsent for the window. Rings wrap round. */
static void stop_at(struct stop *s, uint32_t unread, uint32_t sent,
		    uint32_t unsent)
{
	struct flow_params *fp = &s->fp;
	struct flow_frozen *z = &s->z;

	*z = (struct flow_frozen){
		.snd_una = fp->snd_una + test_random(),
		.rcv_nxt = fp->rcv_nxt + test_random(),
		.snd_wnd = 60000 + sent,
		.rcv_wnd = 100000,
		.ts_recent = s->p.t.tsval,
		.ts_offset = fp->ts_offset,
		.snd_wscale = fp->snd_wscale,
		.rcv_wscale = fp->rcv_wscale,
		.timestamps = fp->timestamps,
		.sack = fp->sack,
		.rx_buf = rx,
		.tx_buf = tx,
		.rx_size = BUF,
		.tx_size = BUF,
		.rx_off = BUF - 1000,
		.rx_len = unread,
		.tx_off = BUF - 777,
		.tx_len = sent + unsent,
	};
	if (!fp->rcv_wscale)
		z->rcv_wnd = 50000;
	z->snd_nxt = z->snd_una + sent;
	z->snd_wl1 = z->rcv_wup = z->rcv_nxt;
	z->snd_wnd_max = z->snd_wnd;
	fill_ring(rx, z->rx_off, z->rcv_nxt - unread, unread);
	fill_ring(tx, z->tx_off, z->snd_una, sent + unsent);
	s->p.t.seq = z->rcv_nxt;
	s->p.t.ack = z->snd_una;
}

static void stop_open(struct stop *s, unsigned int n)
{
	struct peer_opt o = {.wscale = n / 6 ? -1 : 7,
			     .window = n / 6 ? 60000 : 1000};

	memset(s, 0, sizeof(*s));
	o.v6 = n % 3 == 1;
	o.mapped = n % 3 == 2;
	o.ts = n / 3 & 1;
	o.no_sack = n / 6;
	peer_connect(&s->p, &o);
	assert_int_equal(snapshot_take(s->p.fd, BUF, rx, tx,
				       SNAPSHOT_GAP_UNKNOWN, &s->fp),
			 XTS_REASON_NONE);
	while (peer_peek(&s->p))
		;
}

/* As far as the socket that takes over, without a word on the wire. */
static void stop_restore(struct stop *s)
{
	bool silenced = false;

	s->fd = restore_prepare(s->p.fd);
	assert_true(s->fd >= 0);
	assert_int_equal(restore_connect(s->fd, s->p.fd, &s->z, &silenced), 0);
	assert_true(silenced);
	assert_false(peer_peek(&s->p));
}

static void stop_close(struct stop *s)
{
	struct linger l = {.l_onoff = 1};

	setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
	close(s->fd);
	peer_close(&s->p);
}

static void assert_reads(int fd, uint32_t seq, uint32_t len)
{
	static uint8_t buf[BUF];
	uint32_t i;

	assert_int_equal(recv(fd, buf, len, MSG_DONTWAIT), len);
	for (i = 0; i < len; i++)
		assert_int_equal(buf[i], segment_byte(seq + i));
	assert_int_equal(recv(fd, buf, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
}

/* The next segment that is not one of before again, for that we were slow to
 * acknowledge. */
static void receive_from(struct peer *p, uint32_t seq)
{
	do
		assert_true(peer_receive(p));
	while (seq_lt(p->last.seq, seq));
	assert_int_equal(p->last.seq, seq);
}

/* Linux sends [seq, seq + len) now, byte for byte; the peer acknowledges. */
static void assert_sends(struct stop *s, uint32_t seq, uint32_t len)
{
	struct peer *p = &s->p;
	uint32_t payload, i;

	while (len > 0) {
		receive_from(p, seq);
		assert_true(
			segment_read(&p->last, p->b.data, p->len, &payload));
		if (!p->last.len)
			continue;
		assert_in_range(p->t.seq - p->last.ack, 0, 600);
		for (i = 0; i < p->last.len; i++)
			assert_int_equal(p->b.data[payload + i],
					 segment_byte(seq + i));
		seq += p->last.len;
		len -= p->last.len;
		peer_send(p, SEG_ACK, 0);
	}
}

/* ---- the state -----------------------------------------------------------
 */

static void test_restored_socket_has_the_same_state(void **state)
{
	struct flow_params fp = {0};
	struct conn_key was, is;
	struct stop s;
	unsigned int n;

	for (n = 0; n < MATRIX; n++) {
		stop_open(&s, n);
		assert_int_equal(snapshot_key(s.p.fd, &was), 0);
		stop_at(&s, 5000, 3000, 0);
		stop_restore(&s);
		assert_int_equal(snapshot_key(s.fd, &is), 0);
		assert_memory_equal(&was, &is, sizeof(was));
		assert_int_equal(snapshot_take(s.fd, BUF, rx, tx,
					       SNAPSHOT_GAP_UNKNOWN, &fp),
				 0);
		assert_int_equal(fp.snd_una, s.z.snd_una);
		assert_int_equal(fp.snd_nxt, s.z.snd_nxt);
		assert_int_equal(fp.tx_len, 3000);
		assert_int_equal(fp.rcv_nxt, s.z.rcv_nxt);
		assert_int_equal(fp.rx_len, 5000);
		assert_int_equal(fp.snd_wnd, s.z.snd_wnd);
		assert_int_equal(fp.rcv_wnd, s.z.rcv_wnd);
		assert_int_equal(fp.rcv_wup, s.z.rcv_wup);
		assert_int_equal(fp.snd_wscale, s.z.snd_wscale);
		assert_int_equal(fp.rcv_wscale, s.z.rcv_wscale);
		assert_int_equal(fp.sack, s.z.sack);
		assert_int_equal(fp.timestamps, s.z.timestamps);
		if (fp.timestamps)
			assert_in_range(fp.ts_offset - s.z.ts_offset, 0, 8);
		/* 12 less without timestamps: Linux's headers at connect() */
		assert_in_range(s.fp.snd_mss - fp.snd_mss, 0, 12);
		stop_close(&s);
	}
}

static void test_peer_notices_nothing(void **state)
{
	struct stop s;
	unsigned int n;
	uint32_t tsval;

	for (n = 0; n < MATRIX; n++) {
		stop_open(&s, n);
		stop_at(&s, 4000, 2000, 30000);
		stop_restore(&s);
		tsval = ms() + s.z.ts_offset;
		assert_int_equal(restore_send(s.fd, s.p.fd, &s.z), 0);
		/* the peer has what was sent, and goes on */
		s.p.t.ack = s.z.snd_nxt;
		peer_send(&s.p, SEG_ACK | SEG_PSH, 600);
		assert_sends(&s, s.z.snd_nxt, 30000);
		assert_reads(s.fd, s.z.rcv_nxt - 4000, 4600);
		assert_int_equal(send(s.fd, "x", 1, 0), 1);
		receive_from(&s.p, s.z.snd_una + 32000);
		assert_int_equal(s.p.last.ack, s.p.t.seq);
		assert_int_equal(s.p.last.ts, s.z.timestamps);
		if (s.z.timestamps) {
			assert_in_range(s.p.last.tsval - tsval, 0, 1000);
			assert_int_equal(s.p.last.tsecr, s.p.t.tsval);
		}
		stop_close(&s);
	}
}

static void test_what_was_sent_is_sent_again_if_lost(void **state)
{
	bool again = false;
	struct stop s;
	int i;

	stop_open(&s, 3);
	stop_at(&s, 0, 1000, 0);
	stop_restore(&s);
	assert_int_equal(restore_send(s.fd, s.p.fd, &s.z), 0);
	/* A tail loss probe may come first, the time-out is after 3 s at most.
	 */
	for (i = 0; i < 15 && !again; i++)
		again = peer_receive(&s.p) && s.p.last.seq == s.z.snd_una &&
			s.p.last.len > 0;
	assert_true(again);
	stop_close(&s);
}

static void test_large_queues_are_restored(void **state)
{
	struct flow_params fp = {0};
	struct stop s;
	int n;

	stop_open(&s, 3);
	stop_at(&s, 200000, 100000, 160000);
	s.z.rcv_wnd = 4000000;
	stop_restore(&s);
	assert_int_equal(ioctl(s.fd, SIOCINQ, &n), 0);
	assert_int_equal(n, 200000);
	assert_int_equal(ioctl(s.fd, SIOCOUTQ, &n), 0);
	assert_int_equal(n, 100000);
	assert_int_equal(ioctl(s.fd, SIOCOUTQNSD, &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(restore_send(s.fd, s.p.fd, &s.z), 0);
	assert_reads(s.fd, s.z.rcv_nxt - 200000, 200000);
	s.p.t.ack = s.z.snd_nxt;
	peer_send(&s.p, SEG_ACK, 0);
	s.p.t.window = 60000;
	peer_send(&s.p, SEG_ACK, 0);
	assert_sends(&s, s.z.snd_nxt, 160000);
	assert_int_equal(
		snapshot_take(s.fd, BUF, rx, tx, SNAPSHOT_GAP_UNKNOWN, &fp), 0);
	stop_close(&s);
}

/* ---- the old one ---------------------------------------------------------
 */

static void test_old_socket_is_dead_and_silent(void **state)
{
	struct stop s;
	char c;

	stop_open(&s, 0);
	/* what it has not sent yet goes nowhere, nor does its close */
	stop_at(&s, 0, 0, 0);
	stop_restore(&s);
	assert_int_equal(recv(s.p.fd, &c, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, ECONNABORTED);
	close(s.p.fd);
	s.p.fd = -1;
	assert_false(peer_receive(&s.p));
	stop_close(&s);
}

static void test_given_up_before_the_old_is_touched(void **state)
{
	struct stop s;
	int fd;

	stop_open(&s, 1);
	fd = restore_prepare(s.p.fd);
	assert_true(fd >= 0);
	close(fd);
	assert_false(peer_peek(&s.p));
	peer_send(&s.p, SEG_ACK, 100);
	assert_reads(s.p.fd, s.p.t.seq - 100, 100);
	peer_close(&s.p);
}

static void test_listener_goes_on_beside_it(void **state)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_port = htons(PEER_PORT)};
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct stop s;

	stop_open(&s, 0);
	stop_at(&s, 0, 0, 0);
	stop_restore(&s);
	/* the program starts again and listens anew */
	close(s.p.listener);
	s.p.listener = -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	assert_int_equal(bind(fd, (void *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 1), 0);
	close(fd);
	stop_close(&s);
}

/* ---- ends ----------------------------------------------------------------
 */

static void test_fin_follows_the_unsent_data(void **state)
{
	struct stop s;
	unsigned int n;

	for (n = 0; n < 4; n++) {
		stop_open(&s, n);
		stop_at(&s, 100, 1000, 5000);
		s.z.shut_wr = true;
		stop_restore(&s);
		assert_int_equal(restore_send(s.fd, s.p.fd, &s.z), 0);
		s.p.t.ack = s.z.snd_nxt;
		peer_send(&s.p, SEG_ACK, 0);
		assert_sends(&s, s.z.snd_nxt, 5000);
		if (!(s.p.last.flags & SEG_FIN))
			assert_true(peer_receive(&s.p));
		assert_true(s.p.last.flags & SEG_FIN);
		assert_int_equal(s.p.last.seq + s.p.last.len,
				 s.z.snd_una + 6000);
		/* and the other direction is open */
		peer_send(&s.p, SEG_ACK, 500);
		assert_reads(s.fd, s.z.rcv_nxt - 100, 600);
		stop_close(&s);
	}
}

/* ---- options -------------------------------------------------------------
 */

static void set(int fd, int level, int name, int val)
{
	assert_int_equal(setsockopt(fd, level, name, &val, sizeof(val)), 0);
}

static int get(int fd, int level, int name)
{
	socklen_t len = sizeof(int);
	int val = -1;

	assert_int_equal(getsockopt(fd, level, name, &val, &len), 0);
	return val;
}

static void test_options_are_the_old_sockets(void **state)
{
	static const struct {
		int level, name, val;
	} want[] = {
		{SOL_SOCKET, SO_KEEPALIVE, 1},
		{SOL_SOCKET, SO_REUSEADDR, 1},
		{SOL_SOCKET, SO_REUSEPORT, 1},
		{SOL_SOCKET, SO_PRIORITY, 5},
		{SOL_SOCKET, SO_MARK, 77},
		{SOL_SOCKET, SO_RCVLOWAT, 9},
		{SOL_SOCKET, SO_OOBINLINE, 1},
		{IPPROTO_TCP, TCP_NODELAY, 1},
		{IPPROTO_TCP, TCP_CORK, 1},
		{IPPROTO_TCP, TCP_KEEPIDLE, 33},
		{IPPROTO_TCP, TCP_KEEPINTVL, 12},
		{IPPROTO_TCP, TCP_KEEPCNT, 4},
		{IPPROTO_TCP, TCP_USER_TIMEOUT, 12345},
		{IPPROTO_TCP, TCP_LINGER2, 7},
		{IPPROTO_IP, IP_TTL, 44},
	};
	struct timeval tv = {.tv_sec = 3, .tv_usec = 500000}, got;
	struct linger l = {.l_onoff = 1, .l_linger = 6}, lg;
	socklen_t len;
	struct stop s;
	unsigned int n;
	size_t i;

	for (n = 0; n < 3; n++) {
		stop_open(&s, n);
		for (i = 0; i < sizeof(want) / sizeof(*want); i++)
			set(s.p.fd, want[i].level, want[i].name, want[i].val);
		assert_int_equal(setsockopt(s.p.fd, IPPROTO_TCP, TCP_CONGESTION,
					    "reno", 4),
				 0);
		setsockopt(s.p.fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
		setsockopt(s.p.fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
		fcntl(s.p.fd, F_SETFL, O_NONBLOCK);
		stop_at(&s, 0, 0, 0);
		stop_restore(&s);
		assert_int_equal(restore_send(s.fd, s.p.fd, &s.z), 0);
		for (i = 0; i < sizeof(want) / sizeof(*want); i++)
			assert_int_equal(get(s.fd, want[i].level, want[i].name),
					 want[i].val);
		len = sizeof(got);
		getsockopt(s.fd, SOL_SOCKET, SO_RCVTIMEO, &got, &len);
		assert_memory_equal(&tv, &got, sizeof(tv));
		len = sizeof(lg);
		getsockopt(s.fd, SOL_SOCKET, SO_LINGER, &lg, &len);
		assert_memory_equal(&l, &lg, sizeof(l));
		assert_true(fcntl(s.fd, F_GETFL) & O_NONBLOCK);
		stop_close(&s);
	}
}

static void test_buffers_are_the_programs_or_tuned(void **state)
{
	struct stop s;
	int lock, plain;

	stop_open(&s, 0);
	plain = get(s.p.fd, SOL_SOCKET, SO_SNDBUF);
	set(s.p.fd, SOL_SOCKET, SO_RCVBUF, 50000);
	stop_at(&s, 0, 0, 0);
	stop_restore(&s);
	assert_int_equal(restore_send(s.fd, s.p.fd, &s.z), 0);
	assert_int_equal(get(s.fd, SOL_SOCKET, SO_RCVBUF), 100000);
	assert_int_equal(get(s.fd, SOL_SOCKET, SO_SNDBUF), plain);
	lock = get(s.fd, SOL_SOCKET, 72);
	assert_int_equal(lock, 2); /* the receive buffer's alone */
	stop_close(&s);
}

static void test_owner_is_the_old_sockets(void **state)
{
	struct stat st;
	struct stop s;

	stop_open(&s, 0);
	assert_int_equal(fchown(s.p.fd, 1234, 567), 0);
	stop_at(&s, 0, 0, 0);
	stop_restore(&s);
	assert_int_equal(fstat(s.fd, &st), 0);
	assert_int_equal(st.st_uid, 1234);
	assert_int_equal(st.st_gid, 567);
	stop_close(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_restored_socket_has_the_same_state),
		cmocka_unit_test(test_peer_notices_nothing),
		cmocka_unit_test(test_what_was_sent_is_sent_again_if_lost),
		cmocka_unit_test(test_large_queues_are_restored),
		cmocka_unit_test(test_old_socket_is_dead_and_silent),
		cmocka_unit_test(test_given_up_before_the_old_is_touched),
		cmocka_unit_test(test_listener_goes_on_beside_it),
		cmocka_unit_test(test_fin_follows_the_unsent_data),
		cmocka_unit_test(test_options_are_the_old_sockets),
		cmocka_unit_test(test_buffers_are_the_programs_or_tuned),
		cmocka_unit_test(test_owner_is_the_old_sockets),
	};

	peer_host();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
