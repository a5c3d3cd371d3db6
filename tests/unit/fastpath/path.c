/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/unit/fastpath/path.h"

#include <stdlib.h>
#include <string.h>

#define DUP_THRESH 3
#define RTO_MIN_NS (200 * PATH_MS)
#define RTO_FIRST_NS (10 * PATH_S)

/* ---- the link ---- */

static uint32_t link_random(struct link *l)
{
	l->seed = l->seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(l->seed >> 33);
}

uint64_t link_queue(const struct link *l, uint64_t now_ns)
{
	if (l->free_ns <= now_ns)
		return 0;
	return (uint64_t)((double)(l->free_ns - now_ns) * (double)l->rate /
			  1e9);
}

static bool link_police(struct link *l, uint64_t now_ns, uint32_t len)
{
	double more;

	if (!l->police_rate)
		return true;
	more = (double)(now_ns - l->tokens_ns) * (double)l->police_rate / 1e9;
	if (more >= 1) {
		l->tokens += (uint64_t)more;
		l->tokens_ns = now_ns;
	}
	if (l->tokens > l->police_depth)
		l->tokens = l->police_depth;
	if (l->tokens < len)
		return false;
	l->tokens -= len;
	return true;
}

/* When the last bit is through; UINT64_MAX: dropped. */
static uint64_t link_send(struct link *l, uint64_t now_ns, uint32_t len,
			  bool *ce)
{
	uint64_t queue = link_queue(l, now_ns);

	*ce = l->mark && queue >= l->mark;
	if (queue + len > l->limit || !link_police(l, now_ns, len) ||
	    (l->loss && link_random(l) % 10000 < l->loss)) {
		l->drops++;
		return UINT64_MAX;
	}
	if (l->free_ns < now_ns)
		l->free_ns = now_ns;
	l->free_ns += (uint64_t)((double)len * 1e9 / (double)l->rate);
	return l->free_ns;
}

/* ---- the sender ---- */

static struct path_seg *seg(struct path *p, uint64_t n)
{
	return &p->segs[n & p->mask];
}

static uint64_t rto_ns(const struct path *p)
{
	uint64_t ns = (uint64_t)p->f.srtt8_us / 8 * 1000 * 3;

	if (!ns)
		return RTO_FIRST_NS;
	return ns < RTO_MIN_NS ? RTO_MIN_NS : ns;
}

static void transmit(struct path *p, uint64_t n)
{
	struct path_seg *s = seg(p, n);

	if (!p->flight) {
		p->first_ns = p->now_ns;
		p->delivered_ns = p->now_ns;
	}
	s->sent_ns = p->now_ns;
	s->prior_delivered = p->delivered;
	s->prior_ns = p->delivered_ns;
	s->first_ns = p->first_ns;
	s->order = ++p->order;
	p->sent[s->order & p->mask] = n;
	s->app_limited = p->app_limited > p->delivered || p->ext.cc_low_rate;
	s->lost = false;
	s->ack_ns = link_send(p->link, p->now_ns, p->f.snd_mss, &s->ce);
	if (s->ack_ns != UINT64_MAX) {
		s->ack_ns += p->rtt_ns;
		if (p->heap_ns)
			s->ack_ns = (s->ack_ns + p->heap_ns - 1) / p->heap_ns *
				    p->heap_ns;
		p->wire[p->wire_tail++ & p->mask] = n;
	}
	p->flight++;
	if (p->flight * p->f.snd_mss > p->flight_max)
		p->flight_max = (uint32_t)(p->flight * p->f.snd_mss);
	if (!p->rto_at)
		p->rto_at = p->now_ns + rto_ns(p);
	if (p->ext.pacing_rate) {
		if (p->pace_ns < p->now_ns)
			p->pace_ns = p->now_ns;
		p->pace_ns += (uint64_t)(p->f.snd_mss * 1e9 /
					 (double)p->ext.pacing_rate);
	}
}

static void app_earn(struct path *p)
{
	if (p->app_rate > 1)
		p->app_credit += (double)(p->now_ns - p->app_ns) *
				 (double)p->app_rate / 1e9;
	p->app_ns = p->now_ns;
}

