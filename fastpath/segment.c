/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * segment.c - from a frame to a segment in host byte order
 *
 * Read first: RFC 9293 3.1 and 3.2, RFC 7323 3.2, RFC 2018 3, RFC 3168 6.1.
 * State: none.
 */
#include "fastpath/segment.h"
#include "fastpath/csum.h"

#define CE 3u /* of the traffic class */

static void parse_sacks(struct segment *s, const uint8_t *p, unsigned int n)
{
	for (; n && s->n_sacks < SEG_SACK_MAX; n--, p += 8)
		s->sack[s->n_sacks++] = (struct sack_block){
			.start = ntohl(csum_load32(p)),
			.end = ntohl(csum_load32(p + 4)),
		};
}

static void parse_option(struct segment *s, const uint8_t *p)
{
	if (*p == TCPOPT_TIMESTAMP && p[1] == TCPOLEN_TIMESTAMP) {
		s->ts = true;
		s->tsval = ntohl(csum_load32(p + 2));
		s->tsecr = ntohl(csum_load32(p + 6));
	} else if (*p == TCPOPT_SACK && p[1] >= 10 && (p[1] - 2) % 8 == 0) {
		parse_sacks(s, p + 2, (p[1] - 2u) / 8);
	}
}

static void parse_options(struct segment *s, const struct frame *fr)
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
		parse_option(s, p);
		p += p[1];
	}
}

void segment_parse(struct segment *s, const struct frame *fr)
{
	const struct tcphdr *th = frame_tcp(fr);
	uint32_t tos = fr->v6 ? ntohl(frame_ip6(fr)->ip6_flow) >> 20
			      : frame_ip4(fr)->tos;

	memset(s, 0, sizeof(*s));
	s->first = s->seq = ntohl(th->seq);
	s->ack = ntohl(th->ack_seq);
	s->wnd = ntohs(th->window);
	s->urg = ntohs(th->urg_ptr);
	s->flags = fr->data[fr->l4 + 13];
	s->fin = s->flags & SEG_FLAG_FIN;
	s->ce = (tos & CE) == CE;
	s->len = fr->payload_len;
	s->data = fr->data + fr->payload;
	parse_options(s, fr);
}

bool segment_checksums_ok(const struct frame *fr)
{
	if (!fr->v6 &&
	    csum_fold(csum_add(frame_ip4(fr), sizeof(struct iphdr), 0)))
		return false;
	return frame_tcp_checksum_ok(fr);
}
