/* SPDX-License-Identifier: BSD-2-Clause */
/* Smaller segments: told by ICMP, or found out (RFC 4821). */
#include "tests/unit/fastpath/host.h"

#define M HOST_MSS

/* A flow with SACK and a round trip of 40 ms. */
static void set_mss(struct host *h, uint32_t mss)
{
	struct fp_msg *m = host_fp(h, FP_CMD_SET_MSS);

	m->flow = h->id;
	m->value = mss;
	host_fp_go(h);
}

static void test_what_is_too_long_goes_again_in_pieces(struct host *h)
{
	struct flow *f = host_open_path(h);
	uint32_t cwnd = f->cwnd;

	host_burst(h, 2);
	set_mss(h, 500);
	expect_tx(h, 2 * M, 500, 0);
	expect_tx(h, 2 * M + 500, 500, 0);
	expect_tx(h, 3 * M, 500, 0);
	expect_tx(h, 3 * M + 500, 500, 0);
	expect_no_tx(h);
	assert_true(loss_valid(f));
	/* It is no congestion. */
	assert_int_equal(f->cwnd, cwnd);
	host_rx(h, (struct seg){.ack = 4 * M});
	assert_true(f->cwnd >= cwnd);
	assert_int_equal(f->ext->loss.state, CC_OPEN);
}

static void test_what_was_sacked_stays(struct host *h)
{
	host_open_path(h);
	host_burst(h, 2);
	host_advance_ms(h, 40);
	host_sack(h, 2 * M, 3 * M, 4 * M);
	set_mss(h, 500);
	expect_tx(h, 2 * M, 500, 0);
	expect_tx(h, 2 * M + 500, 500, 0);
	expect_no_tx(h);
}

/* ---- black holes -------------------------------------------------------- */

/* Until the next retransmission, of @seq at last: its length. */
static uint32_t next_again(struct host *h, uint32_t seq)
{
	struct seg s;
	uint32_t i;

	for (i = 0; i < 200000; i++) {
		host_advance_ms(h, 1);
		while (host_tx(h, &s)) {
			if (s.seq == seq)
				return s.len;
		}
	}
	fail();
	return 0;
}

static void open_probing(struct host *h, uint8_t mtu_probing, uint32_t mss)
{
	h->params.snd_mss = mss;
	h->params.mss_max = M;
	h->params.mtu_probing = mtu_probing;
	h->params.mtu_base = 800;
	h->params.mtu_floor = 150;
	h->params.mtu_interval_s = 5;
	h->params.cwnd_segs = 20;
	host_install(h);
	host_release(h);
}

/* Linux's tcp_retries1: not before three doublings of 200 ms have passed since
 * the first time-out. */
static void black_hole(struct host *h, uint32_t rto_us, uint32_t time_outs)
{
	uint64_t waited = 0, before;
	struct flow *f;
	uint32_t len, at;
	struct seg s;

	h->params.rto_us = rto_us;
	h->params.sack = false;
	open_probing(h, 1, M);
	f = host_flow(h);
	host_burst(h, 3);
	do {
		before = waited;
		len = next_again(h, 0);
		waited = h->now_ns - f->ext->loss.retrans_ns;
	} while (len == M);
	assert_int_equal(len, 800);
	assert_true(before < 3000000000ull && waited >= 3000000000ull);
	assert_int_equal(host_count(h, tx_rto), time_outs);
	/* And so on, at each time-out. */
	assert_int_equal(next_again(h, 0), 400);
	assert_int_equal(next_again(h, 0), 200);
	assert_int_equal(next_again(h, 0), 150);
	assert_int_equal(next_again(h, 0), 150);
	assert_true(loss_valid(f));
	/* All that was sent goes again in pieces that pass. */
	for (at = 150; at < 3 * M; at += s.len) {
		host_rx(h, (struct seg){.ack = at});
		while (host_tx(h, &s) && s.seq != at)
			assert_in_range(s.len, 1, 150);
		assert_int_equal(s.seq, at);
	}
	host_rx(h, (struct seg){.ack = 3 * M});
	expect_no_tx(h);
	assert_int_equal(f->ext->loss.state, CC_OPEN);
	assert_int_equal(f->snd_mss, 150);
}

static void test_a_black_hole_is_found(struct host *h)
{
	black_hole(h, 240000, 4);
}

static void test_a_black_hole_near_by_takes_more_time_outs(struct host *h)
{
	black_hole(h, 200000, 5);
}

