/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * recovery.c - every segment that isn't plain, and everything lost
 *
 * Cold code. A segment comes here because the hot path's condition failed;
 * it is processed in the order of RFC 9293 3.10.7.4, after its checksum was
 * verified as a whole. What needs Linux (SYN, RST, FIN, the ACK of our FIN) is
 * passed on as an event; Linux answers through the translator.
 *
 * Segments behind a gap are dropped and answered by a duplicate ACK. Lost
 * segments of ours are repaired by fast retransmit and NewReno (RFC 5681 3.2,
 * RFC 6582) or by the retransmission time-out (RFC 6298), which goes back to
 * snd_una; snd_nxt stays the highest sent, snd_cur is what goes back.
 *
 * State: the flow's cold fields and its sender's half; core thread.
 */
#include "fastpath/core.h"
#include "fastpath/cc.h"

#include <errno.h>

#define FLAG_FIN 0x01
#define FLAG_SYN 0x02
#define FLAG_RST 0x04
#define FLAG_ACK 0x10
#define OOW_ACK_MS 100u /* at most one answer to odd empty segments in this */
#define PAWS_IDLE_MS (24u * 24 * 3600 * 1000) /* RFC 7323 5.5 */
#define ORPHAN_BACKOFF 8 /* persist this long for a program that closed */

/* A segment in host byte order, RFC 9293's names. */
struct segment {
	uint32_t seq, ack, len, wnd; /* wnd unscaled, len without FIN */
	uint32_t tsval, tsecr;
	uint8_t flags;
	bool ts;
	bool fin;
	const uint8_t *data;
};

static void parse_timestamps(struct segment *s, const struct frame *fr)
{
	const uint8_t *p = fr->data + fr->l4 + sizeof(struct tcphdr);
	const uint8_t *end = fr->data + fr->payload;

	while (p < end && *p != TCPOPT_EOL) {
		if (*p == TCPOPT_NOP) {
			p++;
			continue;
		}
		if (end - p < 2 || p[1] < 2 || p[1] > end - p)
			return;
		if (*p == TCPOPT_TIMESTAMP && p[1] == TCPOLEN_TIMESTAMP) {
			s->ts = true;
			s->tsval = ntohl(csum_load32(p + 2));
			s->tsecr = ntohl(csum_load32(p + 6));
		}
		p += p[1];
	}
}

static void parse_segment(const struct flow *f, const struct frame *fr,
			  struct segment *s)
{
	const struct tcphdr *th = frame_tcp(fr);

	memset(s, 0, sizeof(*s));
	s->seq = ntohl(th->seq);
	s->ack = ntohl(th->ack_seq);
	s->wnd = ntohs(th->window);
	s->flags = fr->data[fr->l4 + 13];
	s->fin = s->flags & FLAG_FIN;
	s->len = fr->payload_len;
	s->data = fr->data + fr->payload;
	if (f->timestamps)
		parse_timestamps(s, fr);
}

static bool checksums_ok(const struct frame *fr)
{
	if (!fr->v6 &&
	    csum_fold(csum_add(frame_ip4(fr), sizeof(struct iphdr), 0)))
		return false;
	return frame_tcp_checksum_ok(fr);
}

/* An empty segment outside the window gets few answers, lest two hosts that
 * disagree answer each other for ever. */
static void ack_odd(struct fp_core *c, struct flow *f, bool empty)
{
	if (empty && f->oow_ms && c->now_ms - f->oow_ms < OOW_ACK_MS)
		return;
	f->oow_ms = c->now_ms;
	f->ack_now = true;
	flow_list(c, f);
}

/* First, sequence number (RFC 9293 3.10.7.4, with PAWS before it). Trims @s to
 * what is new and fits; false: drop it. */
static bool check_paws(struct fp_core *c, struct flow *f,
		       const struct segment *s)
{
	if (!s->ts || (int32_t)(s->tsval - f->ts_recent) >= 0)
		return true;
	if (c->now_ms - f->ts_recent_ms > PAWS_IDLE_MS)
		return true;
	COUNT(c, rx_paws);
	ack_odd(c, f, !s->len);
	return false;
}

