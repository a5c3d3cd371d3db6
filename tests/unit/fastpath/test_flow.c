/* SPDX-License-Identifier: BSD-2-Clause */
/* The flow table, the copy with checksum, the timer wheel: without a core. */
#include "tests/unit/fastpath/host.h"

#include <stdlib.h>

#define N 3000u

static uint8_t mem[64];
static struct fp_ctx ctx = {.mem = mem, .mem_size = sizeof(mem)};

static struct flow_params params(uint32_t i)
{
	struct flow_params p = {
		.ctx = &ctx,
		.buf_size = 32,
		.snd_mss = 1000,
	};

	p.key.family = i & 1 ? AF_INET6 : AF_INET;
	p.key.local[0] = 10;
	memcpy(p.key.peer, &i, i & 1 ? 4 : 2);
	p.key.lport = htons(80);
	p.key.pport = htons((uint16_t)(i / 7));
	return p;
}

static void test_table_finds_what_is_in_it_and_nothing_else(void **state)
{
	struct flow_table t;
	struct flow *f[N];
	struct flow_params p;
	uint32_t i, round;
	int err;

	assert_int_equal(flow_table_init(&t, N), 0);
	for (i = 0; i < N; i++) {
		p = params(i);
		f[i] = flow_install(&t, &p, &err);
		assert_non_null(f[i]);
	}
	p = params(N);
	assert_null(flow_install(&t, &p, &err));
	assert_int_equal(err, ENOSPC);
	/* Take out and put back in an order that breaks up the clusters. */
	for (round = 0; round < 5; round++) {
		for (i = round; i < N; i += 3) {
			flow_remove(&t, f[i]);
			flow_free(&t, f[i]);
			f[i] = NULL;
		}
		for (i = 0; i < N; i++) {
			p = params(i);
			assert_ptr_equal(flow_find_key(&t, &p.key), f[i]);
		}
		for (i = round; i < N; i += 3) {
			p = params(i);
			f[i] = flow_install(&t, &p, &err);
			assert_non_null(f[i]);
		}
	}
	for (i = 0; i < N; i++) {
		flow_remove(&t, f[i]);
		flow_free(&t, f[i]);
	}
	assert_int_equal(t.n_flows, 0);
	for (i = 0; i <= t.mask; i++)
		assert_int_equal(t.entries[i].slot, 0);
	flow_table_free(&t);
}

static void test_senseless_sizes_are_refused(void **state)
{
	struct flow_table t;

	assert_int_equal(flow_table_init(&t, 0), -EINVAL);
	assert_int_equal(flow_table_init(&t, 1u << 30), -EINVAL);
}

static uint16_t plain_sum(const uint8_t *p, uint32_t len)
{
	return csum_fold(csum_add(p, len, 0));
}

static void test_copy_sums_like_the_plain_checksum(void **state)
{
	uint8_t src[256], dst[256];
	uint32_t len, off, i;

	for (i = 0; i < sizeof(src); i++)
		src[i] = (uint8_t)(rand() >> 7);
	for (off = 0; off < 8; off++) {
		for (len = 0; len <= 200; len++) {
			uint64_t s;

			memset(dst, 0, sizeof(dst));
			s = csum_copy(dst + 3, src + off, len,
				      len & 1 ? dst + 3 : src + off);
			assert_memory_equal(dst + 3, src + off, len);
			assert_int_equal(dst[3 + len], 0);
			assert_int_equal(csum_finish(s),
					 plain_sum(src + off, len));
		}
	}
	memset(src, 0xff, sizeof(src));
	assert_int_equal(csum_finish(csum_copy(dst, src, 256, src)),
			 plain_sum(src, 256));
}

static void test_copy_through_the_ring_sums_right_at_every_split(void **state)
{
	uint8_t src[64], ring[64], out[64];
	uint32_t pos, len, i;

	for (i = 0; i < sizeof(src); i++)
		src[i] = (uint8_t)(i * 37 + 11);
	for (pos = 0; pos < 64; pos++) {
		for (len = 0; len <= 64; len++) {
			uint64_t in, back;

			in = csum_copy_into(ring, 64, pos, src, len);
			back = csum_copy_from(out, ring, 64, pos, len);
			assert_memory_equal(out, src, len);
			assert_int_equal(csum_finish(in), plain_sum(src, len));
			assert_int_equal(csum_finish(back),
					 plain_sum(src, len));
		}
	}
}

