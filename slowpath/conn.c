/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * conn.c - tables of offloaded and of closing connections
 *
 * A connection is in daemon.conns from the request for its offload until its
 * core has forgotten the flow. What remains of it then is the difference
 * between two sequence spaces: a struct remnant, kept as long as Linux has a
 * socket of that name. uthash keeps a table's entries in order of insertion,
 * and every remnant waits equally long before Linux is asked (inet_diag), so
 * the table's first entry is the next to look at. At the end of a passive close
 * Linux forgets the socket at once, but the peer answers a FIN that was sent
 * twice twice, and may repeat its own: a second table, ordered in the same way,
 * has these remnants for some seconds more.
 *
 * Bounds: connections by the cores' flow tables; remnants by what Linux keeps
 * (net.ipv4.tcp_max_tw_buckets) plus one check period, and by the passive
 * closes of REMNANT_LATE_S.
 */
#include "slowpath/conn.h"
#include "slowpath/program.h"
#include "slowpath/handover.h"
#include "slowpath/log.h"
#include "slowpath/refresh.h"
#include "slowpath/snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <utlist.h>

#define REMNANT_CHECK_S 61u /* just after TIME_WAIT */
#define REMNANT_LATE_S 4u   /* a few retransmissions */
#define REMNANT_BATCH 4096u /* looked at in one turn */

static const char *const phase_names[] = {
	[CONN_HOLD] = "hold", [CONN_INSTALLING] = "installing",
	[CONN_LIVE] = "live", [CONN_REMOVING] = "removing",
	[CONN_GONE] = "gone",
};

/* Bit p of steps[q]: the step from q to p exists. */
static const uint8_t steps[] = {
	[CONN_HOLD] = 1 << CONN_INSTALLING | 1 << CONN_GONE,
	[CONN_INSTALLING] = 1 << CONN_LIVE | 1 << CONN_GONE,
	[CONN_LIVE] = 1 << CONN_REMOVING | 1 << CONN_GONE,
	[CONN_REMOVING] = 1 << CONN_LIVE | 1 << CONN_GONE,
	[CONN_GONE] = 0,
};

const char *conn_name(const struct conn_key *key, char *buf)
{
	char l[INET6_ADDRSTRLEN], p[INET6_ADDRSTRLEN];
	const char *fmt = key->family == AF_INET6 ? "[%s]:%u-[%s]:%u"
						  : "%s:%u-%s:%u";

	inet_ntop((int)key->family, key->local, l, sizeof(l));
	inet_ntop((int)key->family, key->peer, p, sizeof(p));
	snprintf(buf, CONN_NAME_MAX, fmt, l, ntohs(key->lport), p,
		 ntohs(key->pport));
	return buf;
}

void conn_set_phase(struct conn *c, enum conn_phase phase)
{
	char name[CONN_NAME_MAX];

	assert(steps[c->phase] >> phase & 1);
	log_debug("%s: %s -> %s", conn_name(&c->key, name),
		  phase_names[c->phase], phase_names[phase]);
	c->phase = (uint8_t)phase;
}

struct conn *conn_new(struct daemon *d, struct program *program, uint32_t ctx,
		      const struct conn_key *key, int fd)
{
	struct conn *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->key = *key;
	c->fd = fd;
	c->fresh = -1;
	c->program = program;
	c->ctx = (uint16_t)ctx;
	c->slot = SLOTS_NONE;
	c->flow.index = FP_NO_FLOW;
	HASH_ADD(hh, d->conns, key, sizeof(c->key), c);
	DL_APPEND(program->conns, c);
	program->n_conns++;
	program_ctx_get(program, ctx);
	return c;
}

void held_free(struct held_frame *list)
{
	struct held_frame *h, *tmp;

	DL_FOREACH_SAFE (list, h, tmp)
		free(h);
}

void conn_free(struct daemon *d, struct conn *c)
{
	handover_refuse(d, c, -ENOTCONN);
	conn_set_phase(c, CONN_GONE);
	refresh_stop(d, c);
	HASH_DELETE(hh, d->conns, c);
	DL_DELETE(c->program->conns, c);
	c->program->n_conns--;
	program_ctx_put(c->program, c->ctx);
	if (c->slot != SLOTS_NONE)
		program_slot_give(c->program, c->slot);
	if (c->fd >= 0)
		close(c->fd);
	if (c->fresh >= 0)
		close(c->fresh);
	free(c->frozen);
	held_free(c->held);
	free(c->rst);
	free(c->syn_in);
	free(c->syn_out);
	free(c->install);
	program_put(d, c->program);
	free(c);
}

struct conn *conn_find(struct daemon *d, const struct conn_key *key)
{
	struct conn *c;

