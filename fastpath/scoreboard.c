/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * scoreboard.c - the ring of records; theory in scoreboard.h
 *
 * State: struct scoreboard. Memory: at most SB_MAX records a flow, from the
 * heap, in cold code.
 */
#include "fastpath/scoreboard.h"
#include "tap/frame.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void sb_init(struct scoreboard *sb)
{
	memset(sb, 0, sizeof(*sb));
	sb->ring = sb->small;
	sb->mask = SB_SMALL - 1;
}

void sb_free(struct scoreboard *sb)
{
	if (sb->ring != sb->small)
		free(sb->ring);
	sb_init(sb);
}

void sb_drained(struct scoreboard *sb)
{
	sb->head = 0;
	if (sb->mask >= SB_KEEP)
		sb_free(sb);
}

static bool grow(struct scoreboard *sb)
{
	uint32_t cap = sb->mask + 1, i;
	struct sent *ring;

	if (cap >= SB_MAX)
		return false;
	ring = malloc(2ul * cap * sizeof(*ring));
	if (!ring)
		return false;
	for (i = 0; i < sb->n; i++)
		ring[i] = *sb_at(sb, i);
	if (sb->ring != sb->small)
		free(sb->ring);
	sb->ring = ring;
	sb->head = 0;
	sb->mask = 2 * cap - 1;
	return true;
}

struct sent *sb_append(struct scoreboard *sb, uint32_t seq, uint32_t len)
{
	struct sent *r;

	if (sb->n > sb->mask && !grow(sb))
		return NULL;
	r = sb_at(sb, sb->n++);
	memset(r, 0, sizeof(*r));
	r->seq = seq;
	r->len = len;
	return r;
}

bool sb_split(struct scoreboard *sb, uint32_t i, uint32_t len)
{
	struct sent *r;
	uint32_t k;

	assert(len && len < sb_at(sb, i)->len);
	if (sb->n > sb->mask && !grow(sb))
		return false;
	for (k = sb->n++; k > i; k--)
		*sb_at(sb, k) = *sb_at(sb, k - 1);
	sb_at(sb, i)->len = len;
	r = sb_at(sb, i + 1);
	r->seq += len;
	r->len -= len;
	if (r->flags & SENT_SACKED)
		sb->sacked_n++;
	return true;
}

/* Take the record's share out of the sums or put it in. */
static void account(struct scoreboard *sb, uint8_t flags, uint32_t len,
		    uint32_t n)
{
	if (flags & SENT_SACKED) {
		sb->sacked += len;
		sb->sacked_n += n;
	}
	if (flags & SENT_LOST)
		sb->lost += len;
	if (flags & SENT_RETRANS)
		sb->retrans += len;
	else if (flags & SENT_LOST)
		sb->due += len;
}

void sb_flags(struct scoreboard *sb, struct sent *r, uint8_t flags)
{
	account(sb, r->flags, -r->len, -1u);
	r->flags = flags;
	account(sb, r->flags, r->len, 1);
}

void sb_trim(struct scoreboard *sb, uint32_t len)
{
	struct sent *r = sb_at(sb, 0);

	if (len < r->len) {
		account(sb, r->flags, -len, 0);
		r->seq += len;
		r->len -= len;
		return;
	}
	sb_flags(sb, r, 0);
	sb->head = (sb->head + 1) & sb->mask;
	sb->n--;
}

uint32_t sb_find(const struct scoreboard *sb, uint32_t seq)
{
	uint32_t base, lo = 0, hi = sb->n, mid;

	if (!sb->n)
		return 0;
	base = sb_at(sb, 0)->seq;
	while (lo < hi) {
		const struct sent *r;

		mid = (lo + hi) / 2;
		r = sb_at(sb, mid);
		if (seq - base < r->seq - base + r->len)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

bool sb_valid(const struct scoreboard *sb, uint32_t una, uint32_t nxt)
{
	struct scoreboard sum = {.n = 0};
	uint32_t i, seq = una;

	if (sb->n > sb->mask + 1 || sb->mask >= SB_MAX ||
	    (sb->mask + 1) & sb->mask)
		return false;
	for (i = 0; i < sb->n; i++) {
		const struct sent *r = sb_at(sb, i);

		if (r->seq != seq || !r->len || r->len > nxt - una)
			return false;
		/* What the peer has is neither lost nor sent again. */
		if ((r->flags & SENT_SACKED) && (r->flags & SENT_LOST))
			return false;
		account(&sum, r->flags, r->len, 1);
		seq += r->len;
	}
	return (!sb->n || seq == nxt) && sum.sacked == sb->sacked &&
	       sum.lost == sb->lost && sum.retrans == sb->retrans &&
	       sum.due == sb->due && sum.sacked_n == sb->sacked_n;
}
