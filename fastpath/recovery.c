/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * recovery.c - every segment that isn't plain
 *
 * Cold code. A segment comes here because the hot path's condition failed; its
 * checksum is verified as a whole, then it is processed in the order of Linux,
 * which is that of RFC 9293 3.10.7.4 with RFC 5961 and RFC 7323 in it:
 *
 *   RST at rcv_nxt          passed on, Linux resets its socket
 *   RST in the window       challenge ACK; the honest peer's next is exact
 *   RST elsewhere           dropped
 *   SYN                     challenge ACK; where Linux has done with the
 *                           connection (a RST or both FINs): passed on
 *   no ACK                  dropped
 *   time runs backwards     PAWS: ACK, dropped
 *   outside the window      ACK, dropped; or trimmed to what is new and fits
 *   ACK out of range        challenge ACK, dropped
 *   ACK                     loss.c; then the window
 *   URG                     urgent.c; Linux gets a notice, to send SIGURG
 *   data                    in order: delivered, with what was behind the gap
 *                           behind a gap: kept, see reassembly.c; ACK at once
 *   FIN                     in order: passed on, Linux acknowledges it
 *
 * Nothing but a RST's sequence number was looked at before it is passed on, and
 * nothing changes before a segment's numbers were found right, so that one who
 * doesn't see the connection changes nothing. What Linux never sees it need
 * not answer: challenge ACKs are the core's, with the wire's numbers, and of
 * each flow and of all flows together no more than Linux sends.
 *
 * Data behind a gap lie in the program's buffer behind what it was told of. It
 * may scribble there, over its own data.
 *
 * Where Linux departs from an RFC, so do we: segments without the negotiated
 * timestamps are taken (RFC 7323 3.2: SHOULD drop); an older pure ACK within
 * 1.2 RTO passes PAWS; the window is taken from segments that acknowledge
 * something new whatever their place (RFC 9293: by SND.WL1 alone), and one that
 * says nothing new may only raise it.
 *
 * State: the flow's cold fields and its sender's half; core thread.
 */
#include "fastpath/core.h"
#include "fastpath/segment.h"

#include <errno.h>

/* tcp_invalid_ratelimit: odd segments get at most one answer in this. */
#define OOW_ACK_MS 500u
#define CHALLENGE_LIMIT 1000u /* tcp_challenge_ack_limit, a second */
#define PAWS_IDLE_MS (24u * 24 * 3600 * 1000) /* RFC 7323 5.5 */

/* ---- answers ----------------------------------------------------------------
 */

/* An ACK for this very segment, not for all of the turn. */
static void ack_at_once(struct fp_core *c, struct flow *f)
{
	if (f->state == FLOW_OPEN && tx_ack(c, f))
		return;
	f->ack_now = true;
	flow_list(c, f);
}

static void ack_this_turn(struct fp_core *c, struct flow *f)
{
	f->ack_now = true;
	flow_list(c, f);
}

static bool answered_lately(struct fp_core *c, struct flow *f)
{
	if (f->oow_ms && c->now_ms - f->oow_ms < OOW_ACK_MS)
		return true;
	f->oow_ms = c->now_ms;
	return false;
}

/* An empty segment outside the window gets few answers, lest two hosts that
 * disagree answer each other for ever. */
static void ack_odd(struct fp_core *c, struct flow *f, bool empty)
{
	if (!empty || !answered_lately(c, f))
		ack_this_turn(c, f);
}

/* RFC 5961 section 7. How many a second are left in all is nobody's to count:
 * the limit is drawn anew each second. */
static void challenge(struct fp_core *c, struct flow *f)
{
	const uint64_t *seed = c->flows.seed;

	if (answered_lately(c, f))
		return;
	if (c->now_ms / 1000 != c->challenge_s || !c->challenge_s) {
		c->challenge_s = c->now_ms / 1000;
		c->challenge_left = CHALLENGE_LIMIT / 2 +
				    flow_mix(c->now_ns ^ seed[0], seed[1]) %
					    CHALLENGE_LIMIT;
	}
	if (!c->challenge_left)
		return;
	c->challenge_left--;
	COUNT(c, rx_challenge);
	ack_at_once(c, f);
}

/* [@start, @end) came once more (RFC 2883). */
static void report_duplicate(struct flow *f, uint32_t start, uint32_t end)
{
	if (!f->sack || start == end)
		return;
	f->ext->ooo.dup = (struct sack_block){start, end};
	f->ext->ooo.duplicate = true;
	flow_judge(f);
}

/* ---- second to fourth: RST, SYN ---------------------------------------------
 */

