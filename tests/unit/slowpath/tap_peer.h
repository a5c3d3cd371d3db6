/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tap_peer.h - Linux's TCP on a TAP device, its peer played by hand
 *
 *   this process                    Linux, in a network namespace of its own
 *   10.77.0.1, fd77::1  --- TAP --- 10.77.0.2, fd77::2
 *
 * The test decides each segment that Linux sees, and sees each that it sends.
 */
#ifndef TESTS_TAP_PEER_H
#define TESTS_TAP_PEER_H

#include "tests/unit/slowpath/segment.h"

#define PEER_PORT 7000 /* Linux listens */
#define PEER_MTU 1500

struct peer {
	struct segment_buf b; /* last frame of Linux's */
	uint32_t len;	      /* of it */
	struct segment last;  /* as a segment */
	struct segment t;     /* what the peer sends next: seq, ack, ... */
	int listener, fd;     /* Linux's sockets */
};

struct peer_opt {
	bool v6;
	bool mapped; /* IPv4 on an IPv6 socket */
	bool ts;
	bool ecn;
	bool no_sack;
	int wscale; /* -1: none */
	uint16_t window;
};

/* A namespace with the TAP for this process, once; a message and exit if it
 * can't be. The index of the TAP. */
unsigned int peer_host(void);
/* A connection that the peer opened. */
void peer_connect(struct peer *p, const struct peer_opt *o);
/* Send p->t with these flags and payload; seq moves on. */
void peer_send(struct peer *p, uint8_t flags, uint32_t len);
void peer_send_frame(const uint8_t *frame, uint32_t len);
/* Linux's next TCP segment within 300 ms into p->last; false: none. p->t.ack
 * and tsecr follow it. */
bool peer_receive(struct peer *p);
/* The same without waiting, and without p->t following. */
bool peer_peek(struct peer *p);
void peer_close(struct peer *p);

#endif
