/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core.c - the turn, the thread and its sleep
 *
 * A turn touches only what something happened to: flows in the turn's list,
 * contexts that are polled, timer slots that are due. The clock is read once.
 *
 * The thread spins for spin_us after the last work, then sleeps in poll() on
 * the queue and on an epoll of the slow path's eventfd and all contexts'
 * doorbells. While it spins it yields: at once after it gave something to a
 * program on its own CPU (see turn_wake()) or rang the slow path, else every
 * YIELD_NS (SLOW_YIELD_NS while a connection may be on its way through slow
 * path and program), because what it waits for may need this CPU. Doorbells of
 * parked contexts are looked at every DOORBELL_NS while others keep it busy.
 *
 * Sleeping: the word `sleeping` is stored, a full fence, then all rings are
 * looked at once more; fp_cmd_flush() submits, fences and reads the word.
 *
 * The slow path may call fp_cmd_*, fp_ev_* and fp_flow_view() at any time
 * between fp_core_create() and fp_core_destroy(); destroy needs the thread
 * stopped, and frees what flows and contexts are left without telling anyone.
 */
#include "fastpath/core.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include <utlist.h>

#define PARK_NS 1000000ull /* a context this long silent isn't polled */
#define MS_NS 1000000ull
#define YIELD_NS 20000ull
/* The slow path may be at work this long after a message of or for it. */
#define SLOW_NS 100000u
#define SLOW_YIELD_NS 500u
#define YIELD_QUICK_NS 15000u /* a yield shorter than this delays no one */
#define YIELD_FEW 4u
#define YIELD_MAX_NS 1000000u
#define YIELD_VAIN_NS 2000u /* a yield shorter than this let nobody run */
#define END_NS 50000000u
#define YIELD_TRIES 4u
#define DOORBELL_NS 50000ull
#define RETRY_MS 1 /* sleep no longer while replies or events wait */
#define EPOLL_EVENTS 64

/* ---- the turn
 * -------------------------------------------------------------------- */

static inline void turn_clock(struct fp_core *c)
{
	struct timespec ts;

	if (unlikely(c->cfg.now_ns != NULL)) {
		c->now_ns = c->cfg.now_ns(c->cfg.now_arg);
	} else {
		clock_gettime(CLOCK_MONOTONIC, &ts);
		c->now_ns = (uint64_t)ts.tv_sec * 1000000000u +
			    (uint64_t)ts.tv_nsec;
	}
	if (unlikely(c->now_ns - c->ms_ns >= MS_NS)) {
		c->now_ms = (uint32_t)(c->now_ns / MS_NS);
		c->ms_ns = c->now_ns - c->now_ns % MS_NS;
	}
}

void core_remove_flow(struct fp_core *c, struct flow *f, enum fp_removed how,
		      int err)
{
	bool told = err && !f->closing;
	struct held_frame *h;

	event_flow(c, f, FP_EV_REMOVED, how, told ? (uint32_t)err : 0);
	timers_remove(&c->timers, f);
	loss_free(f);
	f->rto_at = 0;
	f->ack_at = 0;
	f->ext->wait_at = 0;
	/* From here on its frames are nobody's. */
	while ((h = hold_take(c, f))) {
		event_frame(c, NULL, h->data, h->len);
		hold_free(c, h);
	}
	flow_remove(&c->flows, f);
	reply_unblock(c, f);
	if (told) {
		/* As in Linux, what came before is still the program's. */
		f->pend_flags |= XTS_F_RESET;
		f->pend_err = (uint32_t)err;
	} else {
		f->pend_rare &= PEND_MOVED;
		f->pend_len = 0;
		f->pend_credits = 0;
		f->pend_flags = f->closing ? XTS_F_CLOSED : 0;
	}
	/* A program that waits for the end of a move gets its answer. */
	reply_flow(c, f);
}

static inline bool turn_commands(struct fp_core *c)
{
	struct app_ctx *a, *next;
	bool worked = false;
	uint32_t n;

	for (a = c->polled; a; a = next) {
		next = a->poll_next;
		n = app_waiting(a);
		if (n)
			worked |= app_take(c, a, n);
		else if (unlikely(c->now_ns - a->used_ns > PARK_NS))
			app_park(c, a);
	}
	return worked;
}

static inline bool timers_due(const struct fp_core *c)
{
	return c->now_ns >> TIMER_TICK_SHIFT != c->timers.tick;
}

