/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tx.c - segments and acknowledgments out
 *
 * Every frame starts as a copy of the flow's header template, whose constant
 * parts are summed already; a segment patches lengths, numbers and time stamps
 * and sums the payload while copying it out of the program's buffer, which is
 * read once (the program may be writing it).
 *
 * tx_turn() runs once a turn over the flows that something happened to: it
 * sends what cwnd, the peer's window and TX_FLOW_BURST allow; every segment
 * carries the acknowledgment. If none left, it decides about a pure ACK (RFC
 * 1122 4.2.3.2, RFC 5681 4.2): at once for two segments' worth, when the flow
 * isn't one of requests and answers, or when the window opened much; else in 40
 * ms. ACKs of segments out of order don't wait for the turn's end, see
 * recovery.c.
 *
 * While data lie behind a gap every segment with room for it, ACKs always,
 * reports them (SACK); new data leave room for that. Hot segments carry no
 * option but timestamps: a flow with something to report isn't plain.
 *
 * Read first: RFC 9293 3.8.6 (windows, silly window syndrome), RFC 7323 3.2,
 * RFC 2018 section 4, RFC 3168 6.1.
 * State: the sender's half of the flow. A turn without a free frame leaves the
 * flow listed; the next turn tries again.
 */
#include "fastpath/sender.h"

#define OFF_SEQ 4
#define OFF_ACK 8
#define OFF_DOFF 12
#define OFF_FLAGS 13
#define OFF_WIN 14
#define OFF_SUM 16
#define OFF_URG 18
#define OFF_TSVAL 24
#define OFF_TSECR 28

#define OPTIONS_MAX 40u
#define SACK_HEAD 4u /* NOP, NOP, kind, length */
/* Segments shorter than this are for data alone. */
#define SACK_MSS_MIN 200u

#define ECN_MASK 3 /* of the traffic class, RFC 3168 section 5 */
#define ECT_0 2

#define CORK_NS 200000000ull /* a partial segment waits no longer */
#define PACE_CREDIT_NS (2ull << TIMER_TICK_SHIFT) /* lateness made up for */

static void put16(uint8_t *p, uint16_t be)
{
	memcpy(p, &be, 2);
}

static void put32(uint8_t *p, uint32_t be)
{
	memcpy(p, &be, 4);
}

/* ---- the template ----------------------------------------------------------
 */

/* Data are ECT(0) when ECN was negotiated; tx_not_ect() is for the rest. */
static uint8_t template_tos(const struct flow_params *p)
{
	return (uint8_t)((p->tos & ~ECN_MASK) | (p->ecn ? ECT_0 : 0));
}

static void template_ip4(struct flow *f, const struct flow_params *p)
{
	struct iphdr *ip = (struct iphdr *)(f->hdr + FP_L2_MAX);

	f->hdr[12] = ETHERTYPE_IP >> 8;
	f->hdr[13] = ETHERTYPE_IP & 0xff;
	f->l4 = FP_L2_MAX + sizeof(*ip);
	ip->version = 4;
	ip->ihl = 5;
	ip->tos = template_tos(p);
	ip->frag_off = htons(IP_DF);
	ip->ttl = p->ttl;
	ip->protocol = IPPROTO_TCP;
	memcpy(&ip->saddr, p->key.local, 4);
	memcpy(&ip->daddr, p->key.peer, 4);
	f->ip_sum = csum_fold33(csum_add(ip, sizeof(*ip), 0)) % 0xffff;
	f->csum_base = csum_fold33(csum_add(&ip->saddr, 8, 0)) % 0xffff;
}

static void template_ip6(struct flow *f, const struct flow_params *p)
{
	struct ip6_hdr *ip = (struct ip6_hdr *)(f->hdr + FP_L2_MAX);

	f->hdr[12] = ETHERTYPE_IPV6 >> 8;
	f->hdr[13] = ETHERTYPE_IPV6 & 0xff;
	f->l4 = FP_L2_MAX + sizeof(*ip);
	ip->ip6_flow = htonl(6u << 28 | (uint32_t)template_tos(p) << 20 |
			     (p->flow_label & 0xfffff));
	ip->ip6_nxt = IPPROTO_TCP;
	ip->ip6_hlim = p->ttl;
	memcpy(&ip->ip6_src, p->key.local, 16);
	memcpy(&ip->ip6_dst, p->key.peer, 16);
	f->csum_base = csum_fold33(csum_add(&ip->ip6_src, 32, 0)) % 0xffff;
}

