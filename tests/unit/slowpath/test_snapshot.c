/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_snapshot.c - what is copied out of real kernel sockets
 *
 * Linux's peer is played by hand over a TAP device (tap_peer.h), so every
 * number that a snapshot must contain is known from the frames. A loopback pair
 * gives a second opinion: two ends of a connection have to agree.
 */
#include "slowpath/snapshot.h"
#include "slowpath/translate.h"
#include "tests/unit/slowpath/tap_peer.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#define BUF 65536u

static const struct peer_opt plain = {.ts = true, .wscale = 7, .window = 1000};
static uint8_t rx[BUF], tx[BUF];
static int diag;
static int foreign; /* made before this process had a namespace of its own */

static uint32_t ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint32_t)(ts.tv_sec * 1000 + ts.tv_nsec / 1000000);
}

/* Linux sends @len bytes whose values are their sequence numbers'. */
static void linux_send_from(struct peer *p, uint32_t seq, uint32_t len)
{
	static uint8_t buf[4 * BUF];
	uint32_t i;
	int room = sizeof(buf);

	for (i = 0; i < len; i++)
		buf[i] = segment_byte(seq + i);
	setsockopt(p->fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
	assert_int_equal(send(p->fd, buf, len, MSG_DONTWAIT), len);
}

static void linux_send(struct peer *p, uint32_t len)
{
	linux_send_from(p, p->t.ack, len);
}

static void assert_bytes(const uint8_t *p, uint32_t seq, uint32_t len)
{
	uint32_t i;

	for (i = 0; i < len; i++)
		assert_int_equal(p[i], segment_byte(seq + i));
}

static enum xts_reason take(struct peer *p, struct flow_params *fp)
{
	enum xts_reason reason;

	memset(fp, 0, sizeof(*fp));
	reason = snapshot_take(p->fd, BUF, rx, tx, SNAPSHOT_GAP_UNKNOWN, fp);
	if (reason == XTS_REASON_NONE)
		snapshot_options(p->fd, true, fp);
	return reason;
}

static int readable(const struct peer *p)
{
	int n = -1;

	assert_int_equal(ioctl(p->fd, SIOCINQ, &n), 0);
	return n;
}

/* Declined, and nothing lost. */
static void assert_declined(struct peer *p, enum xts_reason want)
{
	struct flow_params fp;
	struct conn_key key;
	int before = readable(p);
	enum xts_reason reason = snapshot_key(p->fd, &key);

	if (reason == XTS_REASON_NONE)
		reason = take(p, &fp);
	assert_int_equal(reason, want);
	assert_int_equal(readable(p), before);
}

/* ---- which sockets ------------------------------------------------------- */

static void test_key_names_both_ends(void **state)
{
	struct peer_opt o;
	struct conn_key key, want;
	struct frame f = {0};
	struct peer p;
	int i;

	for (i = 0; i < 3; i++) {
		o = plain;
		o.v6 = i == 1;
		o.mapped = i == 2;
		peer_connect(&p, &o);
		assert_int_equal(snapshot_key(p.fd, &key), XTS_REASON_NONE);
		assert_int_equal(frame_parse(&f, p.b.data, p.len), FRAME_TCP);
		frame_key(&f, false, &want);
		assert_memory_equal(&key, &want, sizeof(key));
		peer_close(&p);
	}
}

static void test_only_established_tcp_has_a_key(void **state)
{
	int pipes[2], udp = socket(AF_INET, SOCK_DGRAM, 0),
		      tcp = socket(AF_INET, SOCK_STREAM, 0),
		      local = socket(AF_UNIX, SOCK_STREAM, 0);
	struct conn_key key;
	struct peer p;

	assert_int_equal(pipe(pipes), 0);
	peer_connect(&p, &plain);
	assert_int_equal(snapshot_key(-1, &key), XTS_REASON_NOT_TCP);
	assert_int_equal(snapshot_key(pipes[0], &key), XTS_REASON_NOT_TCP);
	assert_int_equal(snapshot_key(udp, &key), XTS_REASON_NOT_TCP);
	assert_int_equal(snapshot_key(local, &key), XTS_REASON_NOT_TCP);
	assert_int_equal(snapshot_key(tcp, &key), XTS_REASON_NOT_ESTABLISHED);
	assert_int_equal(snapshot_key(p.listener, &key), XTS_REASON_LISTENER);
	peer_close(&p);
	close(pipes[0]);
	close(pipes[1]);
	close(udp);
	close(tcp);
	close(local);
}

static void test_socket_of_another_namespace_is_not_ours(void **state)
{
	struct conn_key key;

	assert_int_equal(snapshot_key(foreign, &key), XTS_REASON_NOT_OURS);
}

static void test_half_closed_is_declined(void **state)
{
	struct conn_key key;
	struct peer p;

	peer_connect(&p, &plain);
	peer_send(&p, SEG_ACK | SEG_FIN, 10);
	assert_int_equal(snapshot_key(p.fd, &key), XTS_REASON_NOT_ESTABLISHED);
	assert_declined(&p, XTS_REASON_NOT_ESTABLISHED);
	assert_int_equal(readable(&p), 10);
	peer_close(&p);
	peer_connect(&p, &plain);
	shutdown(p.fd, SHUT_WR);
	assert_declined(&p, XTS_REASON_NOT_ESTABLISHED);
	peer_close(&p);
	peer_connect(&p, &plain);
	shutdown(p.fd, SHUT_RD);
	assert_declined(&p, XTS_REASON_NOT_ESTABLISHED);
	peer_close(&p);
	/* there may still be something to read */
	peer_connect(&p, &plain);
	peer_send(&p, SEG_ACK, 10);
	shutdown(p.fd, SHUT_RD);
	assert_declined(&p, XTS_REASON_NOT_ESTABLISHED);
	assert_int_equal(readable(&p), 10);
	peer_close(&p);
}

static void test_microsecond_timestamps_are_declined(void **state)
{
	int on = 1, off = -1, val = 4711;
	struct peer p;

	peer_connect(&p, &plain);
	setsockopt(p.fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on));
	setsockopt(p.fd, IPPROTO_TCP, TCP_TIMESTAMP, &val, sizeof(val));
	setsockopt(p.fd, IPPROTO_TCP, TCP_REPAIR, &off, sizeof(off));
	peer_send(&p, SEG_ACK, 10);
	on = off = 0;
	if (take(&p, &(struct flow_params){0}) == XTS_REASON_NONE)
		skip(); /* a kernel that has no such timestamps */
	assert_declined(&p, XTS_REASON_OPTIONS);
	peer_close(&p);
}

