/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_rules.c - a file of rules: which connections it chooses, what it says of
 * mistakes
 */
#include "libsock/preload/rules.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct sockaddr_storage address(const char *text, unsigned int port)
{
	struct sockaddr_storage ss = {0};
	struct sockaddr_in *in = (void *)&ss;
	struct sockaddr_in6 *in6 = (void *)&ss;

	in->sin_port = htons((uint16_t)port);
	ss.ss_family = strchr(text, ':') ? AF_INET6 : AF_INET;
	assert_int_equal(inet_pton(ss.ss_family, text,
				   ss.ss_family == AF_INET
					   ? (void *)&in->sin_addr
					   : (void *)&in6->sin6_addr),
			 1);
	return ss;
}

static struct rules parsed(const char *text, const char *program)
{
	char *copy = strdup(text);
	struct rules r;

	if (!rules_parse(&r, "f", copy, program))
		fail_msg("%s", r.error);
	free(copy);
	return r;
}

/* What the rules in text say of a connection; ports 1000 here, port there. */
static bool allowed(const char *text, bool accepted, const char *local,
		    const char *peer, unsigned int port)
{
	struct sockaddr_storage l = address(local, accepted ? port : 1000);
	struct sockaddr_storage p = address(peer, accepted ? 1000 : port);
	struct rules r = parsed(text, "prog");
	bool allow = rules_allow(&r, accepted, (void *)&l, (void *)&p);

	rules_free(&r);
	return allow;
}
#define IN(text, local, peer, port) allowed(text, true, local, peer, port)
#define OUT(text, local, peer, port) allowed(text, false, local, peer, port)

static void test_what_no_rule_fits_is_offloaded(void **state)
{
	assert_true(IN("", "10.0.0.1", "10.0.0.2", 80));
	assert_true(IN("# none\n\n  \t\n", "10.0.0.1", "10.0.0.2", 80));
	assert_true(IN("deny port 81\n", "10.0.0.1", "10.0.0.2", 80));
	assert_false(IN("deny", "10.0.0.1", "10.0.0.2", 80));
}

static void test_the_first_rule_that_fits_decides(void **state)
{
	const char *text = "allow port 80\ndeny port 80\ndeny port 81\n"
			   "allow port 81\n";

	assert_true(IN(text, "10.0.0.1", "10.0.0.2", 80));
	assert_false(IN(text, "10.0.0.1", "10.0.0.2", 81));
}

static void test_accept_and_connect(void **state)
{
	assert_false(IN("deny accept", "10.0.0.1", "10.0.0.2", 80));
	assert_true(OUT("deny accept", "10.0.0.1", "10.0.0.2", 80));
	assert_true(IN("deny connect", "10.0.0.1", "10.0.0.2", 80));
	assert_false(OUT("deny connect", "10.0.0.1", "10.0.0.2", 80));
}

static void test_the_port_is_the_servers(void **state)
{
	assert_false(IN("deny port 80", "10.0.0.1", "10.0.0.2", 80));
	assert_false(OUT("deny port 80", "10.0.0.1", "10.0.0.2", 80));
	assert_true(IN("deny port 1000", "10.0.0.1", "10.0.0.2", 80));
	assert_true(OUT("deny port 1000", "10.0.0.1", "10.0.0.2", 80));
	assert_false(IN("deny port 1,70-90", "10.0.0.1", "10.0.0.2", 90));
	assert_true(IN("deny port 1,70-90", "10.0.0.1", "10.0.0.2", 91));
}

static void test_addresses_of_either_end(void **state)
{
	assert_false(IN("deny local 10.0.0.1", "10.0.0.1", "10.0.0.2", 80));
	assert_true(IN("deny local 10.0.0.2", "10.0.0.1", "10.0.0.2", 80));
	assert_false(IN("deny peer 10.0.0.2", "10.0.0.1", "10.0.0.2", 80));
	assert_true(IN("deny peer 10.0.0.1", "10.0.0.1", "10.0.0.2", 80));
	assert_false(OUT("deny peer fd00::2", "fd00::1", "fd00::2", 80));
	assert_true(OUT("deny peer fd00::3", "fd00::1", "fd00::2", 80));
}

