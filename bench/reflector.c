/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * reflector.c - the floor: what AF_XDP itself costs, without any transport
 *
 *   reflector --nic IF --address A [--generic] [--copy]
 *
 * Takes the frames for A off the NIC's first queue with the service's own XDP
 * program and queue, and sends each UDP one back where it came from: MAC and IP
 * addresses and ports change places, which leaves every checksum as it was. It
 * spins, answers no ARP (its user enters the neighbour by hand) and copies each
 * frame once, from the receive to a transmit frame, as any stack with an
 * application behind it does at least.
 *
 * Measured with a UDP client of the kernel's that busy-polls: no stack over
 * AF_XDP on this wire answers sooner. Prints "ready", and on SIGTERM or SIGINT
 * its counters; XDP is detached on the way out.
 */
#include "bench/measure.h"
#include "bpf/xdp.h"
#include "fastpath/queue.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/udp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define FRAMES 4096u
#define FRAME_SIZE 2048u

static volatile sig_atomic_t stopped;

static void stop(int sig)
{
	stopped = 1;
}

static void bytes_swap(uint8_t *a, uint8_t *b, size_t len)
{
	uint8_t t[16];

	memcpy(t, a, len);
	memcpy(a, b, len);
	memcpy(b, t, len);
}

/* Turn the frame round; false if it is not UDP in IPv4 or IPv6. */
static bool frame_turn(uint8_t *f, uint32_t len)
{
	const size_t l3 = sizeof(struct ether_header);
	uint16_t type;
	size_t l4;

	if (len < l3 + sizeof(struct ip))
		return false;
	memcpy(&type, f + offsetof(struct ether_header, ether_type), 2);
	if (type == htons(ETHERTYPE_IP)) {
		l4 = l3 + sizeof(struct ip);
		if (f[l3] != 0x45 || f[l3 + 9] != IPPROTO_UDP)
			return false;
	} else if (type == htons(ETHERTYPE_IPV6)) {
		l4 = l3 + sizeof(struct ip6_hdr);
		if (f[l3 + 6] != IPPROTO_UDP)
			return false;
	} else {
		return false;
	}
	if (len < l4 + sizeof(struct udphdr))
		return false;
	bytes_swap(f, f + ETH_ALEN, ETH_ALEN);
	if (type == htons(ETHERTYPE_IP))
		bytes_swap(f + l3 + 12, f + l3 + 16, 4);
	else
		bytes_swap(f + l3 + 8, f + l3 + 24, 16);
	bytes_swap(f + l4, f + l4 + 2, 2);
	return true;
}

static unsigned int burst_reflect(struct queue *q)
{
	struct queue_frame rx[QUEUE_BURST], tx;
	unsigned int n, i;

	n = q->ops->rx(q, rx, QUEUE_BURST);
	for (i = 0; i < n; i++) {
		if (!q->ops->tx_alloc(q, &tx))
			break;
		if (rx[i].len > tx.len) {
			q->ops->tx_abandon(q, &tx);
			continue;
		}
		memcpy(tx.data, rx[i].data, rx[i].len);
		tx.len = rx[i].len;
		if (frame_turn(tx.data, tx.len))
			q->ops->tx_submit(q, &tx);
		else
			q->ops->tx_abandon(q, &tx);
	}
	if (n) {
		q->ops->rx_release(q, rx, n);
		q->ops->kick(q);
	}
	return n;
}

static void address_own(struct xdp *xdp, const char *address)
{
	struct sockaddr_storage ss;
	const void *addr = &((struct sockaddr_in *)&ss)->sin_addr;

	address_parse(address, 0, &ss);
	if (ss.ss_family == AF_INET6)
		addr = &((struct sockaddr_in6 *)&ss)->sin6_addr;
	if (xdp_own(xdp, ss.ss_family, addr, true) < 0)
		fprintf(stderr, "reflector: cannot own %s\n", address);
}

static int reflect(struct queue_xsk_config *qc, const char *address,
		   enum xdp_mode mode)
{
	char err[XDP_ERR_MAX] = "";
	struct xdp_config xc = {
		.ifname = qc->ifname, .mode = mode, .one_queue = true};
	struct queue *q = NULL;
	struct xdp *xdp;
	int ret = 1;

	xc.ifindex = if_nametoindex(qc->ifname);
	if (!xc.ifindex)
		die_errno("interface %s", qc->ifname);
	if (xdp_attach(&xc, &xdp, err) < 0)
		die("%s", err);
	qc->generic = xdp_is_generic(xdp);
	address_own(xdp, address);
	q = queue_xsk_open(qc);
	if (!q) {
		fprintf(stderr, "reflector: AF_XDP queue: %m\n");
		goto release;
	}
	if (xdp_set_socket(xdp, 0, queue_xsk_fd(q)) < 0) {
		fprintf(stderr, "reflector: xskmap: %m\n");
		goto close;
	}
	printf("ready\n");
	fflush(stdout);
	while (!stopped)
		burst_reflect(q);
	printf("mode %s\nframes %llu\nkicks %llu\n", q->mode,
	       (unsigned long long)q->stats.tx_frames,
	       (unsigned long long)q->stats.kicks);
	ret = 0;
close:
	q->ops->close(q);
release:
	if (xdp_release(xdp, err) < 0)
		fprintf(stderr, "reflector: %s\n", err);
	return ret;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"nic", required_argument, NULL, 'n'},
		{"address", required_argument, NULL, 'a'},
		{"generic", no_argument, NULL, 'g'},
		{"copy", no_argument, NULL, 'c'},
		{0},
	};
	struct queue_xsk_config qc = {
		.frames = FRAMES,
		.frame_size = FRAME_SIZE,
	};
	struct sigaction sa = {.sa_handler = stop};
	enum xdp_mode mode = XDP_MODE_AUTO;
	const char *address = NULL;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (c == 'n')
			qc.ifname = optarg;
		else if (c == 'a')
			address = optarg;
		else if (c == 'g')
			mode = XDP_MODE_GENERIC;
		else if (c == 'c')
			qc.force_copy = true;
		else
			return 2;
	}
	if (!qc.ifname || !address)
		die("--nic and --address are needed");
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	return reflect(&qc, address, mode);
}
