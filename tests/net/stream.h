/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stream.h - bytes that both ends know, so that each can check every one
 *
 * A stream is a position in one table of pseudo-random bytes that both ends
 * compute from the same constant. Its period is prime, so a block that is
 * lost, repeated, swapped or from another connection does not match. The table
 * is followed by a copy of its beginning: STREAM_BLOCK bytes from any position
 * are contiguous.
 */
#ifndef TESTS_NET_STREAM_H
#define TESTS_NET_STREAM_H

#include <stdint.h>
#include <string.h>

#define STREAM_PERIOD 1048573u
#define STREAM_BLOCK 65536u

static uint8_t stream_table[STREAM_PERIOD + STREAM_BLOCK];

/* splitmix64 */
static inline uint64_t stream_mix(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static inline void stream_init(void)
{
	uint64_t state = 42;

	for (uint32_t i = 0; i < STREAM_PERIOD; i++)
		stream_table[i] = (uint8_t)stream_mix(&state);
	memcpy(stream_table + STREAM_PERIOD, stream_table, STREAM_BLOCK);
}

/* At most STREAM_BLOCK bytes of stream @seed from position @pos. */
static inline const uint8_t *stream_at(uint32_t seed, uint64_t pos)
{
	return stream_table + (seed + pos) % STREAM_PERIOD;
}

#endif
