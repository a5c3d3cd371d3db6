/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The core as a thread: sleeping, doorbells, the slow path's and the program's
 * ends of the rings used from other threads (what ThreadSanitizer watches).
 * The queue is a wrapper around a memory queue that a second thread may feed.
 */
#include "tests/unit/fastpath/host.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 300u

/* A queue that echoes: what the core sends is acknowledged, as a peer would,
 * and every answer brings the next request. Core thread only, but the bell. */
struct wire {
	struct queue q;
	struct queue *mem;
	struct host *h;
	int fd;		   /* eventfd: readable, something to receive */
	uint32_t requests; /* sent into the core */
	uint32_t answers;  /* atomic */
};

static struct wire wire;

static unsigned int wire_rx(struct queue *q, struct queue_frame *f,
			    unsigned int max)
{
	return wire.mem->ops->rx(wire.mem, f, max);
}

static void wire_release(struct queue *q, const struct queue_frame *f,
			 unsigned int n)
{
	wire.mem->ops->rx_release(wire.mem, f, n);
}

static bool wire_alloc(struct queue *q, struct queue_frame *f)
{
	return wire.mem->ops->tx_alloc(wire.mem, f);
}

static void wire_submit(struct queue *q, const struct queue_frame *f)
{
	wire.mem->ops->tx_submit(wire.mem, f);
}

static void wire_abandon(struct queue *q, const struct queue_frame *f)
{
	wire.mem->ops->tx_abandon(wire.mem, f);
}

static void request(void)
{
	uint8_t b[256];
	uint32_t n = wire.requests++, len;

	len = host_build(wire.h,
			 (struct seg){.seq = n * 64, .len = 64, .ack = n * 64},
			 b);
	assert_true(queue_mem_push(wire.mem, b, len));
}

static bool wire_kick(struct queue *q)
{
	uint8_t b[2048];
	struct frame f;
	uint32_t len;

	wire.mem->ops->kick(wire.mem);
	while ((len = queue_mem_pop(wire.mem, b, sizeof(b)))) {
		if (frame_parse(&f, b, len) != FRAME_TCP || !f.payload_len)
			continue;
		__atomic_fetch_add(&wire.answers, 1, __ATOMIC_RELEASE);
		if (wire.requests < ROUNDS)
			request();
	}
	return true;
}

static int wire_fd(const struct queue *q)
{
	return wire.fd;
}

static void wire_close(struct queue *q)
{
	wire.mem->ops->close(wire.mem);
	close(wire.fd);
}

static const struct queue_ops wire_ops = {
	.rx = wire_rx,
	.rx_release = wire_release,
	.tx_alloc = wire_alloc,
	.tx_submit = wire_submit,
	.tx_abandon = wire_abandon,
	.kick = wire_kick,
	.fd = wire_fd,
	.close = wire_close,
};