/* What the program and the handshake chose. */
static void test_options_are_taken(void **state)
{
	struct peer_opt o = plain;
	int on = 1, timeout = 4711, rate = 1000000, i;
	struct flow_params fp;
	struct peer p;

	for (i = 0; i < 2; i++) {
		o.ecn = i;
		peer_connect(&p, &o);
		assert_int_equal(take(&p, &fp), XTS_REASON_NONE);
		assert_int_equal(fp.ecn, i);
		assert_true(fp.sack);
		assert_true(*fp.cc);
		assert_false(fp.cork);
		assert_int_equal(fp.user_timeout_ms, 0);
		assert_int_equal(fp.max_pacing_rate, 0);
		peer_close(&p);
	}
	peer_connect(&p, &plain);
	setsockopt(p.fd, IPPROTO_TCP, TCP_CORK, &on, sizeof(on));
	setsockopt(p.fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout,
		   sizeof(timeout));
	setsockopt(p.fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
	setsockopt(p.fd, SOL_SOCKET, SO_MAX_PACING_RATE, &rate, sizeof(rate));
	assert_int_equal(take(&p, &fp), XTS_REASON_NONE);
	assert_true(fp.cork);
	assert_int_equal(fp.user_timeout_ms, timeout);
	assert_int_equal(fp.max_pacing_rate, rate);
	assert_string_equal(fp.cc, "reno");
	/* the two costly ones only where they may matter */
	fp.cork = false;
	fp.user_timeout_ms = 0;
	snapshot_options(p.fd, false, &fp);
	assert_false(fp.cork);
	assert_int_equal(fp.user_timeout_ms, 0);
	peer_close(&p);
}

static void test_counts_go_on_where_linux_stood(void **state)
{
	struct flow_params fp;
	struct peer p;

	peer_connect(&p, &plain);
	linux_send(&p, 100);
	assert_true(peer_receive(&p));
	peer_send(&p, SEG_ACK, 200);
	linux_send(&p, 50); /* sent, not acknowledged */
	assert_int_equal(take(&p, &fp), XTS_REASON_NONE);
	assert_int_equal(fp.bytes_acked, 100);
	assert_int_equal(fp.bytes_received, 200);
	assert_int_equal(fp.bytes_sent, 150);
	assert_int_equal(fp.bytes_retrans, 0);
	assert_int_equal(fp.total_retrans, 0);
	assert_true(fp.min_rtt_us > 0 && fp.min_rtt_us <= fp.srtt_us * 2);
	peer_close(&p);
}

static void test_urgent_data_are_declined(void **state)
{
	struct peer p;

	peer_connect(&p, &plain);
	assert_int_equal(send(p.fd, "x", 1, 0), 1);
	assert_true(peer_receive(&p));
	/* the URG flag with pointer 0: the byte before seq + 1 */
	peer_send(&p, SEG_ACK | 0x20, 5);
	assert_declined(&p, XTS_REASON_URGENT);
	peer_close(&p);
}

/* Whoever has taken it, or reads it in line, goes on as if nothing were. */
static void test_urgent_data_are_found_though_not_waiting(void **state)
{
	struct peer p;
	int on = 1;
	char b[8];

	peer_connect(&p, &plain);
	assert_false(snapshot_urgent(p.fd));
	assert_int_equal(send(p.fd, "x", 1, 0), 1);
	assert_true(peer_receive(&p));
	peer_send(&p, SEG_ACK, 3);
	assert_false(snapshot_urgent(p.fd));
	peer_send(&p, SEG_ACK | 0x20, 5); /* its first byte */
	assert_true(snapshot_urgent(p.fd));
	assert_int_equal(recv(p.fd, b, 1, MSG_OOB), 1);
	assert_true(snapshot_urgent(p.fd));
	assert_int_equal(recv(p.fd, b, 8, 0), 3);
	assert_true(snapshot_urgent(p.fd)); /* at the mark */
	assert_int_equal(recv(p.fd, b, 2, 0), 2);
	assert_false(snapshot_urgent(p.fd));
	setsockopt(p.fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on));
	assert_false(snapshot_urgent(p.fd));
	peer_send(&p, SEG_ACK | 0x20, 5);
	assert_true(snapshot_urgent(p.fd));
	on = 0;
	getsockopt(p.fd, SOL_SOCKET, SO_OOBINLINE, &on,
		   &(socklen_t){sizeof(on)});
	assert_true(on);
	assert_int_equal(recv(p.fd, b, 8, 0), 2);
	assert_true(snapshot_urgent(p.fd));
	assert_int_equal(recv(p.fd, b, 8, 0), 5);
	assert_false(snapshot_urgent(p.fd));
	peer_close(&p);
}

