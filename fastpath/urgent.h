/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * urgent.h - urgent data of a flow, both ways
 */
#ifndef FASTPATH_URGENT_H
#define FASTPATH_URGENT_H

#include <stdbool.h>
#include <stdint.h>

struct flow;
struct fp_core;
struct segment;

struct urgent {
	uint32_t snd_up;  /* one past our urgent byte */
	uint32_t rcv_up;  /* the peer's urgent byte */
	bool sending;	  /* snd_up is not acknowledged yet */
	bool receiving;	  /* rcv_up is not received in order yet */
	bool found;	  /* though the byte has come */
	bool stdurg;	  /* net.ipv4.tcp_stdurg */
	bool fresh;	  /* the program is to be told of the pointer ... */
	uint16_t byte;	  /* ... and that, XTS_URGENT_HAS set, the byte came */
	uint16_t notices; /* pointers that Linux was told of */
};

#pragma GCC visibility push(hidden)

/* The sixth step of RFC 9293 3.10.7.4, before the segment text. true: @s names
 * a new urgent byte; the program is told. */
bool urgent_take(struct fp_core *c, struct flow *f, const struct segment *s);
/* rcv_nxt has moved; snd_una has moved. */
void urgent_received(struct flow *f);
void urgent_acked(struct flow *f);
/* The last byte in the transmit buffer is urgent. */
void urgent_send(struct flow *f);
/* The urgent pointer of a segment at @seq, 0: none. */
uint16_t urgent_pointer(const struct flow *f, uint32_t seq);

#pragma GCC visibility pop

/* Segments carry, or may carry, the URG bit; or the urgent byte. */
static inline bool urgent_busy(const struct urgent *u)
{
	return u->sending || u->receiving;
}

#endif
