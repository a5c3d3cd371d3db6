// SPDX-License-Identifier: BSD-2-Clause
/*
 * test_steer.c - the XDP program's verdicts, and loading and attaching it
 *
 *   s0 ==== veth ==== p0        both in a network namespace of this process;
 *   a mount namespace of its own hides or shows the BPF file system
 *
 * Verdicts: the loaded program runs over frames by BPF_PROG_TEST_RUN, on the
 * loopback interface's queue 0, with an AF_XDP socket in the map or without.
 * Attaching: bpf/xdp.h against s0.
 */
#include "bpf/steer.h"
#include "bpf/xdp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/if_xdp.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <bpf/bpf.h>
#include <cmocka.h>

#include "bpf/steer.skel.h"

#define FRAME_MAX 256

static const uint8_t our_mac[6] = {2, 0, 0, 0, 0, 1};
static const uint8_t other_mac[6] = {2, 0, 0, 0, 0, 9};
static const uint8_t broadcast[6] = {255, 255, 255, 255, 255, 255};
static const uint8_t nd_group[6] = {0x33, 0x33, 0xff, 0, 0, 2};

struct test_frame {
	uint8_t bytes[FRAME_MAX];
	uint32_t len;
};

static struct steer *skel;

/* ---- frames -------------------------------------------------------------- */

static struct test_frame ethernet(const uint8_t *dst, uint16_t type)
{
	struct test_frame f = {.len = 14};

	memcpy(f.bytes, dst, 6);
	memcpy(f.bytes + 6, other_mac, 6);
	f.bytes[12] = (uint8_t)(type >> 8);
	f.bytes[13] = (uint8_t)type;
	return f;
}

static struct test_frame ip4(const uint8_t *mac, const char *dst)
{
	struct test_frame f = ethernet(mac, 0x0800);
	uint8_t *ip = f.bytes + 14;

	ip[0] = 0x45;
	ip[3] = 40;
	ip[9] = IPPROTO_TCP;
	inet_pton(AF_INET, "10.9.0.1", ip + 12);
	inet_pton(AF_INET, dst, ip + 16);
	f.len += 40;
	return f;
}

static struct test_frame ip6(const uint8_t *mac, const char *dst)
{
	struct test_frame f = ethernet(mac, 0x86dd);
	uint8_t *ip = f.bytes + 14;

	ip[0] = 0x60;
	ip[5] = 24;
	ip[6] = IPPROTO_TCP;
	inet_pton(AF_INET6, "fd09::1", ip + 8);
	inet_pton(AF_INET6, dst, ip + 24);
	f.len += 64;
	return f;
}

static struct test_frame arp(const uint8_t *mac, uint8_t op, const char *target)
{
	static const uint8_t head[] = {0, 1, 8, 0, 6, 4, 0};
	struct test_frame f = ethernet(mac, 0x0806);

	memcpy(f.bytes + 14, head, sizeof(head));
	f.bytes[21] = op;
	inet_pton(AF_INET, "10.9.0.1", f.bytes + 28);
	inet_pton(AF_INET, target, f.bytes + 38);
	f.len += 28;
	return f;
}

static struct test_frame nd(const uint8_t *mac, const char *dst, uint8_t type,
			    const char *target)
{
	struct test_frame f = ip6(mac, dst);

	f.bytes[14 + 6] = IPPROTO_ICMPV6;
	f.bytes[54] = type;
	inet_pton(AF_INET6, target, f.bytes + 62);
	return f;
}

/* ---- the program over a frame -------------------------------------------- */

static uint64_t verdict_get(uint32_t verdict)
{
	int cpus = libbpf_num_possible_cpus();
	uint64_t *value = calloc((size_t)cpus, sizeof(*value)), sum = 0;

	assert_non_null(value);
	assert_int_equal(bpf_map_lookup_elem(bpf_map__fd(skel->maps.verdicts),
					     &verdict, value),
			 0);
	for (int i = 0; i < cpus; i++)
		sum += value[i];
	free(value);
	return sum;
}