/* RFC 5961 section 3.2. After a FIN the peer may have forgotten to count it:
 * Linux judges that (tcp_reset_check()). */
static void take_rst(struct fp_core *c, struct flow *f, const struct segment *s,
		     const struct frame *fr)
{
	uint32_t next = f->rcv_nxt + f->rcv_fin;

	if (s->seq == next || s->seq == f->rcv_nxt)
		f->ext->reset |= event_frame(c, f, fr->data, fr->len);
	else if (seq_gt(s->seq, next) &&
		 seq_lt(s->seq, flow_rcv_edge(f) + f->rcv_fin))
		challenge(c, f);
	else
		COUNT(c, rx_out_of_window);
}

/* RFC 5961 section 4.2. When the peer has reset the connection, or both sides
 * have closed, Linux is in TIME_WAIT or through with it and may begin a new
 * one, while the flow is still here: the slow path removes it first. */
static void take_syn(struct fp_core *c, struct flow *f, const struct frame *fr)
{
	if (f->ext->reset || (f->rcv_fin && f->snd_fin && f->fin_acked))
		event_frame(c, f, fr->data, fr->len);
	else
		challenge(c, f);
}

/* ---- first, the sequence number, with PAWS before it ------------------------
 */

/* A pure ACK that says nothing new, overtaken on the way: not another life of
 * this sequence number. Linux's tcp_disordered_ack(). */
static bool disordered_ack(const struct flow *f, const struct segment *s)
{
	uint32_t age_ms = f->ts_recent - s->tsval;

	return !s->len && !s->fin && s->seq == f->rcv_nxt &&
	       s->ack == f->snd_una && s->wnd << f->snd_wscale <= f->snd_wnd &&
	       age_ms <= f->rto_us / 1000 * 6 / 5;
}

static bool check_paws(struct fp_core *c, struct flow *f,
		       const struct segment *s)
{
	if (!s->ts || (int32_t)(s->tsval - f->ts_recent) >= 0)
		return true;
	if (c->now_ms - f->ts_recent_ms > PAWS_IDLE_MS)
		return true;
	if (disordered_ack(f, s))
		return true;
	COUNT(c, rx_paws);
	if (s->len && seq_lt(s->seq, f->rcv_nxt))
		report_duplicate(f, s->seq,
				 seq_lt(s->seq + s->len, f->rcv_nxt)
					 ? s->seq + s->len
					 : f->rcv_nxt);
	ack_odd(c, f, !s->len);
	return false;
}

/* A FIN of the peer's was passed on; it may tell Linux that ours arrived. */
static void fin_passed(struct flow *f, const struct frame *fr)
{
	if (f->snd_fin && ntohl(frame_tcp(fr)->ack_seq) == f->snd_nxt + 1)
		f->fin_acked = true;
}

/* The whole segment lies below rcv_nxt. true: its ACK counts. */
static bool old_segment(struct fp_core *c, struct flow *f, struct segment *s,
			const struct frame *fr)
{
	if (s->fin && f->rcv_fin) {
		/* The peer has not seen Linux's ACK of its FIN. */
		if (event_frame(c, f, fr->data, fr->len))
			fin_passed(f, fr);
		return false;
	}
	if (seq_geq(s->seq + s->len, f->rcv_wup)) {
		s->old = s->len; /* an empty one was overtaken on the way */
		s->fin = false;
		return true;
	}
	COUNT(c, rx_old);
	if (!s->len) {
		ack_odd(c, f, true);
		return false;
	}
	report_duplicate(f, s->seq, s->seq + s->len);
	f->pingpong = false;
	ack_at_once(c, f);
	return false;
}

/* Trims @s to what is new and fits; false: drop it. */
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

/* The segment's ACK was right: RFC 7323 4.3 (3). What PAWS let pass although
 * it is older stays out. */
static void update_ts_recent(struct fp_core *c, struct flow *f,
			     const struct segment *s)
{
	if (!s->ts || seq_gt(s->first, f->rcv_wup + f->rcv_fin))
		return;
	if ((int32_t)(s->tsval - f->ts_recent) < 0 &&
	    c->now_ms - f->ts_recent_ms <= PAWS_IDLE_MS)
		return;
	flow_set(f, ts_recent, s->tsval);
	f->ts_recent_ms = c->now_ms;
}

/* ---- fifth, the ACK field ---------------------------------------------------
 */