static inline __attribute__((always_inline)) bool
turn_receive(struct fp_core *c)
{
	const struct queue_ops *ops = c->q->ops;
	struct queue_frame q[QUEUE_BURST];
	unsigned int n = ops->rx(c->q, q, QUEUE_BURST);

	if (!n)
		return false;
	rx_burst(c, q, n);
	ops->rx_release(c->q, q, n);
	return true;
}

/* Programs yield to a core on their CPU. */
static noinline void cpu_moved(struct fp_core *c, int cpu)
{
	struct app_ctx *a;

	c->cpu = cpu;
	DL_FOREACH (c->contexts, a) {
		if (!a->offence)
			__atomic_store_n(&a->area->core.cpu, cpu,
					 __ATOMIC_RELAXED);
	}
}

static inline void cpu_look(struct fp_core *c)
{
	int cpu;

	if (likely(c->bound_cpu >= 0))
		return;
	cpu = sched_getcpu();
	if (cpu != c->cpu)
		cpu_moved(c, cpu);
}

/* Linux chooses the caller of sched_yield() again if the other thread has had
 * more than its share, and charges the caller for it: the next one succeeds. So
 * while the program that we yield for has not read and nobody ran, once more.
 * The time that the last try took. */
static uint64_t yield_for(struct fp_core *c, const struct app_ctx *a)
{
	uint64_t before, took;
	unsigned int n = 0;

	do {
		before = c->now_ns;
		sched_yield();
		turn_clock(c);
		took = c->now_ns - before;
	} while (a && took < YIELD_VAIN_NS && ++n < YIELD_TRIES &&
		 app_unread(a));
	return took;
}

static noinline void core_yield(struct fp_core *c)
{
	uint64_t took = yield_for(c, c->yield_for);

	c->yield = false;
	c->yield_for = NULL;
	c->slow_yield = false;
	cpu_look(c);
	c->yield_ns = c->now_ns;
	if (took > YIELD_MAX_NS)
		took = YIELD_MAX_NS;
	c->yield_took_ns += ((int64_t)took - (int64_t)c->yield_took_ns) / 8;
}

/* Programs were given something. If those on our CPU have been quick lately
 * they go first, and what they answer leaves with all else in one kick. If not,
 * segments that are ready don't wait for them; nor if there are many, which
 * keep the peer busy meanwhile. */
static inline void turn_wake(struct fp_core *c, bool few)
{
	reply_wake(c);
	if (c->yield && few && c->running && c->yield_took_ns < YIELD_QUICK_NS)
		core_yield(c);
}

/* Events of this turn, and what had no room in its ring before. */
static noinline bool turn_left_over(struct fp_core *c)
{
	bool moved = reply_retry(c);

	events_turn(c);
	c->left_over = c->n_blocked || c->pending_head != c->pending_tail;
	return moved;
}

/* By its name its instructions are counted. */
no_clone bool fp_core_turn(struct fp_core *c)
{
	bool worked = false, few;

	turn_clock(c);
	c->tx_starved = false;
	if (unlikely(!msg_ring_empty(&c->cmd))) {
		c->slow_ns = c->now_ns;
		worked = commands_run(c);
	}
	worked |= turn_receive(c);
	if (c->n_telling) {
		few = c->n_telling <= YIELD_FEW;
		reply_turn(c);
		if (c->notify)
			turn_wake(c, few);
	}
	worked |= turn_commands(c);
	if (unlikely(timers_due(c)))
		worked |= timers_run(c);
	if (c->n_listed) {
		tx_turn(c);
		worked = true;
	}
	if (c->q->to_kick) {
		c->q->to_kick = false;
		if (unlikely(!c->q->ops->kick(c->q)))
			c->tx_starved = true;
	}
	if (unlikely(c->left_over))
		worked |= turn_left_over(c);
	if (c->notify)
		reply_wake(c);
	return worked;
}

/* ---- sleeping
 * ----------------------------------------------------------------------- */

/* Contexts whose doorbell rang are polled again. */
static void look_at_doorbells(struct fp_core *c)
{
	struct epoll_event ev[EPOLL_EVENTS];
	int n, i;

	n = epoll_wait(c->epoll_fd, ev, EPOLL_EVENTS, 0);
	for (i = 0; i < n; i++) {
		if (ev[i].data.ptr)
			app_unpark(c, ev[i].data.ptr);
	}
}

static int sleep_ms(const struct fp_core *c)
{
	uint64_t ns = timers_next_ns(&c->timers, c->now_ns), ms;

	if (c->n_blocked || c->pending_head != c->pending_tail)
		return RETRY_MS;
	if (ns == UINT64_MAX)
		return -1;
	ms = (ns + 999999) / 1000000;
	return ms > 60000 ? 60000 : (int)ms;
}

