/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_fragment.c - IP fragments of TCP segments, in any order and shape
 *
 * The input is a list of steps: pieces of datagrams of some hosts, IPv4 and
 * IPv6, in any order, overlapping, again, of any length; pieces of many other
 * datagrams, so that the oldest give way; damaged pieces; time that passes.
 * Each piece lies in memory of exactly its length.
 *
 * What must hold: while nothing had to give way, each answer is that of a
 * model, which keeps a byte for each byte of a datagram and works by the rules
 * that fragment.c opens with. Whatever gave way, a whole datagram consists of
 * bytes that were sent for it, at their places, and its lengths and checksum
 * are right.
 */
#include "slowpath/fragment.h"
#include "tests/fuzz/fuzz.h"

#include <netinet/ip6.h>

#define SETS 64u /* that are kept */
#define LIFE_NS UINT64_C(30000000000)
#define KEYS 8u /* of the model; one more would be a flood's */
#define FRAME (FP_FRAME_MAX + 256u)

struct piece {
	uint32_t key; /* below KEYS, or of the flood */
	uint32_t off, len;
	uint8_t salt; /* of its bytes */
	uint8_t ecn;  /* its two bits */
	bool v6, more;
};

struct datagram {
	uint64_t born_ns; /* 0: there is none */
	uint32_t total, n;
	uint8_t ecn; /* of the first piece */
	bool ce, ect, not_ect;
	uint8_t have[FP_FRAME_MAX], data[FP_FRAME_MAX];
	/* Bytes that were ever sent here, by value: for what gave way. */
	uint8_t sent[FP_FRAME_MAX][4]; /* of four salts */
};

static struct datagram model[2][KEYS];
static bool exact; /* nothing gave way */
static uint32_t flood;

static uint8_t byte_of(const struct piece *p, uint32_t at)
{
	return (uint8_t)(at * 31 + (at >> 8) + p->salt * 64u + p->key);
}

static uint32_t hdr_of(const struct piece *p)
{
	return ETH_HLEN + (p->v6 ? 40u : 20u);
}

/* ---- the model -------------------------------------------------------------
 */

/* How many of the piece's bytes are there already. */
static uint32_t here(const struct datagram *d, uint32_t from, uint32_t to)
{
	uint32_t n = 0;

	for (; from < to && from < FP_FRAME_MAX; from++)
		n += d->have[from];
	return n;
}

static bool senseless(const struct datagram *d, const struct piece *p)
{
	uint32_t end = p->off + p->len;

	if (end > FP_FRAME_MAX - hdr_of(p) || (p->more && p->len % 8))
		return true;
	return d->total && (p->more ? end > d->total : end != d->total);
}

static enum fragment_is model_take(struct datagram *d, const struct piece *p,
				   uint64_t now_ns)
{
	uint32_t end = p->off + p->len, n, i;

	/* All of TCP's header is in the first one, or it isn't looked at. */
	if (p->v6 && !p->off && p->len < 20)
		return FRAGMENT_KEPT;
	if (d->born_ns && now_ns - d->born_ns > LIFE_NS)
		d->born_ns = 0;
	if (!d->born_ns) {
		memset(d, 0, offsetof(struct datagram, sent));
		d->born_ns = now_ns;
	}
	n = here(d, p->off, end);
	if (!senseless(d, p) && n == p->len)
		goto known;
	if (senseless(d, p) || n || (!p->more && here(d, end, FP_FRAME_MAX))) {
		d->born_ns = 0;
		return FRAGMENT_KEPT;
	}
	for (i = p->off; i < end; i++) {
		d->have[i] = 1;
		d->data[i] = byte_of(p, i);
	}
	d->n += p->len;
	d->ce |= p->ecn == 3;
	d->ect |= p->ecn != 0;
	d->not_ect |= p->ecn == 0;
	if (!p->off)
		d->ecn = p->ecn;
	d->total = p->more ? d->total : end;
known:
	if (!d->total || d->n < d->total)
		return FRAGMENT_KEPT;
	d->born_ns = 0;
	return d->ect && d->not_ect ? FRAGMENT_KEPT : FRAGMENT_WHOLE;
}

/* ---- pieces ----------------------------------------------------------------
 */

static void put_be16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void build_ip6(uint8_t *b, const struct piece *p)
{
	put_be16(b + 12, ETHERTYPE_IPV6);
	b += ETH_HLEN;
	b[0] = 0x60;
	b[1] = (uint8_t)(p->ecn << 4);
	put_be16(b + 4, p->len + 8);
	b[6] = IPPROTO_FRAGMENT;
	b[23] = 1;
	b[39] = 2;
	b[40] = IPPROTO_TCP;
	put_be16(b + 42, p->off | p->more);
	put_be16(b + 46, p->key);
}

static void build_ip4(uint8_t *b, const struct piece *p)
{
	uint16_t sum;

	put_be16(b + 12, ETHERTYPE_IP);
	b += ETH_HLEN;
	b[0] = 0x45;
	b[1] = p->ecn;
	put_be16(b + 2, 20 + p->len);
	put_be16(b + 4, p->key);
	put_be16(b + 6, p->off / 8 | (p->more ? 0x2000u : 0));
	b[8] = 64;
	b[9] = IPPROTO_TCP;
	b[15] = 1;
	b[19] = 2;
	sum = csum_fold(csum_add(b, 20, 0));
	memcpy(b + 10, &sum, 2);
}

static uint32_t build(uint8_t *b, const struct piece *p)
{
	uint32_t at = hdr_of(p) + (p->v6 ? 8u : 0), i;

	memset(b, 0, at);
	if (p->v6)
		build_ip6(b, p);
	else
		build_ip4(b, p);
	for (i = 0; i < p->len; i++)
		b[at + i] = byte_of(p, p->off + i);
	return at + p->len;
}

