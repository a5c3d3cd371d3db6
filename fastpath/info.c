/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * info.c - a flow's numbers as TCP_INFO shows them
 */
#include "fastpath/info.h"
#include "fastpath/core.h"

void flow_info_fill(const struct flow *f, uint64_t now_ns, struct fp_info *i)
{
	*i = (struct fp_info){
		.rto = f->rto_us,
		.snd_mss = f->snd_mss,
		.rtt = f->srtt8_us >> 3,
		.rttvar = f->rttvar4_us >> 2,
		.snd_cwnd = f->cwnd / f->snd_mss,
		.pacing_rate = UINT64_MAX,
		.min_rtt = UINT32_MAX,
		.snd_wnd = f->snd_wnd,
		.rcv_wnd = f->rcv_wnd,
		.notsent_bytes = flow_unsent(f),
		.ago_data_sent_ns = UINT64_MAX,
		.ago_data_rcvd_ns = now_ns - f->rcv_ns,
	};
}
