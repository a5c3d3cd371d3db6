/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * slots.c - numbers handed out lowest first; see slots.h
 */
#include "slowpath/slots.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

int slots_init(struct slots *s, uint32_t n)
{
	*s = (struct slots){.words = (n + 63) / 64};
	s->free = calloc(s->words ? s->words : 1, sizeof(*s->free));
	if (!s->free)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++)
		s->free[i / 64] |= UINT64_C(1) << (i % 64);
	return 0;
}

void slots_destroy(struct slots *s)
{
	free(s->free);
	*s = (struct slots){0};
}

uint32_t slots_take(struct slots *s)
{
	for (; s->lowest < s->words; s->lowest++) {
		uint64_t *w = &s->free[s->lowest];

		if (*w) {
			uint32_t bit = (uint32_t)__builtin_ctzll(*w);

			*w &= *w - 1;
			s->used++;
			return s->lowest * 64 + bit;
		}
	}
	return SLOTS_NONE;
}

void slots_give(struct slots *s, uint32_t slot)
{
	uint32_t word = slot / 64;

	assert(word < s->words);
	assert(!(s->free[word] >> (slot % 64) & 1));
	s->free[word] |= UINT64_C(1) << (slot % 64);
	s->used--;
	if (word < s->lowest)
		s->lowest = word;
}
