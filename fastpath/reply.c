/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * reply.c - what the programs are told
 *
 * What a flow has to tell its program gathers in its pend_* fields: received
 * bytes (always one contiguous piece of the buffer), acknowledged bytes,
 * flags. Once a turn it becomes one reply. When the ring is full it goes on
 * gathering, and the flow waits in its context's list, so that a program which
 * doesn't read costs no memory and no other program notices. A flow that is
 * gone keeps its slot until its last reply found room (or the context goes).
 *
 * Urgent data: the pointer is told behind the data that came before it and
 * before those that come behind, see urgent.c.
 *
 * Acknowledged bytes alone are told only when the program has used half of its
 * buffer, see flow_has_reply(), or asks (XTS_F_CREDITS).
 *
 * Order as in xts_proto.h: slots, then producer (release); then, once a turn,
 * a full fence and a look at app_sleep. The program's consumer index is
 * checked: it may not be ahead of what was produced.
 *
 * Limits: RELAY_MAX replies of the slow path wait for one context; a program
 * that leaves more unread breaks the contract.
 */
#include "fastpath/core.h"
#include "fastpath/info.h"

#include <stdlib.h>
#include <unistd.h>

#define RELAY_MAX 4096u

/* A free slot, NULL: the ring is full or the program broke the contract. */
static inline struct xts_reply *slot_get(struct fp_core *c, struct app_ctx *a)
{
	if (unlikely(a->reply_producer - a->reply_consumer == XTS_RING_SLOTS)) {
		uint32_t seen = __atomic_load_n(&a->area->reply_index.consumer,
						__ATOMIC_ACQUIRE);

		if (a->reply_producer - seen > XTS_RING_SLOTS) {
			app_offend(c, a, "reply consumer out of range");
			return NULL;
		}
		a->reply_consumer = seen;
		if (a->reply_producer - seen == XTS_RING_SLOTS)
			return NULL;
	}
	return &a->area->reply[a->reply_producer & (XTS_RING_SLOTS - 1)];
}

/* Are @n slots free? As slot_get(). */
static bool room_for(struct fp_core *c, struct app_ctx *a, uint32_t n)
{
	uint32_t seen = __atomic_load_n(&a->area->reply_index.consumer,
					__ATOMIC_ACQUIRE);

	if (a->reply_producer - seen > XTS_RING_SLOTS) {
		app_offend(c, a, "reply consumer out of range");
		return false;
	}
	a->reply_consumer = seen;
	return XTS_RING_SLOTS - (a->reply_producer - seen) >= n;
}

static inline void slot_put(struct fp_core *c, struct app_ctx *a)
{
	a->reply_producer++;
	c->unpublished = true;
	if (!a->notify) {
		a->notify = true;
		a->notify_next = c->notify;
		c->notify = a;
		/* It will answer soon: no doorbell needed for that. */
		if (unlikely(a->parked))
			app_unpark(c, a);
	}
}

/* Without data, if the urgent pointer is to be told before these. */
static noinline bool post_offloaded(struct fp_core *c, struct flow *f)
{
	uint32_t len = f->pend_rare & PEND_URGENT ? 0 : f->pend_len;
	struct app_ctx *a = f->ctx;
	struct xts_reply *r = slot_get(c, a);

	if (!r)
		return false;
	*r = (struct xts_reply){
		.type = XTS_REPLY_OFFLOADED,
		.cookie = f->cookie,
		.off = 0,
		.len = len,
		.credits = f->pend_credits,
		.flow = f->index,
		.flow_gen = f->gen,
		.core = c->cfg.index,
		.buf_size = f->rx_size,
		.rx_buf = (uint64_t)(f->rx_buf - a->ctx->mem),
		.tx_len = f->tx_len + f->pend_credits,
	};
	f->pend_len -= len;
	f->pend_credits = 0;
	f->pend_rare &= ~PEND_OFFLOADED;
	slot_put(c, a);
	return true;
}

