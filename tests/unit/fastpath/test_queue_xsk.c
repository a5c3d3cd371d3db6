/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The AF_XDP queue on a real socket.
 *
 *   this namespace, made by the test
 *   q0 ==== veth ==== q1
 *   AF_XDP, XDP       AF_PACKET
 *
 * Skipped without the privilege to make a network namespace.
 */
#include "tests/unit/fastpath/host.h"
#include "bpf/xdp.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define FRAMES 256u

static struct xdp *xdp;
static int packet_fd;

/* To q0's MAC address and an owned IP address: else it would pass by. */
static uint32_t build(uint8_t *b, uint8_t n)
{
	uint32_t len = 60 + n;

	memset(b, n, len);
	memcpy(b, "\2\0\0\0\0\2\2\0\0\0\0\1", 12);
	memcpy(b + 12, "\x08\x00\x45\0", 4);
	b[16] = 0;
	b[17] = (uint8_t)(len - 14);
	memcpy(b + 30, "\x0a\x09\0\2", 4);
	return len;
}

static int set_up(void **state)
{
	struct xdp_config cfg = {.ifname = "q0",
				 .mode = XDP_MODE_AUTO,
				 .pin_dir = "/sys/fs/bpf/tas-unit-xsk"};
	struct sockaddr_ll ll = {.sll_family = AF_PACKET,
				 .sll_protocol = htons(ETH_P_ALL)};
	char err[XDP_ERR_MAX];

	if (unshare(CLONE_NEWNET | CLONE_NEWNS))
		return 0;
	if (system("mount --make-rprivate /sys && mount -t bpf bpf /sys/fs/bpf && "
		   "sysctl -qw net.ipv6.conf.default.disable_ipv6=1 && "
		   "ip link add q0 address 02:00:00:00:00:02 type veth "
		   "peer name q1 address 02:00:00:00:00:01 && "
		   "ip link set q0 up && ip link set q1 up"))
		return -1;
	cfg.ifindex = if_nametoindex("q0");
	if (xdp_attach(&cfg, &xdp, err)) {
		fprintf(stderr, "%s\n", err);
		return -1;
	}
	xdp_own(xdp, AF_INET, "\x0a\x09\0\2", true);
	packet_fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
	ll.sll_ifindex = (int)if_nametoindex("q1");
	return bind(packet_fd, (struct sockaddr *)&ll, sizeof(ll));
}

static int tear_down(void **state)
{
	char err[XDP_ERR_MAX];

	if (xdp)
		xdp_release(xdp, err);
	close(packet_fd);
	return 0;
}

static struct queue *open_queue(bool generic, bool force_copy)
{
	struct queue_xsk_config cfg = {
		.ifname = "q0",
		.frames = FRAMES,
		.frame_size = 2048,
		.generic = generic,
		.force_copy = force_copy,
	};
	struct queue *q = queue_xsk_open(&cfg);

	if (!q)
		fail_msg("queue_xsk_open: %s", strerror(errno));
	assert_int_equal(xdp_set_socket(xdp, 0, queue_xsk_fd(q)), 0);
	return q;
}

static uint32_t receive(struct queue *q, uint8_t *b)
{
	struct pollfd p = {.fd = q->ops->fd(q), .events = POLLIN};
	struct queue_frame f;
	uint32_t len;

	while (!q->ops->rx(q, &f, 1)) {
		if (poll(&p, 1, 2000) != 1)
			return 0;
	}
	len = f.len;
	memcpy(b, f.data, len);
	q->ops->rx_release(q, &f, 1);
	return len;
}

static void test_frames_come_and_go_many_times_round(void **state)
{
	uint8_t b[256], got[2048];
	struct queue_frame f;
	struct queue *q;
	uint32_t i, len;

	if (!xdp)
		skip();
	q = open_queue(false, true);
	assert_string_equal(q->mode, "copy");
	for (i = 0; i < 4 * FRAMES; i++) {
		len = build(b, (uint8_t)(i % 100));
		assert_int_equal(send(packet_fd, b, len, 0), len);
		assert_int_equal(receive(q, got), len);
		assert_memory_equal(got, b, len);
		assert_true(q->ops->tx_alloc(q, &f));
		memcpy(f.data, b, len);
		f.len = len;
		q->ops->tx_submit(q, &f);
		assert_true(q->ops->kick(q));
		/* Its own frames first, as AF_PACKET shows them. */
		do
			assert_true(recv(packet_fd, got, sizeof(got), 0) > 0);
		while (memcmp(got, b, len) != 0);
	}
	assert_int_equal(q->stats.rx_frames, 4 * FRAMES);
	assert_int_equal(q->stats.tx_frames, 4 * FRAMES);
	q->ops->close(q);
}

static void test_a_burst_of_all_frames_goes_out(void **state)
{
	struct queue_frame f;
	struct queue *q;
	uint32_t n = 0, tries;

	if (!xdp)
		skip();
	q = open_queue(false, true);
	while (q->ops->tx_alloc(q, &f)) {
		f.len = build(f.data, 1);
		q->ops->tx_submit(q, &f);
		n++;
	}
	assert_int_equal(n, FRAMES / 2);
	assert_int_equal(q->stats.tx_full, 1);
	for (tries = 0; tries < 100 && !q->ops->kick(q); tries++)
		;
	assert_true(tries < 100);
	/* Nothing to send: no system call. */
	n = (uint32_t)q->stats.kicks;
	assert_true(q->ops->kick(q));
	assert_int_equal(q->stats.kicks, n);
	assert_true(q->ops->tx_alloc(q, &f));
	q->ops->tx_abandon(q, &f);
	q->ops->close(q);
}

static void test_mode_is_found_by_itself(void **state)
{
	struct queue *q;

	if (!xdp)
		skip();
	q = open_queue(xdp_is_generic(xdp), false);
	assert_non_null(q->mode);
	q->ops->close(q);
}

static void test_taken_queue_is_busy(void **state)
{
	struct queue_xsk_config cfg = {.ifname = "q0",
				       .frames = FRAMES,
				       .frame_size = 2048,
				       .force_copy = true};
	struct queue *q;

	if (!xdp)
		skip();
	q = open_queue(false, true);
	assert_null(queue_xsk_open(&cfg));
	assert_int_equal(errno, EBUSY);
	q->ops->close(q);
}

static void test_senseless_sizes_are_refused(void **state)
{
	struct queue_xsk_config cfg = {
		.ifname = "q0", .frames = 100, .frame_size = 2048};

	assert_null(queue_xsk_open(&cfg));
	assert_int_equal(errno, EINVAL);
	cfg.frames = 128;
	cfg.frame_size = 1000;
	assert_null(queue_xsk_open(&cfg));
	assert_int_equal(errno, EINVAL);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_frames_come_and_go_many_times_round),
		cmocka_unit_test(test_a_burst_of_all_frames_goes_out),
		cmocka_unit_test(test_mode_is_found_by_itself),
		cmocka_unit_test(test_taken_queue_is_busy),
		cmocka_unit_test(test_senseless_sizes_are_refused),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
