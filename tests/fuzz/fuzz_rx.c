/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_rx.c - the whole receive path with a flow installed
 *
 * The input is a list of steps: segments of the flow whose numbers are near the
 * right ones (checksums made right, or not), in any order, overlapping, sent
 * again as they were before, raw frames, commands of the program, acknowledged
 * or not, time that passes. After each step the flow's numbers must fit
 * together, every byte the program was told of must be the one the peer sent at
 * that place of the stream, and so must be those behind a gap, everything sent
 * must be well formed, and at the end no frame, flow or timer may be left.
 */
#include "fastpath/core.h"

#include <stdlib.h>
#include <unistd.h>

#define FRAMES 256u
#define BUF 2048u
#define MEM (XTS_CTX_AREA_SIZE(1) + 2 * BUF)
#define ISN 0xfffffe00u
#define PAST 8u /* segments kept, to arrive once more */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *p, *end;
};

struct world {
	struct fp_core *core;
	struct queue *q;
	struct fp_ctx ctx;
	struct flow_params p;
	struct flow_id id;
	uint64_t now_ns;
	uint32_t app_read;		   /* bytes of the peer's stream told */
	uint32_t app_off, app_outstanding; /* as the program sees them */
	bool shut;			   /* the program sends no more */
	bool offended;
	struct {
		uint8_t frame[1024];
		uint32_t len;
	} past[PAST];
	uint32_t n_past;
};

static _Alignas(4096) uint8_t mem[MEM];

static uint32_t take(struct input *in, unsigned int n)
{
	uint32_t v = 0;

	while (n-- && in->p < in->end)
		v = v << 8 | *in->p++;
	return v;
}

#define require(x)                                                             \
	do {                                                                   \
		if (!(x))                                                      \
			abort();                                               \
	} while (0)

static uint64_t fake_now(void *arg)
{
	return ((struct world *)arg)->now_ns;
}

static uint8_t pattern(uint32_t pos)
{
	return (uint8_t)(pos * 31 + 7);
}

/* ---- the core's answers
 * --------------------------------------------------------- */

/* In order, disjoint, above rcv_nxt, inside window and buffer; what lies there
 * is what the peer sent; what was reported stays. */
static void check_ranges(const struct flow *f)
{
	const struct reassembly *r = &f->ext->ooo;
	uint32_t last = f->rcv_nxt, i, seq;

	require(r->n <= REASSEMBLY_MAX);
	for (i = 0; i < r->n; i++) {
		require(seq_gt(r->range[i].start, last));
		last = r->range[i].end;
		require(seq_gt(last, r->range[i].start));
		for (seq = r->range[i].start; seq != last; seq++)
			require(f->rx_buf[(f->rx_pos + seq - f->rcv_nxt) %
					  BUF] == pattern(seq - ISN));
	}
	if (!r->n)
		return;
	require(seq_leq(last, flow_rcv_edge(f)));
	require(last - f->rcv_nxt <= flow_rx_free(f));
	require(!f->rcv_fin);
}

static void check_flow(struct world *w)
{
	const struct flow *f = flow_by_id(&w->core->flows, w->id);

	if (!f)
		return;
	require(f->snd_nxt - f->snd_una <= f->tx_len);
	require(f->tx_len <= BUF && f->tx_pos < BUF);
	require(f->rx_unread <= BUF && f->pend_len <= f->rx_unread);
	require(f->rx_pos < BUF);
	require(f->cwnd >= 1 && f->snd_mss >= 32);
	require(f->rto_us >= RTO_MIN_US && f->rto_us <= RTO_MAX_US);
	require(w->core->timers.n_queued <= 1);
	require(!f->rto_at || f->timer_at);
	require(!f->ack_at || f->timer_at);
	require(!f->plain || (!reassembly_busy(&f->ext->ooo) && !f->ece));
	check_ranges(f);
	require(loss_valid(f));
	/* Something is under way: a timer must be running. */
	require(f->state != FLOW_OPEN || f->snd_una == f->snd_nxt || f->rto_at);
}

static void check_sent(struct world *w)
{
	const struct flow *f = flow_by_id(&w->core->flows, w->id);
	uint8_t b[2048];
	struct frame fr;
	uint32_t len;

	while ((len = queue_mem_pop(w->q, b, sizeof(b)))) {
		require(frame_parse(&fr, b, len) == FRAME_TCP);
		require(frame_tcp_checksum_ok(&fr));
		require(csum_fold(csum_add(frame_ip4(&fr), 20, 0)) == 0);
		require(fr.payload_len <= 500);
		require(!fr.payload_len ||
			fr.payload - fr.l4 + fr.payload_len <=
				20u + (w->p.timestamps ? 12 : 0) + 500);
		if (f)
			require(seq_leq(ntohl(frame_tcp(&fr)->ack_seq),
					f->rcv_nxt + f->rcv_fin));
	}
}

