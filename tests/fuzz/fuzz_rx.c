/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_rx.c - the whole receive path with a flow installed
 *
 * The input is a connection (options, congestion control, buffers, what Linux
 * had received and had in flight when it was installed) and a list of steps:
 * segments of the peer whose numbers are near the right ones, with time stamps,
 * SACK blocks, marks, FINs (checksums made right, or not), in any order,
 * overlapping, sent again as they were before; a peer that behaves; raw frames;
 * the program reading, sending, closing, changing options, growing its buffers;
 * commands of the slow path; frames that don't leave; time that passes.
 *
 * After each step
 *   - the flow's numbers, scoreboard and reassembly must fit together (core.h);
 *   - every byte the program was told of must be the one the peer sent at that
 *     place of the stream, and so must those behind a gap;
 *   - every byte sent must be the one the program wrote there, within the
 *     windows the peer ever opened, in well-formed frames, no longer than what
 *     is known to pass but for one at a time that asks for more; the window
 *     that we advertise never shrinks.
 * In the end the peer behaves: then everything the program wrote must arrive,
 * whatever came before, and the program must get what it is sent. After that no
 * frame, flow or timer may be left.
 */
#include "tests/fuzz/core.h"

#include <errno.h>
#include <unistd.h>

#define FRAMES 128u
#define FRAME_SIZE 2048u
#define BUF_SMALL 2048u
#define BUF_LARGE 16384u
#define GROW_MAX 65536u
#define CTXS 2u
#define CTX_AREA XTS_CTX_AREA_SIZE(1)
#define BUFS_OFF (CTXS * CTX_AREA)
#define LARGE_OFF ((BUFS_OFF + 2 * BUF_LARGE + 4095) & ~4095ul)
#define MEM (LARGE_OFF + XTS_BUF_MAX + GROW_MAX)
#define IRS 0xfffffe00u
#define ISS 0xffffff80u
#define PAST 8u /* segments kept, to arrive once more */
#define MSS 500u
#define COOKIE UINT64_C(0xc00c1e)

#define F_FIN 0x01
#define F_RST 0x04
#define F_ACK 0x10
#define F_URG 0x20

struct past {
	uint8_t frame[SEGMENT_MAX];
	uint32_t len, ack, wnd;
};

struct world {
	struct fp_core *core;
	struct queue *q;
	struct fp_ctx ctx[CTXS];
	struct flow_params p;
	struct flow_id id;
	uint64_t now_ns;

	/* ---- the program ---- */
	uint32_t read, unread; /* bytes of the peer's stream; not given back */
	uint8_t *rx, *tx;
	uint32_t rx_size, tx_size;
	uint32_t written; /* bytes of its own stream */
	uint32_t app_off, outstanding;
	uint32_t offered; /* size that tx may have */
	uint32_t cur;	  /* context of its replies */
	uint32_t parts;	  /* of numbers that it was told */
	uint32_t urgent;  /* byte of the peer's stream */
	bool offloaded, shut, closed, eof, over, urgent_known;

	/* ---- the peer ---- */
	uint32_t snd_edge; /* highest that a window of its ever allowed */
	uint32_t sent;	   /* bytes that it was ever sent */
	uint32_t probe; /* end of a segment larger than any that passed ... */
	uint32_t probe_len; /* ... which tells whether that does; 0: none */
	uint32_t rcv_edge;  /* as we advertised */
	bool rcv_edge_known;
	uint32_t tsval; /* last that it saw */
	uint32_t n_past;
	struct past past[PAST];

	/* ---- the slow path ---- */
	uint32_t mss_max; /* segments were never to be larger, but for ... */
	uint32_t path;	  /* ... probes of the MTU, within what Linux knows */
	uint32_t granted, wanted;
	bool stalled; /* frames don't leave */
	bool offended, gone;
};

static _Alignas(4096) uint8_t mem[MEM];

static uint64_t fake_now(void *arg)
{
	return ((struct world *)arg)->now_ns;
}

static struct flow *flow(const struct world *w)
{
	return flow_by_id(&w->core->flows, w->id);
}

static uint32_t min32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* ---- what the core sends and says ------------------------------------------
 */

/* All of the probe arrived, and it was sent but once, as one. */
static void check_probe(struct world *w)
{
	const struct flow *f = flow(w);

	if (!w->probe_len || !f || f->snd_una - ISS < w->probe)
		return;
	w->mss_max = w->probe_len;
	w->probe_len = 0;
}

/*
 * The largest segments are those that passed or that Linux uses. A longer one
 * is new data, with more behind it, one at a time; what is sent again is never
 * longer, and takes the meaning from a probe that is out.
 */