static noinline bool post_grown(struct fp_core *c, struct flow *f)
{
	struct grow *g = &f->ext->grow;
	struct xts_reply *r = slot_get(c, f->ctx);

	if (!r)
		return false;
	*r = (struct xts_reply){
		.type = XTS_REPLY_GROWN,
		.cookie = f->cookie,
		.off = g->told_off,
		.rx_buf = (uint64_t)(g->area - f->ctx->ctx->mem),
		.buf_size = f->rx_size,
		.tx_len = g->offered_tx,
	};
	f->pend_rare &= ~PEND_GROWN;
	slot_put(c, f->ctx);
	return true;
}

static noinline bool post_urgent(struct fp_core *c, struct flow *f)
{
	struct urgent *u = &f->ext->urgent;
	struct xts_reply *r = slot_get(c, f->ctx);

	if (!r)
		return false;
	*r = (struct xts_reply){
		.type = XTS_REPLY_URGENT,
		.flags = u->fresh ? XTS_F_URGENT : 0,
		.cookie = f->cookie,
		.err = u->byte,
		.urgent = u->rcv_up - (f->rcv_nxt - f->pend_len),
	};
	u->fresh = false;
	f->pend_rare &= ~PEND_URGENT;
	slot_put(c, f->ctx);
	return true;
}

static noinline bool post_moved(struct fp_core *c, struct flow *f)
{
	struct xts_reply *r = slot_get(c, f->ctx);

	if (!r)
		return false;
	*r = (struct xts_reply){
		.type = XTS_REPLY_MOVED,
		.cookie = f->cookie,
	};
	slot_put(c, f->ctx);
	f->pend_rare &= ~PEND_MOVED;
	f->ctx = f->move_to;
	f->move_to = NULL;
	return true;
}

static inline bool post_recv(struct fp_core *c, struct flow *f)
{
	struct xts_reply *r = slot_get(c, f->ctx);

	if (unlikely(!r))
		return false;
	r->type = XTS_REPLY_RECV;
	r->flags = f->pend_flags;
	r->cookie = f->cookie;
	static_assert(offsetof(struct flow, pend_err) -
				      offsetof(struct flow, pend_off) ==
			      offsetof(struct xts_reply, err) -
				      offsetof(struct xts_reply, off),
		      "off, len, credits, err: in the reply's order");
	memcpy(&r->off, &f->pend_off, 4 * sizeof(r->off));
	f->pend_len = 0;
	f->pend_credits = 0;
	f->pend_flags = 0;
	f->pend_err = 0;
	slot_put(c, f->ctx);
	return true;
}

/* false: the ring is full. */
static inline bool post_all(struct fp_core *c, struct flow *f)
{
	if (unlikely(f->pend_rare & PEND_OFFLOADED) && !post_offloaded(c, f))
		return false;
	if (unlikely(f->pend_rare & PEND_GROWN) && !post_grown(c, f))
		return false;
	if (unlikely(f->pend_rare & PEND_URGENT) && !post_urgent(c, f))
		return false;
	if ((f->pend_len || f->pend_credits || f->pend_flags) &&
	    !post_recv(c, f))
		return false;
	return likely(!(f->pend_rare & PEND_MOVED)) || post_moved(c, f);
}

static void finish(struct fp_core *c, struct flow *f)
{
	if (f->state == FLOW_GONE)
		flow_free(&c->flows, f);
}

static noinline void block(struct fp_core *c, struct flow *f)
{
	struct app_ctx *a = f->ctx;

	if (!a->blocked && !a->relays)
		c->n_blocked++;
	c->left_over = true;
	f->blocked = true;
	f->blocked_next = a->blocked;
	a->blocked = f;
}

static noinline void drop(struct fp_core *c, struct flow *f)
{
	f->pend_len = 0;
	f->pend_credits = 0;
	f->pend_flags = 0;
	f->pend_rare = 0;
	f->move_to = NULL;
	finish(c, f);
}

void reply_flow(struct fp_core *c, struct flow *f)
{
	if (unlikely(f->blocked || f->state == FLOW_HOLD))
		return;
	if (unlikely(!f->ctx || f->ctx->offence)) {
		drop(c, f);
		return;
	}
	if (unlikely(!post_all(c, f))) {
		if (f->ctx->offence)
			drop(c, f);
		else
			block(c, f);
		return;
	}
	if (unlikely(f->state == FLOW_GONE))
		finish(c, f);
}

