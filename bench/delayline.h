/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * delayline.h - frames on their way, by the time at which they come out
 */
#ifndef BENCH_DELAYLINE_H
#define BENCH_DELAYLINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DELAYLINE_HELD_MAX 64u

struct delayline_frame {
	uint64_t at_ns;
	uint64_t order; /* of equal times, the lower one goes first */
	uint8_t *data;
	uint32_t len;
};

struct delayline {
	struct delayline_frame *heap; /* the least in front */
	size_t n, max;
	uint64_t order;
	/* Behind others: at_ns is when they go at last. */
	struct delayline_held {
		struct delayline_frame frame;
		uint32_t behind; /* so many go first */
	} held[DELAYLINE_HELD_MAX];
	size_t n_held;
};

int delayline_init(struct delayline *dl, size_t max); /* 0, or -ENOMEM */
void delayline_free(struct delayline *dl);	      /* frames are forgotten */

/* False if there is no room. */
bool delayline_add(struct delayline *dl, uint64_t at_ns, uint8_t *data,
		   uint32_t len);
/* Behind as many later frames (at least one), but no later than at_ns. */
bool delayline_hold(struct delayline *dl, uint64_t at_ns, uint32_t behind,
		    uint8_t *data, uint32_t len);
/* A later frame goes out at at_ns: what waited for it alone goes next. */
void delayline_passed(struct delayline *dl, uint64_t at_ns);
/* The next one, if its time has come. */
bool delayline_take(struct delayline *dl, uint64_t now_ns,
		    struct delayline_frame *f);
/* When that will be; UINT64_MAX if there is none. */
uint64_t delayline_next_ns(const struct delayline *dl);

#endif
