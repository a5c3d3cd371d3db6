/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bridge.c - frames between the wire (cores) and Linux (TAP)
 *
 * Whatever belongs to no offloaded connection passes as it is, both ways. A
 * frame of an offloaded or closing connection passes the translator. A write
 * to the TAP runs Linux's whole receive path, so its answer waits in the TAP
 * when write() returns and is read right away.
 *
 * From the wire, by what the connection is:
 *   unknown                 as it is; the cache notes the core
 *   being offloaded         held; to the core when the flow is installed
 *   live                    translated with the numbers the event carries; a
 *                           SYN after its end is kept, see closing.c
 *   closing (struct remnant) translated with the final numbers; a new SYN of
 *                           the peer as it is
 * From Linux:
 *   unknown                 as it is; the cache learns from SYN and SYN-ACK
 *   live                    FIN, keepalive probes, answers to what the
 *                           peer sent: translated. RST: kept until the flow
 *                           is removed. Everything else is absorbed: the fast
 *                           path speaks for the connection. A SYN is kept
 *   closing                 translated; a SYN ends the old connection, and
 *                           what refuses the peer's passes as it is
 *
 * One frame is in hand at a time, in buffers on the stack.
 */
#include "slowpath/bridge.h"
#include "slowpath/closing.h"
#include "slowpath/conn.h"
#include "slowpath/fragment.h"
#include "slowpath/log.h"
#include "slowpath/pathmtu.h"
#include "slowpath/refresh.h"
#include "slowpath/snapshot.h"

#include <errno.h>
#include <unistd.h>

#define DRAIN_MAX 4096u /* frames read in one go */

struct frame_buf {
	alignas(XTS_CACHELINE) uint8_t data[DAEMON_FRAME_MAX];
};

/* ---- plain input and output
 * -------------------------------------------------- */

void bridge_to_wire(struct daemon *d, unsigned int core, const void *frame,
		    uint32_t len)
{
	struct fp_msg *m;

	if (len > FP_FRAME_MAX)
		return;
	m = daemon_cmd(d, core, FP_CMD_TX, true);
	if (!m)
		return;
	m->frame_len = len;
	memcpy(m->frame, frame, len);
	daemon_submit(d, core);
	d->count.to_wire++;
}

static void tap_write(struct daemon *d, const void *frame, uint32_t len)
{
	if (write(d->tap_fd, frame, len) == (ssize_t)len) {
		d->count.to_linux++;
		return;
	}
	d->count.to_linux_failed++;
}

/* ---- Linux -> wire
 * ------------------------------------------------------------- */

static void acked(struct translation *t, uint32_t seq)
{
	uint32_t behind = t->snd_base - seq;

	if (behind < t->snd_behind)
		t->snd_behind = behind;
}

/* Linux sends what it had to send when the connection was offloaded: the fast
 * path has it. Linux is told that it arrived, with its own numbers. */
static void ack_rest(struct daemon *d, const struct conn_key *key,
		     struct translation *t, const struct frame *f)
{
	const struct tcphdr *th = frame_tcp(f);
	uint32_t tsval = 0, tsecr = 0, len;
	uint8_t buf[128];

	acked(t, ntohl(th->seq) + f->payload_len);
	translate_timestamps(f, &tsval, &tsecr);
	len = translate_build_ack(key, f->data, t, ntohl(th->ack_seq),
				  t->snd_base - t->snd_behind, UINT16_MAX,
				  tsecr, tsval, false, buf);
	tap_write(d, buf, len);
	d->tap_pending = true;
}

static void remnant_from_linux(struct daemon *d, struct remnant *l,
			       struct frame *f)
{
	if (l->t.snd_behind && f->payload_len) {
		ack_rest(d, &l->key, &l->t, f);
		if (!frame_tcp(f)->fin) {
			d->count.absorbed++;
			return;
		}
	}
	translate_to_wire(&l->t, &l->view, false, daemon_now_ms(), f);
	d->count.translated_out++;
	if (frame_tcp(f)->fin)
		l->fin_out = true;
	if (frame_tcp(f)->rst) {
		l->t.reset = true;
		remnant_closed(d, l);
	}
	bridge_to_wire(d, l->core, f->data, f->len);
}

/* Must the wire see this segment of a live connection? */
static bool wire_needs(const struct conn *c, const struct frame *f)
{
	const struct tcphdr *th = frame_tcp(f);

	return th->fin || th->syn || c->answering || c->fin_in || c->fin_out ||
	       ntohl(th->seq) == c->t.snd_base - 1;
}