void reply_turn(struct fp_core *c)
{
	uint32_t i;

	for (i = 0; i < c->n_telling; i++) {
		struct flow *f = c->telling[i];

		f->telling = false;
		if (unlikely(f->state != FLOW_OPEN || !flow_has_reply(f)))
			continue;
		/* Nothing but data and credits, to a program that is there and
		 * reads. */
		if (likely(!f->blocked && !f->pend_rare && f->ctx &&
			   !f->ctx->offence && post_recv(c, f)))
			continue;
		reply_flow(c, f);
	}
	c->n_telling = 0;
	reply_publish(c);
}

/* ---- numbers ---------------------------------------------------------------
 */

static uint32_t ms_ago(uint64_t ns)
{
	return ns == UINT64_MAX ? UINT32_MAX : (uint32_t)(ns / 1000000);
}

static void info_convert(const struct flow *f, const struct fp_info *i,
			 struct xts_info *x)
{
	const struct flow_before *b = &f->ext->before;

	*x = (struct xts_info){
		.pacing_rate = i->pacing_rate,
		.delivery_rate = i->delivery_rate,
		.bytes_acked = b->bytes_acked + i->bytes_acked,
		.bytes_received = b->bytes_received + i->bytes_received,
		.bytes_sent = b->bytes_sent + i->bytes_sent,
		.bytes_retrans = b->bytes_retrans + i->bytes_retrans,
		.total_retrans = b->total_retrans + i->total_retrans,
		.delivered = b->delivered + i->delivered,
		.delivered_ce = b->delivered_ce + i->delivered_ce,
		.dsack_dups = b->dsack_dups + i->dsack_dups,
#define SAME(field) .field = i->field
		SAME(ca_state),
		SAME(retransmits),
		SAME(probes),
		SAME(backoff),
		SAME(rto),
		SAME(ato),
		SAME(snd_mss),
		SAME(rcv_mss),
		SAME(unacked),
		SAME(sacked),
		SAME(lost),
		SAME(retrans),
		SAME(rtt),
		SAME(rttvar),
		SAME(min_rtt),
		SAME(rcv_rtt),
		SAME(snd_ssthresh),
		SAME(snd_cwnd),
		SAME(reordering),
		SAME(rcv_space),
		SAME(rcv_ssthresh),
		SAME(snd_wnd),
		SAME(rcv_wnd),
		SAME(notsent_bytes),
		SAME(delivery_rate_app_limited),
		SAME(reord_seen),
		SAME(total_rto),
		SAME(total_rto_recoveries),
		SAME(total_rto_time),
#undef SAME
		.last_data_sent = ms_ago(i->ago_data_sent_ns),
		.last_data_recv = ms_ago(i->ago_data_rcvd_ns),
	};
}

void reply_info(struct fp_core *c, struct flow *f, struct app_ctx *a)
{
	struct xts_info x;
	struct fp_info i;
	uint32_t n;

	/* All parts or none. */
	if (!room_for(c, a, XTS_INFO_PARTS))
		return;
	flow_info_fill(f, c->now_ns, &i);
	info_convert(f, &i, &x);
	for (n = 0; n < XTS_INFO_PARTS; n++) {
		struct xts_reply *r = slot_get(c, a);

		r->type = XTS_REPLY_INFO;
		r->flags = n;
		r->cookie = f->cookie;
		memcpy((uint8_t *)r + offsetof(struct xts_reply, off),
		       (uint8_t *)&x + n * XTS_INFO_PART, XTS_INFO_PART);
		slot_put(c, a);
	}
}

/* ---- rings that were full
 * ---------------------------------------------------- */

void reply_unblock(struct fp_core *c, struct flow *f)
{
	struct flow **p;

	if (!f->blocked)
		return;
	for (p = &f->ctx->blocked; *p != f; p = &(*p)->blocked_next)
		;
	*p = f->blocked_next;
	f->blocked = false;
	if (!f->ctx->blocked && !f->ctx->relays)
		c->n_blocked--;
}

