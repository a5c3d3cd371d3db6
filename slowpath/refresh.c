/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * refresh.c - Linux hears of connections that are in use
 *
 * conntrack forgets a connection of which it sees nothing for some time: 5 days
 * if it is established, but 60 s if its peer has sent a FIN and 120 s if we
 * have (net.netfilter.nf_conntrack_tcp_timeout_*), and administrators choose
 * less. Data that the fast path carries are nothing to it, and the FIN of a
 * connection that it has forgotten is invalid. So every REFRESH_S the core is
 * asked to pass the headers of the peer's next segment to Linux as well
 * (FP_CMD_COPY_ACK), translated: an ACK that says nothing new, which refreshes
 * conntrack's entry and the route's and the neighbour's confirmation.
 *
 * An idle connection is asked for once: no answer comes, and it stays out of
 * the list until one does. So it ages as it would without the service, and
 * costs nothing.
 *
 * State: daemon.refresh, a list by the time that a connection is due; since the
 * time is the same for all, who is heard of goes to its end. conn.refresh is
 * where a connection stands. Slow path's thread.
 */
#include "slowpath/refresh.h"

#include <utlist.h>

#define SECOND_NS UINT64_C(1000000000)
/* A third of the shortest time that an administrator is likely to set. */
#define REFRESH_S 10u
#define REFRESH_BATCH 256u /* asked for in one turn */

static void leave(struct daemon *d, struct conn *c)
{
	if (c->refresh == REFRESH_LISTED)
		DL_DELETE2(d->refresh, c, refresh_prev, refresh_next);
	c->refresh = REFRESH_NONE;
}

void refresh_start(struct daemon *d, struct conn *c)
{
	leave(d, c);
	c->refresh_at_s = daemon_now_s() + REFRESH_S;
	c->refresh = REFRESH_LISTED;
	DL_APPEND2(d->refresh, c, refresh_prev, refresh_next);
}

void refresh_stop(struct daemon *d, struct conn *c)
{
	leave(d, c);
}

void refresh_heard(struct daemon *d, struct conn *c)
{
	if (c->refresh != REFRESH_NONE)
		refresh_start(d, c);
}

static void ask(struct daemon *d, struct conn *c)
{
	struct fp_msg *m = daemon_cmd(d, c->core, FP_CMD_COPY_ACK, false);

	m->flow = c->flow;
	daemon_submit(d, c->core);
	leave(d, c);
	c->refresh = REFRESH_ASKED;
}

int64_t refresh_check(struct daemon *d)
{
	uint32_t now_s, n;

	if (!d->refresh)
		return -1;
	now_s = daemon_now_s();
	for (n = 0; d->refresh && n < REFRESH_BATCH; n++) {
		if ((int32_t)(d->refresh->refresh_at_s - now_s) > 0)
			break;
		ask(d, d->refresh);
	}
	if (!d->refresh)
		return -1;
	/* All of a second at once: no more wake-ups than one in each. */
	if (n == REFRESH_BATCH)
		return 0;
	return (int64_t)((d->refresh->refresh_at_s - now_s) * SECOND_NS);
}
