/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_control.c - what programs say on the control socket
 *
 * A daemon without devices: the loop, the control socket and one core on a
 * memory queue, whose turns the input makes. It serves all inputs, one after
 * another; each has to leave it as it was: without programs, connections and
 * flows, with as many open descriptors. The programs are the input's: they
 * connect, send messages that are nearly right, or any bytes, with any number
 * of descriptors, don't read the answers, write commands into their memory and
 * hang up at any moment. Connections are given to the core as offload_request()
 * does at its end, and Linux takes some of them away again.
 *
 * What must hold after every step: the daemon's counts are those of its lists,
 * what a program is answered is right, and nobody's session ends but that of a
 * program that broke a rule.
 */
#include "slowpath/closing.h"
#include "slowpath/conn.h"
#include "slowpath/control.h"
#include "slowpath/handover.h"
#include "slowpath/log.h"
#include "slowpath/offload.h"
#include "slowpath/program.h"
#include "tap/private.h"
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <utlist.h>

#define FLOWS 4u
#define FRAMES 64u
#define CLIENTS 3u
#define FDS_MAX 6u
#define COOKIES 4u
#define FD_LIMIT 200

struct client {
	int sock;	/* -1: not connected */
	uint32_t id;	/* of its program */
	bool deaf;	/* does not read */
	bool welcomed;	/* its memory was made */
	uint32_t n_ctx; /* answered as made */
};

static struct options opt;
static struct tap no_tap; /* owns no address */
static struct daemon_config cfg;
static struct daemon d;
static struct client client[CLIENTS];
static struct sockaddr_un address;
static socklen_t address_len;
static uint16_t next_port;

/* ---- the daemon ------------------------------------------------------------
 */

static void set_up_core(void)
{
	struct fp_config fp = {.max_flows = FLOWS, .cpu = -1};
	struct core_link *k = &d.cores[0];

	k->queue = fp.queue = queue_mem_open(FRAMES, 2048);
	k->core = fp_core_create(&fp);
	k->by_flow = calloc(FLOWS, sizeof(struct conn *));
	require(k->core && k->by_flow);
	d.n_cores = 1;
}

static void set_up_control(void)
{
	char name[64];
	int n = snprintf(name, sizeof(name), "@tas-fuzz-%d", (int)getpid());

	cfg.listen_fd = control_listen(name);
	require(cfg.listen_fd >= 0);
	require(control_start(&d, cfg.listen_fd) == 0);
	address.sun_family = AF_UNIX;
	memcpy(address.sun_path + 1, name + 1, (size_t)n - 1);
	address_len =
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)n);
}

static void set_up(void)
{
	log_set_level(LOG_LEVEL_ERR);
	opt.flows = FLOWS;
	opt.app_memory = UINT64_C(1) << 30;
	cfg.opt = &opt;
	cfg.tap = &no_tap;
	d.cfg = &cfg;
	d.opt = &opt;
	d.buf_limit = XTS_BUF_MAX;
	d.conntrack_fd = -1;
	d.tap_fd = d.diag_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	d.shadow_epoll = epoll_create1(EPOLL_CLOEXEC);
	set_up_core();
	require(cache_init(&d.cache, 1) == 0);
	require(loop_open(&d.loop) == 0);
	set_up_control();
}

/* Whatever has happened on sockets is handled when this returns. */
static void serve(void)
{
	loop_wait(&d.loop, 0);
	while (loop_poll(&d.loop))
		;
}

/* As daemon.c's on_event(). */
static void on_event(const struct fp_msg *m)
{
	struct program *a;

	switch ((enum fp_event)m->type) {
	case FP_EV_INSTALLED:
		offload_installed(&d, 0, m);
		break;
	case FP_EV_SHUT_WR:
		closing_shut_wr(&d, 0, m);
		break;
	case FP_EV_REMOVED:
		closing_removed(&d, 0, m);
		break;
	case FP_EV_STAYS:
		handover_stays(&d, 0, m);
		break;
	case FP_EV_GROW:
		large_wanted(&d, 0, m);
		break;
	case FP_EV_CTX_GONE:
		program_ctx_gone(&d, m->ctx);
		break;
	case FP_EV_OFFENDER:
		a = program_find(&d, m->ctx->app);
		if (a)
			program_end(a, true);
		break;
	case FP_EV_FRAME:
		break;
	}
}

static void core_turns(void)
{
	while (fp_core_turn(d.cores[0].core))
		;
}

static void core_tells(void)
{
	const struct fp_msg *m;

	while ((m = fp_ev_peek(d.cores[0].core))) {
		on_event(m);
		fp_ev_release(d.cores[0].core);
	}
}

/* ---- what must hold --------------------------------------------------------
 */