/* ---- the numbers ----------------------------------------------------------
 */

static void numbers_of(const struct peer_opt *o)
{
	struct flow_params fp;
	struct peer p;
	uint32_t wl1, mss = PEER_MTU - (o->v6 ? 60 : 40) - (o->ts ? 12 : 0);

	peer_connect(&p, o);
	linux_send(&p, 100);
	assert_true(peer_receive(&p));
	wl1 = p.t.seq;
	p.t.window += 77;
	peer_send(&p, SEG_ACK, 200); /* Linux acknowledges later */
	assert_int_equal(recv(p.fd, rx, 200, 0), 200);
	assert_int_equal(take(&p, &fp), XTS_REASON_NONE);
	peer_receive(&p);
	assert_int_equal(fp.snd_una, p.t.ack);
	assert_int_equal(fp.snd_nxt, p.t.ack);
	assert_int_equal(fp.tx_len, 0);
	assert_int_equal(fp.rcv_nxt, p.t.seq);
	assert_int_equal(fp.rx_len, 0);
	assert_int_equal(fp.snd_wl1, wl1);
	assert_int_equal(fp.snd_wnd,
			 p.t.window << (o->wscale > 0 ? o->wscale : 0));
	assert_int_equal(fp.snd_wscale, o->wscale > 0 ? o->wscale : 0);
	assert_int_equal(fp.timestamps, o->ts);
	assert_int_equal(fp.snd_mss, mss);
	assert_int_equal(snapshot_pmtu(p.fd), PEER_MTU);
	assert_true(seq_leq(fp.rcv_wup, fp.rcv_nxt));
	assert_int_equal(fp.rcv_wnd >> fp.rcv_wscale, p.last.window);
	assert_true(fp.cwnd_segs >= 10);
	assert_true(fp.ssthresh_segs >= 1u << 30);
	assert_true(fp.srtt_us > 0 && fp.srtt_us < 1000000);
	assert_true(fp.rto_us >= 200000 && fp.rto_us < 2000000);
	peer_close(&p);
}

static void test_numbers_are_those_on_the_wire(void **state)
{
	static const int scales[] = {-1, 0, 3, 14};
	struct peer_opt o = plain;
	unsigned int i;

	for (i = 0; i < 16; i++) {
		o.window = 20000; /* Linux halves its segments for less */
		o.ts = i & 1;
		o.v6 = i & 2;
		o.wscale = scales[i / 4];
		numbers_of(&o);
	}
}