/* ---- what comes out --------------------------------------------------------
 */

static void check_headers(const uint8_t *whole, uint32_t len, bool v6)
{
	const uint8_t *ip = whole + ETH_HLEN;

	require(len > ETH_HLEN + (v6 ? 40u : 20u) && len <= FP_FRAME_MAX);
	if (v6) {
		require(ip[6] == IPPROTO_TCP);
		require((ip[4] << 8 | ip[5]) + 54u == len);
		return;
	}
	require(ip[9] == IPPROTO_TCP && !ip[6] && !ip[7]);
	require((ip[2] << 8 | ip[3]) + 14u == len);
	require(csum_fold(csum_add(ip, 20, 0)) == 0);
}

static void check_whole(const struct piece *p, const uint8_t *whole,
			uint32_t len)
{
	const struct datagram *d = &model[p->v6][p->key];
	const uint8_t *data = whole + hdr_of(p);
	uint32_t tos, i;

	check_headers(whole, len, p->v6);
	tos = p->v6 ? whole[15] >> 4 & 3u : whole[15] & 3u;
	for (i = 0; i < len - hdr_of(p); i++)
		require(memchr(d->sent[i], data[i], 4));
	if (!exact)
		return;
	require(len == hdr_of(p) + d->total);
	require(!memcmp(data, d->data, d->total));
	require(tos == (d->ce ? 3 : d->ecn));
}

static enum fragment_is give(struct fragments *fr, uint64_t now_ns,
			     const uint8_t *b, uint32_t len,
			     const uint8_t **whole, uint32_t *whole_len)
{
	uint8_t *copy = malloc(len + 2); /* IP headers aligned, the end exact */
	enum fragment_is is;

	require(copy);
	memcpy(copy + 2, b, len);
	is = fragment_take(fr, now_ns, copy + 2, len, whole, whole_len);
	require(!memcmp(copy + 2, b, len));
	free(copy);
	return is;
}

/* ---- steps -----------------------------------------------------------------
 */

static void step_piece(struct fragments *fr, struct input *in, uint64_t now_ns,
		       bool odd)
{
	uint32_t how = take(in, 1), whole_len = 0, i, len;
	enum fragment_is is, want;
	struct piece p = {.key = how % KEYS};
	const uint8_t *whole = NULL;
	struct datagram *d;
	uint8_t b[FRAME];

	p.v6 = how & 8;
	p.more = how & 16;
	p.ecn = how & 32 ? take(in, 1) & 3 : 2;
	p.salt = how >> 6;
	p.off = take(in, 1) * 8;
	p.len = take(in, 1) * 8;
	if (odd) {
		p.off = take(in, 2) & 0xfff8;
		p.len += take(in, 1) % 16;
	}
	if (!p.more)
		p.len += take(in, 1) & 7;
	if (!p.len || p.len > 2048)
		return;
	d = &model[p.v6][p.key];
	for (i = p.off; i < p.off + p.len && i < FP_FRAME_MAX; i++)
		d->sent[i][p.salt] = byte_of(&p, i);
	len = build(b, &p);
	is = give(fr, now_ns, b, len, &whole, &whole_len);
	if (!p.v6 && !p.off && !p.more) {
		require(is == FRAGMENT_NOT);
		return;
	}
	want = model_take(d, &p, now_ns);
	require(is != FRAGMENT_NOT);
	require(!exact || is == want);
	if (is == FRAGMENT_WHOLE)
		check_whole(&p, whole, whole_len);
}

/* A first piece of each of @n datagrams that no one else knows of. */
static void step_flood(struct fragments *fr, uint64_t now_ns, uint32_t n)
{
	struct piece p = {.len = 8, .more = true};
	uint32_t whole_len, len;
	const uint8_t *whole;
	uint8_t b[FRAME];

	if (2 * KEYS + (flood += n) > SETS)
		exact = false;
	for (; n; n--) {
		p.key = KEYS + n + (flood & 0xff) * 256;
		len = build(b, &p);
		require(give(fr, now_ns, b, len, &whole, &whole_len) ==
			FRAGMENT_KEPT);
	}
}

/* Another one's, so that what it does there concerns no other step. */
static void step_damaged(struct fragments *fr, struct input *in,
			 uint64_t now_ns)
{
	struct piece p = {.key = take(in, 1) % 4, .v6 = take(in, 1) & 1};
	uint32_t n = take(in, 1) % 8, whole_len, len;
	const uint8_t *whole;
	uint8_t b[FRAME];

	p.len = take(in, 1) * 8 + 8;
	p.off = take(in, 1) * 8;
	p.more = n & 1;
	len = build(b, &p);
	while (n--)
		b[take(in, 1) % 64] ^= take(in, 1);
	if (take(in, 1) & 1)
		len = take(in, 1);
	if (give(fr, now_ns, b, len, &whole, &whole_len) == FRAGMENT_WHOLE)
		check_headers(whole, whole_len, whole[12] == 0x86);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, data + size};
	struct fragments *fr = fragments_new(), *other = fragments_new();
	uint64_t now_ns = 1000;

	require(fr && other);
	memset(model, 0, sizeof(model));
	exact = true;
	flood = 0;
	while (in.p < in.end) {
		uint32_t kind = take(&in, 1) & 15;

		now_ns++;
		if (kind == 0)
			now_ns += take(&in, 2) * UINT64_C(1000000);
		else if (kind == 1)
			step_flood(fr, now_ns, take(&in, 1) & 31);
		else if (kind == 2)
			step_damaged(other, &in, now_ns);
		else
			step_piece(fr, &in, now_ns, kind == 3);
	}
	fragments_free(fr);
	fragments_free(other);
	return 0;
}
