/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * commands.c - the slow path's commands, taken in order at a turn's beginning
 *
 * The slow path is trusted but may name flows that are gone by now; such
 * commands are ignored. A command that can't be done yet (no free transmit
 * frame, or events wait for room and it would cause another) stays at the head
 * of the ring until the next turn: order is kept, nothing is lost.
 *
 * State: none of its own; writes flows and contexts as the core's thread.
 */
#include "fastpath/core.h"

#include <errno.h>

#define COMMAND_BURST 64u /* a turn */

static bool command_tx(struct fp_core *c, const struct fp_msg *m)
{
	struct queue_frame q;

	if (!c->q->ops->tx_alloc(c->q, &q)) {
		COUNT(c, tx_no_frame);
		c->tx_starved = true;
		return false;
	}
	if (m->frame_len > q.len || m->frame_len > FP_FRAME_MAX) {
		c->q->ops->tx_abandon(c->q, &q);
		return true;
	}
	memcpy(q.data, m->frame, m->frame_len);
	q.len = m->frame_len;
	c->q->ops->tx_submit(c->q, &q);
	c->q->to_kick = true;
	return true;
}

static void command_release(struct fp_core *c, struct flow *f)
{
	struct held_frame *h;

	if (f->state != FLOW_HOLD)
		return;
	f->state = FLOW_OPEN;
	flow_judge(f);
	/* What Linux sent and nobody has acknowledged yet. */
	loss_record(c, f);
	flow_judge(f);
	/* What was held may remove the flow again. */
	while (f->state == FLOW_OPEN && (h = hold_take(c, f))) {
		rx_frame(c, h->data, h->len, false);
		hold_free(c, h);
	}
	flow_tell(c, f);
	flow_list(c, f);
}

bool fp_cc_known(const char *name)
{
	return cc_find(name) != NULL;
}

/* As Linux: DCTCP without ECN is Reno. */
void core_set_cc(struct fp_core *c, struct flow *f, const char *name)
{
	const struct cc_ops *ops = *name ? cc_find(name) : &cc_reno;

	if (!ops)
		ops = cc_find("cubic");
	if (!ops || (ops->precise_ecn && !f->ecn))
		ops = &cc_reno;
	if (f->cc != ops)
		cc_set(f, ops, c->now_ns);
}

static void command_install(struct fp_core *c, const struct fp_msg *m)
{
	struct pending_event e = {
		.type = FP_EV_INSTALLED,
		.flow.index = FP_NO_FLOW,
		.ctx = m->params->ctx,
		.params = m->params,
	};
	struct flow *f = NULL;
	int err = EINVAL;

	if (m->params->ctx && m->params->ctx->core_private[c->cfg.index])
		f = flow_install(&c->flows, m->params, &err);
	if (f) {
		f->ctx = m->params->ctx->core_private[c->cfg.index];
		f->ts_recent_ms = c->now_ms;
		mtu_init(f, m->params, c->now_ns);
		core_set_cc(c, f, m->params->cc);
		loss_seed_min_rtt(f, m->params->min_rtt_us, c->now_ms);
		e.flow.index = f->index;
		e.flow.gen = f->gen;
		flow_view_fill(f, &e.view);
	}
	e.err = err;
	/* The slow path holds no frame of it, and none is on its way there:
	 * it had taken all events when it decided. */
	e.value = f && m->value && events_sent(c) == m->how;
	event_send(c, &e);
	if (e.value)
		command_release(c, f);
}

static void command_set_mss(struct fp_core *c, struct flow *f, uint32_t mss)
{
	if (mss >= 32 && mss != f->ext->mtu.max)
		loss_set_mss(c, f, mss);
}

static void command_close(struct fp_core *c, struct flow *f)
{
	if (f->closing)
		return;
	f->closing = true;
	flow_judge(f);
	if (f->rx_unread || f->state == FLOW_HOLD)
		core_remove_flow(c, f, FP_REMOVED_ABORT, 0);
	else
		recovery_drained(c, f);
}

static void command_move(struct fp_core *c, struct flow *f,
			 const struct fp_ctx *to)
{
	struct app_ctx *a = to->core_private[c->cfg.index];

	if (!a)
		return;
	if (f->ctx)
		app_drain(c, f->ctx);
	if (f->state != FLOW_OPEN && f->state != FLOW_HOLD)
		return;
	if (!f->ctx) {
		f->ctx = a;
		return;
	}
	f->move_to = a;
	f->pend_rare |= PEND_MOVED;
	flow_tell(c, f);
}

