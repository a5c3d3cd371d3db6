/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_offload.c - what a program asks for while its connection is being
 * installed
 *
 * A daemon without devices: the loop, the control socket and one core on a
 * memory queue, whose turns the test makes. The program is the test too. Its
 * connection is given to the core as offload_request() does at its end; what a
 * kernel socket holds is test_snapshot.c's business.
 */
#include "slowpath/closing.h"
#include "slowpath/conn.h"
#include "slowpath/control.h"
#include "slowpath/offload.h"
#include "slowpath/program.h"
#include "tests/unit/slowpath/asked.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FLOWS 4u
#define COOKIE UINT64_C(0xc00c1e)

struct bench {
	struct options opt;
	struct daemon_config cfg;
	struct daemon d;
	struct fp_core *core;
	int sock; /* the program's end of the control socket */
	struct program *program;
	struct conn *conn;
};

/* ---- the program ---- */

static void program_say(struct bench *b, struct xts_ctl_msg m)
{
	m.version = XTS_PROTO_VERSION;
	assert_int_equal(send(b->sock, &m, sizeof(m), 0), sizeof(m));
}

/* Descriptors that come with an answer are closed unread. */
static struct xts_ctl_msg program_hear(struct bench *b)
{
	struct xts_ctl_msg m;

	assert_int_equal(recv(b->sock, &m, sizeof(m), MSG_DONTWAIT), sizeof(m));
	return m;
}

/* What was said is handled when this returns: all that arrives on the socket
 * wakes the loop. */
static void serve(struct bench *b)
{
	loop_wait(&b->d.loop, INT64_C(10000000000));
}

static bool program_told(struct bench *b, unsigned int ctx, struct xts_reply *r)
{
	struct xts_core_area *area = &b->program->ctx[ctx]->fp.area->core[0];
	uint32_t at = area->reply_index.consumer;

	if (at == area->reply_index.producer)
		return false;
	*r = area->reply[at % XTS_RING_SLOTS];
	area->reply_index.consumer = at + 1;
	return true;
}

static void expect_told(struct bench *b, unsigned int ctx, uint32_t type,
			uint32_t flags)
{
	struct xts_reply r = {0};

	assert_true(program_told(b, ctx, &r));
	assert_int_equal(r.type, type);
	assert_int_equal(r.flags, flags);
	assert_int_equal(r.cookie, COOKIE);
}

/* ---- the core ---- */

static void core_turn(struct bench *b)
{
	while (fp_core_turn(b->core))
		;
}

/* The next event, which must be of @type, goes to the daemon. */
static void core_tells(struct bench *b, enum fp_event type)
{
	const struct fp_msg *m = fp_ev_peek(b->core);

	assert_non_null(m);
	assert_int_equal(m->type, type);
	if (type == FP_EV_INSTALLED)
		offload_installed(&b->d, 0, m);
	else if (type == FP_EV_REMOVED)
		closing_removed(&b->d, 0, m);
	else
		program_ctx_gone(&b->d, m->ctx);
	fp_ev_release(b->core);
}

/* The commands that wait for the core, in order; 0 for none. */
static void expect_asked(struct bench *b, uint32_t first, uint32_t second,
			 uint32_t third)
{
	assert_int_equal(asked_type(b->core, 0), first);
	assert_int_equal(asked_type(b->core, 1), second);
	assert_int_equal(asked_type(b->core, 2), third);
	assert_int_equal(asked_type(b->core, 3), 0);
}

/* ---- life ---- */

static void start(struct bench *b)
{
	struct fp_config cfg = {.max_flows = FLOWS, .cpu = -1};
	struct core_link *k = &b->d.cores[0];

	b->opt.flows = FLOWS;
	b->d.cfg = &b->cfg;
	b->d.opt = &b->opt;
	b->d.n_cores = 1;
	b->d.tap_fd = b->d.diag_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	b->d.shadow_epoll = epoll_create1(EPOLL_CLOEXEC);
	cfg.queue = queue_mem_open(64, 2048);
	assert_non_null(cfg.queue);
	b->core = k->core = fp_core_create(&cfg);
	assert_non_null(k->core);
	k->by_flow = calloc(FLOWS, sizeof(struct conn *));
	assert_non_null(k->by_flow);
	assert_int_equal(cache_init(&b->d.cache, 1), 0);
	assert_int_equal(loop_open(&b->d.loop), 0);
}

