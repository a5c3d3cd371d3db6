/* SPDX-License-Identifier: BSD-2-Clause */
/* host.c - builders and checks for the fast path's tests; see host.h */
#include "tests/unit/fastpath/host.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define LPORT 7777
#define PPORT 40000
#define BIG_WIN 59904u /* a multiple of any window scale used */

uint8_t host_pattern(uint32_t pos)
{
	return (uint8_t)(pos * 31 + (pos >> 8) + 7);
}

static uint64_t fake_now(void *arg)
{
	return ((struct host *)arg)->now_ns;
}

static void init_ctx(struct host *h, unsigned int i, uint64_t off)
{
	struct fp_ctx *x = &h->ctx[i];
	unsigned int k;

	x->mem = h->mem;
	x->mem_size = h->mem_size;
	x->area = (struct xts_ctx_area *)(h->mem + off);
	x->area->app_cpu = -1;
	x->app = 1;
	x->ctx = i;
	x->app_event_fd = eventfd(0, EFD_NONBLOCK);
	for (k = 0; k < XTS_MAX_CORES; k++)
		x->doorbell_fd[k] = -1;
	x->doorbell_fd[0] = eventfd(0, EFD_NONBLOCK);
}

static void init_params(struct host *h)
{
	struct flow_params *p = &h->params;

	p->key.family = h->v.v6 ? AF_INET6 : AF_INET;
	if (h->v.v6) {
		inet_pton(AF_INET6, "fd09::2", p->key.local);
		inet_pton(AF_INET6, "fd09::1", p->key.peer);
	} else {
		inet_pton(AF_INET, "10.9.0.2", p->key.local);
		inet_pton(AF_INET, "10.9.0.1", p->key.peer);
	}
	p->key.lport = htons(LPORT);
	p->key.pport = htons(PPORT);
	p->ctx = &h->ctx[0];
	p->cookie = 0xc00c1e;
	p->rx_buf = h->buf_off;
	p->buf_size = HOST_BUF;
	p->snd_una = p->snd_nxt = h->iss;
	p->snd_wnd = BIG_WIN;
	p->snd_wl1 = h->irs;
	p->rcv_nxt = p->rcv_wup = h->irs;
	p->rcv_wnd = HOST_BUF / 2;
	p->snd_mss = HOST_MSS;
	p->cwnd_segs = 10;
	p->ssthresh_segs = 1u << 30;
	p->snd_wscale = p->rcv_wscale = h->v.wscale;
	p->nodelay = true;
	p->timestamps = h->v.ts;
	p->sack = true;
	p->ts_offset = 5000;
	p->ts_recent = 1000;
	p->ttl = 64;
	memcpy(p->l2, "\2\0\0\0\0\1\2\0\0\0\0\2", 12);
}

struct host *host_new(const struct variant *v)
{
	struct host *h = calloc(1, sizeof(*h));
	struct fp_config cfg = {
		.max_flows = HOST_FLOWS,
		.cpu = -1,
		.now_ns = fake_now,
		.now_arg = h,
	};
	uint64_t area = XTS_CTX_AREA_SIZE(1);
	unsigned int i;

	assert_non_null(h);
	h->v = *v;
	h->irs = v->isn;
	h->iss = v->isn + 0x1000;
	h->now_ns = 1000000000000ull;
	h->buf_off = HOST_CTXS * area;
	h->large_off = h->buf_off + 2ul * HOST_FLOWS * HOST_BUF;
	h->mem_size = h->large_off + 2ul * XTS_BUF_MAX;
	h->mem = mmap(NULL, h->mem_size, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_true(h->mem != MAP_FAILED);
	for (i = 0; i < HOST_CTXS; i++)
		init_ctx(h, i, i * area);
	init_params(h);
	h->q = cfg.queue = queue_mem_open(HOST_FRAMES, 2048);
	assert_non_null(h->q);
	h->core = fp_core_create(&cfg);
	assert_non_null(h->core);
	for (i = 0; i < HOST_CTXS; i++)
		host_fp(h, FP_CMD_CTX_ADD)->ctx = &h->ctx[i], host_fp_go(h);
	return h;
}

void host_install(struct host *h)
{
	host_fp(h, FP_CMD_INSTALL)->params = &h->params;
	host_fp_go(h);
	expect_event(h, FP_EV_INSTALLED);
	assert_int_equal(h->ev.err, 0);
	assert_ptr_equal(h->ev.params, &h->params);
	h->id = h->ev.flow;
}

void host_release(struct host *h)
{
	host_fp(h, FP_CMD_RELEASE)->flow = h->id;
	host_fp_go(h);
	assert_true(host_reply(h, 0));
	assert_int_equal(h->reply.type, XTS_REPLY_OFFLOADED);
	assert_int_equal(h->reply.cookie, h->params.cookie);
	assert_int_equal(h->reply.flow, h->id.index);
	assert_int_equal(h->reply.flow_gen, h->id.gen);
	h->app_off = h->app_sent = h->reply.tx_len;
}

struct host *host_open(const struct variant *v)
{
	struct host *h = host_new(v);