static bool app_has_data(const struct path *p)
{
	return !p->app_rate || p->app_credit >= p->f.snd_mss;
}

/* The sending limit in segments: a segment that fits in part waits. */
static bool window_open(const struct path *p)
{
	return ((p->flight + 1) * p->f.snd_mss <= p->f.cwnd || !p->flight) &&
	       p->nxt - p->una <= p->mask;
}

static void send_some(struct path *p)
{
	for (;;) {
		if (!window_open(p)) {
			p->cwnd_limited = true;
			return;
		}
		if (p->ext.pacing_rate && p->pace_ns > p->now_ns)
			return;
		if (p->lost_out) {
			while (!seg(p, p->lost_from)->lost)
				p->lost_from++;
			p->lost_out--;
			seg(p, p->lost_from)->sent_again = true;
			transmit(p, p->lost_from);
			continue;
		}
		if (!app_has_data(p)) {
			p->app_limited =
				p->delivered + p->flight * p->f.snd_mss;
			if (!p->app_limited)
				p->app_limited = 1;
			return;
		}
		if (!p->flight && p->f.cc->event)
			p->f.cc->event(&p->f, CC_EV_TX_START, p->now_ns);
		memset(seg(p, p->nxt), 0, sizeof(*p->segs));
		if (p->app_rate)
			p->app_credit -= p->f.snd_mss;
		transmit(p, p->nxt++);
		p->f.snd_nxt = (uint32_t)p->nxt * p->f.snd_mss;
		/* Linux: half of cwnd in flight is enough in slow start. */
		if (p->f.cwnd < p->f.ssthresh &&
		    2 * p->flight * p->f.snd_mss > p->f.cwnd)
			p->cwnd_limited = true;
	}
}

static void mark_lost(struct path *p, uint64_t n)
{
	seg(p, n)->lost = true;
	p->flight--;
	p->lost_out++;
	p->lost_bytes += p->f.snd_mss;
	if (n < p->lost_from)
		p->lost_from = n;
}

/* Sent before something that arrived, by DUP_THRESH or more. */
static void find_losses(struct path *p)
{
	struct path_seg *s;
	uint64_t n;

	while (p->judged + DUP_THRESH < p->high_order) {
		n = p->sent[++p->judged & p->mask];
		s = seg(p, n);
		if (n >= p->una && s->order == p->judged && !s->delivered &&
		    !s->lost)
			mark_lost(p, n);
	}
}

static void enter(struct path *p, enum cc_state state, bool ece)
{
	struct flow *f = &p->f;

	f->ssthresh = ece ? cc_ssthresh_ece(f, p->now_ns)
			  : f->cc->ssthresh(f, p->now_ns);
	p->state = state;
	p->recover = p->nxt;
	p->reductions++;
	if (!f->cc->control)
		f->cwnd = f->ssthresh;
	f->cwnd_acked = 0;
	if (f->cc->event)
		f->cc->event(f, CC_EV_RECOVERY, p->now_ns);
}

static void judge_state(struct path *p, bool ece)
{
	struct flow *f = &p->f;

	if (p->state != CC_OPEN && p->una >= p->recover) {
		if (p->state != CC_LOSS && !f->cc->control)
			f->cwnd = f->ssthresh;
		p->state = CC_OPEN;
		if (f->cc->event)
			f->cc->event(f, CC_EV_RECOVERED, p->now_ns);
	}
	find_losses(p);
	if (p->lost_out && p->state < CC_RECOVERY)
		enter(p, CC_RECOVERY, false);
	else if (ece && p->state == CC_OPEN && !f->cc->control)
		enter(p, CC_CWR, true);
}

static void time_out(struct path *p)
{
	uint64_t n;

	p->timeouts++;
	p->f.ssthresh = p->f.cc->ssthresh(&p->f, p->now_ns);
	for (n = p->una; n < p->nxt; n++) {
		if (!seg(p, n)->delivered && !seg(p, n)->lost)
			mark_lost(p, n);
	}
	p->wire_head = p->wire_tail; /* what comes late is not looked at */
	p->f.cwnd = p->f.snd_mss;
	p->f.cwnd_acked = 0;
	p->state = CC_LOSS;
	p->recover = p->nxt;
	p->rto_at = p->now_ns + 2 * rto_ns(p);
	if (p->f.cc->event)
		p->f.cc->event(&p->f, CC_EV_RTO, p->now_ns);
}

