// SPDX-License-Identifier: BSD-2-Clause
/*
 * fuzz_frame.c - frame_parse() on any bytes
 *
 * The input is a frame, in a buffer of exactly its length so that the
 * sanitizer sees every read beyond it. What must hold of whatever was parsed:
 * headers and payload lie inside the frame, in this order; the key's two
 * directions mirror each other; checksums that were set anew are right.
 */
#include "tap/frame.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void check_segment(struct frame *f, size_t size)
{
	struct conn_key in, out;

	require(f->len == size);
	require(f->l3 == ETH_HLEN);
	require(f->l4 == f->l3 + (f->v6 ? sizeof(struct ip6_hdr)
					: sizeof(struct iphdr)));
	require(f->payload >= f->l4 + sizeof(struct tcphdr));
	require(f->payload - f->l4 <= 60);
	require((size_t)f->payload + f->payload_len <= size);

	frame_key(f, true, &in);
	frame_key(f, false, &out);
	require(in.family == (f->v6 ? AF_INET6 : AF_INET));
	require(!memcmp(in.local, out.peer, 16));
	require(!memcmp(in.peer, out.local, 16));
	require(in.lport == out.pport && in.pport == out.lport);

	frame_tcp_checksum_ok(f);
	frame_set_checksums(f);
	require(frame_tcp_checksum_ok(f));
	if (!f->v6)
		require(!csum_fold(
			csum_add(frame_ip4(f), sizeof(struct iphdr), 0)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size ? size : 1);
	struct frame f;

	if (!copy)
		return 0;
	memcpy(copy, data, size);
	if (frame_parse(&f, copy, (uint32_t)size) == FRAME_TCP)
		check_segment(&f, size);
	free(copy);
	return 0;
}
