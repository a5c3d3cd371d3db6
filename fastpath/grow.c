/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * grow.c - larger buffers for flows whose path needs them
 *
 * A flow begins with small buffers: enough for requests and answers, and for
 * bulk on short paths. Where the product of rate and round trip is larger they
 * would hold the connection back. The receive buffer grows as Linux's does
 * (tcp_rmem auto-tuning): the program took more in one round trip than ever
 * before, so the window should be twice that, and what slow start will add.
 * The transmit buffer grows when it is full and cwnd has come near its size.
 *
 * Sizes are granted by the slow path, which knows what the program and its
 * user may have; the core asks once for each doubling and not more often than
 * ASK_NS. Both buffers then move to a large area of the program's memory, whose
 * pages exist when they are touched; the rule by which bytes move is in
 * xts_proto.h. Buffers never shrink before the flow ends.
 *
 * A receiver's round trips are measured as in Linux: from a time stamp of ours
 * to the first full-sized segment that echoes it, or, without time stamps, in
 * the time that a window takes at most. The hot path knows nothing of echoes:
 * each RTT_EVERY_NS, or round trip, one segment is kept from it.
 *
 * Cold code. State: struct grow of the flow, its buffers and their sizes.
 */
#include "fastpath/core.h"

#define ASK_NS 100000000ull /* between two questions to the slow path */
#define RTT_UNKNOWN_NS 1000000ull
#define RTT_EVERY_NS 10000000ull /* between two samples of the receiver */

void grow_copy(uint8_t *to, const uint8_t *from, uint32_t size, uint32_t off,
	       uint32_t len)
{
	uint32_t first = size - off < len ? size - off : len;

	if (to != from)
		memcpy(to + off, from + off, first);
	if (len > first)
		memcpy(to + size, from, len - first);
}

/* A size for @n bytes, within the flow's limit. */
static uint32_t size_for(const struct flow *f, uint64_t n)
{
	uint32_t size = 1;

	while (size < n && size < f->ext->grow.limit)
		size *= 2;
	return size;
}

/* ---- the receive buffer
 * ------------------------------------------------------- */

/* Bytes behind rcv_nxt that hold data received out of order. */
static uint32_t out_of_order_end(const struct flow *f)
{
	const struct reassembly *o = &f->ext->ooo;

	return o->n ? o->range[o->n - 1].end - f->rcv_nxt : 0;
}

static void move_receive(struct fp_core *c, struct flow *f, uint32_t size)
{
	struct grow *g = &f->ext->grow;
	uint32_t old = f->rx_size, ahead = out_of_order_end(f);
	uint32_t off = (f->rx_pos - f->rx_unread) & (old - 1);

	/* The last GROWN must have been told: it names one step. And within
	 * the large area nothing may change its place, since the program may
	 * still be reading it: wait until nothing wraps round. */
	if (f->pend_rare & PEND_GROWN ||
	    (f->rx_buf == g->area && off + f->rx_unread + ahead > old))
		return;
	grow_copy(g->area, f->rx_buf, old, off, f->rx_unread + ahead);
	f->rx_buf = g->area;
	f->rx_pos = (off + f->rx_unread) & (size - 1);
	f->pend_off = (f->rx_pos - f->pend_len) & (size - 1);
	flow_set_rx_size(f, size);
	g->told_off = off;
	f->pend_rare |= PEND_GROWN;
	g->want_rx = 0;
	/* The peer may fill it at once. */
	f->ack_now = true;
	flow_list(c, f);
	flow_tell(c, f);
}

static void ask(struct fp_core *c, struct flow *f, uint32_t size)
{
	struct grow *g = &f->ext->grow;
	struct pending_event e = {
		.type = FP_EV_GROW,
		.flow = {f->index, f->gen},
		.value = size,
	};

	if (g->asked_ns && c->now_ns - g->asked_ns < ASK_NS)
		return;
	g->asked_ns = c->now_ns;
	event_send(c, &e);
}

/* As far as what is granted allows; ask for more. */
static void settle(struct fp_core *c, struct flow *f)
{
	struct grow *g = &f->ext->grow;
	uint32_t want = g->want_rx > g->want_tx ? g->want_rx : g->want_tx;
	uint32_t rx = g->want_rx < g->max ? g->want_rx : g->max;
	uint32_t tx = g->want_tx < g->max ? g->want_tx : g->max;

	if (want > g->max)
		ask(c, f, want);
	if (rx > f->rx_size)
		move_receive(c, f, rx);
	if (tx > f->tx_size && tx > g->offered_tx &&
	    !(f->pend_rare & PEND_GROWN)) {
		g->offered_tx = tx;
		g->told_off = 0;
		f->pend_rare |= PEND_GROWN;
		flow_tell(c, f);
	}
}

