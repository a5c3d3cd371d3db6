/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * config.c - which connections tas-run wants offloaded
 *
 * tas-run puts its options into the environment, from where they reach the
 * program's children too:
 *   XTS_PORTS       ports and ranges, by commas: of the server's end
 *   XTS_NO_CONNECT  connections that the program opens stay with Linux
 *   XTS_NO_ACCEPT   and those it accepts
 *   XTS_REPORT      where report.c writes to
 * A list that can't be read says so once and offloads nothing.
 *
 * Memory: RANGES ranges.
 */
#include "libsock/preload/preload.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RANGES 64u

struct preload_config config = {.accept = true, .connect = true};

static struct {
	uint16_t from, to;
} ranges[RANGES];
static unsigned int n_ranges;
static bool any_port = true;

static bool is_set(const char *name)
{
	const char *v = getenv(name);

	return v && *v && strcmp(v, "0") != 0;
}

static void complain(const char *what, const char *value)
{
	char line[256];
	size_t n = 0, len;
	const char *const part[] = {"tas-run: ", what, value, "\n"};
	unsigned int i;

	for (i = 0; i < 4; i++) {
		len = strlen(part[i]);
		if (len > sizeof(line) - n)
			len = sizeof(line) - n;
		memcpy(line + n, part[i], len);
		n += len;
	}
	if (real.write(STDERR_FILENO, line, n) < 0)
		return;
}

/* A number up to 65535 at *p, which moves behind it. */
static bool port(const char **p, uint16_t *value)
{
	char *end;
	unsigned long v = strtoul(*p, &end, 10);

	if (end == *p || **p == '-' || v > UINT16_MAX)
		return false;
	*value = (uint16_t)v;
	*p = end;
	return true;
}

static bool ports_read(const char *list)
{
	while (n_ranges < RANGES) {
		if (!port(&list, &ranges[n_ranges].from))
			return false;
		ranges[n_ranges].to = ranges[n_ranges].from;
		if (*list == '-') {
			list++;
			if (!port(&list, &ranges[n_ranges].to))
				return false;
		}
		n_ranges++;
		if (!*list)
			return true;
		if (*list++ != ',')
			return false;
	}
	return false;
}

void config_read(void)
{
	const char *v = getenv("XTS_PORTS");

	config.accept = !is_set("XTS_NO_ACCEPT");
	config.connect = !is_set("XTS_NO_CONNECT");
	/* Programs write their titles over the environment. */
	config.report = getenv("XTS_REPORT");
	config.report = config.report && *config.report ? strdup(config.report)
							: NULL;
	if (!v || !*v)
		return;
	any_port = false;
	if (!ports_read(v)) {
		n_ranges = 0;
		complain("not a list of ports: XTS_PORTS=", v);
	}
}

bool rule_offloads(const struct sockaddr *server)
{
	const struct sockaddr_in *in = (const void *)server;
	uint16_t number;
	unsigned int i;

	if (any_port)
		return true;
	/* The same place in sockaddr_in6. */
	number = ntohs(in->sin_port);
	for (i = 0; i < n_ranges; i++)
		if (number >= ranges[i].from && number <= ranges[i].to)
			return true;
	return false;
}