/* The whole segment lies below rcv_nxt. */
static bool old_segment(struct fp_core *c, struct flow *f,
			const struct segment *s, const struct frame *fr)
{
	if (s->fin && f->rcv_fin) {
		/* The peer has not seen Linux's ACK of its FIN. */
		event_frame(c, f, fr->data, fr->len);
		return false;
	}
	if (!s->len && !s->fin && seq_geq(s->seq, f->rcv_wup))
		return true; /* overtaken on the way; the ACK counts */
	COUNT(c, rx_old);
	ack_odd(c, f, !s->len);
	return false;
}

static bool check_sequence(struct fp_core *c, struct flow *f, struct segment *s,
			   const struct frame *fr)
{
	uint32_t end = s->seq + s->len + s->fin, skip;
	uint32_t next = f->rcv_nxt + f->rcv_fin;
	uint32_t edge = flow_rcv_edge(f) + f->rcv_fin;

	if (seq_lt(s->seq, next)) {
		if (seq_leq(end, next))
			return old_segment(c, f, s, fr);
		skip = f->rcv_nxt - s->seq;
		s->seq += skip;
		s->data += skip;
		s->len -= skip;
	} else if (seq_gt(s->seq, edge) ||
		   (s->seq == edge && s->len && s->seq != next)) {
		COUNT(c, rx_out_of_window);
		ack_odd(c, f, !s->len);
		return false;
	}
	if (seq_gt(s->seq + s->len, edge)) {
		uint32_t fits = edge - s->seq;

		if (!fits)
			COUNT(c, rx_out_of_window);
		ack_odd(c, f, false);
		s->len = fits;
		s->fin = false;
	}
	return true;
}

/* ---- fifth, the ACK field ---------------------------------------------------
 */

static void enter_recovery(struct fp_core *c, struct flow *f)
{
	f->in_recovery = true;
	f->recover = f->snd_nxt;
	f->cc->loss(f);
	f->cwnd += 3 * f->snd_mss;
	flow_judge(f);
	tx_retransmit(c, f);
	timers_set_rto(c, f, c->now_ns + recovery_rto_ns(f));
}

static void duplicate_ack(struct fp_core *c, struct flow *f)
{
	if (f->in_recovery) {
		f->cwnd += f->snd_mss;
		flow_list(c, f);
		return;
	}
	if (f->dup_acks < UINT8_MAX)
		f->dup_acks++;
	if (f->dup_acks == 3 && seq_geq(f->snd_una, f->recover))
		enter_recovery(c, f);
}

void recovery_ack(struct fp_core *c, struct flow *f, uint32_t acked)
{
	if (seq_lt(f->snd_cur, f->snd_una))
		f->snd_cur = f->snd_una;
	if (!f->in_recovery)
		return;
	if (seq_geq(f->snd_una, f->recover)) {
		f->in_recovery = false;
		f->cwnd = f->ssthresh;
		return;
	}
	/* Partial acknowledgment: the next hole (RFC 6582 3.2 step 3). */
	f->cwnd -= acked < f->cwnd ? acked : f->cwnd;
	if (acked >= f->snd_mss || !f->cwnd)
		f->cwnd += f->snd_mss;
	tx_retransmit(c, f);
}

static void update_window(struct fp_core *c, struct flow *f,
			  const struct segment *s)
{
	uint32_t wnd = s->wnd << f->snd_wscale;

	if (seq_lt(s->seq, f->snd_wl1))
		return;
	f->snd_wnd = wnd;
	f->snd_wl1 = s->seq;
	if (f->persist && wnd) {
		f->persist = false;
		f->rto_at = 0;
		f->backoff = 0;
		if (f->snd_una != f->snd_nxt)
			timers_set_rto(c, f, c->now_ns + recovery_rto_ns(f));
	}
	flow_list(c, f);
}

/* For Linux: the headers of @fr at rcv_nxt. Its data are the program's: Linux
 * would acknowledge them, whether or not they were taken here. */
static bool event_headers(struct fp_core *c, const struct flow *f,
			  const struct frame *fr, uint8_t flags)
{
	uint8_t b[FLOW_HDR_MAX + 40];
	struct frame h = *fr;

	if (fr->payload > sizeof(b))
		return false;
	memcpy(b, fr->data, fr->payload);
	h.data = b;
	h.len = fr->payload;
	h.payload_len = 0;
	frame_tcp(&h)->seq = htonl(f->rcv_nxt);
	frame_tcp(&h)->urg_ptr = 0;
	b[fr->l4 + 13] = flags;
	if (fr->v6)
		frame_ip6(&h)->ip6_plen = htons(fr->payload - fr->l4);
	else
		frame_ip4(&h)->tot_len = htons(fr->payload - fr->l3);
	frame_set_checksums(&h);
	return event_frame(c, f, b, h.len);
}