static void check_length(struct world *w, const struct frame *f, uint32_t at)
{
	uint32_t end = at + f->payload_len;
	uint32_t len = f->payload - f->l4 + f->payload_len -
		       (w->p.timestamps ? 32u : 20u);

	check_probe(w);
	if (at < w->sent)
		w->probe_len = 0;
	if (len > w->mss_max && flow(w)) {
		require(w->p.mtu_probing && len <= w->path);
		require(at == w->sent && !w->probe_len);
		require(len == f->payload_len && end + 4 * 32 <= w->written);
		w->probe = end;
		w->probe_len = len;
		check_probe(w);
	}
	if (end > w->sent)
		w->sent = end;
}

static void check_data(struct world *w, const struct frame *f)
{
	const struct tcphdr *th = frame_tcp(f);
	uint32_t at = ntohl(th->seq) - ISS, i;

	require(!th->urg || at + ntohs(th->urg_ptr) <= w->written);
	if (!f->payload_len)
		return;
	require(at + f->payload_len <= w->written);
	require(seq_leq(ISS + at + f->payload_len, w->snd_edge));
	check_length(w, f, at);
	for (i = 0; i < f->payload_len; i++)
		require(f->data[f->payload + i] == pattern(at + i));
}

/* What the frame says of what arrived. */
static void check_ack(struct world *w, const struct frame *f)
{
	uint32_t wnd = ntohs(frame_tcp(f)->window), scale = w->p.rcv_wscale;
	uint32_t ack = ntohl(frame_tcp(f)->ack_seq), edge, n, i;
	struct sack_block block[SEG_SACK_MAX];

	edge = ack + (wnd << scale);
	if (w->rcv_edge_known)
		require(seq_geq(edge + (1u << scale) - 1, w->rcv_edge));
	if (!w->rcv_edge_known || seq_gt(edge, w->rcv_edge))
		w->rcv_edge = edge;
	w->rcv_edge_known = true;
	n = sent_sacks(f, w->p.timestamps, block);
	require(!n || w->p.sack);
	/* Scaling cuts off what the window has beyond a multiple. */
	edge = w->rcv_edge + (1u << scale) - 1;
	for (i = 0; i < n; i++)
		require((!i && seq_leq(block[i].end, ack)) ||
			seq_leq(block[i].end, edge));
	for (i = 1; i < n; i++)
		require(seq_gt(block[i].start, ack));
	if (w->p.timestamps)
		w->tsval = get_be32(f->data + f->l4 + 24);
}

static void check_sent(struct world *w)
{
	uint8_t b[FRAME_SIZE];
	struct frame fr;
	const struct flow *f;
	uint32_t len;

	while (!w->stalled && (len = queue_mem_pop(w->q, b, sizeof(b)))) {
		sent_parse(&fr, b, len, &w->p.key);
		check_data(w, &fr);
		check_ack(w, &fr);
		f = flow(w);
		if (f)
			require(seq_leq(ntohl(frame_tcp(&fr)->ack_seq),
					f->rcv_nxt + f->rcv_fin));
	}
}

static void check_view(const struct fp_msg *m)
{
	const struct flow_view *v = &m->view;

	require(m->frame_len <= FP_FRAME_MAX);
	if (m->flow.index == FP_NO_FLOW)
		return;
	require(seq_leq(v->snd_una, v->snd_nxt));
}

static void check_events(struct world *w)
{
	const struct fp_msg *m;

	while ((m = fp_ev_peek(w->core))) {
		require(m->type >= FP_EV_FRAME && m->type <= FP_EV_GROW);
		check_view(m);
		if (m->type == FP_EV_OFFENDER)
			w->offended = true;
		if (m->type == FP_EV_GROW) {
			require(m->value <= GROW_MAX);
			w->wanted = m->value;
		}
		if (m->type == FP_EV_REMOVED)
			w->gone = true;
		fp_ev_release(w->core);
	}
}

static void check_world(struct world *w)
{
	const struct flow *f = flow(w);

	if (f) {
		check_flow(f);
		check_ranges(f, IRS);
		require(f->rx_unread >= w->unread);
		require(w->core->timers.n_queued <= 1);
		require(f->snd_nxt - ISS <= w->written);
	}
	check_sent(w);
	check_events(w);
	require(w->gone == !flow(w));
	require(!w->offended);
}

static void turn(struct world *w)
{
	fp_core_turn(w->core);
	check_world(w);
}

/* ---- the program -----------------------------------------------------------
 */