static void measure_rate(struct path *p, const struct path_seg *s,
			 struct cc_sample *c)
{
	uint64_t snd = s->sent_ns - s->first_ns, ack = p->now_ns - s->prior_ns;

	p->first_ns = s->sent_ns;
	c->prior_delivered = s->prior_delivered;
	c->app_limited = s->app_limited;
	c->rate_bytes = (uint32_t)(p->delivered - s->prior_delivered);
	c->rate_us = (uint32_t)((snd > ack ? snd : ack) / 1000);
}

static void measure_rtt(struct path *p, const struct path_seg *s,
			struct cc_sample *c)
{
	if (s->sent_again)
		return;
	c->rtt_us = (uint32_t)((p->now_ns - s->sent_ns) / 1000);
	c->rtt_us += !c->rtt_us;
	p->rtt_us = c->rtt_us;
	if (c->rtt_us > p->rtt_max_us)
		p->rtt_max_us = c->rtt_us;
	if (p->f.srtt8_us)
		p->f.srtt8_us += c->rtt_us - p->f.srtt8_us / 8;
	else
		p->f.srtt8_us = 8 * c->rtt_us;
}

static void tell(struct path *p, struct cc_sample *c)
{
	const struct cc_ops *cc = p->f.cc;

	c->state = p->state;
	c->lost = p->lost_bytes;
	p->lost_bytes = 0;
	c->flight_after = (uint32_t)(p->flight * p->f.snd_mss);
	c->cwnd_limited = p->cwnd_limited;
	if (cc->control)
		cc->control(&p->f, c);
	else if (c->acked && c->cwnd_limited &&
		 (p->state == CC_OPEN || p->state == CC_LOSS))
		cc->grow(&p->f, c);
	p->cwnd_limited = false;
}

/* All that arrive at this moment are one ACK. */
static void receive(struct path *p)
{
	struct cc_sample c = {.now_ns = p->now_ns};
	uint64_t una = p->una;

	c.flight = (uint32_t)(p->flight * p->f.snd_mss);
	while (p->wire_head < p->wire_tail &&
	       seg(p, p->wire[p->wire_head & p->mask])->ack_ns <= p->now_ns) {
		uint64_t n = p->wire[p->wire_head++ & p->mask];
		struct path_seg *s = seg(p, n);

		if (n < p->una || s->delivered)
			continue;
		s->delivered = true;
		if (s->lost)
			p->lost_out--;
		else
			p->flight--;
		s->lost = false;
		p->delivered += p->f.snd_mss;
		p->delivered_ns = p->now_ns;
		c.delivered += p->f.snd_mss;
		c.ece |= s->ce;
		p->marked += s->ce;
		if (s->order > p->high_order)
			p->high_order = s->order;
		measure_rate(p, s, &c);
		measure_rtt(p, s, &c);
		while (p->una < p->nxt && seg(p, p->una)->delivered)
			p->una++;
	}
	if (!c.delivered)
		return;
	if (p->lost_from < p->una)
		p->lost_from = p->una;
	p->f.snd_una = (uint32_t)p->una * p->f.snd_mss;
	c.acked = (uint32_t)(p->una - una) * p->f.snd_mss;
	c.total_delivered = p->delivered;
	p->acks++;
	p->rto_at = p->una < p->nxt ? p->now_ns + rto_ns(p) : 0;
	if (p->f.cc->acked)
		p->f.cc->acked(&p->f, &c);
	judge_state(p, c.ece);
	tell(p, &c);
	if (p->watch)
		p->watch(p, &c);
}

/* ---- time ---- */

