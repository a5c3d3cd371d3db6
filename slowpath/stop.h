/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stop.h - the orderly end of the service
 */
#ifndef SLOWPATH_STOP_H
#define SLOWPATH_STOP_H

#include "slowpath/daemon.h"

/* Begin to stop: no new offloads, every connection is handed over. */
void stop_begin(struct daemon *d);
/* Is everything done, or the time for it over? */
bool stop_done(struct daemon *d);
/* ns until stop_done() has something to do in any case. */
int64_t stop_timeout_ns(const struct daemon *d);

#endif
