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
 * Once both sides' FIN are through there is nothing to hand over: ENOTCONN. Nor
 * is it done while urgent data wait (EV_STAYS): EBUSY.
 *
 * Another process that has a copy of the shadow, for it was forked off or was
 * given one, may ask, too, by showing it; the program is then asked in turn,
 * and everybody who waits gets a descriptor of the one new socket.
 *
 * After a failure in step 3 or later the peer gets a RST, from Linux as long as
 * it has a socket that can send it, else one of ours; the program gets
 * ECONNRESET and may still read what had arrived.
 *
 * Bounds: a socket and WAITING_MAX programs a connection. Sockets for programs
 * that don't read their control socket wait in program.handed, at most one for
 * each time that the program asked.
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
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

#define WAITING_MAX 16u		 /* for one connection */
#define CONTROL_UNREAD_MAX 65536 /* bytes, with Linux's own of each message */

/* Somebody who is to be given the kernel socket: the connection's program, last
 * in conn.handed, or another one that holds a copy of the shadow. */
struct handed {
	struct handed *prev, *next; /* in conn.handed, then program.handed */
	uint64_t cookie;	    /* that program's name for it */
	uint32_t program;
	uint32_t ctx; /* that it holds on to, for the reply ... */
	uint8_t core; /* ... on this core's ring */
	int fd;	      /* -1 until there is one */
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

static void tell_handed(struct daemon *d, struct program *a, uint32_t ctx,
			unsigned int core, uint64_t cookie, int err)
{
	struct xts_reply r = {.type = XTS_REPLY_HANDED,
			      .cookie = cookie,
			      .err = (uint32_t)-err};

	tell(d, a, ctx, core, &r);
}

/* ---- who waits
 * -------------------------------------------------------------------- */

static int wait_add(struct conn *c, struct program *a,
		    const struct xts_ctl_msg *msg)
{
	struct handed *h;
	unsigned int n;

	DL_COUNT(c->handed, h, n);
	if (c->program == a && n && c->handed->prev->program == a->id)
		return 0; /* it has asked before */
	h = n < WAITING_MAX ? calloc(1, sizeof(*h)) : NULL;
	if (!h)
		return n < WAITING_MAX ? -ENOMEM : -EBUSY;
	*h = (struct handed){
		.cookie = msg->cookie,
		.program = a->id,
		.ctx = msg->ctx,
		.core = msg->core < a->d->n_cores ? (uint8_t)msg->core : 0,
		.fd = -1,
	};
	program_ctx_get(a, h->ctx);
	if (c->program == a)
		DL_APPEND(c->handed, h);
	else
		DL_PREPEND(c->handed, h);
	return 0;
}

static void handed_free(struct program *a, struct handed *h)
{
	if (h->fd >= 0)
		close(h->fd);
	if (a)
		program_ctx_put(a, h->ctx);
	free(h);
}

void handover_refuse(struct daemon *d, struct conn *c, int err)
{
	struct handed *h, *tmp;

	DL_FOREACH_SAFE (c->handed, h, tmp) {
		struct program *a = program_find(d, h->program);

		if (a)
			tell_handed(d, a, h->ctx, h->core, h->cookie, err);
		handed_free(a, h);
	}
	c->handed = NULL;
}

/* ---- asking
 * --------------------------------------------------------------------- */

static int frozen_alloc(struct conn *c)
{
	if (!c->frozen)
		c->frozen = calloc(1, sizeof(*c->frozen));
	return c->frozen ? 0 : -ENOMEM;
}

static bool both_ended(const struct conn *c)
{
	return c->fin_in && c->fin_out;
}

/* All that can fail without harm. */
static int prepare(struct conn *c)
{
	int rc = frozen_alloc(c);

	if (rc == 0 && c->fresh < 0) {
		rc = restore_prepare(c->fd);
		if (rc >= 0)
			c->fresh = rc;
	}
	return rc < 0 ? rc : 0;
}

static void begin(struct daemon *d, struct conn *c)
{
	int rc = both_ended(c) ? -ENOTCONN : prepare(c);
	struct fp_msg *m;

	if (rc) {
		handover_refuse(d, c, rc);
		return;
	}
	c->why = CONN_WHY_HANDOVER;
	conn_set_phase(c, CONN_REMOVING);
	m = daemon_cmd(d, c->core, FP_CMD_FREEZE, false);
	m->flow = c->flow;
	m->frozen = c->frozen;
	daemon_submit(d, c->core);
}

void handover_ask(struct daemon *d, struct conn *c)
{
	struct fp_msg *m;

	if (c->phase != CONN_LIVE || both_ended(c) || frozen_alloc(c) != 0)
		return;
	m = daemon_cmd(d, c->core, FP_CMD_LEAVE, false);
	m->flow = c->flow;
	m->frozen = c->frozen;
	daemon_submit(d, c->core);
}

void handover_request(struct daemon *d, struct program *a, struct conn *c,
		      const struct xts_ctl_msg *msg)
{
	int rc = c ? wait_add(c, a, msg) : -ENOTCONN;

	if (rc)
		tell_handed(d, a, msg->ctx,
			    msg->core < d->n_cores ? msg->core : 0, msg->cookie,
			    rc);
	else if (c->phase == CONN_INSTALLING)
		c->leave = true;
	else if (c->phase == CONN_LIVE && c->program == a)
		begin(d, c);
	else if (c->phase == CONN_LIVE && both_ended(c))
		handover_refuse(d, c, -ENOTCONN);
	else
		handover_ask(d, c);
}

struct conn *handover_find(struct daemon *d, int fd)
{
	uint64_t shown = snapshot_cookie(fd);
	struct conn_key key;
	struct conn *c;

