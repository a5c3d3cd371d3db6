/* SPDX-License-Identifier: BSD-2-Clause */
/* asked.c - see asked.h */
#include "tests/unit/slowpath/asked.h"

#include "fastpath/core.h"

uint32_t asked_type(const struct fp_core *c, uint32_t n)
{
	const struct msg_ring *r = &c->cmd;

	if (n >= r->producer - r->consumer)
		return 0;
	return r->slots[(r->consumer + n) & (FP_RING_SLOTS - 1)].type;
}
