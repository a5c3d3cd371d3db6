/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * log.h - messages for people, on standard error
 *
 * One line a message: "tas-xdp: LEVEL: text". What a peer or a program can
 * trigger goes through log_limited(), which lets LOG_BURST messages pass in
 * LOG_WINDOW_S seconds for each struct log_limit and then says how many it
 * kept back. Used by the guardian and by the slow path's thread only.
 */
#ifndef SLOWPATH_LOG_H
#define SLOWPATH_LOG_H

#include <stdbool.h>
#include <stdint.h>

#define LOG_BURST 10u
#define LOG_WINDOW_S 10u

enum log_level {
	LOG_LEVEL_ERR,
	LOG_LEVEL_WARN,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG
};

/* One for each place that is limited; starts as all zero. */
struct log_limit {
	uint32_t window_s; /* when the current window began */
	uint32_t passed;   /* messages let through in it */
	uint32_t kept;	   /* messages kept back since the last one passed */
};

void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);
/* false: no such level; err, warn, info, debug. */
bool log_level_parse(const char *name, enum log_level *level);

void log_print(enum log_level level, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void log_limited(struct log_limit *limit, enum log_level level, const char *fmt,
		 ...) __attribute__((format(printf, 3, 4)));
/* May one more message pass at @now_s? */
bool log_limit_pass(struct log_limit *limit, uint32_t now_s);

#define log_err(...) log_print(LOG_LEVEL_ERR, __VA_ARGS__)
#define log_warn(...) log_print(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_print(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)                                                         \
	do {                                                                   \
		if (log_enabled(LOG_LEVEL_DEBUG))                              \
			log_print(LOG_LEVEL_DEBUG, __VA_ARGS__);               \
	} while (0)

#endif
