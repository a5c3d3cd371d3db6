/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stats.h - all counters, on request
 */
#ifndef SLOWPATH_STATS_H
#define SLOWPATH_STATS_H

#include "slowpath/daemon.h"

/* "counter NAME VALUE" lines on standard error: the cores' counters and
 * queues' summed, the slow path's, the XDP program's verdicts. */
void stats_dump(struct daemon *d);

#endif
