/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * port.c - all frames of a network interface, in and out, in batches
 *
 * One packet socket: packet(7), with a receive ring of version 2, whose frames
 * are ready one by one (version 3 gives out blocks, the last one a millisecond
 * late) and carry the time of their arrival; sending is sendmmsg(). Own frames
 * do not come back (PACKET_IGNORE_OUTGOING).
 *
 * Sending goes past the queueing discipline of an interface with one transmit
 * queue. With several it does not: that path would choose the queue by the CPU
 * that this program happens to be on, and a connection's frames must stay on
 * one queue.
 *
 * Whatever gets lost in here was not asked for and would spoil an experiment,
 * so all places are counted: the ring (PACKET_STATISTICS), send(), and the
 * interface, whose other end may be full. Frames whose checksum is left to the
 * hardware, or longer than the MTU allows, come of offloads that should be off.
 */
#include "bench/port.h"
#include "bench/measure.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define SLOTS 8192u
#define BLOCK_SIZE (1u << 16)
#define SEND_BUFFER (8 << 20)
#define VLAN_TAG 4u
#define NS_PER_S 1000000000ll

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

/* ---- open ---------------------------------------------------------------- */

static void option_set(const struct port *p, int name, const char *text,
		       const void *value, socklen_t len)
{
	if (setsockopt(p->fd, SOL_PACKET, name, value, len) < 0)
		die_errno("%s: %s", p->ifname, text);
}

static void option_on(const struct port *p, int name, const char *text)
{
	const int on = 1;

	option_set(p, name, text, &on, sizeof(on));
}

static uint32_t mtu_of(const struct port *p)
{
	struct ifreq r = {0};

	strncpy(r.ifr_name, p->ifname, sizeof(r.ifr_name) - 1);
	if (ioctl(p->fd, SIOCGIFMTU, &r) < 0)
		die_errno("MTU of %s", p->ifname);
	return (uint32_t)r.ifr_mtu;
}

static uint64_t tx_drops(const struct port *p)
{
	char line[512], name[64];
	unsigned long long drops, found = 0;
	FILE *file = fopen("/proc/self/net/dev", "r");

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line,
			   " %63[^:]: %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u "
			   "%*u %llu",
			   name, &drops) == 2 &&
		    !strcmp(name, p->ifname))
			found = drops;
	if (file)
		fclose(file);
	return found;
}

static void ring_map(struct port *p)
{
	const int version = TPACKET_V2;
	struct tpacket_req req = {.tp_frame_nr = SLOTS,
				  .tp_block_size = BLOCK_SIZE};

	p->slot_size = 2048;
	while (p->slot_size <
	       p->frame_max + TPACKET2_HDRLEN + TPACKET_ALIGNMENT)
		p->slot_size *= 2;
	if (p->slot_size > BLOCK_SIZE)
		die("%s: frames of %u bytes are too long", p->ifname,
		    p->frame_max);
	req.tp_frame_size = p->slot_size;
	req.tp_block_nr = SLOTS / (BLOCK_SIZE / p->slot_size);
	option_set(p, PACKET_VERSION, "PACKET_VERSION", &version,
		   sizeof(version));
	option_set(p, PACKET_RX_RING, "PACKET_RX_RING", &req, sizeof(req));
	p->ring = mmap(NULL, (size_t)SLOTS * p->slot_size,
		       PROT_READ | PROT_WRITE, MAP_SHARED, p->fd, 0);
	if (p->ring == MAP_FAILED)
		die_errno("%s: receive ring", p->ifname);
}

static bool has_one_queue(const struct port *p)
{
	struct ifreq r = {0};
	struct ethtool_channels channels = {.cmd = ETHTOOL_GCHANNELS};

	strncpy(r.ifr_name, p->ifname, sizeof(r.ifr_name) - 1);
	r.ifr_data = (char *)&channels;
	if (ioctl(p->fd, SIOCETHTOOL, &r) < 0)
		return false;
	return channels.tx_count + channels.combined_count == 1;
}