/* The queue is not in the epoll: as long as nobody waits, a frame that arrives
 * wakes nobody, which its sender, or the NIC's interrupt, pays for. */
static void core_wait(struct fp_core *c)
{
	struct pollfd fds[] = {{.fd = c->epoll_fd, .events = POLLIN},
			       {.fd = c->q->ops->fd(c->q), .events = POLLIN}};

	poll(fds, 2, sleep_ms(c));
	if (fds[0].revents)
		look_at_doorbells(c);
}

static void core_sleep(struct fp_core *c)
{
	struct app_ctx *a, *next;

	for (a = c->polled; a; a = next) {
		next = a->poll_next;
		app_park(c, a);
	}
	__atomic_store_n(&c->sleeping, 1, __ATOMIC_RELAXED);
	/* Partner: fp_cmd_flush(). */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!c->polled && msg_ring_empty(&c->cmd) &&
	    !__atomic_load_n(&c->stop, __ATOMIC_RELAXED)) {
		COUNT(c, sleeps);
		core_wait(c);
	}
	__atomic_store_n(&c->sleeping, 0, __ATOMIC_RELAXED);
	cpu_look(c);
}

/* ---- the thread
 * ----------------------------------------------------------------------- */

/* The CPU that the thread can't leave, -1 if it can. */
static int single_cpu(void)
{
	cpu_set_t set;
	int i;

	if (sched_getaffinity(0, sizeof(set), &set) || CPU_COUNT(&set) != 1)
		return -1;
	for (i = 0; i < CPU_SETSIZE; i++) {
		if (CPU_ISSET(i, &set))
			return i;
	}
	return -1;
}

static void thread_bind(struct fp_core *c)
{
	cpu_set_t set;

	if (c->cfg.cpu >= 0) {
		CPU_ZERO(&set);
		CPU_SET(c->cfg.cpu, &set);
		pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
	}
	c->bound_cpu = single_cpu();
	cpu_moved(c, c->bound_cpu >= 0 ? c->bound_cpu : sched_getcpu());
}

static uint64_t yield_every_ns(const struct fp_core *c)
{
	return c->now_ns - c->slow_ns < SLOW_NS ? SLOW_YIELD_NS : YIELD_NS;
}

/* What the slow path has told the core to send is on its way before the core
 * ends, unless the kernel does not take it within END_NS. */
static void thread_end(struct fp_core *c)
{
	uint64_t end_ns;

	turn_clock(c);
	end_ns = c->now_ns + END_NS;
	do {
		fp_core_turn(c);
	} while ((!msg_ring_empty(&c->cmd) || c->tx_starved) &&
		 c->now_ns < end_ns);
}

static void *core_thread(void *arg)
{
	struct fp_core *c = arg;
	uint64_t spin_ns = c->cfg.spin_us * 1000ull;

	thread_bind(c);
	while (!__atomic_load_n(&c->stop, __ATOMIC_RELAXED)) {
		if (fp_core_turn(c))
			c->work_ns = c->now_ns;
		else if (c->now_ns - c->work_ns >= spin_ns && !c->tx_starved)
			core_sleep(c);
		if (c->n_parked && c->now_ns - c->doorbell_ns > DOORBELL_NS) {
			c->doorbell_ns = c->now_ns;
			look_at_doorbells(c);
		}
		if (c->yield || c->slow_yield ||
		    (c->work_ns != c->now_ns &&
		     c->now_ns - c->yield_ns > yield_every_ns(c))) {
			turn_clock(c);
			core_yield(c);
		}
	}
	thread_end(c);
	return NULL;
}

int fp_core_start(struct fp_core *c)
{
	int err;

	c->stop = false;
	err = pthread_create(&c->thread, NULL, core_thread, c);
	if (err)
		return -err;
	pthread_setname_np(c->thread, "tas-core");
	c->running = true;
	return 0;
}

