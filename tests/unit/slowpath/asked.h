/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * asked.h - the commands that wait for a core
 *
 * In a file of its own: the core's private header and the slow path's each have
 * a struct held_frame.
 */
#ifndef TESTS_UNIT_SLOWPATH_ASKED_H
#define TESTS_UNIT_SLOWPATH_ASKED_H

#include "fastpath/fastpath.h"

/* Type of the @n-th command, the next one being 0; 0: there are not so many. */
uint32_t asked_type(const struct fp_core *c, uint32_t n);

#endif
