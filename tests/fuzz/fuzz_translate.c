/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_translate.c - any segment, any numbers, through the translator
 *
 * Input: a byte of switches, the numbers of a connection, a frame. Whatever
 * parses as TCP must still parse the same way afterwards, be no longer than
 * before, have a right checksum if it had one, and its numbers must be those
 * that the definition says.
 */
#include "slowpath/translate.h"

#include <assert.h>
#include <stdlib.h>

#define NUMBERS (9 * sizeof(uint32_t))

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct translation t;
static struct flow_view v;
static bool live;
static uint32_t now;

static void numbers_read(const uint8_t *data)
{
	uint32_t n[9];

	memcpy(n, data + 1, sizeof(n));
	live = data[0] & 1;
	t.timestamps = data[0] & 2;
	t.reset = data[0] & 4;
	t.rcv_wscale = (data[0] >> 4) % 15;
	t.snd_base = n[0];
	t.rcv_base = n[1];
	t.ts_offset = n[2];
	v.snd_una = n[3];
	v.snd_nxt = n[4];
	v.rcv_nxt = n[5];
	v.rcv_wnd = n[6];
	v.ts_recent = n[7];
	now = n[8];
}

static void same_shape(const struct frame *f, uint32_t len, bool tcp_ok)
{
	struct frame g;

	assert(f->len <= len);
	assert(frame_parse(&g, f->data, f->len) == FRAME_TCP);
	assert(g.v6 == f->v6 && g.l4 == f->l4 && g.payload == f->payload);
	assert(g.payload_len == f->payload_len);
	assert(frame_tcp_checksum_ok(&g) == tcp_ok);
}

static void to_linux(struct frame *f)
{
	struct tcphdr old = *frame_tcp(f);
	uint32_t seq = ntohl(old.seq), end = seq + f->payload_len, got;
	uint32_t len = f->len;
	bool ok = frame_tcp_checksum_ok(f);
	uint32_t ts[4];
	bool has_ts = translate_timestamps(f, &ts[0], &ts[1]);

	translate_to_linux(&t, &v, f);
	same_shape(f, len, ok);
	assert(translate_timestamps(f, &ts[2], &ts[3]) == has_ts);
	if (old.syn) {
		assert(!memcmp(&old, frame_tcp(f), sizeof(old)));
		return;
	}
	got = ntohl(frame_tcp(f)->seq);
	if (seq_geq(seq, v.rcv_nxt) && seq - v.rcv_nxt > 1 &&
	    seq - v.rcv_nxt <= v.rcv_wnd &&
	    (t.reset || (end == seq && !old.fin)))
		assert(got - t.rcv_base == old.rst);
	else if (seq_geq(seq, v.rcv_nxt))
		assert(got - t.rcv_base == seq - v.rcv_nxt);
	else if (f->payload_len)
		assert(got == t.rcv_base && f->payload_len == end - v.rcv_nxt);
	else
		assert(got == t.rcv_base || got == t.rcv_base - 1);
	if (!old.ack)
		assert(old.ack_seq == frame_tcp(f)->ack_seq);
	assert(old.window == frame_tcp(f)->window);
}

static void to_wire(struct frame *f)
{
	struct tcphdr old = *frame_tcp(f);
	uint32_t len = f->len, tsval, tsecr;
	bool ok = frame_tcp_checksum_ok(f);

	translate_to_wire(&t, &v, live, now, f);
	same_shape(f, len, old.syn ? ok : true);
	assert(f->len == len);
	if (old.syn)
		return;
	if (old.rst && old.ack && !seq_geq(ntohl(old.seq), t.snd_base))
		assert(ntohl(frame_tcp(f)->seq) == v.snd_nxt);
	else if (!live)
		assert(ntohl(frame_tcp(f)->seq) - v.snd_nxt ==
		       ntohl(old.seq) - t.snd_base);
	if (old.ack)
		assert(ntohl(frame_tcp(f)->ack_seq) - v.rcv_nxt ==
		       ntohl(old.ack_seq) - t.rcv_base);
	if (t.timestamps && translate_timestamps(f, &tsval, &tsecr))
		assert(tsval == now + t.ts_offset);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *room;
	struct frame f;
	size_t len;

	if (size < 1 + NUMBERS || size > 4000)
		return 0;
	numbers_read(data);
	len = size - 1 - NUMBERS;
	room = malloc(len + 2); /* IP headers aligned, the end exact */
	assert(room);
	memcpy(room + 2, data + 1 + NUMBERS, len);
	if (frame_parse(&f, room + 2, len) == FRAME_TCP) {
		if (data[0] & 8)
			to_linux(&f);
		else
			to_wire(&f);
	}
	free(room);
	return 0;
}
