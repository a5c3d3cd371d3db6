/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * large.h - large buffers for connections that have outgrown their own
 */
#ifndef SLOWPATH_LARGE_H
#define SLOWPATH_LARGE_H

#include "slowpath/slots.h"

#include <stdint.h>

#define LARGE_AREAS 256u /* of one program */
/* Room for a receive and a transmit buffer. */
#define LARGE_SIZE (UINT64_C(2) * XTS_BUF_MAX)

struct daemon;
struct fp_msg;
struct large; /* one area in use */
struct program;

/* A program's large areas. */
struct large_set {
	struct large *by_slot; /* uthash */
	struct slots areas;    /* numbers that are free */
	uint64_t granted;      /* bytes, all together */
};

int large_init(struct large_set *l); /* 0 or -ENOMEM */
void large_destroy(struct large_set *l);
/* Largest buffer that the system's limits allow (tcp_rmem); 0: none. */
uint32_t large_limit(void);
/* FP_EV_GROW */
void large_wanted(struct daemon *d, unsigned int core, const struct fp_msg *m);
/* The connection with the small buffers @slot is gone. */
void large_give(struct program *a, uint32_t slot);

#endif