static void join(struct bench *b)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	char name[32];
	int n = snprintf(name, sizeof(name), "@tas-test-%d", (int)getpid());

	b->cfg.listen_fd = control_listen(name);
	assert_true(b->cfg.listen_fd >= 0);
	assert_int_equal(control_start(&b->d, b->cfg.listen_fd), 0);
	memcpy(sun.sun_path + 1, name + 1, (size_t)n - 1);
	b->sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_int_equal(
		connect(b->sock, (void *)&sun,
			(socklen_t)(offsetof(struct sockaddr_un, sun_path) +
				    (size_t)n)),
		0);
	program_say(b, (struct xts_ctl_msg){.type = XTS_CTL_HELLO});
	while (!b->d.programs || !b->d.programs->mem)
		serve(b);
	b->program = b->d.programs;
	assert_int_equal(program_hear(b).type, XTS_CTL_WELCOME);
	for (uint32_t i = 0; i < 2; i++) {
		struct xts_ctl_msg m;

		program_say(b,
			    (struct xts_ctl_msg){.type = XTS_CTL_CTX_CREATE});
		serve(b);
		m = program_hear(b);
		assert_int_equal(m.type, XTS_CTL_CTX);
		assert_int_equal(m.ctx, i);
	}
	core_turn(b);
}

/* A connection of context 0, with the core: it has not answered yet. */
static void install(struct bench *b)
{
	struct conn_key key = {.family = AF_INET};
	struct fp_msg *m;
	struct conn *c;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(key.local, "\12\11\0\2", 4);
	memcpy(key.peer, "\12\11\0\1", 4);
	key.lport = htons(7777);
	key.pport = htons(40000);
	b->conn = c = conn_new(&b->d, b->program, 0, &key, fd);
	assert_non_null(c);
	c->cookie = COOKIE;
	c->slot = program_slot_take(b->program);
	c->install = calloc(1, sizeof(*c->install));
	assert_non_null(c->install);
	c->install->conn = c;
	c->install->params = (struct flow_params){
		.key = key,
		.ctx = &b->program->ctx[0]->fp,
		.cookie = COOKIE,
		.rx_buf = program_slot_offset(b->program, c->slot),
		.buf_size = DAEMON_BUF_SIZE,
		.snd_wnd = 60000,
		.rcv_wnd = 60000,
		.snd_mss = 1000,
		.cwnd_segs = 10,
		.ssthresh_segs = 1u << 30,
		.ttl = 64,
	};
	conn_set_phase(c, CONN_INSTALLING);
	b->d.cores[0].flows++;
	m = daemon_cmd(&b->d, 0, FP_CMD_INSTALL, false);
	m->params = &c->install->params;
	m->value = true;
	m->how = fp_ev_taken(b->core);
	daemon_submit(&b->d, 0);
}

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));

	assert_non_null(b);
	start(b);
	join(b);
	install(b);
	*state = b;
	return 0;
}

/* Nothing of the program, the connection or the flow is left. */
static int teardown(void **state)
{
	struct bench *b = *state;

	assert_null(b->d.conns);
	assert_null(b->d.programs);
	assert_int_equal(b->d.cores[0].flows, 0);
	while (b->d.remnants)
		remnant_free(&b->d, b->d.remnants);
	loop_close(&b->d.loop);
	cache_destroy(&b->d.cache);
	fp_core_destroy(b->core);
	free(b->d.cores[0].by_flow);
	close(b->d.shadow_epoll);
	close(b->d.tap_fd);
	close(b->cfg.listen_fd);
	free(b);
	return 0;
}

static void move(struct bench *b)
{
	program_say(b, (struct xts_ctl_msg){.type = XTS_CTL_MOVE,
					    .ctx = 1,
					    .cookie = COOKIE,
					    .flow = 0,
					    .flow_gen = 1});
	serve(b);
}

static void hang_up(struct bench *b)
{
	close(b->sock);
	serve(b);
	assert_int_equal(b->program->sock, -1);
}

/* ---- tests ---- */

/* The core tells the program of the flow before it tells the daemon, so the
 * program's MOVE may come first. */
