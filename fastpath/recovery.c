/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * recovery.c - every segment that isn't plain
 *
 * Cold code. A segment comes here because the hot path's condition failed;
 * it is processed in the order of RFC 9293 3.10.7.4, after its checksum was
 * verified as a whole. What needs Linux (SYN, RST, FIN, the ACK of our FIN) is
 * passed on as an event; Linux answers through the translator.
 *
 * Segments behind a gap are dropped and answered by a duplicate ACK. What the
 * acknowledgments tell about loss is loss.c's.
 *
 * State: the flow's cold fields and its sender's half; core thread.
 */
#include "fastpath/core.h"
#include "fastpath/segment.h"

#include <errno.h>

#define OOW_ACK_MS 100u /* at most one answer to odd empty segments in this */
#define PAWS_IDLE_MS (24u * 24 * 3600 * 1000) /* RFC 7323 5.5 */

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
			timers_set_rto(c, f, c->now_ns + loss_rto_ns(f));
	}
	flow_list(c, f);
}

/* Our FIN was acknowledged: Linux must see it. */
static void fin_acked(struct fp_core *c, struct flow *f,
		      const struct segment *s, const struct frame *fr)
{
	if (s->fin || (f->fin_acked && s->len))
		return; /* passed on anyway, or known */
	if (event_frame(c, f, fr->data, fr->len))
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
		loss_ack(c, f, ack - una);
		update_window(c, f, s);
	} else {
		update_window(c, f, s);
		if (!s->len && !s->fin && f->snd_nxt != una &&
		    f->snd_wnd == old_wnd)
			loss_duplicate_ack(c, f);
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
	csum_copy_into(f->rx_buf, f->rx_size, pos, s->data, s->len);
	if (!f->pend_len)
		f->pend_off = pos;
	f->pend_len += s->len;
	f->rx_unread += s->len;
	f->rx_pos = (pos + s->len) & (f->rx_size - 1);
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

	if (!segment_checksums_ok(fr)) {
		COUNT(c, rx_bad_checksum);
		return;
	}
	COUNT(c, rx_cold);
	segment_parse(&s, fr);
	if (!f->timestamps)
		s.ts = false;
	/* Second to fourth: RST, security, SYN; Linux judges these. */
	if (!(s.flags & SEG_FLAG_ACK) ||
	    (s.flags & (SEG_FLAG_RST | SEG_FLAG_SYN))) {
		event_frame(c, f, fr->data, fr->len);
		return;
	}
	if (f->copy_ack && event_frame(c, f, fr->data, fr->len)) {
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