void flow_template_init(struct flow *f, const struct flow_params *p)
{
	struct tcphdr *th;
	uint64_t sum;

	memcpy(f->hdr, p->l2, FP_L2_MAX);
	if (p->key.family == AF_INET)
		template_ip4(f, p);
	else
		template_ip6(f, p);
	/* With the IP header's length field this is the pseudo header's sum:
	 * IPv4's counts its header too. */
	f->csum_base += htons(IPPROTO_TCP);
	if (p->key.family == AF_INET)
		f->csum_base += 0xffff - htons(sizeof(struct iphdr));
	th = (struct tcphdr *)(f->hdr + f->l4);
	th->source = p->key.lport;
	th->dest = p->key.pport;
	th->doff = p->timestamps ? 8 : 5;
	th->ack = 1;
	f->hdr_len = f->l4 + th->doff * 4;
	if (p->timestamps)
		put32(f->hdr + f->l4 + 20, htonl(0x0101080a));
	sum = csum_add(th, f->hdr_len - f->l4, f->csum_base);
	f->tcp_sum = csum_fold33(sum) % 0xffff;
}

/* ---- one segment ------------------------------------------------------------
 */

/* The window to advertise, shifted. The right edge that we honour never moves
 * back; what is advertised may fall short of it by less than one unit. */
static inline uint32_t tx_window(struct flow *f)
{
	uint32_t room = flow_rx_free(f), s = f->rcv_wscale, w;
	uint32_t old = flow_rcv_edge(f) - f->rcv_nxt;

	/* The usual case: the program has read everything. */
	if (likely(room == f->rx_size && old <= f->wnd_max)) {
		f->rcv_wup = f->rcv_nxt;
		flow_set(f, rcv_wnd, f->wnd_max);
		return f->wnd_field;
	}
	/* RFC 9293 3.8.6.2.2: the right edge stays until it can move far. */
	if (room < old + f->sws_min)
		room = old;
	w = room >> s;
	if (unlikely(w > 0xffff))
		w = 0xffff;
	f->rcv_wup = f->rcv_nxt;
	if ((w << s) >= old) {
		flow_set(f, rcv_wnd, w << s);
		return w;
	}
	flow_set(f, rcv_wnd, old);
	w = old >> s;
	return w > 0xffff ? 0xffff : w;
}

/* What a segment has beside the template's options. */
struct options {
	uint32_t len; /* a multiple of 4 */
	uint64_t sum;
	uint8_t bytes[OPTIONS_MAX];
};

/*
 * Write a segment of @len bytes from snd_una + @off of the transmit buffer
 * into @q. @seq is its sequence number. It carries the acknowledgment, so
 * whatever waited to be acknowledged no longer does. @o: more options, NULL:
 * none. @hdr_len, @v6 and @ts are the flow's; the compiler knows them where it
 * matters.
 */
