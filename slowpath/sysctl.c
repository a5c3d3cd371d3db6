/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sysctl.c - a number of /proc/sys, known without reading it each time
 *
 * The administrator may change it at any time and nobody tells: it is read
 * again by the first who asks a second later. The descriptor stays open, so
 * that a read costs one system call and needs no path in a namespace that the
 * process may have left. Of a file with several (tcp_rmem: least, at first,
 * most) it is the last one. One thread.
 */
#include "slowpath/sysctl.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
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

static unsigned int last_number(char *text)
{
	char *next, *save;
	unsigned int v = 0;

	for (next = strtok_r(text, " \t\n", &save); next;
	     next = strtok_r(NULL, " \t\n", &save))
		v = (unsigned int)strtoul(next, NULL, 10);
	return v;
}

unsigned int sysctl_value(struct sysctl *s, uint64_t now_ns)
{
	char text[64];
	ssize_t n;

	if (s->fd < 0 || (s->read_ns && now_ns - s->read_ns < FRESH_NS))
		return s->value;
	s->read_ns = now_ns;
	n = pread(s->fd, text, sizeof(text) - 1, 0);
	if (n <= 0)
		return s->value;
	text[n] = '\0';
	s->value = last_number(text);
	return s->value;
}

unsigned int sysctl_once(const char *path, unsigned int otherwise)
{
	struct sysctl s;
	unsigned int value;

	sysctl_open(&s, path);
	s.value = otherwise;
	value = sysctl_value(&s, 0);
	sysctl_close(&s);
	return value;
}