static void test_a_black_hole_far_away_takes_fewer_time_outs(struct host *h)
{
	black_hole(h, 2000000, 2);
}

/* What arrives late is no sign of one. */
static void test_progress_is_no_black_hole(struct host *h)
{
	struct flow *f;

	h->params.sack = false;
	open_probing(h, 1, M);
	f = host_flow(h);
	host_burst(h, 1);
	assert_int_equal(next_again(h, 0), M);
	assert_int_equal(next_again(h, 0), M);
	host_rx(h, (struct seg){.ack = M});
	host_burst(h, 1);
	assert_int_equal(next_again(h, M), M);
	assert_int_equal(f->snd_mss, M);
	assert_int_equal(f->ext->mtu.low, 0);
}

static void test_a_search_that_was_on_begins_at_half(struct host *h)
{
	open_probing(h, 2, 600);
	host_send(h, 600);
	expect_tx(h, 0, 600, 0);
	while (next_again(h, 0) == 600)
		;
	assert_int_equal(host_flow(h)->snd_mss, 300);
	assert_int_equal(next_again(h, 0), 150);
}

static void test_mtu_is_not_probed_unless_asked(struct host *h)
{
	struct flow *f;

	open_probing(h, 0, 600);
	f = host_flow(h);
	host_send(h, 8000);
	host_advance_ms(h, 100000);
	assert_int_equal(f->snd_mss, 600);
	assert_int_equal(f->ext->mtu.max, 600);
	while (host_tx(h, &(struct seg){0}))
		;
}

/* ---- the search upwards ------------------------------------------------- */

#define LOW 600u
#define NEED (800 + 4 * LOW) /* a probe of 800 and what must follow it */

/* tcp_mtu_probing 2: segments are small at first. */
static struct flow *open_search(struct host *h)
{
	open_probing(h, 2, LOW);
	return host_flow(h);
}

/* @len bytes all leave: one segment of @first bytes, then full ones. */
static void expect_bulk(struct host *h, uint32_t len, uint32_t first)
{
	struct flow *f = host_flow(h);
	uint32_t at = f->snd_nxt - h->iss, mss = f->snd_mss, n = first;

	host_send(h, len);
	while (len) {
		n = n < len ? n : len;
		expect_tx(h, at, n, 0);
		at += n;
		len -= n;
		n = mss;
	}
	expect_no_tx(h);
	assert_true(loss_valid(f));
}

static void ack_all(struct host *h)
{
	host_advance_ms(h, 1);
	host_rx(h, (struct seg){.ack = host_flow(h)->snd_nxt - h->iss});
	expect_no_tx(h);
	assert_int_equal(host_flow(h)->ext->loss.state, CC_OPEN);
	assert_int_equal(host_flow(h)->ext->mtu.len, 0);
}

/* With SACK, on a path of 40 ms. */
static void round_trip(struct host *h)
{
	host_flow(h)->sack = true;
	expect_bulk(h, LOW, LOW);
	host_advance_ms(h, 40);
	host_rx(h, (struct seg){.ack = LOW});
	assert_int_equal(host_flow(h)->srtt8_us / 8, 40000);
}

static void test_what_passes_is_the_new_mss(struct host *h)
{
	static const uint32_t len[] = {800, 900, 950, 975, 987, 993};
	struct flow *f = open_search(h);
	uint32_t i, cwnd;

	for (i = 0; i < 6; i++) {
		f->cwnd = cwnd = 20 * M;
		expect_bulk(h, 8000, len[i]);
		ack_all(h);
		assert_int_equal(f->snd_mss, len[i]);
		assert_true(f->cwnd >= cwnd);
	}
	/* Near enough. */
	expect_bulk(h, 8000, 993);
	assert_int_equal(f->ext->mtu.len, 0);
}

static void test_a_probe_must_arrive_whole(struct host *h)
{
	struct flow *f = open_search(h);

	expect_bulk(h, NEED, 800);
	host_rx(h, (struct seg){.ack = 799});
	assert_int_equal(f->snd_mss, LOW);
	assert_int_equal(f->ext->mtu.len, 800);
	host_rx(h, (struct seg){.ack = 800});
	assert_int_equal(f->snd_mss, 800);
}

static void test_there_is_one_probe_at_a_time(struct host *h)
{
	open_search(h);
	expect_bulk(h, NEED, 800);
	expect_bulk(h, NEED, LOW);
}