/* Our TSval and Linux's for one moment: ours is never ahead, hardly behind. */
static void test_timestamps_go_on_where_linux_was(void **state)
{
	uint32_t before, after, len, far = 0;
	struct flow_params fp;
	struct conn_key key;
	struct translation t = {.timestamps = false};
	struct segment_buf b;
	struct peer p;
	int i;

	peer_connect(&p, &plain);
	assert_int_equal(snapshot_key(p.fd, &key), XTS_REASON_NONE);
	for (i = 0; i < 200; i++) {
		assert_int_equal(take(&p, &fp), XTS_REASON_NONE);
		before = ms();
		len = translate_build_ack(&key, p.b.data, &t, p.t.seq, p.t.ack,
					  p.t.window, 0, 0, true, b.data);
		peer_send_frame(b.data, len);
		assert_true(peer_receive(&p));
		after = ms();
		assert_int_equal(p.last.ack, p.t.seq);
		assert_true(seq_leq(before + fp.ts_offset, p.last.tsval));
		if (before == after &&
		    p.last.tsval - (before + fp.ts_offset) > far)
			far = p.last.tsval - (before + fp.ts_offset);
		/* the answer tells ts_recent, which the socket does not */
		assert_true(p.last.ts);
		assert_int_equal(p.last.tsecr, p.t.tsval);
		usleep(530); /* across the clock's edges */
		peer_send(&p, SEG_ACK, 1);
		while (recv(p.fd, rx, 1, MSG_DONTWAIT) != 1)
			;
		while (peer_peek(&p))
			;
	}
	assert_true(far <= 2);
	peer_close(&p);
}

static void test_snapshot_sends_nothing(void **state)
{
	struct flow_params fp;
	struct peer p;

	peer_connect(&p, &plain);
	assert_int_equal(take(&p, &fp), XTS_REASON_NONE);
	assert_false(peer_receive(&p));
	peer_close(&p);
}

static void test_numbers_are_read_without_a_trace(void **state)
{
	uint32_t rcv_nxt, snd_una, first;
	struct peer p;
	int val = 1, reuse;
	socklen_t len = sizeof(val);

	peer_connect(&p, &plain);
	first = p.t.ack;
	getsockopt(p.fd, SOL_SOCKET, SO_REUSEADDR, &reuse, &len);
	peer_send(&p, SEG_ACK, 50);
	linux_send(&p, 100); /* not acknowledged */
	while (peer_receive(&p))
		;
	assert_true(snapshot_numbers(p.fd, &rcv_nxt, &snd_una));
	assert_int_equal(rcv_nxt, p.t.seq);
	assert_int_equal(snd_una, first);
	assert_false(peer_peek(&p));
	assert_int_equal(getsockopt(p.fd, SOL_SOCKET, SO_REUSEADDR, &val, &len),
			 0);
	assert_int_equal(val, reuse);
	peer_close(&p);
	assert_false(snapshot_numbers(diag, &rcv_nxt, &snd_una));
}

static void test_options_of_the_program_survive(void **state)
{
	socklen_t len = sizeof(int);
	struct flow_params fp;
	struct peer p;
	int i, val;

	for (i = 0; i < 2; i++) {
		peer_connect(&p, &plain);
		setsockopt(p.fd, SOL_SOCKET, SO_REUSEADDR, &i, sizeof(i));
		setsockopt(p.fd, IPPROTO_TCP, TCP_NODELAY, &i, sizeof(i));
		assert_int_equal(take(&p, &fp), XTS_REASON_NONE);
		assert_int_equal(
			getsockopt(p.fd, SOL_SOCKET, SO_REUSEADDR, &val, &len),
			0);
		assert_int_equal(val, i);
		len = sizeof(val);
		assert_int_equal(
			getsockopt(p.fd, IPPROTO_TCP, TCP_REPAIR, &val, &len),
			0);
		assert_int_equal(val, 0);
		peer_close(&p);
	}
}

/* tap_peer binds PEER_PORT anew in each test while sockets of the former
 * linger; here the connection itself stays. */
static void test_listener_binds_again_beside_a_snapshot(void **state)
{
	struct flow_params fp;
	struct peer p, q;

	peer_connect(&p, &plain);
	assert_int_equal(take(&p, &fp), XTS_REASON_NONE);
	close(p.listener);
	peer_connect(&q, &plain);
	peer_close(&q);
	p.listener = -1;
	peer_close(&p);
}

/* ---- data ---------------------------------------------------------------- */

