/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * offload.c - how a connection comes to the fast path
 *
 * Read first: tcp(7) TCP_REPAIR, slowpath/snapshot.h, fastpath/fastpath.h.
 *
 * A request runs to the INSTALL command without a pause, and no frame from the
 * wire is given to Linux meanwhile, so the state that is copied stands still.
 *   0 the program stops using it (xts_proto.h "Taking")
 *   1 is it TCP, ESTABLISHED, of our network namespace, of an address of ours?
 *   2 what Linux has sent so far is read from the TAP and put on the wire
 *   3 the headers that Linux uses for this peer: from the cache, else Linux is
 *     asked by a keepalive segment into the TAP; its ACK shows them
 *     (or does not, where Linux has to find the neighbour first)
 *   4 buffers and a flow are set aside
 *   5 snapshot_take(): do Linux's queues fit into the buffers? From here on the
 *     connection is the fast path's
 *   6 INSTALL. Frames of the peer's are held until INSTALLED, then injected in
 *     order, and RELEASE lets the core begin
 * Until then every failure leaves the socket to Linux as it was, with a reason
 * for the program. Data that the peer has yet to acknowledge are sent again
 * by the fast path where needed; Linux gets its ACKs for them from us
 * (conn.unacked, bridge.c).
 *
 * Bounds: CONN_HELD_MAX frames held a connection; flows are counted here, so
 * that a full table is noticed before Linux's data are taken.
 */
#include "slowpath/offload.h"
#include "slowpath/bridge.h"
#include "slowpath/closing.h"
#include "slowpath/handover.h"
#include "slowpath/log.h"
#include "slowpath/pathmtu.h"
#include "slowpath/refresh.h"
#include "slowpath/snapshot.h"
#include "slowpath/sysctl.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

/* A call on a kernel socket takes less, if it has a CPU. A program may claim
 * for ever that it is in one. */
#define BEGIN_NS 50000u
#define ECN_MASK 0x3 /* of the traffic class (RFC 3168) */

static void decline(struct daemon *d, struct program_ctx *x, uint64_t cookie,
		    enum xts_reason reason)
{
	struct fp_msg *m = daemon_cmd(d, 0, FP_CMD_REPLY, false);

	m->ctx = &x->fp;
	m->reply = (struct xts_reply){
		.type = XTS_REPLY_DECLINED, .cookie = cookie, .err = reason};
	daemon_submit(d, 0);
	d->count.declined++;
}

static bool is_ours(const struct daemon *d, const struct conn_key *key)
{
	const struct tap_addr *addrs;
	unsigned int n = tap_owned(d->cfg->tap, &addrs);
	size_t alen = key->family == AF_INET6 ? 16 : 4;
	for (unsigned int i = 0; i < n; i++)
		if (addrs[i].family == (int)key->family &&
		    memcmp(addrs[i].addr, key->local, alen) == 0)
			return true;
	return false;
}

static enum xts_reason check_request(struct daemon *d, int fd,
				     struct conn_key *key)
{
	enum xts_reason reason = snapshot_key(fd, key);

	if (reason != XTS_REASON_NONE)
		return reason;
	if (!is_ours(d, key))
		return XTS_REASON_NOT_OURS;
	if (d->stopping)
		return XTS_REASON_STOPPING;
	if (conn_find(d, key) || remnant_find(d, key))
		return XTS_REASON_DUPLICATE;
	return XTS_REASON_NONE;
}

/* ---- headers of frames to the peer
 * ---------------------------------------------- */

/* Make Linux send an ACK to the peer; bridge.c takes it into the cache. */
static struct cache_entry *probe_headers(struct daemon *d, struct conn *c)
{
	struct translation t = {0};
	/* Who sends it does not matter. */
	uint8_t l2[FP_L2_MAX] = {2, 0, 0, 0, 0, 1}, buf[128];
	struct cache_entry *e;
	uint32_t rcv_nxt, snd_una, len;

	if (!snapshot_numbers(c->fd, &rcv_nxt, &snd_una))
		return NULL;
	memcpy(l2 + 6, d->mac, 6);
	l2[12] = c->key.family == AF_INET6 ? ETHERTYPE_IPV6 >> 8
					   : ETHERTYPE_IP >> 8;
	l2[13] = c->key.family == AF_INET6 ? ETHERTYPE_IPV6 & 0xff
					   : ETHERTYPE_IP & 0xff;
	len = translate_build_ack(&c->key, l2, &t, rcv_nxt, snd_una, UINT16_MAX,
				  0, 0, true, buf);
	bridge_to_linux(d, buf, len);
	bridge_drain(d);
	e = cache_find(&d->cache, &c->key);
	if (e)
		d->count.probed++;
	return e;
}

/* ---- from request to INSTALL
 * ------------------------------------------------------- */