	host_install(h);
	host_release(h);
	return h;
}

struct flow *host_flow(struct host *h)
{
	return &h->core->flows.flows[h->id.index];
}

void host_quiet(struct host *h)
{
	h->quiet = true;
}

static void drain(struct host *h)
{
	struct seg s;
	bool left = false;

	while (host_tx(h, &s) || host_event(h) || host_reply(h, 0) ||
	       host_reply(h, 1))
		left = true;
	if (h->quiet)
		assert_false(left);
}

void host_close(struct host *h)
{
	uint32_t i;

	drain(h);
	h->quiet = false;
	for (i = 0; i < h->core->flows.high; i++) {
		struct flow *f = &h->core->flows.flows[i];
		struct fp_msg *m;

		if (!(f->gen & 1))
			continue;
		m = host_fp(h, FP_CMD_REMOVE);
		m->flow.index = i;
		m->flow.gen = f->gen;
		host_fp_go(h);
	}
	drain(h);
	host_turn(h);
	drain(h);
	assert_int_equal(queue_mem_free(h->q), HOST_FRAMES);
	assert_int_equal(h->core->flows.n_flows, 0);
	assert_int_equal(h->core->timers.n_queued, 0);
	assert_null(h->core->held);
	assert_int_equal(h->core->n_listed, 0);
	for (i = 0; i < HOST_CTXS; i++) {
		if (h->ctx[i].core_private[0]) {
			host_fp(h, FP_CMD_CTX_DEL)->ctx = &h->ctx[i];
			host_fp_go(h);
			expect_event(h, FP_EV_CTX_GONE);
		}
		close(h->ctx[i].app_event_fd);
		close(h->ctx[i].doorbell_fd[0]);
	}
	assert_int_equal(h->core->n_blocked, 0);
	for (i = 0; i < h->core->flows.high; i++)
		assert_int_equal(h->core->flows.flows[i].state, FLOW_FREE);
	fp_core_destroy(h->core);
	host_free(h);
}

void host_free(struct host *h)
{
	munmap(h->mem, h->mem_size);
	free(h);
}

void host_turn(struct host *h)
{
	fp_core_turn(h->core);
}

void host_advance_ms(struct host *h, uint32_t ms)
{
	while (ms--) {
		h->now_ns += 1000000;
		host_turn(h);
	}
}

/* ---- peer
 * -------------------------------------------------------------------- */

static uint32_t put_ip(struct host *h, uint8_t *buf, uint32_t l4_len)
{
	const struct conn_key *k = &h->params.key;

	memcpy(buf, "\2\0\0\0\0\2\2\0\0\0\0\1", 12);
	if (h->v.v6) {
		struct ip6_hdr *ip = (struct ip6_hdr *)(buf + 14);

		memset(ip, 0, sizeof(*ip));
		buf[12] = 0x86;
		buf[13] = 0xdd;
		ip->ip6_vfc = 0x60;
		ip->ip6_plen = htons(l4_len);
		ip->ip6_nxt = IPPROTO_TCP;
		ip->ip6_hlim = 64;
		memcpy(&ip->ip6_src, k->peer, 16);
		memcpy(&ip->ip6_dst, k->local, 16);
		return 14 + sizeof(*ip);
	}
	struct iphdr *ip = (struct iphdr *)(buf + 14);

	memset(ip, 0, sizeof(*ip));
	buf[12] = 8;
	buf[13] = 0;
	ip->version = 4;
	ip->ihl = 5;
	ip->tot_len = htons(sizeof(*ip) + l4_len);
	ip->frag_off = htons(IP_DF);
	ip->ttl = 64;
	ip->protocol = IPPROTO_TCP;
	memcpy(&ip->saddr, k->peer, 4);
	memcpy(&ip->daddr, k->local, 4);
	return 14 + sizeof(*ip);
}

static void put_be32(uint8_t *p, uint32_t v)
{
	v = htonl(v);
	memcpy(p, &v, 4);
}

static uint32_t put_options(struct host *h, const struct seg *s, uint8_t *p)
{
	uint32_t n = 0, now_ms = (uint32_t)(h->now_ns / 1000000), i;

	if (h->v.ts && !s->no_ts) {
		put_be32(p, 0x0101080a);
		put_be32(p + 4, s->tsval ? s->tsval : now_ms);
		put_be32(p + 8, s->tsecr ? s->tsecr : now_ms + 5000);
		n = 12;
	}
	if (s->n_blocks) {
		put_be32(p + n, 0x01010500 | (2 + 8 * s->n_blocks));
		for (i = 0, n += 4; i < s->n_blocks; i++, n += 8) {
			put_be32(p + n, h->iss + s->block[i].start);
			put_be32(p + n + 4, h->iss + s->block[i].end);
		}
	}
	if (s->sack) {
		put_be32(p + n, 0x0101050a);
		put_be32(p + n + 4, h->iss + s->ack + 1000);
		put_be32(p + n + 8, h->iss + s->ack + 2000);
		n += 12;
	}
	return n;
}

static void put_ecn(struct host *h, const struct seg *s, uint8_t *buf)
{
	if (h->v.v6)
		buf[15] |= s->ecn << 4;
	else
		buf[15] |= s->ecn;
}

uint32_t host_build(struct host *h, struct seg s, uint8_t *buf)
{
	uint8_t opts[40];
	uint32_t olen = put_options(h, &s, opts), i, l4, hlen = 20 + olen;
	uint32_t win = (s.win0 ? 0 : s.win ? s.win : BIG_WIN) >> h->v.wscale;
	struct tcphdr *th;
	struct frame f;

	l4 = put_ip(h, buf, hlen + s.len);
	put_ecn(h, &s, buf);
	th = (struct tcphdr *)(buf + l4);
	memset(th, 0, sizeof(*th));
	th->source = s.pport ? htons(s.pport) : h->params.key.pport;
	th->dest = h->params.key.lport;
	th->seq = htonl(h->irs + s.seq);
	th->ack_seq = htonl(h->iss + s.ack);
	th->doff = hlen / 4;
	buf[l4 + 13] = s.flags ? s.flags : SEG_ACK;
	th->window = htons(win > 0xffff ? 0xffff : win);
	th->urg_ptr = htons(s.urg);
	memcpy(th + 1, opts, olen);
	for (i = 0; i < s.len; i++)
		buf[l4 + hlen + i] = host_pattern(s.seq + i);
	if (frame_parse(&f, buf, l4 + hlen + s.len) != FRAME_TCP)
		abort();
	frame_set_checksums(&f);
	if (s.bad_tcp_sum)
		th->check ^= 0x100;
	if (s.bad_ip_sum && !h->v.v6)
		((struct iphdr *)(buf + 14))->check ^= 1;
	return l4 + hlen + s.len;
}

void host_push(struct host *h, struct seg s)
{
	uint32_t len = host_build(h, s, h->in);

	assert_true(queue_mem_push(h->q, h->in, len));
}

void host_rx(struct host *h, struct seg s)
{
	host_push(h, s);
	host_turn(h);
}

/* Whatever we send must be right in every respect. */
static void check_sent(struct host *h, const struct frame *f)
{
	const struct tcphdr *th = frame_tcp(f);
	struct conn_key k;

	assert_memory_equal(f->data, h->params.l2, 12);
	assert_int_equal(f->v6, h->v.v6);
	frame_key(f, false, &k);
	assert_memory_equal(&k, &h->params.key, sizeof(k));
	assert_true(frame_tcp_checksum_ok(f));
	/* Options never make a segment longer than the MSS says. */
	assert_true(th->doff >= (h->v.ts ? 8 : 5));
	assert_true(!f->payload_len ||
		    (th->doff - (h->v.ts ? 8u : 5u)) * 4 + f->payload_len <=
			    HOST_MSS);
	if (!f->v6) {
		assert_int_equal(csum_fold(csum_add(frame_ip4(f), 20, 0)), 0);
		assert_int_equal(ntohs(frame_ip4(f)->tot_len) + 14, f->len);
		assert_int_equal(frame_ip4(f)->ttl, 64);
	}
}

/* What follows the time stamps can only be SACK blocks. */
static void parse_sacks(struct host *h, const struct frame *f, struct seg *s)
{
	uint32_t at = f->l4 + (h->v.ts ? 32 : 20), i;

	if (f->payload == at)
		return;
	assert_int_equal(csum_load32(h->out + at) & htonl(0xffffff00),
			 htonl(0x01010500));
	s->n_blocks = (h->out[at + 3] - 2) / 8;
	assert_int_equal(h->out[at + 3], 2 + 8 * s->n_blocks);
	assert_int_equal(at + 4 + 8 * s->n_blocks, f->payload);
	assert_in_range(s->n_blocks, 1, h->v.ts ? 3 : 4);
	for (i = 0, at += 4; i < s->n_blocks; i++, at += 8) {
		s->block[i].start = ntohl(csum_load32(h->out + at)) - h->irs;
		s->block[i].end = ntohl(csum_load32(h->out + at + 4)) - h->irs;
	}
}

bool host_tx(struct host *h, struct seg *s)
{
	uint32_t len = queue_mem_pop(h->q, h->out, sizeof(h->out)), i, at;
	const struct tcphdr *th;
	struct frame f;

	if (!len)
		return false;
	if (frame_parse(&f, h->out, len) != FRAME_TCP)
		abort();
	check_sent(h, &f);
	th = frame_tcp(&f);
	memset(s, 0, sizeof(*s));
	s->seq = ntohl(th->seq) - h->iss;
	s->ack = ntohl(th->ack_seq) - h->irs;
	s->len = f.payload_len;
	s->flags = h->out[f.l4 + 13];
	s->win = (uint32_t)ntohs(th->window) << h->v.wscale;
	s->urg = ntohs(th->urg_ptr);
	assert_true(!s->urg == !(s->flags & SEG_URG));
	s->ecn = (f.v6 ? h->out[15] >> 4 : h->out[15]) & 3;
	parse_sacks(h, &f, s);
	if (h->v.ts) {
		s->tsval = ntohl(csum_load32(h->out + f.l4 + 24));
		s->tsecr = ntohl(csum_load32(h->out + f.l4 + 28));
		/* Stamped when it was sent: not in the future. */
		assert_true((int32_t)((uint32_t)(h->now_ns / 1000000) + 5000 -
				      s->tsval) >= 0);
	}
	at = s->seq;
	for (i = 0; i < s->len; i++)
		assert_int_equal(h->out[f.payload + i], host_pattern(at + i));
	return true;
}

struct seg expect_tx_at(struct host *h, uint32_t seq, uint32_t len,
			uint32_t ack, const char *file, int line)
{
	struct seg s;

	if (!host_tx(h, &s))
		_fail(file, line);
	_assert_int_equal(s.seq, seq, file, line);
	_assert_int_equal(s.len, len, file, line);
	_assert_int_equal(s.ack, ack, file, line);
	return s;
}

void host_burst(struct host *h, uint32_t n)
{
	uint32_t at = host_flow(h)->snd_nxt - h->iss, i;

	host_send(h, n * HOST_MSS);
	for (i = 0; i < n; i++)
		expect_tx(h, at + i * HOST_MSS, HOST_MSS,
			  host_flow(h)->rcv_nxt - h->irs);
}

struct flow *host_open_path(struct host *h)
{
	struct flow *f = host_flow(h);

