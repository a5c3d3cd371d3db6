// SPDX-License-Identifier: BSD-2-Clause
/*
 * test_tap_netns.c - tap.h against a kernel, in a namespace of this process
 *
 *   s0 ==== veth ==== p0
 *
 * s0 is the NIC, p0 only makes its link. What a test does with the NIC is
 * taken back by making both anew. "Everything" below is what ip(8) shows of
 * addresses, rules, routes of all tables and permanent neighbours; whatever
 * tap_setup() did, it must be the same after tap_restore().
 */
#include "tap/frame.h"
#include "tap/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static char err[TAP_ERR_MAX];

/* ---- the host as ip(8) sees it ------------------------------------------- */

static void sh(const char *command)
{
	int status = system(command);

	if (status)
		fail_msg("%s: status %d", command, status);
}

static char *output(const char *command)
{
	size_t room = 1 << 16, len = 0, n;
	char *text = malloc(room);
	FILE *f = popen(command, "r");

	assert_non_null(text);
	assert_non_null(f);
	while ((n = fread(text + len, 1, room - 1 - len, f)) > 0)
		len += n;
	pclose(f);
	text[len] = '\0';
	return text;
}

static bool silent(const char *command)
{
	char *text = output(command);
	bool nothing = !*text;

	if (!nothing)
		print_message("%s shows:\n%s\n", command, text);
	free(text);
	return nothing;
}

/* Seconds that go on counting become N. */
static char *everything(void)
{
	return output(
		"{ ip addr; ip rule; ip -6 rule;"
		"  ip -4 route show table all; ip -6 route show table all;"
		"  ip neigh show nud permanent; } 2>&1 |"
		"sed -E 's/[0-9]+sec/Nsec/g'");
}

static bool shows(const char *command, const char *words)
{
	char *text = output(command);
	bool found = strstr(text, words) != NULL;

	if (!found)
		print_message("%s shows no \"%s\":\n%s\n", command, words,
			      text);
	free(text);
	return found;
}

/* Everything is as in @before, which is freed. */
static void expect_same(char *before)
{
	char *after = everything();
	FILE *f;

	if (strcmp(before, after) != 0) {
		f = popen("sed 's/^/before /'", "w");
		fputs(before, f);
		pclose(f);
		f = popen("sed 's/^/after  /'", "w");
		fputs(after, f);
		pclose(f);
		fail_msg("something is not as before");
	}
	free(before);
	free(after);
}

/* Linux has seen the link, at both ends, and has done for it all that it does
 * by itself and later: the link-local address and its routes. */
static bool hosts_settled(void)
{
	char *text = output("ip -o link show p0 | grep -o 'state UP ';"
			    "ip -o link show s0 | grep -o 'state UP ';"
			    "ip -6 route show table all dev s0;"
			    "ip addr show dev s0 tentative");
	bool settled = strncmp(text, "state UP \nstate UP \n", 20) == 0 &&
		       strstr(text, "\nfe80::/64 ") &&
		       strstr(text, "\nlocal fe80::") &&
		       !strstr(text, "tentative");

	free(text);
	return settled;
}

static bool wait_settled(void)
{
	for (int i = 0; i < 500; i++) {
		if (hosts_settled())
			return true;
		usleep(20000);
	}
	return false;
}

static int make_hosts(void **state)
{
	sh("ip link del s0 2>/dev/null; ip link add s0 type veth peer name p0");
	sh("echo 1 >/proc/sys/net/ipv6/conf/p0/disable_ipv6");
	/* the larger one of these two counts */
	sh("echo 0 >/proc/sys/net/ipv6/conf/all/accept_dad");
	sh("echo 0 >/proc/sys/net/ipv6/conf/s0/accept_dad");
	sh("ip link set p0 up; ip link set s0 up");
	return wait_settled() ? 0 : 1;
}