static void fill_conn(struct conn *c, const struct flow_params *p)
{
	c->t = (struct translation){
		.snd_base = p->snd_una + p->tx_len,
		.rcv_base = p->rcv_nxt,
		.snd_behind = p->tx_len,
		.ts_offset = p->ts_offset,
		.rcv_wscale = p->rcv_wscale,
		.timestamps = p->timestamps,
	};
	memcpy(c->l2, p->l2, FP_L2_MAX);
	c->ttl = p->ttl;
	c->tos = p->tos;
	c->flow_label = p->flow_label;
	c->ts_recent = p->ts_recent;
	c->snd_mss = p->snd_mss;
	c->unacked = p->tx_len > 0;
}

static void send_install(struct daemon *d, struct conn *c)
{
	const struct flow_params *p = &c->install->params;
	struct fp_msg *m;

	conn_set_phase(c, CONN_INSTALLING);
	d->cores[c->core].flows++;
	m = daemon_cmd(d, c->core, FP_CMD_INSTALL, false);
	m->params = p;
	m->value = !c->held;
	m->how = fp_ev_taken(d->cores[c->core].core);
	daemon_submit(d, c->core);
	if (c->unacked)
		bridge_ack_linux(d, c, p->snd_nxt);
}

/*
 * The congestion control that the program, the route or the sysctl chose in
 * Linux, or the operator for all. One that we don't have becomes cubic, which
 * is said once. DCTCP without ECN has nothing to go by: Linux uses Reno then.
 */
static void choose_cc(struct daemon *d, struct conn *c, struct flow_params *p)
{
	char name[CONN_NAME_MAX];

	if (d->opt->congestion)
		snprintf(p->cc, sizeof(p->cc), "%s", d->opt->congestion);
	p->cc_fixed = d->opt->congestion;
	if (strcmp(p->cc, "dctcp") == 0 && !p->ecn)
		strcpy(p->cc, "reno");
	if (fp_cc_known(p->cc))
		return;
	if (!d->cc_unknown_said)
		log_warn(
			"%s: the fast path has no congestion control '%s': cubic instead (said once)",
			conn_name(&c->key, name), p->cc);
	d->cc_unknown_said = true;
	strcpy(p->cc, "cubic");
}

/* Copy the connection; NONE: it is the fast path's from now on. */
static enum xts_reason take(struct daemon *d, struct program_ctx *x,
			    struct conn *c, const struct cache_entry *e,
			    bool tuned)
{
	struct flow_params *p = &c->install->params;
	uint8_t *rx =
		c->program->mem + program_slot_offset(c->program, c->slot);
	enum xts_reason reason;

	if (tuned && snapshot_urgent(c->fd))
		return XTS_REASON_URGENT;
	p->key = c->key;
	p->ctx = &x->fp;
	p->cookie = c->cookie;
	p->rx_buf = program_slot_offset(c->program, c->slot);
	p->buf_size = DAEMON_BUF_SIZE;
	p->buf_max = d->opt->app_memory ? d->buf_limit : 0;
	memcpy(p->l2, e->l2, FP_L2_MAX);
	p->ttl = e->ttl;
	p->tos = e->tos & ~ECN_MASK; /* the fast path sets it itself */
	p->flow_label = e->flow_label;
	c->core = e->core;
	reason = snapshot_take(
		c->fd, DAEMON_BUF_SIZE, rx, rx + (size_t)DAEMON_BUF_SIZE,
		e->gap ? SNAPSHOT_GAP_UNKNOWN : SNAPSHOT_GAP_NONE, p);
	if (reason != XTS_REASON_NONE)
		return reason;
	snapshot_options(c->fd, tuned, p);
	choose_cc(d, c, p);
	p->stdurg = sysctl_value(&d->stdurg, daemon_now_ns());
	if (p->timestamps) {
		p->ts_recent = cache_ts_recent(e, p->rcv_nxt);
		p->ts_offset = cache_ts_offset(e, p->ts_offset);
	}
	fill_conn(c, p);
	pathmtu_install(d, c, p);
	return reason;
}

static enum xts_reason offload(struct daemon *d, struct program_ctx *x,
			       struct conn *c, bool tuned)
{
	struct cache_entry *e;

	bridge_drain(d);
	e = cache_find(&d->cache, &c->key);
	if (!e)
		e = probe_headers(d, c);
	if (!e)
		return XTS_REASON_NO_ROUTE_SEEN;
	if (e->strange)
		return XTS_REASON_OPTIONS;
	if (d->cores[e->core].flows >= d->opt->flows)
		return XTS_REASON_NO_FLOW;
	c->slot = program_slot_take(c->program);
	c->install = calloc(1, sizeof(*c->install));
	if (c->slot == SLOTS_NONE || !c->install)
		return XTS_REASON_NO_MEMORY;
	c->install->conn = c;
	return take(d, x, c, e, tuned);
}

