/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * closing.h - how offloaded connections end
 */
#ifndef SLOWPATH_CLOSING_H
#define SLOWPATH_CLOSING_H

#include "slowpath/conn.h"

/* Ask the core to forget the flow; the program is told @err. */
void closing_remove(struct daemon *d, struct conn *c, enum conn_why why,
		    uint32_t err);
/* FP_EV_SHUT_WR and FP_EV_REMOVED of core @core. */
void closing_shut_wr(struct daemon *d, unsigned int core,
		     const struct fp_msg *m);
void closing_removed(struct daemon *d, unsigned int core,
		     const struct fp_msg *m);
/* A SYN of the peer's or, @out, of Linux's begins a new connection of this
 * name. true: Linux has done with the old one. The SYN is kept until the flow
 * is removed, which is seen to, and then goes its way. */
bool closing_renew(struct daemon *d, struct conn *c, const struct frame *syn,
		   bool out);
/* The connection's program has ended; @reset: it is to be reset. */
void closing_program_gone(struct daemon *d, struct conn *c, bool reset);

/* Watch a live connection's shadow socket; closing_unwatch() before it is
 * closed. closing_shadow_events() reads what was seen. */
void closing_watch(struct daemon *d, struct conn *c);
void closing_unwatch(struct daemon *d, const struct conn *c);
void closing_shadow_events(struct daemon *d);
/* Has Linux done with the connection, but for a TIME_WAIT that has left the
 * socket behind? Why: ESHUTDOWN: both sides' FIN went through Linux. */
bool closing_is_over(const struct conn *c);
uint32_t closing_over_error(const struct conn *c);
/* The same as if the shadow socket had an event. */
void closing_look(struct daemon *d, struct conn *c);
uint32_t closing_socket_error(int fd); /* ECONNRESET if it tells none */

#endif
