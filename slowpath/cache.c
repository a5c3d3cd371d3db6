/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cache.c - how Linux writes frames to a peer, remembered from its handshake
 *
 * An offloaded flow's frames carry the Ethernet header, TTL, traffic class and
 * flow label that Linux itself chose when it sent its SYN or SYN-ACK: so
 * routes, gateways, neighbour entries and sysctls are honoured without being
 * looked at. The same frame says whether the handshake used a TCP option that
 * the fast path does not know (RFC 2385 MD5, RFC 5925 AO, RFC 8684 MPTCP, RFC
 * 7413 Fast Open...).
 *
 * A set-associative table of fixed size, the least recently used entry of a set
 * makes room: a flood of SYNs costs other connections no more than a cache
 * miss, which offload repairs by asking Linux for a frame. It also keeps what
 * ts_recent must be (RFC 7323), which Linux tells nowhere else, and what its
 * frames tell of its clock for timestamps. The hash is keyed, since peers
 * choose the keys. One thread.
 */
#include "slowpath/cache.h"
#include "slowpath/translate.h"

#include <errno.h>
#include <stdlib.h>

#define TS_WINDOW 65536u      /* how old the peer's last segment may be */
#define TS_CLOCK_MAX_MS 1000u /* an offset this far off is another clock's */

static_assert(sizeof(struct conn_key) == 40, "five words without padding");

static uint64_t mix(uint64_t h, uint64_t w)
{
	__uint128_t m = (__uint128_t)(h ^ w) * UINT64_C(0x9e3779b97f4a7c15);

	return (uint64_t)m ^ (uint64_t)(m >> 64);
}

uint64_t key_hash(const struct conn_key *key, uint64_t seed)
{
	uint64_t w[5], h = seed;

	memcpy(w, key, sizeof(w));
	for (int i = 0; i < 5; i++)
		h = mix(h, w[i] + seed);
	return h;
}

bool key_equal(const struct conn_key *a, const struct conn_key *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

int cache_init(struct cache *c, uint64_t seed)
{
	c->seed = seed;
	c->clock = 0;
	c->entries =
		calloc((size_t)CACHE_SETS * CACHE_WAYS, sizeof(*c->entries));
	return c->entries ? 0 : -ENOMEM;
}

void cache_destroy(struct cache *c)
{
	free(c->entries);
	c->entries = NULL;
}

static struct cache_entry *find_set(struct cache *c, const struct conn_key *key)
{
	return c->entries +
	       key_hash(key, c->seed) % CACHE_SETS * (size_t)CACHE_WAYS;
}

struct cache_entry *cache_find(struct cache *c, const struct conn_key *key)
{
	struct cache_entry *e = find_set(c, key);

	for (unsigned int i = 0; i < CACHE_WAYS; i++, e++) {
		if (key_equal(&e->key, key)) {
			e->used = ++c->clock;
			return e;
		}
	}
	return NULL;
}

void cache_forget(struct cache *c, const struct conn_key *key)
{
	struct cache_entry *e = cache_find(c, key);

	if (e)
		*e = (struct cache_entry){0};
}

/* A free entry of the set, else its least recently used one. */
static struct cache_entry *make_room(struct cache *c,
				     const struct conn_key *key)
{
	struct cache_entry *set = find_set(c, key), *oldest = set;

	for (unsigned int i = 0; i < CACHE_WAYS; i++) {
		if (set[i].key.family == 0)
			return &set[i];
		if (c->clock - set[i].used > c->clock - oldest->used)
			oldest = &set[i];
	}
	return oldest;
}

static bool options_strange(const struct frame *f)
{
	const uint8_t *p = f->data + f->l4 + sizeof(struct tcphdr);
	const uint8_t *end = f->data + f->payload;

	while (p < end && *p != TCPOPT_EOL) {
		if (*p == TCPOPT_NOP) {
			p++;
			continue;
		}
		if (end - p < 2 || p[1] < 2 || p[1] > end - p)
			return true;
		if (*p != TCPOPT_MAXSEG && *p != TCPOPT_WINDOW &&
		    *p != TCPOPT_SACK_PERMITTED && *p != TCPOPT_TIMESTAMP)
			return true;
		p += p[1];
	}
	return false;
}

/* Each frame was sent before it was read: the greatest offset is the best. */
static void note_clock(struct cache_entry *e, uint32_t ts_offset, bool syn)
{
	if (!e->ts_seen || syn || seq_gt(ts_offset, e->ts_offset))
		e->ts_offset = ts_offset;
	e->ts_seen = true;
}

void cache_enter(struct cache *c, const struct cache_entry *e)
{
	struct cache_entry *to = cache_find(c, &e->key);

	if (!to)
		to = make_room(c, &e->key);
	*to = *e;
	to->used = ++c->clock;
}

struct cache_entry *cache_learn(struct cache *c, const struct conn_key *key,
				const struct frame *f, unsigned int core,
				uint32_t now_ms)
{
	struct cache_entry *e = cache_find(c, key);
	uint32_t tsval;

	if (!e) {
		e = make_room(c, key);
		*e = (struct cache_entry){
			.key = *key, .core = (uint8_t)core, .used = ++c->clock};
	}
	memcpy(e->l2, f->data, FP_L2_MAX);
	if (f->v6) {
		uint32_t flow = ntohl(frame_ip6(f)->ip6_flow);

		e->tos = (uint8_t)(flow >> 20);
		e->flow_label = flow & 0xfffff;
		e->ttl = frame_ip6(f)->ip6_hlim;
	} else {
		e->tos = frame_ip4(f)->tos;
		e->ttl = frame_ip4(f)->ttl;
	}
	if (frame_tcp(f)->syn)
		e->strange = options_strange(f);
	e->gap = translate_reports_gap(f);
	if (translate_timestamps(f, &tsval, &e->tsecr))
		note_clock(e, tsval - now_ms, frame_tcp(f)->syn);
	return e;
}

void cache_hear(struct cache_entry *e, const struct frame *f, unsigned int core)
{
	const struct tcphdr *th = frame_tcp(f);
	uint32_t tsval, tsecr;

	e->core = (uint8_t)core;
	if (!translate_timestamps(f, &tsval, &tsecr))
		return;
	e->peer_tsval = tsval;
	e->peer_seq_end = ntohl(th->seq) + f->payload_len + th->syn;
	e->peer_seen = true;
}

uint32_t cache_ts_recent(const struct cache_entry *e, uint32_t rcv_nxt)
{
	/* The peer's last segment counts if Linux took it: a guesser of
	 * addresses must not set it far ahead. */
	if (e->peer_seen && rcv_nxt - e->peer_seq_end < TS_WINDOW &&
	    seq_gt(e->peer_tsval, e->tsecr))
		return e->peer_tsval;
	return e->tsecr;
}

uint32_t cache_ts_offset(const struct cache_entry *e, uint32_t least)
{
	if (e->ts_seen && e->ts_offset - least < TS_CLOCK_MAX_MS)
		return e->ts_offset;
	return least;
}
