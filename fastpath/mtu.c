/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mtu.c - how large segments may be (RFC 4821)
 *
 * Linux learns a path's MTU from ICMP errors and routes; the slow path passes
 * it on (FP_CMD_SET_MSS), and what is too long goes again in pieces. A path
 * that swallows large packets and tells nobody is found out here, if
 * net.ipv4.tcp_mtu_probing is 1: time-outs in a row, for as long as
 * tcp_retries1 stands for, make segments small (tcp_base_mss), the next ones
 * halve them, and a search begins for what passes. If it is 2 the search is on
 * from the beginning, and Linux itself began with small segments.
 *
 * The search is tcp_mtu_probe(): a segment halfway between what passes and what
 * may, with enough behind it to tell of its loss, when cwnd is eleven segments
 * or more and nothing is amiss, either way. If it is acknowledged its length is
 * the new MSS. If it is lost, and nothing before it, less may pass; its data go
 * again in pieces, and cwnd stays, since that says nothing about congestion. If
 * anything was sent again meanwhile it tells nothing. When the two are near
 * enough the search rests, and begins anew tcp_probe_interval after it began.
 *
 * Departing from Linux: cwnd counts bytes, so that a probe takes of it what it
 * is long and a new MSS leaves it as it was, where Linux converts. A search
 * never goes beyond what Linux knows of the path, nor below what is in use at
 * its start. A probe that RACK's timer finds lost is no congestion, either.
 * Probes are paced.
 *
 * Read first: RFC 4821 section 7. Cold code.
 * State: ext->mtu, snd_mss; core thread.
 */
#include "fastpath/sender.h"

#define BASE_MSS 1024u
#define FLOOR_MSS 48u /* tcp_min_snd_mss, too */
#define THRESHOLD 8u
#define INTERVAL_S 600u
#define PROBE_CWND_SEGS 11u

static uint32_t or_else(uint32_t value, uint32_t otherwise)
{
	return value ? value : otherwise;
}

/* As of installation snd_mss is what Linux used. If that is less than it knows
 * the path to take, it has been searching. */
void mtu_init(struct flow *f, const struct flow_params *p, uint64_t now_ns)
{
	struct mtu *m = &f->ext->mtu;

	m->base = or_else(p->mtu_base, BASE_MSS);
	m->floor = p->mtu_floor < FLOOR_MSS ? FLOOR_MSS : p->mtu_floor;
	m->threshold = or_else(p->mtu_threshold, THRESHOLD);
	m->interval_s = or_else(p->mtu_interval_s, INTERVAL_S);
	m->began_ns = now_ns;
	m->max = f->snd_mss;
	if (p->mtu_probing && p->mss_max > m->max)
		m->max = p->mss_max;
	m->high = m->max;
	if (p->mtu_probing > 1 || m->max > f->snd_mss)
		m->low = f->snd_mss;
}

static uint32_t mss_now(const struct mtu *m)
{
	return m->low && m->low < m->max ? m->low : m->max;
}

/* ---- smaller ----------------------------------------------------------------
 */

/* Never to arrive: what is longer than the MSS, and what lies before @end. */
static void mark_long(struct flow *f, uint32_t end)
{
	struct loss *l = &f->ext->loss;
	uint32_t i;

	for (i = 0; i < l->sb.n; i++) {
		struct sent *r = sb_at(&l->sb, i);

		if (r->len > f->snd_mss || seq_lt(r->seq, end))
			loss_mark(f, r);
	}
	reno_limit(f);
}

/* tcp_simple_retransmit(): what is lost goes again in pieces. cwnd stays, no
 * more data will be on their way than were. */
static void send_again(struct flow *f)
{
	struct loss *l = &f->ext->loss;

	if (l->state == CC_LOSS)
		return;
	l->high_seq = f->snd_nxt;
	f->ssthresh = cwnd_ssthresh_now(f);
	l->prior_ssthresh = 0;
	l->may_undo = false;
	l->frto = false;
	l->state = CC_LOSS;
}