static void ms_sleep(long ms)
{
	nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

static void command(struct host *h, enum fp_cmd type)
{
	struct fp_msg *m = host_fp(h, type);

	m->ctx = &h->ctx[0];
	m->params = &h->params;
	m->flow = h->id;
	fp_cmd_submit(h->core);
	fp_cmd_flush(h->core);
}

/* As the slow path does: arm, sleep on the descriptor, look. */
static void wait_event(struct host *h, enum fp_event type)
{
	struct pollfd p = {.fd = fp_ev_fd(h->core), .events = POLLIN};
	uint64_t n;

	while (!host_event(h)) {
		if (!fp_ev_arm(h->core))
			continue;
		assert_int_equal(poll(&p, 1, 10000), 1);
		assert_true(read(p.fd, &n, sizeof(n)) == sizeof(n));
	}
	assert_int_equal(h->ev.type, type);
}

/* As libsock does: odd, fence, look, sleep; even again. */
static void wait_reply(struct host *h)
{
	uint32_t *asleep = &h->ctx[0].area->app_sleep;
	struct pollfd p = {.fd = h->ctx[0].app_event_fd, .events = POLLIN};
	uint64_t n;

	while (!host_reply(h, 0)) {
		__atomic_store_n(asleep, *asleep + 1, __ATOMIC_RELAXED);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (!host_reply(h, 0)) {
			assert_int_equal(poll(&p, 1, 10000), 1);
			assert_true(read(p.fd, &n, sizeof(n)) == sizeof(n));
			__atomic_store_n(asleep, *asleep + 1, __ATOMIC_RELAXED);
			continue;
		}
		__atomic_store_n(asleep, *asleep + 1, __ATOMIC_RELAXED);
		return;
	}
}

static void answer(struct host *h, uint32_t n)
{
	struct xts_core_area *a = &h->ctx[0].area->core[0];
	struct xts_cmd cmd = host_cmd(h, 64, 64, 0);
	uint32_t p = a->cmd_index.producer;
	uint64_t one = 1;

	a->cmd[p & (XTS_RING_SLOTS - 1)] = cmd;
	__atomic_store_n(&a->cmd_index.producer, p + 1, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (__atomic_load_n(&a->core.need_doorbell, __ATOMIC_RELAXED))
		assert_true(write(h->ctx[0].doorbell_fd[0], &one,
				  sizeof(one)) == sizeof(one));
}

static struct host *start(uint32_t spin_us)
{
	struct host *h = host_new(&(struct variant){.ts = true, .isn = 1});
	struct fp_config cfg = {
		.max_flows = HOST_FLOWS, .cpu = -1, .spin_us = spin_us};

	/* host_new() made a core on a fake clock: only its contexts serve. */
	fp_core_destroy(h->core);
	memset(&wire, 0, sizeof(wire));
	wire.q.ops = &wire_ops;
	wire.q.mode = "test";
	wire.h = h;
	wire.fd = eventfd(0, EFD_NONBLOCK);
	wire.mem = queue_mem_open(HOST_FRAMES, 2048);
	cfg.queue = &wire.q;
	h->core = fp_core_create(&cfg);
	assert_non_null(h->core);
	assert_int_equal(fp_core_start(h->core), 0);
	command(h, FP_CMD_CTX_ADD);
	command(h, FP_CMD_INSTALL);
	wait_event(h, FP_EV_INSTALLED);
	assert_int_equal(h->ev.err, 0);
	h->id = h->ev.flow;
	command(h, FP_CMD_RELEASE);
	wait_reply(h);
	assert_int_equal(h->reply.type, XTS_REPLY_OFFLOADED);
	return h;
}

static void finish(struct host *h)
{
	unsigned int i;

	command(h, FP_CMD_REMOVE);
	wait_event(h, FP_EV_REMOVED);
	command(h, FP_CMD_CTX_DEL);
	wait_event(h, FP_EV_CTX_GONE);
	fp_core_stop(h->core);
	assert_int_equal(h->core->timers.n_queued, 0);
	fp_core_destroy(h->core);
	for (i = 0; i < HOST_CTXS; i++) {
		close(h->ctx[i].app_event_fd);
		close(h->ctx[i].doorbell_fd[0]);
	}
	host_free(h);
}

static void first_request(struct host *h)
{
	struct fp_msg *m = host_fp(h, FP_CMD_INJECT);

	m->flow = h->id;
	m->frame_len = host_build(h, (struct seg){.len = 64}, m->frame);
	__atomic_store_n(&wire.requests, 1, __ATOMIC_RELAXED);
	fp_cmd_submit(h->core);
	fp_cmd_flush(h->core);
}

static void converse(struct host *h, bool slow)
{
	struct flow_view v;
	uint32_t n;

	first_request(h);
	for (n = 0; n < ROUNDS; n++) {
		wait_reply(h);
		if (!h->reply.len) {
			n--;
			continue;
		}
		assert_int_equal(h->reply.len, 64);
		if (slow && n % 50 == 0)
			ms_sleep(5); /* the core falls asleep */
		assert_true(fp_flow_view(h->core, h->id, &v));
		answer(h, n);
	}
	while (__atomic_load_n(&wire.answers, __ATOMIC_ACQUIRE) < ROUNDS)
		ms_sleep(1);
}

static void test_conversation_with_a_core_that_sleeps(void **state)
{
	struct host *h = start(20);

	converse(h, true);
	finish(h);
}

static void test_conversation_with_a_core_that_spins(void **state)
{
	struct host *h = start(1000000);

	converse(h, false);
	finish(h);
}

static void test_idle_core_sleeps(void **state)
{
	struct host *h = start(100);
	struct timespec before, after;
	clockid_t clock;

	ms_sleep(50);
	assert_int_equal(pthread_getcpuclockid(h->core->thread, &clock), 0);
	clock_gettime(clock, &before);
	ms_sleep(300);
	clock_gettime(clock, &after);
	assert_true((after.tv_sec - before.tv_sec) * 1000000000L +
			    after.tv_nsec - before.tv_nsec <
		    10000000);
	finish(h);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_conversation_with_a_core_that_sleeps),
		cmocka_unit_test(test_conversation_with_a_core_that_spins),
		cmocka_unit_test(test_idle_core_sleeps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