static void told_data(struct world *w, const struct xts_reply *r)
{
	uint32_t i;

	require(!r->len || (r->off < w->rx_size && r->len <= w->rx_size));
	require(!r->len || !w->eof);
	for (i = 0; i < r->len; i++)
		require(w->rx[(r->off + i) & (w->rx_size - 1)] ==
			pattern(w->read + i));
	w->read += r->len;
	w->unread += r->len;
	require(r->credits <= w->outstanding);
	w->outstanding -= r->credits;
	w->eof |= r->flags & XTS_F_EOF;
	w->over |= r->flags & (XTS_F_RESET | XTS_F_CLOSED);
}

static void told_offloaded(struct world *w, const struct xts_reply *r)
{
	require(!w->offloaded);
	w->offloaded = true;
	w->id = (struct flow_id){r->flow, r->flow_gen};
	require(r->buf_size == w->p.buf_size && r->rx_buf == w->p.rx_buf);
	require(r->tx_len == w->p.tx_len);
	w->outstanding = w->written;
	w->app_off = w->written & (w->tx_size - 1);
	told_data(w, r);
}

static void told_grown(struct world *w, const struct xts_reply *r)
{
	require(r->rx_buf == LARGE_OFF && r->buf_size >= w->rx_size);
	require(r->buf_size <= GROW_MAX && r->tx_len <= w->granted);
	if (r->buf_size > w->rx_size) {
		w->rx = mem + LARGE_OFF;
		w->rx_size = r->buf_size;
	}
	if (r->tx_len > w->tx_size)
		w->offered = r->tx_len;
}

/* Which byte it is, in terms of what was told before, and its true value. */
static void told_urgent(struct world *w, const struct xts_reply *r)
{
	uint32_t at = w->read + r->urgent;

	require(!r->len && !r->credits && !(r->flags & ~XTS_F_URGENT));
	require(r->urgent <= GROW_MAX + UINT16_MAX);
	if (r->flags & XTS_F_URGENT) {
		require(!w->urgent_known || seq_gt(at, w->urgent));
		w->urgent = at;
		w->urgent_known = true;
	}
	require(w->urgent_known && at == w->urgent);
	require(r->flags & XTS_F_URGENT || r->err);
	require(!r->err || r->err == (XTS_URGENT_HAS | pattern(at)));
}

static void told(struct world *w, const struct xts_reply *r)
{
	require(r->cookie == COOKIE);
	if (r->type == XTS_REPLY_INFO) {
		require(r->flags == w->parts++ % XTS_INFO_PARTS);
		return;
	}
	require(w->parts % XTS_INFO_PARTS == 0);
	require(!w->over);
	require(w->offloaded || r->type == XTS_REPLY_OFFLOADED);
	switch (r->type) {
	case XTS_REPLY_OFFLOADED:
		told_offloaded(w, r);
		break;
	case XTS_REPLY_RECV:
		told_data(w, r);
		break;
	case XTS_REPLY_GROWN:
		told_grown(w, r);
		break;
	case XTS_REPLY_MOVED:
		w->cur ^= 1;
		break;
	case XTS_REPLY_URGENT:
		told_urgent(w, r);
		break;
	default:
		require(!"a reply that exists");
	}
}

/* Numbers may be asked for on either ring, all else comes on one. */
static void program_reads(struct world *w)
{
	uint32_t i;

	for (i = 0; i < 2 * CTXS; i++) {
		struct xts_core_area *a = &w->ctx[w->cur].area->core[0];
		uint32_t was = w->cur, n = a->reply_index.consumer;

		while (n != a->reply_index.producer && was == w->cur)
			told(w, &a->reply[n++ % XTS_RING_SLOTS]);
		a->reply_index.consumer = n;
	}
}

static struct xts_cmd *command_new(struct world *w, uint32_t type)
{
	struct xts_core_area *a = &w->ctx[w->cur].area->core[0];
	uint32_t n = a->cmd_index.producer;
	struct xts_cmd *c = &a->cmd[n % XTS_RING_SLOTS];

	if (n - a->cmd_index.consumer >= XTS_RING_SLOTS)
		return NULL;
	memset(c, 0, sizeof(*c));
	c->type = type;
	c->flow = w->id.index;
	c->flow_gen = w->id.gen;
	return c;
}

static void command_go(struct world *w)
{
	struct fp_ctx *x = &w->ctx[w->cur];

	x->area->core[0].cmd_index.producer++;
	if (x->area->core[0].core.need_doorbell)
		app_unpark(w->core, x->core_private[0]);
}

