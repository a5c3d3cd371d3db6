/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * report.c - what became of the connections
 *
 * Where XTS_REPORT names a file, a process appends a line to it when it ends:
 *   pid=1234 program=redis-server offloaded=7 reason_POLICY=1
 * Each connection is counted once, when it is closed or the process ends, as
 * offloaded or by the reason why not. Children of fork() begin at 0; a process
 * that had none writes nothing.
 */
#include "libsock/preload/preload.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static _Atomic uint64_t counts[XTS_REASON_COUNT];
static _Atomic bool written;

void report_count(int s)
{
	int reason, err = errno;

	if (!config.report)
		return;
	reason = xts_offload_reason(s);
	errno = err;
	if (reason >= 0 && reason < XTS_REASON_COUNT &&
	    xlend_state(s) != XLEND_FORKED)
		atomic_fetch_add(&counts[reason], 1);
}

void report_not_ours(enum xts_reason reason)
{
	atomic_fetch_add(&counts[reason], 1);
}

void report_child(void)
{
	unsigned int i;

	for (i = 0; i < XTS_REASON_COUNT; i++)
		atomic_store(&counts[i], 0);
	atomic_store(&written, false);
}

static size_t format(char *line, size_t size)
{
	static const char *const names[] = {
#define X(name, text) #name,
		XTS_REASONS(X)
#undef X
	};
	uint64_t n = atomic_load(&counts[XTS_REASON_NONE]);
	/* Titles have more than one word. */
	int word = (int)strcspn(program_invocation_short_name, " :");
	int at = snprintf(line, size, "pid=%d program=%.*s offloaded=%llu",
			  (int)getpid(), word, program_invocation_short_name,
			  (unsigned long long)n);
	unsigned int i;

	for (i = 1; i < XTS_REASON_COUNT; i++) {
		n = atomic_load(&counts[i]);
		if (n && (size_t)at < size)
			at += snprintf(line + at, size - (size_t)at,
				       " reason_%s=%llu", names[i],
				       (unsigned long long)n);
	}
	if ((size_t)at < size)
		at += snprintf(line + at, size - (size_t)at, "\n");
	return (size_t)at < size ? (size_t)at : size;
}

static bool any(void)
{
	unsigned int i;

	for (i = 0; i < XTS_REASON_COUNT; i++)
		if (atomic_load(&counts[i]))
			return true;
	return false;
}

void report_write(void)
{
	char line[1024];
	int fd;

	if (!config.report || atomic_exchange(&written, true))
		return;
	fd_count_open();
	if (!any())
		return;
	fd = open(config.report, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC,
		  0666);
	if (fd < 0)
		return;
	if (real.write(fd, line, format(line, sizeof(line))) < 0)
		line[0] = '\0';
	real.close(fd);
}