static uint32_t run_program(struct bpf_program *program,
			    const struct test_frame *f)
{
	uint8_t out[FRAME_MAX + 64];
	DECLARE_LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = f->bytes,
			    .data_size_in = f->len, .data_out = out,
			    .data_size_out = sizeof(out), .repeat = 1);

	assert_int_equal(
		bpf_prog_test_run_opts(bpf_program__fd(program), &opts), 0);
	/* whatever the verdict, the frame stays as it was */
	assert_int_equal(opts.data_size_out, f->len);
	assert_memory_equal(out, f->bytes, f->len);
	return opts.retval;
}

/* Both programs: this action, and this one counter goes up by one. */
static void expect(struct test_frame f, uint32_t verdict, uint32_t action)
{
	struct bpf_program *programs[] = {skel->progs.steer,
					  skel->progs.steer_next};

	for (int p = 0; p < 2; p++) {
		uint64_t before[STEER_VERDICT_COUNT];

		for (uint32_t i = 0; i < STEER_VERDICT_COUNT; i++)
			before[i] = verdict_get(i);
		assert_int_equal(run_program(programs[p], &f), action);
		for (uint32_t i = 0; i < STEER_VERDICT_COUNT; i++)
			assert_int_equal(verdict_get(i),
					 before[i] + (i == verdict));
	}
}

static void expect_ours(struct test_frame f)
{
	expect(f, STEER_REDIRECT, XDP_REDIRECT);
}

static void expect_pass(struct test_frame f, uint32_t verdict)
{
	expect(f, verdict, XDP_PASS);
}

static void own(const char *text)
{
	bool v6 = strchr(text, ':');
	uint8_t addr[16], one = 1;

	inet_pton(v6 ? AF_INET6 : AF_INET, text, addr);
	assert_int_equal(
		bpf_map_update_elem(bpf_map__fd(v6 ? skel->maps.owned_v6
						   : skel->maps.owned_v4),
				    addr, &one, BPF_ANY),
		0);
}

static int queue_socket;

static void set_queue_socket(bool present)
{
	int map = bpf_map__fd(skel->maps.xsks);
	uint32_t queue = 0;

	if (present)
		assert_int_equal(bpf_map_update_elem(map, &queue, &queue_socket,
						     BPF_ANY),
				 0);
	else
		bpf_map_delete_elem(map, &queue);
}

static int load(void **state)
{
	skel = steer__open();
	assert_non_null(skel);
	memcpy((void *)skel->rodata->nic_mac, our_mac, 6);
	assert_int_equal(steer__load(skel), 0);
	own("10.9.0.2");
	own("fd09::2");
	queue_socket = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
	assert_true(queue_socket >= 0);
	set_queue_socket(true);
	return 0;
}

static int unload(void **state)
{
	close(queue_socket);
	steer__destroy(skel);
	return 0;
}

/* ---- verdicts ------------------------------------------------------------ */

static void test_ip4_for_an_owned_address_is_redirected(void **state)
{
	expect_ours(ip4(our_mac, "10.9.0.2"));
	expect_pass(ip4(our_mac, "10.9.0.3"), STEER_NOT_OWNED);
}

static void test_ip4_fragments_and_options_are_redirected(void **state)
{
	struct test_frame f = ip4(our_mac, "10.9.0.2");

	f.bytes[14 + 6] = 0x20; /* more fragments */
	expect_ours(f);
	f.bytes[14 + 6] = 0;
	f.bytes[14 + 7] = 185; /* a later fragment */
	expect_ours(f);
	f = ip4(our_mac, "10.9.0.2");
	f.bytes[14] = 0x46;
	expect_ours(f);
	f = ip4(our_mac, "10.9.0.2");
	f.bytes[14 + 9] = IPPROTO_UDP;
	expect_ours(f);
}

static void test_ip6_for_an_owned_address_is_redirected(void **state)
{
	struct test_frame f = ip6(our_mac, "fd09::2");

	expect_ours(f);
	f.bytes[14 + 6] = IPPROTO_FRAGMENT;
	expect_ours(f);
	expect_ours(nd(our_mac, "fd09::2", 136, "fd09::1"));
	expect_pass(ip6(our_mac, "fd09::3"), STEER_NOT_OWNED);
}

