/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_translate_conntrack.c - the translator before a real Linux and its
 * conntrack
 *
 *   the wire's numbers                    Linux's numbers
 *   (this process) --- translator --- TAP --- nftables --- socket
 *
 * A connection is set up, its snapshot taken, and the wire's numbers jump by
 * what a fast path might have carried. Then it ends in each of the ways there
 * are, through the translator, under a ruleset that drops and counts what
 * conntrack calls invalid. Not one packet may be.
 */
#include "slowpath/snapshot.h"
#include "slowpath/translate.h"
#include "tests/unit/slowpath/tap_peer.h"

#include <err.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#define BUF 65536u
#define MATRIX                                                                 \
	8 /* IPv4 and IPv6, with and without timestamps, far and near          \
	   */

static uint8_t rx[BUF], tx[BUF];
static int diag;

/* One offloaded connection; the fast path is whoever changes @v. */
struct link {
	struct peer p;
	struct conn_key key;
	struct translation t;
	struct flow_view v;
	struct segment w; /* Linux's last segment, on the wire */
	bool live;
};

static const char rules[] =
	"nft -f - <<'END'\n"
	"table inet t {\n"
	"	counter invalid {}\n"
	"	chain in {\n"
	"		type filter hook input priority 0; policy drop\n"
	"		ct state invalid counter name invalid drop\n"
	"		ct state established,related accept\n"
	"		tcp dport 7000 tcp flags syn ct state new accept\n"
	"		icmpv6 type { 135, 136 } accept\n"
	"	}\n"
	"	chain out {\n"
	"		type filter hook output priority 0; policy drop\n"
	"		ct state invalid counter name invalid drop\n"
	"		ct state established,related accept\n"
	"		meta l4proto ipv6-icmp accept\n"
	"	}\n"
	"}\n"
	"END\n";

static unsigned int invalid_packets(void)
{
	FILE *f = popen("nft list counter inet t invalid", "r");
	unsigned int n = UINT32_MAX;
	char line[200];

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		const char *at = strstr(line, "packets ");

		if (at)
			n = strtoul(at + 8, NULL, 10);
	}
	pclose(f);
	return n;
}

/* Does conntrack list the connection in @tcp_state? */
static bool conntrack_is(const struct link *l, const char *tcp_state)
{
	char cmd[200], line[300] = "";
	FILE *f;

	snprintf(cmd, sizeof(cmd),
		 "conntrack -L -f %s -p tcp --orig-port-src %u 2>/dev/null",
		 l->p.t.v6 ? "ipv6" : "ipv4", l->p.t.sport);
	f = popen(cmd, "r");
	assert_non_null(f);
	if (!fgets(line, sizeof(line), f))
		line[0] = 0;
	pclose(f);
	return strstr(line, tcp_state);
}

static uint32_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint32_t)(ts.tv_sec * 1000 + ts.tv_nsec / 1000000);
}

/* @n chooses from the matrix. */
static void link_open(struct link *l, unsigned int n)
{
	struct peer_opt o = {.wscale = 7, .window = 1000};
	struct flow_params fp = {0};

	memset(l, 0, sizeof(*l));
	o.v6 = n & 1;
	o.ts = n & 2;
	peer_connect(&l->p, &o);
	peer_send(&l->p, SEG_ACK, 100);
	assert_int_equal(send(l->p.fd, "hello", 5, 0), 5);
	assert_true(peer_receive(&l->p));
	while (l->p.last.len != 5)
		assert_true(peer_receive(&l->p));
	peer_send(&l->p, SEG_ACK, 0);
	assert_int_equal(snapshot_key(l->p.fd, &l->key), XTS_REASON_NONE);
	assert_int_equal(
		snapshot_take(l->p.fd, BUF, rx, tx, SNAPSHOT_GAP_UNKNOWN, &fp),
		XTS_REASON_NONE);
	assert_int_equal(fp.tx_len, 0);
	while (peer_peek(&l->p))
		; /* a window update, absorbed */
	l->t.snd_base = fp.snd_nxt;
	l->t.rcv_base = fp.rcv_nxt;
	l->t.ts_offset = fp.ts_offset;
	l->t.rcv_wscale = fp.rcv_wscale;
	l->t.timestamps = fp.timestamps;
	l->v.snd_nxt = fp.snd_nxt + (n & 4 ? test_random() : 1000);
	l->v.snd_una = l->v.snd_nxt;
	l->v.rcv_nxt = fp.rcv_nxt + (n & 4 ? test_random() : 1000);
	l->v.rcv_wnd = 60000;
	l->p.t.tsval += 5000;
	l->v.ts_recent = l->p.t.tsval;
	l->live = true;
}

