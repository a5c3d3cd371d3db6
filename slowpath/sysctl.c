/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sysctl.c - a number of /proc/sys, known without reading it each time
 *
 * The administrator may change it at any time and nobody tells: it is read
 * again by the first who asks a second later. The descriptor stays open, so
 * that a read costs one system call and needs no path in a namespace that the
 * process may have left. One thread.
 */
#include "slowpath/sysctl.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define FRESH_NS UINT64_C(1000000000)

void sysctl_open(struct sysctl *s, const char *path)
{
	*s = (struct sysctl){.fd = open(path, O_RDONLY | O_CLOEXEC)};
}

void sysctl_close(struct sysctl *s)
{
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
}

unsigned int sysctl_value(struct sysctl *s, uint64_t now_ns)
{
	char text[16];
	ssize_t n;

	if (s->fd < 0 || (s->read_ns && now_ns - s->read_ns < FRESH_NS))
		return s->value;
	s->read_ns = now_ns;
	n = pread(s->fd, text, sizeof(text) - 1, 0);
	if (n <= 0)
		return s->value;
	text[n] = '\0';
	s->value = (unsigned int)strtoul(text, NULL, 10);
	return s->value;
}