static void test_other_macs_stay_with_the_kernel(void **state)
{
	expect_pass(ip4(other_mac, "10.9.0.2"), STEER_NOT_OWNED);
	expect_pass(ip4(broadcast, "10.9.0.2"), STEER_NOT_OWNED);
	expect_pass(ip6(other_mac, "fd09::2"), STEER_NOT_OWNED);
	expect_pass(ip6(nd_group, "fd09::2"), STEER_NOT_OWNED);
	expect_pass(arp(other_mac, 2, "10.9.0.2"), STEER_NOT_OWNED);
	expect_pass(nd(other_mac, "ff02::1:ff00:2", 135, "fd09::2"),
		    STEER_NOT_OWNED);
}

static void test_multicast_and_broadcast_stay_with_the_kernel(void **state)
{
	static const uint8_t mdns[6] = {1, 0, 0x5e, 0, 0, 0xfb};
	static const uint8_t all[6] = {0x33, 0x33, 0, 0, 0, 1};

	expect_pass(ip4(broadcast, "255.255.255.255"), STEER_NOT_OWNED);
	expect_pass(ip4(broadcast, "10.9.0.255"), STEER_NOT_OWNED);
	expect_pass(ip4(mdns, "224.0.0.251"), STEER_NOT_OWNED);
	/* a router's advertisement */
	expect_pass(nd(all, "ff02::1", 134, "fd09::2"), STEER_NOT_OWNED);
}

static void test_arp_for_an_owned_target_is_redirected(void **state)
{
	expect_ours(arp(broadcast, 1, "10.9.0.2"));
	expect_ours(arp(our_mac, 1, "10.9.0.2"));
	expect_ours(arp(our_mac, 2, "10.9.0.2"));
	expect_pass(arp(broadcast, 1, "10.9.0.3"), STEER_NOT_OWNED);
}

static void test_arp_of_another_kind_passes(void **state)
{
	static const uint8_t at[] = {15, 17, 18, 19};

	for (size_t i = 0; i < sizeof(at); i++) {
		struct test_frame f = arp(broadcast, 1, "10.9.0.2");

		f.bytes[at[i]] ^= 1;
		expect_pass(f, STEER_OTHER_PROTO);
	}
}

static void test_neighbour_discovery_of_an_owned_target(void **state)
{
	static const uint8_t all[6] = {0x33, 0x33, 0, 0, 0, 1};

	expect_ours(nd(nd_group, "ff02::1:ff00:2", 135, "fd09::2"));
	expect_ours(nd(our_mac, "ff02::1:ff00:2", 135, "fd09::2"));
	expect_ours(nd(all, "ff02::1", 136, "fd09::2"));
	expect_pass(nd(nd_group, "ff02::1:ff00:3", 135, "fd09::3"),
		    STEER_NOT_OWNED);
	/* an echo request to a group, with those bytes where the target is */
	expect_pass(nd(nd_group, "ff02::1:ff00:2", 128, "fd09::2"),
		    STEER_NOT_OWNED);
}

static void test_vlan_tags_and_other_types_pass(void **state)
{
	static const uint16_t types[] = {0x8100, 0x88a8, 0x8847, 0x88cc,
					 0x855b, 0x0026, 0};

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		struct test_frame f = ip4(our_mac, "10.9.0.2");

		f.bytes[12] = (uint8_t)(types[i] >> 8);
		f.bytes[13] = (uint8_t)types[i];
		expect_pass(f, STEER_OTHER_PROTO);
	}
}

static void test_wrong_version_or_header_length_passes(void **state)
{
	struct test_frame f = ip4(our_mac, "10.9.0.2");

	f.bytes[14] = 0x55;
	expect_pass(f, STEER_OTHER_PROTO);
	f.bytes[14] = 0x44;
	expect_pass(f, STEER_SHORT);
	f = ip6(our_mac, "fd09::2");
	f.bytes[14] = 0x40;
	expect_pass(f, STEER_OTHER_PROTO);
}