static void keep_rst(struct daemon *d, struct conn *c, const struct frame *f)
{
	if (!c->rst)
		c->rst = held_copy(f->data, f->len);
	if (c->phase == CONN_LIVE)
		closing_remove(d, c, CONN_WHY_LINUX,
			       closing_socket_error(c->fd));
}

static void conn_held(struct daemon *d, struct conn *c, const uint8_t *frame,
		      uint32_t len)
{
	if (conn_hold(c, frame, len))
		d->count.held++;
	else
		d->count.held_full++;
}

static void live_from_linux(struct daemon *d, struct conn *c, struct frame *f)
{
	const struct tcphdr *th = frame_tcp(f);
	bool keepalive = ntohl(th->seq) == c->t.snd_base - 1 && !th->fin;
	struct flow_view v;

	if (!wire_needs(c, f)) {
		d->count.absorbed++;
		return;
	}
	if (!fp_flow_view(d->cores[c->core].core, c->flow, &v)) {
		conn_held(d, c, f->data, f->len); /* REMOVED is on its way */
		return;
	}
	if (th->fin && !c->fin_out) {
		c->fin_out = true;
		c->passive = c->fin_in;
	}
	/* Data that are on their way find out by themselves: as in Linux,
	 * keepalive has nothing to say while there are any. */
	if (keepalive && v.snd_una != v.snd_nxt) {
		bridge_ack_linux(d, c, c->t.snd_base);
		d->count.absorbed++;
		return;
	}
	if (keepalive) {
		struct fp_msg *m =
			daemon_cmd(d, c->core, FP_CMD_COPY_ACK, false);

		m->flow = c->flow;
		daemon_submit(d, c->core);
	}
	translate_to_wire(&c->t, &v, true, daemon_now_ms(), f);
	d->count.translated_out++;
	bridge_to_wire(d, c->core, f->data, f->len);
}

static void conn_from_linux(struct daemon *d, struct conn *c, struct frame *f)
{
	const struct tcphdr *th = frame_tcp(f);

	if (c->phase == CONN_HOLD) {
		struct cache_entry *e =
			cache_learn(&d->cache, &c->key, f, 0, daemon_now_ms());

		if (f->payload_len || th->fin || th->rst)
			bridge_to_wire(d, e->core, f->data, f->len);
		return;
	}
	if (th->rst) {
		keep_rst(d, c, f);
		return;
	}
	if (th->syn && !th->ack && closing_renew(d, c, f, true))
		return;
	if (c->unacked && f->payload_len) {
		ack_rest(d, &c->key, &c->t, f);
		if (snapshot_unacked(c->fd) == 0)
			c->unacked = false;
		if (!th->fin) {
			d->count.absorbed++;
			return;
		}
	}
	if (c->phase == CONN_INSTALLING) {
		d->count.absorbed++;
		return;
	}
	live_from_linux(d, c, f);
}

/* Linux refuses a connection: the number of a RST is 0 if it answers a segment
 * without ACK (RFC 9293 3.10.7.1), and of those it answers none but SYNs. */
static bool refuses(const struct tcphdr *th)
{
	return th->rst && th->ack && !th->seq;
}

static void tcp_from_linux(struct daemon *d, struct frame *f)
{
	const struct tcphdr *th = frame_tcp(f);
	struct cache_entry *e;
	struct conn_key key;
	struct remnant *l;
	struct conn *c;

	frame_key(f, false, &key);
	c = conn_find(d, &key);
	if (c) {
		conn_from_linux(d, c, f);
		return;
	}
	l = remnant_find(d, &key);
	if (l && refuses(th)) {
		bridge_to_wire(d, l->core, f->data, f->len);
		return;
	}
	if (l && !th->syn) {
		remnant_from_linux(d, l, f);
		return;
	}
	if (l)
		remnant_free(d,
			     l); /* Linux gave the name to a new connection */
	e = cache_find(&d->cache, &key);
	if (e || th->syn)
		e = cache_learn(&d->cache, &key, f, 0, daemon_now_ms());
	bridge_to_wire(d, e ? e->core : 0, f->data, f->len);
}

void bridge_from_linux(struct daemon *d, struct held_frame *h)
{
	struct frame f;

	if (frame_parse(&f, h->data, h->len) == FRAME_TCP)
		tcp_from_linux(d, &f);
}