static void check_events(struct world *w)
{
	const struct fp_msg *m;

	while ((m = fp_ev_peek(w->core))) {
		require(m->type >= FP_EV_FRAME && m->type <= FP_EV_OFFENDER);
		if (m->type == FP_EV_OFFENDER)
			w->offended = true;
		fp_ev_release(w->core);
	}
}

/* The program reads what it was told and gives all of it back later. */
static uint32_t check_replies(struct world *w)
{
	struct xts_core_area *a = &w->ctx.area->core[0];
	const uint8_t *rx = mem + XTS_CTX_AREA_SIZE(1);
	uint32_t got = 0, i;

	while (a->reply_index.consumer != a->reply_index.producer) {
		uint32_t n = a->reply_index.consumer++;
		struct xts_reply *r = &a->reply[n % XTS_RING_SLOTS];

		require(r->off < BUF && r->len <= BUF);
		for (i = 0; i < r->len; i++)
			require(rx[(r->off + i) % BUF] ==
				pattern(w->app_read + i));
		w->app_read += r->len;
		require(r->credits <= w->app_outstanding);
		w->app_outstanding -= r->credits;
		got += r->len;
	}
	return got;
}

/* ---- steps
 * ------------------------------------------------------------------------- */

static void step_segment(struct world *w, struct input *in)
{
	const struct flow *f = flow_by_id(&w->core->flows, w->id);
	uint8_t b[1024] = {[12] = 8};
	struct iphdr *ip = (struct iphdr *)(b + 14);
	struct tcphdr *th = (struct tcphdr *)(ip + 1);
	uint32_t what = take(in, 1), len = take(in, 1), olen = what & 3, i;
	uint32_t seq = (f ? f->rcv_nxt : ISN) + (int8_t)take(in, 1);
	uint32_t ack = (f ? f->snd_nxt : ISN) + (int8_t)take(in, 1);
	uint32_t ts[3] = {htonl(0x0101080a)};
	struct frame fr;

	if (what & 4)
		seq += take(in, 4);
	if (what & 8)
		ack += take(in, 4);
	if (what & 64)
		seq += take(in, 1) * 16;
	ts[1] = htonl(1000 + (w->now_ns >> 20) + (int8_t)take(in, 1));
	ts[2] = htonl(take(in, 2));
	olen = olen == 3 ? take(in, 1) % 11 : 3;
	ip->version = 4;
	ip->ihl = 5;
	ip->tot_len = htons(40 + olen * 4 + len);
	ip->ttl = 3;
	ip->tos = what >> 7 ? take(in, 1) : 0;
	ip->protocol = IPPROTO_TCP;
	memcpy(&ip->saddr, w->p.key.peer, 4);
	memcpy(&ip->daddr, w->p.key.local, 4);
	th->source = w->p.key.pport;
	th->dest = w->p.key.lport;
	th->seq = htonl(seq);
	th->ack_seq = htonl(ack);
	th->doff = 5 + olen;
	b[14 + 20 + 13] = what & 16 ? take(in, 1) : 0x10;
	th->window = htons(take(in, 2));
	if (olen == 3)
		memcpy(th + 1, ts, 12);
	else
		for (i = 0; i < olen * 4; i++)
			b[54 + i] = take(in, 1);
	for (i = 0; i < len; i++)
		b[54 + olen * 4 + i] = pattern(seq + i - ISN);
	require(frame_parse(&fr, b, 54 + olen * 4 + len) == FRAME_TCP);
	frame_set_checksums(&fr);
	if (what & 32)
		b[take(in, 1)] ^= take(in, 1);
	/* A byte of payload that was changed must not pass as another. */
	if (what & 32 && frame_parse(&fr, b, fr.len) == FRAME_TCP &&
	    frame_tcp_checksum_ok(&fr))
		return;
	len += 54 + olen * 4;
	memcpy(w->past[w->n_past % PAST].frame, b, len);
	w->past[w->n_past++ % PAST].len = len;
	queue_mem_push(w->q, b, len);
}

static void step_again(struct world *w, struct input *in)
{
	uint32_t i = take(in, 1) % PAST;

	queue_mem_push(w->q, w->past[i].frame, w->past[i].len);
}

static void step_raw(struct world *w, struct input *in)
{
	uint8_t b[256];
	uint32_t n = take(in, 1), i;

	for (i = 0; i < n; i++)
		b[i] = take(in, 1);
	queue_mem_push(w->q, b, n);
}