/* The kernel runs programs over 14 bytes and more only. */
static void test_frames_cut_inside_their_headers_pass(void **state)
{
	struct test_frame f;

	for (uint32_t len = 14; len <= 54; len++) {
		f = ip4(our_mac, "10.9.0.2");
		f.len = len;
		if (len < 34)
			expect_pass(f, STEER_SHORT);
		else
			expect_ours(f);
	}
	for (uint32_t len = 14; len <= 78; len++) {
		f = ip6(our_mac, "fd09::2");
		f.len = len;
		if (len < 54)
			expect_pass(f, STEER_SHORT);
		else
			expect_ours(f);
		f = nd(nd_group, "ff02::1:ff00:2", 135, "fd09::2");
		f.len = len;
		if (len < 78)
			expect_pass(f, STEER_SHORT);
		else
			expect_ours(f);
	}
	for (uint32_t len = 14; len <= 42; len++) {
		f = arp(broadcast, 1, "10.9.0.2");
		f.len = len;
		if (len < 42)
			expect_pass(f, STEER_SHORT);
		else
			expect_ours(f);
	}
}

static void test_without_a_socket_frames_pass(void **state)
{
	set_queue_socket(false);
	expect_pass(ip4(our_mac, "10.9.0.2"), STEER_NO_SOCKET);
	expect_pass(arp(broadcast, 1, "10.9.0.2"), STEER_NO_SOCKET);
	expect_pass(ip4(our_mac, "10.9.0.3"), STEER_NOT_OWNED);
	set_queue_socket(true);
	expect_ours(ip4(our_mac, "10.9.0.2"));
}

static void test_a_closed_socket_leaves_the_map(void **state)
{
	close(queue_socket);
	expect_pass(ip4(our_mac, "10.9.0.2"), STEER_NO_SOCKET);
	queue_socket = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
	set_queue_socket(true);
	expect_ours(ip4(our_mac, "10.9.0.2"));
}

/* ---- the operator's slot ------------------------------------------------- */

/* A program of an operator's: drop; with @map, go on in slot 1 first. */
static int operator_program(int map)
{
	const struct bpf_insn go_on[] = {
		/* r2 = map, r3 = slot, tail call; r0 = XDP_DROP; exit */
		{.code = BPF_LD | BPF_DW, /* BPF_IMM is 0 */
		 .dst_reg = 2,
		 .src_reg = BPF_PSEUDO_MAP_FD,
		 .imm = map},
		{0},
		{.code = BPF_ALU64 | BPF_MOV | BPF_K,
		 .dst_reg = 3,
		 .imm = STEER_SLOT_STEER},
		{.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_tail_call},
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = XDP_DROP},
		{.code = BPF_JMP | BPF_EXIT},
	};
	DECLARE_LIBBPF_OPTS(bpf_prog_load_opts, opts,
			    .expected_attach_type = BPF_XDP);
	int skip = map < 0 ? 4 : 0;
	int fd = bpf_prog_load(BPF_PROG_TYPE_XDP, "operator", "GPL",
			       go_on + skip, (size_t)(6 - skip), &opts);

	assert_true(fd >= 0);
	return fd;
}

static void set_slot(int map, uint32_t slot, int program)
{
	if (program >= 0)
		assert_int_equal(
			bpf_map_update_elem(map, &slot, &program, BPF_ANY), 0);
	else
		assert_int_equal(bpf_map_delete_elem(map, &slot), 0);
}

static void test_operators_program_sees_frames_first(void **state)
{
	struct test_frame ours = ip4(our_mac, "10.9.0.2");
	int map = bpf_map__fd(skel->maps.filter);
	int drop = operator_program(-1), go_on = operator_program(map);

	set_slot(map, STEER_SLOT_OPERATOR, drop);
	assert_int_equal(run_program(skel->progs.steer, &ours), XDP_DROP);
	set_slot(map, STEER_SLOT_OPERATOR, go_on);
	set_slot(map, STEER_SLOT_STEER,
		 bpf_program__fd(skel->progs.steer_next));
	assert_int_equal(run_program(skel->progs.steer, &ours), XDP_REDIRECT);
	set_slot(map, STEER_SLOT_OPERATOR, -1);
	expect_ours(ours);
	close(drop);
	close(go_on);
}