static void test_received_data_are_moved(void **state)
{
	struct flow_params fp;
	struct peer p;
	uint32_t seq;
	int i;

	peer_connect(&p, &plain);
	seq = p.t.seq;
	for (i = 0; i < 20; i++)
		peer_send(&p, SEG_ACK, 1000 + i);
	assert_int_equal(take(&p, &fp), XTS_REASON_NONE);
	assert_int_equal(fp.rx_len, p.t.seq - seq);
	assert_int_equal(fp.rcv_nxt, p.t.seq);
	assert_bytes(rx, seq, fp.rx_len);
	assert_int_equal(readable(&p), 0);
	peer_close(&p);
}

/* Tell Linux that all arrived, as the slow path does. */
static void absorb(struct peer *p, const struct flow_params *fp)
{
	struct translation t = {.timestamps = false};
	struct segment_buf b;
	struct conn_key key;
	int i;

	assert_int_equal(snapshot_key(p->fd, &key), XTS_REASON_NONE);
	for (i = 0; i < 100 && snapshot_unacked(p->fd) > 0; i++) {
		/* What it sent on being told is below snd_base, too. */
		while (peer_peek(p))
			p->t.ack = p->last.seq + p->last.len;
		peer_send_frame(b.data, translate_build_ack(&key, p->b.data, &t,
							    fp->rcv_nxt,
							    p->t.ack, 60000, 0,
							    0, false, b.data));
	}
	assert_int_equal(snapshot_unacked(p->fd), 0);
	assert_int_equal(p->t.ack, fp->snd_una + fp->tx_len);
}

static void test_unacknowledged_data_are_copied(void **state)
{
	struct flow_params fp;
	struct peer p;
	uint32_t una;

	peer_connect(&p, &plain);
	una = p.t.ack;
	linux_send(&p, 5000);
	assert_int_equal(take(&p, &fp), XTS_REASON_NONE);
	assert_int_equal(fp.snd_una, una);
	assert_int_equal(fp.snd_nxt, una + 5000);
	assert_int_equal(fp.tx_len, 5000);
	assert_bytes(tx, una, 5000);
	assert_int_equal(snapshot_unacked(p.fd), 5000);
	absorb(&p, &fp);
	peer_close(&p);
}

static void test_data_acknowledged_within_a_segment_are_left_out(void **state)
{
	static const uint32_t acked[] = {1, 100, 1447, 1448, 1449, 4000};
	struct flow_params fp;
	struct peer p;
	unsigned int i;
	uint32_t una;

	for (i = 0; i < 6; i++) {
		peer_connect(&p, &plain);
		una = p.t.ack;
		linux_send(&p, 5000);
		p.t.ack = una + acked[i % 6];
		peer_send(&p, SEG_ACK, 0);
		assert_int_equal(take(&p, &fp), XTS_REASON_NONE);
		assert_int_equal(fp.snd_una, una + acked[i % 6]);
		assert_int_equal(fp.tx_len, 5000 - acked[i % 6]);
		assert_bytes(tx, fp.snd_una, fp.tx_len);
		absorb(&p, &fp);
		peer_close(&p);
	}
}

static void test_unsent_data_are_copied_too(void **state)
{
	struct peer_opt o = plain;
	struct flow_params fp;
	struct peer p;
	uint32_t una;

	o.wscale = 0;
	o.window = 3000;
	peer_connect(&p, &o);
	una = p.t.ack;
	linux_send(&p, 40000);
	assert_int_equal(take(&p, &fp), XTS_REASON_NONE);
	assert_int_equal(fp.tx_len, 40000);
	assert_in_range(fp.snd_nxt - una, 1448, 3000);
	assert_int_equal(fp.snd_wnd, 3000);
	assert_bytes(tx, una, 40000);
	while (peer_peek(&p))
		p.t.ack = p.last.seq + p.last.len;
	assert_int_equal(fp.snd_nxt, p.t.ack);
	absorb(&p, &fp);
	peer_close(&p);
}

static void test_queues_beyond_the_buffers_are_declined(void **state)
{
	struct peer_opt o = plain;
	struct flow_params fp;
	struct peer p;
	uint32_t seq;
	int i;

	peer_connect(&p, &o);
	seq = p.t.seq;
	for (i = 0; i < 10; i++)
		peer_send(&p, SEG_ACK, 1000);
	assert_int_equal(
		snapshot_take(p.fd, 16384, rx, tx, SNAPSHOT_GAP_UNKNOWN, &fp),
		XTS_REASON_KERNEL_QUEUE);
	assert_int_equal(recv(p.fd, rx, BUF, 0), 10000);
	assert_bytes(rx, seq, 10000);
	peer_close(&p);
	o.wscale = 0;
	peer_connect(&p, &o);
	linux_send(&p, BUF + 1);
	assert_declined(&p, XTS_REASON_KERNEL_QUEUE);
	assert_int_equal(snapshot_unacked(p.fd), BUF + 1);
	peer_close(&p);
}

