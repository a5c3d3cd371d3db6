/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cc.h - congestion control: a table of operations per algorithm
 *
 * An algorithm sees a flow's cwnd, ssthresh and flight and changes cwnd and
 * ssthresh, in bytes; what is sent when a segment is lost is recovery.c's.
 */
#ifndef FASTPATH_CC_H
#define FASTPATH_CC_H

#include <stdint.h>

struct flow;

struct cc_ops {
	const char *name;
	/* @acked new bytes were acknowledged while cwnd was the limit. */
	void (*ack)(struct flow *f, uint32_t acked);
	/* Loss seen by duplicate ACKs: a new ssthresh. */
	void (*loss)(struct flow *f);
	/* Retransmission time-out. */
	void (*rto)(struct flow *f);
};

extern const struct cc_ops cc_reno;

#endif