static void test_prefixes(void **state)
{
	assert_false(IN("deny peer 10.4.0.0/14", "1.1.1.1", "10.7.9.9", 80));
	assert_true(IN("deny peer 10.4.0.0/14", "1.1.1.1", "10.8.0.0", 80));
	assert_false(IN("deny peer 0.0.0.0/0", "1.1.1.1", "10.8.0.0", 80));
	assert_true(IN("deny peer 0.0.0.0/0", "fd00::1", "fd00::2", 80));
	assert_false(IN("deny peer ::/0", "1.1.1.1", "10.8.0.0", 80));
	assert_false(IN("deny peer fd00::/9", "fd00::1", "fd7f::2", 80));
	assert_true(IN("deny peer fd00::/9", "fd00::1", "fd80::2", 80));
	assert_false(IN("deny peer fd00::/17", "fd00::1", "fd00:7f::2", 80));
	assert_true(IN("deny peer fd00::/17", "fd00::1", "fd00:8000::2", 80));
	assert_false(IN("deny peer 10.1.1.1/32", "1.1.1.1", "10.1.1.1", 80));
	assert_true(IN("deny peer 10.1.1.1/32", "1.1.1.1", "10.1.1.0", 80));
	assert_false(IN("deny peer 10.1.1.0/31", "1.1.1.1", "10.1.1.1", 80));
}

static void test_ipv4_on_an_ipv6_socket_is_ipv4(void **state)
{
	assert_false(IN("deny peer 10.4.0.0/14", "::ffff:1.1.1.1",
			"::ffff:10.7.9.9", 80));
	assert_true(IN("deny peer 10.4.0.0/14", "::ffff:1.1.1.1",
		       "::ffff:10.8.9.9", 80));
}

static void test_all_conditions_of_a_rule_have_to_fit(void **state)
{
	const char *text = "deny port 80 peer 10.0.0.0/8 accept local 1.1.1.1";

	assert_false(IN(text, "1.1.1.1", "10.1.1.1", 80));
	assert_true(OUT(text, "1.1.1.1", "10.1.1.1", 80));
	assert_true(IN(text, "1.1.1.2", "10.1.1.1", 80));
	assert_true(IN(text, "1.1.1.1", "11.1.1.1", 80));
	assert_true(IN(text, "1.1.1.1", "10.1.1.1", 81));
}

static void test_rules_of_other_programs_are_not_kept(void **state)
{
	struct rules r =
		parsed("deny program nginx\nallow program prog\ndeny", "prog");

	assert_int_equal(r.n, 2);
	rules_free(&r);
	/* tas-run looks at all of them. */
	r = parsed("deny program nginx\nallow program prog\ndeny", NULL);
	assert_int_equal(r.n, 3);
	rules_free(&r);
	assert_true(IN("deny program nginx", "1.1.1.1", "1.1.1.2", 80));
	assert_false(IN("deny port 80 program prog", "1.1.1.1", "1.1.1.2", 80));
}

static void test_blanks_comments_and_line_ends(void **state)
{
	assert_false(
		IN("\t deny\tport   80 # all\r\n", "1.1.1.1", "1.1.1.2", 80));
	assert_true(IN("allow#deny\ndeny", "1.1.1.1", "1.1.1.2", 80));
	assert_false(IN("#allow\ndeny", "1.1.1.1", "1.1.1.2", 80));
}

/* A line that is wrong in this way, behind two that are not. */
static void wrong(const char *line, const char *says)
{
	char text[200], start[16] = "rules:3: ";
	struct rules r;

	snprintf(text, sizeof(text), "# first\nallow port 1\n%s\ndeny\n", line);
	assert_false(rules_parse(&r, "rules", text, "prog"));
	assert_null(r.rule);
	assert_int_equal(strncmp(r.error, start, strlen(start)), 0);
	if (!strstr(r.error, says))
		fail_msg("'%s' for: %s", r.error, line);
}

static void test_mistakes_name_the_line_and_the_remedy(void **state)
{
	wrong("alow port 80", "begins with allow or deny, not with \"alow\"");
	wrong("port 80", "begins with allow or deny");
	wrong("deny prot 80", "\"prot\" is no condition: write accept");
	wrong("deny port", "\"\" is no list of ports: write numbers");
	wrong("deny port 80-", "\"80-\" is no list of ports");
	wrong("deny port 80,", "no list of ports");
	wrong("deny port 90-80", "no list of ports");
	wrong("deny port 65536", "no list of ports");
	wrong("deny port -1", "no list of ports");
	wrong("deny port +1", "no list of ports");
	wrong("deny port 80, 81", "no list of ports");
	wrong("deny port 80 port 81", "write one list");
	wrong("deny peer", "no address behind peer");
	wrong("deny local 10.0.0.300", "\"10.0.0.300\" is no address");
	wrong("deny local example.com", "is no address");
	wrong("deny local 10.0.0.0/33", "\"33\" is no prefix length");
	wrong("deny local fd00::/129", "a number up to 128");
	wrong("deny local 10.0.0.0/", "\"\" is no prefix length");
	wrong("deny local 10.0.0.0/8x", "no prefix length");
	wrong("deny local 10.0.0.1/8", "bits that /8 leaves out");
	wrong("deny local fd00::1/127", "bits that /127 leaves out");
	wrong("deny peer ::/0 peer ::/0", "peer is there twice");
	wrong("deny accept connect", "leave both out");
	wrong("deny accept accept", "leave both out");
	wrong("deny program", "no name behind program");
	wrong("deny program /usr/sbin/nginx", "without its directory");
	wrong("deny program a program b", "program is there twice");
	/* also in what is for others */
	wrong("deny program nginx port x", "no list of ports");
}