/* A NIC as servers have it, and some more. */
static void configure_nic(void)
{
	sh("ip addr add 10.9.0.9/24 dev s0 label s0:x brd +;"
	   "ip addr add 10.9.0.8/24 dev s0;"
	   "ip addr add 172.16.0.1/16 dev s0 valid_lft 1000 preferred_lft 500;"
	   "ip addr add 172.17.0.1/16 dev s0 noprefixroute;"
	   "ip addr add 192.0.2.1 peer 192.0.2.2/32 dev s0;"
	   "ip addr add fd09::9/64 dev s0 nodad;"
	   "ip addr add fd09::8/64 dev s0;"
	   "ip addr add fd0a::8/64 dev s0 metric 77");
	assert_true(wait_settled());
	sh("ip route add default via 10.9.0.1 dev s0 metric 50 mtu 1400;"
	   "ip route add default via 10.9.0.1 dev s0;"
	   "ip route append default via 10.9.0.6 dev s0;"
	   "ip route add 10.77.0.0/16 via 10.9.0.3 src 10.9.0.8;"
	   "ip route add 10.78.0.0/16 nexthop via 10.9.0.3 weight 2"
	   "  nexthop via 10.9.0.4 dev s0;"
	   "ip route add 10.79.0.0/16 via 1.2.3.4 dev s0 onlink table 77;"
	   "ip nexthop add id 5 via 10.9.0.7 dev s0;"
	   "ip route add 10.80.0.0/16 nhid 5;"
	   "ip route del 10.9.0.0/24 dev s0;"
	   "ip route add 10.9.0.0/24 dev s0 metric 5");
	sh("ip -6 route add default via fd09::1 dev s0;"
	   "ip -6 route add fd0c::/64 via fe80::1 dev s0 expires 300;"
	   "ip -6 route add fd0d::/64 nexthop via fd09::3 nexthop via fd09::4;"
	   "ip -6 route add fd0e::/64 dev s0 table 55 pref high");
	sh("ip rule add from 10.9.0.8 lookup 77;"
	   "ip neigh add 10.9.0.1 lladdr 02:00:00:00:00:01 dev s0"
	   "  nud permanent;"
	   "ip neigh add fd09::1 lladdr 02:00:00:00:00:01 dev s0"
	   "  nud permanent");
}

static int unconfigure_nic(void **state)
{
	sh("ip rule del from 10.9.0.8 lookup 77;"
	   "echo 0 >/proc/sys/net/ipv6/conf/default/disable_ipv6");
	return make_hosts(state);
}

/* ---- tap.h --------------------------------------------------------------- */

static struct tap_config config(const char *a, const char *b)
{
	struct tap_config cfg = {.nic = "s0", .name = TAP_NAME};
	const char *texts[] = {a, b};

	cfg.takeover = !a;
	for (int i = 0; i < 2 && texts[i]; i++)
		assert_int_equal(tap_addr_parse(texts[i],
						&cfg.addrs[cfg.n_addrs++], err),
				 0);
	return cfg;
}

static struct tap *setup_ok(struct tap_config cfg)
{
	struct tap *t;
	int error = tap_setup(&cfg, &t, err);

	if (error)
		fail_msg("tap_setup: %d, %s", error, err);
	assert_non_null(t);
	return t;
}

static void restore_ok(struct tap *t)
{
	int error = tap_restore(t, err);

	if (error)
		fail_msg("tap_restore: %d, %s", error, err);
}

static void expect_error(struct tap_config cfg, int error, const char *words)
{
	char *before = everything();
	struct tap *t = (void *)1;
	int result;

	result = tap_setup(&cfg, &t, err);
	if (result != error)
		fail_msg("%d instead of %d: %s", result, error, err);
	assert_null(t);
	if (!strstr(err, words))
		fail_msg("\"%s\" does not say \"%s\"", err, words);
	expect_same(before);
}

