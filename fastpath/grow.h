/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * grow.h - larger buffers for flows whose path needs them
 */
#ifndef FASTPATH_GROW_H
#define FASTPATH_GROW_H

#include <stdbool.h>
#include <stdint.h>

struct fp_core;
struct flow;

struct grow {
	uint8_t *area;	/* large area, NULL: none yet */
	uint32_t limit; /* of either buffer; 0: they don't grow */
	uint32_t max;	/* bytes of either buffer in it; 0: nothing granted */
	uint32_t want_rx, want_tx; /* sizes that would be right, 0: as it is */
	uint32_t offered_tx;	   /* largest that the program was told of */
	uint32_t told_off;	   /* off of the next XTS_REPLY_GROWN */
	uint64_t asked_ns;  /* when the slow path was last asked; 0: never */
	uint32_t copied;    /* stream position the program had reached at ... */
	uint64_t copied_ns; /* ... this time */
	uint32_t space;	    /* most that it took in one round trip */
	/* The receiver's round trip. */
	uint32_t rtt8_us;   /* times 8; 0: none measured */
	uint32_t rtt_tsecr; /* of the last sample */
	bool rtt_due;	    /* the next segment is to be looked at */
	uint64_t rtt_ns;    /* when that was last so; without time stamps when
			     * the window was measured, and ... */
	uint32_t rtt_seq;   /* ... its right edge */
};

#pragma GCC visibility push(hidden)

/* The program took data: does the receive buffer hold back the peer? */
void grow_receive(struct fp_core *c, struct flow *f);
/* A segment with data arrived, @tsecr its echo of ours, @len its length. */
void grow_measure(struct fp_core *c, struct flow *f, uint32_t tsecr,
		  uint32_t len);
/* Much is waiting to be sent: does the transmit buffer hold back the window? */
void grow_transmit(struct fp_core *c, struct flow *f);
/* The slow path's answer: @max bytes for either buffer at @area, 0: no. */
void grow_granted(struct fp_core *c, struct flow *f, uint8_t *area,
		  uint32_t max);
/* The program moved its unsent and unacknowledged data, whose first byte lay
 * at @off, into a transmit buffer of @size bytes. NULL, or what is wrong. */
const char *grow_tx_moved(struct flow *f, uint32_t off, uint32_t size);
/* @len bytes at offset @off of the ring @from of @size bytes, to the same
 * offset of the larger ring @to, where they do not wrap round. */
void grow_copy(uint8_t *to, const uint8_t *from, uint32_t size, uint32_t off,
	       uint32_t len);

#pragma GCC visibility pop

#endif
