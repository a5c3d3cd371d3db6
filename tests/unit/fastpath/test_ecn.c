/* SPDX-License-Identifier: BSD-2-Clause */
/* The receiver's half of ECN: RFC 3168 6.1.3, RFC 8257 3.2. */
#include "tests/unit/fastpath/host.h"

#define CE 3

static unsigned int n_ce, n_no_ce;

static void event(struct flow *f, enum cc_event ev, uint64_t now_ns)
{
	n_ce += ev == CC_EV_CE;
	n_no_ce += ev == CC_EV_NO_CE;
}

static struct cc_ops precise;

static void open_ecn(struct host *h, bool is_precise)
{
	h->params.ecn = true;
	host_install(h);
	host_release(h);
	if (!is_precise)
		return;
	precise = *host_flow(h)->cc;
	precise.precise_ecn = true;
	precise.event = event;
	host_flow(h)->cc = &precise;
	n_ce = n_no_ce = 0;
}

static uint32_t flags_of(struct host *h, uint32_t ack)
{
	struct seg s;

	assert_true(host_tx(h, &s));
	assert_int_equal(s.ack, ack);
	return s.flags;
}

/* 6.1.3: "the TCP receiver ... sets the ECN-Echo flag in the TCP header of
 * subsequent ACK packets ... until it receives a CWR packet". */
static void test_ce_is_echoed_until_cwr(struct host *h)
{
	open_ecn(h, false);
	host_rx(h, (struct seg){.len = 10, .ecn = 2});
	assert_int_equal(flags_of(h, 10), SEG_ACK);
	assert_true(host_flow(h)->plain);
	host_rx(h, (struct seg){.seq = 10, .len = 10, .ecn = CE});
	assert_int_equal(flags_of(h, 20), SEG_ACK | SEG_ECE);
	host_rx(h, (struct seg){.seq = 20, .len = 10, .ecn = 2});
	assert_int_equal(flags_of(h, 30), SEG_ACK | SEG_ECE);
	/* Data segments are ACKs as well. */
	host_send(h, 10);
	assert_int_equal(flags_of(h, 30), SEG_ACK | SEG_PSH | SEG_ECE);
	host_rx(h, (struct seg){.seq = 30,
				.len = 10,
				.ack = 10,
				.ecn = 2,
				.flags = SEG_ACK | SEG_CWR});
	assert_int_equal(flags_of(h, 40), SEG_ACK); /* at once */
	assert_true(host_flow(h)->plain);
	expect_data(h, 0, 10);
	assert_int_equal(host_count(h, rx_ce), 1);
}

/* 6.1.3: "after receiving a CWR packet, acknowledgments for subsequent non-CE
 * data packets" don't: a CE mark on it starts anew. */
static void test_cwr_with_ce_goes_on(struct host *h)
{
	open_ecn(h, false);
	host_rx(h, (struct seg){.len = 10, .ecn = CE});
	flags_of(h, 10);
	host_rx(h, (struct seg){.seq = 10,
				.len = 10,
				.ecn = CE,
				.flags = SEG_ACK | SEG_CWR});
	assert_int_equal(flags_of(h, 20), SEG_ACK | SEG_ECE);
}

/* Behind a gap CE counts at once. */
static void test_ce_behind_a_gap(struct host *h)
{
	open_ecn(h, false);
	host_rx(h, (struct seg){.seq = 10, .len = 10, .ecn = CE});
	assert_int_equal(flags_of(h, 0), SEG_ACK | SEG_ECE);
	host_rx(h, (struct seg){.len = 10, .ecn = 2});
	assert_int_equal(flags_of(h, 20), SEG_ACK | SEG_ECE);
	expect_data(h, 0, 20);
	host_rx(h, (struct seg){.seq = 30, .len = 10});
	assert_int_equal(flags_of(h, 20), SEG_ACK | SEG_ECE);
	host_rx(h,
		(struct seg){.seq = 20, .len = 10, .flags = SEG_ACK | SEG_CWR});
	assert_int_equal(flags_of(h, 40), SEG_ACK);
	assert_true(host_flow(h)->plain);
}

/* 6.1.4: pure ACKs are not marked; such a mark means nothing. */
static void test_ce_on_a_pure_ack_is_ignored(struct host *h)
{
	open_ecn(h, false);
	host_send(h, 10);
	expect_tx(h, 0, 10, 0);
	host_rx(h, (struct seg){.ack = 10, .ecn = CE});
	assert_int_equal(host_flow(h)->snd_una, h->iss + 10);
	assert_true(host_flow(h)->plain);
	expect_no_tx(h);
}

static void test_ce_without_negotiation_is_ignored(struct host *h)
{
	host_rx(h, (struct seg){.len = 10, .ecn = CE});
	assert_int_equal(flags_of(h, 10), SEG_ACK);
	expect_data(h, 0, 10);
	assert_true(host_flow(h)->plain);
}

/* ---- RFC 8257 3.2: "When receiving packets, the CE codepoint MUST be
 * processed as follows: ... if DCTCP.CE is false: set it to true and send an
 * immediate ACK", with what was not acknowledged before acknowledged without
 * ECE. --------
 */

static void test_precise_echo_splits_the_delayed_ack(struct host *h)
{
	open_ecn(h, true);
	host_rx(h, (struct seg){.len = 10, .ecn = 2});
	assert_int_equal(flags_of(h, 10), SEG_ACK);
	host_send(h, 10);
	flags_of(h, 10); /* a conversation: ACKs wait from now on */
	host_rx(h, (struct seg){.seq = 10, .len = 10, .ack = 10, .ecn = 2});
	expect_no_tx(h);
	host_rx(h, (struct seg){.seq = 20, .len = 10, .ack = 10, .ecn = CE});
	assert_int_equal(flags_of(h, 20), SEG_ACK);
	assert_int_equal(flags_of(h, 30), SEG_ACK | SEG_ECE);
	/* The same state: delayed as ever. */
	host_rx(h, (struct seg){.seq = 30, .len = 10, .ack = 10, .ecn = CE});
	expect_no_tx(h);
	/* CWR means nothing here; the state does. */
	host_rx(h, (struct seg){.seq = 40,
				.len = 10,
				.ack = 10,
				.ecn = 2,
				.flags = SEG_ACK | SEG_CWR});
	assert_int_equal(flags_of(h, 40), SEG_ACK | SEG_ECE);
	assert_int_equal(flags_of(h, 50), SEG_ACK);
	assert_true(host_flow(h)->plain);
	assert_int_equal(n_ce, 2);
	assert_int_equal(n_no_ce, 1);
}

int main(void)
{
	static const struct host_test tests[] = {
		T_BARE(test_ce_is_echoed_until_cwr),
		T_BARE(test_cwr_with_ce_goes_on),
		T_BARE(test_ce_behind_a_gap),
		T_BARE(test_ce_on_a_pure_ack_is_ignored),
		T(test_ce_without_negotiation_is_ignored),
		T_BARE(test_precise_echo_splits_the_delayed_ack),
	};

	return HOST_RUN(tests, true);
}