/* A buffer that the bytes fit but not the segment they start in. */
static void test_send_queue_that_just_does_not_fit_is_declined(void **state)
{
	struct flow_params fp;
	struct peer p;

	peer_connect(&p, &plain);
	linux_send(&p, 200);
	linux_send_from(&p, p.t.ack + 200, 8100);
	p.t.ack += 110;
	peer_send(&p, SEG_ACK, 50);
	assert_int_equal(snapshot_unacked(p.fd), 8190);
	assert_int_equal(
		snapshot_take(p.fd, 8192, rx, tx, SNAPSHOT_GAP_UNKNOWN, &fp),
		XTS_REASON_KERNEL_QUEUE);
	assert_int_equal(readable(&p), 50);
	assert_int_equal(snapshot_unacked(p.fd), 8190);
	assert_int_equal(take(&p, &fp), XTS_REASON_NONE);
	peer_close(&p);
}

static void test_data_out_of_order_are_declined_and_kept(void **state)
{
	struct flow_params fp;
	struct peer p;
	uint32_t seq;

	peer_connect(&p, &plain);
	seq = p.t.seq;
	p.t.seq += 100;
	peer_send(&p, SEG_ACK, 100);
	assert_declined(&p, XTS_REASON_OUT_OF_ORDER);
	p.t.seq = seq + 300;
	peer_send(&p, SEG_ACK, 100);
	p.t.seq = seq;
	peer_send(&p, SEG_ACK, 100); /* readable, with a gap behind it */
	assert_int_equal(readable(&p), 200);
	assert_declined(&p, XTS_REASON_OUT_OF_ORDER);
	p.t.seq = seq + 200;
	peer_send(&p, SEG_ACK, 100);
	assert_int_equal(recv(p.fd, rx, BUF, 0), 400);
	assert_bytes(rx, seq, 400);
	/* nothing waits any more */
	p.t.seq = seq + 400;
	assert_int_equal(take(&p, &fp), XTS_REASON_NONE);
	assert_int_equal(fp.rcv_nxt, p.t.seq);
	peer_close(&p);
}

/* What Linux told the peer last says whether a gap is left. */
static void test_a_gap_that_was_filled_is_none(void **state)
{
	struct frame f = {0};
	struct flow_params fp;
	struct peer p;
	uint32_t seq;

	peer_connect(&p, &plain);
	seq = p.t.seq;
	p.t.seq += 100;
	peer_send(&p, SEG_ACK, 100);
	assert_true(peer_receive(&p));
	assert_int_equal(frame_parse(&f, p.b.data, p.len), FRAME_TCP);
	assert_true(translate_reports_gap(&f));
	assert_declined(&p, XTS_REASON_OUT_OF_ORDER);
	p.t.seq = seq;
	peer_send(&p, SEG_ACK, 100);
	assert_true(peer_receive(&p));
	assert_int_equal(frame_parse(&f, p.b.data, p.len), FRAME_TCP);
	assert_false(translate_reports_gap(&f));
	p.t.seq = seq;
	peer_send(&p, SEG_ACK, 50); /* old: a D-SACK */
	assert_true(peer_receive(&p));
	assert_int_equal(p.last.sacks, 1);
	assert_int_equal(frame_parse(&f, p.b.data, p.len), FRAME_TCP);
	assert_false(translate_reports_gap(&f));
	p.t.seq = seq + 200;
	/* unread data, but none behind a gap */
	assert_declined(&p, XTS_REASON_OUT_OF_ORDER);
	assert_int_equal(
		snapshot_take(p.fd, BUF, rx, tx, SNAPSHOT_GAP_NONE, &fp),
		XTS_REASON_NONE);
	assert_int_equal(fp.rx_len, 200);
	assert_bytes(rx, seq, 200);
	peer_close(&p);
}

/* ---- two ends of one connection -------------------------------------------
 */

