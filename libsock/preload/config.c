/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * config.c - which connections tas-run wants offloaded
 *
 * tas-run puts its options into the environment, from where they reach the
 * program's children too:
 *   XTS_PORTS       ports and ranges, by commas: of the server's end
 *   XTS_RULES       a file of rules (rules.c)
 *   XTS_NO_CONNECT  connections that the program opens stay with Linux
 *   XTS_NO_ACCEPT   and those it accepts
 *   XTS_AFTER       the how manieth data call offers a connection
 *   XTS_REPORT      where report.c writes to
 * A connection is offloaded if none of these is against it. A list or a file
 * that can't be read says so once and offloads nothing.
 */
#include "libsock/preload/preload.h"
#include "libsock/preload/rules.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AFTER_DEFAULT 4u

struct preload_config config = {.accept = true, .connect = true};

static struct port_list ports;
static struct rules rules;
static bool nothing;

static bool is_set(const char *name)
{
	const char *v = getenv(name);

	return v && *v && strcmp(v, "0") != 0;
}

static void complain(const char *what, const char *value)
{
	char line[512];
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

/* Short connections are Linux's: see tas-run(1), --after. */
static void read_after(void)
{
	const char *v = getenv("XTS_AFTER");
	unsigned long n = v ? strtoul(v, NULL, 10) : 0;

	xlend_patience = n ? (uint32_t)n : AFTER_DEFAULT;
}

/* What can't be understood offloads nothing. */
static void read_ports(void)
{
	const char *v = getenv("XTS_PORTS");

	if (!v || !*v || port_list_parse(&ports, v))
		return;
	nothing = true;
	complain("not a list of ports: XTS_PORTS=", v);
}

static void read_rules(void)
{
	const char *v = getenv("XTS_RULES");

	if (!v || !*v || rules_read(&rules, v, program_invocation_short_name))
		return;
	nothing = true;
	complain("", rules.error);
}

void config_read(void)
{
	config.accept = !is_set("XTS_NO_ACCEPT");
	config.connect = !is_set("XTS_NO_CONNECT");
	/* Programs write their titles over the environment. */
	config.report = getenv("XTS_REPORT");
	config.report = config.report && *config.report ? strdup(config.report)
							: NULL;
	config.program = config.report ? strdup(program_invocation_short_name)
				       : NULL;
	if (config.report && !config.program)
		config.report = NULL;
	read_after();
	read_ports();
	read_rules();
}

bool config_has_rules(void)
{
	return rules.n > 0;
}

bool rule_offloads(bool accepted, const struct sockaddr *local,
		   const struct sockaddr *peer)
{
	/* The same place in sockaddr_in6. */
	const struct sockaddr_in *in = (const void *)(accepted ? local : peer);

	if (nothing || !port_list_has(&ports, ntohs(in->sin_port)))
		return false;
	return !rules.n || rules_allow(&rules, accepted, local, peer);
}
