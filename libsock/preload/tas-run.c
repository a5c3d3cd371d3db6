/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tas-run.c - runs a program with its TCP connections offloaded
 *
 * Puts the options into the environment and the interposer into LD_PRELOAD, in
 * front of what is there, and becomes the program. The interposer is the file
 * that XTS_PRELOAD names, or libtas-run.so beside this program (a build), in
 * ../lib/tas-run from there (an installation that was moved), or where it was
 * to be installed.
 */
#include "libsock/preload/rules.h"

#include <errno.h>
#include <getopt.h>
#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LIBRARY "libtas-run.so"
#ifndef TAS_LIBDIR
#define TAS_LIBDIR "/usr/local/lib"
#endif

static const char help[] =
	"usage: tas-run [OPTION...] PROGRAM [ARGUMENT...]\n"
	"Run PROGRAM with its TCP connections carried by tas-xdp.\n"
	"\n"
	"  -p, --ports LIST    only connections to these ports: 80,6000-6999\n"
	"  -R, --rules FILE    choose connections by the rules in FILE\n"
	"  -a, --after N       offer a connection with its N-th data call (4)\n"
	"  -C, --no-connect    not those that PROGRAM opens\n"
	"  -A, --no-accept     not those that it accepts\n"
	"  -s, --spin-us N     a waiting call spins that long before it sleeps\n"
	"  -c, --control NAME  the control socket of the service\n"
	"  -r, --report FILE   each process appends a line to FILE when it ends\n"
	"  -h, --help          this text\n"
	"  -V, --version\n";

static void set(const char *name, const char *value)
{
	if (setenv(name, value, 1)) {
		perror("tas-run");
		exit(125);
	}
}

static void set_ports(const char *list)
{
	struct port_list ports;

	if (!port_list_parse(&ports, list)) {
		fprintf(stderr,
			"tas-run: \"%s\" is no list of ports: write numbers "
			"and ranges without blanks, as 80,6000-6999\n",
			list);
		exit(125);
	}
	set("XTS_PORTS", list);
}

/* Whatever directory the program goes to */
static void set_rules(const char *path)
{
	char *absolute = realpath(path, NULL);
	struct rules rules;

	if (!rules_read(&rules, path, NULL)) {
		fprintf(stderr, "tas-run: %s\n", rules.error);
		exit(125);
	}
	rules_free(&rules);
	set("XTS_RULES", absolute ? absolute : path);
	free(absolute);
}

static void set_after(const char *number)
{
	char *end;
	unsigned long n = strtoul(number, &end, 10);

	if (!n || *end || *number == '-' || n > UINT32_MAX) {
		fprintf(stderr,
			"tas-run: --after \"%s\": write a number from 1 up\n",
			number);
		exit(125);
	}
	set("XTS_AFTER", number);
}

/* The options' effect on the environment; the program's place in argv. */
static int options(int argc, char **argv)
{
	static const struct option longs[] = {
		{"ports", required_argument, NULL, 'p'},
		{"rules", required_argument, NULL, 'R'},
		{"after", required_argument, NULL, 'a'},
		{"no-connect", no_argument, NULL, 'C'},
		{"no-accept", no_argument, NULL, 'A'},
		{"spin-us", required_argument, NULL, 's'},
		{"control", required_argument, NULL, 'c'},
		{"report", required_argument, NULL, 'r'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{0}};
	int c;

	while ((c = getopt_long(argc, argv, "+p:R:a:CAs:c:r:hV", longs,
				NULL)) != -1) {
		switch (c) {
		case 'p':
			set_ports(optarg);
			break;
		case 'R':
			set_rules(optarg);
			break;
		case 'a':
			set_after(optarg);
			break;
		case 'C':
			set("XTS_NO_CONNECT", "1");
			break;
		case 'A':
			set("XTS_NO_ACCEPT", "1");
			break;
		case 's':
			set("XTS_SPIN_US", optarg);
			break;
		case 'c':
			set("XTS_CONTROL", optarg);
			break;
		case 'r':
			set("XTS_REPORT", optarg);
			break;
		case 'h':
			fputs(help, stdout);
			exit(0);
		case 'V':
			puts("tas-run " TAS_VERSION);
			exit(0);
		default:
			fputs(help, stderr);
			exit(125);
		}
	}
	return optind;
}

/* Relative to this program; true: it is there. */
static bool beside(char *path, size_t size, const char *where)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n < 0)
		return false;
	self[n] = '\0';
	n = snprintf(path, size, "%s/%s" LIBRARY, dirname(self), where);
	return n > 0 && (size_t)n < size && !access(path, R_OK);
}

static bool installed(char *path, size_t size)
{
	snprintf(path, size, "%s", TAS_LIBDIR "/tas-run/" LIBRARY);
	return !access(path, R_OK);
}

static void preload(void)
{
	const char *named = getenv("XTS_PRELOAD");
	const char *others = getenv("LD_PRELOAD");
	char path[PATH_MAX], *all;

	if (named && *named)
		snprintf(path, sizeof(path), "%s", named);
	else if (!beside(path, sizeof(path), "") &&
		 !beside(path, sizeof(path), "../lib/tas-run/") &&
		 !installed(path, sizeof(path))) {
		fprintf(stderr, "tas-run: no " LIBRARY "; say XTS_PRELOAD\n");
		exit(125);
	}
	if (asprintf(&all, "%s%s%s", path, others && *others ? ":" : "",
		     others ? others : "") < 0)
		exit(125);
	set("LD_PRELOAD", all);
	free(all);
}

int main(int argc, char **argv)
{
	int first = options(argc, argv);

	if (first >= argc) {
		fputs(help, stderr);
		return 125;
	}
	preload();
	execvp(argv[first], argv + first);
	fprintf(stderr, "tas-run: %s: %s\n", argv[first], strerror(errno));
	return errno == ENOENT ? 127 : 126;
}