void port_open(struct port *p, const char *ifname)
{
	struct sockaddr_ll any = {.sll_family = AF_PACKET,
				  .sll_protocol = htons(ETH_P_ALL)};
	struct packet_mreq promisc = {.mr_type = PACKET_MR_PROMISC};
	const int size = SEND_BUFFER;

	*p = (struct port){.ifname = ifname};
	any.sll_ifindex = promisc.mr_ifindex = (int)if_nametoindex(ifname);
	if (!any.sll_ifindex)
		die_errno("interface %s", ifname);
	/* Protocol 0: nothing comes before bind() says from where. */
	p->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (p->fd < 0)
		die_errno("packet socket");
	p->frame_max = mtu_of(p) + ETH_HLEN + VLAN_TAG;
	ring_map(p);
	option_on(p, PACKET_IGNORE_OUTGOING, "PACKET_IGNORE_OUTGOING");
	if (has_one_queue(p))
		option_on(p, PACKET_QDISC_BYPASS, "PACKET_QDISC_BYPASS");
	if (setsockopt(p->fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) <
	    0)
		die_errno("%s: SO_SNDBUFFORCE", ifname);
	p->tx_drops_before = tx_drops(p);
	if (bind(p->fd, (struct sockaddr *)&any, sizeof(any)) < 0)
		die_errno("%s: bind", ifname);
	option_set(p, PACKET_ADD_MEMBERSHIP, "promiscuous mode", &promisc,
		   sizeof(promisc));
}

void port_close(struct port *p)
{
	munmap(p->ring, (size_t)SLOTS * p->slot_size);
	close(p->fd);
}

/* ---- receive ------------------------------------------------------------- */

static struct tpacket2_hdr *slot(const struct port *p, uint32_t i)
{
	return (struct tpacket2_hdr *)(p->ring +
				       (size_t)(i % SLOTS) * p->slot_size);
}

bool port_receive(struct port *p, int64_t to_monotonic_ns, struct port_frame *f)
{
	const struct tpacket2_hdr *h;
	uint32_t status;

	while (p->taken < PORT_BATCH) {
		h = slot(p, p->next + p->taken);
		/* pairs with the kernel's barrier after it filled the slot */
		status = __atomic_load_n(&h->tp_status, __ATOMIC_ACQUIRE);
		if (!(status & TP_STATUS_USER))
			return false;
		p->taken++;
		if (status & TP_STATUS_CSUMNOTREADY ||
		    h->tp_len > h->tp_snaplen || h->tp_len > p->frame_max) {
			p->rx_unfinished++;
			continue;
		}
		f->data = (uint8_t *)h + h->tp_mac;
		f->len = h->tp_len;
		f->at_ns = (uint64_t)(h->tp_sec * NS_PER_S + h->tp_nsec +
				      to_monotonic_ns);
		return true;
	}
	return false;
}

void port_release(struct port *p)
{
	for (; p->taken; p->taken--, p->next++)
		/* pairs with the kernel's look for a free slot */
		__atomic_store_n(&slot(p, p->next)->tp_status, TP_STATUS_KERNEL,
				 __ATOMIC_RELEASE);
}

/* ---- send ---------------------------------------------------------------- */

bool port_send(struct port *p, uint8_t *data, uint32_t len)
{
	struct iovec *iov = &p->iov[p->n_tx];

	if (p->n_tx == PORT_BATCH)
		return false;
	iov->iov_base = data;
	iov->iov_len = len;
	p->msg[p->n_tx++].msg_hdr =
		(struct msghdr){.msg_iov = iov, .msg_iovlen = 1};
	return true;
}

void port_flush(struct port *p)
{
	unsigned int done = 0;
	int n;

	while (done < p->n_tx) {
		n = sendmmsg(p->fd, p->msg + done, p->n_tx - done, 0);
		if (n > 0) {
			done += (unsigned int)n;
		} else if (errno != EINTR) {
			p->tx_failures++;
			done++;
		}
	}
	p->n_tx = 0;
}

/* ---- losses -------------------------------------------------------------- */

uint64_t port_rx_losses(struct port *p)
{
	struct tpacket_stats st;
	socklen_t len = sizeof(st);

	/* reading resets it */
	if (!getsockopt(p->fd, SOL_PACKET, PACKET_STATISTICS, &st, &len))
		p->rx_overruns += st.tp_drops;
	return p->rx_overruns + p->rx_unfinished;
}

uint64_t port_tx_losses(struct port *p)
{
	uint64_t drops = tx_drops(p) - p->tx_drops_before;

	/* A full peer of a veth is seen at both places. */
	return drops > p->tx_failures ? drops : p->tx_failures;
}