static inline __attribute__((always_inline)) void
tx_write(struct fp_core *c, struct flow *f, struct queue_frame *q, uint32_t seq,
	 uint32_t off, uint32_t len, uint8_t flags, const struct options *o,
	 uint32_t hdr_len, bool v6, bool ts)
{
	uint32_t l4 = FP_L2_MAX +
		      (v6 ? sizeof(struct ip6_hdr) : sizeof(struct iphdr));
	uint32_t payload = hdr_len + (o ? o->len : 0);
	uint16_t ip_len = htons(payload + len - (v6 ? l4 : FP_L2_MAX));
	uint32_t ack = htonl(f->rcv_nxt + f->rcv_fin), tsval, tsecr;
	uint8_t *p = q->data, *th = p + l4;
	uint16_t win = htons(tx_window(f));
	uint64_t sum = 0, hdr_sum;

	seq = htonl(seq);
	memcpy(p, f->hdr, hdr_len);
	if (len)
		sum = csum_copy_from(p + payload, f->tx_buf, f->tx_size,
				     (f->tx_pos + off) & (f->tx_size - 1), len);
	if (v6) {
		put16(p + FP_L2_MAX + 4, ip_len);
	} else {
		put16(p + FP_L2_MAX + 2, ip_len);
		put16(p + FP_L2_MAX + 10, csum_finish32(f->ip_sum + ip_len));
	}
	put32(th + OFF_SEQ, seq);
	put32(th + OFF_ACK, ack);
	th[OFF_FLAGS] = flags;
	put16(th + OFF_WIN, win);
	/* ACK is in the template's sum. */
	hdr_sum = (uint64_t)f->tcp_sum + ip_len + htons(flags & ~SEG_FLAG_ACK) +
		  seq + ack + win;
	if (ts) {
		tsval = htonl(c->now_ms + f->ts_offset);
		tsecr = htonl(f->ts_recent);
		put32(th + OFF_TSVAL, tsval);
		put32(th + OFF_TSECR, tsecr);
		hdr_sum += (uint64_t)tsval + tsecr;
	}
	if (o) {
		/* The data offset counts words in its upper half byte. */
		th[OFF_DOFF] += o->len << 2;
		memcpy(p + hdr_len, o->bytes, o->len);
		hdr_sum += o->sum + htons(o->len << 10);
	}
	put16(th + OFF_SUM, csum_finish(csum_add64(sum, hdr_sum)));
	q->len = payload + len;
	f->ack_at = 0;
	f->ack_now = false;
	f->consumed = false;
}

/* Blocks of a SACK option that has @room bytes. */
static uint32_t sack_blocks(const struct flow *f, uint32_t room)
{
	uint32_t ts = f->timestamps ? TCPOLEN_TSTAMP_APPA : 0;

	if (room > OPTIONS_MAX - ts)
		room = OPTIONS_MAX - ts;
	return room < SACK_HEAD
		       ? 0
		       : (room - SACK_HEAD) / sizeof(struct sack_block);
}

/* Payload of a full segment: with what is to be reported, all together keep to
 * the MSS. */
static uint32_t tx_mss(const struct flow *f)
{
	const struct reassembly *r = &f->ext->ooo;
	uint32_t n = r->n + r->duplicate, most;

	if (likely(!n) || !f->sack || f->snd_mss < SACK_MSS_MIN)
		return f->snd_mss;
	most = sack_blocks(f, OPTIONS_MAX);
	return f->snd_mss - SACK_HEAD -
	       (n < most ? n : most) * (uint32_t)sizeof(struct sack_block);
}

/* SACK blocks, as many as there are and @room bytes allow. */
static void tx_report(struct flow *f, struct options *o, uint32_t room)
{
	uint32_t most = sack_blocks(f, room), n, i;
	struct sack_block b[SEG_SACK_MAX];
	uint8_t *p;

	o->len = 0;
	if (!most)
		return;
	n = reassembly_report(&f->ext->ooo, b, most);
	o->len = SACK_HEAD + n * (uint32_t)sizeof(*b);
	o->bytes[0] = o->bytes[1] = TCPOPT_NOP;
	o->bytes[2] = TCPOPT_SACK;
	o->bytes[3] = o->len - 2;
	for (i = 0, p = o->bytes + SACK_HEAD; i < n; i++, p += sizeof(*b)) {
		put32(p, htonl(b[i].start));
		put32(p + 4, htonl(b[i].end));
	}
	o->sum = csum_add(o->bytes, o->len, 0);
	/* A duplicate is reported once. */
	if (f->ext->ooo.duplicate) {
		f->ext->ooo.duplicate = false;
		flow_judge(f);
	}
}

/* The URG bit is in the sum already, the pointer was 0. */
static noinline void tx_set_urgent(const struct flow *f, uint8_t *frame,
				   uint16_t pointer)
{
	uint8_t *th = frame + f->l4;
	uint16_t be;

	put16(th + OFF_URG, htons(pointer));
	memcpy(&be, th + OFF_SUM, 2);
	put16(th + OFF_SUM,
	      csum_finish((uint64_t)(uint16_t)~be + htons(pointer)));
}

