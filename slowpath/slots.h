/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * slots.h - numbers 0..n-1 handed out lowest first
 *
 * So that the memory a program touches stays small: connections that come and
 * go use the same few buffers again. A bitmap of free numbers (set: free) and
 * the lowest word that may have one. One thread.
 */
#ifndef SLOWPATH_SLOTS_H
#define SLOWPATH_SLOTS_H

#include <stdint.h>

#define SLOTS_NONE UINT32_MAX

struct slots {
	uint64_t *free;
	uint32_t words;
	uint32_t lowest; /* no free number in the words below */
	uint32_t used;	 /* numbers handed out */
};

int slots_init(struct slots *s, uint32_t n); /* 0 or -ENOMEM */
void slots_destroy(struct slots *s);
uint32_t slots_take(struct slots *s);		 /* SLOTS_NONE: all are taken */
void slots_give(struct slots *s, uint32_t slot); /* one that was taken */

#endif
