/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * restore.h - a kernel socket made to go on where a flow has stopped
 *
 * Needs CAP_NET_ADMIN (TCP_REPAIR) in the old socket's network namespace, and
 * what the program needed to bind its address. Nothing waits.
 */
#ifndef SLOWPATH_RESTORE_H
#define SLOWPATH_RESTORE_H

#include "fastpath/fastpath.h"

/* A new socket with @old's options, owner and local address, in repair mode:
 * closing it sends nothing. @old is only read. A descriptor or -errno. */
int restore_prepare(int old);
/*
 * @fd, from restore_prepare(), becomes the connection that @z describes: in
 * ESTABLISHED, with the unread data in its receive queue, and those that were
 * sent and not acknowledged in its send queue. @old is silently closed before:
 * every other descriptor of it sees ECONNABORTED. Nothing is sent. 0 or -errno,
 * then *silenced says whether @old is closed, and @fd is still in repair mode.
 */
int restore_connect(int fd, int old, const struct flow_frozen *z,
		    bool *silenced);
/* What was not sent yet, the FIN that the program or Linux wanted behind it,
 * and buffer sizes as @old's. Linux begins to send. 0 or -errno. */
int restore_send(int fd, int old, const struct flow_frozen *z);
/* @fd forgets its connection without a word to the peer; every descriptor of
 * it sees ECONNABORTED. */
int restore_silence(int fd);

#endif