static noinline void tx_build(struct fp_core *c, struct flow *f,
			      struct queue_frame *q, uint32_t seq, uint32_t off,
			      uint32_t len, uint8_t flags)
{
	const struct reassembly *r = &f->ext->ooo;
	bool v6 = f->key.family == AF_INET6;
	uint32_t room = q->len - f->hdr_len;
	struct options o = {0};
	uint16_t urgent = urgent_pointer(f, seq);

	if (room > f->snd_mss)
		room = f->snd_mss;
	if (f->sack && (r->n || r->duplicate) && len < room)
		tx_report(f, &o, room - len);
	if (f->ece)
		flags |= SEG_FLAG_ECE;
	if (unlikely(urgent))
		flags |= SEG_FLAG_URG;
	tx_write(c, f, q, seq, off, len, flags, o.len ? &o : NULL, f->hdr_len,
		 v6, f->timestamps);
	if (unlikely(urgent))
		tx_set_urgent(f, q->data, urgent);
}

/* Retransmissions and ACKs are not ECT (RFC 3168 6.1.4, 6.1.5), but for an
 * algorithm that wants to know of each mark. */
static void tx_not_ect(const struct flow *f, struct queue_frame *q)
{
	uint8_t *ip = q->data + FP_L2_MAX;
	uint32_t sum;
	uint16_t be;

	if (likely(!f->ecn) || f->cc->precise_ecn)
		return;
	if (f->key.family == AF_INET6) {
		ip[1] &= (uint8_t) ~(ECN_MASK << 4);
		return;
	}
	ip[1] &= (uint8_t)~ECN_MASK;
	/* The header's sum is less by ECT_0, its complement more. */
	memcpy(&be, ip + 10, 2);
	sum = ntohs(be) + (uint32_t)ECT_0;
	put16(ip + 10, htons((uint16_t)(sum + (sum >> 16))));
}

static inline void tx_submit(struct fp_core *c, const struct queue_frame *q)
{
	c->q->ops->tx_submit(c->q, q);
	c->q->to_kick = true;
}

static inline bool tx_frame(struct fp_core *c, struct queue_frame *q)
{
	if (likely(c->q->ops->tx_alloc(c->q, q)))
		return true;
	COUNT(c, tx_no_frame);
	c->tx_starved = true;
	return false;
}

noinline bool tx_ack(struct fp_core *c, struct flow *f)
{
	struct queue_frame q;

	if (!tx_frame(c, &q))
		return false;
	tx_build(c, f, &q, f->snd_nxt + f->snd_fin, 0, 0, SEG_FLAG_ACK);
	tx_not_ect(f, &q);
	tx_submit(c, &q);
	COUNT(c, tx_acks);
	return true;
}

static bool tx_probe_at(struct fp_core *c, struct flow *f, uint32_t seq)
{
	struct queue_frame q;

	if (!tx_frame(c, &q))
		return false;
	tx_build(c, f, &q, seq, 0, 0, SEG_FLAG_ACK);
	tx_not_ect(f, &q);
	tx_submit(c, &q);
	COUNT(c, tx_probes);
	return true;
}

/* An old segment's urgent pointer need not count: one more, as Linux. */
bool tx_probe(struct fp_core *c, struct flow *f)
{
	if (urgent_pointer(f, f->snd_una))
		tx_probe_at(c, f, f->snd_una);
	return tx_probe_at(c, f, f->snd_una - 1);
}

/* ---- data ------------------------------------------------------------------
 */

bool tx_new(struct fp_core *c, struct flow *f, uint32_t len)
{
	struct loss *l = &f->ext->loss;
	uint8_t flags = SEG_FLAG_ACK;
	struct queue_frame q;

	if (!tx_frame(c, &q))
		return false;
	if (q.len < f->hdr_len + len) /* frames are smaller than MSS */
		len = q.len - f->hdr_len;
	if (f->snd_una == f->snd_nxt && f->cc->event)
		f->cc->event(f, CC_EV_TX_START, c->now_ns);
	if (!loss_sent(c, f, len)) {
		c->q->ops->tx_abandon(c->q, &q);
		return false;
	}
	if (len == flow_unsent(f))
		flags |= SEG_FLAG_PSH;
	if (l->cwr) {
		l->cwr = false;
		flags |= SEG_FLAG_CWR;
	}
	tx_build(c, f, &q, f->snd_nxt, f->snd_nxt - f->snd_una, len, flags);
	tx_submit(c, &q);
	flow_set(f, snd_nxt, f->snd_nxt + len);
	f->sent_ns = c->now_ns;
	COUNT(c, tx_segments);
	return true;
}