static void program_sends(struct world *w, uint32_t len, uint32_t credits,
			  uint32_t flags)
{
	struct xts_cmd *c = command_new(w, XTS_CMD_SEND);
	uint32_t i;

	if (!c)
		return;
	for (i = 0; i < len; i++)
		w->tx[(w->app_off + i) & (w->tx_size - 1)] =
			pattern(w->written + i);
	c->len = len;
	c->off = w->app_off;
	c->credits = credits;
	c->flags = flags;
	w->app_off = (w->app_off + len) & (w->tx_size - 1);
	w->outstanding += len;
	w->written += len;
	w->unread -= credits;
	w->shut |= flags & (XTS_F_SHUT_WR | XTS_F_CLOSE);
	w->closed |= flags & XTS_F_CLOSE;
	command_go(w);
}

/* The rule is xts_proto.h's. */
static void program_grows(struct world *w)
{
	struct xts_cmd *c = command_new(w, XTS_CMD_GROW_TX);
	uint32_t old = w->tx_size, i, at;
	uint32_t first = (w->app_off - w->outstanding) & (old - 1);
	uint8_t *to = mem + LARGE_OFF + XTS_BUF_MAX;

	if (!c)
		return;
	for (i = 0; i < w->outstanding; i++) {
		at = (first + i) & (old - 1);
		to[at < first ? at + old : at] = w->tx[at];
	}
	if (w->outstanding)
		w->app_off = (first + w->outstanding) & (w->offered - 1);
	w->tx = to;
	w->tx_size = w->offered;
	c->off = first;
	c->len = w->tx_size;
	command_go(w);
}

/* ---- steps of the program --------------------------------------------------
 */

static void step_program(struct world *w, struct input *in)
{
	static const uint32_t flags[] = {0,
					 0,
					 XTS_F_URGENT,
					 XTS_F_MORE,
					 XTS_F_CREDITS,
					 XTS_F_SHUT_WR,
					 XTS_F_CLOSE,
					 XTS_F_CLOSE | XTS_F_ABORT};
	uint32_t how = take(in, 1), len, credits, flag = 0;

	if (how & 1)
		program_reads(w);
	if (!w->offloaded || w->closed || w->over)
		return;
	if (w->offered > w->tx_size && how & 2)
		program_grows(w);
	len = w->shut ? 0 : take(in, 2);
	if (len > w->tx_size - w->outstanding)
		len = how & 4 ? w->tx_size - w->outstanding : 0;
	credits = how & 8 ? w->unread : take(in, 1) * w->unread / 256;
	if (!(how & 16))
		flag = flags[take(in, 1) & 7];
	program_sends(w, len, credits, flag);
}

static void step_option(struct world *w, struct input *in)
{
	static const char names[][XTS_NAME_MAX] = {"reno", "cubic", "dctcp",
						   "bbr", "vegas"};
	uint32_t what = take(in, 1);
	struct xts_cmd *c;

	if (!w->offloaded || w->closed || w->over)
		return;
	c = command_new(w, what & 8 ? XTS_CMD_INFO : XTS_CMD_SETOPT);
	if (!c)
		return;
	c->off = XTS_OPT_NODELAY + (what & 7) % XTS_OPT_MAX_PACING_RATE;
	c->len = take(in, 1) << (what >> 4 & 15);
	if (c->off == XTS_OPT_CONGESTION)
		memcpy(c->name, names[c->len % 5], XTS_NAME_MAX);
	command_go(w);
}

/* ---- steps of the peer -----------------------------------------------------
 */

/* What a window of the peer's allows from now on. */
static void note_window(struct world *w, uint32_t ack, uint32_t wnd)
{
	const struct flow *f = flow(w);
	uint32_t edge = ack + (wnd << w->p.snd_wscale);

	if (f && seq_geq(ack, f->snd_una) && seq_leq(ack, f->snd_nxt + 1) &&
	    seq_gt(edge, w->snd_edge))
		w->snd_edge = edge;
}

static void arrive(struct world *w, const struct past *a)
{
	note_window(w, a->ack, a->wnd);
	queue_mem_push(w->q, a->frame, a->len);
}

static void put_sacks(const struct world *w, struct made *m, struct input *in,
		      uint32_t n)
{
	const struct flow *f = flow(w);
	uint32_t una = f ? f->snd_una : ISS, i, how, start;
	uint8_t *p = m->opts + m->n_opts;

	put_be32(p, 0x01010500 | (2 + 8 * n));
	for (i = 0, p += 4; i < n; i++, p += 8) {
		how = take(in, 1);
		start = how & 0x80 ? una + (uint32_t)(int8_t)take(in, 1) * 125
				   : una + (how & 0x1f) * 125;
		put_be32(p, start);
		put_be32(p + 4, how & 0x40
					? take(in, 4)
					: start + (how >> 5 & 3) * 250 + 125);
	}
	m->n_opts += 4 + 8 * n;
}

