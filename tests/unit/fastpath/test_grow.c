/* SPDX-License-Identifier: BSD-2-Clause */
/* Buffers that grow with the path: who asks, what is granted, where bytes go.
 */
#include "tests/unit/fastpath/host.h"

#define RTT_US 10000u
#define LIMIT (4u * HOST_BUF)
#define LARGE(h) ((h)->mem + (h)->large_off)

/* The program's own view of its receive buffer, by xts_proto.h alone. */
struct reader {
	uint8_t *mem;
	uint32_t size, off, avail;
	uint32_t pos; /* of the next byte to read in the peer's stream */
};

static void open_growing(struct host *h)
{
	h->params.buf_max = LIMIT;
	h->params.srtt_us = RTT_US;
	host_install(h);
	host_release(h);
}

static struct reader reader_of(struct host *h)
{
	return (struct reader){.mem = h->mem + h->params.rx_buf,
			       .size = HOST_BUF};
}

static void read_grown(struct host *h, struct reader *r)
{
	assert_int_equal(h->reply.rx_buf, h->large_off);
	if (h->reply.buf_size == r->size)
		return;
	assert_true(h->reply.buf_size > r->size);
	assert_true(h->reply.off < r->size);
	if (r->avail && r->off < h->reply.off)
		r->off += r->size;
	r->mem = LARGE(h);
	r->size = h->reply.buf_size;
}

/* Take what the core says, check every byte that is read; true: it grew. */
static bool read_replies(struct host *h, struct reader *r)
{
	bool grew = false;

	while (host_reply(h, 0)) {
		if (h->reply.type == XTS_REPLY_GROWN) {
			read_grown(h, r);
			grew = true;
			continue;
		}
		assert_int_equal(h->reply.type, XTS_REPLY_RECV);
		if (!h->reply.len)
			continue;
		assert_true(h->reply.off < r->size);
		if (!r->avail)
			r->off = h->reply.off;
		assert_int_equal((r->off + r->avail) & (r->size - 1),
				 h->reply.off);
		r->avail += h->reply.len;
		assert_true(r->avail <= r->size);
	}
	return grew;
}

static void read_bytes(struct reader *r, uint32_t len)
{
	assert_true(len <= r->avail);
	r->avail -= len;
	while (len--) {
		assert_int_equal(r->mem[r->off], host_pattern(r->pos++));
		r->off = (r->off + 1) & (r->size - 1);
	}
}

static void drop_sent(struct host *h)
{
	struct seg s;

	while (host_tx(h, &s))
		;
}

/* The peer sends @len bytes from @seq, a segment a turn. */
static uint32_t peer_sends(struct host *h, uint32_t seq, uint32_t len)
{
	while (len) {
		uint32_t n = len < HOST_MSS ? len : HOST_MSS;

		host_rx(h, (struct seg){.seq = seq, .len = n});
		seq += n;
		len -= n;
	}
	drop_sent(h);
	return seq;
}

/* The program takes @len bytes a round trip for some round trips. */
static uint32_t take_for(struct host *h, struct reader *r, uint32_t seq,
			 uint32_t len, uint32_t rounds)
{
	while (rounds--) {
		seq = peer_sends(h, seq, len);
		read_replies(h, r);
		read_bytes(r, len);
		h->now_ns += RTT_US * 1000ull + 1;
		host_credit(h, len);
		drop_sent(h);
	}
	return seq;
}

static void grant(struct host *h, uint32_t size)
{
	struct fp_msg *m = host_fp(h, FP_CMD_GROW);

	m->flow = h->id;
	m->mem = h->large_off;
	m->value = size;
	host_fp_go(h);
}

static void test_a_small_flow_never_asks(struct host *h)
{
	struct reader r = reader_of(h);

	open_growing(h);
	take_for(h, &r, 0, 100, 50);
	assert_false(host_event(h));
	assert_int_equal(host_flow(h)->rx_size, HOST_BUF);
}