/* What the frame acknowledges. */
static bool event_ack(struct fp_core *c, const struct flow *f,
		      const struct frame *fr)
{
	if (!fr->payload_len)
		return event_frame(c, f, fr->data, fr->len);
	return event_headers(c, f, fr, FLAG_ACK);
}

/* Our FIN was acknowledged: Linux must see it. */
static void fin_acked(struct fp_core *c, struct flow *f,
		      const struct segment *s, const struct frame *fr)
{
	if (s->fin || (f->fin_acked && s->len))
		return; /* passed on anyway, or known */
	if (event_ack(c, f, fr))
		f->fin_acked = true;
}

/* false: drop the segment. */
static bool check_ack(struct fp_core *c, struct flow *f, struct segment *s,
		      const struct frame *fr)
{
	uint32_t ack = s->ack, una = f->snd_una, old_wnd = f->snd_wnd;

	if (seq_gt(ack, f->snd_nxt + f->snd_fin)) {
		COUNT(c, rx_bad_ack);
		ack_odd(c, f, !s->len);
		return false;
	}
	f->probes = 0;
	if (seq_lt(ack, una)) {
		if (!s->len && !s->fin)
			COUNT(c, rx_old);
		return true;
	}
	if (f->snd_fin && ack == f->snd_nxt + 1) {
		fin_acked(c, f, s, fr);
		ack = s->ack = f->snd_nxt;
	}
	if (ack != una) {
		rx_ack_advance(c, f, ack, s->tsecr);
		recovery_ack(c, f, ack - una);
		update_window(c, f, s);
	} else {
		update_window(c, f, s);
		if (!s->len && !s->fin && f->snd_nxt != una &&
		    f->snd_wnd == old_wnd)
			duplicate_ack(c, f);
	}
	flow_judge(f);
	flow_tell(c, f);
	flow_list(c, f);
	return true;
}

/* ---- seventh, the segment text; eighth, FIN
 * ---------------------------------- */

static void take_data(struct fp_core *c, struct flow *f, struct segment *s)
{
	uint32_t pos = f->rx_unread ? f->rx_pos : 0;

	if (s->len > flow_rx_free(f)) {
		COUNT(c, rx_out_of_window);
		s->len = flow_rx_free(f);
		s->fin = false;
	}
	if (!s->len)
		return;
	csum_copy_into(f->rx_buf, f->buf_size, pos, s->data, s->len);
	if (!f->pend_len)
		f->pend_off = pos;
	f->pend_len += s->len;
	f->rx_unread += s->len;
	f->rx_pos = (pos + s->len) & (f->buf_size - 1);
	flow_set(f, rcv_nxt, f->rcv_nxt + s->len);
	f->rcv_ns = c->now_ns;
	flow_tell(c, f);
	flow_list(c, f);
}

/* In order. The slow path learns of it only if the event ring has room; else
 * the FIN wasn't received. */
static void take_fin(struct fp_core *c, struct flow *f, const struct frame *fr)
{
	flow_set(f, rcv_fin, true);
	if (!event_frame(c, f, fr->data, fr->len)) {
		flow_set(f, rcv_fin, false);
		return;
	}
	/* Linux's ACK of the FIN acknowledges the data before it as well. */
	f->ack_at = 0;
	f->ack_now = false;
	flow_set(f, rcv_wnd, flow_rcv_edge(f) - f->rcv_nxt);
	f->rcv_wup = f->rcv_nxt;
	f->pend_flags |= XTS_F_EOF;
	flow_judge(f);
	flow_tell(c, f);
	flow_list(c, f);
}

static void take_text(struct fp_core *c, struct flow *f, struct segment *s,
		      const struct frame *fr)
{
	if (!s->len && !s->fin)
		return;
	if (s->seq != f->rcv_nxt) {
		COUNT(c, rx_out_of_order);
		f->ack_now = true;
		flow_list(c, f);
		return;
	}
	if (f->rcv_fin)
		return; /* nothing comes behind a FIN */
	if (s->len && f->closing) {
		/* Nobody will read it: as Linux does after close(). */
		core_remove_flow(c, f, FP_REMOVED_ABORT, 0);
		return;
	}
	take_data(c, f, s);
	if (s->fin)
		take_fin(c, f, fr);
}

