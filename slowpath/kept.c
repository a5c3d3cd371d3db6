/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kept.c - buffers of reset connections that their program may still read
 *
 * Linux lets a program read what arrived before a reset, so the buffers of a
 * connection stay the program's until it says XTS_CTL_RELEASE. The core tells
 * it of the reset by itself, so its release may be here before the core's
 * event: then the name is noted, and the buffers are free when the event comes.
 *
 * Bounds: one entry a buffer, plus one a connection for early releases; what
 * goes beyond is forgotten, at the cost of the program that sent it. Without
 * memory for an entry the buffer stays taken until the program's end.
 */
#include "slowpath/kept.h"
#include "slowpath/slots.h"

#include <stdlib.h>

#define HASH_FUNCTION(keyptr, keylen, hashv)                                   \
	((hashv) = kept_hash((keyptr), k->seed))
#include <uthash.h>

struct kept {
	UT_hash_handle hh;
	uint64_t cookie;
	uint32_t slot; /* SLOTS_NONE: released early */
};

static unsigned int kept_hash(const void *cookie, uint64_t seed)
{
	__uint128_t m;
	uint64_t h;

	memcpy(&h, cookie, sizeof(h));
	m = (__uint128_t)(h ^ seed) * UINT64_C(0x9e3779b97f4a7c15);
	h = (uint64_t)m ^ (uint64_t)(m >> 64);
	return (unsigned int)(h >> 32);
}

static struct kept *find(const struct kept_set *k, uint64_t cookie)
{
	struct kept *e;

	HASH_FIND(hh, k->entries, &cookie, sizeof(cookie), e);
	return e;
}

static void enter(struct kept_set *k, uint64_t cookie, uint32_t slot)
{
	struct kept *e = malloc(sizeof(*e));

	if (!e)
		return;
	e->cookie = cookie;
	e->slot = slot;
	k->n_early += slot == SLOTS_NONE;
	HASH_ADD(hh, k->entries, cookie, sizeof(e->cookie), e);
}

static uint32_t leave(struct kept_set *k, struct kept *e)
{
	uint32_t slot = e->slot;

	k->n_early -= slot == SLOTS_NONE;
	/* uthash moves the table's head when it goes. */
	/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
	HASH_DELETE(hh, k->entries, e);
	free(e);
	return slot;
}

bool kept_add(struct kept_set *k, uint64_t cookie, uint32_t slot)
{
	struct kept *e = find(k, cookie);

	if (e && e->slot == SLOTS_NONE) {
		leave(k, e);
		return false;
	}
	enter(k, cookie, slot);
	return true;
}

uint32_t kept_release(struct kept_set *k, uint64_t cookie,
		      unsigned int max_early)
{
	struct kept *e = find(k, cookie);

	if (e && e->slot != SLOTS_NONE)
		return leave(k, e);
	if (!e && k->n_early < max_early)
		enter(k, cookie, SLOTS_NONE);
	return SLOTS_NONE;
}

void kept_clear(struct kept_set *k)
{
	struct kept *e, *tmp;

	HASH_ITER (hh, k->entries, e, tmp)
		leave(k, e);
}
