/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mtu.h - how large segments may be
 *
 * Sizes are of payload, as snd_mss: options are the same in every full segment.
 */
#ifndef FASTPATH_MTU_H
#define FASTPATH_MTU_H

#include <stdbool.h>
#include <stdint.h>

/* Written by mtu.c on the core's thread. */
struct mtu {
	uint32_t max;	    /* what the path takes for all that Linux knows */
	uint32_t low, high; /* search_low (0: no search), search_high */
	uint32_t seq, len;  /* the probe under way; len 0: none */
	uint32_t base, floor, threshold, interval_s; /* see flow_params */
	uint64_t began_ns;			     /* the search */
};

struct flow;
struct flow_params;
struct fp_core;

#pragma GCC visibility push(hidden)

void mtu_init(struct flow *f, const struct flow_params *p, uint64_t now_ns);
/* What was sent was lost so often that its size may be why. */
void mtu_black_hole(const struct fp_core *c, struct flow *f);
/* Length of a probe that is to go before any other new data; 0: none.
 * *@wait: and nothing new may go, so that it can soon. */
uint32_t mtu_probe_len(const struct fp_core *c, struct flow *f, bool *wait);
/* New data from @seq up to snd_nxt are the probe, meant to have @len bytes. */
void mtu_probe_sent(struct flow *f, uint32_t seq, uint32_t len);
/* snd_una moved while there is a probe. */
void mtu_acked(struct flow *f);
/* Something was sent again: what becomes of the probe tells nothing. */
void mtu_resent(struct flow *f);
/* Something is lost. true: it is the probe, for its size, so no congestion. */
bool mtu_probe_lost(struct flow *f);

#pragma GCC visibility pop

#endif
