/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * info.c - TCP_INFO
 *
 * State: none; reads the flow on its core.
 */
#include "fastpath/info.h"
#include "fastpath/sender.h"

static uint32_t segs(const struct flow *f, uint32_t bytes)
{
	return (bytes + f->snd_mss - 1) / f->snd_mss;
}

static void fill_state(const struct flow *f, struct fp_info *i)
{
	static const uint8_t states[] = {
		[CC_OPEN] = FP_CA_OPEN,
		[CC_CWR] = FP_CA_CWR,
		[CC_RECOVERY] = FP_CA_RECOVERY,
		[CC_LOSS] = FP_CA_LOSS,
	};
	const struct loss *l = &f->ext->loss;

	i->ca_state = states[l->state];
	if (l->state == CC_OPEN && (l->sb.sacked || l->reno_sacked))
		i->ca_state = FP_CA_DISORDER;
	i->retransmits = l->retransmits;
	i->probes = f->probes;
	i->backoff = f->backoff;
	i->unacked = l->sb.n ? l->sb.n : segs(f, f->snd_nxt - f->snd_una);
	i->sacked = f->sack ? l->sb.sacked_n : segs(f, l->reno_sacked);
	i->lost = segs(f, l->sb.lost);
	i->retrans = segs(f, l->sb.retrans);
	i->reordering = l->reordering;
	i->reord_seen = l->reord_seen;
	i->total_retrans = l->total_retrans;
	i->segs_lost = l->total_lost;
	i->dsack_dups = l->total_dsack;
	i->total_rto = l->total_rto;
	i->total_rto_time = (uint32_t)(l->rto_total_ns / 1000000);
	i->total_rto_recoveries = l->rto_recoveries;
}

static void fill_rate(const struct flow *f, struct fp_info *i)
{
	const struct flow_ext *x = f->ext;
	const struct loss *l = &x->loss;
	uint32_t acked = f->snd_una - x->epoch_una;

	i->bytes_acked = x->bytes_acked + acked;
	i->bytes_received = x->bytes_received + f->rcv_nxt - x->epoch_rcv;
	i->bytes_retrans = l->bytes_retrans;
	i->bytes_sent =
		i->bytes_acked + f->snd_nxt - f->snd_una + l->bytes_retrans;
	i->delivered = (uint32_t)((x->delivered + acked) / f->snd_mss);
	i->delivered_ce = l->delivered_ce;
	i->min_rtt = loss_min_rtt(l);
	if (l->rate_us)
		i->delivery_rate =
			(uint64_t)l->rate_bytes * 1000000 / l->rate_us;
	i->delivery_rate_app_limited = l->rate_app_limited;
	i->pacing_rate = flow_pace(x) ? flow_pace(x) : UINT64_MAX;
}

void flow_info_fill(const struct flow *f, uint64_t now_ns, struct fp_info *i)
{
	memset(i, 0, sizeof(*i));
	fill_state(f, i);
	fill_rate(f, i);
	i->rto = (uint32_t)(loss_rto_ns(f) / 1000);
	i->ato = DELACK_NS / 1000;
	i->snd_mss = f->snd_mss;
	i->rcv_mss = f->rcv_mss;
	i->rcv_rtt = f->ext->grow.rtt8_us / 8;
	i->rtt = f->srtt8_us / 8;
	i->rttvar = f->rttvar4_us / 4;
	i->snd_ssthresh = f->ssthresh >= 1u << 30 ? 0x7fffffff
						  : f->ssthresh / f->snd_mss;
	i->snd_cwnd = f->cwnd / f->snd_mss;
	i->rcv_space = i->rcv_ssthresh = f->rx_size;
	i->notsent_bytes = flow_unsent(f);
	i->snd_wnd = f->snd_wnd;
	i->rcv_wnd = f->rcv_wnd;
	i->ago_data_sent_ns = f->sent_ns ? now_ns - f->sent_ns : UINT64_MAX;
	i->ago_data_rcvd_ns = f->rcv_ns ? now_ns - f->rcv_ns : UINT64_MAX;
}