static void put_options(const struct world *w, struct made *m, struct input *in,
			uint32_t how, uint32_t n_sacks)
{
	uint32_t val = (uint32_t)(w->now_ns >> 20) + 1000, ecr = w->tsval, n;

	if (how == 3) { /* whatever the input says */
		n = take(in, 1) % 11 * 4;
		take_bytes(in, m->opts, n);
		m->n_opts = n;
		return;
	}
	if (how == 2)
		val += (uint32_t)(int8_t)take(in, 1);
	if (how == 2)
		ecr -= take(in, 1);
	if (w->p.timestamps && how)
		made_timestamps(m, val, ecr);
	if (n_sacks && m->n_opts + 4 + 8 * n_sacks <= 40)
		put_sacks(w, m, in, n_sacks);
}

/* Its numbers are near the right ones. */
static void segment_make(struct world *w, struct input *in, struct made *m)
{
	const struct flow *f = flow(w);
	uint32_t what = take(in, 1), more = take(in, 1);
	uint32_t rcv = f ? f->rcv_nxt : IRS, una = f ? f->snd_una : ISS;

	*m = (struct made){.key = &w->p.key, .isn = IRS, .flags = F_ACK};
	m->len = take(in, 1);
	m->seq = rcv;
	m->ack = f ? f->snd_nxt : ISS;
	if (what & 1)
		m->seq += (uint32_t)(int8_t)take(in, 1);
	if (what & 2)
		m->seq += take(in, 1) * 64;
	if (what & 4)
		m->ack = una + take(in, 1) * 125;
	if (what & 8)
		m->ack += (uint32_t)(int8_t)take(in, 1);
	if (what & 16)
		m->flags = (uint8_t)take(in, 1);
	m->wnd = what & 32 ? (uint16_t)take(in, 2) : 0xffff;
	if (what & 64)
		m->tos = (uint8_t)take(in, 1);
	if (what & 128)
		m->seq += take(in, 4);
	m->len *= more & 4 ? 4 : 1;
	if (more & 8)
		m->ack += take(in, 4);
	if (more & 16)
		m->len = 0;
	if (more & 32) {
		m->flags |= F_URG;
		m->urg = (uint16_t)take(in, 2);
	}
	put_options(w, m, in, more & 3, more >> 6);
}

static void step_segment(struct world *w, struct input *in, bool damage)
{
	struct past *a = &w->past[w->n_past % PAST];
	struct made m;
	struct frame f;

	segment_make(w, in, &m);
	a->len = made_build(&m, a->frame);
	a->ack = m.ack;
	a->wnd = m.wnd;
	if (damage) {
		a->frame[take(in, 1) % a->len] ^= take(in, 1);
		/* A byte of payload that was changed must not pass as another.
		 */
		if (frame_parse(&f, a->frame, a->len) == FRAME_TCP &&
		    frame_tcp_checksum_ok(&f))
			return;
	}
	w->n_past++;
	arrive(w, a);
}

static void step_raw(struct world *w, struct input *in)
{
	uint8_t b[256];
	uint32_t n = take(in, 1);

	take_bytes(in, b, n);
	queue_mem_push(w->q, b, n);
}

/* A segment that every receiver takes: it acknowledges all. */
static void peer_behaves(struct world *w, uint32_t len, uint32_t acked)
{
	struct made m = {.key = &w->p.key,
			 .isn = IRS,
			 .len = len,
			 .wnd = 0xffff,
			 .flags = F_ACK};
	const struct flow *f = flow(w);
	struct past a;

	if (!f || f->state != FLOW_OPEN)
		return;
	if (f->rcv_fin)
		m.len = 0;
	m.len = min32(m.len, flow_rcv_edge(f) - f->rcv_nxt);
	m.seq = f->rcv_nxt + f->rcv_fin;
	m.ack = f->snd_una + min32(acked, f->snd_nxt - f->snd_una);
	if (w->p.timestamps)
		made_timestamps(&m, f->ts_recent + 1, w->tsval);
	a.len = made_build(&m, a.frame);
	a.ack = m.ack;
	a.wnd = m.wnd;
	arrive(w, &a);
}

/* ---- steps of the slow path ------------------------------------------------
 */