static void test_device_has_the_nics_mac_and_mtu(void **state)
{
	struct tap *t;
	char *nic, *tap;

	sh("ip link set s0 mtu 1400");
	t = setup_ok(config("10.9.0.2/24", NULL));
	assert_int_equal(tap_nic_mtu(t), 1400);
	assert_int_equal(tap_nic_index(t), if_nametoindex("s0"));
	assert_true(fcntl(tap_fd(t), F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(tap_fd(t), F_GETFD) & FD_CLOEXEC);
	nic = output("ip -o link show s0 | grep -o 'ether [^ ]*'");
	tap = output("ip -o link show tas0 | grep -o 'ether [^ ]*'");
	assert_string_equal(nic, tap);
	assert_true(shows("ip link show tas0", "mtu 1400"));
	assert_true(shows("ip link show tas0", "UP"));
	assert_true(shows("ip link show tas0", "qlen 4096"));
	free(nic);
	free(tap);
	restore_ok(t);
	sh("ip link set s0 mtu 1500");
}

static void test_own_addresses_have_rule_table_and_routes(void **state)
{
	char *before = everything();
	struct tap *t = setup_ok(config("10.9.0.2/24", "fd09::2/64"));
	const struct tap_addr *owned;

	/* and a link-local one, to ask for neighbours with */
	assert_int_equal(tap_owned(t, &owned), 3);
	assert_int_equal(owned[2].addr[0], 0xfe);
	assert_int_equal(owned[2].prefix_len, 64);
	assert_true(shows("ip addr show tas0", "10.9.0.2/24"));
	assert_true(shows("ip addr show tas0", "fd09::2/64"));
	assert_true(shows("ip rule", "from 10.9.0.2 lookup 29793"));
	assert_true(shows("ip -6 rule", "from fd09::2 lookup 29793"));
	assert_true(shows("ip route show table 29793", "10.9.0.0/24 dev tas0"));
	assert_true(
		shows("ip -6 route show table 29793", "fd09::/64 dev tas0"));
	/* a host without another route */
	assert_true(shows("ip route get 10.9.0.1", "dev tas0 src 10.9.0.2"));
	restore_ok(t);
	expect_same(before);
}

static void test_the_nics_own_route_wins_in_the_main_table(void **state)
{
	struct tap *t;

	sh("ip addr add 10.9.0.9/24 dev s0");
	t = setup_ok(config("10.9.0.2/24", NULL));
	assert_true(shows("ip route get 10.9.0.1", "dev s0 src 10.9.0.9"));
	assert_true(shows("ip route get 10.9.0.1 from 10.9.0.2", "dev tas0"));
	restore_ok(t);
	sh("ip addr del 10.9.0.9/24 dev s0");
}

static void test_own_addresses_use_the_nics_gateways(void **state)
{
	char *before;
	struct tap *t;

	configure_nic();
	before = everything();
	t = setup_ok(config("10.9.0.2/24", "fd09::2/64"));
	assert_true(shows("ip route get 8.8.8.8 from 10.9.0.2",
			  "via 10.9.0.1 dev tas0"));
	assert_true(shows("ip route get 10.77.0.1 from 10.9.0.2",
			  "via 10.9.0.3 dev tas0"));
	assert_true(shows("ip route get 8.8.8.8", "dev s0"));
	assert_true(shows("ip -6 route get 2001:db8::1 from fd09::2",
			  "via fd09::1 dev tas0"));
	assert_true(shows("ip -6 route get fd0c::1 from fd09::2",
			  "via fe80::1 dev tas0"));
	assert_true(shows("ip neigh show dev tas0",
			  "10.9.0.1 lladdr 02:00:00:00:00:01 PERMANENT"));
	restore_ok(t);
	expect_same(before);
}

/* A gateway outside of the address's own prefix. */
static void test_gateways_of_another_prefix_are_on_the_link(void **state)
{
	struct tap *t;

	sh("ip addr add 10.9.0.9/24 dev s0; ip route add default via 10.9.0.1;"
	   "ip addr add fd09::9/64 dev s0; ip -6 route add default via fd09::1");
	t = setup_ok(config("198.51.100.5/32", "2001:db8::5/128"));
	assert_true(shows("ip route get 8.8.8.8 from 198.51.100.5",
			  "via 10.9.0.1 dev tas0"));
	assert_true(shows("ip -6 route get 2001:db8:1::1 from 2001:db8::5",
			  "via fd09::1 dev tas0"));
	restore_ok(t);
	assert_int_equal(make_hosts(NULL), 0);
}

static void test_a_used_table_is_left_alone(void **state)
{
	struct tap *t;

	sh("ip route add 10.1.0.0/16 dev s0 table 29793;"
	   "ip rule add from 1.2.3.4 lookup 29794");
	t = setup_ok(config("10.9.0.2/24", NULL));
	assert_true(shows("ip rule", "from 10.9.0.2 lookup 29795"));
	restore_ok(t);
	assert_true(shows("ip route show table 29793", "10.1.0.0/16 dev s0"));
	sh("ip route del 10.1.0.0/16 dev s0 table 29793;"
	   "ip rule del from 1.2.3.4 lookup 29794");
}

static void test_takeover_moves_all_and_restores_all(void **state)
{
	char *before;
	const struct tap_addr *owned;
	struct tap *t;

	configure_nic();
	/* from here on an address without "nodad" would be tentative */
	sh("echo 1 >/proc/sys/net/ipv6/conf/s0/accept_dad");
	before = everything();
	t = setup_ok(config(NULL, NULL));
	assert_int_equal(tap_owned(t, &owned), 9);
	assert_true(silent("ip -o addr show dev s0; ip route show dev s0;"
			   "ip -6 route show dev s0"));
	assert_true(
		shows("ip addr show tas0", "10.9.0.255 scope global tas0:x"));
	assert_true(shows("ip addr show tas0",
			  "10.9.0.8/24 scope global secondary tas0"));
	assert_true(shows("ip addr show tas0", "valid_lft 1000sec"));
	assert_true(shows("ip addr show tas0", "fd0a::8/64 metric 77"));
	assert_true(shows("ip addr show tas0", "inet6 fe80::"));
	assert_true(shows("ip route", "default via 10.9.0.1 dev tas0 \n"
				      "default via 10.9.0.6 dev tas0"));
	assert_true(shows("ip route", "metric 50 mtu 1400"));
	assert_true(shows("ip route", "10.80.0.0/16 via 10.9.0.7 dev tas0"));
	assert_true(
		shows("ip route show table 77", "via 1.2.3.4 dev tas0 onlink"));
	assert_true(shows("ip -6 route show table 55",
			  "fd0e::/64 dev tas0 metric 1024 pref high"));
	assert_true(shows("ip -6 route", "default via fd09::1 dev tas0"));
	assert_true(shows("ip neigh show dev tas0", "PERMANENT"));
	restore_ok(t);
	expect_same(before);
}

static void test_takeover_keeps_linux_off_the_nic_meanwhile(void **state)
{
	struct tap *t = setup_ok(config(NULL, NULL));

	assert_true(shows("cat /proc/sys/net/ipv6/conf/s0/accept_ra", "0"));
	sh("ip link set s0 down; ip link set s0 up");
	usleep(300000);
	assert_true(silent("ip -o -6 addr show dev s0"));
	restore_ok(t);
	assert_true(shows("cat /proc/sys/net/ipv6/conf/s0/accept_ra", "1"));
	assert_true(shows("cat /proc/sys/net/ipv6/conf/s0/addr_gen_mode", "0"));
	assert_true(shows("ip addr show dev s0", "inet6 fe80::"));
}

static void test_failing_setup_undoes_what_was_done(void **state)
{
	/* The second address can't be set: IPv6 is off for new interfaces. */
	sh("echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6");
	expect_error(config("10.9.0.2/24", "fd09::2/64"), -EACCES, "IPv6");
	sh("echo 0 >/proc/sys/net/ipv6/conf/default/disable_ipv6");
}

static void test_failing_takeover_undoes_what_was_done(void **state)
{
	configure_nic();
	sh("echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6");
	expect_error(config(NULL, NULL), -EACCES, "onto the TAP");
	sh("echo 0 >/proc/sys/net/ipv6/conf/default/disable_ipv6");
}

static void test_restore_after_the_nic_vanished(void **state)
{
	struct tap *t = setup_ok(config(NULL, NULL));

	sh("ip link del s0");
	assert_true(tap_restore(t, err) < 0);
	assert_string_not_equal(err, "");
	assert_int_equal(if_nametoindex("tas0"), 0);
	assert_int_equal(make_hosts(NULL), 0);
	t = setup_ok(config("10.9.0.2/24", NULL));
	sh("ip link del s0");
	restore_ok(t);
	assert_int_equal(make_hosts(NULL), 0);
}

static void test_restore_by_the_parent_after_the_child_died(void **state)
{
	char *before = everything();
	struct tap *t = setup_ok(config("10.9.0.2/24", "fd09::2/64"));
	pid_t pid = fork();

	if (pid == 0) {
		kill(getpid(), SIGKILL);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	restore_ok(t);
	expect_same(before);
}

/* ---- frames through the TAP ---------------------------------------------- */

static const uint8_t peer_mac[6] = {2, 0, 0, 0, 0, 7};

static size_t ethernet(uint8_t *frame, const uint8_t *dst, uint16_t type)
{
	memset(frame, 0, 256);
	memcpy(frame, dst, 6);
	memcpy(frame + 6, peer_mac, 6);
	frame[12] = (uint8_t)(type >> 8);
	frame[13] = (uint8_t)type;
	return 14;
}

/* Read what Linux sends until a frame has @byte at @at and type @type. */
static bool linux_sends(struct tap *t, uint16_t type, size_t at, uint8_t byte,
			uint8_t *frame)
{
	struct pollfd pfd = {.fd = tap_fd(t), .events = POLLIN};

	for (int i = 0; i < 100 && poll(&pfd, 1, 1000) > 0; i++) {
		if (read(pfd.fd, frame, 256) < (ssize_t)at)
			continue;
		if (frame[12] == type >> 8 && frame[13] == (uint8_t)type &&
		    frame[at] == byte)
			return true;
	}
	return false;
}

static void linux_gets(struct tap *t, const uint8_t *frame, size_t len)
{
	assert_int_equal(write(tap_fd(t), frame, len), len);
}

static void arp(struct tap *t, const uint8_t *mac, uint8_t op, const char *spa,
		const char *tpa)
{
	static const uint8_t head[] = {0, 1, 8, 0, 6, 4, 0};
	uint8_t frame[256];
	size_t len = ethernet(frame, mac, 0x0806);

	memcpy(frame + len, head, sizeof(head));
	frame[21] = op;
	memcpy(frame + 22, peer_mac, 6);
	inet_pton(AF_INET, spa, frame + 28);
	inet_pton(AF_INET, tpa, frame + 38);
	linux_gets(t, frame, 42);
}

static void ping4(struct tap *t, const uint8_t *mac, const char *from,
		  const char *to)
{
	uint8_t frame[256];
	struct iphdr *ip = (void *)(frame + 14);

	ethernet(frame, mac, 0x0800);
	ip->version = 4;
	ip->ihl = 5;
	ip->tot_len = htons(28);
	ip->ttl = 64;
	ip->protocol = IPPROTO_ICMP;
	inet_pton(AF_INET, from, &ip->saddr);
	inet_pton(AF_INET, to, &ip->daddr);
	ip->check = csum_fold(csum_add(ip, 20, 0));
	frame[34] = 8; /* echo request */
	frame[36] = 0xf7;
	frame[37] = 0xff;
	linux_gets(t, frame, 42);
}

static void nic_mac(uint8_t *mac)
{
	char *text = output("ip -o link show s0 | grep -o 'ether [^ ]*'");

	for (size_t i = 0; i < 6; i++)
		mac[i] = (uint8_t)strtoul(text + 6 + 3 * i, NULL, 16);
	free(text);
}

/* Strict reverse path checks; a peer on the link, another behind a gateway. */
static void test_linux_answers_on_the_tap_with_rp_filter_1(void **state)
{
	static const uint8_t all[6] = {255, 255, 255, 255, 255, 255};
	uint8_t frame[256], mac[6];
	struct tap *t;

	sh("echo 1 >/proc/sys/net/ipv4/conf/all/rp_filter;"
	   "ip route add default via 10.9.0.1 dev s0 onlink");
	t = setup_ok(config("10.9.0.2/24", NULL));
	nic_mac(mac);
	arp(t, all, 1, "10.9.0.1", "10.9.0.2");
	assert_true(linux_sends(t, 0x0806, 21, 2, frame));
	assert_memory_equal(frame, peer_mac, 6);
	assert_memory_equal(frame + 6, mac, 6);
	ping4(t, mac, "10.9.0.1", "10.9.0.2");
	assert_true(linux_sends(t, 0x0800, 34, 0, frame));
	assert_memory_equal(frame, peer_mac, 6);
	ping4(t, mac, "8.8.8.8", "10.9.0.2");
	assert_true(linux_sends(t, 0x0800, 34, 0, frame));
	assert_memory_equal(frame, peer_mac, 6);
	assert_memory_equal(frame + 30, "\x08\x08\x08\x08", 4);
	restore_ok(t);
	sh("echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter;"
	   "ip route del default");
}

/* Asked for from an address that isn't the service's: the answer comes back
 * to the TAP all the same. */
static void test_arp_asks_with_an_owned_address(void **state)
{
	uint8_t frame[256];
	struct tap *t;

	sh("ip addr add 172.16.0.1/16 dev s0");
	t = setup_ok(config("10.9.0.2/24", NULL));
	sh("ping -c 1 -W 1 -I 172.16.0.1 10.9.0.1 >/dev/null || :");
	assert_true(linux_sends(t, 0x0806, 21, 1, frame));
	assert_memory_equal(frame + 28, "\x0a\x09\x00\x02", 4);
	restore_ok(t);
	assert_int_equal(make_hosts(NULL), 0);
}

static void test_linux_answers_neighbour_solicitations(void **state)
{
	static const uint8_t group[6] = {0x33, 0x33, 0xff, 0, 0, 2};
	struct tap *t = setup_ok(config("fd09::2/64", NULL));
	uint8_t frame[256], answer[256];
	bool answered = false;
	size_t len = ethernet(frame, group, 0x86dd);
	uint8_t *ip = frame + len, *icmp = ip + 40;
	uint64_t sum;
	uint16_t check;

	ip[0] = 0x60;
	ip[5] = 32;
	ip[6] = IPPROTO_ICMPV6;
	ip[7] = 255;
	inet_pton(AF_INET6, "fd09::1", ip + 8);
	inet_pton(AF_INET6, "ff02::1:ff00:2", ip + 24);
	icmp[0] = 135;
	inet_pton(AF_INET6, "fd09::2", icmp + 8);
	icmp[24] = 1; /* source link-layer address */
	icmp[25] = 1;
	memcpy(icmp + 26, peer_mac, 6);
	sum = csum_add(ip + 8, 32, htonl(32));
	sum = csum_add(icmp, 32, sum + htons(IPPROTO_ICMPV6));
	check = csum_fold(sum);
	memcpy(icmp + 2, &check, 2);
	/* Linux joins the group of a new address a moment later. */
	for (int i = 0; i < 20 && !answered; i++) {
		linux_gets(t, frame, len + 40 + 32);
		answered = linux_sends(t, 0x86dd, 54, 136, answer);
	}
	assert_true(answered);
	assert_memory_equal(answer, peer_mac, 6);
	restore_ok(t);
}

/* ---- what is refused ----------------------------------------------------- */

static void test_a_taken_name_is_refused(void **state)
{
	sh("ip tuntap add dev tas0 mode tap");
	expect_error(config("10.9.0.2/24", NULL), -EBUSY, "--tap");
	sh("ip link del tas0");
}

static void test_unusable_nics_are_named(void **state)
{
	struct tap_config cfg = config("10.9.0.2/24", NULL);

	cfg.nic = "nosuch0";
	expect_error(cfg, -ENODEV, "there is no network interface nosuch0");
	cfg.nic = "an-overlong-interface-name";
	expect_error(cfg, -ENODEV, "there is no network interface");
	cfg.nic = "lo";
	expect_error(cfg, -EOPNOTSUPP, "not an Ethernet interface");
	cfg.nic = "s0";
	sh("ip link set s0 down");
	expect_error(cfg, -ENETDOWN, "ip link set s0 up");
	assert_int_equal(make_hosts(NULL), 0);
	sh("ip link set s0 mtu 3499");
	expect_error(cfg, -EMSGSIZE, "ip link set s0 mtu 3498");
	sh("ip link set s0 mtu 3498");
	restore_ok(setup_ok(cfg));
	sh("ip link set s0 mtu 1500");
}

static void test_wrong_addresses_are_refused(void **state)
{
	struct tap_config cfg = {.nic = "s0", .name = TAP_NAME};

	expect_error(cfg, -EINVAL, "--takeover");
	sh("ip addr flush dev s0");
	cfg.takeover = true;
	expect_error(cfg, -EADDRNOTAVAIL, "no address to take over");
	assert_int_equal(make_hosts(NULL), 0);
	sh("ip addr add 10.9.0.9/24 dev s0; ip addr add 10.8.0.9/24 dev p0");
	expect_error(config("10.9.0.9/24", NULL), -EADDRINUSE, "--takeover");
	expect_error(config("10.8.0.9/24", NULL), -EADDRINUSE, "of p0");
	expect_error(config("10.9.0.2/24", "10.9.0.2/16"), -EINVAL, "twice");
	assert_int_equal(make_hosts(NULL), 0);
}

static void test_without_permission_the_remedy_is_named(void **state)
{
	pid_t pid = fork();
	int status = 1;

	if (pid == 0) {
		struct tap_config cfg = config("10.9.0.2/24", NULL);
		struct tap *t;

		if (setgid(65534) || setuid(65534))
			_exit(2);
		if (tap_setup(&cfg, &t, err) >= 0)
			_exit(3);
		_exit(strstr(err, "run as root") ? 0 : 4);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_device_has_the_nics_mac_and_mtu),
		cmocka_unit_test(test_own_addresses_have_rule_table_and_routes),
		cmocka_unit_test(
			test_the_nics_own_route_wins_in_the_main_table),
		cmocka_unit_test_teardown(
			test_own_addresses_use_the_nics_gateways,
			unconfigure_nic),
		cmocka_unit_test(
			test_gateways_of_another_prefix_are_on_the_link),
		cmocka_unit_test(test_a_used_table_is_left_alone),
		cmocka_unit_test_teardown(
			test_takeover_moves_all_and_restores_all,
			unconfigure_nic),
		cmocka_unit_test(
			test_takeover_keeps_linux_off_the_nic_meanwhile),
		cmocka_unit_test(test_failing_setup_undoes_what_was_done),
		cmocka_unit_test_teardown(
			test_failing_takeover_undoes_what_was_done,
			unconfigure_nic),
		cmocka_unit_test(test_restore_after_the_nic_vanished),
		cmocka_unit_test(
			test_restore_by_the_parent_after_the_child_died),
		cmocka_unit_test(
			test_linux_answers_on_the_tap_with_rp_filter_1),
		cmocka_unit_test(test_arp_asks_with_an_owned_address),
		cmocka_unit_test(test_linux_answers_neighbour_solicitations),
		cmocka_unit_test(test_a_taken_name_is_refused),
		cmocka_unit_test(test_unusable_nics_are_named),
		cmocka_unit_test(test_wrong_addresses_are_refused),
		cmocka_unit_test(test_without_permission_the_remedy_is_named),
	};

	if (geteuid() != 0 || unshare(CLONE_NEWNET) < 0) {
		printf("not ok - a namespace of its own: run this as root\n");
		return 1;
	}
	sh("ip link set lo up");
	if (make_hosts(NULL))
		return 1;
	return cmocka_run_group_tests_name("tap", tests, NULL, NULL);
}