void recovery_segment(struct fp_core *c, struct flow *f, struct frame *fr)
{
	struct segment s;

	if (!checksums_ok(fr)) {
		COUNT(c, rx_bad_checksum);
		return;
	}
	COUNT(c, rx_cold);
	parse_segment(f, fr, &s);
	/* Second to fourth: RST, security, SYN; Linux judges these. */
	if (!(s.flags & FLAG_ACK) || (s.flags & (FLAG_RST | FLAG_SYN))) {
		event_frame(c, f, fr->data, fr->len);
		return;
	}
	if (f->copy_ack && event_ack(c, f, fr)) {
		f->copy_ack = false;
		flow_judge(f);
	}
	if (!check_paws(c, f, &s) || !check_sequence(c, f, &s, fr))
		return;
	if (s.ts && seq_leq(s.seq, f->rcv_wup + f->rcv_fin)) {
		flow_set(f, ts_recent, s.tsval);
		f->ts_recent_ms = c->now_ms;
	}
	if (!check_ack(c, f, &s, fr))
		return;
	take_text(c, f, &s, fr);
	if (f->state == FLOW_OPEN && f->tx_len == 0 &&
	    (f->shut_wr || f->closing))
		recovery_drained(c, f);
}

/* ---- round trip and timers --------------------------------------------------
 */

void recovery_rtt_first(struct flow *f, uint32_t rtt_us)
{
	uint32_t rto = 3 * rtt_us; /* SRTT + 4 * RTTVAR with RTTVAR = R/2 */

	if (rtt_us > RTO_MAX_US)
		return; /* a time stamp that we never sent */
	f->srtt8_us = rtt_us ? rtt_us * 8 : 1;
	f->rttvar4_us = rtt_us * 2;
	f->rto_us = rto < RTO_MIN_US   ? RTO_MIN_US
		    : rto > RTO_MAX_US ? RTO_MAX_US
				       : rto;
}

static void persist_timeout(struct fp_core *c, struct flow *f)
{
	if (f->probes >= RTO_RETRIES) {
		core_remove_flow(c, f, FP_REMOVED_TIMEOUT, ETIMEDOUT);
		return;
	}
	if (f->closing && f->backoff >= ORPHAN_BACKOFF) {
		core_remove_flow(c, f, FP_REMOVED_ABORT, 0);
		return;
	}
	if (tx_probe(c, f)) {
		f->probes++;
		if (f->backoff < UINT8_MAX)
			f->backoff++;
	}
	timers_set_rto(c, f, c->now_ns + recovery_rto_ns(f));
}

/* RFC 6298 section 5.4 to 5.6. */
static void retransmission_timeout(struct fp_core *c, struct flow *f)
{
	if (f->backoff >= RTO_RETRIES) {
		core_remove_flow(c, f, FP_REMOVED_TIMEOUT, ETIMEDOUT);
		return;
	}
	COUNT(c, tx_rto);
	f->cc->rto(f);
	f->backoff++;
	f->in_recovery = false;
	f->dup_acks = 0;
	f->recover = f->snd_nxt;
	f->snd_cur = f->snd_una;
	f->rtt_ns = 0; /* Karn */
	flow_judge(f);
	timers_set_rto(c, f, c->now_ns + recovery_rto_ns(f));
	/* A window that closed meanwhile must not stop the first segment. */
	if (f->snd_wnd == 0) {
		tx_retransmit(c, f);
		return;
	}
	flow_list(c, f);
}

void recovery_timeout(struct fp_core *c, struct flow *f)
{
	if (f->state != FLOW_OPEN)
		return;
	if (f->persist)
		persist_timeout(c, f);
	else if (f->snd_una != f->snd_nxt)
		retransmission_timeout(c, f);
}

bool recovery_drained(struct fp_core *c, struct flow *f)
{
	if (f->tx_len || f->state != FLOW_OPEN)
		return false;
	if (f->shut_wr && !f->snd_fin) {
		flow_set(f, snd_fin, true);
		flow_judge(f);
		if (!f->closing)
			event_flow(c, f, FP_EV_SHUT_WR, 0, 0);
	}
	if (!f->closing)
		return false;
	flow_set(f, snd_fin, true);
	core_remove_flow(c, f, FP_REMOVED_CLOSE, 0);
	return true;
}