static struct fp_msg *slow_command(struct world *w, enum fp_cmd type)
{
	struct fp_msg *m = fp_cmd_reserve(w->core);

	require(m);
	m->type = type;
	m->ctx = &w->ctx[0];
	m->params = &w->p;
	m->flow = w->id;
	return m;
}

static void slow_go(struct world *w)
{
	fp_cmd_submit(w->core);
	fp_core_turn(w->core);
}

static void slow_grow(struct world *w)
{
	struct fp_msg *m;

	if (w->wanted <= w->granted || !flow(w))
		return;
	w->granted = w->wanted;
	m = slow_command(w, FP_CMD_GROW);
	m->mem = LARGE_OFF;
	m->value = w->granted;
	slow_go(w);
}

static void slow_mss(struct world *w, uint32_t mss)
{
	/* In a search what passes counts, not what may. */
	if (mss > w->mss_max && w->p.mtu_probing < 2 &&
	    w->p.mss_max <= w->p.snd_mss)
		w->mss_max = mss;
	if (mss > w->path)
		w->path = mss;
	slow_command(w, FP_CMD_SET_MSS)->value = mss;
	slow_go(w);
}

static void slow_inject(struct world *w, struct input *in)
{
	struct fp_msg *m = slow_command(w, FP_CMD_INJECT);
	const struct past *a = &w->past[take(in, 1) % PAST];

	note_window(w, a->ack, a->wnd);
	m->frame_len = a->len;
	memcpy(m->frame, a->frame, a->len);
	slow_go(w);
}

/* A move is asked for again only when the program has seen the last one: its
 * request for it goes through the slow path. */
static void slow_move(struct world *w)
{
	const struct flow *f = flow(w);

	program_reads(w);
	if (!f || f->move_to || !w->offloaded || w->closed ||
	    f->ctx != w->ctx[w->cur].core_private[0])
		return;
	slow_command(w, FP_CMD_MOVE)->ctx = &w->ctx[w->cur ^ 1];
	slow_go(w);
}

static void step_slow(struct world *w, struct input *in)
{
	const struct flow *f = flow(w);
	uint32_t kind = take(in, 1) & 15;

	/* Until RELEASE there is nothing but INJECT and REMOVE. */
	if (f && f->state == FLOW_HOLD && (kind == 2 || kind == 3))
		return;
	switch (kind) {
	case 0:
	case 1:
		slow_grow(w);
		break;
	case 2:
		slow_mss(w, 32 + take(in, 2) % 1400);
		break;
	case 3:
		slow_command(w, FP_CMD_COPY_ACK);
		slow_go(w);
		break;
	case 4:
		slow_inject(w, in);
		break;
	case 5:
		slow_move(w);
		break;
	case 6:
		slow_command(w, FP_CMD_RELEASE);
		slow_go(w);
		break;
	case 7:
		slow_command(w, FP_CMD_REMOVE)->err =
			take(in, 1) & 1 ? ETIMEDOUT : 0;
		slow_go(w);
		break;
	default:
		w->stalled = !w->stalled;
		break;
	}
}

/* ---- steps -----------------------------------------------------------------
 */

static void step(struct world *w, struct input *in)
{
	uint32_t kind = take(in, 1) & 15;

	switch (kind) {
	case 0:
		step_raw(w, in);
		break;
	case 1:
		w->now_ns += (uint64_t)take(in, 2) << 20;
		break;
	case 2:
	case 3:
		step_program(w, in);
		break;
	case 4:
		step_option(w, in);
		break;
	case 5:
		step_slow(w, in);
		break;
	case 6: /* several frames in one burst */
		step_segment(w, in, false);
		step_segment(w, in, false);
		step_segment(w, in, false);
		break;
	case 7:
		arrive(w, &w->past[take(in, 1) % PAST]);
		break;
	case 8:
		w->now_ns += take(in, 1) * 50000ull;
		break;
	case 9:
	case 10:
		peer_behaves(w, kind & 1 ? take(in, 1) * 4 : 0, take(in, 2));
		break;
	default:
		step_segment(w, in, kind == 11);
		break;
	}
	w->now_ns += 1000;
	turn(w);
}

/* ---- the end ---------------------------------------------------------------
 */

static bool all_done(const struct world *w)
{
	const struct flow *f = flow(w);

	return !f || (f->tx_len == 0 && !w->closed);
}

/* Bytes that the peer must have sent, for a segment of its was taken that lies
 * behind them: only what comes still later may open its window. */
