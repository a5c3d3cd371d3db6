/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * handover.c - how an offloaded connection goes back to the kernel
 *
 * Read first: xts_proto.h "Leaving", restore.c, fastpath.h FREEZE.
 *
 * Either the program wants it (XTS_CTL_HANDOVER), or the service, which asks
 * the program to (FP_CMD_LEAVE): only the program knows what it has consumed,
 * and it has to put the new socket in the old one's place.
 *   1 a socket is prepared as far as the connection need not be touched; what
 *     fails here is told the program, and the connection stays offloaded
 *   2 FREEZE. The core takes what the program has put into its ring, and lets
 *     go of the flow. From here on a failure is a reset
 *   3 REMOVED(FROZEN): conntrack is made to take the wire's numbers, the old
 *     socket is closed silently, the new one becomes the connection
 *   4 Linux is shown what can't be set: a segment of the peer's with its
 *     timestamp, the peer's FIN
 *   5 unsent data, and our FIN if one was due or sent: an equal one
 *   6 the socket goes to the program, then the reply that tells of it
 * Steps 3 to 5 run without a pause, so there is nothing to hold: frames that
 * the core saw before it let go came before the event, later ones come after
 * it, when the connection is one like any other. What Linux sends meanwhile
 * waits in the TAP until the connection has left the tables.
 *
 * A connection that its program has closed, with data still to be acknowledged,
 * becomes a socket that is closed at once: Linux sends the rest and the FIN.
 * The same if the program died on the way.
 *
 * Once both sides' FIN are through there is nothing to hand over: ENOTCONN.
 *
 * After a failure in step 3 or later the peer gets a RST, from Linux as long as
 * it has a socket that can send it, else one of ours; the program gets
 * ECONNRESET and may still read what had arrived.
 *
 * Bounds: a socket a connection. Sockets for programs that don't read their
 * control socket wait in program.handed, at most one for each connection that
 * the program had.
 */
#include "slowpath/handover.h"
#include "slowpath/bridge.h"
#include "slowpath/closing.h"
#include "slowpath/conntrack.h"
#include "slowpath/control.h"
#include "slowpath/log.h"
#include "slowpath/restore.h"
#include "slowpath/snapshot.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include <utlist.h>

/* A kernel socket on its way to its program. */
struct handed {
	struct handed *prev, *next;
	uint64_t cookie;
	uint32_t ctx; /* that it holds on to, for the reply */
	uint8_t core; /* whose reply ring */
	int fd;
};

static struct log_limit failed_limit, conntrack_limit;

static void tell(struct daemon *d, struct program *a, uint32_t ctx,
		 unsigned int core, const struct xts_reply *r)
{
	struct program_ctx *x = a->ctx[ctx];
	struct fp_msg *m;

	if (a->sock < 0 || !x)
		return;
	m = daemon_cmd(d, core, FP_CMD_REPLY, false);
	m->ctx = &x->fp;
	m->reply = *r;
	daemon_submit(d, core);
}

/* ---- asking
 * --------------------------------------------------------------------- */

static void refuse(struct daemon *d, struct program *a, uint32_t ctx,
		   unsigned int core, uint64_t cookie, int err)
{
	struct xts_reply r = {.type = XTS_REPLY_HANDED,
			      .cookie = cookie,
			      .err = (uint32_t)-err};

	tell(d, a, ctx, core, &r);
}

static int frozen_alloc(struct conn *c)
{
	if (!c->frozen)
		c->frozen = calloc(1, sizeof(*c->frozen));
	return c->frozen ? 0 : -ENOMEM;
}

/* All that can fail without harm. */
static int prepare(struct conn *c)
{
	int rc = frozen_alloc(c);

	if (rc == 0 && c->fin_in && c->fin_out)
		rc = -ENOTCONN;
	if (rc == 0 && c->fresh < 0) {
		rc = restore_prepare(c->fd);
		if (rc >= 0)
			c->fresh = rc;
	}
	return rc < 0 ? rc : 0;
}

void handover_begin(struct daemon *d, struct conn *c)
{
	int rc = prepare(c);
	struct fp_msg *m;

	if (rc) {
		refuse(d, c->program, c->ctx, c->core, c->cookie, rc);
		return;
	}
	c->why = CONN_WHY_HANDOVER;
	conn_set_phase(c, CONN_REMOVING);
	m = daemon_cmd(d, c->core, FP_CMD_FREEZE, false);
	m->flow = c->flow;
	m->frozen = c->frozen;
	daemon_submit(d, c->core);
}

