/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * csum.h - copy and Internet checksum in one pass
 *
 * Payload is summed (RFC 1071) block by block while it is copied, when it is in
 * the nearest cache. Sums are of the bytes in memory order, 64 bits wide with
 * the carry brought round: whoever adds to one uses csum_add64(). csum_finish()
 * makes of a sum what is sent; csum_ok() says whether a received one is right,
 * which takes one multiplication.
 *
 * A buffer of a connection is a ring, so a copy may be in two pieces. When the
 * first is of odd length, the bytes of the second change places within their
 * 16-bit words: its sum is swapped (RFC 1071, 2(B)).
 *
 * State: none.
 */
#ifndef FASTPATH_CSUM_H
#define FASTPATH_CSUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t csum_add64(uint64_t sum, uint64_t w)
{
	sum += w;
	return sum + (sum < w);
}

static inline uint64_t csum_load64(const uint8_t *p)
{
	uint64_t w;

	memcpy(&w, p, 8);
	return w;
}

static inline uint32_t csum_load32(const void *p)
{
	uint32_t w;

	memcpy(&w, p, 4);
	return w;
}

/* Sum of 32 bytes in memory. */
static inline uint64_t csum_add_mem256(uint64_t sum, const uint8_t *p)
{
#ifdef __x86_64__
	__asm__("addq (%1), %0\n\tadcq 8(%1), %0\n\t"
		"adcq 16(%1), %0\n\tadcq 24(%1), %0\n\tadcq $0, %0"
		: "+r"(sum)
		: "r"(p), "m"(*(const uint8_t(*)[32])p)
		: "cc");
	return sum;
#else
	sum = csum_add64(sum, csum_load64(p));
	sum = csum_add64(sum, csum_load64(p + 8));
	sum = csum_add64(sum, csum_load64(p + 16));
	return csum_add64(sum, csum_load64(p + 24));
#endif
}

/* Sum of 16 bytes in memory. */
static inline uint64_t csum_add_mem128(uint64_t sum, const uint8_t *p)
{
#ifdef __x86_64__
	__asm__("addq (%1), %0\n\tadcq 8(%1), %0\n\tadcq $0, %0"
		: "+r"(sum)
		: "r"(p), "m"(*(const uint8_t(*)[16])p)
		: "cc");
	return sum;
#else
	sum = csum_add64(sum, csum_load64(p));
	return csum_add64(sum, csum_load64(p + 8));
#endif
}

/* What goes into the checksum field. Adding a number to itself with its halves
 * exchanged leaves in the upper half the sum of both, carry included. */
static inline uint16_t csum_finish32(uint32_t sum)
{
	sum += sum << 16 | sum >> 16;
	return (uint16_t) ~(sum >> 16);
}

static inline uint16_t csum_finish(uint64_t sum)
{
	sum += sum << 32 | sum >> 32;
	return csum_finish32((uint32_t)(sum >> 32));
}

/* Does the sum of all that a checksum covers, the checksum included, fold to
 * 0xffff? Folding keeps the remainder; headers are never all zeros. */
static inline bool csum_ok(uint64_t sum)
{
	return sum % 0xffff == 0;
}

static inline uint64_t csum_fold33(uint64_t sum)
{
	return (sum & 0xffffffff) + (sum >> 32);
}

/* The last 1 to 7 bytes of a copy, as a word padded with zeros behind. */
static inline uint64_t csum_copy_tail(uint8_t *d, const uint8_t *s, size_t len)
{
	uint64_t w = 0;

	memcpy(&w, s, len);
	memcpy(d, &w, len);
	return w;
}

#ifdef __x86_64__
/* Copy 64 bytes and add those at @m, which is @d or @s, to @sum. */
static inline uint64_t csum_copy64(uint64_t sum, uint8_t *d, const uint8_t *s,
				   const uint8_t *m)
{
	memcpy(d, s, 64);
	__asm__ volatile("addq (%1), %0\n\tadcq 8(%1), %0\n\t"
			 "adcq 16(%1), %0\n\tadcq 24(%1), %0\n\t"
			 "adcq 32(%1), %0\n\tadcq 40(%1), %0\n\t"
			 "adcq 48(%1), %0\n\tadcq 56(%1), %0\n\tadcq $0, %0"
			 : "+r"(sum)
			 : "r"(m), "m"(*(const uint8_t(*)[64])m)
			 : "cc");
	return sum;
}
#else
static inline uint64_t csum_copy64(uint64_t sum, uint8_t *d, const uint8_t *s,
				   const uint8_t *m)
{
	unsigned int i;

	memcpy(d, s, 64);
	for (i = 0; i < 64; i += 8)
		sum = csum_add64(sum, csum_load64(m + i));
	return sum;
}
#endif