/* Linux's tcp_may_update_window(). @ack_new: snd_una moved. */
static void update_window(struct fp_core *c, struct flow *f,
			  const struct segment *s, bool ack_new)
{
	uint32_t wnd = s->wnd << f->snd_wscale;

	if (!ack_new && !seq_gt(s->seq, f->snd_wl1) &&
	    !(s->seq == f->snd_wl1 && wnd > f->snd_wnd))
		return;
	f->snd_wnd = wnd;
	f->snd_wl1 = s->seq;
	if (wnd > f->ext->snd_wnd_max)
		f->ext->snd_wnd_max = wnd;
	if (f->persist && wnd)
		loss_window_open(c, f);
	flow_list(c, f);
}

#define HEADERS_MAX (FLOW_HDR_MAX + 40)

/* For Linux: the headers of @fr at rcv_nxt in @buf. Its data are the program's:
 * Linux would acknowledge them, whether or not they were taken here. */
static bool headers_only(const struct flow *f, const struct frame *fr,
			 uint8_t flags, uint16_t urg_ptr, uint8_t *buf,
			 struct frame *h)
{
	if (fr->payload > HEADERS_MAX)
		return false;
	memcpy(buf, fr->data, fr->payload);
	*h = *fr;
	h->data = buf;
	h->len = fr->payload;
	h->payload_len = 0;
	frame_tcp(h)->seq = htonl(f->rcv_nxt);
	frame_tcp(h)->urg_ptr = htons(urg_ptr);
	buf[fr->l4 + 13] = flags;
	if (fr->v6)
		frame_ip6(h)->ip6_plen = htons(fr->payload - fr->l4);
	else
		frame_ip4(h)->tot_len = htons(fr->payload - fr->l3);
	frame_set_checksums(h);
	return true;
}