void handover_request(struct daemon *d, struct program *a, struct conn *c,
		      const struct xts_ctl_msg *msg)
{
	unsigned int core = msg->core < d->n_cores ? msg->core : 0;

	if (c && c->phase == CONN_LIVE)
		handover_begin(d, c);
	else if (c && c->phase == CONN_INSTALLING)
		c->leave = true;
	else if (!c || c->why != CONN_WHY_HANDOVER)
		refuse(d, a, msg->ctx, core, msg->cookie, -ENOTCONN);
}

void handover_ask(struct daemon *d, struct conn *c)
{
	struct fp_msg *m;

	if (c->phase != CONN_LIVE || (c->fin_in && c->fin_out) ||
	    frozen_alloc(c) != 0)
		return;
	m = daemon_cmd(d, c->core, FP_CMD_LEAVE, false);
	m->flow = c->flow;
	m->frozen = c->frozen;
	daemon_submit(d, c->core);
}

/* ---- to the program
 * ------------------------------------------------------------- */

static void handed_free(struct handed *h)
{
	close(h->fd);
	free(h);
}

/* -EAGAIN: later. */
static int handed_send(struct program *a, const struct handed *h)
{
	struct xts_ctl_msg msg = {.type = XTS_CTL_HANDED,
				  .version = XTS_PROTO_VERSION,
				  .cookie = h->cookie};
	struct xts_reply r = {.type = XTS_REPLY_HANDED, .cookie = h->cookie};
	int rc = control_send(a, &msg, &h->fd, 1);

	if (rc == -EAGAIN || rc == -ETOOMANYREFS || rc == -ENOBUFS)
		return -EAGAIN;
	/* Whatever else it is, its program is going. */
	if (rc == 0)
		tell(a->d, a, h->ctx, h->core, &r);
	program_ctx_put(a, h->ctx);
	return 0;
}

static void hand(struct daemon *d, struct program *a, struct handed *h)
{
	/* In order: one that waits holds back the others. */
	if (!a->handed && handed_send(a, h) == 0) {
		handed_free(h);
		return;
	}
	DL_APPEND(a->handed, h);
	d->handing = true;
}

static bool flush_program(struct program *a)
{
	struct handed *h;

	while ((h = a->handed) && handed_send(a, h) == 0) {
		DL_DELETE(a->handed, h);
		handed_free(h);
	}
	return a->handed;
}

bool handover_flush(struct daemon *d)
{
	struct program *a;

	if (!d->handing)
		return false;
	d->handing = false;
	DL_FOREACH (d->programs, a)
		d->handing |= flush_program(a);
	return d->handing;
}

void handover_forget(struct program *a)
{
	struct handed *h, *tmp;

	DL_FOREACH_SAFE (a->handed, h, tmp)
		handed_free(h);
	a->handed = NULL;
}

/* ---- segments
 * ------------------------------------------------------------------- */

#define ACK_ROOM 128u

static uint16_t window_of(const struct flow_frozen *z)
{
	uint32_t wnd = z->snd_wnd >> z->snd_wscale;

	return wnd > UINT16_MAX ? UINT16_MAX : (uint16_t)wnd;
}

static void set_flag(uint8_t *data, uint32_t len, bool fin)
{
	struct frame f;

	if (frame_parse(&f, data, len) != FRAME_TCP)
		return;
	if (fin)
		frame_tcp(&f)->fin = 1;
	else
		frame_tcp(&f)->rst = 1;
	frame_set_checksums(&f);
}

/* The peer's last ACK once more, for its timestamp; its FIN. */
static void show_linux(struct daemon *d, const struct conn *c)
{
	const struct flow_frozen *z = c->frozen;
	struct translation t = {.timestamps = z->timestamps};
	uint8_t buf[ACK_ROOM];
	uint32_t len;

	if (!z->timestamps && !z->rcv_fin)
		return;
	len = translate_build_ack(&c->key, c->l2, &t, z->rcv_nxt, z->snd_una,
				  window_of(z), z->ts_recent,
				  daemon_now_ms() + z->ts_offset, false, buf);
	if (z->rcv_fin)
		set_flag(buf, len, true);
	bridge_show_linux(d, buf, len);
}