/* Three segments behind the probe arrived, it did not. */
static void test_what_is_lost_is_too_long(struct host *h)
{
	struct flow *f = open_search(h);
	uint32_t cwnd, i, sack;

	for (sack = 0; sack < 2; sack++) {
		uint32_t at = f->snd_nxt - h->iss, end;
		uint32_t high = f->ext->mtu.high, len = (LOW + high) / 2;

		f->sack = sack;
		expect_bulk(h, 6000, len);
		end = at + len + 3 * LOW;
		cwnd = f->cwnd;
		host_advance_ms(h, 1);
		for (i = 0; i < 3 && !sack; i++)
			host_rx(h, (struct seg){.ack = at});
		if (sack)
			host_sack(h, at, at + len, end);
		/* In pieces. */
		expect_tx(h, at, LOW, 0);
		expect_tx(h, at + LOW, len - LOW, 0);
		expect_no_tx(h);
		assert_int_equal(f->ext->mtu.high, len - 1);
		assert_int_equal(f->snd_mss, LOW);
		assert_int_equal(f->cwnd, cwnd);
		ack_all(h);
		assert_true(f->cwnd >= cwnd);
	}
	/* What may pass is less now. */
	f->cwnd = 20 * M;
	expect_bulk(h, 6000, (LOW + 698) / 2);
}

/* The same when it is not late enough before a timer says so. */
static void test_what_a_timer_finds_lost_is_too_long(struct host *h)
{
	struct flow *f = open_search(h);
	uint32_t cwnd, at;

	round_trip(h);
	at = f->snd_nxt - h->iss;
	expect_bulk(h, 6000, 800);
	cwnd = f->cwnd;
	host_advance_ms(h, 40);
	host_sack(h, at, at + 800, at + 800 + LOW);
	expect_no_tx(h);
	assert_int_equal(f->ext->loss.timer, LOSS_REO);
	host_advance_ms(h, 20);
	expect_tx(h, at, LOW, 0);
	expect_tx(h, at + LOW, 800 - LOW, 0);
	expect_no_tx(h);
	assert_int_equal(f->ext->mtu.high, 799);
	assert_int_equal(f->cwnd, cwnd);
	assert_true(loss_valid(f));
	ack_all(h);
}

/* Of a loss before it nobody knows whether the probe was too long. */
static void test_another_loss_tells_nothing(struct host *h)
{
	struct flow *f = open_search(h);

	f->sack = true;
	expect_bulk(h, 2 * LOW, LOW);
	expect_bulk(h, 6000, 800);
	host_advance_ms(h, 40);
	host_sack(h, 0, LOW, 2 * LOW + 6000);
	expect_tx(h, 0, LOW, 0);
	assert_int_equal(f->ext->loss.state, CC_RECOVERY);
	ack_all(h);
	assert_int_equal(f->snd_mss, LOW);
	assert_int_equal(f->ext->mtu.high, M);
	/* It is asked again. */
	f->cwnd = 20 * M;
	expect_bulk(h, 6000, 800);
}

/* Nothing comes back: that is no answer, either. */
static void test_a_time_out_tells_nothing(struct host *h)
{
	struct flow *f = open_search(h);

	expect_bulk(h, NEED, 800);
	assert_int_equal(next_again(h, 0), LOW);
	assert_int_equal(f->ext->loss.state, CC_LOSS);
	assert_int_equal(f->ext->mtu.len, 0);
	assert_int_equal(f->ext->mtu.high, M);
	host_rx(h, (struct seg){.ack = 800});
	assert_int_equal(f->snd_mss, LOW);
}

static void test_a_probe_needs_data_behind_it(struct host *h)
{
	open_search(h);
	expect_bulk(h, NEED - 1, LOW);
	ack_all(h);
	expect_bulk(h, NEED, 800);
}

static void test_a_probe_needs_eleven_segments_of_cwnd(struct host *h)
{
	struct flow *f = open_search(h);

	f->cwnd = 11 * LOW - 1;
	expect_bulk(h, 6000, LOW);
	ack_all(h);
	f->cwnd = 11 * LOW;
	expect_bulk(h, 6000, 800);
}

/* Neither of a window too small ever is one made wait. */
static void test_a_probe_needs_a_window(struct host *h)
{
	struct flow *f = open_search(h);

	f->snd_wnd = NEED - 1;
	host_send(h, 6000);
	expect_tx(h, 0, LOW, 0);
	while (host_tx(h, &(struct seg){0}))
		;
	assert_int_equal(f->ext->mtu.len, 0);
}

