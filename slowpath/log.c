/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * log.c - one line a message on standard error, written with one system call
 *
 * So lines of the guardian and of the daemon never mix. The state is the level,
 * set once at start, and the limits, each owned by its caller.
 */
#include "slowpath/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const level_names[] = {"err", "warn", "info", "debug"};
static enum log_level log_level = LOG_LEVEL_INFO;

void log_set_level(enum log_level level)
{
	log_level = level;
}

bool log_enabled(enum log_level level)
{
	return level <= log_level;
}

bool log_level_parse(const char *name, enum log_level *level)
{
	for (unsigned int i = 0; i <= LOG_LEVEL_DEBUG; i++) {
		if (strcmp(name, level_names[i]) == 0) {
			*level = i;
			return true;
		}
	}
	return false;
}

__attribute__((format(printf, 2, 0))) static void
write_line(enum log_level level, const char *fmt, va_list ap)
{
	char line[1024];
	size_t room = sizeof(line) - 1; /* for the end of line */
	int head, n;

	head = snprintf(line, room, "tas-xdp: %s: ", level_names[level]);
	n = vsnprintf(line + head, room - (size_t)head, fmt, ap);
	if (n < 0)
		return;
	n += head;
	if ((size_t)n >= room)
		n = (int)room - 1;
	line[n++] = '\n';
	if (write(STDERR_FILENO, line, (size_t)n) < 0)
		return; /* nobody listens: nothing to be done */
}

void log_print(enum log_level level, const char *fmt, ...)
{
	va_list ap;

	if (!log_enabled(level))
		return;
	va_start(ap, fmt);
	write_line(level, fmt, ap);
	va_end(ap);
}

bool log_limit_pass(struct log_limit *limit, uint32_t now_s)
{
	if (now_s - limit->window_s >= LOG_WINDOW_S) {
		limit->window_s = now_s;
		limit->passed = 0;
	}
	if (limit->passed >= LOG_BURST) {
		limit->kept++;
		return false;
	}
	limit->passed++;
	return true;
}

void log_limited(struct log_limit *limit, enum log_level level, const char *fmt,
		 ...)
{
	struct timespec now;
	va_list ap;

	if (!log_enabled(level))
		return;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	if (!log_limit_pass(limit, (uint32_t)now.tv_sec))
		return;
	if (limit->kept)
		log_print(level, "(%u messages like the next were kept back)",
			  limit->kept);
	limit->kept = 0;
	va_start(ap, fmt);
	write_line(level, fmt, ap);
	va_end(ap);
}
