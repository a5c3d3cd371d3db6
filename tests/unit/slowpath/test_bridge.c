/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_bridge.c - what Linux gets of a connection whose flow is gone
 *
 * A daemon without devices: the TAP is one end of a socket pair, the test has
 * the other one. No core is needed, for nothing of what Linux says here is for
 * the wire.
 */
#include "slowpath/bridge.h"
#include "slowpath/conn.h"
#include "tests/unit/slowpath/segment.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define LINUX_SND 1000u /* Linux's snd_nxt when it was offloaded */
#define LINUX_RCV 2000u
#define SENT 70000u /* by the fast path since, and all acknowledged */
#define RECEIVED 18000u

struct bench {
	struct daemon d;
	int linux_fd;
	struct segment peer; /* an ACK of all, our FIN too */
	struct segment got;
};

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	struct conn c = {.key = {.family = AF_INET},
			 .t = {.snd_base = LINUX_SND, .rcv_base = LINUX_RCV},
			 .fin_in = true};
	struct flow_view v = {.snd_una = LINUX_SND + SENT,
			      .snd_nxt = LINUX_SND + SENT,
			      .rcv_nxt = LINUX_RCV + RECEIVED,
			      .rcv_wnd = 60000,
			      .rcv_fin = true};
	int fds[2];

	assert_non_null(b);
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, fds), 0);
	b->d.tap_fd = fds[0];
	b->linux_fd = fds[1];
	b->peer = (struct segment){.src = {10, 9, 0, 1},
				   .dst = {10, 9, 0, 2},
				   .sport = 40000,
				   .dport = 7777,
				   .seq = LINUX_RCV + RECEIVED + 1,
				   .ack = LINUX_SND + SENT + 1,
				   .window = 500,
				   .flags = SEG_ACK,
				   .wscale = -1};
	memcpy(c.key.local, b->peer.dst, 4);
	memcpy(c.key.peer, b->peer.src, 4);
	c.key.lport = htons(b->peer.dport);
	c.key.pport = htons(b->peer.sport);
	assert_non_null(remnant_new(&b->d, &c, &v));
	/* The program has closed too. */
	b->d.remnants->fin_out = true;
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	while (b->d.remnants)
		remnant_free(&b->d, b->d.remnants);
	while (b->d.late)
		remnant_free(&b->d, b->d.late);
	close(b->d.tap_fd);
	close(b->linux_fd);
	free(b);
	return 0;
}

static void read_got(struct bench *b)
{
	struct segment_buf buf;
	uint32_t payload;
	ssize_t n = recv(b->linux_fd, buf.data, sizeof(buf.data), 0);

	assert_true(n > 0);
	assert_true(segment_read(&b->got, buf.data, (uint32_t)n, &payload));
}

/* What Linux sends, and what it gets for it. */
static void say(struct bench *b, uint32_t seq, uint32_t len)
{
	struct segment s = {.sport = b->peer.dport,
			    .dport = b->peer.sport,
			    .seq = seq,
			    .ack = LINUX_RCV + 1,
			    .len = len,
			    .ts = true,
			    .tsval = 555,
			    .tsecr = 444,
			    .flags = SEG_ACK,
			    .wscale = -1};
	struct segment_buf buf;
	uint32_t n;

	memcpy(s.src, b->peer.dst, 4);
	memcpy(s.dst, b->peer.src, 4);
	n = segment_build(&s, buf.data);
	assert_int_equal(send(b->linux_fd, buf.data, n, 0), n);
	bridge_drain(&b->d);
	read_got(b);
}

/* What arrives from the peer, and what Linux gets for it. */
static void pass(struct bench *b)
{
	struct fp_msg *m = aligned_alloc(XTS_CACHELINE, sizeof(*m));

	assert_non_null(m);
	memset(m, 0, offsetof(struct fp_msg, frame));
	m->type = FP_EV_FRAME;
	m->flow.index = FP_NO_FLOW;
	m->frame_len = segment_build(&b->peer, m->frame);
	bridge_from_wire(&b->d, 0, m);
	free(m);
	read_got(b);
}

static void test_the_last_ack_is_translated(void **state)
{
	struct bench *b = *state;

	pass(b);
	assert_int_equal(b->got.seq, LINUX_RCV + 1);
	assert_int_equal(b->got.ack, LINUX_SND + 1);
	assert_null(b->d.remnants);
}

