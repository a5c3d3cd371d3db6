/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bridge.h - frames between the wire (cores) and Linux (TAP)
 */
#ifndef SLOWPATH_BRIDGE_H
#define SLOWPATH_BRIDGE_H

#include "slowpath/daemon.h"

struct conn;
struct held_frame;

/* A frame that core @core passed to us (FP_EV_FRAME). */
void bridge_from_wire(struct daemon *d, unsigned int core,
		      const struct fp_msg *m);
/* Read what Linux sends until there is no more. */
void bridge_drain(struct daemon *d);
/* Give Linux a frame, and take its answer. */
void bridge_to_linux(struct daemon *d, const void *frame, uint32_t len);
/* The same; its answer waits in the TAP. */
void bridge_show_linux(struct daemon *d, const void *frame, uint32_t len);
void bridge_to_wire(struct daemon *d, unsigned int core, const void *frame,
		    uint32_t len);
/* A segment of Linux's that was kept while a connection ended. */
void bridge_from_linux(struct daemon *d, struct held_frame *h);
/* Tell Linux that the peer has its data up to @seq (Linux's space). */
void bridge_ack_linux(struct daemon *d, struct conn *c, uint32_t seq);

#endif
