// SPDX-License-Identifier: BSD-2-Clause
/*
 * test_tap.c - tap_addr_parse()
 */
#include "tap/tap.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static char err[TAP_ERR_MAX];

static void accepts(const char *text, int family, const char *addr,
		    unsigned int length)
{
	uint8_t expect[16] = {0};
	struct tap_addr a;

	inet_pton(family, addr, expect);
	if (tap_addr_parse(text, &a, err))
		fail_msg("%s: %s", text, err);
	assert_int_equal(a.family, family);
	assert_int_equal(a.prefix_len, length);
	assert_memory_equal(a.addr, expect, 16);
}

static void refuses(const char *text, const char *words)
{
	struct tap_addr a;

	err[0] = '\0';
	assert_int_equal(tap_addr_parse(text, &a, err), -EINVAL);
	if (!strstr(err, words))
		fail_msg("%s: \"%s\" does not say \"%s\"", text, err, words);
}

static void test_addresses_with_a_length_are_accepted(void **state)
{
	accepts("10.0.0.5/24", AF_INET, "10.0.0.5", 24);
	accepts("10.0.0.5/32", AF_INET, "10.0.0.5", 32);
	accepts("10.0.0.4/31", AF_INET, "10.0.0.4", 31);
	accepts("2001:db8::5/64", AF_INET6, "2001:db8::5", 64);
	accepts("2001:db8::/128", AF_INET6, "2001:db8::", 128);
	accepts("fe80::5/64", AF_INET6, "fe80::5", 64);
}

static void test_anything_else_is_refused_with_an_example(void **state)
{
	static const char *const texts[] = {
		"",
		"10.0.0.5",
		"10.0.0.5/",
		"/24",
		"10.0.0.5/0",
		"10.0.0.5/33",
		"10.0.0.5/024x",
		"10.0.0.5/-1",
		"10.0.0.5/ 24",
		"10.0.0.256/24",
		"10.0.5/24",
		"tas0/24",
		"2001:db8::5",
		"2001:db8::5/129",
		"2001:db8::g/64",
		"2001:db8::5/64/64",
		"10.0.0.5/99999999999999999999",
		"1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb/64",
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		refuses(texts[i], "such as 10.0.0.5/24");
}

static void test_addresses_that_no_host_can_have_are_refused(void **state)
{
	refuses("0.0.0.0/24", "no unicast address");
	refuses("127.0.0.1/8", "no unicast address");
	refuses("224.0.0.1/24", "no unicast address");
	refuses("255.255.255.255/32", "no unicast address");
	refuses("10.0.0.0/24", "of the network");
	refuses("10.0.0.255/24", "broadcast");
	refuses("::/64", "no unicast address");
	refuses("::1/128", "no unicast address");
	refuses("ff02::1/64", "no unicast address");
	refuses("::ffff:10.0.0.5/96", "no unicast address");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses_with_a_length_are_accepted),
		cmocka_unit_test(test_anything_else_is_refused_with_an_example),
		cmocka_unit_test(
			test_addresses_that_no_host_can_have_are_refused),
	};

	return cmocka_run_group_tests_name("tap", tests, NULL, NULL);
}