static void frozen_fill(const struct flow *f, struct flow_frozen *z)
{
	*z = (struct flow_frozen){
		.snd_una = f->snd_una,
		.snd_nxt = f->snd_nxt,
		.snd_wnd = f->snd_wnd,
		.snd_wl1 = f->snd_wl1,
		.snd_wnd_max = f->ext->snd_wnd_max,
		.rcv_nxt = f->rcv_nxt,
		.rcv_wup = f->rcv_wup,
		.rcv_wnd = f->rcv_wnd,
		.ts_recent = f->ts_recent,
		.ts_offset = f->ts_offset,
		.snd_wscale = f->snd_wscale,
		.rcv_wscale = f->rcv_wscale,
		.timestamps = f->timestamps,
		.sack = f->sack,
		.rcv_fin = f->rcv_fin,
		.snd_fin = f->snd_fin,
		.shut_wr = f->shut_wr,
		.closing = f->closing,
		.rx_buf = f->rx_buf,
		.tx_buf = f->tx_buf,
		.rx_size = f->rx_size,
		.tx_size = f->tx_size,
		.rx_off = (f->rx_pos - f->rx_unread) & (f->rx_size - 1),
		.rx_len = f->rx_unread,
		.tx_off = f->tx_pos,
		.tx_len = f->tx_len,
	};
}

/* Linux has no means to be told of urgent data that wait to be read, or to be
 * acknowledged. */
static bool urgent_waits(const struct flow *f)
{
	const struct urgent *u = &f->ext->urgent;

	return urgent_busy(u) ||
	       (u->byte && seq_geq(u->rcv_up, f->rcv_nxt - f->rx_unread) &&
		seq_lt(u->rcv_up, f->rcv_nxt));
}

/* The program's credits in its ring say what it has consumed: after them
 * rx_unread is what it has not. An ACK that was put off leaves now, for nobody
 * will remember it. */
static void command_freeze(struct fp_core *c, struct flow *f,
			   struct flow_frozen *z)
{
	if (f->ctx)
		app_drain(c, f->ctx);
	if (f->state != FLOW_OPEN)
		return;
	if (!f->closing && urgent_waits(f)) {
		event_flow(c, f, FP_EV_STAYS, 0, EBUSY);
		return;
	}
	if (f->rcv_nxt != f->rcv_wup || f->ack_now)
		tx_ack(c, f);
	frozen_fill(f, z);
	core_remove_flow(c, f, FP_REMOVED_FROZEN, 0);
}

static void command_leave(struct fp_core *c, struct flow *f,
			  struct flow_frozen *z)
{
	if (f->closing || !f->ctx) {
		command_freeze(c, f, z);
		return;
	}
	f->pend_flags |= XTS_F_LEAVE;
	flow_tell(c, f);
}

static void command_grow(struct fp_core *c, struct flow *f,
			 const struct fp_msg *m)
{
	if (f->ctx)
		grow_granted(c, f, f->ctx->ctx->mem + m->mem, m->value);
}

static void command_ctx_del(struct fp_core *c, struct fp_ctx *ctx)
{
	struct pending_event e = {
		.type = FP_EV_CTX_GONE,
		.flow.index = FP_NO_FLOW,
		.ctx = ctx,
	};
	struct app_ctx *a = ctx->core_private[c->cfg.index];

	if (a)
		app_ctx_del(c, a);
	event_send(c, &e);
}

/* Commands about one flow. */
static void command_flow(struct fp_core *c, struct fp_msg *m)
{
	struct flow *f = flow_by_id(&c->flows, m->flow);

	if (!f)
		return;
	switch (m->type) {
	case FP_CMD_RELEASE:
		command_release(c, f);
		break;
	case FP_CMD_REMOVE:
		core_remove_flow(c, f, FP_REMOVED_ASKED, (int)m->err);
		break;
	case FP_CMD_CLOSE:
		command_close(c, f);
		break;
	case FP_CMD_FREEZE:
		command_freeze(c, f, m->frozen);
		break;
	case FP_CMD_LEAVE:
		command_leave(c, f, m->frozen);
		break;
	case FP_CMD_COPY_ACK:
		f->copy_ack = true;
		flow_judge(f);
		break;
	case FP_CMD_SET_MSS:
		command_set_mss(c, f, m->value);
		break;
	case FP_CMD_MOVE:
		command_move(c, f, m->ctx);
		break;
	case FP_CMD_GROW:
		command_grow(c, f, m);
		break;
	}
}

/* false: can't be done in this turn. */
static bool command_run(struct fp_core *c, struct fp_msg *m)
{
	struct app_ctx *a;

	switch (m->type) {
	case FP_CMD_TX:
		return command_tx(c, m);
	case FP_CMD_INSTALL:
		command_install(c, m);
		return true;
	case FP_CMD_INJECT:
		if (m->frame_len <= FP_FRAME_MAX)
			rx_frame(c, m->frame, m->frame_len, false);
		return true;
	case FP_CMD_CTX_ADD:
		app_ctx_add(c, m->ctx);
		return true;
	case FP_CMD_CTX_DEL:
		command_ctx_del(c, m->ctx);
		return true;
	case FP_CMD_REPLY:
		a = m->ctx->core_private[c->cfg.index];
		if (a)
			reply_relay(c, a, &m->reply);
		return true;
	default:
		command_flow(c, m);
		return true;
	}
}

bool commands_run(struct fp_core *c)
{
	struct fp_msg *m;
	unsigned int n;

	for (n = 0; n < COMMAND_BURST; n++) {
		m = msg_ring_peek(&c->cmd);
		if (likely(!m) || !events_flush(c) || !command_run(c, m))
			break;
		msg_ring_release(&c->cmd);
	}
	return n > 0;
}