/* ---- the wheel
 * ------------------------------------------------------------------ */

#define MS UINT64_C(1000000)

static void test_nodes_come_up_at_their_time_not_before(void **state)
{
	static const uint32_t at_ms[] = {1,    2,    40,   41,	  200,
					 1000, 4200, 4400, 60000, 120000};
	struct host *h = host_new(&(struct variant){.isn = 1});
	struct timers *t = &h->core->timers;
	static struct flow_ext x;
	struct flow f[10];
	uint64_t start = h->now_ns;
	uint32_t i, k = 0;

	memset(f, 0, sizeof(f));
	for (i = 0; i < 10; i++) {
		f[i].state = FLOW_OPEN;
		f[i].ext = &x;
		f[i].ack_at = start + at_ms[i] * MS;
		timers_queue(t, &f[i], f[i].ack_at);
	}
	while (k < 10) {
		uint64_t wait = timers_next_ns(t, h->now_ns);

		assert_true(wait != UINT64_MAX);
		h->now_ns += wait ? wait : 1;
		h->core->now_ns = h->now_ns;
		h->core->n_listed = 0;
		timers_run(h->core);
		for (i = 0; i < 10; i++) {
			if (!f[i].ack_now)
				continue;
			f[i].ack_now = f[i].listed = false;
			assert_true(h->now_ns >= start + at_ms[i] * MS);
			assert_true(h->now_ns <=
				    start + at_ms[i] * MS + 3 * MS);
			k++;
		}
	}
	h->core->n_listed = 0;
	assert_int_equal(t->n_queued, 0);
	assert_true(timers_next_ns(t, h->now_ns) == UINT64_MAX);
	host_close(h);
}

static void test_an_earlier_deadline_moves_the_node(void **state)
{
	struct host *h = host_new(&(struct variant){.isn = 1});
	struct timers *t = &h->core->timers;
	static struct flow_ext x;
	struct flow f = {.state = FLOW_OPEN, .ext = &x};

	timers_queue(t, &f, h->now_ns + 200 * MS);
	timers_queue(t, &f, h->now_ns + 300 * MS);
	assert_int_equal(t->n_queued, 1);
	timers_queue(t, &f, h->now_ns + 40 * MS);
	assert_int_equal(t->n_queued, 1);
	assert_true(timers_next_ns(t, h->now_ns) <= 42 * MS);
	timers_remove(t, &f);
	timers_remove(t, &f);
	assert_int_equal(t->n_queued, 0);
	host_close(h);
}

static void test_a_long_sleep_visits_everything_once(void **state)
{
	struct host *h = host_new(&(struct variant){.isn = 1});
	struct timers *t = &h->core->timers;
	static struct flow_ext x;
	struct flow f[2];

	memset(f, 0, sizeof(f));
	f[0].ext = f[1].ext = &x;
	f[0].state = f[1].state = FLOW_OPEN;
	timers_queue(t, &f[0], h->now_ns + 10 * MS);
	timers_queue(t, &f[1], h->now_ns + 4000 * MS);
	h->now_ns += 3600000 * MS;
	host_turn(h);
	assert_int_equal(t->n_queued, 0);
	host_close(h);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			test_table_finds_what_is_in_it_and_nothing_else),
		cmocka_unit_test(test_senseless_sizes_are_refused),
		cmocka_unit_test(test_copy_sums_like_the_plain_checksum),
		cmocka_unit_test(
			test_copy_through_the_ring_sums_right_at_every_split),
		cmocka_unit_test(test_nodes_come_up_at_their_time_not_before),
		cmocka_unit_test(test_an_earlier_deadline_moves_the_node),
		cmocka_unit_test(test_a_long_sleep_visits_everything_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
