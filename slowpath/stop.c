/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stop.c - the orderly end of the service
 *
 * Every program is asked to take its connections back (handover.h), so that
 * they live on in the kernel; it is asked again from time to time, for one may
 * have been busy with another change. What is left after HAND_TIME_NS, because
 * its program does not react or the connection can't be handed over, is taken
 * from its core and reset by Linux: the peer gets a RST with the right numbers,
 * the program ECONNRESET. When no connection is left the programs' sessions are
 * ended; a core answers the removal of their contexts after it has put on the
 * wire what was asked of it before, RSTs included. That has RESET_TIME_NS.
 * Connections that are being closed may end in peace, within HAND_TIME_NS:
 * nobody translates the peer's FIN or its last ACK once the service is gone.
 */
#include "slowpath/stop.h"
#include "slowpath/program.h"
#include "slowpath/closing.h"
#include "slowpath/handover.h"
#include "slowpath/log.h"

#include <errno.h>
#include <utlist.h>

#define HAND_TIME_NS UINT64_C(2000000000)
#define ASK_AGAIN_NS UINT64_C(250000000)
#define RESET_TIME_NS UINT64_C(900000000)

static void ask_all(struct daemon *d)
{
	struct conn *c, *tmp;

	HASH_ITER (hh, d->conns, c, tmp) {
		/* Both FINs are through: Linux needs no help. */
		if (c->phase == CONN_LIVE && c->fin_in && c->fin_out)
			closing_remove(d, c, CONN_WHY_LINUX,
				       closing_over_error(c));
		else
			handover_ask(d, c);
	}
}

static void reset_all(struct daemon *d)
{
	struct conn *c, *tmp;

	d->stop_resets = true;
	if (d->conns)
		log_info("%u offloaded connections are reset",
			 HASH_COUNT(d->conns));
	HASH_ITER (hh, d->conns, c, tmp) {
		if (c->phase == CONN_LIVE)
			closing_remove(d, c, CONN_WHY_RESET, ECONNRESET);
		else if (c->phase == CONN_REMOVING)
			c->why = CONN_WHY_RESET;
	}
}

void stop_begin(struct daemon *d)
{
	uint64_t now = daemon_now_ns();

	if (d->stopping)
		return;
	d->stopping = true;
	d->stop_ask_ns = now + ASK_AGAIN_NS;
	d->stop_reset_ns = now + HAND_TIME_NS;
	d->stop_deadline_ns = d->stop_reset_ns + RESET_TIME_NS;
	log_info(
		"stopping, %u offloaded connections are handed over to the kernel",
		HASH_COUNT(d->conns));
	ask_all(d);
}

bool stop_done(struct daemon *d)
{
	struct program *a, *tmp;
	uint64_t now;

	if (!d->stopping)
		return false;
	now = daemon_now_ns();
	if (now >= d->stop_deadline_ns)
		return true;
	if (now >= d->stop_reset_ns && !d->stop_resets) {
		reset_all(d);
	} else if (now >= d->stop_ask_ns && !d->stop_resets) {
		d->stop_ask_ns = now + ASK_AGAIN_NS;
		ask_all(d);
	}
	if (d->conns || (d->handing && !d->stop_resets))
		return false;
	DL_FOREACH_SAFE (d->programs, a, tmp)
		program_end(a, false);
	return !d->programs && (!d->remnants_open || now >= d->stop_reset_ns);
}

int64_t stop_timeout_ns(const struct daemon *d)
{
	uint64_t now = daemon_now_ns(), next = d->stop_deadline_ns;

	if (!d->stop_resets)
		next = d->stop_ask_ns < d->stop_reset_ns ? d->stop_ask_ns
							 : d->stop_reset_ns;
	return now < next ? (int64_t)(next - now) : 0;
}
