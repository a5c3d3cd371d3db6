/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_cache.c - what Linux's frames tell about a peer is kept, within bounds
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "slowpath/cache.h"

#define OPTS_MAX 40
#define NOW_MS 5000u

/* A segment of 10.0.0.5:80 to 10.0.0.9:@port with @olen bytes of options. */
static struct frame segment(uint8_t *buf, uint16_t port, bool syn,
			    const uint8_t *opts, size_t olen)
{
	struct ether_header *eth = (void *)buf;
	struct iphdr *ip = (void *)(buf + sizeof(*eth));
	struct tcphdr *th = (void *)(ip + 1);
	size_t len = sizeof(*eth) + sizeof(*ip) + sizeof(*th) + olen;
	struct frame f;

	memset(buf, 0, len);
	memcpy(eth->ether_dhost, "\x02\0\0\0\0\x09", 6);
	memcpy(eth->ether_shost, "\x02\0\0\0\0\x05", 6);
	eth->ether_type = htons(ETHERTYPE_IP);
	*ip = (struct iphdr){.version = 4,
			     .ihl = 5,
			     .ttl = 61,
			     .tos = 0x10,
			     .protocol = IPPROTO_TCP};
	ip->tot_len = htons((uint16_t)(len - sizeof(*eth)));
	ip->saddr = htonl(0x0a000005);
	ip->daddr = htonl(0x0a000009);
	th->source = htons(80);
	th->dest = htons(port);
	th->seq = htonl(1000);
	th->syn = syn;
	th->doff = (5 + olen / 4) & 0xf;
	memcpy(th + 1, opts, olen);
	assert_int_equal(frame_parse(&f, buf, (uint32_t)len), FRAME_TCP);
	return f;
}

static struct cache_entry *learn(struct cache *c, uint16_t port, bool syn,
				 const uint8_t *opts, size_t olen)
{
	alignas(4) uint8_t buf[256];
	struct frame f = segment(buf, port, syn, opts, olen);
	struct conn_key key;

	frame_key(&f, false, &key);
	return cache_learn(c, &key, &f, 3, NOW_MS);
}

static const uint8_t linux_syn[] = {2, 4, 5, 0xb4, 4, 2,  8, 10, 0, 0,
				    0, 1, 0, 0,	   0, 77, 1, 3,	 3, 7};

static int set_up(void **state)
{
	static struct cache c;

	*state = &c;
	return cache_init(&c, 42);
}

static int tear_down(void **state)
{
	cache_destroy(*state);
	return 0;
}

static void test_headers_are_learned(void **state)
{
	struct cache_entry *e = learn(*state, 1234, true, linux_syn, 20);

	assert_ptr_equal(cache_find(*state, &e->key), e);
	assert_int_equal(e->ttl, 61);
	assert_int_equal(e->tos, 0x10);
	assert_int_equal(e->l2[5], 9);
	assert_int_equal(e->core, 3);
	assert_int_equal(e->tsecr, 77);
	assert_false(e->strange);
}

static void test_forgotten_entry_is_gone(void **state)
{
	struct cache_entry *e = learn(*state, 1234, true, linux_syn, 20);
	struct conn_key key = e->key;

	cache_forget(*state, &key);
	assert_null(cache_find(*state, &key));
}

static void test_unknown_options_are_noted(void **state)
{
	static const uint8_t strange[][20] = {
		{19, 18}, /* MD5 */
		{29, 16}, /* AO */
		{30, 12}, /* MPTCP */
		{34, 2},  /* Fast Open */
		{254, 4}, {2, 4, 5, 0xb4, 1, 1, 34, 6},
		{2, 1},	 /* length below the least */
		{2, 30}, /* beyond the header */
	};

	for (size_t i = 0; i < sizeof(strange) / sizeof(strange[0]); i++)
		assert_true(learn(*state, 99, true, strange[i], 20)->strange);
	assert_false(learn(*state, 99, true, linux_syn, 20)->strange);
}

static void test_options_of_later_segments_do_not_count(void **state)
{
	static const uint8_t md5[20] = {19, 18};

	learn(*state, 99, true, md5, 20);
	assert_true(learn(*state, 99, false, linux_syn, 0)->strange);
}

static void test_peer_timestamp_counts_when_linux_took_it(void **state)
{
	static const uint8_t ts[12] = {1, 1, 8, 10, 0, 0, 0, 90};
	struct cache_entry *e = learn(*state, 1234, true, linux_syn, 20);
	alignas(4) uint8_t buf[256];
	struct frame f = segment(buf, 1234, false, ts, 12);

	assert_int_equal(cache_ts_recent(e, 1000), 77);
	cache_hear(e, &f, 5);
	assert_int_equal(e->core, 5);
	assert_int_equal(cache_ts_recent(e, 1000), 90);
	assert_int_equal(cache_ts_recent(e, 999), 77);
	assert_int_equal(cache_ts_recent(e, 1000 + 70000), 77);
}

/* The best guess is the one that is ahead of no frame and behind none. */
static void test_clock_is_that_of_the_frames(void **state)
{
	static const uint8_t later[12] = {1, 1, 8, 10, 0, 0, 0, 3};
	static const uint8_t late[12] = {1, 1, 8, 10, 0, 0, 0, 2};
	struct cache_entry *e;

	e = learn(*state, 7, false, later, 0);
	assert_int_equal(cache_ts_offset(e, 10 - NOW_MS), 10 - NOW_MS);
	e = learn(*state, 7, true, linux_syn, 20); /* TSval 1 */
	assert_int_equal(cache_ts_offset(e, 0 - NOW_MS), 1 - NOW_MS);
	assert_int_equal(cache_ts_offset(e, 1 - NOW_MS), 1 - NOW_MS);
	assert_int_equal(cache_ts_offset(e, 2 - NOW_MS), 2 - NOW_MS);
	e = learn(*state, 7, false, later, 12);
	assert_int_equal(cache_ts_offset(e, 2 - NOW_MS), 3 - NOW_MS);
	e = learn(*state, 7, false, late, 12); /* it was read late */
	assert_int_equal(cache_ts_offset(e, 2 - NOW_MS), 3 - NOW_MS);
	/* That was another clock. */
	assert_int_equal(cache_ts_offset(e, 99999), 99999);
	e = learn(*state, 7, true, linux_syn, 20);
	assert_int_equal(cache_ts_offset(e, 1 - NOW_MS), 1 - NOW_MS);
}

static void test_flood_evicts_the_least_recently_used(void **state)
{
	struct cache_entry *e = learn(*state, 1, true, linux_syn, 20);
	struct conn_key key = e->key;

	for (uint32_t port = 2; port < 60000; port++) {
		learn(*state, (uint16_t)port, true, linux_syn, 20);
		assert_non_null(cache_find(*state, &key));
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_headers_are_learned),
		TEST(test_forgotten_entry_is_gone),
		TEST(test_unknown_options_are_noted),
		TEST(test_options_of_later_segments_do_not_count),
		TEST(test_peer_timestamp_counts_when_linux_took_it),
		TEST(test_clock_is_that_of_the_frames),
		TEST(test_flood_evicts_the_least_recently_used),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
