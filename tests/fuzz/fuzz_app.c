/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_app.c - what a hostile program writes into the memory it shares
 *
 * Two programs use a core. One obeys nothing: the input writes its rings'
 * words and slots, commands that are nearly right, or right, for its own
 * connections, for the other program's and for those that are gone; its peers
 * and the slow path do what they do meanwhile, the program dies or is thrown
 * out and comes back. Its memory is an object of its own, so that the
 * sanitizer sees what lies outside of it.
 *
 * What must hold after every turn: every flow's numbers fit together (core.h);
 * what is sent is well formed; only contexts of the hostile program are called
 * offenders, each once. And the other program, an echo server, goes on as if
 * there was nothing: each byte of its peer's comes back in the turn after.
 */
#include "tests/fuzz/core.h"

#include <errno.h>
#include <unistd.h>

#define FRAMES 256u
#define FRAME_SIZE 2048u
#define BUF 2048u
#define GROW_MAX 65536u
#define CTX_AREA XTS_CTX_AREA_SIZE(1)
#define CTXS 2u	 /* of the hostile one */
#define FLOWS 3u /* likewise; of these the first may grow */
#define ALL_FLOWS 8u
#define BUFS_OFF (CTXS * CTX_AREA)
#define LARGE_OFF ((BUFS_OFF + FLOWS * 2 * BUF + 4095) & ~4095ul)
#define MEM (LARGE_OFF + XTS_BUF_MAX + GROW_MAX)
#define HONEST_MEM (CTX_AREA + 2 * BUF)
#define ISN 0xfffffe00u
#define MSS 500u

/* One end of a connection of the hostile program. */
struct target {
	struct flow_params p;
	struct flow_id id;
	bool installed;
	uint32_t wanted, granted; /* size of the large buffers */
};

struct world {
	struct fp_core *core;
	struct queue *q;
	uint64_t now_ns;
	uint16_t next_port;

	struct fp_ctx ctx[CTXS];
	bool ctx_there[CTXS], offended[CTXS];
	struct target target[FLOWS];

	struct fp_ctx echo_ctx;
	struct flow_params echo_p;
	struct flow_id echo_id;
	uint32_t echo_sent; /* by its peer, which got as much */
	uint32_t echo_got, echo_read;
	uint32_t app_off;
};

static _Alignas(4096) uint8_t mem[MEM];
static _Alignas(4096) uint8_t honest_mem[HONEST_MEM];

static uint64_t fake_now(void *arg)
{
	return ((struct world *)arg)->now_ns;
}

static struct flow *flow_of(const struct world *w, struct flow_id id)
{
	return flow_by_id(&w->core->flows, id);
}

static struct xts_core_area *area_of(uint32_t ctx)
{
	return &((struct xts_ctx_area *)(mem + ctx * CTX_AREA))->core[0];
}

/* ---- what the core does ----------------------------------------------------
 */

/* The echo server's peer gets its bytes back. */
static void echo_sent(struct world *w, const struct frame *f)
{
	uint32_t at = ntohl(frame_tcp(f)->seq) - ISN, i;

	require(at + f->payload_len <= w->echo_read);
	for (i = 0; i < f->payload_len; i++)
		require(f->data[f->payload + i] == pattern(at + i));
	if (at == w->echo_got)
		w->echo_got += f->payload_len;
}

static void check_sent(struct world *w)
{
	uint8_t b[FRAME_SIZE];
	struct conn_key key;
	struct frame f;
	uint32_t len;

	while ((len = queue_mem_pop(w->q, b, sizeof(b)))) {
		require(frame_parse(&f, b, len) == FRAME_TCP);
		frame_key(&f, false, &key);
		sent_parse(&f, b, len, &key);
		require(f.payload_len <= MSS);
		if (key.lport == w->echo_p.key.lport)
			echo_sent(w, &f);
	}
}

static void on_event(struct world *w, const struct fp_msg *m)
{
	struct target *t;
	uint32_t i = (uint32_t)(m->ctx - w->ctx);

	require(m->type >= FP_EV_FRAME && m->type <= FP_EV_GROW);
	if (m->type == FP_EV_OFFENDER) {
		require(i < CTXS && !w->offended[i] && m->text);
		w->offended[i] = true;
	}
	for (t = w->target; t < w->target + FLOWS; t++) {
		if (!t->installed || m->flow.index != t->id.index ||
		    m->flow.gen != t->id.gen)
			continue;
		if (m->type == FP_EV_REMOVED)
			t->installed = false;
		if (m->type == FP_EV_GROW) {
			require(t == w->target && m->value <= GROW_MAX);
			t->wanted = m->value;
		}
	}
	require(m->type != FP_EV_REMOVED || m->flow.index != w->echo_id.index ||
		m->flow.gen != w->echo_id.gen);
}