static void check_program(const struct program *a, uint32_t *flows)
{
	uint32_t n_conns = 0, n_ctx = 0, slots = 0, by_ctx = 0, i;
	const struct conn *c;

	DL_FOREACH (a->conns, c) {
		require(c->program == a && c->phase < CONN_GONE);
		require(c->slot == SLOTS_NONE || c->slot < FLOWS);
		slots += c->slot != SLOTS_NONE;
		n_conns++;
		*flows += c->phase >= CONN_INSTALLING;
	}
	for (i = 0; i < XTS_MAX_CTX; i++) {
		if (!a->ctx[i])
			continue;
		n_ctx++;
		by_ctx += a->ctx[i]->n_conns;
		require(a->ctx[i]->fp.ctx == i && a->ctx[i]->fp.app == a->id);
	}
	require(a->n_conns == n_conns && a->n_ctx == n_ctx);
	/* Who waits for a kernel socket holds on to a context, too. */
	require(a->sock < 0 || by_ctx >= n_conns);
	require(a->sock < 0 || d.conns || !by_ctx);
	require(a->slots.used >= slots && a->slots.used <= FLOWS);
	require(a->sock >= 0 || n_conns || n_ctx);
}

static void check_daemon(void)
{
	const struct program *a;
	uint32_t n = 0, flows = 0;

	DL_FOREACH (d.programs, a) {
		check_program(a, &flows);
		n++;
	}
	require(n == d.n_programs);
	require(flows == d.cores[0].flows);
	require(flows == HASH_COUNT(d.conns));
}

/* ---- the programs ----------------------------------------------------------
 */

static struct program *program_of(const struct client *p)
{
	struct program *a = p->sock < 0 ? NULL : program_find(&d, p->id);

	return a && a->sock >= 0 ? a : NULL;
}

static void client_connect(struct client *p)
{
	if (p->sock >= 0)
		return;
	*p = (struct client){.id = d.next_program + 1};
	p->sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	require(p->sock >= 0);
	require(!connect(p->sock, (void *)&address, address_len));
	serve();
	require(program_of(p));
}

static void client_hang_up(struct client *p)
{
	struct program *a = program_of(p);

	if (p->sock < 0)
		return;
	close(p->sock);
	p->sock = -1;
	if (a)
		serve();
}

static void check_answer(struct client *p, const struct xts_ctl_msg *m,
			 uint32_t n_fds)
{
	const struct program *a = program_of(p);

	require(m->version == XTS_PROTO_VERSION);
	switch (m->type) {
	case XTS_CTL_WELCOME:
		require(!p->welcomed && n_fds == 1 && m->cores == 1);
		require(!a || m->mem_size == a->mem_size);
		p->welcomed = true;
		break;
	case XTS_CTL_CTX:
		require(p->welcomed && m->ctx < XTS_MAX_CTX);
		require(n_fds == (m->err ? 0 : 2));
		require(!a || m->ctx_off < a->slots_off);
		break;
	default:
		require(m->type == XTS_CTL_REFUSED && m->err && !n_fds);
		break;
	}
}

/* Read what was answered; descriptors are closed. */
static void client_reads(struct client *p)
{
	union {
		struct cmsghdr head;
		uint8_t room[CMSG_SPACE(8 * sizeof(int))];
	} ctl;
	struct xts_ctl_msg m;
	struct iovec iov = {&m, sizeof(m)};
	uint32_t n, i;
	int fd;

	while (p->sock >= 0 && !p->deaf) {
		struct msghdr mh = {.msg_iov = &iov,
				    .msg_iovlen = 1,
				    .msg_control = &ctl,
				    .msg_controllen = sizeof(ctl)};
		ssize_t len = recvmsg(p->sock, &mh, MSG_DONTWAIT);

		if (len <= 0)
			return;
		require(len == sizeof(m) && !(mh.msg_flags & MSG_CTRUNC));
		n = mh.msg_controllen
			    ? (uint32_t)((ctl.head.cmsg_len - CMSG_LEN(0)) /
					 sizeof(int))
			    : 0;
		for (i = 0; i < n; i++) {
			memcpy(&fd, CMSG_DATA(&ctl.head) + i * sizeof(int),
			       sizeof(int));
			close(fd);
		}
		check_answer(p, &m, n);
	}
}

/* A descriptor such as a program may send; the caller closes it. */
static int some_fd(uint32_t kind)
{
	int pair[2];

	switch (kind & 3) {
	case 0:
		return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	case 1:
		return socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	case 2:
		return eventfd(0, EFD_CLOEXEC);
	default:
		require(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0,
				    pair));
		close(pair[1]);
		return pair[0];
	}
}