	f->sack = true;
	host_burst(h, 2);
	host_advance_ms(h, 40);
	host_rx(h, (struct seg){.ack = 2 * HOST_MSS});
	assert_int_equal(f->srtt8_us / 8, 40000);
	return f;
}

void host_sack(struct host *h, uint32_t ack, uint32_t start, uint32_t end)
{
	host_rx(h, (struct seg){.ack = ack,
				.n_blocks = 1,
				.block[0] = {start, end}});
}

/* ---- program
 * ------------------------------------------------------------------ */

struct xts_cmd host_cmd(struct host *h, uint32_t len, uint32_t credits,
			uint32_t flags)
{
	uint8_t *tx = h->mem + h->params.rx_buf + HOST_BUF;
	struct xts_cmd cmd = {
		.type = XTS_CMD_SEND,
		.flags = flags,
		.flow = h->id.index,
		.flow_gen = h->id.gen,
		.off = h->app_off,
		.len = len,
		.credits = credits,
	};
	uint32_t i;

	for (i = 0; i < len; i++)
		tx[(h->app_off + i) & (HOST_BUF - 1)] =
			host_pattern(h->app_sent + i);
	h->app_off = (h->app_off + len) & (HOST_BUF - 1);
	h->app_sent += len;
	return cmd;
}

void host_put(struct host *h, unsigned int ctx, struct xts_cmd cmd)
{
	struct xts_core_area *a = &h->ctx[ctx].area->core[0];
	uint32_t p = a->cmd_index.producer;

	assert_true(p - a->cmd_index.consumer < XTS_RING_SLOTS);
	a->cmd[p & (XTS_RING_SLOTS - 1)] = cmd;
	__atomic_store_n(&a->cmd_index.producer, p + 1, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	/* The test's doorbell: unpark by hand, there is no thread. */
	if (a->core.need_doorbell)
		app_unpark(h->core, h->ctx[ctx].core_private[0]);
}

void host_send(struct host *h, uint32_t len)
{
	host_put(h, 0, host_cmd(h, len, 0, 0));
	host_turn(h);
}

void host_credit(struct host *h, uint32_t credits)
{
	host_put(h, 0, host_cmd(h, 0, credits, 0));
	host_turn(h);
}

bool host_reply(struct host *h, unsigned int ctx)
{
	struct xts_core_area *a = &h->ctx[ctx].area->core[0];
	uint32_t n = a->reply_index.consumer;

	if (n == __atomic_load_n(&a->reply_index.producer, __ATOMIC_ACQUIRE))
		return false;
	h->reply = a->reply[n & (XTS_RING_SLOTS - 1)];
	__atomic_store_n(&a->reply_index.consumer, n + 1, __ATOMIC_RELEASE);
	return true;
}

void expect_data_at(struct host *h, uint32_t pos, uint32_t len,
		    const char *file, int line)
{
	const uint8_t *rx = h->mem + h->params.rx_buf;
	uint32_t i;

	if (!host_reply(h, 0))
		_fail(file, line);
	_assert_int_equal(h->reply.type, XTS_REPLY_RECV, file, line);
	_assert_int_equal(h->reply.len, len, file, line);
	_assert_int_equal(h->reply.cookie, h->params.cookie, file, line);
	for (i = 0; i < len; i++)
		_assert_int_equal(rx[(h->reply.off + i) & (HOST_BUF - 1)],
				  host_pattern(pos + i), file, line);
}

/* ---- slow path
 * ------------------------------------------------------------------ */

struct fp_msg *host_fp(struct host *h, enum fp_cmd type)
{
	struct fp_msg *m = fp_cmd_reserve(h->core);

	assert_non_null(m);
	m->type = type;
	return m;
}

void host_fp_go(struct host *h)
{
	fp_cmd_submit(h->core);
	host_turn(h);
}

bool host_event(struct host *h)
{
	const struct fp_msg *m = fp_ev_peek(h->core);

	if (!m)
		return false;
	memcpy(&h->ev, m, offsetof(struct fp_msg, frame) + m->frame_len);
	fp_ev_release(h->core);
	return true;
}

void expect_event_at(struct host *h, enum fp_event type, const char *file,
		     int line)
{
	if (!host_event(h))
		_fail(file, line);
	_assert_int_equal(h->ev.type, type, file, line);
}

/* ---- running
 * ----------------------------------------------------------------------- */

static const struct variant variants[] = {
	{.ts = true, .v6 = false, .wscale = 0, .isn = 1},
	{.ts = false, .v6 = false, .wscale = 7, .isn = 0xfffffc00},
	{.ts = true, .v6 = true, .wscale = 7, .isn = 0xffffe000},
	{.ts = false, .v6 = true, .wscale = 0, .isn = 0x7ffffe00},
};
#define N_VARIANTS (sizeof(variants) / sizeof(variants[0]))

struct run {
	const struct host_test *t;
	const struct variant *v;
};

static void run_one(void **state)
{
	const struct run *r = *state;
	struct host *h = r->t->bare ? host_new(r->v) : host_open(r->v);

	r->t->run(h);
	host_close(h);
}

int host_run(const char *group, const struct host_test *tests, size_t n,
	     bool matrix)
{
	size_t nv = matrix ? N_VARIANTS : 1, i, k = 0;
	struct CMUnitTest *cm = calloc(n * nv, sizeof(*cm));
	struct run *runs = calloc(n * nv, sizeof(*runs));
	int failed;

	if (!cm || !runs)
		abort();
	for (i = 0; i < n * nv; i++, k++) {
		const struct variant *v = &variants[i % nv];
		char *name;

		runs[k] = (struct run){&tests[i / nv], v};
		if (asprintf(&name, "%s/%s%s%s", tests[i / nv].name,
			     v->v6 ? "v6" : "v4", v->ts ? ",ts" : "",
			     v->wscale ? ",wscale" : "") < 0)
			abort();
		cm[k].name = name;
		cm[k].test_func = run_one;
		cm[k].initial_state = &runs[k];
	}
	failed = _cmocka_run_group_tests(group, cm, k, NULL, NULL);
	for (i = 0; i < k; i++)
		free((char *)cm[i].name);
	free(cm);
	free(runs);
	return failed ? 1 : 0;
}
