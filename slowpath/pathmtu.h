/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pathmtu.h - flows' segments follow what Linux knows of the path
 */
#ifndef SLOWPATH_PATHMTU_H
#define SLOWPATH_PATHMTU_H

#include "slowpath/conn.h"

void pathmtu_init(struct daemon *d);
int pathmtu_open(struct daemon *d); /* 0 or -errno */
void pathmtu_close(struct daemon *d);
/* What the flow needs to know to look for its path's MTU by itself. */
void pathmtu_install(struct daemon *d, struct conn *c, struct flow_params *p);
/* An ICMP error about the connection was given to Linux. */
void pathmtu_icmp(struct daemon *d, struct conn *c);
/* Look at the connections if it is time; ns until then, -1: no need. */
int64_t pathmtu_check(struct daemon *d);

#endif