/* Nobody else can: the old socket is gone, the new one is none. */
static void send_rst(struct daemon *d, const struct conn *c)
{
	const struct flow_frozen *z = c->frozen;
	struct translation t = {.timestamps = z->timestamps};
	struct conn_key key = {.family = c->key.family,
			       .lport = c->key.pport,
			       .pport = c->key.lport};
	uint8_t buf[ACK_ROOM], l2[FP_L2_MAX];
	uint32_t len;

	/* It is built as the peer's, for Linux: turned round it is ours. */
	memcpy(key.local, c->key.peer, sizeof(key.local));
	memcpy(key.peer, c->key.local, sizeof(key.peer));
	memcpy(l2, c->l2, FP_L2_MAX);
	memcpy(l2, c->l2 + 6, 6);
	memcpy(l2 + 6, c->l2, 6);
	len = translate_build_ack(
		&key, l2, &t, z->snd_nxt + z->snd_fin, z->rcv_nxt + z->rcv_fin,
		0, daemon_now_ms() + z->ts_offset, z->ts_recent, false, buf);
	set_flag(buf, len, false);
	bridge_to_wire(d, c->core, buf, len);
}

/* ---- the step
 * ------------------------------------------------------------------- */

/* Linux's next frames to the peer, and a later offload, need no guess. */
static void remember(struct daemon *d, const struct conn *c)
{
	struct cache_entry e = {.key = c->key,
				.flow_label = c->flow_label,
				.tsecr = c->frozen->ts_recent,
				.ttl = c->ttl,
				.tos = c->tos,
				.core = c->core,
				.ts_offset = c->frozen->ts_offset,
				.ts_seen = c->frozen->timestamps};

	memcpy(e.l2, c->l2, FP_L2_MAX);
	cache_enter(&d->cache, &e);
}

/* Steps 3 to 5; what fails, if not NULL. */
static const char *replace(struct daemon *d, struct conn *c, int *err,
			   bool *silenced)
{
	int rc = conntrack_liberal(d->conntrack_fd, &c->key);
	char name[CONN_NAME_MAX];

	if (rc)
		log_limited(&conntrack_limit, LOG_LEVEL_WARN,
			    "%s: can't tell conntrack of the hand-over: %s",
			    conn_name(&c->key, name), strerror(-rc));
	*err = restore_connect(c->fresh, c->fd, c->frozen, silenced);
	if (*err)
		return "no kernel socket takes it over";
	show_linux(d, c);
	*err = restore_send(c->fresh, c->fd, c->frozen);
	if (*err == 0)
		return NULL;
	snapshot_reset(c->fresh); /* it can send a RST of its own */
	return "its unsent data find no room";
}

static void tell_reset(struct daemon *d, struct conn *c)
{
	struct xts_reply r = {.type = XTS_REPLY_RECV,
			      .flags = XTS_F_RESET,
			      .cookie = c->cookie,
			      .err = ECONNRESET};

	if (c->frozen->closing)
		return; /* the core has told it: closed */
	tell(d, c->program, c->ctx, c->core, &r);
	program_slot_keep(c->program, c->cookie, c->slot);
	c->slot = SLOTS_NONE;
}

static void done(struct daemon *d, struct conn *c)
{
	struct program *a = c->program;
	struct handed *h = NULL;
	char name[CONN_NAME_MAX];

	log_debug("%s: handed over", conn_name(&c->key, name));
	d->count.handed_over++;
	remember(d, c);
	if (a->sock >= 0 && !c->frozen->closing)
		h = calloc(1, sizeof(*h));
	if (h) {
		*h = (struct handed){.cookie = c->cookie,
				     .ctx = c->ctx,
				     .core = c->core,
				     .fd = c->fresh};
		program_ctx_get(a, c->ctx);
		c->fresh = -1;
	}
	conn_free(d, c); /* may be the last of a program that has ended */
	if (h)
		hand(d, a, h);
	bridge_drain(d);
}

static void lost(struct daemon *d, struct conn *c, const char *what, int err)
{
	char name[CONN_NAME_MAX];

	d->count.handover_failed++;
	log_limited(&failed_limit, LOG_LEVEL_WARN, "%s: reset: %s (%s)",
		    conn_name(&c->key, name), what, strerror(-err));
}

bool handover_frozen(struct daemon *d, struct conn *c)
{
	bool silenced = false;
	const char *what = "it can't be handed over";
	int err;

	/* What the old socket has to say is not for the wire. */
	bridge_drain(d);
	err = prepare(c);
	if (c->rst || c->why == CONN_WHY_RESET) {
		tell_reset(d, c);
		return false;
	}
	if (err == 0)
		what = replace(d, c, &err, &silenced);
	if (err == 0) {
		done(d, c);
		return true;
	}
	lost(d, c, what, err);
	tell_reset(d, c);
	if (!silenced)
		return false;
	if (snapshot_unacked(c->fresh) < 0)
		send_rst(d, c);
	conn_free(d, c);
	bridge_drain(d);
	return true;
}