static void test_move_before_installed_is_done_after_it(void **state)
{
	struct bench *b = *state;
	struct xts_reply r = {0};

	core_turn(b);
	expect_told(b, 0, XTS_REPLY_OFFLOADED, 0);
	move(b);
	assert_int_equal(b->conn->phase, CONN_INSTALLING);
	expect_asked(b, 0, 0, 0);
	core_tells(b, FP_EV_INSTALLED);
	expect_asked(b, FP_CMD_MOVE, 0, 0);
	assert_int_equal(b->program->ctx[0]->n_conns, 0);
	assert_int_equal(b->program->ctx[1]->n_conns, 1);
	core_turn(b);
	expect_told(b, 0, XTS_REPLY_MOVED, 0);
	/* What comes now goes to the new context. */
	closing_remove(&b->d, b->conn, CONN_WHY_RESET, ECONNRESET);
	core_turn(b);
	assert_false(program_told(b, 0, &r));
	expect_told(b, 1, XTS_REPLY_RECV, XTS_F_RESET);
	core_tells(b, FP_EV_REMOVED);
	assert_int_equal(b->program->ctx[1]->n_conns, 0);
	hang_up(b);
	core_turn(b);
	core_tells(b, FP_EV_CTX_GONE);
	core_tells(b, FP_EV_CTX_GONE);
}

/* The old context may go as soon as the move was asked for. */
static void test_move_before_installed_lets_the_old_context_go(void **state)
{
	struct bench *b = *state;

	move(b);
	program_say(b, (struct xts_ctl_msg){.type = XTS_CTL_CTX_DESTROY});
	serve(b);
	expect_asked(b, FP_CMD_INSTALL, FP_CMD_CTX_DEL, 0);
	core_turn(b);
	core_tells(b, FP_EV_INSTALLED);
	core_tells(b, FP_EV_CTX_GONE);
	assert_null(b->program->ctx[0]);
	core_turn(b);
	closing_remove(&b->d, b->conn, CONN_WHY_RESET, ECONNRESET);
	core_turn(b);
	expect_told(b, 1, XTS_REPLY_RECV, XTS_F_RESET);
	core_tells(b, FP_EV_REMOVED);
	hang_up(b);
	core_turn(b);
	core_tells(b, FP_EV_CTX_GONE);
}

/* The core may have forgotten the contexts by then, and they may be freed
 * before it looks at its next command: none may name them. */
static void test_move_of_a_program_that_ended_is_not_done(void **state)
{
	struct bench *b = *state;

	move(b);
	hang_up(b);
	expect_asked(b, FP_CMD_INSTALL, FP_CMD_CTX_DEL, FP_CMD_CTX_DEL);
	core_turn(b);
	core_tells(b, FP_EV_INSTALLED);
	expect_asked(b, FP_CMD_CLOSE, 0, 0);
	core_tells(b, FP_EV_CTX_GONE);
	core_tells(b, FP_EV_CTX_GONE);
	core_turn(b);
	core_tells(b, FP_EV_REMOVED);
}

/* Its socket can't be offloaded, which is looked at next; the reason. */
static uint32_t offer(struct bench *b, uint32_t number)
{
	struct xts_reply r = {0};
	struct xts_ctl_msg m = {.type = XTS_CTL_OFFLOAD,
				.ctx = 1,
				.cookie = COOKIE + 1,
				.flow = number};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	offload_request(&b->d, b->program, b->program->ctx[1], &m, fd);
	core_turn(b);
	assert_true(program_told(b, 1, &r));
	assert_int_equal(r.type, XTS_REPLY_DECLINED);
	return r.err;
}

/* xts_proto.h "Taking": nothing is copied that the program may change. */
static void test_a_socket_that_is_used_is_left_alone(void **state)
{
	struct bench *b = *state;
	struct xts_ctx_area *area = b->program->ctx[1]->fp.area;

	core_turn(b);
	core_tells(b, FP_EV_INSTALLED);
	area->in_kernel = 5;
	assert_int_equal(offer(b, 5), XTS_REASON_BUSY);
	assert_int_equal(area->taken, 5);
	/* of another number, or by a program that has none */
	assert_int_equal(offer(b, 6), XTS_REASON_NOT_TCP);
	assert_int_equal(area->taken, 6);
	area->in_kernel = 0;
	assert_int_equal(offer(b, 0), XTS_REASON_NOT_TCP);
	assert_int_equal(area->taken, 6);
	hang_up(b);
	core_turn(b);
	core_tells(b, FP_EV_CTX_GONE);
	core_tells(b, FP_EV_CTX_GONE);
	core_turn(b);
	core_tells(b, FP_EV_REMOVED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_move_before_installed_is_done_after_it, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			test_move_before_installed_lets_the_old_context_go,
			setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_move_of_a_program_that_ended_is_not_done, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			test_a_socket_that_is_used_is_left_alone, setup,
			teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
