/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * options.c - the command line: one table, one small function an option
 *
 * Each handler checks its own argument and prints one sentence when it is
 * wrong; what only shows when all options are known is checked at the end.
 */
#include "slowpath/options.h"
#include "fastpath/fastpath.h"

#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define USAGE_ERR(...) (print_usage_error(__VA_ARGS__), false)

__attribute__((format(printf, 1, 2))) static void
print_usage_error(const char *fmt, ...)
{
	va_list ap;

	fputs("tas-xdp: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

static bool parse_uint(const char *name, const char *arg, unsigned long min,
		       unsigned long max, unsigned int *value)
{
	char *end;
	unsigned long v;

	errno = 0;
	v = strtoul(arg, &end, 10);
	if (errno || end == arg || *end || *arg == '-' || v < min || v > max)
		return USAGE_ERR(
			"--%s wants a number from %lu to %lu, not '%s'", name,
			min, max, arg);
	*value = (unsigned int)v;
	return true;
}

static bool set_ifname(const char *name, const char *arg, const char **value)
{
	if (*arg == '\0' || strlen(arg) >= IFNAMSIZ || strchr(arg, '/'))
		return USAGE_ERR(
			"--%s wants the name of a network interface, not '%s'",
			name, arg);
	*value = arg;
	return true;
}

static bool opt_nic(struct options *o, const char *arg)
{
	return set_ifname("nic", arg, &o->tap.nic);
}

static bool opt_tap(struct options *o, const char *arg)
{
	return set_ifname("tap", arg, &o->tap.name);
}

static bool opt_addr(struct options *o, const char *arg)
{
	char err[TAP_ERR_MAX] = "";

	if (o->tap.n_addrs == TAP_MAX_ADDRS)
		return USAGE_ERR("more than %d --addr options", TAP_MAX_ADDRS);
	if (tap_addr_parse(arg, &o->tap.addrs[o->tap.n_addrs], err) != 0)
		return USAGE_ERR("--addr %s: %s", arg, err);
	o->tap.n_addrs++;
	return true;
}

static bool opt_takeover(struct options *o, const char *arg)
{
	o->tap.takeover = true;
	return true;
}

static bool opt_queues(struct options *o, const char *arg)
{
	return parse_uint("queues", arg, 1, XTS_MAX_CORES, &o->queues);
}

/* "0,2-5": CPUs for the cores, in order. */
static bool opt_cpu(struct options *o, const char *arg)
{
	const char *p = arg;

	o->n_cpus = 0;
	for (;;) {
		char *end;
		unsigned long first, last;

		first = last = strtoul(p, &end, 10);
		if (end != p && *end == '-') {
			p = end + 1;
			last = strtoul(p, &end, 10);
		}
		if (end == p || first > last || last >= CPU_SETSIZE ||
		    o->n_cpus + (last - first) >= XTS_MAX_CORES)
			break;
		while (first <= last)
			o->cpus[o->n_cpus++] = (int)first++;
		if (*end == '\0')
			return true;
		if (*end != ',')
			break;
		p = end + 1;
	}
	return USAGE_ERR(
		"--cpu wants a list of at most %u CPUs such as 0,2-3, not '%s'",
		XTS_MAX_CORES, arg);
}

static bool opt_spin(struct options *o, const char *arg)
{
	return parse_uint("spin-us", arg, 0, 1000000, &o->spin_us);
}

static bool opt_flows(struct options *o, const char *arg)
{
	return parse_uint("flows", arg, 1, OPTIONS_MAX_FLOWS, &o->flows);
}

static bool opt_app_memory(struct options *o, const char *arg)
{
	unsigned int mib;

	if (!parse_uint("app-memory", arg, 0, OPTIONS_MAX_APP_MEMORY, &mib))
		return false;
	o->app_memory = (uint64_t)mib << 20;
	return true;
}

static bool opt_congestion(struct options *o, const char *arg)
{
	if (!fp_cc_known(arg))
		return USAGE_ERR(
			"--congestion is reno, cubic, dctcp or bbr, not '%s'",
			arg);
	o->congestion = arg;
	return true;
}

static bool opt_mode(struct options *o, const char *arg)
{
	if (strcmp(arg, "auto") == 0)
		o->mode = XDP_MODE_AUTO;
	else if (strcmp(arg, "driver") == 0)
		o->mode = XDP_MODE_DRIVER;
	else if (strcmp(arg, "generic") == 0)
		o->mode = XDP_MODE_GENERIC;
	else
		return USAGE_ERR("--mode is auto, driver or generic, not '%s'",
				 arg);
	return true;
}

static bool opt_copy(struct options *o, const char *arg)
{
	o->copy = true;
	return true;
}

static bool opt_control(struct options *o, const char *arg)
{
	/* sun_path holds 108 bytes, the NUL among them. */
	if (strlen(arg) < 2 || strlen(arg) > 107)
		return USAGE_ERR(
			"--control wants @NAME or a path of at most 107 bytes");
	o->control = arg;
	return true;
}

static bool opt_bpffs(struct options *o, const char *arg)
{
	if (*arg != '/')
		return USAGE_ERR("--bpffs wants an absolute path, not '%s'",
				 arg);
	o->bpffs = arg;
	return true;
}

static bool opt_log(struct options *o, const char *arg)
{
	if (!log_level_parse(arg, &o->log))
		return USAGE_ERR("--log is err, warn, info or debug, not '%s'",
				 arg);
	return true;
}

static bool opt_ready_fd(struct options *o, const char *arg)
{
	unsigned int fd;

	if (!parse_uint("ready-fd", arg, 0, 1 << 20, &fd))
		return false;
	o->ready_fd = (int)fd;
	return true;
}

static const struct option_spec {
	const char *name;
	const char *arg; /* NULL: takes none */
	bool (*set)(struct options *o, const char *arg);
	const char *text;
} specs[] = {
	{"nic", "IF", opt_nic, "network interface that the service works on"},
	{"addr", "A/LEN", opt_addr,
	 "serve this address (repeatable, IPv4 and IPv6)"},
	{"takeover", NULL, opt_takeover,
	 "serve all addresses of the interface instead"},
	{"queues", "N", opt_queues, "queues, each with a core (1)"},
	{"cpu", "LIST", opt_cpu, "CPUs that the cores are pinned to"},
	{"spin-us", "N", opt_spin, "spin N us after the last work (100)"},
	{"flows", "N", opt_flows, "offloaded connections a core (16384)"},
	{"app-memory", "MIB", opt_app_memory,
	 "large buffers of a program, all together (1024)"},
	{"congestion", "NAME", opt_congestion,
	 "congestion control of all connections: reno, cubic, dctcp, bbr"},
	{"mode", "MODE", opt_mode, "XDP mode: auto, driver, generic (auto)"},
	{"copy", NULL, opt_copy, "no zero-copy"},
	{"control", "NAME", opt_control,
	 "control socket: @NAME abstract, else a path (@tas-xdp)"},
	{"tap", "NAME", opt_tap, "name of the TAP device (tas0)"},
	{"bpffs", "DIR", opt_bpffs, "where the filter's map is pinned"},
	{"log", "LEVEL", opt_log, "err, warn, info, debug (info)"},
	{"ready-fd", "N", opt_ready_fd,
	 "write \"ready\" to descriptor N when serving"},
	{"version", NULL, NULL, "print the version"},
	{"help", NULL, NULL, "print this"},
};
#define N_SPECS (sizeof(specs) / sizeof(specs[0]))

static void print_help(void)
{
	char left[32];

	puts("usage: tas-xdp --nic IF (--addr A/LEN ... | --takeover) [OPTION...]\n"
	     "Carry the TCP connections of programs linked with libsock over AF_XDP.\n");
	for (size_t i = 0; i < N_SPECS; i++) {
		snprintf(left, sizeof(left), "--%s %s", specs[i].name,
			 specs[i].arg ? specs[i].arg : "");
		printf("  %-18s %s\n", left, specs[i].text);
	}
	puts("\nSee tas-xdp(8).");
}

static bool check_whole(const struct options *o)
{
	if (!o->tap.nic)
		return USAGE_ERR(
			"--nic is missing: name the network interface to work on");
	if (!o->tap.takeover && !o->tap.n_addrs)
		return USAGE_ERR(
			"no address to serve: give --addr A/LEN, or --takeover for all of %s's",
			o->tap.nic);
	if (o->tap.takeover && o->tap.n_addrs)
		return USAGE_ERR("--addr and --takeover exclude each other");
	if (o->n_cpus && o->n_cpus < o->queues)
		return USAGE_ERR("--cpu names %u CPUs for %u queues", o->n_cpus,
				 o->queues);
	return true;
}

static void set_defaults(struct options *o)
{
	*o = (struct options){
		.tap.name = TAP_NAME,
		.queues = 1,
		.spin_us = 100,
		.flows = 16384,
		.app_memory = UINT64_C(1024) << 20,
		.mode = XDP_MODE_AUTO,
		.control = XTS_CONTROL_DEFAULT,
		.log = LOG_LEVEL_INFO,
		.ready_fd = -1,
	};
	for (unsigned int i = 0; i < XTS_MAX_CORES; i++)
		o->cpus[i] = -1;
}

static void fill_long_options(struct option *longs)
{
	for (size_t i = 0; i < N_SPECS; i++)
		longs[i] = (struct option){specs[i].name,
					   specs[i].arg ? required_argument
							: no_argument,
					   NULL, 0};
	longs[N_SPECS] = (struct option){0};
}

enum options_result options_parse(int argc, char **argv, struct options *o)
{
	struct option longs[N_SPECS + 1];
	int c, i = 0;

	set_defaults(o);
	fill_long_options(longs);
	optind = 0; /* start anew, also for a second call */
	while ((c = getopt_long(argc, argv, "", longs, &i)) != -1) {
		if (c != 0)
			goto usage; /* getopt has said why */
		if (specs[i].set) {
			if (!specs[i].set(o, optarg))
				goto usage;
			continue;
		}
		if (strcmp(specs[i].name, "version") == 0)
			puts("tas-xdp " TAS_VERSION);
		else
			print_help();
		return OPTIONS_DONE;
	}
	if (optind < argc) {
		print_usage_error("'%s' is not an option", argv[optind]);
		goto usage;
	}
	if (check_whole(o))
		return OPTIONS_RUN;
usage:
	fputs("Try 'tas-xdp --help'.\n", stderr);
	return OPTIONS_USAGE;
}