/* What else is under way makes room first, in cwnd ... */
static void test_a_probe_waits_for_cwnd(struct host *h)
{
	struct flow *f = open_search(h);

	f->ext->mtu.high = LOW; /* none now */
	expect_bulk(h, 6000, LOW);
	f->ext->mtu.high = M;
	f->cwnd = 6000 + 2 * LOW - 1;
	host_send(h, 4000);
	expect_no_tx(h); /* not even what would fit */
	host_rx(h, (struct seg){.ack = 1});
	expect_tx(h, 6000, 800, 0);
	assert_int_equal(f->ext->mtu.len, 800);
}

/* ... and in the window. */
static void test_a_probe_waits_for_the_window(struct host *h)
{
	struct flow *f = open_search(h);
	uint32_t win = 64 * 128; /* a multiple of any scale */

	f->ext->mtu.high = LOW;
	expect_bulk(h, 6000, LOW);
	f->ext->mtu.high = M;
	f->snd_wnd = win;
	host_send(h, 4000);
	expect_no_tx(h);
	host_rx(h, (struct seg){.ack = 6000 + NEED - win - 1, .win = win});
	expect_no_tx(h);
	host_rx(h, (struct seg){.ack = 6000 + NEED - win, .win = win});
	expect_tx(h, 6000, 800, 0);
}

/* Something is SACKed. */
static void test_a_probe_waits_while_something_is_missing(struct host *h)
{
	struct flow *f = open_search(h);

	round_trip(h);
	f->ext->mtu.high = LOW;
	expect_bulk(h, 4 * LOW, LOW);
	f->ext->mtu.high = M;
	host_advance_ms(h, 40);
	host_sack(h, LOW, 2 * LOW, 3 * LOW);
	assert_int_equal(f->ext->loss.state, CC_OPEN);
	expect_bulk(h, NEED, LOW);
	ack_all(h);
	/* It was reordering: more must follow a probe now. */
	assert_true(f->ext->loss.reordering > 3);
	f->cwnd = 20 * M;
	expect_bulk(h, 800 + (f->ext->loss.reordering + 1) * LOW - 1, LOW);
	ack_all(h);
	f->cwnd = 20 * M;
	expect_bulk(h, 800 + (f->ext->loss.reordering + 1) * LOW, 800);
}

/* The peer's data have a gap, which segments report. */
static void test_a_probe_waits_for_the_peer_s_data(struct host *h)
{
	struct flow *f = open_search(h);
	struct seg s;

	host_rx(h, (struct seg){.seq = 100, .len = 100});
	expect_tx(h, 0, 0, 0);
	host_send(h, NEED);
	while (host_tx(h, &s))
		assert_true(s.len < LOW && s.n_blocks == 1);
	assert_int_equal(f->ext->mtu.len, 0);
	host_rx(h, (struct seg){.len = 100, .ack = NEED});
	host_send(h, NEED);
	assert_true(host_tx(h, &s));
	while (!s.len)
		assert_true(host_tx(h, &s));
	assert_int_equal(s.len, 800);
	assert_int_equal(s.ack, 200);
}

/* A tail loss probe was sent: until it is answered there is none of size. */
static void test_a_probe_waits_for_what_was_sent_again(struct host *h)
{
	struct flow *f = open_search(h);

	round_trip(h);
	expect_bulk(h, LOW, LOW);
	assert_int_equal(next_again(h, LOW), LOW);
	assert_int_equal(f->ext->loss.state, CC_OPEN);
	expect_bulk(h, NEED, LOW);
	ack_all(h);
	f->cwnd = 20 * M;
	expect_bulk(h, NEED, 800);
}

static void test_the_search_begins_anew_after_a_while(struct host *h)
{
	struct flow *f = open_search(h);

	f->ext->mtu.high = LOW + 8;
	expect_bulk(h, 6000, LOW + 4);
	ack_all(h);
	assert_int_equal(f->snd_mss, LOW + 4);
	f->cwnd = 20 * M;
	expect_bulk(h, 6000, LOW + 4);
	ack_all(h);
	host_advance_ms(h, 4900);
	f->cwnd = 20 * M;
	expect_bulk(h, 6000, LOW + 4);
	ack_all(h);
	assert_int_equal(f->ext->mtu.high, LOW + 8);
	host_advance_ms(h, 100);
	f->cwnd = 20 * M;
	expect_bulk(h, 6000, LOW + 4); /* sees that it is time */
	assert_int_equal(f->ext->mtu.high, M);
	ack_all(h);
	f->cwnd = 20 * M;
	expect_bulk(h, 6000, (LOW + 4 + M) / 2);
}