	if (!snapshot_name(fd, &key))
		return NULL;
	c = conn_find(d, &key);
	return c && shown && snapshot_cookie(c->fd) == shown ? c : NULL;
}

void handover_installed(struct daemon *d, struct conn *c)
{
	/* The program's own wish, or the others'. */
	if (c->handed && c->handed->prev->program == c->program->id)
		begin(d, c);
	else
		handover_ask(d, c);
}

/* What came for it while it was leaving is looked at now. */
void handover_stays(struct daemon *d, unsigned int core, const struct fp_msg *m)
{
	struct conn *c = conn_by_flow(d, core, m->flow);

	if (!c || c->phase != CONN_REMOVING)
		return;
	handover_refuse(d, c, -(int)m->err);
	conn_set_phase(c, CONN_LIVE);
	if (c->why == CONN_WHY_HANDOVER)
		c->why = CONN_WHY_NONE;
	if (c->rst)
		closing_remove(d, c, CONN_WHY_LINUX,
			       closing_socket_error(c->fd));
	else if (c->program->sock < 0)
		closing_program_gone(d, c, c->why == CONN_WHY_RESET);
	else if (c->why == CONN_WHY_RESET)
		closing_remove(d, c, CONN_WHY_RESET, ECONNRESET);
	else
		closing_look(d, c);
}

/* ---- to the programs
 * ------------------------------------------------------------- */

/* false: later. */
static bool handed_send(struct program *a, const struct handed *h)
{
	struct xts_ctl_msg msg = {.type = XTS_CTL_HANDED,
				  .version = XTS_PROTO_VERSION,
				  .cookie = h->cookie};
	int rc;

	if (h->fd < 0) {
		tell_handed(a->d, a, h->ctx, h->core, h->cookie, -EMFILE);
		return true;
	}
	/* Room is left for answers: without that the program is cut off. */
	if (control_unread(a) > CONTROL_UNREAD_MAX)
		return false;
	rc = control_send(a, &msg, &h->fd, 1);

	if (rc == -EAGAIN || rc == -ETOOMANYREFS || rc == -ENOBUFS)
		return false;
	/* Whatever else it is, its program is going. */
	if (rc == 0)
		tell_handed(a->d, a, h->ctx, h->core, h->cookie, 0);
	return true;
}

/* Takes h over. */
static void hand(struct daemon *d, struct handed *h)
{
	struct program *a = program_find(d, h->program);

	/* In order: one that waits holds back the others. */
	if (!a || a->sock < 0 || (!a->handed && handed_send(a, h))) {
		handed_free(a, h);
		return;
	}
	DL_APPEND(a->handed, h);
	d->handing = true;
}

static bool flush_program(struct program *a)
{
	struct handed *h;

	while ((h = a->handed) && handed_send(a, h)) {
		DL_DELETE(a->handed, h);
		handed_free(a, h);
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
		handed_free(NULL, h);
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

/* A rule that is younger than the connection may keep the peer's FIN away. The
 * end of the stream is all of it that the program has to do with. */
static bool has_fin(int fd)
{
	struct tcp_info ti = {0};
	socklen_t len = sizeof(ti);

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &ti, &len) == 0 &&
	       ti.tcpi_state != TCP_ESTABLISHED;
}

/* Steps 3 to 5; what fails, if not NULL. */
static const char *replace(struct daemon *d, struct conn *c, int *err,
			   bool *silenced, bool *rst)
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
	if (c->frozen->rcv_fin && !has_fin(c->fresh))
		shutdown(c->fresh, SHUT_RD);
	*err = restore_send(c->fresh, c->fd, c->frozen);
	if (*err == 0)
		return NULL;
	/* It can send a RST of its own. */
	*rst = snapshot_reset(c->fresh) == 0;
	return "its unsent data find no room";
}

/* The program is told the end as if the core had. */
static void tell_end(struct daemon *d, struct conn *c, uint32_t err)
{
	struct xts_reply r = {.type = XTS_REPLY_RECV,
			      .flags = XTS_F_RESET,
			      .cookie = c->cookie,
			      .err = err};

	handover_refuse(d, c, err == ECONNRESET ? -ECONNRESET : -ENOTCONN);
	if (c->frozen->closing)
		return; /* the core has told it: closed */
	tell(d, c->program, c->ctx, c->core, &r);
	program_slot_keep(c->program, c->cookie, c->slot);
	c->slot = SLOTS_NONE;
}

/* The socket goes to all that wait, last to the connection's own program; if
 * nobody does, it is closed. */
static void done(struct daemon *d, struct conn *c)
{
	struct handed *h, *tmp, *all = c->handed;
	char name[CONN_NAME_MAX];

	log_debug("%s: handed over", conn_name(&c->key, name));
	d->count.handed_over++;
	remember(d, c);
	DL_FOREACH (all, h) {
		h->fd = h->next ? fcntl(c->fresh, F_DUPFD_CLOEXEC, 0)
				: c->fresh;
		if (!h->next)
			c->fresh = -1;
	}
	c->handed = NULL;
	conn_free(d, c); /* may be the last of a program that has ended */
	DL_FOREACH_SAFE (all, h, tmp)
		hand(d, h);
	bridge_drain(d);
}

/* false: c->why says how it goes on. */
static bool try(struct daemon *d, struct conn *c)
{
	bool silenced = false, rst = false;
	const char *what = "it can't be handed over";
	char name[CONN_NAME_MAX];
	int err = prepare(c);

	if (err == 0)
		what = replace(d, c, &err, &silenced, &rst);
	if (err == 0) {
		done(d, c);
		return true;
	}
	d->count.handover_failed++;
	log_limited(&failed_limit, LOG_LEVEL_WARN, "%s: reset: %s (%s)",
		    conn_name(&c->key, name), what, strerror(-err));
	tell_end(d, c, ECONNRESET);
	c->why = CONN_WHY_RESET;
	if (!silenced)
		return false;
	if (!rst)
		send_rst(d, c);
	conn_free(d, c);
	bridge_drain(d);
	return true;
}

bool handover_frozen(struct daemon *d, struct conn *c)
{
	/* What the old socket has to say is not for the wire. */
	bridge_drain(d);
	if (c->why == CONN_WHY_RESET) {
		tell_end(d, c, ECONNRESET);
		return false;
	}
	if (c->rst || closing_is_over(c)) {
		tell_end(d, c, closing_over_error(c));
		return false;
	}
	if (both_ended(c)) {
		tell_end(d, c, ESHUTDOWN);
		return false;
	}
	return try(d, c);
}