void fp_core_stop(struct fp_core *c)
{
	uint64_t one = 1;

	if (!c->running)
		return;
	__atomic_store_n(&c->stop, true, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (write(c->cmd_fd, &one, sizeof(one)) < 0)
		assert(errno == EAGAIN);
	pthread_join(c->thread, NULL);
	c->running = false;
}

/* ---- life
 * ------------------------------------------------------------------------------
 */

static int watch_fd(struct fp_core *c, int fd, uint32_t events)
{
	struct epoll_event ev = {.events = events};

	return epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

static int core_open_fds(struct fp_core *c)
{
	c->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	c->cmd_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	c->ev_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->epoll_fd < 0 || c->cmd_fd < 0 || c->ev_fd < 0)
		return -errno;
	/* Edge-triggered: nobody reads it, each write is an edge. */
	return watch_fd(c, c->cmd_fd, EPOLLIN | EPOLLET);
}

static void core_free(struct fp_core *c)
{
	if (c->epoll_fd >= 0)
		close(c->epoll_fd);
	if (c->cmd_fd >= 0)
		close(c->cmd_fd);
	if (c->ev_fd >= 0)
		close(c->ev_fd);
	events_free(c);
	flow_table_free(&c->flows);
	free(c->listed);
	free(c->telling);
	free(c);
}

struct fp_core *fp_core_create(const struct fp_config *cfg)
{
	size_t size = (sizeof(struct fp_core) + 63) & ~63ul;
	struct fp_core *c = aligned_alloc(XTS_CACHELINE, size);
	int err;

	if (!c)
		return NULL;
	memset(c, 0, size);
	c->cfg = *cfg;
	c->q = cfg->queue;
	c->epoll_fd = c->cmd_fd = c->ev_fd = -1;
	c->bound_cpu = c->cpu = -1;
	err = flow_table_init(&c->flows, cfg->max_flows);
	if (!err)
		err = events_init(c);
	if (!err)
		err = core_open_fds(c);
	c->listed = calloc(cfg->max_flows, sizeof(struct flow *));
	c->telling = calloc(cfg->max_flows, sizeof(struct flow *));
	if (!err && (!c->listed || !c->telling))
		err = -ENOMEM;
	if (err) {
		core_free(c);
		errno = -err;
		return NULL;
	}
	turn_clock(c);
	c->work_ns = c->now_ns;
	timers_init(&c->timers, c->now_ns);
	return c;
}

void fp_core_destroy(struct fp_core *c)
{
	struct app_ctx *a;
	uint32_t i;

	if (!c)
		return;
	fp_core_stop(c);
	for (i = 0; i < c->flows.high; i++)
		loss_free(&c->flows.flows[i]);
	while ((a = c->contexts)) {
		/* Its memory may be gone: not read out, not told. */
		a->offence = "the core ends";
		app_ctx_del(c, a);
	}
	c->q->ops->close(c->q);
	core_free(c);
}

const struct fp_counters *fp_core_counters(const struct fp_core *c)
{
	return &c->counters;
}

/* ---- the slow path's side
 * ------------------------------------------------------------ */

struct fp_msg *fp_cmd_reserve(struct fp_core *c)
{
	return msg_ring_reserve(&c->cmd);
}

void fp_cmd_submit(struct fp_core *c)
{
	msg_ring_submit(&c->cmd);
}

void fp_cmd_flush(struct fp_core *c)
{
	uint64_t one = 1;

	/* Partner: core_sleep(). */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!__atomic_load_n(&c->sleeping, __ATOMIC_RELAXED))
		return;
	if (write(c->cmd_fd, &one, sizeof(one)) < 0)
		assert(errno == EAGAIN);
}

const struct fp_msg *fp_ev_peek(struct fp_core *c)
{
	return msg_ring_peek(&c->ev);
}

void fp_ev_release(struct fp_core *c)
{
	msg_ring_release(&c->ev);
}

uint32_t fp_ev_taken(const struct fp_core *c)
{
	return c->ev.consumer;
}

int fp_ev_fd(const struct fp_core *c)
{
	return c->ev_fd;
}

bool fp_ev_arm(struct fp_core *c)
{
	__atomic_store_n(&c->slow_sleeping, 1, __ATOMIC_RELAXED);
	/* Partner: doorbell() in events.c. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (msg_ring_empty(&c->ev))
		return true;
	__atomic_store_n(&c->slow_sleeping, 0, __ATOMIC_RELAXED);
	return false;
}

bool fp_flow_view(const struct fp_core *c, struct flow_id id,
		  struct flow_view *view)
{
	uint32_t high = __atomic_load_n(&c->flows.high, __ATOMIC_ACQUIRE);
	const struct flow *f;

	if (id.index >= high || !(id.gen & 1))
		return false;
	f = &c->flows.flows[id.index];
	if (__atomic_load_n(&f->gen, __ATOMIC_ACQUIRE) != id.gen)
		return false;
	flow_view_fill(f, view);
	/* Removed, or even installed anew, while it was read? */
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return __atomic_load_n(&f->gen, __ATOMIC_RELAXED) == id.gen;
}