static void test_a_flow_without_limit_never_asks(struct host *h)
{
	struct reader r = reader_of(h);

	h->params.srtt_us = RTT_US;
	host_install(h);
	host_release(h);
	take_for(h, &r, 0, 10000, 10);
	assert_false(host_event(h));
}

/* What the program takes in one round trip, doubled, is more than there is. */
static void test_a_fast_reader_gets_a_larger_window(struct host *h)
{
	struct reader r = reader_of(h);
	uint32_t seq, wnd;
	struct seg s;

	open_growing(h);
	wnd = host_flow(h)->wnd_max;
	seq = take_for(h, &r, 0, 10000, 3);
	expect_event(h, FP_EV_GROW);
	assert_int_equal(h->ev.value, LIMIT);
	assert_false(host_event(h)); /* asked once */
	grant(h, LIMIT);
	assert_true(host_tx(h, &s)); /* the peer learns of it at once */
	assert_true(read_replies(h, &r));
	assert_int_equal(r.size, LIMIT);
	if (h->v.wscale)
		assert_true(host_flow(h)->rcv_wnd > wnd);
	take_for(h, &r, seq, 16000, 8);
}

/* Unread bytes that lie in two pieces come to lie in one. */
static void test_unread_data_move_along(struct host *h)
{
	struct reader r = reader_of(h);
	uint32_t seq;

	open_growing(h);
	seq = take_for(h, &r, 0, 10000, 3);
	expect_event(h, FP_EV_GROW);
	/* Never empty again, so positions go on round the ring. */
	seq = peer_sends(h, seq, 12000);
	read_replies(h, &r);
	read_bytes(&r, 11000);
	host_credit(h, 11000);
	seq = peer_sends(h, seq, 9000);
	read_replies(h, &r);
	read_bytes(&r, 5000); /* over the end, not credited yet */
	grant(h, LIMIT);
	seq = peer_sends(h, seq, 6000);
	assert_true(read_replies(h, &r));
	read_bytes(&r, 11000);
	host_credit(h, 16000);
	drop_sent(h);
	assert_int_equal(r.avail, 0);
	take_for(h, &r, seq, 12000, 12);
}

static void test_granted_less_than_asked(struct host *h)
{
	struct reader r = reader_of(h);
	uint32_t seq;

	open_growing(h);
	seq = take_for(h, &r, 0, 10000, 3);
	expect_event(h, FP_EV_GROW);
	grant(h, 2 * HOST_BUF);
	assert_true(read_replies(h, &r));
	assert_int_equal(r.size, 2 * HOST_BUF);
	drop_sent(h);
	take_for(h, &r, seq, 15000, 5);
}

/* ---- the transmit buffer
 * ------------------------------------------------------ */

static void expect_offer(struct host *h, uint32_t size)
{
	do
		assert_true(host_reply(h, 0));
	while (h->reply.type != XTS_REPLY_GROWN);
	assert_int_equal(h->reply.tx_len, size);
	assert_int_equal(h->reply.buf_size, HOST_BUF);
	assert_int_equal(h->reply.rx_buf, h->large_off);
}

/* As libsock does it: every byte of the program's that is not acknowledged,
 * from stream position @una on, by the rule of xts_proto.h. */
static struct xts_cmd move_tx(struct host *h, uint32_t una, uint32_t size)
{
	uint8_t *to = LARGE(h) + XTS_BUF_MAX;
	uint32_t start = (h->app_off - (h->app_sent - una)) & (HOST_BUF - 1);
	uint32_t i;

	for (i = 0; i < h->app_sent - una; i++)
		to[(start + i) & (size - 1)] = host_pattern(una + i);
	return (struct xts_cmd){
		.type = XTS_CMD_GROW_TX,
		.flow = h->id.index,
		.flow_gen = h->id.gen,
		.off = start,
		.len = size,
	};
}

