/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * segment.h - a TCP segment as the cold code sees it
 *
 * In host byte order, with RFC 9293's names. Made from a frame that
 * frame_parse() accepted, whose checksums are right.
 */
#ifndef FASTPATH_SEGMENT_H
#define FASTPATH_SEGMENT_H

#include "tap/frame.h"

#include <stdbool.h>
#include <stdint.h>

#define SEG_FLAG_FIN 0x01
#define SEG_FLAG_SYN 0x02
#define SEG_FLAG_RST 0x04
#define SEG_FLAG_PSH 0x08
#define SEG_FLAG_ACK 0x10
#define SEG_FLAG_URG 0x20
#define SEG_FLAG_ECE 0x40
#define SEG_FLAG_CWR 0x80

#define SEG_SACK_MAX 4u /* blocks that fit into the options */

struct sack_block {
	uint32_t start, end; /* first byte, one past the last */
};

struct segment {
	uint32_t seq, ack, len, wnd; /* wnd unscaled, len without FIN */
	uint32_t tsval, tsecr;
	uint16_t urg;
	uint8_t flags; /* SEG_FLAG_* */
	uint8_t n_sacks;
	bool ts;
	bool fin;
	bool ce;	/* congestion experienced on the way (RFC 3168) */
	bool old;	/* nothing in it is new, but its ACK counts */
	uint32_t first; /* seq as it arrived: trimming moves seq */
	struct sack_block sack[SEG_SACK_MAX];
	const uint8_t *data;
};

#pragma GCC visibility push(hidden)

/* Options that make no sense end the list, as in Linux. */
void segment_parse(struct segment *s, const struct frame *fr);
bool segment_checksums_ok(const struct frame *fr);

#pragma GCC visibility pop

#endif