static void check_events(struct world *w)
{
	const struct fp_msg *m;

	while ((m = fp_ev_peek(w->core))) {
		on_event(w, m);
		fp_ev_release(w->core);
	}
}

static void check_flows(const struct world *w)
{
	uint32_t i, used = 0;

	for (i = 0; i < w->core->flows.high; i++) {
		const struct flow *f = &w->core->flows.flows[i];

		if (f->state != FLOW_HOLD && f->state != FLOW_OPEN)
			continue;
		used++;
		check_flow(f);
	}
	require(used == w->core->flows.n_flows);
	require(w->core->timers.n_queued <= used);
	check_ranges(flow_of(w, w->echo_id), ISN);
}

static void turn(struct world *w)
{
	fp_core_turn(w->core);
	check_flows(w);
	check_sent(w);
	check_events(w);
}

/* ---- the slow path ---------------------------------------------------------
 */

static struct fp_msg *slow_command(struct world *w, enum fp_cmd type)
{
	struct fp_msg *m = fp_cmd_reserve(w->core);

	require(m);
	m->type = type;
	m->flow.index = FP_NO_FLOW;
	return m;
}

static void slow_go(struct world *w)
{
	fp_cmd_submit(w->core);
	turn(w);
}

static void slow_flow(struct world *w, enum fp_cmd type, struct flow_id id,
		      uint32_t err)
{
	struct fp_msg *m = slow_command(w, type);

	m->flow = id;
	m->err = err;
	slow_go(w);
}

static void fill_ctx(struct fp_ctx *x, uint8_t *at, uint64_t size,
		     struct xts_ctx_area *area, uint32_t app)
{
	*x = (struct fp_ctx){.mem = at,
			     .mem_size = size,
			     .area = area,
			     .app = app,
			     .app_event_fd = -1,
			     .doorbell_fd[0] = -1};
}

static void ctx_add(struct world *w, uint32_t i)
{
	struct xts_ctx_area *area = (void *)(mem + i * CTX_AREA);

	memset(area, 0, CTX_AREA);
	fill_ctx(&w->ctx[i], mem, MEM, area, 1);
	w->ctx[i].ctx = i;
	w->ctx_there[i] = true;
	w->offended[i] = false;
	slow_command(w, FP_CMD_CTX_ADD)->ctx = &w->ctx[i];
	slow_go(w);
}

static bool install(struct world *w, struct flow_params *p, struct flow_id *id)
{
	struct fp_msg *m = slow_command(w, FP_CMD_INSTALL);
	const struct fp_msg *e;
	bool ok;

	m->params = p;
	m->value = 1;
	m->how = fp_ev_taken(w->core);
	fp_cmd_submit(w->core);
	fp_core_turn(w->core);
	e = fp_ev_peek(w->core);
	require(e && e->type == FP_EV_INSTALLED);
	ok = !e->err;
	*id = e->flow;
	fp_ev_release(w->core);
	turn(w);
	return ok;
}

static void fill_params(struct flow_params *p, struct fp_ctx *ctx,
			uint16_t port, uint64_t buf)
{
	*p = (struct flow_params){
		.key.family = AF_INET,
		.key.local = {10, 9, 0, 2},
		.key.peer = {10, 9, 0, 1},
		.key.lport = htons(port),
		.key.pport = htons(9),
		.ctx = ctx,
		.cookie = port,
		.rx_buf = buf,
		.buf_size = BUF,
		.snd_una = ISN,
		.snd_nxt = ISN,
		.snd_wnd = 60000,
		.snd_wl1 = ISN,
		.rcv_nxt = ISN,
		.rcv_wup = ISN,
		.rcv_wnd = BUF,
		.snd_mss = MSS,
		.cwnd_segs = 200,
		.nodelay = true,
		.sack = true,
		.rcv_wscale = 2,
		.ttl = 64,
	};
}

static void target_install(struct world *w, uint32_t i)
{
	struct target *t = &w->target[i];

	if (t->installed || !w->ctx_there[i % CTXS])
		return;
	fill_params(&t->p, &w->ctx[i % CTXS], ++w->next_port,
		    BUFS_OFF + i * 2ull * BUF);
	t->p.buf_max = i ? 0 : GROW_MAX;
	t->wanted = t->granted = 0;
	if (install(w, &t->p, &t->id))
		t->installed = flow_of(w, t->id) != NULL;
}