static void test_both_ends_agree(void **state)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int l = socket(AF_INET, SOCK_STREAM, 0),
	    c = socket(AF_INET, SOCK_STREAM, 0), s;
	ssize_t n;
	struct flow_params x = {0}, y = {0};
	struct conn_key kx, ky;
	socklen_t len = sizeof(a);
	char buf[3000] = "";

	assert_int_equal(bind(l, (void *)&a, len), 0);
	assert_int_equal(listen(l, 1), 0);
	assert_int_equal(getsockname(l, (void *)&a, &len), 0);
	assert_int_equal(connect(c, (void *)&a, len), 0);
	s = accept(l, NULL, NULL);
	for (n = 1; n < 3000; n += 60) {
		assert_int_equal(send(c, buf, n, 0), n);
		assert_int_equal(recv(s, buf, n, MSG_WAITALL), n);
		assert_int_equal(send(s, buf, n / 9 + 1, 0), n / 9 + 1);
		assert_int_equal(recv(c, buf, n / 9 + 1, MSG_WAITALL),
				 n / 9 + 1);
	}
	usleep(60000); /* delayed ACKs */
	assert_int_equal(snapshot_key(c, &kx), XTS_REASON_NONE);
	assert_int_equal(snapshot_key(s, &ky), XTS_REASON_NONE);
	assert_int_equal(kx.lport, ky.pport);
	assert_int_equal(kx.pport, ky.lport);
	assert_int_equal(
		snapshot_take(c, BUF, rx, tx, SNAPSHOT_GAP_UNKNOWN, &x),
		XTS_REASON_NONE);
	assert_int_equal(
		snapshot_take(s, BUF, rx, tx, SNAPSHOT_GAP_UNKNOWN, &y),
		XTS_REASON_NONE);
	assert_int_equal(x.snd_nxt, y.rcv_nxt);
	assert_int_equal(y.snd_nxt, x.rcv_nxt);
	assert_int_equal(x.snd_una, y.rcv_wup);
	assert_int_equal(y.snd_una, x.rcv_wup);
	assert_int_equal(x.snd_wscale, y.rcv_wscale);
	assert_int_equal(y.snd_wscale, x.rcv_wscale);
	assert_int_equal(x.snd_wnd, y.rcv_wnd >> y.rcv_wscale << y.rcv_wscale);
	assert_int_equal(y.snd_wnd, x.rcv_wnd >> x.rcv_wscale << x.rcv_wscale);
	close(l);
	close(c);
	close(s);
}

/* ---- afterwards -----------------------------------------------------------
 */

