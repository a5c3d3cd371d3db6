/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcp_info.h - all of the kernel's struct tcp_info
 *
 * libc's ends after tcpi_total_retrans, and linux/tcp.h, which goes on, can't
 * be included beside netinet/tcp.h. The kernel gives as much as it has and the
 * caller takes: the fields up to snd_wnd are in Linux 5.4's, rcv_wnd and rehash
 * came with 6.2, the time-outs' numbers with 6.7; a newer kernel's goes on
 * further.
 */
#ifndef LIBSOCK_TCP_INFO_H
#define LIBSOCK_TCP_INFO_H

#include <assert.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdint.h>

struct long_info {
	struct tcp_info base;
	uint64_t pacing_rate, max_pacing_rate, bytes_acked, bytes_received;
	uint32_t segs_out, segs_in;
	uint32_t notsent_bytes;
	uint32_t min_rtt, data_segs_in, data_segs_out;
	uint64_t delivery_rate, busy_time, rwnd_limited, sndbuf_limited;
	uint32_t delivered, delivered_ce;
	uint64_t bytes_sent, bytes_retrans;
	uint32_t dsack_dups, reord_seen;
	uint32_t rcv_ooopack;
	uint32_t snd_wnd, rcv_wnd, rehash;
	uint16_t total_rto, total_rto_recoveries;
	uint32_t total_rto_time;
};
static_assert(offsetof(struct long_info, pacing_rate) == 104, "libc's part");
static_assert(offsetof(struct long_info, rcv_ooopack) == 224,
	      "kernel's layout");
static_assert(offsetof(struct long_info, total_rto) == 240, "kernel's layout");

#endif
