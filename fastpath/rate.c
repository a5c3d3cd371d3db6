/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rate.c - how fast data are delivered, and whether cwnd is what limits them
 *
 * Delivery rate: each record keeps how much had been delivered when it was
 * sent, and since when. An acknowledgment compares that with now for the newest
 * segment it delivers; the longer of the sending and the acknowledging
 * interval is the time it took (draft-cheng-iccrg-delivery-rate-estimation, as
 * Linux does it). A sample taken while the program gave too little to send is
 * marked as limited by it.
 *
 * cwnd: whether it was used up is judged once a window, by the strongest
 * signal in it (Linux's tcp_cwnd_validate(), in the spirit of RFC 7661). What
 * it allowed and nobody used for an RTO it loses again by half.
 *
 * State: that part of struct loss, ext->delivered. Core thread.
 */
#include "fastpath/sender.h"

void rate_sent(struct fp_core *c, struct flow *f, struct sent *r)
{
	struct loss *l = &f->ext->loss;

	r->sent_us = time_us(c->now_ns);
	r->delivered = (uint32_t)f->ext->delivered;
	r->delivered_us = l->delivered_us;
	r->first_us = l->first_us;
	r->flags &= (uint8_t)~SENT_APP_LIMITED;
	if (l->app_limited || f->ext->cc_low_rate)
		r->flags |= SENT_APP_LIMITED;
}

void rate_delivered(struct flow *f, struct ack *a, const struct sent *r)
{
	uint32_t end = r->seq + r->len;

	if (a->rate &&
	    !sent_after(r->sent_us, end, a->rate_sent_us, a->rate_end))
		return;
	a->rate = true;
	a->rate_sent_us = r->sent_us;
	a->rate_end = end;
	a->rate_delivered = r->delivered;
	a->rate_delivered_us = r->delivered_us;
	a->rate_app_limited = r->flags & SENT_APP_LIMITED;
	a->rate_send_us = r->sent_us - r->first_us;
	f->ext->loss.first_us = r->sent_us;
}

/* The best of late, for TCP_INFO. */
static void rate_keep(struct loss *l, const struct cc_sample *s)
{
	if (s->app_limited && l->rate_us &&
	    (uint64_t)s->rate_bytes * l->rate_us <
		    (uint64_t)l->rate_bytes * s->rate_us)
		return;
	l->rate_bytes = s->rate_bytes;
	l->rate_us = s->rate_us;
	l->rate_app_limited = s->app_limited;
}

void rate_sample(struct flow *f, struct ack *a)
{
	struct flow_ext *x = f->ext;
	struct cc_sample *s = &a->sample;
	uint32_t us, min = loss_min_rtt(&x->loss);

	if (x->loss.app_limited && x->delivered > x->loss.app_limited)
		x->loss.app_limited = 0;
	if (a->delivered)
		x->loss.delivered_us = a->now_us;
	s->total_delivered = s->prior_delivered = x->delivered;
	if (!a->rate || (a->flags & ACK_RENEGE))
		return;
	s->app_limited = a->rate_app_limited;
	s->prior_delivered -=
		(uint32_t)((uint32_t)x->delivered - a->rate_delivered);
	us = a->now_us - a->rate_delivered_us;
	if (us < a->rate_send_us)
		us = a->rate_send_us;
	/* Shorter than a round trip: segments were answered in a heap. */
	if (!us || (min != UINT32_MAX && us < min))
		return;
	s->rate_bytes = (uint32_t)(s->total_delivered - s->prior_delivered);
	s->rate_us = us;
	rate_keep(&x->loss, s);
}

bool rate_cwnd_limited(const struct flow *f)
{
	const struct loss *l = &f->ext->loss;

	if (l->cwnd_limited)
		return true;
	/* In slow start cwnd may grow to twice what is in use. */
	return f->cwnd < f->ssthresh && f->cwnd / 2 < l->max_out;
}

/* What nobody used for an RTO is no longer known to fit. */
static void cwnd_unused(struct flow *f)
{
	struct loss *l = &f->ext->loss;
	uint32_t used = INIT_CWND_SEGS * f->snd_mss;

	if (l->state == CC_OPEN && flow_unsent(f) == 0) {
		if (used < l->cwnd_used)
			used = l->cwnd_used;
		if (used < f->cwnd) {
			f->ssthresh = cwnd_ssthresh_now(f);
			f->cwnd = (f->cwnd + used) / 2;
		}
	}
	l->cwnd_used = 0;
}

void rate_validate(struct fp_core *c, struct flow *f)
{
	struct loss *l = &f->ext->loss;
	uint32_t out = f->snd_nxt - f->snd_una;
	bool limited = l->cwnd_hit || loss_pipe(f) + f->snd_mss > f->cwnd;

	l->cwnd_hit = false;
	if (seq_geq(f->snd_una, l->usage_seq) || limited ||
	    (!l->cwnd_limited && out > l->max_out)) {
		l->cwnd_limited = limited;
		l->max_out = out;
		l->usage_seq = f->snd_nxt;
	}
	if (rate_cwnd_limited(f)) {
		l->cwnd_used = 0;
		l->cwnd_ns = c->now_ns;
		return;
	}
	if (out > l->cwnd_used)
		l->cwnd_used = out;
	if (c->now_ns - l->cwnd_ns >= f->rto_us * 1000ull && !f->cc->control) {
		cwnd_unused(f);
		l->cwnd_ns = c->now_ns;
	}
}