/* ---- attaching ----------------------------------------------------------- */

static char err[XDP_ERR_MAX];

static struct xdp_config config(const char *ifname, enum xdp_mode mode)
{
	return (struct xdp_config){.ifname = ifname,
				   .ifindex = if_nametoindex(ifname),
				   .mode = mode};
}

static struct xdp *attach_ok(enum xdp_mode mode)
{
	struct xdp_config cfg = config("s0", mode);
	struct xdp *x;

	assert_int_equal(xdp_attach(&cfg, &x, err), 0);
	assert_string_equal(err, "");
	assert_non_null(x);
	return x;
}

static void expect_error(struct xdp_config cfg, int error, const char *words)
{
	struct xdp *x = (void *)1;

	assert_int_equal(xdp_attach(&cfg, &x, err), error);
	assert_null(x);
	if (!strstr(err, words))
		fail_msg("\"%s\" does not say \"%s\"", err, words);
}

/* Where the filter map of s0 is pinned in this process's namespace. */
static const char *pin(const char *file)
{
	static char path[96];
	struct stat st;

	assert_int_equal(stat("/proc/self/ns/net", &st), 0);
	snprintf(path, sizeof(path), "/sys/fs/bpf/tas-xdp/s0@%lu%s",
		 (unsigned long)st.st_ino, file);
	return path;
}

static bool nothing_attached(void)
{
	uint32_t id = 1;

	assert_int_equal(bpf_xdp_query_id((int)if_nametoindex("s0"), 0, &id),
			 0);
	return id == 0;
}

static void expect_released(struct xdp *x)
{
	assert_int_equal(xdp_release(x, err), 0);
	assert_true(nothing_attached());
	assert_int_equal(access("/sys/fs/bpf/tas-xdp", F_OK), -1);
}

static void test_attach_prefers_driver_mode_and_release_detaches(void **state)
{
	struct xdp *x = attach_ok(XDP_MODE_AUTO);

	assert_false(xdp_is_generic(x));
	assert_false(nothing_attached());
	assert_int_equal(access(pin("/filter"), F_OK), 0);
	expect_released(x);
	x = attach_ok(XDP_MODE_DRIVER);
	assert_false(xdp_is_generic(x));
	expect_released(x);
	x = attach_ok(XDP_MODE_GENERIC);
	assert_true(xdp_is_generic(x));
	expect_released(x);
}

static void test_namespaces_share_a_bpf_file_system(void **state)
{
	struct xdp *x = attach_ok(XDP_MODE_AUTO), *y;
	int ours = open("/proc/self/ns/net", O_RDONLY);
	char first[96];

	snprintf(first, sizeof(first), "%s", pin("/filter"));
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	assert_int_equal(system("ip link add s0 type veth peer name p0"), 0);
	y = attach_ok(XDP_MODE_AUTO);
	assert_string_not_equal(first, pin("/filter"));
	assert_int_equal(access(pin("/filter"), F_OK), 0);
	assert_int_equal(access(first, F_OK), 0);
	assert_int_equal(xdp_release(y, err), 0);
	assert_int_equal(setns(ours, CLONE_NEWNET), 0);
	close(ours);
	assert_int_equal(access(first, F_OK), 0);
	expect_released(x);
}

static void test_release_by_the_parent_after_the_child_died(void **state)
{
	struct xdp *x = attach_ok(XDP_MODE_AUTO);
	pid_t pid = fork();

	if (pid == 0)
		_exit(xdp_set_socket(x, 0, socket(AF_XDP, SOCK_RAW, 0)) ? 1
									: 0);
	assert_int_equal(waitpid(pid, &(int){0}, 0), pid);
	assert_false(nothing_attached());
	expect_released(x);
}

