/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * app.c - the programs' commands
 *
 * A program's memory is hostile: it may write anything there at any time. The
 * core keeps its own indices, reads the shared producer once a turn and each
 * command slot once into a local copy, and checks every number before use.
 * A command for a flow that is gone is counted and ignored (the program could
 * not have known); anything else that is wrong makes the program an offender:
 * FP_EV_OFFENDER once, and nothing of that context is looked at any more.
 *
 * Polled contexts have need_doorbell 0. One that was silent for PARK_NS is
 * parked (need_doorbell 1, a fence, a last look), so that a turn doesn't cost
 * more for contexts that do nothing; its doorbell or a reply to it brings it
 * back.
 *
 * State: struct app_ctx, core thread. Made and freed by the slow path's
 * commands; the flows of a deleted context stay without one.
 */
#include "fastpath/core.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <utlist.h>

#define CMD_BURST 64u /* commands of one context a turn */

/* ---- contexts
 * ------------------------------------------------------------------ */

static void set_need_doorbell(struct app_ctx *a, uint32_t v)
{
	__atomic_store_n(&a->area->core.need_doorbell, v, __ATOMIC_RELAXED);
}

static void poll_add(struct fp_core *c, struct app_ctx *a)
{
	DL_APPEND2(c->polled, a, poll_prev, poll_next);
}

static void poll_del(struct fp_core *c, struct app_ctx *a)
{
	DL_DELETE2(c->polled, a, poll_prev, poll_next);
}

struct app_ctx *app_ctx_add(struct fp_core *c, struct fp_ctx *ctx)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLET};
	struct app_ctx *a = aligned_alloc(XTS_CACHELINE, 256);
	unsigned int i = c->cfg.index;

	static_assert(sizeof(*a) <= 256, "size of the allocation");
	if (!a)
		return NULL;
	memset(a, 0, sizeof(*a));
	a->ctx = ctx;
	a->head = ctx->area;
	a->area = &ctx->area->core[i];
	a->used_ns = c->now_ns;
	/* The memory is new, or the program's doing: start from its words. */
	a->cmd_consumer =
		__atomic_load_n(&a->area->cmd_index.consumer, __ATOMIC_ACQUIRE);
	a->reply_producer = __atomic_load_n(&a->area->reply_index.producer,
					    __ATOMIC_ACQUIRE);
	a->reply_consumer = a->reply_producer;
	__atomic_store_n(&a->area->core.cpu, c->cpu, __ATOMIC_RELAXED);
	ev.data.ptr = a;
	if (c->epoll_fd >= 0 && ctx->doorbell_fd[i] >= 0)
		epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, ctx->doorbell_fd[i], &ev);
	ctx->core_private[i] = a;
	DL_APPEND(c->contexts, a);
	set_need_doorbell(a, 0);
	poll_add(c, a);
	return a;
}

static void clear_move(struct flow *f)
{
	f->move_to = NULL;
	f->pend_rare &= ~PEND_MOVED;
}

static void forget_flows(struct fp_core *c, struct app_ctx *a)
{
	uint32_t i;

	for (i = 0; i < c->flows.high; i++) {
		struct flow *f = &c->flows.flows[i];

		if (f->move_to == a)
			clear_move(f);
		if (f->ctx != a)
			continue;
		reply_unblock(c, f);
		f->ctx = f->move_to;
		clear_move(f);
		if (f->state == FLOW_GONE)
			flow_free(&c->flows, f);
	}
}

static void forget_relays(struct fp_core *c, struct app_ctx *a)
{
	struct relay *n;

	if (!a->relays)
		return;
	c->n_blocked--; /* no flow is blocked any more */
	while ((n = a->relays)) {
		a->relays = n->next;
		free(n);
	}
}

void app_ctx_del(struct fp_core *c, struct app_ctx *a)
{
	struct fp_ctx *ctx = a->ctx;
	struct app_ctx **p;

	app_drain(c, a);
	reply_publish(c);
	forget_flows(c, a);
	forget_relays(c, a);
	for (p = &c->notify; *p; p = &(*p)->notify_next) {
		if (*p == a) {
			*p = a->notify_next;
			break;
		}
	}
	if (a->parked)
		c->n_parked--;
	else if (!a->offence)
		poll_del(c, a);
	DL_DELETE(c->contexts, a);
	if (c->epoll_fd >= 0 && ctx->doorbell_fd[c->cfg.index] >= 0)
		epoll_ctl(c->epoll_fd, EPOLL_CTL_DEL,
			  ctx->doorbell_fd[c->cfg.index], NULL);
	ctx->core_private[c->cfg.index] = NULL;
	if (c->yield_for == a)
		c->yield_for = NULL;
	free(a);
}