/* One frame from the TAP; false: there is none. */
static bool tap_read(struct daemon *d)
{
	struct frame_buf buf;
	struct frame f;
	ssize_t n;

	n = read(d->tap_fd, buf.data, sizeof(buf.data));
	if (n <= 0)
		return false;
	if (frame_parse(&f, buf.data, (uint32_t)n) == FRAME_TCP)
		tcp_from_linux(d, &f);
	else
		bridge_to_wire(d, 0, buf.data, (uint32_t)n);
	return true;
}

void bridge_drain(struct daemon *d)
{
	unsigned int n = 0;

	d->tap_pending = false;
	while (tap_read(d)) {
		if (++n == DRAIN_MAX) {
			d->tap_pending = true;
			return;
		}
	}
}

void bridge_to_linux(struct daemon *d, const void *frame, uint32_t len)
{
	tap_write(d, frame, len);
	if (tap_read(d))
		d->tap_pending = true; /* there may be more */
}

void bridge_show_linux(struct daemon *d, const void *frame, uint32_t len)
{
	tap_write(d, frame, len);
	d->tap_pending = true;
}

void bridge_ack_linux(struct daemon *d, struct conn *c, uint32_t seq)
{
	uint8_t buf[128];
	uint32_t len;

	acked(&c->t, seq);
	len = translate_build_ack(&c->key, c->l2, &c->t, c->t.rcv_base, seq,
				  UINT16_MAX, c->ts_recent,
				  daemon_now_ms() + c->t.ts_offset, false, buf);
	tap_write(d, buf, len);
	d->tap_pending = true;
	if (snapshot_unacked(c->fd) == 0)
		c->unacked = false;
}

/* ---- wire -> Linux
 * ------------------------------------------------------------- */

/* Linux's answer to the peer's frame concerns the peer: let it pass. */
static void conn_to_linux(struct daemon *d, struct conn *c, const void *frame,
			  uint32_t len)
{
	bridge_drain(d);
	c->answering = true;
	tap_write(d, frame, len);
	bridge_drain(d);
	c->answering = false;
	d->count.translated_in++;
}

static bool acks_fin(const struct frame *f, const struct flow_view *v)
{
	const struct tcphdr *th = frame_tcp(f);

	return th->ack && !th->rst && ntohl(th->ack_seq) == v->snd_nxt + 1;
}

static void live_from_wire(struct daemon *d, struct conn *c, unsigned int core,
			   const struct fp_msg *m)
{
	struct frame_buf buf;
	struct frame f;
	struct fp_msg *out;

	if (m->flow.index == FP_NO_FLOW) {
		if (core == c->core)
			return; /* removed there; that event is on its way */
		out = daemon_cmd(d, c->core, FP_CMD_INJECT, false);
		out->flow = c->flow;
		out->frame_len = m->frame_len;
		memcpy(out->frame, m->frame, m->frame_len);
		daemon_submit(d, c->core);
		return;
	}
	memcpy(buf.data, m->frame, m->frame_len);
	if (frame_parse(&f, buf.data, m->frame_len) != FRAME_TCP)
		return;
	if (frame_tcp(&f)->syn && !frame_tcp(&f)->ack &&
	    closing_renew(d, c, &f, false))
		return;
	if (frame_tcp(&f)->fin && m->view.rcv_fin)
		c->fin_in = true;
	if (acks_fin(&f, &m->view))
		c->fin_acked = c->fin_out;
	refresh_heard(d, c);
	translate_to_linux(&c->t, &m->view, &f);
	conn_to_linux(d, c, f.data, f.len);
}

static void conn_from_wire(struct daemon *d, struct conn *c, unsigned int core,
			   const struct fp_msg *m)
{
	if (c->phase >= CONN_LIVE) {
		live_from_wire(d, c, core, m);
		return;
	}
	conn_held(d, c, m->frame, m->frame_len);
}

static void remnant_from_wire(struct daemon *d, struct remnant *l,
			      const uint8_t *frame, uint32_t len)
{
	struct frame_buf buf;
	const struct tcphdr *th;
	struct frame f;
	bool acked;

	memcpy(buf.data, frame, len);
	if (frame_parse(&f, buf.data, len) != FRAME_TCP)
		return;
	th = frame_tcp(&f);
	if (th->syn && !th->ack) {
		bridge_to_linux(d, f.data, f.len);
		return;
	}
	acked = l->fin_out && acks_fin(&f, &l->view);
	l->fin_acked |= acked;
	l->fin_in |= th->fin;
	if (th->rst || (l->fin_in && l->fin_acked))
		remnant_closed(d, l);
	translate_to_linux(&l->t, &l->view, &f);
	d->count.translated_in++;
	/* Passive close: Linux forgets the connection with this ACK. */
	if (l->passive && acked)
		remnant_late(d, l);
	bridge_drain(d); /* may end the remnant */
	tap_write(d, f.data, f.len);
	bridge_drain(d);
}

