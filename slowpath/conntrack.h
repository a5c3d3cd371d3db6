/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * conntrack.h - what conntrack must know of connections that change hands
 */
#ifndef SLOWPATH_CONNTRACK_H
#define SLOWPATH_CONNTRACK_H

#include "fastpath/fastpath.h"

/* A socket for the calls below, -1: Linux has no conntrack to ask. */
int conntrack_open(void);
/* Sequence numbers of @key's connection are not conntrack's to judge any more.
 * 0, also where it doesn't track it, or -errno. Without waiting. */
int conntrack_liberal(int fd, const struct conn_key *key);

#endif
