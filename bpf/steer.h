/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * steer.h - what the XDP program and the service share: map layouts, verdicts
 *
 * Keys are in network byte order. Maps: owned_v4 (hash, key __be32, value
 * __u8), owned_v6 (hash, key struct steer_v6, value __u8), xsks (XSKMAP, key
 * queue number), verdicts (per-CPU array of __u64, key enum steer_verdict),
 * filter (program array, pinned: slot 0 an operator's program, which passes a
 * frame on by a tail call to slot 1).
 */
#ifndef BPF_STEER_H
#define BPF_STEER_H

#include <linux/types.h>

#define STEER_MAX_QUEUES 64
#define STEER_MAX_ADDRS 256
#define STEER_SLOT_OPERATOR 0
#define STEER_SLOT_STEER 1

struct steer_v6 {
	__u8 addr[16];
};

/* name, text */
#define STEER_VERDICTS(X)                                                      \
	X(REDIRECT, "to the AF_XDP socket of their queue")                     \
	X(NO_SOCKET,                                                           \
	  "passed: for an owned address, but no socket on the queue")          \
	X(NOT_OWNED, "passed: not for an owned address")                       \
	X(SHORT, "passed: too short for their headers")                        \
	X(OTHER_PROTO, "passed: neither ARP, IPv4 nor IPv6")

enum steer_verdict {
#define X(name, text) STEER_##name,
	STEER_VERDICTS(X)
#undef X
		STEER_VERDICT_COUNT
};

#endif