/* What the frame acknowledges, and no more. */
static bool event_ack(struct fp_core *c, const struct flow *f,
		      const struct frame *fr)
{
	uint8_t buf[HEADERS_MAX];
	struct frame h;

	if (!fr->payload_len && !frame_tcp(fr)->urg)
		return event_frame(c, f, fr->data, fr->len);
	return headers_only(f, fr, SEG_FLAG_ACK, 0, buf, &h) &&
	       event_frame(c, f, h.data, h.len);
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

/* What the acknowledgment @ack >= snd_una tells; all that recovery.c knows of
 * loss. */
static void take_ack(struct fp_core *c, struct flow *f, const struct segment *s,
		     uint32_t ack)
{
	uint32_t old_wnd = f->snd_wnd, flags = 0;

	update_window(c, f, s, ack != f->snd_una);
	if (s->len || s->fin)
		flags |= LOSS_DATA;
	if (f->snd_wnd != old_wnd)
		flags |= LOSS_WND;
	loss_ack(c, f, s, ack, flags);
}

/* false: drop the segment. RFC 5961 section 5.2: what was never sent, and what
 * no window could have made the peer acknowledge so late, is a guess. */
static bool check_ack(struct fp_core *c, struct flow *f, struct segment *s,
		      const struct frame *fr)
{
	uint32_t ack = s->ack, una = f->snd_una;

	if (f->snd_wnd > f->ext->snd_wnd_max) /* the hot path's */
		f->ext->snd_wnd_max = f->snd_wnd;
	if (seq_gt(ack, f->snd_nxt + f->snd_fin) ||
	    seq_lt(ack, una - f->ext->snd_wnd_max)) {
		COUNT(c, rx_bad_ack);
		challenge(c, f);
		return false;
	}
	update_ts_recent(c, f, s);
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
	take_ack(c, f, s, ack);
	urgent_acked(f);
	flow_judge(f);
	flow_tell(c, f);
	flow_list(c, f);
	return true;
}

/* ---- sixth, the URG bit -----------------------------------------------------
 */

/* Linux signals the socket's owner for each urgent pointer that is greater than
 * the last: an empty segment names the next byte of a stream that Linux will
 * never see. The pointer has 16 bits, so many signals a connection can have. */
static void notify_urgent(struct fp_core *c, struct flow *f,
			  const struct frame *fr)
{
	uint16_t *n = &f->ext->urgent.notices;
	uint8_t buf[HEADERS_MAX];
	struct frame h;

	if (*n == UINT16_MAX)
		return;
	reply_publish(c); /* the program knows when the signal comes */
	if (headers_only(f, fr, SEG_FLAG_ACK | SEG_FLAG_URG, *n + 1, buf, &h) &&
	    event_frame(c, f, h.data, h.len))
		++*n;
}

/* Whatever else of @fr is Linux's to see, its pointer was ours. */
static void take_urgent(struct fp_core *c, struct flow *f,
			const struct segment *s, struct frame *fr)
{
	if (urgent_take(c, f, s))
		notify_urgent(c, f, fr);
	if (!(s->flags & SEG_FLAG_URG))
		return;
	fr->data[fr->l4 + 13] &= (uint8_t)~SEG_FLAG_URG;
	frame_tcp(fr)->urg_ptr = 0;
	frame_set_checksums(fr);
}

/* ---- seventh, the segment text ----------------------------------------------
 */

/* RFC 8257 3.2: what is not yet acknowledged came with the other state, and
 * must be acknowledged so. */
static void echo_precisely(struct fp_core *c, struct flow *f, bool ce)
{
	if (ce == f->ece)
		return;
	if (f->rcv_nxt != f->rcv_wup && f->state == FLOW_OPEN)
		tx_ack(c, f);
	f->ece = ce;
	flow_judge(f);
	ack_this_turn(c, f);
}

/* RFC 3168 6.1.3: once CE was seen, until the peer says CWR. Its window may be
 * down to one segment: no delay. */
static void echo_until_cwr(struct fp_core *c, struct flow *f,
			   const struct segment *s)
{
	bool ece = s->ce || (f->ece && !(s->flags & SEG_FLAG_CWR));

	if ((s->flags & SEG_FLAG_CWR) || ece != f->ece) {
		f->pingpong = false;
		ack_this_turn(c, f);
	}
	f->ece = ece;
	flow_judge(f);
}

/* Of a segment with data that will be taken. */
static void take_congestion(struct fp_core *c, struct flow *f,
			    const struct segment *s)
{
	bool was = f->ece;

	if (!f->ecn || !s->len)
		return;
	if (s->ce)
		COUNT(c, rx_ce);
	if (!f->cc->precise_ecn) {
		echo_until_cwr(c, f, s);
		return;
	}
	echo_precisely(c, f, s->ce);
	if (f->cc->event && (s->ce || was))
		f->cc->event(f, s->ce ? CC_EV_CE : CC_EV_NO_CE, c->now_ns);
}

static void cut_to_buffer(struct fp_core *c, struct flow *f, struct segment *s)
{
	uint32_t room = flow_rx_free(f), before = s->seq - f->rcv_nxt;

	if (before + s->len <= room)
		return;
	COUNT(c, rx_out_of_window);
	s->len = before < room ? room - before : 0;
	s->fin = false;
}

static void copy_text(struct flow *f, const struct segment *s)
{
	uint32_t pos = flow_rx_pos(f) + (s->seq - f->rcv_nxt);

	csum_copy_into(f->rx_buf, f->rx_size, pos & (f->rx_size - 1), s->data,
		       s->len);
}

/* Data in order, and what lies behind them without a gap. */
static void take_data(struct fp_core *c, struct flow *f, struct segment *s)
{
	uint32_t pos = flow_rx_pos(f), next, len;

	cut_to_buffer(c, f, s);
	if (!s->len)
		return;
	copy_text(f, s);
	next = s->seq + s->len;
	if (f->ext->ooo.n) {
		next = reassembly_advance(&f->ext->ooo, next);
		f->ack_now = true; /* RFC 5681 4.2 */
		flow_judge(f);
	}
	len = next - f->rcv_nxt;
	if (!f->pend_len)
		f->pend_off = pos;
	f->pend_len += len;
	f->rx_unread += len;
	f->rx_pos = (pos + len) & (f->rx_size - 1);
	flow_set(f, rcv_nxt, next);
	f->rcv_ns = c->now_ns;
	flow_tell(c, f);
	flow_list(c, f);
}

/* Keep them where they will be delivered from. */
static void keep_data(struct fp_core *c, struct flow *f,
		      const struct segment *s)
{
	struct reassembly *r = &f->ext->ooo;
	struct sack_block part;
	uint32_t end = s->seq + s->len;
	bool known = reassembly_overlap(r, s->seq, end, &part);

	if (!f->rx_unread && !r->n)
		f->rx_pos = 0; /* and stays while there are ranges */
	if (!reassembly_add(r, s->seq, end)) {
		COUNT(c, rx_too_many_gaps);
		return;
	}
	if (known)
		report_duplicate(f, part.start, part.end);
	if (!known || part.end - part.start != s->len)
		copy_text(f, s);
	flow_judge(f);
}

static void take_behind_gap(struct fp_core *c, struct flow *f,
			    struct segment *s)
{
	struct reassembly *r = &f->ext->ooo;

	COUNT(c, rx_out_of_order);
	cut_to_buffer(c, f, s);
	if (s->len)
		keep_data(c, f, s);
	if (s->fin) {
		r->fin = true;
		r->fin_seq = s->seq + s->len;
		flow_judge(f);
	}
	f->pingpong = false;
	ack_at_once(c, f);
}

/* Nothing new in it. Where the data lie the peer learns by D-SACK. */
static void take_duplicate(struct fp_core *c, struct flow *f,
			   const struct segment *s)
{
	COUNT(c, rx_old);
	if (f->ecn && !f->cc->precise_ecn && (s->flags & SEG_FLAG_CWR)) {
		f->ece = false;
		flow_judge(f);
	}
	report_duplicate(f, s->seq, s->seq + s->len);
	f->pingpong = false;
	ack_at_once(c, f);
}

/* ---- eighth, FIN ------------------------------------------------------------
 */

/* In order. The slow path learns of it only if the event ring has room; else
 * the FIN wasn't received. */
static void take_fin(struct fp_core *c, struct flow *f, const struct frame *fr)
{
	flow_set(f, rcv_fin, true);
	if (!event_frame(c, f, fr->data, fr->len)) {
		flow_set(f, rcv_fin, false);
		return;
	}
	fin_passed(f, fr);
	/* Linux's ACK of the FIN acknowledges the data before it as well. */
	f->ack_at = 0;
	f->ack_now = false;
	flow_set(f, rcv_wnd, flow_rcv_edge(f) - f->rcv_nxt);
	f->rcv_wup = f->rcv_nxt;
	f->pend_flags |= XTS_F_EOF;
	f->ext->ooo = (struct reassembly){0}; /* nothing is behind a FIN */
	flow_judge(f);
	flow_tell(c, f);
	flow_list(c, f);
}

/* The FIN came before the data that @fr filled the gap with: Linux gets one
 * with the headers of that frame. */
static void take_kept_fin(struct fp_core *c, struct flow *f,
			  const struct frame *fr)
{
	uint8_t buf[HEADERS_MAX];
	struct frame fin;

	f->ext->ooo.fin = false;
	flow_judge(f);
	/* If data went on behind it, that was none. */
	if (f->ext->ooo.fin_seq == f->rcv_nxt &&
	    headers_only(f, fr, SEG_FLAG_FIN | SEG_FLAG_ACK, 0, buf, &fin))
		take_fin(c, f, &fin);
}

/* What a segment with data tells of the peer's. */
static void measure(struct fp_core *c, struct flow *f, const struct segment *s)
{
	uint32_t len = s->seq + s->len - s->first;

	if (!s->len)
		return;
	if (len > f->rcv_mss)
		f->rcv_mss = len;
	grow_measure(c, f, s->ts ? s->tsecr : 0, len);
}

static void take_text(struct fp_core *c, struct flow *f, struct segment *s,
		      const struct frame *fr)
{
	struct reassembly *r = &f->ext->ooo;

	if (!s->len && !s->fin)
		return;
	if (s->old) {
		take_duplicate(c, f, s);
		return;
	}
	if (f->rcv_fin)
		return; /* nothing comes behind a FIN */
	if (s->len && f->closing) {
		/* Nobody will read it: as Linux does after close(). */
		core_remove_flow(c, f, FP_REMOVED_ABORT, 0);
		return;
	}
	measure(c, f, s);
	take_congestion(c, f, s);
	if (s->first != s->seq) {
		report_duplicate(f, s->first, s->seq);
		ack_this_turn(c, f);
	}
	if (s->seq != f->rcv_nxt) {
		take_behind_gap(c, f, s);
		return;
	}
	take_data(c, f, s);
	if (s->fin && s->seq + s->len == f->rcv_nxt)
		take_fin(c, f, fr);
	else if (r->fin && seq_geq(f->rcv_nxt, r->fin_seq))
		take_kept_fin(c, f, fr);
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
	if (s.flags & SEG_FLAG_RST) {
		take_rst(c, f, &s, fr);
		return;
	}
	if (s.flags & SEG_FLAG_SYN) {
		take_syn(c, f, fr);
		return;
	}
	if (!(s.flags & SEG_FLAG_ACK)) {
		COUNT(c, rx_bad_ack);
		return;
	}
	if (!check_paws(c, f, &s) || !check_sequence(c, f, &s, fr) ||
	    !check_ack(c, f, &s, fr))
		return;
	take_urgent(c, f, &s, fr);
	if (f->copy_ack && event_ack(c, f, fr)) {
		f->copy_ack = false;
		flow_judge(f);
	}
	take_text(c, f, &s, fr);
	urgent_received(f);
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