static void unknown_from_wire(struct daemon *d, unsigned int core,
			      const struct conn_key *key, const struct frame *f)
{
	struct cache_entry *e = cache_find(&d->cache, key);

	if (e)
		cache_hear(e, f, core);
	bridge_to_linux(d, f->data, f->len);
}

static void tcp_from_wire(struct daemon *d, unsigned int core,
			  const struct fp_msg *m, const struct frame *f)
{
	struct conn_key key;
	struct remnant *l;
	struct conn *c;

	frame_key(f, true, &key);
	c = conn_find(d, &key);
	if (c) {
		conn_from_wire(d, c, core, m);
		return;
	}
	l = remnant_find(d, &key);
	if (l) {
		remnant_from_wire(d, l, m->frame, m->frame_len);
		return;
	}
	unknown_from_wire(d, core, &key, f);
}

static void inject(struct daemon *d, const struct conn *c, const uint8_t *frame,
		   uint32_t len)
{
	struct fp_msg *m = daemon_cmd(d, c->core, FP_CMD_INJECT, false);

	m->flow = c->flow;
	m->frame_len = len;
	memcpy(m->frame, frame, len);
	daemon_submit(d, c->core);
}

/* A segment that came in pieces goes where it would have gone in one. */
static void whole_from_wire(struct daemon *d, unsigned int core,
			    const uint8_t *frame, uint32_t len)
{
	struct conn_key key;
	struct remnant *l;
	struct conn *c;
	struct frame f;

	d->count.reassembled++;
	if (frame_parse(&f, (void *)(uintptr_t)frame, len) != FRAME_TCP)
		return;
	frame_key(&f, true, &key);
	c = conn_find(d, &key);
	l = c ? NULL : remnant_find(d, &key);
	if (c && c->phase >= CONN_LIVE)
		inject(d, c, frame, len);
	else if (c)
		conn_held(d, c, frame, len);
	else if (l)
		remnant_from_wire(d, l, frame, len);
	else
		unknown_from_wire(d, core, &key, &f);
}

static void other_from_wire(struct daemon *d, unsigned int core,
			    const struct fp_msg *m)
{
	const uint8_t *whole;
	uint32_t whole_len;
	struct frame_buf buf;
	struct conn_key key;
	struct flow_view v;
	struct remnant *l;
	struct conn *c;

	switch (fragment_take(d->fragments, daemon_now_ns(), m->frame,
			      m->frame_len, &whole, &whole_len)) {
	case FRAGMENT_WHOLE:
		whole_from_wire(d, core, whole, whole_len);
		return;
	case FRAGMENT_KEPT:
		return;
	case FRAGMENT_NOT:
		break;
	}
	if (!translate_icmp_key(m->frame, m->frame_len, &key)) {
		bridge_to_linux(d, m->frame, m->frame_len);
		return;
	}
	memcpy(buf.data, m->frame, m->frame_len);
	c = conn_find(d, &key);
	l = c ? NULL : remnant_find(d, &key);
	if (c && c->phase >= CONN_LIVE &&
	    fp_flow_view(d->cores[c->core].core, c->flow, &v))
		translate_icmp_to_linux(&c->t, &v, buf.data, m->frame_len);
	else if (l)
		translate_icmp_to_linux(&l->t, &l->view, buf.data,
					m->frame_len);
	bridge_to_linux(d, buf.data, m->frame_len);
	if (c && c->phase == CONN_LIVE)
		pathmtu_icmp(d, c);
}

void bridge_from_wire(struct daemon *d, unsigned int core,
		      const struct fp_msg *m)
{
	struct frame f;

	if (m->frame_len > FP_FRAME_MAX)
		return;
	/* Only read; whoever writes makes a copy. */
	if (frame_parse(&f, (void *)(uintptr_t)m->frame, m->frame_len) ==
	    FRAME_TCP)
		tcp_from_wire(d, core, m, &f);
	else
		other_from_wire(d, core, m);
}