bool tx_again(struct fp_core *c, struct flow *f, uint32_t i)
{
	struct scoreboard *sb = &f->ext->loss.sb;
	const struct sent *r = sb_at(sb, i);
	uint32_t max = tx_mss(f), len;
	struct queue_frame q;

	if (!tx_frame(c, &q))
		return false;
	if (max > q.len - f->hdr_len)
		max = q.len - f->hdr_len;
	/* Without room for the cut the rest is found lost again. */
	if (r->len > max && sb_split(sb, i, max))
		r = sb_at(sb, i);
	len = r->len < max ? r->len : max;
	tx_build(c, f, &q, r->seq, r->seq - f->snd_una, len,
		 SEG_FLAG_ACK | SEG_FLAG_PSH);
	tx_not_ect(f, &q);
	tx_submit(c, &q);
	loss_resent(c, f, i);
	f->sent_ns = c->now_ns;
	COUNT(c, tx_retransmits);
	return true;
}

/* Look at the flow again at @at_ns, whatever happens. */
static void tx_wait(struct fp_core *c, struct flow *f, uint64_t at_ns)
{
	f->ext->wait_at = at_ns;
	timers_queue(&c->timers, f, at_ns);
}

/* May a paced flow send @len bytes now? It gets a quantum at a time, and waits
 * until that has had its time; lateness of the timer is made up for. */
static bool tx_paced(struct fp_core *c, struct flow *f, uint32_t len)
{
	struct flow_ext *x = f->ext;
	uint64_t rate = flow_pace(x);
	uint32_t burst;

	if (likely(!rate) || x->pace_left >= len)
		return true;
	if (c->now_ns < x->pace_at) {
		tx_wait(c, f, x->pace_at);
		return false;
	}
	burst = cc_pace_burst(f, rate);
	if (burst < len)
		burst = len;
	if (x->pace_at + PACE_CREDIT_NS < c->now_ns)
		x->pace_at = c->now_ns;
	x->pace_at += burst * 1000000000ull / rate;
	x->pace_left += burst;
	return true;
}

static void tx_spend(struct flow *f, uint32_t len)
{
	struct flow_ext *x = f->ext;

	x->pace_left = flow_pace(x) && x->pace_left > len ? x->pace_left - len
							  : 0;
}

/* Must a partial segment, the last of what there is, wait? Nagle's rule in
 * Minshall's form, as Linux's: only another partial one on its way holds it
 * back (RFC 9293 3.7.4). A corked one waits for more, but not for long. */
static bool tx_holds(struct fp_core *c, struct flow *f)
{
	struct flow_ext *x = f->ext;

	if (f->shut_wr || f->closing || x->urgent.sending)
		return false;
	if (f->cork || f->more) {
		if (!x->cork_until)
			x->cork_until = c->now_ns + CORK_NS;
		if (c->now_ns >= x->cork_until)
			return false;
		tx_wait(c, f, x->cork_until);
		return true;
	}
	return !f->nodelay && seq_gt(x->loss.snd_sml, f->snd_una) &&
	       seq_leq(x->loss.snd_sml, f->snd_nxt);
}

/* Length of the next segment of new data that may go now, 0: none. */
static uint32_t tx_next_len(struct fp_core *c, struct flow *f)
{
	uint32_t out = f->snd_nxt - f->snd_una, len = flow_unsent(f), pipe;
	uint32_t mss = tx_mss(f);

	if (len > mss)
		len = mss;
	/* Sender's silly window avoidance: less than a segment, and than all
	 * there is, only if nothing is on its way that will bring an ACK. */
	if (out + len > f->snd_wnd)
		return out ? 0 : f->snd_wnd;
	pipe = loss_pipe(f);
	if (pipe && pipe + (f->ext->loss.state ? 1 : len) > f->cwnd) {
		f->ext->loss.cwnd_hit = true;
		return 0;
	}
	if (len < mss && tx_holds(c, f))
		return 0;
	return len;
}

/* What tx_data() did in this turn. */
struct tx_run {
	unsigned int n;	    /* segments */
	unsigned int n_new; /* of these, new data */
	bool again;	    /* come again next turn */
};