static void step_command(struct world *w, struct input *in)
{
	struct xts_core_area *a = &w->ctx.area->core[0];
	uint32_t n = a->cmd_index.producer, flags = take(in, 1);
	struct xts_cmd *c = &a->cmd[n % XTS_RING_SLOTS];
	uint32_t room = BUF - w->app_outstanding;

	memset(c, 0, sizeof(*c));
	c->type = XTS_CMD_SEND;
	c->flow = w->id.index;
	c->flow_gen = w->id.gen;
	c->len = w->shut ? 0 : take(in, 2) % (room + 1);
	c->off = w->app_off;
	c->credits = check_replies(w);
	if (!(flags & 0xf0))
		c->flags = flags & (XTS_F_SHUT_WR | XTS_F_CLOSE);
	w->shut |= c->flags != 0;
	w->app_off = (w->app_off + c->len) % BUF;
	w->app_outstanding += c->len;
	a->cmd_index.producer++;
	if (a->core.need_doorbell && w->ctx.core_private[0])
		app_unpark(w->core, w->ctx.core_private[0]);
}

static void command(struct world *w, enum fp_cmd type)
{
	struct fp_msg *m = fp_cmd_reserve(w->core);

	require(m);
	m->type = type;
	m->ctx = &w->ctx;
	m->params = &w->p;
	m->flow = w->id;
	fp_cmd_submit(w->core);
	fp_core_turn(w->core);
}

static void step(struct world *w, struct input *in)
{
	switch (take(in, 1) & 7) {
	case 0:
		step_raw(w, in);
		break;
	case 1:
		w->now_ns += (uint64_t)take(in, 2) << 20;
		break;
	case 2:
		step_command(w, in);
		break;
	case 3:
		/* Several frames in one burst. */
		step_segment(w, in);
		step_segment(w, in);
		step_segment(w, in);
		break;
	case 4:
		step_again(w, in);
		break;
	default:
		step_segment(w, in);
		break;
	}
	w->now_ns += 1000;
	fp_core_turn(w->core);
	check_flow(w);
	check_sent(w);
	check_events(w);
}

/* ---- life
 * ------------------------------------------------------------------------------
 */

static void set_up(struct world *w, uint32_t how)
{
	struct fp_config cfg = {
		.max_flows = 2, .cpu = -1, .now_ns = fake_now, .now_arg = w};
	const struct fp_msg *m;

	memset(w, 0, sizeof(*w));
	memset(mem, 0, sizeof(mem));
	w->now_ns = 1ull << 40;
	w->q = cfg.queue = queue_mem_open(FRAMES, 2048);
	w->core = fp_core_create(&cfg);
	require(w->core);
	w->ctx.mem = mem;
	w->ctx.mem_size = MEM;
	w->ctx.area = (struct xts_ctx_area *)mem;
	w->ctx.app_event_fd = w->ctx.doorbell_fd[0] = -1;
	w->p = (struct flow_params){
		.key.family = AF_INET,
		.key.local = {10, 9, 0, 2},
		.key.peer = {10, 9, 0, 1},
		.key.lport = htons(7),
		.key.pport = htons(9),
		.ctx = &w->ctx,
		.rx_buf = XTS_CTX_AREA_SIZE(1),
		.buf_size = BUF,
		.snd_una = ISN,
		.snd_nxt = ISN,
		.snd_wnd = 4000,
		.snd_wl1 = ISN,
		.rcv_nxt = ISN,
		.rcv_wup = ISN,
		.rcv_wnd = BUF,
		.snd_mss = 500,
		.timestamps = how & 1,
		.sack = !(how & 2),
		.ecn = how & 4,
		.rcv_wscale = 2,
		.ttl = 64,
	};
	command(w, FP_CMD_CTX_ADD);
	command(w, FP_CMD_INSTALL);
	m = fp_ev_peek(w->core);
	require(m && m->type == FP_EV_INSTALLED && !m->err);
	w->id = m->flow;
	fp_ev_release(w->core);
	command(w, FP_CMD_RELEASE);
}

static void tear_down(struct world *w)
{
	require(!w->offended);
	command(w, FP_CMD_REMOVE);
	command(w, FP_CMD_CTX_DEL);
	check_events(w);
	fp_core_turn(w->core);
	check_sent(w);
	require(queue_mem_free(w->q) == FRAMES);
	require(w->core->flows.n_flows == 0);
	require(w->core->timers.n_queued == 0);
	require(!w->core->held && !w->core->n_blocked);
	fp_core_destroy(w->core);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, data + size};
	struct world w;

	set_up(&w, take(&in, 1));
	while (in.p < in.end)
		step(&w, &in);
	tear_down(&w);
	return 0;
}
