/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * guardian.h - the parent process that puts everything back
 */
#ifndef SLOWPATH_GUARDIAN_H
#define SLOWPATH_GUARDIAN_H

#include "slowpath/options.h"

/* Set up, run the daemon in a child process, wait for its end, restore. The
 * program's exit status. */
int guardian_run(const struct options *o);

#endif
