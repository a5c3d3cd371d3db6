/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * closing.c - how offloaded connections end
 *
 * Linux closes every connection; the fast path only says when its part is done.
 *   program's close     REMOVED(CLOSE): everything is acknowledged. Our
 *                       descriptor is closed, Linux sends its FIN
 *   program's abort     REMOVED(ABORT): connect(AF_UNSPEC), Linux sends a RST
 *   shutdown(SHUT_WR)   EV_SHUT_WR: shutdown() of the shadow socket, FIN
 *   peer's FIN or RST   a frame; goes to Linux, see bridge.c
 *   ss -K, keepalive    Linux closes its socket: epoll says so, the flow is
 *   time-out, RST...    removed, and the program is told the socket's error
 *   time-out of ours    REMOVED(TIMEOUT): as abort
 *   program died        FP_CMD_CLOSE: as its close()
 *   hand-over           REMOVED(FROZEN): see handover.c
 * A program that is told of a reset may still read what had arrived: the
 * buffers are its own until it releases them (kept.h). What is left then is a
 * struct remnant, which translates for as long as Linux has the connection
 * (FIN_WAIT, TIME_WAIT...).
 *
 * Linux may have done with a connection whose flow is still there: the peer's
 * RST went to Linux and the flow's removal is on its way, or both FINs are
 * through and the program has yet to close. Either side may then begin a new
 * connection of that name, which must not meet the old flow, nor be mistaken by
 * the remnant for its own. So the SYN waits, one a side and connection, until
 * the flow is removed and the remnant is there.
 */
#include "slowpath/closing.h"
#include "slowpath/program.h"
#include "slowpath/bridge.h"
#include "slowpath/handover.h"
#include "slowpath/log.h"
#include "slowpath/refresh.h"
#include "slowpath/snapshot.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

#define SHADOW_BATCH 64

uint32_t closing_socket_error(int fd)
{
	socklen_t len = sizeof(int);
	int err = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0 || err <= 0)
		return ECONNRESET;
	return (uint32_t)err;
}

void closing_remove(struct daemon *d, struct conn *c, enum conn_why why,
		    uint32_t err)
{
	struct fp_msg *m;

	assert(c->phase == CONN_LIVE);
	c->why = (uint8_t)why;
	conn_set_phase(c, CONN_REMOVING);
	refresh_stop(d, c);
	m = daemon_cmd(d, c->core, FP_CMD_REMOVE, false);
	m->flow = c->flow;
	m->err = err;
	daemon_submit(d, c->core);
}

void closing_shut_wr(struct daemon *d, unsigned int core,
		     const struct fp_msg *m)
{
	struct conn *c = conn_by_flow(d, core, m->flow);

	if (!c)
		return;
	shutdown(c->fd, SHUT_WR);
	bridge_drain(d);
}

/* What Linux sent meanwhile goes with the numbers that the wire ended with: the
 * ACK of the peer's FIN, a RST. */
static void send_kept(struct daemon *d, struct held_frame *list)
{
	struct held_frame *h;

	DL_FOREACH (list, h)
		bridge_from_linux(d, h);
}

static void count_removed(struct daemon *d, uint32_t how)
{
	switch (how) {
	case FP_REMOVED_ASKED:
		d->count.removed_asked++;
		break;
	case FP_REMOVED_CLOSE:
		d->count.removed_close++;
		break;
	case FP_REMOVED_ABORT:
		d->count.removed_abort++;
		break;
	case FP_REMOVED_TIMEOUT:
		d->count.removed_timeout++;
		break;
	}
}

