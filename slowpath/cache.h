/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cache.h - how Linux writes frames to a peer, remembered from its handshake
 */
#ifndef SLOWPATH_CACHE_H
#define SLOWPATH_CACHE_H

#include "fastpath/fastpath.h"

#define CACHE_WAYS 4u
#define CACHE_SETS 4096u

/* The headers of Linux's frames of one connection. */
struct cache_entry {
	struct conn_key key;   /* family 0: the entry is free */
	uint32_t used;	       /* cache's clock at its last use */
	uint32_t flow_label;   /* IPv6, host byte order */
	uint32_t tsecr;	       /* last that Linux sent (RFC 7323) */
	uint32_t ts_offset;    /* tsval = CLOCK_MONOTONIC ms + this, or more */
	uint32_t peer_tsval;   /* of the peer's last segment, unchecked */
	uint32_t peer_seq_end; /* and where in its space it ended */
	uint8_t l2[FP_L2_MAX]; /* Ethernet header */
	uint8_t ttl, tos;
	uint8_t core;	/* whose queue its frames arrive on */
	bool peer_seen; /* peer_tsval and peer_seq_end are set */
	bool strange;	/* SYN or SYN-ACK with an option we don't know */
	bool gap;	/* Linux's last segment had SACK blocks */
	bool ts_seen;	/* ts_offset is set */
};

struct cache {
	struct cache_entry *entries; /* CACHE_SETS * CACHE_WAYS */
	uint64_t seed;
	uint32_t clock;
};

int cache_init(struct cache *c, uint64_t seed); /* 0 or -ENOMEM */
void cache_destroy(struct cache *c);
/* Remember a TCP frame that Linux sends for @key; @core is for a new entry,
 * @now_ms CLOCK_MONOTONIC after it was read. */
struct cache_entry *cache_learn(struct cache *c, const struct conn_key *key,
				const struct frame *f, unsigned int core,
				uint32_t now_ms);
/* Remember what is in @e, but for when it is used. */
void cache_enter(struct cache *c, const struct cache_entry *e);
/* Remember the core and timestamp of a segment of the peer's. */
void cache_hear(struct cache_entry *e, const struct frame *f,
		unsigned int core);
/* What Linux holds as ts_recent, its rcv_nxt given. */
uint32_t cache_ts_recent(const struct cache_entry *e, uint32_t rcv_nxt);
/* The offset of Linux's TSval to CLOCK_MONOTONIC in ms: @least, or more if its
 * frames showed that; never more than it is, and no TSval that is made with it
 * is before one that Linux sent. */
uint32_t cache_ts_offset(const struct cache_entry *e, uint32_t least);
/* NULL: not there. */
struct cache_entry *cache_find(struct cache *c, const struct conn_key *key);
void cache_forget(struct cache *c, const struct conn_key *key);

/* Keyed hash of a connection's name, for all of the slow path's tables. */
uint64_t key_hash(const struct conn_key *key, uint64_t seed);
bool key_equal(const struct conn_key *a, const struct conn_key *b);

#endif
