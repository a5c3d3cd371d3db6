/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_impairment.c - a bad wire is exactly as bad as it was asked to be
 *
 * The modules belong to one program and are in no library: they are included.
 * The clock is a number; every statistic has a fixed seed, and bounds of about
 * four standard deviations.
 */
#include "bench/impairment.c" // NOLINT(bugprone-suspicious-include): see above
#include "bench/impairment_spec.c" // NOLINT(bugprone-suspicious-include)

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define FRAMES 100000u
#define MS 1000000ull
#define LEN 1000u

static struct impairment *impairment_new(uint64_t seed, const char *spec)
{
	char err[IMPAIRMENT_ERR_MAX] = "";
	struct impairment *im = calloc(1, sizeof(*im));

	assert_non_null(im);
	impairment_init(im, seed, 0);
	if (impairment_set(im, spec, err) < 0)
		fail_msg("%s: %s", spec, err);
	return im;
}

static void change(struct impairment *im, const char *spec)
{
	char err[IMPAIRMENT_ERR_MAX] = "";

	assert_int_equal(impairment_set(im, spec, err), 0);
}

/* ---- frames -------------------------------------------------------------- */

static void put_word(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static uint16_t sum_of(const uint8_t *p, size_t len)
{
	uint32_t s = 0;
	size_t i;

	for (i = 0; i < len; i += 2)
		s += word(p + i);
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return (uint16_t)~s;
}

/* TCP over IPv4: len bytes of frame, of which the last are padding */
static void make_ip4(uint8_t *f, uint32_t len, uint32_t padding, uint8_t ecn)
{
	memset(f, 0x5a, len);
	put_word(f + 12, ETHERTYPE_IP);
	memset(f + 14, 0, 40);
	f[14] = 0x45;
	f[15] = ecn;
	put_word(f + 16, len - ETH_HLEN - padding);
	f[22] = 64;
	f[23] = IPPROTO_TCP;
	put_word(f + 26, 10 << 8 | 9);
	put_word(f + 28, 1);
	put_word(f + 30, 10 << 8 | 9);
	put_word(f + 32, 2);
	f[34 + 12] = 0x50;
	put_word(f + 24, sum_of(f + 14, 20));
}

static void make_ip6(uint8_t *f, uint32_t len, uint8_t ecn, uint8_t next)
{
	memset(f, 0x5a, len);
	put_word(f + 12, ETHERTYPE_IPV6);
	memset(f + 14, 0, 60);
	f[14] = 0x60;
	f[15] = (uint8_t)(ecn << 4);
	put_word(f + 18, len - ETH_HLEN - 40);
	f[20] = next;
	if (next == IPPROTO_TCP)
		f[54 + 12] = 0x50;
}

/* One frame; the number of copies that go out, the first of them in *out */
static unsigned int pass_at(struct impairment *im, uint64_t now, uint32_t len,
			    struct impairment_out *out)
{
	struct impairment_out copies[IMPAIRMENT_COPIES] = {0};
	uint8_t f[2048];
	unsigned int n;

	make_ip4(f, len, 0, 0);
	n = impairment_decide(im, now, f, len, copies);
	if (out)
		*out = copies[0];
	return n;
}

static bool passes(struct impairment *im)
{
	return pass_at(im, 0, LEN, NULL) > 0;
}

/* ---- loss ---------------------------------------------------------------- */

static void test_without_impairments_frames_go_at_once(void **state)
{
	struct impairment *im = impairment_new(1, "");
	struct impairment_out out;

	assert_int_equal(pass_at(im, 77, LEN, &out), 1);
	assert_int_equal(out.at_ns, 77);
	assert_int_equal(out.behind, 0);
	assert_int_equal(im->counters.frames, 1);
	assert_int_equal(im->counters.bytes, LEN);
	free(im);
}

static void test_loss_is_as_frequent_as_asked(void **state)
{
	static const struct {
		const char *spec;
		unsigned int min, max;
	} cases[] = {
		{"loss=0", 0, 0},
		{"loss=0.1", 60, 140},
		{"loss=1", 875, 1125},
		{"loss=50%", 49300, 50700},
		{"loss=100", FRAMES, FRAMES},
	};
	size_t c;

	for (c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
		struct impairment *im = impairment_new(1, cases[c].spec);
		unsigned int i, lost = 0;

		for (i = 0; i < FRAMES; i++)
			lost += !passes(im);
		assert_in_range(lost, cases[c].min, cases[c].max);
		assert_int_equal(im->counters.lost, lost);
		assert_int_equal(im->counters.lost_random, lost);
		free(im);
	}
}

static void test_a_seed_repeats_and_another_differs(void **state)
{
	const char *spec = "loss=10,duplicate=5,jitter=3ms,delay=5ms,"
			   "reorder=2/2p,corrupt=1,burst=1/30";
	struct impairment *a = impairment_new(7, spec);
	struct impairment *b = impairment_new(7, spec);
	struct impairment *c = impairment_new(8, spec);
	unsigned int i, differ = 0, n;
	struct impairment_out x, y;

	for (i = 0; i < 10000; i++) {
		n = pass_at(a, i, LEN, &x);
		assert_int_equal(pass_at(b, i, LEN, &y), n);
		assert_memory_equal(&x, &y, sizeof(x));
		differ += pass_at(c, i, LEN, NULL) != n;
	}
	assert_memory_equal(&a->counters, &b->counters, sizeof(a->counters));
	assert_true(differ > 1000);
	free(a);
	free(b);
	free(c);
}

static void test_directions_of_a_seed_differ(void **state)
{
	struct impairment *a = impairment_new(7, "loss=50");
	struct impairment *b = impairment_new(7, "loss=50");
	unsigned int i, differ = 0;

	impairment_init(b, 7, 1);
	for (i = 0; i < 1000; i++)
		differ += passes(a) != passes(b);
	assert_in_range(differ, 430, 570);
	free(a);
	free(b);
}

static void test_other_impairments_do_not_move_the_losses(void **state)
{
	struct impairment *a = impairment_new(7, "loss=10");
	struct impairment *b = impairment_new(7, "loss=10,jitter=1ms,"
						 "duplicate=20,corrupt=20");
	unsigned int i;

	for (i = 0; i < 1000; i++)
		assert_int_equal(passes(a), passes(b));
	free(a);
	free(b);
}

static void test_bursts_are_as_long_and_as_frequent_as_asked(void **state)
{
	struct impairment *im = impairment_new(3, "burst=1/25");
	unsigned int i, lost = 0, bursts = 0;
	bool before = false, now;

	for (i = 0; i < FRAMES; i++, before = now) {
		now = !passes(im);
		lost += now;
		bursts += now && !before;
	}
	/* mean length 1/r = 4; share of lost frames p/(p+r) = 1/26 */
	assert_in_range(lost * 1000 / bursts, 3700, 4300);
	assert_in_range(lost, 3400, 4300);
	assert_int_equal(im->counters.lost_burst, lost);
	change(im, "burst=0");
	for (i = 0; i < 1000; i++)
		assert_true(passes(im));
	free(im);
}

static void test_given_frames_are_lost_and_no_others(void **state)
{
	struct impairment *im = impairment_new(1, "drop=2,5-6,9");
	unsigned int i, lost = 0;

	for (i = 1; i <= 20; i++) {
		/* an ACK without data has no number */
		assert_int_equal(pass_at(im, 0, 54, NULL), 1);
		if (!passes(im))
			lost |= 1u << i;
	}
	assert_int_equal(lost, 1u << 2 | 1u << 5 | 1u << 6 | 1u << 9);
	assert_int_equal(im->counters.lost_given, 4);
	assert_int_equal(im->counters.data_frames, 20);
	free(im);
}

static void test_a_new_drop_counts_from_the_next_frame(void **state)
{
	struct impairment *im = impairment_new(1, "");

	assert_true(passes(im));
	change(im, "drop=1");
	change(im, "delay=1ms");
	assert_false(passes(im));
	assert_true(passes(im));
	free(im);
}

static void test_padding_is_no_data(void **state)
{
	struct impairment *im = impairment_new(1, "drop=1");
	struct impairment_out out[IMPAIRMENT_COPIES];
	uint8_t f[60];

	make_ip4(f, sizeof(f), 6, 0);
	assert_int_equal(impairment_decide(im, 0, f, sizeof(f), out), 1);
	free(im);
}

static void test_control_frames_are_only_delayed(void **state)
{
	struct impairment *im = impairment_new(1, "loss=100,delay=3ms,"
						  "rate=1kbit");
	struct impairment_out out[IMPAIRMENT_COPIES];
	uint8_t f[100];

	memset(f, 0, sizeof(f));
	put_word(f + 12, ETHERTYPE_ARP);
	assert_int_equal(impairment_decide(im, 5, f, sizeof(f), out), 1);
	assert_int_equal(out[0].at_ns, 5 + 3 * MS);
	make_ip6(f, sizeof(f), 0, IPPROTO_ICMPV6);
	f[54] = 135; /* neighbour solicitation */
	assert_int_equal(impairment_decide(im, 5, f, sizeof(f), out), 1);
	make_ip6(f, sizeof(f), 0, IPPROTO_HOPOPTS);
	f[54] = IPPROTO_ICMPV6;
	f[62] = 143; /* multicast listener report */
	assert_int_equal(impairment_decide(im, 5, f, sizeof(f), out), 1);
	assert_int_equal(im->counters.control, 3);
	make_ip6(f, sizeof(f), 0, IPPROTO_ICMPV6);
	f[54] = 128; /* echo */
	assert_int_equal(impairment_decide(im, 5, f, sizeof(f), out), 0);
	assert_int_equal(im->counters.frames, 1);
	free(im);
}

static void test_short_frames_are_survived(void **state)
{
	struct impairment *im = impairment_new(1, "corrupt=100,drop=1-9,"
						  "rate=1mbit,ecn=1p");
	struct impairment_out out[IMPAIRMENT_COPIES];
	uint8_t *f;
	uint32_t len;

	/* on the heap, so that a sanitizer sees where they end */
	for (len = 0; len < 100; len++) {
		f = calloc(1, len + 1);
		assert_non_null(f);
		if (len >= 80)
			make_ip6(f, len, 2, IPPROTO_DSTOPTS);
		else if (len >= 54)
			make_ip4(f, len, 0, 2);
		else if (len > 14)
			f[12] = len & 1 ? 0x86 : 0x08,
			f[13] = len & 1 ? 0xdd : 0;
		impairment_decide(im, 0, f, len, out);
		free(f);
	}
	free(im);
}

/* ---- copies and contents --------------------------------------------------
 */

static void test_duplicates_are_counted_and_go_out_twice(void **state)
{
	struct impairment *im = impairment_new(1, "duplicate=10");
	unsigned int i, n = 0;

	for (i = 0; i < FRAMES; i++)
		n += pass_at(im, 0, LEN, NULL);
	assert_in_range(n - FRAMES, 9600, 10400);
	assert_int_equal(im->counters.duplicated, n - FRAMES);
	free(im);
}

static unsigned int bits_between(const uint8_t *a, const uint8_t *b,
				 uint32_t len, uint32_t *where)
{
	unsigned int n = 0;
	uint32_t i;

	for (i = 0; i < len; i++) {
		if (a[i] != b[i])
			*where = i;
		n += (unsigned int)__builtin_popcount(a[i] ^ b[i]);
	}
	return n;
}

static void test_corruption_flips_one_bit_of_the_ip_payload(void **state)
{
	struct impairment *im = impairment_new(1, "corrupt=100");
	struct impairment_out out[IMPAIRMENT_COPIES];
	uint8_t was[60], f[60];
	uint64_t hit = 0;
	uint32_t where = 0;
	unsigned int i;

	make_ip4(was, sizeof(was), 3, 0);
	for (i = 0; i < 10000; i++) {
		memcpy(f, was, sizeof(f));
		assert_int_equal(impairment_decide(im, 0, f, sizeof(f), out),
				 1);
		assert_int_equal(bits_between(was, f, sizeof(f), &where), 1);
		assert_in_range(where, 34, 56);
		hit |= 1ull << where;
	}
	/* every byte of it, sometimes */
	assert_true(hit == ((1ull << 57) - 1) - ((1ull << 34) - 1));
	assert_int_equal(im->counters.corrupted, 10000);
	free(im);
}

/* ---- the bottleneck ------------------------------------------------------ */

static void test_frames_leave_at_the_rate(void **state)
{
	struct impairment *im = impairment_new(1, "rate=100mbit,delay=1ms");
	struct impairment_out out;
	unsigned int i;

	for (i = 1; i <= 10; i++) {
		pass_at(im, 500, LEN, &out);
		assert_int_equal(out.at_ns, 500 + i * 80000 + MS);
	}
	/* idle again, then from the frame's arrival */
	pass_at(im, 5 * MS, LEN, &out);
	assert_int_equal(out.at_ns, 5 * MS + 80000 + MS);
	free(im);
}

static void test_no_fraction_of_a_nanosecond_gets_lost(void **state)
{
	struct impairment *im = impairment_new(1, "rate=7gbit,queue=65536p");
	struct impairment_out out = {0};
	unsigned int i;

	for (i = 0; i < 7000; i++)
		pass_at(im, 0, LEN, &out);
	assert_int_equal(out.at_ns, 8 * MS);
	free(im);
}

static void test_the_queue_holds_its_bytes_and_no_more(void **state)
{
	struct impairment *im = impairment_new(1, "rate=8mbit,queue=10k");
	unsigned int i;

	for (i = 0; i < 10; i++)
		assert_true(passes(im));
	assert_false(passes(im));
	assert_int_equal(pass_at(im, 1 * MS - 1, LEN, NULL), 0);
	assert_int_equal(pass_at(im, 1 * MS, LEN, NULL), 1);
	assert_int_equal(pass_at(im, 1 * MS, 60, NULL), 0);
	assert_int_equal(im->counters.queue_drops, 3);
	assert_int_equal(im->counters.queue_max_bytes, 10000);
	assert_int_equal(im->counters.queue_max_frames, 10);
	assert_int_equal(im->counters.lost, 0);
	free(im);
}

static void test_the_queue_holds_its_frames_and_no_more(void **state)
{
	struct impairment *im = impairment_new(1, "rate=8mbit,queue=3p");

	assert_true(passes(im));
	assert_true(passes(im));
	assert_true(passes(im));
	assert_false(passes(im));
	assert_int_equal(pass_at(im, 2 * MS, LEN, NULL), 1);
	assert_int_equal(pass_at(im, 2 * MS, LEN, NULL), 1);
	assert_int_equal(pass_at(im, 2 * MS, LEN, NULL), 0);
	free(im);
}

static void test_a_duplicate_takes_room_of_its_own(void **state)
{
	struct impairment *im = impairment_new(1, "rate=8mbit,queue=3p,"
						  "duplicate=100");

	assert_int_equal(pass_at(im, 0, LEN, NULL), 2);
	assert_int_equal(pass_at(im, 0, LEN, NULL), 1);
	assert_int_equal(im->counters.queue_drops, 1);
	free(im);
}

/* What becomes of the ECN field behind so many frames in the queue */
static uint8_t field_after(const char *spec, unsigned int queued, uint8_t ecn,
			   bool v6)
{
	struct impairment *im = impairment_new(1, spec);
	struct impairment_out out[IMPAIRMENT_COPIES];
	uint8_t f[LEN], was[LEN];

	while (queued--)
		passes(im);
	if (v6)
		make_ip6(f, LEN, ecn, IPPROTO_TCP);
	else
		make_ip4(f, LEN, 0, ecn);
	memcpy(was, f, LEN);
	assert_int_equal(impairment_decide(im, 0, f, LEN, out), 1);
	assert_int_equal(im->counters.marked, memcmp(f, was, LEN) != 0);
	free(im);
	if (v6)
		return f[15] >> 4 & 3;
	assert_int_equal(sum_of(f + 14, 20), 0);
	return f[15] & 3;
}

static void test_ce_is_set_above_the_threshold_where_ecn_is_spoken(void **state)
{
	const char *frames = "rate=8mbit,ecn=5p", *bytes = "rate=8mbit,ecn=5k";
	int v6;

	for (v6 = 0; v6 < 2; v6++) {
		assert_int_equal(field_after(frames, 5, 2, v6), 2);
		assert_int_equal(field_after(frames, 6, 2, v6), 3);
		assert_int_equal(field_after(frames, 6, 1, v6), 3);
		assert_int_equal(field_after(frames, 6, 0, v6), 0);
		assert_int_equal(field_after(frames, 6, 3, v6), 3);
		assert_int_equal(field_after(bytes, 5, 2, v6), 2);
		assert_int_equal(field_after(bytes, 6, 2, v6), 3);
	}
}

/* ---- time ---------------------------------------------------------------- */

/* Mean and standard deviation of the delay in us, of frames far apart */
static void delays(const char *spec, double *mean, double *deviation,
		   double *max)
{
	struct impairment *im = impairment_new(5, spec);
	struct impairment_out out;
	double sum = 0, squares = 0, us;
	unsigned int i;

	*max = 0;
	for (i = 0; i < FRAMES; i++) {
		uint64_t now = (i + 1ull) * 1000 * MS;

		pass_at(im, now, LEN, &out);
		us = (double)(out.at_ns - now) / 1000;
		sum += us;
		squares += us * us;
		if (us > *max)
			*max = us;
	}
	*mean = sum / FRAMES;
	*deviation = squares / FRAMES - *mean * *mean; /* its square */
	free(im);
}

static void test_jitter_has_the_shape_asked_for(void **state)
{
	double mean, square, max;

	delays("delay=50ms,jitter=6ms", &mean, &square, &max);
	assert_in_range((unsigned int)mean, 49900, 50100);
	assert_in_range((unsigned int)max, 55990, 56000);
	/* (2 * 6 ms)^2 / 12 */
	assert_in_range((unsigned int)(square / 1000), 11800, 12200);
	delays("delay=50ms,jitter=6ms/normal", &mean, &square, &max);
	assert_in_range((unsigned int)mean, 49900, 50100);
	assert_in_range((unsigned int)(square / 1000), 35300, 36700);
	assert_true(max > 50000 + 3.5 * 6000);
}

static unsigned int overtakings(const char *spec)
{
	struct impairment *im = impairment_new(5, spec);
	struct impairment_out out;
	uint64_t before = 0;
	unsigned int i, n = 0;

	for (i = 0; i < 10000; i++, before = out.at_ns) {
		pass_at(im, i * MS, LEN, &out);
		n += out.at_ns < before;
	}
	free(im);
	return n;
}

static void test_jitter_keeps_the_order_unless_it_is_free(void **state)
{
	assert_int_equal(overtakings("delay=20ms,jitter=10ms"), 0);
	assert_true(overtakings("delay=20ms,jitter=10ms,order=free") > 3000);
	assert_int_equal(overtakings("delay=20ms"), 0);
}

static void test_a_shorter_delay_waits_for_what_is_on_its_way(void **state)
{
	struct impairment *im = impairment_new(1, "delay=20ms");
	struct impairment_out out;

	pass_at(im, 0, LEN, &out);
	change(im, "delay=0");
	pass_at(im, 1, LEN, &out);
	assert_int_equal(out.at_ns, 20 * MS);
	pass_at(im, 30 * MS, LEN, &out);
	assert_int_equal(out.at_ns, 30 * MS);
	free(im);
}

static void test_some_frames_are_held_back(void **state)
{
	struct impairment *im = impairment_new(1, "reorder=10/3p");
	struct impairment_out out;
	unsigned int i, held = 0;

	for (i = 0; i < FRAMES; i++) {
		pass_at(im, 0, LEN, &out);
		assert_int_equal(out.behind, out.overtakes ? 0 : 3);
		held += out.behind == 3;
	}
	assert_in_range(held, 9600, 10400);
	assert_int_equal(im->counters.reordered, held);
	change(im, "reorder=100/2ms");
	pass_at(im, 0, LEN, &out);
	assert_int_equal(out.behind, 0);
	assert_int_equal(out.at_ns, 2 * MS);
	/* others do not wait for it */
	change(im, "reorder=0");
	pass_at(im, 0, LEN, &out);
	assert_int_equal(out.at_ns, 0);
	free(im);
}

/* ---- what is asked for ----------------------------------------------------
 */

static void test_a_line_changes_what_it_names_alone(void **state)
{
	struct impairment *im = impairment_new(
		1, "loss=0.01,delay=1.5ms,rate=1.5gbit,queue=500k,drop=1,3-4");

	assert_true(im->spec.loss > 0.000099 && im->spec.loss < 0.000101);
	assert_int_equal(im->spec.delay_ns, 1500000);
	assert_int_equal(im->spec.rate, 1500000000);
	assert_int_equal(im->spec.queue.bytes, 500000);
	assert_int_equal(im->spec.drops, 2);
	change(im, "delay=0,queue=7p");
	assert_int_equal(im->spec.delay_ns, 0);
	assert_int_equal(im->spec.queue.bytes, 0);
	assert_int_equal(im->spec.queue.frames, 7);
	assert_int_equal(im->spec.rate, 1500000000);
	change(im, "rate=0");
	assert_int_equal(im->spec.queue.frames, 0);
	assert_int_equal(im->spec.drops, 2);
	change(im, "clear,delay=1s");
	assert_int_equal(im->spec.drops, 0);
	assert_true(im->spec.loss <= 0);
	assert_int_equal(im->spec.delay_ns, 1000 * MS);
	free(im);
}

static void test_bad_lines_are_refused_and_change_nothing(void **state)
{
	static const char *const bad[] = {"loss",
					  "loss=",
					  "loss=x",
					  "loss=101",
					  "loss=-1",
					  "loss=1e1",
					  "loss=nan",
					  "lost=1",
					  "delay=5",
					  "delay=11s",
					  "delay=5m",
					  "jitter=5ms/odd",
					  "order=maybe",
					  "rate=5",
					  "rate=1bit",
					  "rate=10mbit,queue=0",
					  "rate=10mbit,queue=100b",
					  "queue=5p",
					  "ecn=5k",
					  "burst=1",
					  "burst=1/0",
					  "reorder=1",
					  "reorder=1/0p",
					  "reorder=1/1.5p",
					  "drop=0",
					  "drop=5-4",
					  "drop=",
					  "drop=1,x",
					  "loss=1,2",
					  "7",
					  "delay=5ms,",
					  ",",
					  "rate=10mbit,queue=1.5p",
					  "rate=10mbit,queue=65537p",
					  "drop=1-",
					  "delay=5msx"};
	struct impairment *im = impairment_new(1, "loss=3,delay=7ms");
	struct impairment_spec was = im->spec;
	char err[IMPAIRMENT_ERR_MAX];
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		err[0] = '\0';
		if (!impairment_set(im, bad[i], err))
			fail_msg("taken: %s", bad[i]);
		assert_true(err[0]);
		assert_memory_equal(&was, &im->spec, sizeof(was));
	}
	free(im);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_without_impairments_frames_go_at_once),
		cmocka_unit_test(test_loss_is_as_frequent_as_asked),
		cmocka_unit_test(test_a_seed_repeats_and_another_differs),
		cmocka_unit_test(test_directions_of_a_seed_differ),
		cmocka_unit_test(test_other_impairments_do_not_move_the_losses),
		cmocka_unit_test(
			test_bursts_are_as_long_and_as_frequent_as_asked),
		cmocka_unit_test(test_given_frames_are_lost_and_no_others),
		cmocka_unit_test(test_a_new_drop_counts_from_the_next_frame),
		cmocka_unit_test(test_padding_is_no_data),
		cmocka_unit_test(test_control_frames_are_only_delayed),
		cmocka_unit_test(test_short_frames_are_survived),
		cmocka_unit_test(test_duplicates_are_counted_and_go_out_twice),
		cmocka_unit_test(
			test_corruption_flips_one_bit_of_the_ip_payload),
		cmocka_unit_test(test_frames_leave_at_the_rate),
		cmocka_unit_test(test_no_fraction_of_a_nanosecond_gets_lost),
		cmocka_unit_test(test_the_queue_holds_its_bytes_and_no_more),
		cmocka_unit_test(test_the_queue_holds_its_frames_and_no_more),
		cmocka_unit_test(test_a_duplicate_takes_room_of_its_own),
		cmocka_unit_test(
			test_ce_is_set_above_the_threshold_where_ecn_is_spoken),
		cmocka_unit_test(test_jitter_has_the_shape_asked_for),
		cmocka_unit_test(test_jitter_keeps_the_order_unless_it_is_free),
		cmocka_unit_test(
			test_a_shorter_delay_waits_for_what_is_on_its_way),
		cmocka_unit_test(test_some_frames_are_held_back),
		cmocka_unit_test(test_a_line_changes_what_it_names_alone),
		cmocka_unit_test(test_bad_lines_are_refused_and_change_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