static void test_too_many_rules_are_a_mistake(void **state)
{
	char text[RULES_MAX * 5 + 10] = "", *at = text;
	struct rules r;
	unsigned int i;

	for (i = 0; i < RULES_MAX + 1; i++)
		at = stpcpy(at, "deny\n");
	assert_false(rules_parse(&r, "f", text, NULL));
	assert_string_equal(r.error, "f:257: more than 256 rules: write "
				     "prefixes and lists of ports");
}

static void test_long_words_fit_into_the_error(void **state)
{
	char text[3000];
	struct rules r;

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	assert_false(rules_parse(&r, "f", text, NULL));
	assert_true(strlen(r.error) < RULES_ERROR_MAX);
	assert_false(rules_parse(&r, text, text, NULL));
	assert_true(strlen(r.error) < RULES_ERROR_MAX);
}

static void test_lists_of_ports(void **state)
{
	struct port_list list = {0};
	char text[PORT_RANGES * 3 + 3] = "", *at = text;
	unsigned int i;

	assert_true(port_list_has(&list, 7));
	assert_true(port_list_parse(&list, "80,6000-6002,0,65535"));
	assert_int_equal(list.n, 4);
	assert_true(port_list_has(&list, 80));
	assert_true(port_list_has(&list, 6000));
	assert_true(port_list_has(&list, 6002));
	assert_false(port_list_has(&list, 6003));
	assert_true(port_list_has(&list, 65535));
	for (i = 0; i < PORT_RANGES; i++)
		at = stpcpy(at, i ? ",7" : "7");
	assert_true(port_list_parse(&list, text));
	stpcpy(at, ",7");
	assert_false(port_list_parse(&list, text));
	assert_false(port_list_parse(&list, ""));
}

/* A file with these bytes; its name in path */
static void file_with(char *path, const void *bytes, size_t n)
{
	static const char name[] = "/tmp/test_rules.XXXXXX";
	int fd;

	memcpy(path, name, sizeof(name));
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, n), (ssize_t)n);
	close(fd);
}

static void test_files(void **state)
{
	static char large[RULES_FILE_MAX + 1];
	struct rules r;
	char path[32];

	file_with(path, "deny port 80", 12);
	assert_true(rules_read(&r, path, "prog"));
	assert_int_equal(r.n, 1);
	rules_free(&r);
	unlink(path);
	assert_false(rules_read(&r, path, "prog"));
	assert_non_null(strstr(r.error, "No such file"));
	file_with(path, "deny\0allow", 10);
	assert_false(rules_read(&r, path, "prog"));
	assert_non_null(strstr(r.error, "zero byte"));
	unlink(path);
	memset(large, '\n', sizeof(large));
	file_with(path, large, sizeof(large) - 1);
	assert_true(rules_read(&r, path, "prog"));
	assert_int_equal(r.n, 0);
	rules_free(&r);
	unlink(path);
	file_with(path, large, sizeof(large));
	assert_false(rules_read(&r, path, "prog"));
	assert_non_null(strstr(r.error, "too large"));
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_no_rule_fits_is_offloaded),
		cmocka_unit_test(test_the_first_rule_that_fits_decides),
		cmocka_unit_test(test_accept_and_connect),
		cmocka_unit_test(test_the_port_is_the_servers),
		cmocka_unit_test(test_addresses_of_either_end),
		cmocka_unit_test(test_prefixes),
		cmocka_unit_test(test_ipv4_on_an_ipv6_socket_is_ipv4),
		cmocka_unit_test(test_all_conditions_of_a_rule_have_to_fit),
		cmocka_unit_test(test_rules_of_other_programs_are_not_kept),
		cmocka_unit_test(test_blanks_comments_and_line_ends),
		cmocka_unit_test(test_mistakes_name_the_line_and_the_remedy),
		cmocka_unit_test(test_too_many_rules_are_a_mistake),
		cmocka_unit_test(test_long_words_fit_into_the_error),
		cmocka_unit_test(test_lists_of_ports),
		cmocka_unit_test(test_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
