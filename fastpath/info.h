/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * info.h - a flow's numbers as TCP_INFO shows them
 *
 * Filled on the flow's core when somebody asks. Fields bear the names of struct
 * tcp_info without their prefix, and its units: segments where Linux counts
 * segments, microseconds, bytes a second.
 */
#ifndef FASTPATH_INFO_H
#define FASTPATH_INFO_H

#include <stdint.h>

struct flow;

/* Values of fp_info.ca_state: TCP_CA_*. */
enum fp_ca_state {
	FP_CA_OPEN,
	FP_CA_DISORDER,
	FP_CA_CWR,
	FP_CA_RECOVERY,
	FP_CA_LOSS,
};

struct fp_info {
	uint32_t ca_state;    /* enum fp_ca_state */
	uint32_t retransmits; /* time-outs in a row without progress */
	uint32_t probes;      /* zero-window probes without an answer */
	uint32_t backoff;
	uint32_t rto; /* us, back-off included */
	uint32_t ato; /* us */
	uint32_t snd_mss, rcv_mss;
	uint32_t unacked, sacked, lost, retrans; /* segments */
	uint32_t rtt, rttvar;			 /* us */
	uint32_t snd_ssthresh; /* segments; 0x7fffffff: none yet */
	uint32_t snd_cwnd;     /* segments */
	uint32_t reordering;   /* segments */
	uint32_t rcv_rtt;      /* us; 0: not known */
	uint32_t rcv_space;    /* bytes */
	uint32_t rcv_ssthresh; /* bytes */
	uint32_t total_retrans;
	uint64_t pacing_rate; /* bytes a second; UINT64_MAX: none */
	uint64_t bytes_acked, bytes_received;
	uint64_t bytes_sent, bytes_retrans; /* sent: retransmissions included */
	uint32_t notsent_bytes;
	uint32_t min_rtt;	/* us; UINT32_MAX: none measured */
	uint64_t delivery_rate; /* bytes a second */
	uint32_t delivery_rate_app_limited;
	uint32_t delivered, delivered_ce;   /* segments */
	uint32_t dsack_dups;		    /* segments */
	uint32_t reord_seen;		    /* times */
	uint32_t total_rto, total_rto_time; /* time-outs; ms in them */
	uint32_t total_rto_recoveries;
	uint32_t snd_wnd, rcv_wnd; /* bytes */
	uint32_t segs_lost;	   /* ever marked lost */
	uint64_t ago_data_sent_ns; /* since data were last sent and ... */
	uint64_t ago_data_rcvd_ns; /* ... received; UINT64_MAX: never */
};

#pragma GCC visibility push(hidden)

/* On the flow's core only. @now_ns: the turn's time. */
void flow_info_fill(const struct flow *f, uint64_t now_ns, struct fp_info *i);

#pragma GCC visibility pop

#endif