	HASH_FIND(hh, d->conns, key, sizeof(*key), c);
	return c;
}

struct conn *conn_by_flow(struct daemon *d, unsigned int core,
			  struct flow_id id)
{
	struct conn *c;

	if (core >= d->n_cores || id.index >= d->opt->flows)
		return NULL;
	c = d->cores[core].by_flow[id.index];
	return c && c->flow.gen == id.gen ? c : NULL;
}

void conn_move(struct daemon *d, struct conn *c, struct program_ctx *x)
{
	struct fp_msg *m = daemon_cmd(d, c->core, FP_CMD_MOVE, false);

	m->flow = c->flow;
	m->ctx = &x->fp;
	daemon_submit(d, c->core);
}

struct held_frame *held_copy(const void *frame, uint32_t len)
{
	struct held_frame *h = malloc(sizeof(*h) + len);

	if (!h)
		return NULL;
	h->prev = h->next = NULL;
	h->len = len;
	memcpy(h->data, frame, len);
	return h;
}

bool conn_hold(struct conn *c, const void *frame, uint32_t len)
{
	struct held_frame *h;

	if (c->n_held == CONN_HELD_MAX)
		return false;
	h = held_copy(frame, len);
	if (!h)
		return false;
	DL_APPEND(c->held, h);
	c->n_held++;
	return true;
}

/* ---- closing connections ---------------------------------------------------
 */

struct remnant *remnant_new(struct daemon *d, const struct conn *c,
			    const struct flow_view *view)
{
	struct remnant *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->key = c->key;
	l->t = c->t;
	l->view = *view;
	l->core = c->core;
	l->fin_in = c->fin_in;
	l->fin_out = c->fin_out;
	l->fin_acked = c->fin_acked;
	l->passive = c->passive || (c->fin_in && !c->fin_out);
	l->check_at_s = daemon_now_s() + REMNANT_CHECK_S;
	HASH_ADD(hh, d->remnants, key, sizeof(l->key), l);
	l->open = !c->rst && !(c->fin_in && c->fin_acked);
	d->remnants_open += l->open;
	return l;
}

struct remnant *remnant_find(struct daemon *d, const struct conn_key *key)
{
	struct remnant *l = NULL;

	if (d->remnants)
		HASH_FIND(hh, d->remnants, key, sizeof(*key), l);
	if (!l && d->late)
		HASH_FIND(hh, d->late, key, sizeof(*key), l);
	return l;
}

void remnant_closed(struct daemon *d, struct remnant *l)
{
	d->remnants_open -= l->open;
	l->open = false;
}

void remnant_free(struct daemon *d, struct remnant *l)
{
	remnant_closed(d, l);
	if (l->late)
		HASH_DELETE(hh, d->late, l);
	else
		HASH_DELETE(hh, d->remnants, l);
	free(l);
}

void remnant_late(struct daemon *d, struct remnant *l)
{
	if (l->late)
		return;
	remnant_closed(d, l);
	HASH_DELETE(hh, d->remnants, l);
	l->late = true;
	l->check_at_s = daemon_now_s() + REMNANT_LATE_S;
	HASH_ADD(hh, d->late, key, sizeof(l->key), l);
}

/* Its time is over, unless Linux still has the socket: then it waits on. */
static void reclaim(struct daemon *d, struct remnant *l, uint32_t now)
{
	if (!l->late) {
		if (snapshot_exists(d->diag_fd, &l->key, d->tap_index)) {
			HASH_DELETE(hh, d->remnants, l);
			l->check_at_s = now + REMNANT_CHECK_S;
			HASH_ADD(hh, d->remnants, key, sizeof(l->key), l);
			return;
		}
		d->count.remnant_reclaimed++;
	}
	remnant_free(d, l);
}

/* Those of a table whose time has come. ns until the next one, -1: none */
static int64_t reclaim_due(struct daemon *d, struct remnant *const *table,
			   uint32_t now)
{
	struct remnant *l;

	for (unsigned int n = 0; (l = *table) != NULL; n++) {
		/* uthash moves the table's head when it goes. */
		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
		int32_t left = (int32_t)(l->check_at_s - now);

		if (left > 0)
			return left * INT64_C(1000000000);
		if (n == REMNANT_BATCH)
			return 0;
		reclaim(d, l, now);
	}
	return -1;
}

int64_t remnant_reclaim(struct daemon *d)
{
	uint32_t now = daemon_now_s();
	int64_t late_ns = reclaim_due(d, &d->late, now);
	int64_t next_ns = reclaim_due(d, &d->remnants, now);

	if (next_ns < 0 || (late_ns >= 0 && late_ns < next_ns))
		return late_ns;
	return next_ns;
}
