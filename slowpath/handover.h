/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * handover.h - how an offloaded connection goes back to the kernel
 */
#ifndef SLOWPATH_HANDOVER_H
#define SLOWPATH_HANDOVER_H

#include "slowpath/conn.h"
#include "slowpath/program.h"

/* XTS_CTL_HANDOVER of @a for its connection @c, NULL: there is none (any
 * more). */
void handover_request(struct daemon *d, struct program *a, struct conn *c,
		      const struct xts_ctl_msg *msg);
/* The same for a live connection whose program has asked for it. */
void handover_begin(struct daemon *d, struct conn *c);
/* Ask the program of a live connection to ask for it. */
void handover_ask(struct daemon *d, struct conn *c);
/* @c, which is not watched any more, has left its core as c->frozen says. true:
 * it is done with, and @c is free. false: @c is to be reset; its program is
 * told that already. */
bool handover_frozen(struct daemon *d, struct conn *c);
/* Give programs what they had no room for; true: some still have none. */
bool handover_flush(struct daemon *d);
/* @a has ended: it gets nothing any more. */
void handover_forget(struct program *a);

#endif
