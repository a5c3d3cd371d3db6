/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fastpath.c - what the fast path costs without kernel, NIC or program
 *
 *   fastpath [RPCS [CONNS]]
 *                       64-byte requests and answers over a queue in memory;
 *                       this program plays peer and application around
 *                       fp_core_turn(), which alone should be counted:
 *                       valgrind --tool=callgrind --toggle-collect=fp_core_turn
 *                       (instructions counted / RPCS = instructions an RPC)
 *   fastpath --ring [N] the way through the shared rings: this thread on CPU 0
 *                       is the core, a thread on CPU 1 the application
 *
 * Each RPC is two turns, as in life: one in which the request arrives and is
 * handed to the application, one in which the answer is taken from it and
 * sent. With CONNS connections (1 unless said, at most 32) each turn serves all
 * of them. Time is this program's, 500 ns a turn, so that a slow machine (or
 * valgrind) doesn't park the application's context: reading the real clock,
 * twice an RPC, is not in the count. Prints lines of "key value".
 */
#include "fastpath/fastpath.h"
#include "fastpath/queue.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>

#define MSG 64ul
#define HEADERS (14u + 20 + 32)
#define BUF (256ul * 1024)
#define CONNS_MAX 32u
#define MEM (XTS_CTX_AREA_SIZE(1) + 2ul * BUF * CONNS_MAX)
#define WARM_UP 1000u

struct side {
	struct fp_core *core;
	struct queue *q;
	struct fp_ctx ctx;
	struct xts_core_area *area;
	struct flow_params p;
	struct flow_id ids[CONNS_MAX];
	uint32_t conns, frames_out;
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "fastpath: %s\n", what);
	exit(1);
}

static void command(struct side *s, enum fp_cmd type, struct flow_id id)
{
	struct fp_msg *m = fp_cmd_reserve(s->core);

	m->type = type;
	m->ctx = &s->ctx;
	m->params = &s->p;
	m->flow = id;
	fp_cmd_submit(s->core);
	fp_core_turn(s->core);
}