/* Whole blocks of a long copy, all but the first; what is left of @len. */
static inline size_t csum_copy_blocks(uint64_t *sum, uint8_t **d,
				      const uint8_t **s, size_t len,
				      bool sum_dst)
{
	do {
		*sum = csum_copy64(*sum, *d, *s, sum_dst ? *d : *s);
		*s += 64;
		*d += 64;
		len -= 64;
	} while (len >= 64);
	return len;
}

/*
 * Copy @len bytes; the sum of those at @m, which is @dst or @src: whichever is
 * the service's own memory. The program's is read once, by the copy, and the
 * sum is that of the bytes that are sent or that were received.
 */
static inline __attribute__((always_inline)) uint64_t
csum_copy(void *dst, const void *src, size_t len, const void *m)
{
	bool sum_dst = m == dst;
	const uint8_t *s = src;
	uint8_t *d = dst;
	uint64_t sum = 0;

	if (__builtin_expect(len >= 64, 1)) {
		sum = csum_copy64(sum, d, s, sum_dst ? d : s);
		len -= 64;
		if (__builtin_expect(len == 0, 1))
			return sum;
		s += 64;
		d += 64;
		if (len >= 64)
			len = csum_copy_blocks(&sum, &d, &s, len, sum_dst);
	}
	for (; len >= 8; len -= 8, s += 8, d += 8) {
		uint64_t w = csum_load64(s);

		__asm__("" : "+r"(w));
		memcpy(d, &w, 8);
		sum = csum_add64(sum, w);
	}
	if (len)
		sum = csum_add64(sum, csum_copy_tail(d, s, len));
	return sum;
}

/* Sum of a second piece whose first piece has an odd length. */
static inline uint64_t csum_swap(uint64_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return __builtin_bswap16((uint16_t)sum);
}

/* The rare copies, in two pieces. */
static __attribute__((noinline, unused)) uint64_t
csum_copy_into_wrapped(uint8_t *ring, uint32_t first, uint32_t pos,
		       const uint8_t *src, uint32_t len)
{
	uint64_t a = csum_copy(ring + pos, src, first, src);
	uint64_t b = csum_copy(ring, src + first, len - first, src + first);

	return csum_add64(a, first & 1 ? csum_swap(b) : b);
}

static __attribute__((noinline, unused)) uint64_t
csum_copy_from_wrapped(uint8_t *dst, const uint8_t *ring, uint32_t first,
		       uint32_t pos, uint32_t len)
{
	uint64_t a = csum_copy(dst, ring + pos, first, dst);
	uint64_t b = csum_copy(dst + first, ring, len - first, dst + first);

	return csum_add64(a, first & 1 ? csum_swap(b) : b);
}

/* Copy into a ring of @size bytes (a power of two) at @pos < @size. */
static inline __attribute__((always_inline)) uint64_t
csum_copy_into(uint8_t *ring, uint32_t size, uint32_t pos, const uint8_t *src,
	       uint32_t len)
{
	if (__builtin_expect(len > size - pos, 0))
		return csum_copy_into_wrapped(ring, size - pos, pos, src, len);
	return csum_copy(ring + pos, src, len, src);
}

/* Copy out of a ring. */
static inline __attribute__((always_inline)) uint64_t
csum_copy_from(uint8_t *dst, const uint8_t *ring, uint32_t size, uint32_t pos,
	       uint32_t len)
{
	if (__builtin_expect(len > size - pos, 0))
		return csum_copy_from_wrapped(dst, ring, size - pos, pos, len);
	return csum_copy(dst, ring + pos, len, dst);
}

#endif