/* What is lost, lowest first. */
static void tx_lost(struct fp_core *c, struct flow *f, struct tx_run *run)
{
	struct loss *l = &f->ext->loss;
	uint32_t i, len, pipe;

	for (i = sb_find(&l->sb, l->rexmit_seq); l->sb.due && i < l->sb.n;
	     i++) {
		const struct sent *r = sb_at(&l->sb, i);

		l->rexmit_seq = r->seq; /* nothing below is due */
		if ((r->flags & (SENT_LOST | SENT_RETRANS)) != SENT_LOST)
			continue;
		len = r->len < f->snd_mss ? r->len : f->snd_mss;
		pipe = loss_pipe(f);
		/* As in Linux, any room is room for one: what the rate of
		 * reduction grants may be the bytes of a short segment. */
		if (pipe && pipe >= f->cwnd) {
			l->cwnd_hit = true;
			return;
		}
		if (i && r->seq - f->snd_una + len > f->snd_wnd)
			return;
		if (!tx_paced(c, f, len))
			return;
		if (run->n == TX_FLOW_BURST || !tx_again(c, f, i)) {
			run->again = true;
			return;
		}
		tx_spend(f, len);
		run->n++;
	}
}

/* A segment that asks how large one may be. false: nothing new may go. */
static bool tx_mtu_probe(struct fp_core *c, struct flow *f, struct tx_run *run)
{
	uint32_t seq = f->snd_nxt, len;
	bool wait = false;

	len = mtu_probe_len(c, f, &wait);
	if (!len)
		return !wait;
	if (!tx_paced(c, f, len))
		return false;
	if (!tx_new(c, f, len)) {
		run->again = c->tx_starved;
		return false;
	}
	mtu_probe_sent(f, seq, len);
	tx_spend(f, len);
	run->n++;
	run->n_new++;
	return true;
}

static void tx_fresh(struct fp_core *c, struct flow *f, struct tx_run *run)
{
	uint32_t len;

	if (unlikely(f->ext->mtu.low) && !tx_mtu_probe(c, f, run))
		return;
	while (flow_unsent(f) && (len = tx_next_len(c, f))) {
		if (!tx_paced(c, f, len))
			return;
		if (run->n == TX_FLOW_BURST || !tx_new(c, f, len)) {
			/* Without memory ACKs make room, not turns. */
			run->again = run->n == TX_FLOW_BURST || c->tx_starved;
			return;
		}
		if (len < f->snd_mss)
			f->ext->cork_until = 0;
		tx_spend(f, len);
		run->n++;
		run->n_new++;
	}
}

/* What is lost goes first, but for F-RTO, which asks with new data. */
static void tx_data(struct fp_core *c, struct flow *f, struct tx_run *run)
{
	struct loss *l = &f->ext->loss;

	loss_record(c, f);
	if (l->frto_new) {
		tx_fresh(c, f, run);
		l->frto_new = false;
		l->hold = l->frto = seq_gt(f->snd_nxt, l->high_seq);
	}
	if (l->sb.due && !l->hold)
		tx_lost(c, f, run);
	if (!l->sb.due || l->hold)
		tx_fresh(c, f, run);
}

/* The window grew so much that the peer should know (RFC 9293 3.8.6.2.2). */
static inline bool tx_window_grew(const struct flow *f)
{
	uint32_t left = flow_rcv_edge(f) - f->rcv_nxt;
	uint32_t room = flow_rx_free(f), max = 65535u << f->rcv_wscale;

	if (room > max)
		room = max;
	if (room <= left || left > f->rx_size / 2)
		return false;
	return room - left >= 2 * f->snd_mss || room - left >= f->rx_size / 2;
}

static inline bool tx_ack_decide(struct fp_core *c, struct flow *f)
{
	uint32_t unacked = f->rcv_nxt - f->rcv_wup;
	bool grew = false;

	if (unlikely(f->consumed)) {
		grow_receive(c, f);
		grew = tx_window_grew(f);
	}

	if (f->ack_now || unacked >= 2 * f->rcv_mss ||
	    (unacked && !f->pingpong) || grew)
		return tx_ack(c, f);
	f->consumed = false;
	if (unacked && !f->ack_at) {
		f->ack_at = c->now_ns + DELACK_NS;
		timers_queue(&c->timers, f, f->ack_at);
	}
	return true;
}