static void test_reset_is_seen_by_the_peer_and_every_descriptor(void **state)
{
	struct flow_params fp;
	struct pollfd pfd = {.events = POLLIN};
	struct peer p;
	char c;
	int twin;

	peer_connect(&p, &plain);
	twin = dup(p.fd);
	assert_int_equal(take(&p, &fp), XTS_REASON_NONE);
	assert_int_equal(snapshot_reset(p.fd), 0);
	assert_true(peer_receive(&p));
	assert_true(p.last.flags & SEG_RST);
	assert_int_equal(p.last.seq, fp.snd_nxt);
	pfd.fd = twin;
	assert_int_equal(poll(&pfd, 1, 0), 1);
	assert_true(pfd.revents & POLLERR);
	assert_int_equal(recv(twin, &c, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, ECONNRESET);
	close(twin);
	peer_close(&p);
}

static void test_connection_exists_until_linux_forgot_it(void **state)
{
	unsigned int dev = peer_host();
	struct peer_opt o = plain;
	struct conn_key key;
	struct peer p;
	int i;

	for (i = 0; i < 3; i++) {
		o.v6 = i == 1;
		o.mapped = i == 2;
		peer_connect(&p, &o);
		assert_int_equal(snapshot_key(p.fd, &key), XTS_REASON_NONE);
		assert_true(snapshot_exists(diag, &key, dev));
		key.pport ^= 1; /* there is the listener still */
		assert_false(snapshot_exists(diag, &key, dev));
		key.pport ^= 1;
		close(p.fd); /* active close: FIN, FIN, TIME_WAIT */
		assert_true(peer_receive(&p));
		assert_true(p.last.flags & SEG_FIN);
		assert_true(snapshot_exists(diag, &key, dev));
		peer_send(&p, SEG_ACK | SEG_FIN, 0);
		assert_true(peer_receive(&p));
		assert_true(snapshot_exists(diag, &key, dev));
		peer_send(&p, SEG_RST, 0); /* ends TIME_WAIT (RFC 1337 aside) */
		assert_false(snapshot_exists(diag, &key, dev));
		close(p.listener);
	}
}

static void test_socket_bound_to_the_device_is_found(void **state)
{
	unsigned int dev = peer_host();
	struct conn_key key;
	struct peer p;
	int index = dev;

	peer_connect(&p, &plain);
	assert_int_equal(snapshot_key(p.fd, &key), XTS_REASON_NONE);
	assert_int_equal(setsockopt(p.fd, SOL_SOCKET, SO_BINDTOIFINDEX, &index,
				    sizeof(index)),
			 0);
	assert_true(snapshot_exists(diag, &key, dev));
	peer_close(&p);
	assert_false(snapshot_exists(diag, &key, dev));
}

static void test_doubt_means_that_it_exists(void **state)
{
	struct conn_key key = {.family = AF_INET};

	assert_true(snapshot_exists(-1, &key, 0));
}

/* A router reports a smaller MTU about data of the fast path's. */
static void test_translated_mtu_report_reaches_the_socket(void **state)
{
	struct flow_view v = {0};
	struct translation t = {0};
	struct flow_params fp;
	struct segment_buf b, icmp;
	struct segment s;
	struct peer p;

	peer_connect(&p, &plain);
	assert_int_equal(take(&p, &fp), XTS_REASON_NONE);
	t.snd_base = fp.snd_nxt;
	v.snd_una = fp.snd_nxt + 1000000;
	v.snd_nxt = v.snd_una + 5000;
	s = p.last; /* ours, on the wire */
	s.flags = SEG_ACK;
	s.seq = v.snd_una + 1448;
	segment_build(&s, b.data);
	memset(icmp.data, 0, 42);
	memcpy(icmp.data, "\2\0\0\0\0\2\2\0\0\0\0\1\x8\0\x45\0\0\x38", 18);
	icmp.data[22] = 64;
	icmp.data[23] = 1;
	memcpy(icmp.data + 26, p.t.src, 4);
	memcpy(icmp.data + 30, p.t.dst, 4);
	put_be16(icmp.data + 24, 0xffff & ~segment_sum(icmp.data + 14, 20, 0));
	icmp.data[34] = 3;
	icmp.data[35] = 4;
	put_be16(icmp.data + 40, 1000);
	memcpy(icmp.data + 42, b.data + 14, 28);
	put_be16(icmp.data + 36, 0xffff & ~segment_sum(icmp.data + 34, 36, 0));
	peer_send_frame(icmp.data, 70);
	assert_int_equal(snapshot_pmtu(p.fd), PEER_MTU);
	translate_icmp_to_linux(&t, &v, icmp.data, 70);
	peer_send_frame(icmp.data, 70);
	assert_int_equal(snapshot_pmtu(p.fd), 1000);
	peer_close(&p);
	assert_int_equal(system("ip route flush cache"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_key_names_both_ends),
		cmocka_unit_test(test_only_established_tcp_has_a_key),
		cmocka_unit_test(test_socket_of_another_namespace_is_not_ours),
		cmocka_unit_test(test_half_closed_is_declined),
		cmocka_unit_test(test_microsecond_timestamps_are_declined),
		cmocka_unit_test(test_urgent_data_are_declined),
		cmocka_unit_test(test_urgent_data_are_found_though_not_waiting),
		cmocka_unit_test(test_options_are_taken),
		cmocka_unit_test(test_counts_go_on_where_linux_stood),
		cmocka_unit_test(test_a_gap_that_was_filled_is_none),
		cmocka_unit_test(test_numbers_are_those_on_the_wire),
		cmocka_unit_test(test_timestamps_go_on_where_linux_was),
		cmocka_unit_test(test_snapshot_sends_nothing),
		cmocka_unit_test(test_numbers_are_read_without_a_trace),
		cmocka_unit_test(test_options_of_the_program_survive),
		cmocka_unit_test(test_listener_binds_again_beside_a_snapshot),
		cmocka_unit_test(test_received_data_are_moved),
		cmocka_unit_test(test_unacknowledged_data_are_copied),
		cmocka_unit_test(
			test_data_acknowledged_within_a_segment_are_left_out),
		cmocka_unit_test(test_unsent_data_are_copied_too),
		cmocka_unit_test(test_queues_beyond_the_buffers_are_declined),
		cmocka_unit_test(
			test_send_queue_that_just_does_not_fit_is_declined),
		cmocka_unit_test(test_data_out_of_order_are_declined_and_kept),
		cmocka_unit_test(test_both_ends_agree),
		cmocka_unit_test(
			test_reset_is_seen_by_the_peer_and_every_descriptor),
		cmocka_unit_test(test_connection_exists_until_linux_forgot_it),
		cmocka_unit_test(test_socket_bound_to_the_device_is_found),
		cmocka_unit_test(test_doubt_means_that_it_exists),
		cmocka_unit_test(test_translated_mtu_report_reaches_the_socket),
	};

	foreign = socket(AF_INET, SOCK_STREAM, 0);
	peer_host();
	diag = snapshot_diag_open();
	return diag < 0 || cmocka_run_group_tests(tests, NULL, NULL);
}