static uint32_t peer_owes(const struct world *w)
{
	const struct flow *f = flow(w);

	return f && seq_gt(f->snd_wl1, f->rcv_nxt)
		       ? min32(f->snd_wl1 - f->rcv_nxt, 1000)
		       : 0;
}

/* From now on the peer acknowledges what it gets and the program reads. */
static void settle(struct world *w)
{
	uint32_t i, una, still = 0;
	struct flow *f;

	w->stalled = false;
	f = flow(w);
	if (f && f->state == FLOW_HOLD) {
		slow_command(w, FP_CMD_RELEASE);
		slow_go(w);
	}
	turn(w);
	f = flow(w);
	if (f)
		f->ext->max_pacing_rate = 0; /* may be a byte a second */
	/* A segment a turn, of 32 bytes, is progress. */
	for (i = 0; still < 200; i++) {
		una = f ? f->snd_una : 0;
		program_reads(w);
		if (w->unread && !w->closed && !w->over)
			program_sends(w, 0, w->unread, 0);
		peer_behaves(w, peer_owes(w), UINT32_MAX);
		/* Longer, if that alone does not help: all timers run. */
		w->now_ns += still < 100 ? 300000000ull : 130000000000ull;
		turn(w);
		if (all_done(w) && i > 2)
			break;
		f = flow(w);
		still = f && f->snd_una != una ? 0 : still + 1;
	}
	f = flow(w);
	require(all_done(w) || (f->rcv_fin && seq_gt(f->snd_wl1, f->rcv_nxt)));
}

/* What the peer sends in order arrives. */
static void check_receives(struct world *w)
{
	const struct flow *f = flow(w);
	uint32_t i, seq;

	if (!f || f->rcv_fin || w->closed)
		return;
	for (i = 0; i < 4 && flow(w); i++) {
		seq = f->rcv_nxt;
		peer_behaves(w, 100, UINT32_MAX);
		turn(w);
		if (!flow(w))
			return;
		require(f->rcv_nxt - seq >= 100 || f->rcv_fin);
		program_reads(w);
		require(w->read == f->rcv_nxt - IRS);
		if (!w->over)
			program_sends(w, 0, w->unread, 0);
		w->now_ns += 1000000;
		turn(w);
	}
}

/* ---- life ------------------------------------------------------------------
 */

static void set_up_ctx(struct world *w, uint32_t i)
{
	w->ctx[i] = (struct fp_ctx){
		.mem = mem,
		.mem_size = MEM,
		.area = (struct xts_ctx_area *)(mem + i * CTX_AREA),
		.app = 1,
		.ctx = i,
		.app_event_fd = -1,
		.doorbell_fd[0] = -1,
	};
	slow_command(w, FP_CMD_CTX_ADD)->ctx = &w->ctx[i];
	slow_go(w);
}

static void set_up_numbers(struct world *w, struct input *in, uint32_t how)
{
	struct flow_params *p = &w->p;

	p->buf_size = how & 1 ? BUF_LARGE : BUF_SMALL;
	p->buf_max = how & 2 ? GROW_MAX : 0;
	if (how & 4) {
		p->rx_len = take(in, 2) % (p->buf_size + 1);
		p->tx_len = take(in, 2) % (p->buf_size + 1);
	}
	p->snd_una = ISS;
	p->snd_nxt = ISS + (how & 8 ? p->tx_len : p->tx_len / 2);
	p->rcv_nxt = IRS + p->rx_len;
	p->rcv_wup = p->rcv_nxt - (how & 16 ? p->rx_len / 2 : 0);
	p->rcv_wnd = p->buf_size;
	p->snd_wl1 = p->rcv_wup;
	p->snd_wnd = 4000u << p->snd_wscale;
	p->snd_mss = w->mss_max = MSS;
	w->path = p->mss_max > MSS ? p->mss_max : MSS;
	w->sent = p->snd_nxt - ISS;
	p->cwnd_segs = how & 32 ? take(in, 1) : 10;
	p->ssthresh_segs = how & 64 ? take(in, 1) : 1u << 30;
	if (how & 128) {
		p->srtt_us = take(in, 2) * 8;
		p->rttvar_us = p->srtt_us / 2;
		p->rto_us = p->srtt_us + 200000;
		p->min_rtt_us = p->srtt_us / 2;
	}
}