/* Something was sent: it may be the answer to what came shortly before. */
static inline void tx_answered(struct fp_core *c, struct flow *f)
{
	if (c->now_ns - f->rcv_ns < DELACK_NS)
		f->pingpong = true;
}

/* Nothing unusual, nothing on its way, and all there is to send fits a segment
 * and both windows: it needs no record. */
static inline bool tx_is_one(const struct flow *f, uint32_t plain)
{
	uint32_t len = f->tx_len;

	return f->plain == plain && f->snd_una == f->snd_nxt &&
	       len - 1 < f->snd_mss && len <= f->snd_wnd && len <= f->cwnd;
}

static inline void tx_one_sent(struct fp_core *c, struct flow *f, uint32_t len)
{
	flow_set(f, snd_nxt, f->snd_nxt + len);
	f->sent_ns = c->now_ns;
	COUNT(c, tx_segments);
	tx_answered(c, f);
	if (likely(!f->rto_at))
		timers_set_rto(c, f, c->now_ns + f->rto_us * 1000ull);
}

/* As tx_one(), whatever the headers; false: there is no frame as large. */
static bool tx_one_other(struct fp_core *c, struct flow *f)
{
	struct queue_frame q;

	if (!c->q->ops->tx_alloc(c->q, &q))
		return false;
	if (q.len < f->hdr_len + f->tx_len) {
		c->q->ops->tx_abandon(c->q, &q);
		return false;
	}
	tx_build(c, f, &q, f->snd_nxt, 0, f->tx_len,
		 SEG_FLAG_ACK | SEG_FLAG_PSH);
	tx_submit(c, &q);
	tx_one_sent(c, f, f->tx_len);
	return true;
}

/* Whatever may be sent, whatever the flow's state. */
static noinline bool tx_flow_any(struct fp_core *c, struct flow *f)
{
	struct tx_run run = {0};

	if (unlikely(f->state != FLOW_OPEN))
		return true;
	if (!flow_unsent(f) && !f->ext->loss.sb.due)
		return tx_ack_decide(c, f);
	if (f->plain && tx_is_one(f, f->plain) && tx_one_other(c, f))
		return true;
	tx_data(c, f, &run);
	if (unlikely(f->tx_len > f->tx_size / 2))
		grow_transmit(c, f);
	if (run.n) {
		tx_answered(c, f);
		loss_after_send(c, f, run.n_new);
		flow_judge(f);
		return !run.again; /* the segments acknowledged everything */
	}
	if (run.again)
		return false;
	if (f->snd_una == f->snd_nxt && !f->snd_wnd && !f->persist)
		loss_persist(c, f);
	flow_judge(f);
	return tx_ack_decide(c, f);
}

/* The one segment of an answer, over IPv4 with timestamps. */
static inline __attribute__((always_inline)) bool
tx_one(struct fp_core *c, struct flow *f, uint32_t len)
{
	struct queue_frame q;

	if (unlikely(!tx_frame(c, &q)))
		return false;
	if (unlikely(q.len < FLOW_HDR_HOT + len)) {
		c->q->ops->tx_abandon(c->q, &q);
		return tx_flow_any(c, f);
	}
	tx_write(c, f, &q, f->snd_nxt, 0, len, SEG_FLAG_ACK | SEG_FLAG_PSH,
		 NULL, FLOW_HDR_HOT, false, true);
	tx_submit(c, &q);
	tx_one_sent(c, f, len);
	return true;
}

/* true: nothing is left that waits for a free frame or for its turn. */
static inline __attribute__((always_inline)) bool tx_flow(struct fp_core *c,
							  struct flow *f)
{
	/* And the usual headers. */
	if (likely(tx_is_one(f, FLOW_HDR_HOT)))
		return tx_one(c, f, f->tx_len);
	return tx_flow_any(c, f);
}

void tx_turn(struct fp_core *c)
{
	uint32_t i, n = c->n_listed, kept = 0;

	for (i = 0; i < n; i++) {
		struct flow *f = c->listed[i];

		if (likely(tx_flow(c, f)))
			f->listed = false;
		else
			c->listed[kept++] = f;
	}
	c->n_listed = kept;
}
