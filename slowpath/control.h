/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * control.h - the socket on which programs ask for service
 */
#ifndef SLOWPATH_CONTROL_H
#define SLOWPATH_CONTROL_H

#include "slowpath/daemon.h"

/* Bind and listen; a descriptor, or -errno after saying why. */
int control_listen(const char *name);
/* Remove a control socket that is a path. */
void control_unlink(const char *name);
/* Serve it from daemon.loop; 0 or -errno. */
int control_start(struct daemon *d, int listen_fd);

#endif