/* @len bytes and @n descriptors; the sessions of others are left alone. */
static void client_says(struct client *p, const void *data, size_t len,
			uint32_t n, uint32_t kinds)
{
	union {
		struct cmsghdr head;
		uint8_t room[CMSG_SPACE(FDS_MAX * sizeof(int))];
	} ctl = {0};
	struct iovec iov = {(void *)(uintptr_t)data, len};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
	int fds[FDS_MAX];
	uint32_t i;

	if (!program_of(p))
		return;
	for (i = 0; i < n; i++)
		fds[i] = some_fd(kinds >> 2 * i);
	if (n) {
		mh.msg_control = &ctl;
		mh.msg_controllen = CMSG_SPACE(n * sizeof(int));
		ctl.head.cmsg_level = SOL_SOCKET;
		ctl.head.cmsg_type = SCM_RIGHTS;
		ctl.head.cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(&ctl.head), fds, n * sizeof(int));
	}
	require(sendmsg(p->sock, &mh, MSG_NOSIGNAL) == (ssize_t)len);
	for (i = 0; i < n; i++)
		close(fds[i]);
	serve();
	client_reads(p);
}

/* ---- steps of programs -----------------------------------------------------
 */

/* The connection that the input names. */
static struct conn *some_conn(const struct program *a, uint32_t n)
{
	struct conn *c;

	if (!a || !a->n_conns)
		return NULL;
	n %= a->n_conns;
	DL_FOREACH (a->conns, c)
		if (!n--)
			break;
	return c;
}

/* Begins as libsock does. */
static void step_hello(struct client *p, uint32_t n_ctx)
{
	struct xts_ctl_msg m = {.type = XTS_CTL_HELLO,
				.version = XTS_PROTO_VERSION};

	client_connect(p);
	if (!p->welcomed)
		client_says(p, &m, sizeof(m), 0, 0);
	m.type = XTS_CTL_CTX_CREATE;
	for (; n_ctx; n_ctx--)
		client_says(p, &m, sizeof(m), 0, 0);
}

static void step_message(struct client *p, struct input *in)
{
	uint32_t what = take(in, 1), more = take(in, 1);
	struct xts_ctl_msg m = {.type = what & 15,
				.version = XTS_PROTO_VERSION,
				.ctx = more & 3,
				.cookie = more >> 2 & (COOKIES - 1)};
	const struct conn *c = some_conn(program_of(p), more >> 4 & 3);

	if (c && what & 16) {
		m.flow = c->flow.index;
		m.flow_gen = c->flow.gen;
		m.core = c->core;
		m.cookie = c->cookie;
	}
	if (what & 32)
		m.ctx = take(in, 1);
	if (more & 64)
		m.flow_gen += take(in, 1);
	if (more & 128)
		m.core = take(in, 1);
	if (what & 64)
		m.version = take(in, 1);
	if (what & 128)
		m.flags = take(in, 2);
	client_says(p, &m, sizeof(m), m.type == XTS_CTL_OFFLOAD || what & 64,
		    more >> 4);
}

static void step_raw(struct client *p, struct input *in)
{
	uint32_t how = take(in, 1), len = take(in, 1) & 127;
	uint8_t b[128];

	take_bytes(in, b, len);
	if (how & 1)
		len = sizeof(struct xts_ctl_msg);
	client_says(p, b, len, (how >> 1 & 7) % (FDS_MAX + 1), how >> 4);
}

/* A command in the shared memory, right or wrong. */
static void step_command(struct client *p, struct input *in)
{
	static const uint32_t flags[] = {0, XTS_F_SHUT_WR, XTS_F_CLOSE,
					 XTS_F_CLOSE | XTS_F_ABORT};
	uint32_t what = take(in, 1);
	struct program *a = program_of(p);
	const struct conn *c = some_conn(a, what & 3);
	struct xts_core_area *area;
	uint32_t n;

	if (!c || !a->ctx[c->ctx])
		return;
	area = &a->ctx[c->ctx]->fp.area->core[0];
	n = area->cmd_index.producer++;
	area->cmd[n % XTS_RING_SLOTS] = (struct xts_cmd){
		.type = what & 128 ? take(in, 1) : XTS_CMD_SEND,
		.flags = flags[what >> 2 & 3],
		.flow = c->flow.index,
		.flow_gen = c->flow.gen,
		.len = what & 16 ? 100 : 0,
		.credits = what & 64 ? 1 : 0,
	};
	area->reply_index.consumer = area->reply_index.producer;
}

/* ---- steps of Linux and of the core ----------------------------------------
 */

