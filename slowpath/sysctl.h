/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sysctl.h - a number of /proc/sys, known without reading it each time
 */
#ifndef SLOWPATH_SYSCTL_H
#define SLOWPATH_SYSCTL_H

#include <stdint.h>

struct sysctl {
	int fd; /* -1: this kernel has none, the value is 0 */
	unsigned int value;
	uint64_t read_ns; /* when it was last read; 0: never */
};

/* The file shows the network namespace in which it is opened. */
void sysctl_open(struct sysctl *s, const char *path);
void sysctl_close(struct sysctl *s);
/* At most a second old. */
unsigned int sysctl_value(struct sysctl *s, uint64_t now_ns);
/* As it is now; @otherwise: this kernel has none. */
unsigned int sysctl_once(const char *path, unsigned int otherwise);

#endif
