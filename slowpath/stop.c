/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stop.c - the orderly end of the service
 *
 * Every offloaded connection is taken from its core and reset by Linux, so the
 * peer gets a RST with the right numbers and the program ECONNRESET. When no
 * connection is left the programs' sessions are ended; a core answers the
 * removal of their contexts after it has put on the wire what was asked of it
 * before, RSTs included. Connections that are being closed may end in peace:
 * nobody translates the peer's FIN or its last ACK once the service is gone.
 * All this has STOP_TIME_NS.
 */
#include "slowpath/stop.h"
#include "slowpath/program.h"
#include "slowpath/closing.h"
#include "slowpath/log.h"

#include <errno.h>
#include <utlist.h>

#define STOP_TIME_NS UINT64_C(900000000)

void stop_begin(struct daemon *d)
{
	struct conn *c, *tmp;

	if (d->stopping)
		return;
	d->stopping = true;
	d->stop_deadline_ns = daemon_now_ns() + STOP_TIME_NS;
	log_info("stopping, %u offloaded connections are reset",
		 HASH_COUNT(d->conns));
	HASH_ITER (hh, d->conns, c, tmp) {
		if (c->phase == CONN_LIVE)
			closing_remove(d, c, CONN_WHY_RESET, ECONNRESET);
		else if (c->phase == CONN_REMOVING)
			c->why = CONN_WHY_RESET;
	}
}

bool stop_done(struct daemon *d)
{
	struct program *a, *tmp;

	if (!d->stopping)
		return false;
	if (daemon_now_ns() >= d->stop_deadline_ns)
		return true;
	if (d->conns)
		return false;
	DL_FOREACH_SAFE (d->programs, a, tmp)
		program_end(a, false);
	return !d->programs && !d->remnants_open;
}

int64_t stop_timeout_ns(const struct daemon *d)
{
	uint64_t now = daemon_now_ns();

	return now < d->stop_deadline_ns ? (int64_t)(d->stop_deadline_ns - now)
					 : 0;
}