static void ctx_del(struct world *w, uint32_t i)
{
	if (!w->ctx_there[i])
		return;
	w->ctx_there[i] = false;
	slow_command(w, FP_CMD_CTX_DEL)->ctx = &w->ctx[i];
	slow_go(w);
}

/* It ends by itself, or it is made to. */
static void program_ends(struct world *w, bool reset)
{
	uint32_t i;

	for (i = 0; i < CTXS; i++)
		ctx_del(w, i);
	for (i = 0; i < FLOWS; i++) {
		if (!w->target[i].installed)
			continue;
		slow_flow(w, reset ? FP_CMD_REMOVE : FP_CMD_CLOSE,
			  w->target[i].id, reset ? ECONNRESET : 0);
		w->target[i].installed = false;
	}
}

static void program_begins(struct world *w)
{
	uint32_t i;

	for (i = 0; i < CTXS; i++)
		if (!w->ctx_there[i])
			ctx_add(w, i);
	for (i = 0; i < FLOWS; i++)
		target_install(w, i);
}

static void slow_grow(struct world *w)
{
	struct target *t = &w->target[0];
	struct fp_msg *m;

	if (!t->installed || t->wanted <= t->granted)
		return;
	t->granted = t->wanted;
	m = slow_command(w, FP_CMD_GROW);
	m->flow = t->id;
	m->mem = LARGE_OFF;
	m->value = t->granted;
	slow_go(w);
}

static void slow_relay(struct world *w, uint32_t ctx, uint32_t n)
{
	for (; n && w->ctx_there[ctx]; n--) {
		struct fp_msg *m = slow_command(w, FP_CMD_REPLY);

		m->ctx = &w->ctx[ctx];
		m->reply = (struct xts_reply){.type = XTS_REPLY_DECLINED};
		fp_cmd_submit(w->core);
		if (n % 32 == 1) /* all are taken in one turn */
			turn(w);
	}
}

static void step_slow(struct world *w, struct input *in)
{
	uint32_t what = take(in, 1), i = what >> 4 & 1;
	struct target *t = &w->target[(what >> 4) % FLOWS];

	switch (what & 7) {
	case 0:
	case 1:
		slow_grow(w);
		break;
	case 2:
		slow_relay(w, i, take(in, 1));
		break;
	case 3:
		if (w->ctx_there[i] && t->installed) {
			struct fp_msg *m = slow_command(w, FP_CMD_MOVE);

			m->flow = t->id;
			m->ctx = &w->ctx[i];
			slow_go(w);
		}
		break;
	case 4:
		if (t->installed)
			slow_flow(w, FP_CMD_REMOVE, t->id, ETIMEDOUT);
		break;
	case 5:
		program_ends(w, what & 8);
		break;
	default:
		program_begins(w);
		break;
	}
}

/* ---- the hostile program ---------------------------------------------------
 */

/* The words that both sides read. */
static void step_word(struct world *w, struct input *in)
{
	uint32_t what = take(in, 1), i = what & 1, v = take(in, 1);
	struct xts_core_area *a = area_of(i);
	uint32_t *words[] = {
		&a->cmd_index.producer,	    &a->cmd_index.consumer,
		&a->reply_index.producer,   &a->reply_index.consumer,
		&a->core.need_doorbell,	    (uint32_t *)&a->core.cpu,
		&w->ctx[i].area->app_sleep,
	};
	uint32_t *word = words[(what >> 1 & 7) % 7];

	if (!w->ctx[i].area)
		return;
	if (what & 64)
		*word = take(in, 4);
	else if (what & 32)
		*word += (uint32_t)(int8_t)v;
	else /* all of the replies are read */
		a->reply_index.consumer = a->reply_index.producer;
}

/* Bytes anywhere in its memory. */
static void step_bytes(struct input *in)
{
	uint32_t at = take(in, 3) % (LARGE_OFF - 256), n = take(in, 1);

	take_bytes(in, mem + at, n);
}

static void doorbell(struct world *w, uint32_t i)
{
	if (w->ctx_there[i] && w->ctx[i].core_private[0])
		app_unpark(w->core, w->ctx[i].core_private[0]);
}

/* What a program that obeys would say next of that flow. */
static void right_command(const struct world *w, const struct target *t,
			  struct xts_cmd *c)
{
	const struct flow *f = flow_of(w, t->id);