/* The program leaves the socket alone from here on. A call that it is making
 * just now ends soon; if the CPU is ours, it gets that. */
static bool begin(const struct program_ctx *x, uint32_t number)
{
	struct xts_ctx_area *area = x->fp.area;
	uint64_t end;

	if (!number)
		return true;
	__atomic_store_n(&area->taken, number, __ATOMIC_SEQ_CST);
	/* Partner: the program, which stores in_kernel, fences and looks. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	end = daemon_now_ns() + BEGIN_NS;
	while (__atomic_load_n(&area->in_kernel, __ATOMIC_ACQUIRE) == number) {
		if (daemon_now_ns() > end)
			return false;
		sched_yield();
	}
	return true;
}

void offload_request(struct daemon *d, struct program *a, struct program_ctx *x,
		     const struct xts_ctl_msg *msg, int fd)
{
	char name[CONN_NAME_MAX];
	struct conn_key key;
	struct conn *c;
	enum xts_reason reason = XTS_REASON_BUSY;

	if (begin(x, msg->flow))
		reason = check_request(d, fd, &key);
	if (reason != XTS_REASON_NONE) {
		close(fd);
		decline(d, x, msg->cookie, reason);
		return;
	}
	c = conn_new(d, a, msg->ctx, &key, fd);
	if (!c) {
		close(fd);
		decline(d, x, msg->cookie, XTS_REASON_NO_MEMORY);
		return;
	}
	c->cookie = msg->cookie;
	reason = offload(d, x, c, msg->flags & XTS_F_TUNED);
	if (reason == XTS_REASON_NONE) {
		c->install->params.nodelay = msg->flags & XTS_F_NODELAY;
		send_install(d, c);
		return;
	}
	log_debug("%s: stays with the kernel, reason %d", conn_name(&key, name),
		  reason);
	conn_free(d, c);
	decline(d, x, msg->cookie, reason);
}

/* ---- INSTALLED
 * ------------------------------------------------------------------------ */

/* The core has no room although we counted; what Linux gave away is lost. */
static void install_failed(struct daemon *d, struct conn *c)
{
	const struct flow_params *p = &c->install->params;
	struct held_frame *h, *tmp, *held = c->held;
	struct program_ctx *x = NULL;
	char name[CONN_NAME_MAX];

	if (c->program->sock >= 0)
		x = program_ctx_find(c->program, c->ctx);
	log_warn("%s: the core refused it", conn_name(&c->key, name));
	d->cores[c->core].flows--;
	c->held = NULL;
	if (p->rx_len || p->tx_len)
		snapshot_reset(c->fd);
	if (x)
		decline(d, x, c->cookie, XTS_REASON_NO_FLOW);
	conn_free(d, c);
	DL_FOREACH_SAFE (held, h, tmp) {
		bridge_to_linux(d, h->data, h->len);
		free(h);
	}
}

static void inject_held(struct daemon *d, struct conn *c)
{
	struct held_frame *h, *tmp;
	struct fp_msg *m;

	DL_FOREACH_SAFE (c->held, h, tmp) {
		m = daemon_cmd(d, c->core, FP_CMD_INJECT, false);
		m->flow = c->flow;
		m->frame_len = h->len;
		memcpy(m->frame, h->data, h->len);
		daemon_submit(d, c->core);
		free(h);
	}
	c->held = NULL;
	c->n_held = 0;
	m = daemon_cmd(d, c->core, FP_CMD_RELEASE, false);
	m->flow = c->flow;
	daemon_submit(d, c->core);
}

void offload_installed(struct daemon *d, unsigned int core,
		       const struct fp_msg *m)
{
	const struct install *in = (const void *)m->params;
	struct conn *c = in->conn;

	static_assert(offsetof(struct install, params) == 0, "cast above");
	if (m->err || m->flow.index >= d->opt->flows) {
		install_failed(d, c);
		return;
	}
	c->flow = m->flow;
	d->cores[core].by_flow[m->flow.index] = c;
	conn_set_phase(c, CONN_LIVE);
	refresh_start(d, c);
	free(c->install);
	c->install = NULL;
	d->count.offloaded++;
	if (!m->value)
		inject_held(d, c);
	/* A context of a program that ended may go before the core looks. */
	if (c->move && c->program->sock >= 0)
		conn_move(d, c, c->program->ctx[c->ctx]);
	cache_forget(&d->cache, &c->key);
	closing_watch(d, c);
	if (c->rst)
		closing_remove(d, c, CONN_WHY_LINUX,
			       closing_socket_error(c->fd));
	else if (c->program->sock < 0)
		closing_program_gone(d, c, c->why == CONN_WHY_RESET);
	else if (c->leave)
		handover_installed(d, c);
	else if (d->stop_resets)
		closing_remove(d, c, CONN_WHY_RESET, ECONNRESET);
	else if (d->stopping)
		handover_ask(d, c);
}
