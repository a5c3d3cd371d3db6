/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz.h - what the fuzz targets share: reading the input, and requirements
 *
 * An input that has come to its end goes on as zeros, so that every prefix of
 * an input is one too.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* As assert(), but there in every build. */
#define require(x)                                                             \
	do {                                                                   \
		if (!(x)) {                                                    \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__,       \
				__LINE__, #x);                                 \
			abort();                                               \
		}                                                              \
	} while (0)

struct input {
	const uint8_t *p, *end;
};

/* A number of @n bytes, the most significant first. */
static inline uint32_t take(struct input *in, unsigned int n)
{
	uint32_t v = 0;

	while (n--)
		v = v << 8 | (in->p < in->end ? *in->p++ : 0);
	return v;
}

static inline void take_bytes(struct input *in, void *to, size_t n)
{
	uint8_t *p = to;

	while (n--)
		*p++ = (uint8_t)take(in, 1);
}

#endif
