/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pair.h - a connected pair for libsock's tests: an XTS socket, a kernel peer
 */
#ifndef TESTS_PAIR_H
#define TESTS_PAIR_H

#include "libsock/xts.h"
#include "tests/unit/libsock/fakesvc.h"

#include <netinet/in.h>

/* A listening kernel socket on the loopback, its address in *in. */
int pair_listen(struct sockaddr_in *in);
/* Blocking sockets; XTS number, the peer's descriptor in *peer. */
int pair_open(int *peer);
/* The same, offloaded; with ectx registered there for events. */
int pair_offloaded(int *peer, void *ectx, uint32_t events,
		   struct fakesvc_flow **flow);
void pair_close(int s, int peer);

#endif