static void fill_install(struct conn *c, struct program_ctx *x)
{
	c->install->conn = c;
	c->install->params = (struct flow_params){
		.key = c->key,
		.ctx = &x->fp,
		.cookie = c->cookie,
		.rx_buf = program_slot_offset(c->program, c->slot),
		.buf_size = DAEMON_BUF_SIZE,
		.snd_wnd = 60000,
		.rcv_wnd = 60000,
		.snd_mss = 1000,
		.cwnd_segs = 10,
		.ssthresh_segs = 1u << 30,
		.ttl = 64,
	};
}

/* As offload.c when all is well. */
static void step_install(struct client *p, uint32_t how)
{
	struct conn_key key = {.family = AF_INET, .local = {10, 9, 0, 2}};
	struct program *a = program_of(p);
	struct program_ctx *x = a ? program_ctx_find(a, how & 3) : NULL;
	struct fp_msg *m;
	struct conn *c;

	if (!x || d.cores[0].flows >= FLOWS)
		return;
	key.pport = ++next_port;
	c = conn_new(&d, a, x->fp.ctx, &key,
		     socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
	require(c && !conn_find(&d, &(struct conn_key){0}));
	c->cookie = how >> 2 & (COOKIES - 1);
	c->slot = program_slot_take(a);
	if (c->slot == SLOTS_NONE) {
		conn_free(&d, c);
		return;
	}
	c->install = calloc(1, sizeof(*c->install));
	require(c->install);
	fill_install(c, x);
	conn_set_phase(c, CONN_INSTALLING);
	d.cores[0].flows++;
	m = daemon_cmd(&d, 0, FP_CMD_INSTALL, false);
	m->params = &c->install->params;
	m->value = how >> 4 & 1;
	m->how = fp_ev_taken(d.cores[0].core);
	daemon_submit(&d, 0);
}

/* Something happens to a connection. */
static void step_conn(struct client *p, struct input *in)
{
	uint32_t what = take(in, 1);
	struct conn *c = some_conn(program_of(p), what & 3);
	struct fp_msg m = {.type = FP_EV_GROW};

	if (!c)
		return;
	if (c->phase == CONN_INSTALLING) {
		conn_hold(c, "0123456789", 10);
		return;
	}
	if (c->phase != CONN_LIVE)
		return;
	if (what & 4) {
		m.flow = c->flow;
		m.value = 1u << (17 + (what >> 3) % 9);
		large_wanted(&d, 0, &m);
	} else {
		closing_remove(&d, c, CONN_WHY_LINUX, what & 8 ? EPIPE : 0);
	}
}

static void step(struct input *in)
{
	uint32_t what = take(in, 1);
	struct client *p = &client[(what >> 4) % CLIENTS];

	switch (what & 15) {
	case 0:
		step_hello(p, what >> 6);
		break;
	case 1:
		client_connect(p);
		break;
	case 2:
		client_hang_up(p);
		break;
	case 3:
		step_raw(p, in);
		break;
	case 4:
		core_turns();
		break;
	case 5:
		core_tells();
		break;
	case 6:
		core_turns();
		core_tells();
		break;
	case 7:
	case 8:
		step_install(p, take(in, 1));
		break;
	case 9:
		step_conn(p, in);
		break;
	case 10:
		step_command(p, in);
		break;
	case 11:
		p->deaf = !p->deaf;
		client_reads(p);
		break;
	default:
		step_message(p, in);
		break;
	}
	check_daemon();
}

/* ---- the end ---------------------------------------------------------------
 */

/* What a program sent before its end nobody will acknowledge. */
static void reset_rest(void)
{
	struct conn *c, *next;

	HASH_ITER (hh, d.conns, c, next)
		if (c->phase == CONN_LIVE)
			closing_remove(&d, c, CONN_WHY_RESET, ECONNRESET);
}

static uint32_t open_fds(void)
{
	uint32_t n = 0;

	for (int fd = 0; fd < FD_LIMIT; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void check_nothing_left(uint32_t fds)
{
	require(!d.programs && !d.n_programs && !d.conns);
	require(!d.cores[0].flows && !d.cores[0].waiting);
	while (d.remnants)
		remnant_free(&d, d.remnants);
	require(queue_mem_free(d.cores[0].queue) == FRAMES);
	require(open_fds() == fds);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, data + size};
	uint8_t frame[2048];
	uint32_t fds, i;

	if (!d.n_cores)
		set_up();
	fds = open_fds();
	for (i = 0; i < CLIENTS; i++)
		client[i].sock = -1;
	while (in.p < in.end)
		step(&in);
	for (i = 0; i < CLIENTS; i++)
		client_hang_up(&client[i]);
	for (i = 0; i < 4; i++) {
		core_turns();
		core_tells();
		reset_rest();
	}
	while (queue_mem_pop(d.cores[0].queue, frame, sizeof(frame)))
		;
	check_nothing_left(fds);
	return 0;
}
