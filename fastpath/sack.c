/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sack.c - what the peer says it has beyond the acknowledgment
 *
 * SACK blocks are checked as Linux's tcp_is_sackblock_valid() does: one that
 * lies outside of what is under way, or behind it and older than the recovery,
 * is ignored. A segment counts as SACKed when a block covers all of it; one
 * that is longer than the MSS (it was taken over, or the MSS shrank) is cut at
 * a multiple of it. Blocks that the last acknowledgment carried are skipped: a
 * long block costs only what it grew by.
 *
 * The first block may tell of a duplicate (RFC 2883): it undoes a needless
 * recovery and widens RACK's reordering window.
 *
 * Without SACK each duplicate ACK stands for a segment that arrived (RFC 6582,
 * counted as in Linux): reno_sacked.
 *
 * State: the scoreboard; core thread. Read first: RFC 2018 5, RFC 2883 4.
 */
#include "fastpath/sender.h"

/* ---- reordering -------------------------------------------------------------
 */

static void reordered_by(struct loss *l, uint32_t segs)
{
	if (segs > l->reordering)
		l->reordering = segs < REORDERING_MAX ? segs : REORDERING_MAX;
	l->reord_seen++;
}

void sack_reordered(struct flow *f, uint32_t seq)
{
	struct loss *l = &f->ext->loss;

	if (seq_lt(seq, l->fack))
		reordered_by(l, (l->fack - seq + f->snd_mss - 1) / f->snd_mss);
}

bool reno_limit(struct flow *f)
{
	struct loss *l = &f->ext->loss;
	uint32_t out = f->snd_nxt - f->snd_una, hole = l->sb.lost;

	if (hole < f->snd_mss)
		hole = f->snd_mss;
	if (hole > out)
		hole = out;
	if (l->reno_sacked <= out - hole)
		return false;
	l->reno_sacked = out - hole;
	return true;
}

void reno_duplicate(struct flow *f, struct ack *a)
{
	struct loss *l = &f->ext->loss;
	uint32_t before = l->reno_sacked;

	l->reno_sacked += f->snd_mss;
	if (reno_limit(f))
		reordered_by(l, (f->snd_nxt - f->snd_una) / f->snd_mss);
	if (l->reno_sacked > before)
		a->delivered += l->reno_sacked - before;
}

/* One segment of @acked filled the hole, the others ate duplicate ACKs. */
void reno_advanced(struct flow *f, struct ack *a, uint32_t acked)
{
	struct loss *l = &f->ext->loss;
	uint32_t one = acked < f->snd_mss ? acked : f->snd_mss;

	a->delivered += acked > l->reno_sacked + one ? acked - l->reno_sacked
						     : one;
	if (acked - one >= l->reno_sacked)
		l->reno_sacked = 0;
	else
		l->reno_sacked -= acked - one;
	reno_limit(f);
}

/* ---- D-SACK -----------------------------------------------------------------
 */

static void dsack_seen(struct flow *f, struct ack *a, struct sack_block b)
{
	struct loss *l = &f->ext->loss;
	uint32_t len = b.end - b.start, segs = 1;

	if (!seq_lt(b.start, b.end) || len > f->ext->snd_wnd_max)
		return;
	if (len > f->snd_mss)
		segs = (len + f->snd_mss - 1) / f->snd_mss;
	else if (l->tlp_on && l->tlp_end == b.end)
		a->flags |= ACK_DSACK_TLP;
	l->total_dsack += segs;
	/* More duplicates than we ever made: the network's, or a lie. */
	if (l->total_dsack > l->total_retrans)
		return;
	if (l->reord_seen && !(a->flags & ACK_DSACK_TLP))
		l->rack_dsack = true;
	a->flags |= ACK_DSACK;
	/* Of data forgotten by now; what is still here sack_one() counts. */
	if (l->may_undo && l->undo_retrans > 0 && seq_leq(b.end, a->una) &&
	    seq_gt(b.end, l->undo_marker)) {
		l->undo_retrans -= (int32_t)segs;
		if (l->undo_retrans < 0)
			l->undo_retrans = 0;
	}
}

/* RFC 2883 section 4: the first block, below the acknowledgment or inside the
 * second one. */
static bool is_dsack(const struct segment *s, uint32_t ack)
{
	if (seq_lt(s->sack[0].start, ack))
		return true;
	return s->n_sacks > 1 && seq_leq(s->sack[0].end, s->sack[1].end) &&
	       seq_geq(s->sack[0].start, s->sack[1].start);
}

static bool block_valid(const struct flow *f, const struct ack *a,
			struct sack_block b, bool dup)
{
	const struct loss *l = &f->ext->loss;

	if (seq_gt(b.end, f->snd_nxt) || !seq_lt(b.start, b.end) ||
	    !seq_lt(b.start, f->snd_nxt))
		return false;
	if (seq_gt(b.start, a->top))
		return true;
	if (!dup || !l->may_undo || seq_gt(b.end, a->top))
		return false;
	if (seq_geq(b.start, l->undo_marker))
		return true;
	return seq_gt(b.end, l->undo_marker) &&
	       b.end - b.start <= f->ext->snd_wnd_max;
}

