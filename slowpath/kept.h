/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kept.h - buffers of reset connections that their program may still read
 *
 * One set a program. The program names connections as it likes; two of one
 * name are its own loss.
 */
#ifndef SLOWPATH_KEPT_H
#define SLOWPATH_KEPT_H

#include <stdbool.h>
#include <stdint.h>

struct kept;

struct kept_set {
	struct kept *entries; /* uthash */
	unsigned int n_early; /* of these, released before they were kept */
	uint64_t seed;	      /* of the hash: programs choose the names */
};

/* Keep @slot for the connection @cookie. false: it was released already, the
 * slot is free. */
bool kept_add(struct kept_set *k, uint64_t cookie, uint32_t slot);
/* The program has done with it: its slot, SLOTS_NONE if it is not kept (yet,
 * which is noted for up to @max_early connections). */
uint32_t kept_release(struct kept_set *k, uint64_t cookie,
		      unsigned int max_early);
void kept_clear(struct kept_set *k);

#endif
