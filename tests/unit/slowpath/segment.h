/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * segment.h - TCP segments and ICMP errors for tests, made and read by hand
 *
 * Knows nothing of the service's own parser, so that the tests compare two
 * independent readings. Payload bytes depend on their sequence number, so that
 * a byte at a wrong place is seen.
 */
#ifndef TESTS_SEGMENT_H
#define TESTS_SEGMENT_H

#include <stdalign.h>
#include <stdbool.h>
#include <stdint.h>

enum {
	SEG_FIN = 1,
	SEG_SYN = 2,
	SEG_RST = 4,
	SEG_PSH = 8,
	SEG_ACK = 16,
	SEG_URG = 32
};

#define SEG_MAX 2048u

struct segment {
	bool v6;
	uint8_t src[16], dst[16];
	uint16_t sport, dport;
	uint32_t seq, ack;
	uint16_t window;
	uint16_t urg; /* pointer, whatever the flags say */
	uint8_t flags;
	bool ts; /* the option, with NOPs */
	uint32_t tsval, tsecr;
	unsigned int sacks; /* blocks */
	uint32_t sack[8];
	unsigned int mss; /* 0: no option */
	int wscale;	  /* -1: no option */
	bool sack_ok;
	uint32_t len; /* payload */
};

/* IP headers are aligned as the sanitizers want them. */
struct segment_buf {
	alignas(64) uint8_t align[2];
	uint8_t data[SEG_MAX];
};

uint8_t segment_byte(uint32_t seq);
/* Build it with right checksums; the length of the frame. */
uint32_t segment_build(const struct segment *s, uint8_t *frame);
/* Read a frame of @len; false: no TCP segment, or a checksum or length that is
 * not right. Payload starts at frame + *payload. */
bool segment_read(struct segment *s, const uint8_t *frame, uint32_t len,
		  uint32_t *payload);
/* One's complement sum of @len bytes, folded, in network order. */
uint16_t segment_sum(const uint8_t *p, uint32_t len, uint32_t sum);
uint32_t segment_pseudo(const uint8_t *frame, uint32_t l4_len, uint8_t proto);

void put_be16(uint8_t *p, uint32_t v);
void put_be32(uint8_t *p, uint32_t v);
uint32_t get_be16(const uint8_t *p);
uint32_t get_be32(const uint8_t *p);

uint32_t test_random(void);

#endif