static void link_close(struct link *l)
{
	l->t.reset = true;
	peer_close(&l->p);
}

/* The peer sends, with the wire's numbers. */
static void wire_send(struct link *l, uint8_t flags, uint32_t seq, uint32_t ack,
		      uint32_t len)
{
	struct segment_buf b;
	struct frame f;

	l->p.t.seq = seq;
	l->p.t.ack = ack;
	l->p.t.flags = flags;
	l->p.t.len = len;
	l->p.t.tsval++;
	assert_int_equal(
		frame_parse(&f, b.data, segment_build(&l->p.t, b.data)),
		FRAME_TCP);
	translate_to_linux(&l->t, &l->v, &f);
	peer_send_frame(f.data, f.len);
}

/* What Linux sends next, as the wire sees it. */
static bool wire_receive(struct link *l)
{
	struct frame f;

	if (!peer_receive(&l->p))
		return false;
	assert_int_equal(frame_parse(&f, l->p.b.data, l->p.len), FRAME_TCP);
	translate_to_wire(&l->t, &l->v, l->live, now_ms(), &f);
	assert_true(segment_read(&l->w, f.data, f.len, NULL));
	if (l->w.ts)
		assert_true(seq_geq(l->w.tsecr, l->v.ts_recent));
	return true;
}

static void expect(struct link *l, uint8_t flags, uint32_t seq, uint32_t ack)
{
	assert_true(wire_receive(l));
	assert_int_equal(l->w.flags & ~SEG_PSH, flags);
	assert_int_equal(l->w.seq, seq);
	assert_int_equal(l->w.ack, ack);
}

static bool exists(const struct link *l)
{
	return snapshot_exists(diag, &l->key, peer_host());
}

static void test_close_by_us_ends_in_time_wait(void **state)
{
	struct link l;
	unsigned int n;

	for (n = 0; n < MATRIX; n++) {
		link_open(&l, n);
		l.live = false; /* the program's close */
		close(l.p.fd);
		expect(&l, SEG_FIN | SEG_ACK, l.v.snd_nxt, l.v.rcv_nxt);
		wire_send(&l, SEG_ACK, l.v.rcv_nxt, l.v.snd_nxt + 1, 0);
		wire_send(&l, SEG_FIN | SEG_ACK, l.v.rcv_nxt, l.v.snd_nxt + 1,
			  0);
		expect(&l, SEG_ACK, l.v.snd_nxt + 1, l.v.rcv_nxt + 1);
		/* the peer did not get that */
		wire_send(&l, SEG_FIN | SEG_ACK, l.v.rcv_nxt, l.v.snd_nxt + 1,
			  0);
		expect(&l, SEG_ACK, l.v.snd_nxt + 1, l.v.rcv_nxt + 1);
		assert_true(exists(&l));
		assert_true(conntrack_is(&l, "TIME_WAIT"));
		assert_int_equal(invalid_packets(), 0);
		close(l.p.listener);
	}
}