/* ---- SACK -------------------------------------------------------------------
 */

/* Newly SACKed. */
static void sack_new(struct flow *f, struct ack *a, struct sent *r)
{
	struct loss *l = &f->ext->loss;
	uint8_t flags = r->flags | SENT_SACKED;

	rack_delivered(f, r, a->now_us);
	if (!(flags & SENT_EVER)) {
		if (seq_lt(r->seq, a->fack) && seq_lt(r->seq, a->reord))
			a->reord = r->seq;
		if (seq_leq(r->seq + r->len, l->high_seq))
			a->flags |= ACK_ORIG;
		if (!a->has_sack)
			a->first_sack_us = r->sent_us;
		a->has_sack = true;
		a->last_sack_us = r->sent_us;
	}
	rate_delivered(f, a, r);
	/* A copy of what wasn't lost is still on its way. */
	if (flags & SENT_LOST)
		flags &= (uint8_t) ~(SENT_LOST | SENT_RETRANS);
	sb_flags(&l->sb, r, flags);
	a->flags |= ACK_SACKED;
	a->delivered += r->len;
	if (seq_gt(r->seq + r->len, l->fack))
		l->fack = r->seq + r->len;
}

static void sack_one(struct flow *f, struct ack *a, struct sent *r, bool dup)
{
	struct loss *l = &f->ext->loss;

	if (dup && (r->flags & SENT_EVER)) {
		if (l->may_undo && l->undo_retrans > 0 &&
		    seq_gt(r->seq + r->len, l->undo_marker))
			l->undo_retrans--;
		if ((r->flags & SENT_SACKED) && seq_lt(r->seq, a->reord))
			a->reord = r->seq;
	}
	if (seq_leq(r->seq + r->len, a->top))
		return; /* about to go */
	if (!(r->flags & SENT_SACKED))
		sack_new(f, a, r);
	if (dup && (r->flags & SENT_RETRANS))
		sb_flags(&l->sb, r, r->flags & (uint8_t)~SENT_RETRANS);
}

/* Cut a record longer than the MSS where the block begins or ends. */
static void sack_cut(struct flow *f, uint32_t i, struct sack_block b)
{
	struct scoreboard *sb = &f->ext->loss.sb;
	const struct sent *r = sb_at(sb, i);
	uint32_t len;

	if (r->len <= f->snd_mss)
		return;
	if (seq_lt(r->seq, b.start)) {
		len = b.start - r->seq + f->snd_mss - 1;
		len -= len % f->snd_mss;
		if (len < r->len)
			sb_split(sb, i, len);
	} else if (seq_gt(r->seq + r->len, b.end)) {
		len = b.end - r->seq;
		len -= len % f->snd_mss;
		if (len)
			sb_split(sb, i, len);
	}
}

static void sack_range(struct flow *f, struct ack *a, struct sack_block b,
		       bool dup)
{
	struct scoreboard *sb = &f->ext->loss.sb;
	uint32_t i;

	if (!seq_lt(b.start, b.end))
		return;
	for (i = sb_find(sb, b.start); i < sb->n; i++) {
		struct sent *r = sb_at(sb, i);

		if (seq_geq(r->seq, b.end))
			break;
		sack_cut(f, i, b);
		r = sb_at(sb, i);
		if (seq_geq(r->seq, b.start) && seq_leq(r->seq + r->len, b.end))
			sack_one(f, a, r, dup);
	}
}

/* Leave out what the last acknowledgment told already. Its blocks were whole:
 * segments that stick out at its ends are looked at again. */
static void sack_grown(struct flow *f, struct ack *a, struct sack_block b)
{
	const struct sack_block *k, *end;

	k = f->ext->loss.cache;
	for (end = k + SEG_SACK_MAX; k < end; k++) {
		struct sack_block part = b;
		uint32_t max = f->snd_mss;

		if (k->end - k->start <= 2 * max || seq_lt(k->start, b.start) ||
		    seq_gt(k->end, b.end) || seq_lt(k->start, f->snd_una))
			continue;
		part.end = k->start + max;
		sack_range(f, a, part, false);
		b.start = k->end - max;
		break;
	}
	sack_range(f, a, b, false);
}

void sack_process(struct flow *f, struct ack *a)
{
	struct loss *l = &f->ext->loss;
	struct sack_block valid[SEG_SACK_MAX];
	bool dup = is_dsack(a->s, a->ack);
	unsigned int i, n = 0;

	if (dup)
		dsack_seen(f, a, a->s->sack[0]);
	for (i = 0; i < a->s->n_sacks; i++) {
		struct sack_block b = a->s->sack[i];
		bool d = dup && i == 0 && (a->flags & ACK_DSACK);

		if (!block_valid(f, a, b, d))
			continue;
		if (d) {
			sack_range(f, a, b, true);
			continue;
		}
		sack_grown(f, a, b);
		valid[n++] = b;
	}
	memset(l->cache, 0, sizeof(l->cache));
	memcpy(l->cache, valid, n * sizeof(valid[0]));
	if ((l->state != CC_LOSS || l->may_undo) && seq_lt(a->reord, a->fack))
		sack_reordered(f, a->reord);
}