static void test_pinned_slots_outlive_attaching(void **state)
{
	struct xdp *x = attach_ok(XDP_MODE_AUTO);
	uint32_t slot = STEER_SLOT_STEER, id = 0;
	int map = bpf_obj_get(pin("/filter"));

	assert_true(map >= 0);
	assert_int_equal(bpf_map_lookup_elem(map, &slot, &id), 0);
	assert_int_not_equal(id, 0);
	close(map);
	expect_released(x);
}

static void test_a_stale_pin_is_replaced(void **state)
{
	DECLARE_LIBBPF_OPTS(bpf_map_create_opts, opts);
	int map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "stale", 4, 4, 1, &opts);

	mkdir("/sys/fs/bpf/tas-xdp", 0700);
	mkdir(pin(""), 0700);
	assert_int_equal(bpf_obj_pin(map, pin("/filter")), 0);
	close(map);
	expect_released(attach_ok(XDP_MODE_AUTO));
}

static void test_another_services_pin_is_left_alone(void **state)
{
	struct xdp_config cfg = config("p0", XDP_MODE_AUTO);
	struct xdp *x = attach_ok(XDP_MODE_AUTO), *y;

	/* The same directory for another NIC, as in another namespace. */
	cfg.ifname = "s0";
	cfg.ifindex = if_nametoindex("p0");
	assert_int_equal(xdp_attach(&cfg, &y, err), 0);
	assert_non_null(strstr(err, "belongs to another tas-xdp"));
	assert_int_equal(xdp_release(y, err), 0);
	assert_int_equal(access(pin("/filter"), F_OK), 0);
	expect_released(x);
}

static void test_second_program_on_the_nic_is_refused(void **state)
{
	struct xdp *x = attach_ok(XDP_MODE_AUTO);

	expect_error(config("s0", XDP_MODE_AUTO), -EBUSY,
		     "another XDP program is attached to s0");
	expect_error(config("s0", XDP_MODE_GENERIC), -EBUSY,
		     "ip link set dev s0 xdp off");
	assert_false(nothing_attached());
	expect_released(x);
}

static void test_other_programs_are_not_detached(void **state)
{
	struct xdp *x = attach_ok(XDP_MODE_AUTO);
	int ifindex = (int)if_nametoindex("s0");
	int other = operator_program(-1);

	/* Somebody replaces ours by force. */
	assert_int_equal(
		bpf_xdp_attach(ifindex, other, XDP_FLAGS_DRV_MODE, NULL), 0);
	assert_int_equal(xdp_release(x, err), 0);
	assert_false(nothing_attached());
	assert_int_equal(bpf_xdp_detach(ifindex, XDP_FLAGS_DRV_MODE, NULL), 0);
	close(other);
}

static void test_unusable_interfaces_are_named(void **state)
{
	expect_error(config("lo", XDP_MODE_AUTO), -EOPNOTSUPP,
		     "lo is not an Ethernet interface");
	expect_error(config("nosuch0", XDP_MODE_AUTO), -ENODEV,
		     "there is no network interface nosuch0");
}

static void test_large_mtu_falls_back_or_says_so(void **state)
{
	struct xdp *x;

	assert_int_equal(
		system("ip link set p0 mtu 9000; ip link set s0 mtu 9000"), 0);
	expect_error(config("s0", XDP_MODE_DRIVER), -ERANGE, "MTU");
	x = attach_ok(XDP_MODE_AUTO);
	assert_true(xdp_is_generic(x));
	expect_released(x);
	assert_int_equal(
		system("ip link set p0 mtu 1500; ip link set s0 mtu 1500"), 0);
}

static void test_without_libxdps_dispatcher_object(void **state)
{
	setenv("LIBXDP_OBJECT_PATH", "/nonexistent", 1);
	expect_released(attach_ok(XDP_MODE_AUTO));
	unsetenv("LIBXDP_OBJECT_PATH");
}

