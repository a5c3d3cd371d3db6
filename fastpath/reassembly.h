/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * reassembly.h - data that arrived behind a gap
 *
 * They lie in the receive buffer already, at their place behind rcv_nxt; here
 * is which ranges of them, in order, disjoint and not touching.
 */
#ifndef FASTPATH_REASSEMBLY_H
#define FASTPATH_REASSEMBLY_H

#include "fastpath/segment.h"

#define REASSEMBLY_MAX                                                         \
	32u /* ranges; a segment that needs one more is dropped */

struct reassembly {
	uint32_t n;
	struct sack_block range[REASSEMBLY_MAX];
};

#endif
