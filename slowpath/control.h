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
/* A message to @a, with descriptors that stay the caller's; 0 or -errno,
 * -EAGAIN if @a has not read enough of what it got. */
int control_send(struct program *a, const struct xts_ctl_msg *msg,
		 const int *fds, unsigned int n_fds);
/* Bytes in @a's control socket that it has not read, as Linux counts them. */
int control_unread(const struct program *a);
/* Serve it from daemon.loop; 0 or -errno. */
int control_start(struct daemon *d, int listen_fd);

#endif