static uint64_t sooner(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t next_ns(struct path *p)
{
	uint64_t at = p->rto_at ? p->rto_at : UINT64_MAX;

	if (p->wire_head < p->wire_tail)
		at = sooner(at,
			    seg(p, p->wire[p->wire_head & p->mask])->ack_ns);
	if (window_open(p) && (app_has_data(p) || p->lost_out))
		at = sooner(at, p->pace_ns);
	else if (window_open(p) && p->app_rate > 1)
		at = sooner(at,
			    p->app_ns + (uint64_t)((p->f.snd_mss + 1 -
						    p->app_credit) *
						   1e9 / (double)p->app_rate));
	return at > p->now_ns ? at : p->now_ns;
}

static void turn(struct path *p)
{
	app_earn(p);
	receive(p);
	if (p->rto_at && p->rto_at <= p->now_ns)
		time_out(p);
	send_some(p);
}

void path_run(struct path *const *p, unsigned int n, uint64_t until_ns)
{
	uint64_t at, t;
	unsigned int i, who;

	for (;;) {
		at = UINT64_MAX;
		who = 0;
		for (i = 0; i < n; i++) {
			t = next_ns(p[i]);
			if (t < at) {
				at = t;
				who = i;
			}
		}
		if (at > until_ns)
			break;
		p[who]->now_ns = at;
		turn(p[who]);
	}
	for (i = 0; i < n; i++) {
		p[i]->now_ns = until_ns;
		app_earn(p[i]);
	}
}

void path_go(struct path *p, uint64_t ns)
{
	path_run(&p, 1, p->now_ns + ns);
}

uint64_t path_goodput(struct path *p, uint64_t ns)
{
	uint64_t before = p->delivered;

	path_go(p, ns);
	return (uint64_t)((double)(p->delivered - before) * 1e9 / (double)ns);
}

double path_share(struct path *const *p, uint64_t join_ns, uint64_t from_ns,
		  uint64_t until_ns)
{
	uint64_t a, b;

	path_run(p, 1, join_ns);
	p[1]->now_ns = join_ns;
	path_run(p, 2, from_ns);
	a = p[0]->delivered;
	b = p[1]->delivered;
	path_run(p, 2, until_ns);
	return (double)(p[0]->delivered - a) / (double)(p[1]->delivered - b);
}

/* ---- making ---- */

static struct path *make(const struct cc_ops *ops, uint32_t mss, uint32_t segs)
{
	struct path *p = aligned_alloc(XTS_CACHELINE, sizeof(*p));

	assert_non_null(p);
	memset(p, 0, sizeof(*p));
	p->now_ns = PATH_S;
	p->app_ns = p->now_ns;
	p->f.ext = &p->ext;
	p->f.snd_mss = mss;
	p->f.cwnd = segs * mss;
	p->f.ssthresh = CC_CWND_MAX;
	cc_set(&p->f, ops, p->now_ns);
	return p;
}

struct path *path_bare(const struct cc_ops *ops, uint32_t segs)
{
	return make(ops, PATH_MSS, segs);
}

struct path *path_new(struct link *l, const struct cc_ops *ops, uint32_t mss,
		      uint64_t rtt_ns)
{
	struct path *p = make(ops, mss, 10);
	uint64_t bdp = l->rate / 1000 * (rtt_ns / 1000) / 1000;
	uint64_t segs = 4 * (bdp + l->limit) / mss + 4096;

	p->link = l;
	p->rtt_ns = rtt_ns;
	for (p->mask = 1; p->mask < segs; p->mask = 2 * p->mask + 1)
		;
	p->segs = calloc(p->mask + 1, sizeof(*p->segs));
	p->wire = calloc(p->mask + 1, sizeof(*p->wire));
	assert_non_null(p->segs);
	p->sent = calloc(p->mask + 1, sizeof(*p->sent));
	assert_non_null(p->wire);
	assert_non_null(p->sent);
	return p;
}

void path_free(struct path *p)
{
	free(p->segs);
	free(p->wire);
	free(p->sent);
	free(p);
}

void path_ack(struct path *p, uint64_t now_ns, uint32_t bytes, uint32_t rtt_us)
{
	struct cc_sample s = {
		.now_ns = now_ns,
		.acked = bytes,
		.delivered = bytes,
		.flight = p->f.cwnd,
		.flight_after = p->f.cwnd - bytes,
		.rtt_us = rtt_us,
		.cwnd_limited = true,
	};

	p->f.snd_una += bytes;
	p->f.snd_nxt = p->f.snd_una + p->f.cwnd;
	if (p->f.cc->acked)
		p->f.cc->acked(&p->f, &s);
	p->f.cc->grow(&p->f, &s);
}