static uint64_t round_trip_ns(const struct flow *f)
{
	uint64_t ns = (uint64_t)(f->srtt8_us >> 3) * 1000;

	return ns ? ns : RTT_UNKNOWN_NS;
}

/* tcp_rcv_rtt_update(). @most: the time may be longer than the round trip. */
static void rtt_sample(struct grow *g, uint64_t us, bool most)
{
	if (!us || us > RTO_MAX_US)
		return;
	if (!g->rtt8_us || (most && us * 8 < g->rtt8_us))
		g->rtt8_us = (uint32_t)us * 8;
	else if (!most)
		g->rtt8_us += (uint32_t)us - g->rtt8_us / 8;
}

void grow_measure(struct fp_core *c, struct flow *f, uint32_t tsecr,
		  uint32_t len)
{
	struct grow *g = &f->ext->grow;
	uint32_t ms = c->now_ms + f->ts_offset - tsecr;

	if (g->rtt_due) {
		g->rtt_due = false;
		flow_judge(f);
	}
	if (!f->timestamps || !tsecr || tsecr == g->rtt_tsecr ||
	    len < f->rcv_mss)
		return;
	g->rtt_tsecr = tsecr;
	rtt_sample(g, ms ? ms * 1000ull : 1000, false);
}

/* Data were taken in order: is a sample of the round trip due? */
static void rtt_look(struct fp_core *c, struct flow *f)
{
	struct grow *g = &f->ext->grow;
	uint64_t every = round_trip_ns(f);

	if (f->timestamps) {
		if (every < RTT_EVERY_NS)
			every = RTT_EVERY_NS;
		if (c->now_ns - g->rtt_ns < every || g->rtt_due)
			return;
		g->rtt_due = true;
		g->rtt_ns = c->now_ns;
		flow_judge(f);
		return;
	}
	if (g->rtt_ns && seq_lt(f->rcv_nxt, g->rtt_seq))
		return;
	if (g->rtt_ns)
		rtt_sample(g, (c->now_ns - g->rtt_ns) / 1000, true);
	g->rtt_seq = flow_rcv_edge(f);
	g->rtt_ns = c->now_ns;
}

void grow_receive(struct fp_core *c, struct flow *f)
{
	struct grow *g = &f->ext->grow;
	uint32_t taken = f->rcv_nxt - f->rx_unread - g->copied;
	uint64_t want, limit = (uint64_t)65535 << f->rcv_wscale;

	rtt_look(c, f);
	if (!g->limit || c->now_ns - g->copied_ns < round_trip_ns(f))
		return;
	if (taken > g->space) {
		/* Twice what came in one round trip, and as much more as it
		 * was more than before: slow start doubles it. */
		want = 2ull * taken + 16ull * f->snd_mss;
		if (g->space)
			want += 2 * want * (taken - g->space) / g->space;
		g->space = taken;
		want = size_for(f, want < limit ? want : limit);
		if (want > f->rx_size && want > g->want_rx)
			g->want_rx = (uint32_t)want;
	}
	g->copied += taken;
	g->copied_ns = c->now_ns;
	if (g->want_rx > f->rx_size)
		settle(c, f);
}

/* ---- the transmit buffer
 * ------------------------------------------------------ */

void grow_transmit(struct fp_core *c, struct flow *f)
{
	struct grow *g = &f->ext->grow;
	uint32_t wnd = f->cwnd < f->snd_wnd ? f->cwnd : f->snd_wnd;

	if (wnd < f->tx_size / 2 || f->tx_size >= g->limit)
		return;
	g->want_tx = size_for(f, 4ull * wnd);
	settle(c, f);
}

const char *grow_tx_moved(struct flow *f, uint32_t off, uint32_t size)
{
	struct grow *g = &f->ext->grow;

	if (size <= f->tx_size || size > g->offered_tx || (size & (size - 1)))
		return "transmit buffer of a size that was not offered";
	if (off >= f->tx_size)
		return "data offset out of range";
	if (f->tx_pos < off)
		f->tx_pos += f->tx_size;
	f->tx_buf = g->area + XTS_BUF_MAX;
	f->tx_size = size;
	return NULL;
}

/* ---- the answer
 * --------------------------------------------------------------- */

void grow_granted(struct fp_core *c, struct flow *f, uint8_t *area,
		  uint32_t max)
{
	struct grow *g = &f->ext->grow;

	if (f->state != FLOW_OPEN || max <= g->max)
		return;
	assert(!g->area || g->area == area);
	g->area = area;
	g->max = max;
	settle(c, f);
}
