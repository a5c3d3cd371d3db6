/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * urgent.c - urgent data of a flow, both ways
 *
 * Cold code: while a flow has urgent data under way it isn't plain. As Linux's
 * tcp_check_urg(), tcp_urg(), tcp_mark_urg() and tcp_transmit_skb().
 *
 * Receiving. The pointer names one byte: that before where it points, or, by
 * net.ipv4.tcp_stdurg, that where it points (RFC 6093 section 2.1). One that
 * names a byte already received, or none behind the byte named last, says
 * nothing new. The program hears of a new one at once, behind the data that
 * came before it: it ends reads there. The byte itself is told by its value as
 * soon as a segment brings it, in order or not, and lies in the stream as well;
 * libsock leaves it out of that or does not (SO_OOBINLINE). A pointer to a byte
 * that is already kept behind a gap finds no value, as in Linux. Who owns the
 * socket is Linux's to know, and to send SIGURG to: see recovery.c.
 *
 * Where the reply ring is full, only the last pointer is told.
 *
 * Sending. From the program's command until everything up to the urgent byte is
 * acknowledged, every segment that begins before its end says where that is,
 * retransmissions and empty ones included, as far as 16 bits reach. Nagle's
 * rule and corks don't hold back what is urgent (tx.c).
 *
 * Read first: RFC 9293 3.8.5, RFC 6093. State: flow_ext.urgent, core thread.
 */
#include "fastpath/core.h"
#include "fastpath/segment.h"

/* ---- receiving --------------------------------------------------------------
 */

static bool take_pointer(struct fp_core *c, struct flow *f,
			 const struct segment *s)
{
	struct urgent *u = &f->ext->urgent;
	uint32_t up = s->first + s->urg;

	if (s->urg && !u->stdurg)
		up--;
	if (seq_lt(up, f->rcv_nxt) || (u->receiving && seq_leq(up, u->rcv_up)))
		return false;
	if (f->pend_len)
		reply_flow(c, f); /* what came before it */
	u->rcv_up = up;
	u->receiving = u->fresh = true;
	u->found = false;
	u->byte = 0;
	flow_judge(f);
	return true;
}

static bool take_byte(struct flow *f, const struct segment *s)
{
	struct urgent *u = &f->ext->urgent;
	uint32_t at = u->rcv_up - s->seq;

	if (!u->receiving || u->found || at >= s->len)
		return false;
	u->byte = XTS_URGENT_HAS | s->data[at];
	u->found = true;
	return true;
}

bool urgent_take(struct fp_core *c, struct flow *f, const struct segment *s)
{
	bool fresh = false, found;

	if (f->rcv_fin || f->closing)
		return false;
	if (s->flags & SEG_FLAG_URG)
		fresh = take_pointer(c, f, s);
	found = take_byte(f, s);
	if (fresh || found) {
		f->pend_rare |= PEND_URGENT;
		reply_flow(c, f);
	}
	return fresh;
}

void urgent_received(struct flow *f)
{
	struct urgent *u = &f->ext->urgent;

	if (!u->receiving || seq_leq(f->rcv_nxt, u->rcv_up))
		return;
	u->receiving = false;
	flow_judge(f);
}

/* ---- sending ----------------------------------------------------------------
 */

void urgent_send(struct flow *f)
{
	f->ext->urgent.snd_up = f->snd_una + f->tx_len;
	f->ext->urgent.sending = true;
	flow_judge(f);
}

void urgent_acked(struct flow *f)
{
	struct urgent *u = &f->ext->urgent;

	if (seq_geq(f->snd_una, u->snd_up))
		u->sending = false;
}

uint16_t urgent_pointer(const struct flow *f, uint32_t seq)
{
	const struct urgent *u = &f->ext->urgent;

	if (likely(!u->sending) || seq_geq(seq, u->snd_up))
		return 0;
	if (u->snd_up - seq <= UINT16_MAX)
		return (uint16_t)(u->snd_up - seq);
	return seq_gt(seq + UINT16_MAX, f->snd_nxt) ? UINT16_MAX : 0;
}