static void test_without_permission_the_remedy_is_named(void **state)
{
	pid_t pid = fork();
	int status = 1;

	if (pid == 0) {
		struct xdp_config cfg = config("s0", XDP_MODE_AUTO);
		struct xdp *x;

		if (setgid(65534) || setuid(65534))
			_exit(2);
		if (xdp_attach(&cfg, &x, err) != -EPERM)
			_exit(3);
		_exit(strstr(err, "run as root") ? 0 : 4);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void test_a_named_directory_must_be_a_bpf_file_system(void **state)
{
	struct xdp_config cfg = config("s0", XDP_MODE_AUTO);

	cfg.pin_dir = "/tmp/tas-xdp-no-bpffs";
	expect_error(cfg, -EINVAL, "mount -t bpf");
	assert_true(nothing_attached());
}

static bool bpffs_is_mounted(void)
{
	return access("/sys/fs/bpf/progs.debug", F_OK) == 0;
}

static void test_a_missing_bpf_file_system_is_mounted_for_a_while(void **state)
{
	struct xdp *x;

	while (umount("/sys/fs/bpf") == 0)
		;
	assert_false(bpffs_is_mounted());
	x = attach_ok(XDP_MODE_AUTO);
	assert_true(bpffs_is_mounted());
	assert_int_equal(access(pin("/filter"), F_OK), 0);
	expect_released(x);
	assert_false(bpffs_is_mounted());
	assert_int_equal(mount("bpf", "/sys/fs/bpf", "bpf", 0, NULL), 0);
}

static void test_a_mount_that_others_use_by_now_stays(void **state)
{
	DECLARE_LIBBPF_OPTS(bpf_map_create_opts, opts);
	int map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "other", 4, 4, 1, &opts);
	struct xdp *x;

	while (umount("/sys/fs/bpf") == 0)
		;
	x = attach_ok(XDP_MODE_AUTO);
	assert_int_equal(bpf_obj_pin(map, "/sys/fs/bpf/other"), 0);
	expect_released(x);
	assert_int_equal(access("/sys/fs/bpf/other", F_OK), 0);
	unlink("/sys/fs/bpf/other");
	close(map);
}

/* /sys/fs/bpf can't be mounted on: hide /sys behind an empty directory. */
static void test_without_a_bpf_file_system_a_warning_and_all_else(void **state)
{
	struct xdp_config cfg = config("s0", XDP_MODE_AUTO);
	const uint8_t addr[4] = {10, 9, 0, 2};
	uint64_t counts[STEER_VERDICT_COUNT];
	struct xdp *x;

	assert_int_equal(mount("none", "/sys", "tmpfs", 0, NULL), 0);
	assert_int_equal(xdp_attach(&cfg, &x, err), 0);
	assert_non_null(strstr(err, "no XDP filter program can be added"));
	assert_false(nothing_attached());
	assert_int_equal(xdp_own(x, AF_INET, addr, true), 0);
	/* counts the CPUs through /sys */
	umount("/sys");
	assert_int_equal(xdp_verdicts(x, counts, STEER_VERDICT_COUNT), 0);
	expect_released(x);
}

static void test_own_and_disown(void **state)
{
	const uint8_t a4[4] = {10, 9, 0, 2};
	const uint8_t a6[16] = {0xfd, 9, [15] = 2};
	struct xdp *x = attach_ok(XDP_MODE_AUTO);

	assert_int_equal(xdp_own(x, AF_INET, a4, true), 0);
	assert_int_equal(xdp_own(x, AF_INET, a4, true), 0);
	assert_int_equal(xdp_own(x, AF_INET6, a6, true), 0);
	assert_int_equal(xdp_own(x, AF_INET, a4, false), 0);
	assert_int_equal(xdp_own(x, AF_INET, a4, false), 0);
	assert_int_equal(xdp_own(x, AF_UNIX, a4, true), -EAFNOSUPPORT);
	expect_released(x);
}

static void test_queues_beyond_the_map_and_no_sockets(void **state)
{
	struct xdp *x = attach_ok(XDP_MODE_AUTO);
	int xsk = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);

	assert_int_equal(xdp_set_socket(x, 0, xsk), 0);
	assert_int_equal(xdp_set_socket(x, STEER_MAX_QUEUES - 1, xsk), 0);
	assert_int_equal(xdp_set_socket(x, STEER_MAX_QUEUES, xsk), -E2BIG);
	assert_true(xdp_set_socket(x, 0, 0) < 0);
	close(xsk);
	expect_released(x);
}

