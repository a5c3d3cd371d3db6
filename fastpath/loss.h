/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * loss.h - what is on its way, and what of it is lost
 */
#ifndef FASTPATH_LOSS_H
#define FASTPATH_LOSS_H

#include <stdbool.h>
#include <stdint.h>

struct loss {
	bool in_recovery; /* RFC 6582 fast recovery */
	uint8_t dup_acks;
	uint32_t recover; /* RFC 6582 */
};

#endif
