/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fragment.h - TCP segments that arrive in IP fragments
 */
#ifndef SLOWPATH_FRAGMENT_H
#define SLOWPATH_FRAGMENT_H

#include "fastpath/fastpath.h"

struct fragments;

enum fragment_is {
	FRAGMENT_NOT,	/* of TCP: not ours */
	FRAGMENT_KEPT,	/* or dropped */
	FRAGMENT_WHOLE, /* the last one: *frame, *len is the segment */
};

struct fragments *fragments_new(void); /* NULL: no memory */
void fragments_free(struct fragments *fr);
/* Take a frame from the wire. What *frame names lasts until the next call. */
enum fragment_is fragment_take(struct fragments *fr, uint64_t now_ns,
			       const uint8_t *data, uint32_t len,
			       const uint8_t **frame, uint32_t *frame_len);

#endif
