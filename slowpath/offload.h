/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * offload.h - how a connection comes to the fast path
 */
#ifndef SLOWPATH_OFFLOAD_H
#define SLOWPATH_OFFLOAD_H

#include "slowpath/program.h"

/* The program's request (XTS_CTL_OFFLOAD) for its context @x; @fd is ours from
 * now on. The answer goes to a reply ring of the context. */
void offload_request(struct daemon *d, struct program *a, struct program_ctx *x,
		     const struct xts_ctl_msg *msg, int fd);
/* FP_EV_INSTALLED of core @core. */
void offload_installed(struct daemon *d, unsigned int core,
		       const struct fp_msg *m);

#endif