	*c = (struct xts_cmd){.type = XTS_CMD_SEND,
			      .flow = t->id.index,
			      .flow_gen = t->id.gen};
	if (!f)
		return;
	c->off = (f->tx_pos + f->tx_len) & (f->tx_size - 1);
	c->len = f->shut_wr ? 0 : f->tx_size - f->tx_len;
	c->credits = f->rx_unread - f->pend_len;
}

/* How it grows its transmit buffer, if it may. */
static void grow_command(const struct world *w, const struct target *t,
			 struct xts_cmd *c)
{
	const struct flow *f = flow_of(w, t->id);

	c->type = XTS_CMD_GROW_TX;
	if (!f)
		return;
	c->off = f->tx_pos;
	c->len = f->ext->grow.offered_tx;
}

static void change_command(const struct world *w, struct input *in,
			   struct xts_cmd *c)
{
	uint32_t what = take(in, 1);

	if (what & 1)
		c->type = take(in, 1) & 7;
	if (what & 2)
		c->flags = take(in, 2);
	if (what & 4) /* of the other program, or none */
		c->flow = what & 128 ? w->echo_id.index : take(in, 1);
	if (what & 4)
		c->flow_gen = what & 64 ? 1 : take(in, 1);
	if (what & 8)
		c->off += (uint32_t)(int16_t)take(in, 2);
	if (what & 16)
		c->len += (uint32_t)(int16_t)take(in, 2);
	if (what & 32)
		c->credits += (uint32_t)(int8_t)take(in, 1);
	if (c->type == XTS_CMD_SETOPT) {
		c->off = take(in, 1);
		take_bytes(in, c->name, sizeof(c->name));
	}
}

static void step_command(struct world *w, struct input *in, bool right)
{
	uint32_t what = take(in, 1), i = what & 1, n;
	const struct target *t = &w->target[(what >> 1 & 3) % FLOWS];
	struct xts_core_area *a = area_of(i);
	struct xts_cmd c;

	if (!w->ctx_there[i])
		return;
	right_command(w, t, &c);
	if (what & 8 && c.len)
		c.len = take(in, 2) % c.len;
	if (what & 16 && c.credits)
		c.credits = take(in, 1) % (c.credits + 1);
	if ((what & 0xe0) == 0xe0)
		grow_command(w, t, &c);
	else if (!right)
		change_command(w, in, &c);
	n = a->cmd_index.producer;
	a->cmd[n % XTS_RING_SLOTS] = c;
	a->cmd_index.producer = n + 1;
	doorbell(w, i);
}

/* ---- peers -----------------------------------------------------------------
 */

static void push(struct world *w, const struct made *m)
{
	uint8_t b[SEGMENT_MAX];

	queue_mem_push(w->q, b, made_build(m, b));
}

/* Most of what it sends is in order, most of what it gets acknowledged. */
static void step_peer(struct world *w, struct input *in)
{
	uint32_t what = take(in, 1);
	const struct target *t = &w->target[(what & 3) % FLOWS];
	const struct flow *f = flow_of(w, t->id);
	struct made m = {.key = &t->p.key, .isn = ISN, .wnd = 60000};

	if (!t->installed || !f)
		return;
	m.flags = what & 4 ? (uint8_t)take(in, 1) : 0x10;
	m.seq = f->rcv_nxt;
	m.ack = f->snd_nxt;
	if (what & 8)
		m.seq += (uint32_t)(int8_t)take(in, 1);
	if (what & 16)
		m.ack -= take(in, 2);
	if (what & 32)
		m.wnd = (uint16_t)take(in, 2);
	if (what & 64)
		m.len = take(in, 1) * 4;
	push(w, &m);
}

/* ---- the echo server -------------------------------------------------------
 */

static void echo_reads(struct world *w)
{
	struct xts_core_area *a = &w->echo_ctx.area->core[0];
	const uint8_t *rx = honest_mem + CTX_AREA;
	uint32_t i;

	while (a->reply_index.consumer != a->reply_index.producer) {
		uint32_t n = a->reply_index.consumer++;
		const struct xts_reply *r = &a->reply[n % XTS_RING_SLOTS];

		require(r->type == XTS_REPLY_OFFLOADED ||
			r->type == XTS_REPLY_RECV);
		require(!r->flags && r->cookie == w->echo_p.cookie);
		for (i = 0; i < r->len; i++)
			require(rx[(r->off + i) % BUF] ==
				pattern(w->echo_read + i));
		w->echo_read += r->len;
	}
}

