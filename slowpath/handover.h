/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * handover.h - how an offloaded connection goes back to the kernel
 */
#ifndef SLOWPATH_HANDOVER_H
#define SLOWPATH_HANDOVER_H

#include "slowpath/conn.h"
#include "slowpath/program.h"

/* XTS_CTL_HANDOVER of @a for the connection @c, its own or not; NULL: there is
 * none (any more). */
void handover_request(struct daemon *d, struct program *a, struct conn *c,
		      const struct xts_ctl_msg *msg);
/* The connection that @fd is a copy of the shadow of, NULL: none. */
struct conn *handover_find(struct daemon *d, int fd);
/* Somebody asked before it was live (conn.leave); it is now. */
void handover_installed(struct daemon *d, struct conn *c);
/* Whoever waits for @c's kernel socket does so in vain. */
void handover_refuse(struct daemon *d, struct conn *c, int err);
/* FP_EV_STAYS of core @core. */
void handover_stays(struct daemon *d, unsigned int core,
		    const struct fp_msg *m);
/* Ask the program of a live connection to ask for it. */
void handover_ask(struct daemon *d, struct conn *c);
/* @c, which is not watched any more, has left its core as c->frozen says. true:
 * it is done with, and @c is free. false: it ends as if it had been removed,
 * which its program is told already. */
bool handover_frozen(struct daemon *d, struct conn *c);
/* Give programs what they had no room for; true: some still have none. */
bool handover_flush(struct daemon *d);
/* @a has ended: it gets nothing any more. */
void handover_forget(struct program *a);

#endif
