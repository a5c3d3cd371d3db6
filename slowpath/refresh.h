/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * refresh.h - Linux hears of connections that are in use
 */
#ifndef SLOWPATH_REFRESH_H
#define SLOWPATH_REFRESH_H

#include "slowpath/conn.h"

/* @c has become live; it no longer is, or never was. */
void refresh_start(struct daemon *d, struct conn *c);
void refresh_stop(struct daemon *d, struct conn *c);
/* A segment of the peer's on @c, which is live, goes to Linux. */
void refresh_heard(struct daemon *d, struct conn *c);
/* Ask for those that are due; ns until the next look, -1: none. */
int64_t refresh_check(struct daemon *d);

#endif
