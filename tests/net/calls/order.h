/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * order.h - what the program under test tells its peer
 *
 * The program has the control connection, a UNIX socket of packets; the peer
 * answers each order once it is carried out, or at once if it is for later.
 * A slot is one connection of the peer's, numbered as the program does.
 */
#ifndef TESTS_NET_CALLS_ORDER_H
#define TESTS_NET_CALLS_ORDER_H

#include <netinet/in.h>
#include <stdint.h>
#include <sys/socket.h>

#define SLOTS 6
#define LIMIT_MS 5000 /* for whatever is to happen */

enum order_op {
	ORDER_HELLO = 'h',   /* the program listens at `to` */
	ORDER_CONNECT = 'C', /* n: what the streams are made from */
	ORDER_ACCEPT = 'A',  /* the same */
	ORDER_SEND = 'S',    /* n bytes; answered when all are acknowledged */
	ORDER_EXPECT = 'E',  /* read n bytes: those of the stream? */
	ORDER_TEXT = 'T',    /* read n bytes that are none of the stream */
	ORDER_FIN = 'F',     /* shut the sending side; acknowledged */
	ORDER_RESET = 'R',
	ORDER_CLOSE = 'X', /* when n bytes have come */
	ORDER_END = 'Z',   /* read n bytes, then the end; close */
	ORDER_LAST = 'L',  /* the result of the last order for later */
};

struct order {
	uint8_t op;
	uint8_t slot;
	uint16_t later_ms; /* 0: now */
	uint32_t n;
	struct sockaddr_storage to;
};

struct answer {
	int32_t result; /* bytes, or 0 */
	int32_t err;	/* errno, 0 if it went well */
	char text[32];
};

/* The streams of a connection: the program's and the peer's. */
static inline uint32_t stream_ours(uint32_t n)
{
	return n * 7919u;
}
static inline uint32_t stream_theirs(uint32_t n)
{
	return n * 7919u + 500009u;
}

int peer_main(const char *path, const char *port);

#endif