static bool relay_post(struct fp_core *c, struct app_ctx *a,
		       const struct xts_reply *reply)
{
	struct xts_reply *r = slot_get(c, a);

	if (!r)
		return false;
	*r = *reply;
	slot_put(c, a);
	return true;
}

void reply_relay(struct fp_core *c, struct app_ctx *a,
		 const struct xts_reply *reply)
{
	struct relay *n;

	if (a->offence)
		return;
	if (!a->relays && relay_post(c, a, reply))
		return;
	n = a->n_relays < RELAY_MAX && !a->offence ? malloc(sizeof(*n)) : NULL;
	if (!n) {
		app_offend(c, a, "replies are not read");
		return;
	}
	n->reply = *reply;
	n->next = NULL;
	if (!a->blocked && !a->relays)
		c->n_blocked++;
	c->left_over = true;
	if (a->relays)
		a->relays_tail->next = n;
	else
		a->relays = n;
	a->relays_tail = n;
	a->n_relays++;
}

static bool retry_relays(struct fp_core *c, struct app_ctx *a)
{
	struct relay *n;

	while ((n = a->relays)) {
		if (!a->offence && !relay_post(c, a, &n->reply) && !a->offence)
			return false;
		a->relays = n->next;
		a->n_relays--;
		free(n);
	}
	return true;
}

static bool retry_context(struct fp_core *c, struct app_ctx *a)
{
	uint32_t before = a->reply_producer;
	struct flow *f;

	if (retry_relays(c, a)) {
		while ((f = a->blocked)) {
			if (!a->offence && !post_all(c, f) && !a->offence)
				break;
			/* post_all() may have moved the flow elsewhere. */
			a->blocked = f->blocked_next;
			f->blocked = false;
			if (a->offence)
				drop(c, f);
			else
				finish(c, f);
		}
	}
	if (!a->relays && !a->blocked)
		c->n_blocked--;
	return a->reply_producer != before;
}

bool reply_retry(struct fp_core *c)
{
	struct app_ctx *a;
	bool moved = false;

	for (a = c->contexts; a; a = a->next) {
		if (a->relays || a->blocked)
			moved |= retry_context(c, a);
	}
	return moved;
}

/* ---- telling
 * ------------------------------------------------------------------ */

void reply_publish(struct fp_core *c)
{
	struct app_ctx *a;

	c->unpublished = false;
	for (a = c->notify; a; a = a->notify_next)
		__atomic_store_n(&a->area->reply_index.producer,
				 a->reply_producer, __ATOMIC_RELEASE);
}

static noinline void wake(struct fp_core *c, struct app_ctx *a, uint32_t asleep)
{
	uint64_t one = 1;

	a->woken = asleep;
	if (write(a->ctx->app_event_fd, &one, sizeof(one)) > 0)
		COUNT(c, app_wakeups);
}

static inline void wake_if_asleep(struct fp_core *c, struct app_ctx *a)
{
	uint32_t asleep =
		__atomic_load_n(&a->head->app_sleep, __ATOMIC_RELAXED);

	a->notify = false;
	if (unlikely((asleep & 1) && asleep != a->woken))
		wake(c, a, asleep);
	if (__atomic_load_n(&a->head->app_cpu, __ATOMIC_RELAXED) == c->cpu) {
		c->yield = true;
		c->yield_for = a;
	}
}

static noinline void wake_more(struct fp_core *c, struct app_ctx *a)
{
	struct app_ctx *next;

	for (; a; a = next) {
		next = a->notify_next;
		wake_if_asleep(c, a);
	}
}

void reply_wake(struct fp_core *c)
{
	struct app_ctx *a = c->notify;

	if (unlikely(c->unpublished))
		reply_publish(c);
	c->notify = NULL;
	/* Partner: the program, which makes app_sleep odd, fences and looks
	 * at its rings before it sleeps. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	wake_if_asleep(c, a);
	if (unlikely(a->notify_next != NULL))
		wake_more(c, a->notify_next);
}
