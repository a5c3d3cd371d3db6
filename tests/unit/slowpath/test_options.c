/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_options.c - the command line is taken or refused as the manual says
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "slowpath/options.h"

#define PARSE(o, ...) parse(o, (char *[]){"tas-xdp", __VA_ARGS__, NULL})
#define WHOLE "--nic", "eth7", "--addr", "10.0.0.5/24"

static enum options_result parse(struct options *o, char **argv)
{
	int argc = 0;

	while (argv[argc])
		argc++;
	return options_parse(argc, argv, o);
}

static void test_nic_and_address_suffice(void **state)
{
	struct options o;

	assert_int_equal(PARSE(&o, WHOLE), OPTIONS_RUN);
	assert_string_equal(o.tap.nic, "eth7");
	assert_string_equal(o.tap.name, TAP_NAME);
	assert_string_equal(o.control, XTS_CONTROL_DEFAULT);
	assert_int_equal(o.tap.n_addrs, 1);
	assert_int_equal(o.tap.addrs[0].prefix_len, 24);
	assert_int_equal(o.queues, 1);
	assert_int_equal(o.cpus[0], -1);
	assert_int_equal(o.mode, XDP_MODE_AUTO);
	assert_int_equal(o.ready_fd, -1);
}

static void test_every_option_is_taken(void **state)
{
	struct options o;

	assert_int_equal(PARSE(&o, WHOLE, "--addr", "fd00::5/64", "--queues",
			       "2", "--cpu", "4,6-7", "--spin-us", "0",
			       "--flows", "99", "--mode", "generic", "--copy",
			       "--control", "/run/x", "--tap", "tap9",
			       "--bpffs", "/b", "--log", "debug", "--ready-fd",
			       "3", "--congestion", "reno", "--app-memory",
			       "7"),
			 OPTIONS_RUN);
	assert_string_equal(o.congestion, "reno");
	assert_int_equal(o.app_memory, 7ul << 20);
	assert_int_equal(o.tap.n_addrs, 2);
	assert_int_equal(o.queues, 2);
	assert_int_equal(o.n_cpus, 3);
	assert_int_equal(o.cpus[0], 4);
	assert_int_equal(o.cpus[2], 7);
	assert_int_equal(o.spin_us, 0);
	assert_int_equal(o.flows, 99);
	assert_int_equal(o.mode, XDP_MODE_GENERIC);
	assert_true(o.copy);
	assert_string_equal(o.control, "/run/x");
	assert_string_equal(o.tap.name, "tap9");
	assert_string_equal(o.bpffs, "/b");
	assert_int_equal(o.log, LOG_LEVEL_DEBUG);
	assert_int_equal(o.ready_fd, 3);
}

static void test_takeover_needs_no_address(void **state)
{
	struct options o;

	assert_int_equal(PARSE(&o, "--nic", "eth7", "--takeover"), OPTIONS_RUN);
	assert_true(o.tap.takeover);
}

static void test_incomplete_command_line_is_refused(void **state)
{
	struct options o;

	assert_int_equal(PARSE(&o, "--addr", "10.0.0.5/24"), OPTIONS_USAGE);
	assert_int_equal(PARSE(&o, "--nic", "eth7"), OPTIONS_USAGE);
	assert_int_equal(PARSE(&o, WHOLE, "--takeover"), OPTIONS_USAGE);
	assert_int_equal(PARSE(&o, WHOLE, "--queues", "3", "--cpu", "0-1"),
			 OPTIONS_USAGE);
	assert_int_equal(PARSE(&o, WHOLE, "word"), OPTIONS_USAGE);
	assert_int_equal(PARSE(&o, WHOLE, "--no-such"), OPTIONS_USAGE);
	assert_int_equal(PARSE(&o, WHOLE, "--queues"), OPTIONS_USAGE);
}

static void test_wrong_arguments_are_refused(void **state)
{
	static char *const wrong[][2] = {
		{"--queues", "0"},
		{"--queues", "17"},
		{"--queues", "-1"},
		{"--queues", "2x"},
		{"--queues", ""},
		{"--cpu", ""},
		{"--cpu", "3-1"},
		{"--cpu", "1,"},
		{"--cpu", "0-99"},
		{"--cpu", "x"},
		{"--flows", "0"},
		{"--flows", "1048577"},
		{"--spin-us", "1000001"},
		{"--app-memory", "16385"},
		{"--app-memory", "-1"},
		{"--mode", "fast"},
		{"--congestion", "vegas"},
		{"--congestion", ""},
		{"--control", ""},
		{"--control", "@"},
		{"--tap", "a/b"},
		{"--tap", ""},
		{"--tap", "sixteen-letters-"},
		{"--bpffs", "rel"},
		{"--log", "loud"},
		{"--ready-fd", "-1"},
		{"--addr", "10.0.0.5/33"},
		{"--addr", "10.0.0"},
		{"--addr", ""},
		{"--nic", ""},
	};
	struct options o;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(PARSE(&o, WHOLE, wrong[i][0], wrong[i][1]),
				 OPTIONS_USAGE);
}

static void test_help_and_version_end_with_success(void **state)
{
	struct options o;

	assert_int_equal(PARSE(&o, "--help"), OPTIONS_DONE);
	assert_int_equal(PARSE(&o, "--version"), OPTIONS_DONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nic_and_address_suffice),
		cmocka_unit_test(test_every_option_is_taken),
		cmocka_unit_test(test_takeover_needs_no_address),
		cmocka_unit_test(test_incomplete_command_line_is_refused),
		cmocka_unit_test(test_wrong_arguments_are_refused),
		cmocka_unit_test(test_help_and_version_end_with_success),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