static void set_up_context(struct side *s)
{
	struct fp_ctx *x = &s->ctx;

	x->mem = mmap(NULL, MEM, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (x->mem == MAP_FAILED)
		die("no memory");
	x->mem_size = MEM;
	x->area = (struct xts_ctx_area *)x->mem;
	x->area->app_cpu = -1;
	x->app_event_fd = eventfd(0, EFD_NONBLOCK);
	x->doorbell_fd[0] = eventfd(0, EFD_NONBLOCK);
	s->area = &x->area->core[0];
}

static void set_up_params(struct side *s)
{
	struct flow_params *p = &s->p;

	p->key.family = AF_INET;
	memcpy(p->key.local, "\x0a\x09\0\2", 4);
	memcpy(p->key.peer, "\x0a\x09\0\1", 4);
	p->key.lport = htons(7);
	p->ctx = &s->ctx;
	p->buf_size = BUF;
	p->snd_una = p->snd_nxt = 1;
	p->rcv_nxt = p->rcv_wup = 1;
	p->snd_wnd = p->rcv_wnd = 65535;
	p->snd_mss = 1448;
	p->cwnd_segs = 10;
	p->ssthresh_segs = 1u << 30;
	p->snd_wscale = p->rcv_wscale = 7;
	p->timestamps = true;
	p->ttl = 64;
}

static void set_up_flow(struct side *s, uint32_t i)
{
	const struct fp_msg *ev;

	s->p.key.pport = htons((uint16_t)(40000 + i));
	s->p.rx_buf = XTS_CTX_AREA_SIZE(1) + 2ul * BUF * i;
	s->p.cookie = i;
	command(s, FP_CMD_INSTALL, s->ids[i]);
	ev = fp_ev_peek(s->core);
	if (!ev || ev->type != FP_EV_INSTALLED || ev->err)
		die("the flow was not installed");
	s->ids[i] = ev->flow;
	fp_ev_release(s->core);
	command(s, FP_CMD_RELEASE, s->ids[i]);
	if (s->area->reply[i].type != XTS_REPLY_OFFLOADED)
		die("the flow was not offloaded");
	s->area->reply_index.consumer = i + 1;
}

static uint64_t counted_ns(void *arg)
{
	return *(uint64_t *)arg += 500;
}

/* Reads the real clock, as a core does, but goes so slowly that an application
 * which does not get its CPU for a while is not taken for asleep. */
static uint64_t slow_ns(void *arg)
{
	return *(uint64_t *)arg + now_ns() / 1024;
}

static void set_up(struct side *s, uint32_t conns, bool real_clock)
{
	struct fp_config cfg = {.max_flows = CONNS_MAX, .cpu = -1};
	static uint64_t clock = 1000000000;
	uint32_t i;

	cfg.now_ns = real_clock ? slow_ns : counted_ns;
	cfg.now_arg = &clock;

	memset(s, 0, sizeof(*s));
	s->conns = conns;
	cfg.queue = s->q = queue_mem_open(256, 2048);
	s->core = cfg.queue ? fp_core_create(&cfg) : NULL;
	if (!s->core)
		die("no core");
	set_up_context(s);
	set_up_params(s);
	command(s, FP_CMD_CTX_ADD, s->ids[0]);
	for (i = 0; i < conns; i++)
		set_up_flow(s, i);
}

static void tear_down(struct side *s)
{
	uint32_t i;

	for (i = 0; i < s->conns; i++)
		command(s, FP_CMD_REMOVE, s->ids[i]);
	command(s, FP_CMD_CTX_DEL, s->ids[0]);
	fp_core_destroy(s->core);
	munmap(s->ctx.mem, MEM);
}

/* ---- peer -------------------------------------------------------------------
 */

/* The @n-th request of connection @i. */
static void peer_request(struct side *s, uint32_t i, uint32_t n)
{
	uint8_t b[HEADERS + MSG] = {[12] = 8};
	struct iphdr *ip = (struct iphdr *)(b + 14);
	struct tcphdr *th = (struct tcphdr *)(ip + 1);
	uint32_t ts[3] = {htonl(0x0101080a), htonl(1000 + n), 0};
	struct frame f;

	ip->version = 4;
	ip->ihl = 5;
	ip->tot_len = htons(sizeof(b) - 14);
	ip->ttl = 64;
	ip->protocol = IPPROTO_TCP;
	memcpy(&ip->saddr, s->p.key.peer, 4);
	memcpy(&ip->daddr, s->p.key.local, 4);
	th->source = htons((uint16_t)(40000 + i));
	th->dest = s->p.key.lport;
	th->seq = htonl(1 + n * MSG);
	th->ack_seq = htonl(1 + n * MSG);
	th->doff = 8;
	th->ack = 1;
	th->psh = 1;
	th->window = htons(512);
	memcpy(th + 1, ts, sizeof(ts));
	if (frame_parse(&f, b, sizeof(b)) != FRAME_TCP)
		die("bad frame");
	frame_set_checksums(&f);
	if (!queue_mem_push(s->q, b, sizeof(b)))
		die("no frame for a request");
}

/* Answers; the first request is acknowledged by a frame of its own too. */
static void peer_collect(struct side *s)
{
	uint8_t b[2048];
	uint32_t len;

	while ((len = queue_mem_pop(s->q, b, sizeof(b))))
		s->frames_out += len > HEADERS;
}

/* ---- application
 * -------------------------------------------------------------- */

static bool app_take(struct xts_core_area *a, uint32_t *conn, uint32_t *len)
{
	uint32_t n = a->reply_index.consumer;

	if (__atomic_load_n(&a->reply_index.producer, __ATOMIC_ACQUIRE) == n)
		return false;
	*conn = (uint32_t)a->reply[n & (XTS_RING_SLOTS - 1)].cookie;
	*len = a->reply[n & (XTS_RING_SLOTS - 1)].len;
	__atomic_store_n(&a->reply_index.consumer, n + 1, __ATOMIC_RELEASE);
	return true;
}

static void app_answer(struct xts_core_area *a, struct flow_id id, uint32_t off,
		       uint32_t len)
{
	uint32_t n = a->cmd_index.producer;
	struct xts_cmd *cmd = &a->cmd[n & (XTS_RING_SLOTS - 1)];

	cmd->type = XTS_CMD_SEND;
	cmd->flags = 0;
	cmd->flow = id.index;
	cmd->flow_gen = id.gen;
	cmd->off = off;
	cmd->len = len;
	cmd->credits = len;
	__atomic_store_n(&a->cmd_index.producer, n + 1, __ATOMIC_RELEASE);
}

/* ---- instructions
 * ------------------------------------------------------------- */

static void rpcs(struct side *s, uint32_t n)
{
	uint32_t len, conn, i;

	for (i = 0; i < s->conns; i++)
		peer_request(s, i, n);
	fp_core_turn(s->core);
	for (i = 0; i < s->conns; i++) {
		if (!app_take(s->area, &conn, &len) || len != MSG)
			die("a request did not arrive");
		/* Acknowledged by the next request: so there is never more
		 * than one answer outstanding. */
		app_answer(s->area, s->ids[conn], n & 1 ? MSG : 0, MSG);
	}
	fp_core_turn(s->core);
	peer_collect(s);
}

static void run_rpcs(uint32_t n, uint32_t conns)
{
	struct side s;
	uint64_t begin, end;
	uint32_t i;

	set_up(&s, conns, false);
	/* The first request is acknowledged at once: not the steady state. */
	s.frames_out = 0;
	begin = now_ns();
	for (i = 0; i < n / conns; i++)
		rpcs(&s, i);
	n = i * conns;
	end = now_ns();
	if (fp_core_counters(s.core)->rx_hot != n)
		die("a request left the hot path");
	printf("rpcs %u\n", n);
	printf("conns %u\n", conns);
	printf("turns %u\n", 2 * i);
	printf("frames_out %u\n", s.frames_out);
	printf("kicks %llu\n", (unsigned long long)s.q->stats.kicks);
	printf("ns_per_rpc %.1f\n", (double)(end - begin) / n);
	tear_down(&s);
}

/* ---- ring to ring
 * --------------------------------------------------------------- */

static bool stop_app;

static void bind_to(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

static void *app_thread(void *arg)
{
	struct side *s = arg;
	uint32_t len, conn, off = 0;

	bind_to(1);
	while (!__atomic_load_n(&stop_app, __ATOMIC_RELAXED)) {
		if (app_take(s->area, &conn, &len)) {
			app_answer(s->area, s->ids[conn], off, len);
			off = off ? 0 : MSG;
		} else {
			__builtin_ia32_pause();
		}
	}
	return NULL;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* The bare rings: what the core writes is answered by the program. */
static uint64_t ring_once(struct xts_core_area *a, uint32_t *prod,
			  uint32_t *cons)
{
	struct xts_reply *r = &a->reply[*prod & (XTS_RING_SLOTS - 1)];
	uint64_t begin = now_ns();

	r->len = MSG;
	__atomic_store_n(&a->reply_index.producer, ++*prod, __ATOMIC_RELEASE);
	while (__atomic_load_n(&a->cmd_index.producer, __ATOMIC_ACQUIRE) ==
	       *cons)
		;
	++*cons;
	__atomic_store_n(&a->cmd_index.consumer, *cons, __ATOMIC_RELEASE);
	return now_ns() - begin;
}

/* A request into the queue, turns until the answer is there. */
static uint64_t turn_once(struct side *s, uint32_t n)
{
	uint32_t before = s->frames_out;
	uint64_t begin;

	peer_request(s, 0, n);
	begin = now_ns();
	while (s->frames_out == before) {
		fp_core_turn(s->core);
		peer_collect(s);
	}
	return now_ns() - begin;
}

static void print_quantiles(const char *name, uint64_t *ns, uint32_t n)
{
	qsort(ns, n, sizeof(*ns), compare);
	printf("%s_p50_ns %llu\n", name, (unsigned long long)ns[n / 2]);
	printf("%s_p99_ns %llu\n", name,
	       (unsigned long long)ns[(uint64_t)n * 99 / 100]);
}

static void run_ring(uint32_t n)
{
	uint64_t *ns = calloc(n, sizeof(*ns));
	uint32_t i, prod, cons;
	pthread_t app;
	struct side s;

	if (!ns)
		die("no memory");
	set_up(&s, 1, true);
	bind_to(0);
	if (pthread_create(&app, NULL, app_thread, &s))
		die("no thread");
	for (i = 0; i < WARM_UP; i++)
		turn_once(&s, i);
	for (i = 0; i < n; i++)
		ns[i] = turn_once(&s, WARM_UP + i);
	print_quantiles("turn", ns, n);
	prod = s.area->reply_index.producer;
	cons = s.area->cmd_index.consumer;
	for (i = 0; i < n; i++)
		ns[i] = ring_once(s.area, &prod, &cons);
	print_quantiles("ring", ns, n);
	printf("rounds %u\n", n);
	__atomic_store_n(&stop_app, true, __ATOMIC_RELAXED);
	pthread_join(app, NULL);
	free(ns);
}

int main(int argc, char **argv)
{
	bool ring = argc > 1 && !strcmp(argv[1], "--ring");
	const char *arg = argc > 1 + ring ? argv[1 + ring] : "100000";
	long n = strtol(arg, NULL, 10), conns = 1;

	if (!ring && argc > 2)
		conns = strtol(argv[2], NULL, 10);
	if (n < 1 || n > 50000000 || conns < 1 || conns > CONNS_MAX ||
	    conns > n) {
		fprintf(stderr,
			"usage: fastpath [RPCS [CONNS]] | --ring [COUNT]\n");
		return 2;
	}
	if (ring)
		run_ring((uint32_t)n);
	else
		run_rpcs((uint32_t)n, (uint32_t)conns);
	return 0;
}