static void test_close_by_the_peer_leaves_nothing(void **state)
{
	struct link l;
	unsigned int n;

	for (n = 0; n < MATRIX; n++) {
		link_open(&l, n);
		/* FIN behind 500 bytes, which the fast path took */
		l.v.rcv_nxt += 500;
		l.v.rcv_fin = true;
		wire_send(&l, SEG_FIN | SEG_ACK, l.v.rcv_nxt - 500, l.v.snd_nxt,
			  500);
		expect(&l, SEG_ACK, l.v.snd_nxt, l.v.rcv_nxt + 1);
		/* the other half goes on: the FIN again, old acks */
		l.v.snd_nxt += 7000;
		wire_send(&l, SEG_FIN | SEG_ACK, l.v.rcv_nxt - 500, l.v.snd_una,
			  500);
		expect(&l, SEG_ACK, l.v.snd_nxt, l.v.rcv_nxt + 1);
		l.v.snd_una = l.v.snd_nxt;
		l.live = false;
		close(l.p.fd);
		expect(&l, SEG_FIN | SEG_ACK, l.v.snd_nxt, l.v.rcv_nxt + 1);
		wire_send(&l, SEG_ACK, l.v.rcv_nxt + 1, l.v.snd_nxt + 1, 0);
		assert_false(exists(&l));
		assert_true(conntrack_is(&l, "TIME_WAIT"));
		assert_int_equal(invalid_packets(), 0);
		close(l.p.listener);
	}
}

static void test_half_close_with_data_after_it(void **state)
{
	struct link l;
	unsigned int n, i;

	for (n = 0; n < MATRIX; n++) {
		link_open(&l, n);
		l.v.snd_fin = true;
		shutdown(l.p.fd, SHUT_WR);
		expect(&l, SEG_FIN | SEG_ACK, l.v.snd_nxt, l.v.rcv_nxt);
		wire_send(&l, SEG_ACK, l.v.rcv_nxt, l.v.snd_nxt + 1, 0);
		for (i = 0; i < 5; i++)
			l.v.rcv_nxt += 100000; /* on the fast path */
		/* an old segment makes Linux speak */
		wire_send(&l, SEG_ACK, l.v.rcv_nxt - 300000, l.v.snd_nxt + 1,
			  1000);
		expect(&l, SEG_ACK, l.v.snd_nxt + 1, l.v.rcv_nxt);
		wire_send(&l, SEG_FIN | SEG_ACK, l.v.rcv_nxt, l.v.snd_nxt + 1,
			  0);
		expect(&l, SEG_ACK, l.v.snd_nxt + 1, l.v.rcv_nxt + 1);
		assert_true(conntrack_is(&l, "TIME_WAIT"));
		assert_int_equal(invalid_packets(), 0);
		close(l.p.fd);
		close(l.p.listener);
	}
}

static void test_simultaneous_close(void **state)
{
	struct link l;
	unsigned int n;

	for (n = 0; n < MATRIX; n++) {
		link_open(&l, n);
		l.live = false;
		close(l.p.fd);
		expect(&l, SEG_FIN | SEG_ACK, l.v.snd_nxt, l.v.rcv_nxt);
		wire_send(&l, SEG_FIN | SEG_ACK, l.v.rcv_nxt, l.v.snd_nxt, 0);
		assert_true(wire_receive(&l)); /* ACK, or the FIN with it */
		assert_int_equal(l.w.ack, l.v.rcv_nxt + 1);
		wire_send(&l, SEG_ACK, l.v.rcv_nxt + 1, l.v.snd_nxt + 1, 0);
		assert_true(exists(&l));
		assert_int_equal(invalid_packets(), 0);
		close(l.p.listener);
	}
}

static void test_reset_of_the_peers_reaches_the_program(void **state)
{
	struct link l;
	unsigned int n;
	char c;

	for (n = 0; n < MATRIX; n++) {
		link_open(&l, n);
		/* not exactly rcv_nxt: challenged (RFC 5961) */
		wire_send(&l, SEG_RST | SEG_ACK, l.v.rcv_nxt + 9, l.v.snd_nxt,
			  0);
		expect(&l, SEG_ACK, l.v.snd_nxt, l.v.rcv_nxt);
		wire_send(&l, SEG_RST, l.v.rcv_nxt, 0, 0);
		assert_int_equal(recv(l.p.fd, &c, 1, MSG_DONTWAIT), -1);
		assert_int_equal(errno, ECONNRESET);
		assert_false(exists(&l));
		assert_int_equal(invalid_packets(), 0);
		link_close(&l);
	}
}