/* ---- this process's own world -------------------------------------------- */

/* Everything is mounted below /sys, and / need not be a mount (chroot). */
static int make_world(void)
{
	if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0 ||
	    mount("none", "/sys", "", MS_REC | MS_PRIVATE, NULL) < 0)
		return -errno;
	/* a new /sys shows the new namespace's devices */
	mount("sysfs", "/sys", "sysfs", 0, NULL);
	mount("bpf", "/sys/fs/bpf", "bpf", 0, NULL);
	return system("ip link set lo up && "
		      "ip link add s0 type veth peer name p0 && "
		      "ip link set p0 up && ip link set s0 up");
}

static int quiet(enum libbpf_print_level level, const char *format, va_list ap)
{
	return 0;
}

int main(void)
{
	const struct CMUnitTest verdicts[] = {
		cmocka_unit_test(test_ip4_for_an_owned_address_is_redirected),
		cmocka_unit_test(test_ip4_fragments_and_options_are_redirected),
		cmocka_unit_test(test_ip6_for_an_owned_address_is_redirected),
		cmocka_unit_test(test_other_macs_stay_with_the_kernel),
		cmocka_unit_test(
			test_multicast_and_broadcast_stay_with_the_kernel),
		cmocka_unit_test(test_arp_for_an_owned_target_is_redirected),
		cmocka_unit_test(test_arp_of_another_kind_passes),
		cmocka_unit_test(test_neighbour_discovery_of_an_owned_target),
		cmocka_unit_test(test_vlan_tags_and_other_types_pass),
		cmocka_unit_test(test_wrong_version_or_header_length_passes),
		cmocka_unit_test(test_frames_cut_inside_their_headers_pass),
		cmocka_unit_test(test_without_a_socket_frames_pass),
		cmocka_unit_test(test_a_closed_socket_leaves_the_map),
		cmocka_unit_test(test_operators_program_sees_frames_first),
	};
	const struct CMUnitTest attaching[] = {
		cmocka_unit_test(
			test_attach_prefers_driver_mode_and_release_detaches),
		cmocka_unit_test(test_namespaces_share_a_bpf_file_system),
		cmocka_unit_test(
			test_release_by_the_parent_after_the_child_died),
		cmocka_unit_test(test_pinned_slots_outlive_attaching),
		cmocka_unit_test(test_a_stale_pin_is_replaced),
		cmocka_unit_test(test_another_services_pin_is_left_alone),
		cmocka_unit_test(test_second_program_on_the_nic_is_refused),
		cmocka_unit_test(test_other_programs_are_not_detached),
		cmocka_unit_test(test_unusable_interfaces_are_named),
		cmocka_unit_test(test_large_mtu_falls_back_or_says_so),
		cmocka_unit_test(test_without_libxdps_dispatcher_object),
		cmocka_unit_test(test_without_permission_the_remedy_is_named),
		cmocka_unit_test(
			test_a_named_directory_must_be_a_bpf_file_system),
		cmocka_unit_test(
			test_a_missing_bpf_file_system_is_mounted_for_a_while),
		cmocka_unit_test(test_a_mount_that_others_use_by_now_stays),
		cmocka_unit_test(
			test_without_a_bpf_file_system_a_warning_and_all_else),
		cmocka_unit_test(test_own_and_disown),
		cmocka_unit_test(test_queues_beyond_the_map_and_no_sockets),
	};
	int failed;

	if (geteuid() != 0 || make_world() != 0) {
		printf("not ok - namespaces of its own: run this as root\n");
		return 1;
	}
	libbpf_set_print(quiet);
	failed = cmocka_run_group_tests_name("steer", verdicts, load, unload);
	failed += cmocka_run_group_tests_name("xdp", attaching, NULL, NULL);
	return failed ? 1 : 0;
}