/* Linux knows the path; what a search found out goes further. */
void loss_set_mss(struct fp_core *c, struct flow *f, uint32_t mss)
{
	struct loss *l = &f->ext->loss;
	struct mtu *m = &f->ext->mtu;
	bool less = mss < m->max;
	uint32_t lost;

	if (less)
		loss_record(c, f);
	lost = l->sb.lost;
	m->max = mss;
	m->high = m->high < mss ? m->high : mss;
	f->snd_mss = mss_now(m);
	if (less)
		mark_long(f, f->snd_una);
	if (l->sb.lost != lost)
		send_again(f);
	if (f->cwnd < f->snd_mss)
		f->cwnd = f->snd_mss;
	if (f->snd_una != f->snd_nxt && !f->rto_at)
		loss_rearm(c, f);
	flow_judge(f);
	flow_list(c, f);
}

/* tcp_mtu_probing(). The time-out does the rest. */
void mtu_black_hole(const struct fp_core *c, struct flow *f)
{
	struct mtu *m = &f->ext->mtu;
	uint32_t low = m->base;

	if (!f->mtu_probing)
		return;
	if (!m->low)
		m->began_ns = c->now_ns;
	else if (m->low / 2 < low)
		low = m->low / 2;
	m->low = low < m->floor ? m->floor : low;
	f->snd_mss = mss_now(m);
}

/* ---- the search -------------------------------------------------------------
 */

/* The search is at its end: was its beginning long enough ago? */
static void begin_anew(const struct fp_core *c, struct flow *f)
{
	struct mtu *m = &f->ext->mtu;

	if (c->now_ns - m->began_ns < m->interval_s * UINT64_C(1000000000))
		return;
	m->low = f->snd_mss;
	m->high = m->max;
	m->began_ns = c->now_ns;
}

/* Nothing lost, SACKed or sent again, nothing missing of the peer's data (SACK
 * blocks would make segments longer), and no probe is out. */
static bool may_probe(const struct flow *f)
{
	const struct loss *l = &f->ext->loss;

	return !f->ext->mtu.len && l->state == CC_OPEN && !l->sb.sacked &&
	       !l->sb.lost && !l->reno_sacked && !loss_any_retrans(l) &&
	       f->cwnd >= PROBE_CWND_SEGS * f->snd_mss && !f->ext->ooo.n &&
	       !f->ext->ooo.duplicate;
}

uint32_t mtu_probe_len(const struct fp_core *c, struct flow *f, bool *wait)
{
	uint32_t len, need, pipe, room = 2 * f->snd_mss;
	struct mtu *m = &f->ext->mtu;

	if (!m->low || !may_probe(f))
		return 0;
	if (m->high < m->low + m->threshold) {
		begin_anew(c, f);
		return 0;
	}
	len = m->low + (m->high - m->low) / 2;
	need = len + (f->ext->loss.reordering + 1) * f->snd_mss;
	if (flow_unsent(f) < need || f->snd_wnd < need)
		return 0;
	if (room < len)
		room = len;
	/* It never waits without anything under way, for that would last. */
	pipe = loss_pipe(f);
	*wait = f->snd_nxt - f->snd_una + need > f->snd_wnd ||
		(pipe && pipe + room > f->cwnd);
	return *wait ? 0 : len;
}

void mtu_probe_sent(struct flow *f, uint32_t seq, uint32_t len)
{
	struct mtu *m = &f->ext->mtu;
	uint32_t sent = f->snd_nxt - seq;

	if (sent < len) /* as much as a frame holds */
		m->high = sent < m->low ? m->low : sent;
	if (sent <= f->snd_mss)
		return;
	m->seq = seq;
	m->len = sent;
}

void mtu_acked(struct flow *f)
{
	struct mtu *m = &f->ext->mtu;

	if (seq_lt(f->snd_una, m->seq + m->len))
		return;
	m->low = m->len;
	m->len = 0;
	f->snd_mss = mss_now(m);
	f->ssthresh = cwnd_ssthresh_now(f);
	f->cwnd_acked = 0;
	if (f->cwnd < f->snd_mss)
		f->cwnd = f->snd_mss;
}

void mtu_resent(struct flow *f)
{
	f->ext->mtu.len = 0;
}

bool mtu_probe_lost(struct flow *f)
{
	struct mtu *m = &f->ext->mtu;

	if (!m->len || f->ext->loss.state != CC_OPEN || f->snd_una != m->seq)
		return false;
	if (m->high >= m->len)
		m->high = m->len - 1;
	/* Without SACK only its first bytes may be marked yet. */
	mark_long(f, m->seq + m->len);
	m->len = 0;
	send_again(f);
	return true;
}