static void set_up_params(struct world *w, struct input *in)
{
	static const char names[][FP_CC_NAME] = {"", "cubic", "dctcp", "bbr"};
	static const uint32_t path[] = {0, 600, 1432, 2 * FRAME_SIZE};
	uint32_t how = take(in, 1), cc = take(in, 1);
	struct flow_params *p = &w->p;

	p->key.family = how & 1 ? AF_INET6 : AF_INET;
	memcpy(p->key.local, "\12\11\0\2\0\0\0\0\0\0\0\0\0\0\0\2",
	       how & 1 ? 16 : 4);
	memcpy(p->key.peer, "\12\11\0\1\0\0\0\0\0\0\0\0\0\0\0\1",
	       how & 1 ? 16 : 4);
	p->key.lport = htons(7);
	p->key.pport = htons(9);
	p->ctx = &w->ctx[0];
	p->cookie = COOKIE;
	p->rx_buf = BUFS_OFF;
	p->timestamps = how & 2;
	p->sack = how & 4;
	p->ecn = how & 8;
	p->nodelay = how & 16;
	p->cork = how & 32;
	if (how & 64) {
		p->mtu_probing = cc & 32 ? 2 : 1;
		p->mss_max = path[cc >> 6];
		p->mtu_base = 400;
		p->mtu_interval_s = 5;
	}
	p->snd_wscale = how & 128 ? 7 : 0;
	p->rcv_wscale = how & 128 ? 5 : 2;
	memcpy(p->cc, names[cc & 3], FP_CC_NAME);
	p->user_timeout_ms = cc & 4 ? 30000 : 0;
	p->max_pacing_rate = cc & 8 ? 100000 : 0;
	p->cc_fixed = cc & 16;
	p->ts_offset = 5000;
	p->ts_recent = 1000;
	p->ttl = 64;
	set_up_numbers(w, in, take(in, 1));
}

/* What Linux had received, and had yet to get acknowledged. */
static void set_up_buffers(struct world *w)
{
	const struct flow_params *p = &w->p;
	uint32_t i;

	w->rx = mem + p->rx_buf;
	w->tx = w->rx + p->buf_size;
	w->rx_size = w->tx_size = p->buf_size;
	for (i = 0; i < p->rx_len; i++)
		w->rx[i] = pattern(i);
	for (i = 0; i < p->tx_len; i++)
		w->tx[i] = pattern(i);
	w->written = p->tx_len;
	w->snd_edge = p->snd_nxt;
	if (seq_gt(p->snd_una + p->snd_wnd, w->snd_edge))
		w->snd_edge = p->snd_una + p->snd_wnd;
}

static void set_up(struct world *w, struct input *in)
{
	struct fp_config cfg = {
		.max_flows = 2, .cpu = -1, .now_ns = fake_now, .now_arg = w};
	const struct fp_msg *m;
	bool hold;
	uint32_t i;

	memset(w, 0, sizeof(*w));
	memset(mem, 0, LARGE_OFF);
	for (i = 0; i < PAST; i++)
		w->past[i].ack = ISS;
	w->now_ns = 1ull << 40;
	w->q = cfg.queue = queue_mem_open(FRAMES, FRAME_SIZE);
	w->core = fp_core_create(&cfg);
	require(w->core);
	for (i = 0; i < CTXS; i++)
		set_up_ctx(w, i);
	set_up_params(w, in);
	set_up_buffers(w);
	hold = take(in, 1) & 1;
	m = slow_command(w, FP_CMD_INSTALL);
	((struct fp_msg *)m)->value = !hold;
	((struct fp_msg *)m)->how = fp_ev_taken(w->core);
	slow_go(w);
	m = fp_ev_peek(w->core);
	require(m && m->type == FP_EV_INSTALLED && !m->err);
	require(m->value == !hold);
	w->id = m->flow;
	fp_ev_release(w->core);
	check_world(w);
}

static void tear_down(struct world *w)
{
	uint32_t i;

	slow_command(w, FP_CMD_REMOVE);
	slow_go(w);
	for (i = 0; i < CTXS; i++) {
		slow_command(w, FP_CMD_CTX_DEL)->ctx = &w->ctx[i];
		slow_go(w);
	}
	check_events(w);
	fp_core_turn(w->core);
	check_sent(w);
	require(queue_mem_free(w->q) == FRAMES);
	require(w->core->flows.n_flows == 0);
	require(w->core->timers.n_queued == 0);
	require(!w->core->held && !w->core->n_blocked);
	for (i = 0; i < w->core->flows.high; i++)
		require(w->core->flows.flows[i].state == FLOW_FREE);
	fp_core_destroy(w->core);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct world w;
	struct input in = {data, data + size};

	set_up(&w, &in);
	while (in.p < in.end)
		step(&w, &in);
	settle(&w);
	check_receives(&w);
	tear_down(&w);
	return 0;
}