static void fill_and_ask(struct host *h)
{
	open_growing(h);
	host_send(h, HOST_BUF - 4000);
	drop_sent(h);
	expect_event(h, FP_EV_GROW);
	grant(h, LIMIT);
	expect_offer(h, LIMIT);
}

static void test_a_full_transmit_buffer_grows(struct host *h)
{
	uint32_t ack, old = HOST_BUF - 4000;
	struct seg s;

	fill_and_ask(h);
	host_put(h, 0, move_tx(h, 0, LIMIT));
	host_turn(h);
	assert_int_equal(host_flow(h)->tx_size, LIMIT);
	/* All that was there comes out of the new place: host_tx() looks at
	 * every byte. */
	for (ack = 5000; ack <= old; ack += 500) {
		host_rx(h, (struct seg){.ack = ack < old ? ack : old});
		while (host_tx(h, &s))
			;
	}
	assert_int_equal(host_flow(h)->tx_len, old - (ack - 500));
}

static void test_unacknowledged_data_that_wrap_move_along(struct host *h)
{
	uint32_t una;
	struct seg s;

	open_growing(h);
	host_send(h, 10000);
	drop_sent(h);
	host_rx(h, (struct seg){.ack = 9000});
	drop_sent(h);
	host_send(h, 13000); /* over the end of the ring */
	drop_sent(h);
	expect_event(h, FP_EV_GROW);
	grant(h, LIMIT);
	expect_offer(h, LIMIT);
	/* The program does not know of the newest acknowledgment. */
	host_rx(h, (struct seg){.ack = 17000});
	drop_sent(h);
	host_put(h, 0, move_tx(h, 9000, LIMIT));
	host_turn(h);
	assert_int_equal(host_flow(h)->tx_size, LIMIT);
	for (una = 18000; una <= 23000; una += 1000) {
		host_rx(h, (struct seg){.ack = una});
		while (host_tx(h, &s))
			;
	}
	assert_int_equal(host_flow(h)->tx_len, 0);
}

static void offends(struct host *h, uint32_t off, uint32_t size)
{
	struct xts_cmd cmd = move_tx(h, 0, LIMIT);

	cmd.off = off;
	cmd.len = size;
	host_put(h, 0, cmd);
	host_turn(h);
	expect_event(h, FP_EV_OFFENDER);
	assert_int_equal(host_flow(h)->tx_size, HOST_BUF);
}

static void test_a_size_that_was_not_offered_is_an_offence(struct host *h)
{
	fill_and_ask(h);
	offends(h, 0, 2 * LIMIT);
}

static void test_a_size_of_no_power_of_two_is_an_offence(struct host *h)
{
	fill_and_ask(h);
	offends(h, 0, HOST_BUF + 1000);
}

static void test_an_offset_out_of_range_is_an_offence(struct host *h)
{
	fill_and_ask(h);
	offends(h, HOST_BUF, LIMIT);
}

static void test_growing_without_an_offer_is_an_offence(struct host *h)
{
	open_growing(h);
	offends(h, 0, LIMIT);
}

static const struct host_test tests[] = {
	T_BARE(test_a_small_flow_never_asks),
	T_BARE(test_a_flow_without_limit_never_asks),
	T_BARE(test_a_fast_reader_gets_a_larger_window),
	T_BARE(test_unread_data_move_along),
	T_BARE(test_granted_less_than_asked),
	T_BARE(test_a_full_transmit_buffer_grows),
	T_BARE(test_unacknowledged_data_that_wrap_move_along),
	T_BARE(test_a_size_that_was_not_offered_is_an_offence),
	T_BARE(test_a_size_of_no_power_of_two_is_an_offence),
	T_BARE(test_an_offset_out_of_range_is_an_offence),
	T_BARE(test_growing_without_an_offer_is_an_offence),
};

int main(void)
{
	return HOST_RUN(tests, true);
}