/* Our RST overtakes data of ours that got lost: the peer challenges it. */
static void test_reset_of_ours_is_taken_even_with_data_lost(void **state)
{
	struct link l;
	unsigned int n;

	for (n = 0; n < MATRIX; n++) {
		link_open(&l, n);
		l.v.snd_una = l.v.snd_nxt - 40000;
		l.live = false;
		l.t.reset = true;
		assert_int_equal(snapshot_reset(l.p.fd), 0);
		expect(&l, SEG_RST | SEG_ACK, l.v.snd_nxt, l.v.rcv_nxt);
		wire_send(&l, SEG_ACK, l.v.rcv_nxt, l.v.snd_una + 1000, 0);
		assert_true(wire_receive(&l));
		assert_true(l.w.flags & SEG_RST);
		assert_int_equal(l.w.seq, l.v.snd_una + 1000);
		assert_int_equal(invalid_packets(), 0);
		link_close(&l);
	}
}

static void test_keepalive_probe_and_its_answer(void **state)
{
	int on = 1, count = 2;
	struct link l[2];
	unsigned int i, n;

	for (i = 0; i < 2; i++) {
		link_open(&l[i], 2 + i + 4 * i);
		close(l[i].p.listener);
		l[i].v.snd_una = l[i].v.snd_nxt - 3000;
		setsockopt(l[i].p.fd, IPPROTO_TCP, TCP_KEEPIDLE, &on,
			   sizeof(on));
		setsockopt(l[i].p.fd, IPPROTO_TCP, TCP_KEEPINTVL, &on,
			   sizeof(on));
		setsockopt(l[i].p.fd, IPPROTO_TCP, TCP_KEEPCNT, &count,
			   sizeof(count));
		setsockopt(l[i].p.fd, SOL_SOCKET, SO_KEEPALIVE, &on,
			   sizeof(on));
		for (n = 0; n < 15 && !wire_receive(&l[i]); n++)
			;
		assert_int_equal(l[i].w.seq, l[i].v.snd_una - 1);
		assert_int_equal(l[i].w.ack, l[i].v.rcv_nxt);
		wire_send(&l[i], SEG_ACK, l[i].v.rcv_nxt, l[i].v.snd_una, 0);
		assert_int_equal(snapshot_key(l[i].p.fd, &l[i].key),
				 XTS_REASON_NONE);
		assert_int_equal(invalid_packets(), 0);
		l[i].p.listener = -1;
		peer_close(&l[i].p);
	}
}

/* The counter counts: the last test, for it makes it count. */
static void test_wire_numbers_untranslated_would_be_invalid(void **state)
{
	struct link l;

	link_open(&l, 6);
	l.p.t.seq = l.v.rcv_nxt;
	l.p.t.ack = l.v.snd_nxt;
	peer_send(&l.p, SEG_FIN | SEG_ACK, 0);
	assert_false(peer_receive(&l.p));
	assert_int_equal(invalid_packets(), 1);
	link_close(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_close_by_us_ends_in_time_wait),
		cmocka_unit_test(test_close_by_the_peer_leaves_nothing),
		cmocka_unit_test(test_half_close_with_data_after_it),
		cmocka_unit_test(test_simultaneous_close),
		cmocka_unit_test(test_reset_of_the_peers_reaches_the_program),
		cmocka_unit_test(
			test_reset_of_ours_is_taken_even_with_data_lost),
		cmocka_unit_test(test_keepalive_probe_and_its_answer),
		cmocka_unit_test(
			test_wire_numbers_untranslated_would_be_invalid),
	};

	peer_host();
	if (system(rules))
		errx(1, "nft does not take the rules");
	diag = snapshot_diag_open();
	return diag < 0 || cmocka_run_group_tests(tests, NULL, NULL);
}