void closing_removed(struct daemon *d, unsigned int core,
		     const struct fp_msg *m)
{
	struct conn *c = conn_by_flow(d, core, m->flow);
	struct held_frame *syn_in, *syn_out, *kept;
	struct remnant *l;
	bool reset;

	if (!c)
		return;
	d->cores[core].by_flow[c->flow.index] = NULL;
	d->cores[core].flows--;
	count_removed(d, m->how);
	closing_unwatch(d, c);
	if (m->how == FP_REMOVED_FROZEN && handover_frozen(d, c))
		return;
	syn_in = c->syn_in;
	syn_out = c->syn_out;
	kept = c->held;
	if (c->rst)
		DL_APPEND(kept, c->rst);
	c->syn_in = c->syn_out = c->held = NULL;
	c->fin_in |= m->view.rcv_fin;
	l = remnant_new(d, c, &m->view);
	reset = c->why == CONN_WHY_RESET || m->how == FP_REMOVED_ABORT ||
		m->how == FP_REMOVED_TIMEOUT;
	if (reset && !c->rst)
		snapshot_reset(c->fd);
	if (m->err) {
		program_slot_keep(c->program, c->cookie, c->slot);
		c->slot = SLOTS_NONE;
	}
	c->rst = NULL;
	conn_free(d, c); /* closes the shadow socket: FIN */
	if (l)
		send_kept(d, kept);
	held_free(kept);
	bridge_drain(d);
	if (syn_out)
		bridge_from_linux(d, syn_out);
	if (syn_in)
		bridge_to_linux(d, syn_in->data, syn_in->len);
	free(syn_out);
	free(syn_in);
}

void closing_program_gone(struct daemon *d, struct conn *c, bool reset)
{
	struct fp_msg *m;

	if (reset)
		c->why = CONN_WHY_RESET;
	if (c->phase != CONN_LIVE)
		return; /* being installed: see offload.c; or leaving already */
	if (reset) {
		closing_remove(d, c, CONN_WHY_RESET, ECONNRESET);
		return;
	}
	m = daemon_cmd(d, c->core, FP_CMD_CLOSE, false);
	m->flow = c->flow;
	daemon_submit(d, c->core);
}

/* ---- shadow sockets
 * -------------------------------------------------------------- */

void closing_watch(struct daemon *d, struct conn *c)
{
	/* EPOLLERR and EPOLLHUP are always reported. */
	struct epoll_event ev = {.events = EPOLLET, .data.ptr = c};

	if (epoll_ctl(d->shadow_epoll, EPOLL_CTL_ADD, c->fd, &ev) != 0)
		log_warn("can't watch a shadow socket: %s", strerror(errno));
}

void closing_unwatch(struct daemon *d, const struct conn *c)
{
	epoll_ctl(d->shadow_epoll, EPOLL_CTL_DEL, c->fd, NULL);
}

bool closing_is_over(const struct conn *c)
{
	struct tcp_info ti;
	socklen_t len = sizeof(ti);

	return getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &ti, &len) == 0 &&
	       ti.tcpi_state == TCP_CLOSE;
}

uint32_t closing_over_error(const struct conn *c)
{
	socklen_t len = sizeof(int);
	int so = 0;

	getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &so, &len);
	if (so > 0)
		return (uint32_t)so;
	return c->fin_in && c->fin_out ? ESHUTDOWN : ECONNRESET;
}

void closing_look(struct daemon *d, struct conn *c)
{
	uint32_t err;

	if (c->phase != CONN_LIVE || !closing_is_over(c))
		return;
	err = closing_over_error(c);
	/* Linux has nothing left to do, the program has still to close. */
	if (err != ESHUTDOWN)
		closing_remove(d, c, CONN_WHY_LINUX, err);
}

bool closing_renew(struct daemon *d, struct conn *c, const struct frame *syn,
		   bool out)
{
	struct held_frame **kept = out ? &c->syn_out : &c->syn_in;

	if (!closing_is_over(c))
		return false;
	free(*kept); /* the peer asked again */
	*kept = held_copy(syn->data, syn->len);
	d->count.renewed++;
	if (c->phase == CONN_LIVE)
		closing_remove(d, c, CONN_WHY_LINUX, closing_over_error(c));
	return true;
}

void closing_shadow_events(struct daemon *d)
{
	struct epoll_event ev[SHADOW_BATCH];
	int n;

	do {
		n = epoll_wait(d->shadow_epoll, ev, SHADOW_BATCH, 0);
		for (int i = 0; i < n; i++)
			closing_look(d, ev[i].data.ptr);
	} while (n == SHADOW_BATCH);
}