/* Linux sent its FIN twice, or the peer did: each is answered. */
static void test_what_comes_after_the_last_ack_is_translated(void **state)
{
	struct bench *b = *state;

	for (int i = 0; i < 3; i++) {
		pass(b);
		assert_int_equal(b->got.seq, LINUX_RCV + 1);
		assert_int_equal(b->got.ack, LINUX_SND + 1);
	}
	b->peer.seq--;
	b->peer.flags |= SEG_FIN;
	pass(b);
	assert_int_equal(b->got.seq, LINUX_RCV);
	assert_int_equal(b->got.ack, LINUX_SND + 1);
	assert_int_equal(b->got.flags, SEG_FIN | SEG_ACK);
}

/* The service does not stop before (stop.c). */
static void test_what_is_open_is_counted(void **state)
{
	struct bench *b = *state;

	assert_int_equal(b->d.remnants_open, 1);
	b->peer.ack--; /* not of the FIN */
	pass(b);
	assert_int_equal(b->d.remnants_open, 1);
	b->peer.ack++;
	pass(b);
	assert_int_equal(b->d.remnants_open, 0);
	pass(b);
	assert_int_equal(b->d.remnants_open, 0);
}

/* Our FIN first, then the peer's. */
static void test_the_peers_fin_is_waited_for(void **state)
{
	struct bench *b = *state;

	b->d.remnants->fin_in = b->d.remnants->passive = false;
	b->peer.seq--;
	pass(b);
	assert_int_equal(b->d.remnants_open, 1);
	b->peer.flags |= SEG_FIN;
	pass(b);
	assert_int_equal(b->d.remnants_open, 0);
}

static void test_a_reset_ends_the_wait(void **state)
{
	struct bench *b = *state;

	b->peer.flags = SEG_RST;
	pass(b);
	assert_int_equal(b->d.remnants_open, 0);
}

static void test_a_forgotten_remnant_is_not_waited_for(void **state)
{
	struct bench *b = *state;

	remnant_free(&b->d, b->d.remnants);
	assert_int_equal(b->d.remnants_open, 0);
}

static void test_a_late_remnant_is_forgotten_in_time(void **state)
{
	struct bench *b = *state;

	pass(b);
	assert_non_null(b->d.late);
	assert_true(remnant_reclaim(&b->d) > 0);
	assert_non_null(b->d.late);
	b->d.late->check_at_s = daemon_now_s();
	assert_int_equal(remnant_reclaim(&b->d), -1);
	assert_null(b->d.late);
}

/* Linux was slow to send what it had at the offload, which the fast path did
 * long ago: it hears of no acknowledgment before it has sent that. */
static void test_linux_sends_the_rest_before_its_fin(void **state)
{
	struct bench *b = *state;

	b->d.remnants->t.snd_behind = 3000;
	b->d.remnants->t.timestamps = true;
	b->d.remnants->fin_out = false;
	b->peer.ack--; /* of all data */
	pass(b);
	assert_int_equal(b->got.ack, LINUX_SND - 3000);
	say(b, LINUX_SND - 3000, 1000);
	assert_int_equal(b->got.seq, LINUX_RCV + 1);
	assert_int_equal(b->got.ack, LINUX_SND - 2000);
	assert_int_equal(b->got.tsval, 444);
	assert_int_equal(b->got.tsecr, 555);
	say(b, LINUX_SND - 3000, 1000); /* again */
	assert_int_equal(b->got.ack, LINUX_SND - 2000);
	say(b, LINUX_SND - 2000, 2000);
	assert_int_equal(b->got.ack, LINUX_SND);
	assert_int_equal(b->d.count.to_wire, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_the_last_ack_is_translated,
						setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_what_comes_after_the_last_ack_is_translated, setup,
			teardown),
		cmocka_unit_test_setup_teardown(test_what_is_open_is_counted,
						setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_the_peers_fin_is_waited_for, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_reset_ends_the_wait,
						setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_forgotten_remnant_is_not_waited_for, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			test_a_late_remnant_is_forgotten_in_time, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			test_linux_sends_the_rest_before_its_fin, setup,
			teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