/* A path that swallowed long segments once may take them again. */
static void test_a_search_follows_a_black_hole(struct host *h)
{
	struct flow *f;

	open_probing(h, 1, M);
	f = host_flow(h);
	expect_bulk(h, 6000, M); /* none before */
	ack_all(h);
	expect_bulk(h, M, M);
	while (next_again(h, 6000) == M)
		;
	assert_int_equal(f->snd_mss, 800);
	ack_all(h);
	f->cwnd = 20 * M;
	expect_bulk(h, 6000, 900);
	ack_all(h);
	assert_int_equal(f->snd_mss, 900);
	/* It is one again: half of what passed, but no more than the base. */
	expect_bulk(h, M, 900);
	while (next_again(h, 13000) == 900)
		;
	assert_int_equal(f->snd_mss, 450);
}

/* What Linux knows of the path bounds what is searched for. */
static void test_a_known_mtu_bounds_the_search(struct host *h)
{
	struct flow *f = open_search(h);

	set_mss(h, 900);
	assert_int_equal(f->snd_mss, LOW);
	expect_bulk(h, 6000, 750);
	set_mss(h, 650); /* the probe caused it */
	expect_tx(h, 0, LOW, 0);
	expect_tx(h, LOW, 150, 0);
	expect_no_tx(h);
	assert_int_equal(f->ext->mtu.len, 0);
	ack_all(h);
	assert_int_equal(f->snd_mss, LOW);
	set_mss(h, 500);
	assert_int_equal(f->snd_mss, 500);
	/* What passed passes again; more only by probes, in the next search. */
	set_mss(h, M);
	assert_int_equal(f->snd_mss, LOW);
	f->cwnd = 20 * M;
	expect_bulk(h, 6000, LOW);
	ack_all(h);
	host_advance_ms(h, 5000);
	f->cwnd = 20 * M;
	expect_bulk(h, 6000, LOW);
	ack_all(h);
	f->cwnd = 20 * M;
	expect_bulk(h, 6000, 800);
}

/* A larger MTU does not disturb a probe. */
static void test_a_larger_mtu_leaves_what_is_under_way(struct host *h)
{
	struct flow *f = open_search(h);

	set_mss(h, 900);
	expect_bulk(h, 6000, 750);
	set_mss(h, M);
	expect_no_tx(h);
	ack_all(h);
	assert_int_equal(f->snd_mss, 750);
}

int main(void)
{
	static const struct host_test tests[] = {
		T(test_what_is_too_long_goes_again_in_pieces),
		T(test_what_was_sacked_stays),
		T_BARE(test_a_black_hole_is_found),
		T_BARE(test_a_black_hole_near_by_takes_more_time_outs),
		T_BARE(test_a_black_hole_far_away_takes_fewer_time_outs),
		T_BARE(test_progress_is_no_black_hole),
		T_BARE(test_a_search_that_was_on_begins_at_half),
		T_BARE(test_mtu_is_not_probed_unless_asked),
		T_BARE(test_what_passes_is_the_new_mss),
		T_BARE(test_a_probe_must_arrive_whole),
		T_BARE(test_there_is_one_probe_at_a_time),
		T_BARE(test_what_is_lost_is_too_long),
		T_BARE(test_what_a_timer_finds_lost_is_too_long),
		T_BARE(test_another_loss_tells_nothing),
		T_BARE(test_a_time_out_tells_nothing),
		T_BARE(test_a_probe_needs_data_behind_it),
		T_BARE(test_a_probe_needs_eleven_segments_of_cwnd),
		T_BARE(test_a_probe_needs_a_window),
		T_BARE(test_a_probe_waits_for_cwnd),
		T_BARE(test_a_probe_waits_for_the_window),
		T_BARE(test_a_probe_waits_while_something_is_missing),
		T_BARE(test_a_probe_waits_for_the_peer_s_data),
		T_BARE(test_a_probe_waits_for_what_was_sent_again),
		T_BARE(test_the_search_begins_anew_after_a_while),
		T_BARE(test_a_search_follows_a_black_hole),
		T_BARE(test_a_known_mtu_bounds_the_search),
		T_BARE(test_a_larger_mtu_leaves_what_is_under_way),
	};

	return HOST_RUN(tests, true);
}