static void echo_answers(struct world *w, uint32_t len)
{
	struct xts_core_area *a = &w->echo_ctx.area->core[0];
	uint32_t n = a->cmd_index.producer, i;
	uint8_t *tx = honest_mem + CTX_AREA + BUF;

	for (i = 0; i < len; i++)
		tx[(w->app_off + i) % BUF] = pattern(w->echo_read - len + i);
	a->cmd[n % XTS_RING_SLOTS] = (struct xts_cmd){
		.type = XTS_CMD_SEND,
		.flow = w->echo_id.index,
		.flow_gen = w->echo_id.gen,
		.off = w->app_off,
		.len = len,
		.credits = len,
	};
	a->cmd_index.producer = n + 1;
	w->app_off = (w->app_off + len) % BUF;
	if (a->core.need_doorbell)
		app_unpark(w->core, w->echo_ctx.core_private[0]);
}

static void step_echo(struct world *w, uint32_t len)
{
	struct made m = {.key = &w->echo_p.key,
			 .isn = ISN,
			 .wnd = 60000,
			 .flags = 0x10,
			 .seq = ISN + w->echo_sent,
			 .ack = ISN + w->echo_got,
			 .len = len};

	push(w, &m);
	w->echo_sent += len;
	turn(w);
	echo_reads(w);
	require(w->echo_read == w->echo_sent);
	echo_answers(w, len);
	turn(w);
	require(w->echo_got == w->echo_sent);
	m.seq += len;
	m.ack += len;
	m.len = 0;
	push(w, &m);
	turn(w);
}

/* ---- life ------------------------------------------------------------------
 */

static void step(struct world *w, struct input *in)
{
	switch (take(in, 1) & 15) {
	case 0:
	case 1:
		step_word(w, in);
		break;
	case 2:
		step_bytes(in);
		break;
	case 3:
		w->now_ns += (uint64_t)take(in, 2) << 20;
		break;
	case 4:
		step_slow(w, in);
		break;
	case 5:
		step_echo(w, 1 + take(in, 1));
		break;
	case 6:
		doorbell(w, take(in, 1) & 1);
		break;
	case 7:
	case 8:
	case 9:
		step_peer(w, in);
		break;
	case 10:
	case 11:
	case 12:
		step_command(w, in, true);
		break;
	default:
		step_command(w, in, false);
		break;
	}
	w->now_ns += 1000;
	turn(w);
}

static void set_up(struct world *w)
{
	struct fp_config cfg = {.max_flows = ALL_FLOWS,
				.cpu = -1,
				.now_ns = fake_now,
				.now_arg = w};

	memset(w, 0, sizeof(*w));
	memset(mem, 0, LARGE_OFF);
	memset(honest_mem, 0, sizeof(honest_mem));
	w->now_ns = 1ull << 40;
	w->next_port = 1000;
	w->q = cfg.queue = queue_mem_open(FRAMES, FRAME_SIZE);
	w->core = fp_core_create(&cfg);
	require(w->core);
	fill_ctx(&w->echo_ctx, honest_mem, HONEST_MEM, (void *)honest_mem, 2);
	slow_command(w, FP_CMD_CTX_ADD)->ctx = &w->echo_ctx;
	fp_cmd_submit(w->core);
	fp_core_turn(w->core);
	fill_params(&w->echo_p, &w->echo_ctx, 7, CTX_AREA);
	require(install(w, &w->echo_p, &w->echo_id));
	echo_reads(w);
	program_begins(w);
}

static void tear_down(struct world *w)
{
	uint32_t i;

	program_ends(w, true);
	for (i = 0; i < w->core->flows.high; i++) {
		const struct flow *f = &w->core->flows.flows[i];
		struct fp_msg *m = slow_command(w, FP_CMD_REMOVE);

		m->flow = (struct flow_id){i, f->gen};
		fp_cmd_submit(w->core);
		w->echo_id.gen = 0;
		fp_core_turn(w->core);
		check_events(w);
	}
	slow_command(w, FP_CMD_CTX_DEL)->ctx = &w->echo_ctx;
	fp_cmd_submit(w->core);
	fp_core_turn(w->core);
	fp_core_turn(w->core);
	check_events(w);
	check_sent(w);
	require(queue_mem_free(w->q) == FRAMES);
	require(w->core->flows.n_flows == 0);
	require(w->core->timers.n_queued == 0);
	require(!w->core->held && !w->core->n_blocked && !w->core->contexts);
	for (i = 0; i < w->core->flows.high; i++)
		require(w->core->flows.flows[i].state == FLOW_FREE);
	fp_core_destroy(w->core);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct world w;
	struct input in = {data, data + size};

	set_up(&w);
	while (in.p < in.end)
		step(&w, &in);
	step_echo(&w, 100);
	tear_down(&w);
	return 0;
}