void app_offend(struct fp_core *c, struct app_ctx *a, const char *text)
{
	struct pending_event e = {
		.type = FP_EV_OFFENDER,
		.flow.index = FP_NO_FLOW,
		.ctx = a->ctx,
		.text = text,
	};

	if (a->offence)
		return;
	a->offence = text;
	COUNT(c, app_offences);
	if (a->parked) {
		a->parked = false;
		c->n_parked--;
	} else {
		poll_del(c, a);
	}
	event_send(c, &e);
}

void app_unpark(struct fp_core *c, struct app_ctx *a)
{
	if (!a->parked)
		return;
	a->parked = false;
	c->n_parked--;
	a->used_ns = c->now_ns;
	set_need_doorbell(a, 0);
	poll_add(c, a);
}

void app_park(struct fp_core *c, struct app_ctx *a)
{
	if (a->parked || a->offence)
		return;
	set_need_doorbell(a, 1);
	/* Partner: the program, which stores producer, fences and reads
	 * need_doorbell. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (app_waiting(a)) {
		set_need_doorbell(a, 0);
		return;
	}
	poll_del(c, a);
	a->parked = true;
	c->n_parked++;
}

/* ---- one command
 * ------------------------------------------------------------------ */

/* The flow a command names; NULL: stale, or *offence is set. */
static inline struct flow *command_flow(struct fp_core *c,
					const struct app_ctx *a,
					const struct xts_cmd *cmd,
					const char **offence)
{
	struct flow *f;

	if (unlikely(cmd->flow >= c->flows.max_flows)) {
		*offence = "flow handle out of range";
		return NULL;
	}
	f = &c->flows.flows[cmd->flow];
	if (unlikely(f->gen != cmd->flow_gen || f->state != FLOW_OPEN ||
		     f->closing || (f->ctx != a && !f->ctx))) {
		COUNT(c, cmd_stale);
		return NULL;
	}
	if (unlikely(f->ctx != a && f->ctx->ctx->app != a->ctx->app)) {
		*offence = "flow of another program";
		return NULL;
	}
	return f;
}

static inline const char *command_data(struct fp_core *c, struct flow *f,
				       const struct xts_cmd *cmd)
{
	if (unlikely(cmd->off >= f->tx_size))
		return "data offset out of range";
	if (unlikely(cmd->len > f->tx_size - f->tx_len))
		return "more data than the buffer has room for";
	if (unlikely(f->shut_wr))
		return "data after shutdown";
	if (!f->tx_len)
		f->tx_pos = cmd->off;
	else if (unlikely(cmd->off !=
			  ((f->tx_pos + f->tx_len) & (f->tx_size - 1))))
		return "data not contiguous";
	f->tx_len += cmd->len;
	return NULL;
}

static noinline void command_flags(struct fp_core *c, struct flow *f,
				   uint32_t flags, uint32_t len)
{
	if (len) {
		f->more = flags & XTS_F_MORE;
		if (flags & XTS_F_URGENT)
			urgent_send(f);
		flow_judge(f);
	}
	if (flags & XTS_F_SHUT_WR)
		f->shut_wr = true;
	if (flags & XTS_F_CREDITS) {
		f->pend_flags |= XTS_F_CREDITS;
		reply_flow(c, f);
	}
	if (flags & XTS_F_CLOSE) {
		f->closing = true;
		flow_judge(f);
		/* As Linux: unread data or an abort reset the connection. */
		if ((flags & XTS_F_ABORT) || f->rx_unread) {
			core_remove_flow(c, f, FP_REMOVED_ABORT, 0);
			return;
		}
	}
	recovery_drained(c, f);
}

/* The one read of a slot: what the checks see is what is used. */
static inline void slot_copy(const struct xts_cmd *s, struct xts_cmd *cmd)
{
#define LOAD(field) cmd->field = __atomic_load_n(&s->field, __ATOMIC_RELAXED)
	LOAD(type);
	LOAD(flags);
	LOAD(flow);
	LOAD(flow_gen);
	LOAD(off);
	LOAD(len);
	LOAD(credits);
#undef LOAD
}

/* Linux has checked the value; here it only must not harm. @name has been read
 * once from the program's memory. */
static const char *set_option(struct fp_core *c, struct flow *f,
			      const struct xts_cmd *cmd, const char *name)
{
	uint64_t v = (uint64_t)cmd->credits << 32 | cmd->len;

	switch (cmd->off) {
	case XTS_OPT_NODELAY:
		f->nodelay = v;
		break;
	case XTS_OPT_CORK:
		f->cork = v;
		break;
	case XTS_OPT_USER_TIMEOUT:
		f->user_timeout_ms = (uint32_t)v;
		break;
	case XTS_OPT_CONGESTION:
		if (!f->cc_fixed)
			core_set_cc(c, f, name);
		break;
	case XTS_OPT_MAX_PACING_RATE:
		f->ext->max_pacing_rate = v == UINT32_MAX ? 0 : v;
		break;
	default:
		return "unknown option";
	}
	flow_judge(f);
	flow_list(c, f); /* what waited may go now */
	return NULL;
}

/* All but SEND. The slot is read anew, once, and judged by that, so that the
 * hot path's copy stays in registers. */
static noinline const char *command_other(struct fp_core *c, struct app_ctx *a,
					  const struct xts_cmd *slot)
{
	const char *offence = NULL;
	char name[XTS_NAME_MAX];
	struct xts_cmd cmd;
	struct flow *f;
	uint32_t i;

	slot_copy(slot, &cmd);
	if (cmd.type != XTS_CMD_SETOPT && cmd.type != XTS_CMD_INFO &&
	    cmd.type != XTS_CMD_GROW_TX)
		return "unknown command";
	f = command_flow(c, a, &cmd, &offence);
	if (!f)
		return offence;
	if (cmd.type == XTS_CMD_GROW_TX)
		return grow_tx_moved(f, cmd.off, cmd.len);
	if (cmd.type == XTS_CMD_INFO) {
		reply_info(c, f, a);
		return NULL;
	}
	for (i = 0; i < sizeof(name) - 1; i++)
		name[i] = __atomic_load_n(&slot->name[i], __ATOMIC_RELAXED);
	name[i] = '\0';
	return set_option(c, f, &cmd, name);
}

static inline __attribute__((always_inline)) const char *
command(struct fp_core *c, struct app_ctx *a, const struct xts_cmd *cmd,
	const struct xts_cmd *slot)
{
	const char *offence = NULL;
	struct flow *f;

	if (unlikely(cmd->type != XTS_CMD_SEND))
		return command_other(c, a, slot);
	f = command_flow(c, a, cmd, &offence);
	if (unlikely(!f))
		return offence;
	if (unlikely(cmd->credits > f->rx_unread - f->pend_len))
		return "credits for data never delivered";
	if (cmd->credits) {
		f->rx_unread -= cmd->credits;
		f->consumed = true;
	}
	if (cmd->len) {
		offence = command_data(c, f, cmd);
		if (unlikely(offence))
			return offence;
	}
	flow_list(c, f);
	if (unlikely(
		    (cmd->flags & (XTS_F_SHUT_WR | XTS_F_CLOSE | XTS_F_CREDITS |
				   XTS_F_MORE | XTS_F_URGENT)) |
		    f->more))
		command_flags(c, f, cmd->flags, cmd->len);
	return NULL;
}

/* ---- rings
 * ----------------------------------------------------------------------- */

/* Take up to @max of the @n > 0 commands that wait; their number. */
static inline __attribute__((always_inline)) unsigned int
commands_take(struct fp_core *c, struct app_ctx *a, uint32_t n, uint32_t max)
{
	const char *offence = NULL;
	const struct xts_cmd *slot;
	struct xts_cmd cmd;
	uint32_t i;

	if (unlikely(n > XTS_RING_SLOTS)) {
		app_offend(c, a, "command producer out of range");
		return 0;
	}
	if (n > max)
		n = max;
	i = 0;
	do {
		slot = &a->area->cmd[(a->cmd_consumer + i) &
				     (XTS_RING_SLOTS - 1)];
		slot_copy(slot, &cmd);
		offence = command(c, a, &cmd, slot);
	} while (++i < n && likely(!offence));
	a->cmd_consumer += n;
	__atomic_store_n(&a->area->cmd_index.consumer, a->cmd_consumer,
			 __ATOMIC_RELEASE);
	a->used_ns = c->now_ns;
	if (unlikely(offence))
		app_offend(c, a, offence);
	return n;
}

void app_drain(struct fp_core *c, struct app_ctx *a)
{
	uint32_t n = a->offence ? 0 : app_waiting(a);

	if (n)
		commands_take(c, a, n, XTS_RING_SLOTS);
}

bool app_take(struct fp_core *c, struct app_ctx *a, uint32_t n)
{
	return likely(!a->offence) && commands_take(c, a, n, CMD_BURST) > 0;
}
