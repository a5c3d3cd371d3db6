/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * translate.h - between Linux's sequence space and the wire's
 *
 * Pure functions on frames in memory: no state, no system call, thread-safe.
 * Sequence numbers are in host byte order.
 */
#ifndef SLOWPATH_TRANSLATE_H
#define SLOWPATH_TRANSLATE_H

#include "fastpath/fastpath.h"

/* What the two spaces had in common when the connection was offloaded. */
struct translation {
	uint32_t snd_base; /* Linux's snd_nxt, frozen since */
	uint32_t rcv_base; /* Linux's rcv_nxt, frozen since */
	/* Of what Linux still had to send, which the fast path did: how much
	 * of it Linux does not know to be acknowledged yet. */
	uint32_t snd_behind;
	uint32_t ts_offset; /* tsval = CLOCK_MONOTONIC ms + this */
	uint8_t rcv_wscale;
	bool timestamps;
	bool reset; /* Linux sent a RST: the peer's acks pass unclamped, so
		     * that Linux's answer to one names what the peer has */
};

/* Rewrite a segment of Linux's for the wire, checksums anew. @live: the flow
 * still exists, so window and TSecr are its own. A segment with SYN is of
 * another connection and stays as it is. */
void translate_to_wire(const struct translation *t, const struct flow_view *v,
		       bool live, uint32_t now_ms, struct frame *f);

/* Rewrite a segment of the peer's for Linux; payload that the fast path took
 * is cut off. f->len, payload_len and the IP length follow. A wrong checksum
 * stays wrong. A segment with SYN stays as it is. */
void translate_to_linux(const struct translation *t, const struct flow_view *v,
			struct frame *f);

/* The timestamps option of a segment (RFC 7323); false: it has none. */
bool translate_timestamps(const struct frame *f, uint32_t *tsval,
			  uint32_t *tsecr);

/* Does the segment acknowledge data behind a gap (RFC 2018; D-SACK blocks, RFC
 * 2883, tell of none)? */
bool translate_reports_gap(const struct frame *f);

/* An ICMP or ICMPv6 error (a whole Ethernet frame) about one of our TCP
 * segments: the connection that it quotes (true), and the quoted sequence
 * number in Linux's space. A wrong checksum stays wrong. */
bool translate_icmp_key(const uint8_t *data, uint32_t len,
			struct conn_key *key);
void translate_icmp_to_linux(const struct translation *t,
			     const struct flow_view *v, uint8_t *data,
			     uint32_t len);

/* Build a segment from the peer to Linux in @buf (room >= 128); its length. @l2
 * is the header of frames to the peer, turned round here. Pure ACK, or with
 * @keepalive one byte at seq - 1. tsval/tsecr only with t->timestamps. */
uint32_t translate_build_ack(const struct conn_key *key, const uint8_t *l2,
			     const struct translation *t, uint32_t seq,
			     uint32_t ack, uint16_t window, uint32_t tsval,
			     uint32_t tsecr, bool keepalive, uint8_t *buf);

#endif
