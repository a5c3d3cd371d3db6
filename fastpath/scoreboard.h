/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * scoreboard.h - the segments on their way, one record each
 *
 * While there are records they cover [snd_una, snd_nxt) without gap or overlap,
 * oldest sequence number first. They live in a ring: a few in the flow itself,
 * more on the heap while more is in flight. A record tells what is known of its
 * segment (SACKed, lost, sent again), when it was last sent, and where the
 * delivery rate's count stood then. The sums of bytes per flag are kept by
 * sb_flags(), which alone changes flags.
 *
 * Bounded by SB_MAX records; one more is refused, and so is one without
 * memory: the sender then waits for acknowledgments. Core thread.
 */
#ifndef FASTPATH_SCOREBOARD_H
#define FASTPATH_SCOREBOARD_H

#include <stdbool.h>
#include <stdint.h>

#define SB_SMALL 4u	  /* records in the flow */
#define SB_KEEP 64u	  /* a ring no larger stays when it is drained */
#define SB_MAX (1u << 16) /* 1.8 MB, 94 MB of full segments */

enum sent_flags {
	SENT_SACKED = 1,
	SENT_LOST = 2,
	SENT_RETRANS = 4, /* sent again, and that copy isn't known as lost */
	SENT_EVER = 8,	  /* sent more than once (Karn) */
	SENT_APP_LIMITED = 16,
};

/* Times in microseconds, the low 32 bits. */
struct sent {
	uint32_t seq, len;
	uint32_t sent_us;      /* last transmission */
	uint32_t delivered;    /* low bits of ext->delivered then ... */
	uint32_t delivered_us; /* ... when that was reached ... */
	uint32_t first_us; /* ... and when the last one delivered was sent */
	uint8_t flags;	   /* enum sent_flags */
};

struct scoreboard {
	struct sent *ring;
	uint32_t head, n, mask;
	uint32_t sacked, lost, retrans; /* bytes of each flag */
	uint32_t due;			/* lost, and not sent again */
	uint32_t sacked_n;		/* records */
	struct sent small[SB_SMALL];
};

#pragma GCC visibility push(hidden)

void sb_init(struct scoreboard *sb);
/* Back to the few records of the flow; what there was is forgotten. */
void sb_free(struct scoreboard *sb);
/* A record behind all others; NULL: no room. */
struct sent *sb_append(struct scoreboard *sb, uint32_t seq, uint32_t len);
/* Cut record @i: its first @len bytes stay, the rest follows with the same
 * flags. false: no room. */
bool sb_split(struct scoreboard *sb, uint32_t i, uint32_t len);
/* The first @len bytes of the oldest record are gone; all: it is. */
void sb_trim(struct scoreboard *sb, uint32_t len);
/* Index of the record that holds @seq; n: none. */
uint32_t sb_find(const struct scoreboard *sb, uint32_t seq);
void sb_flags(struct scoreboard *sb, struct sent *r, uint8_t flags);
/* No record any more: give the memory back. */
void sb_drained(struct scoreboard *sb);
/* Do all sums and records fit together? For tests and fuzzing. */
bool sb_valid(const struct scoreboard *sb, uint32_t una, uint32_t nxt);

static inline struct sent *sb_at(const struct scoreboard *sb, uint32_t i)
{
	return &sb->ring[(sb->head + i) & sb->mask];
}

#pragma GCC visibility pop

#endif
