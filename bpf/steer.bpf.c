// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * steer.bpf.c - which frames the service gets, which stay with the kernel
 *
 * Runs for every frame that a queue of the NIC receives. Its rule is short:
 * a frame for an address in owned_v4 or owned_v6 goes to the AF_XDP socket of
 * the queue it came from; every other frame is XDP_PASS, not a byte changed.
 * "For an address" means
 *
 *   IPv4   the NIC's MAC and an owned destination (RFC 791); options and
 *          fragments too, the service passes them on to Linux
 *   IPv6   the NIC's MAC and an owned destination (RFC 8200)
 *   ARP    an owned target protocol address (RFC 826), request or reply, sent
 *          to the NIC's MAC or to a group
 *   ND     a neighbour solicitation or advertisement (RFC 4861 4.3, 4.4) to a
 *          group with an owned target; a unicast one is IPv6 as above
 *
 * Unicast to another MAC (a flooding switch, a bridge or macvlan on this NIC)
 * is not ours, nor are IP multicast and broadcast: the kernel receives those
 * on the NIC. A frame too short for the headers that are looked at, with an
 * inline VLAN tag or with another EtherType passes. A VLAN tag that the NIC
 * has already taken off is invisible to XDP; where tagged networks reuse an
 * owned address, switch that off (ethtool -K NIC rxvlan off).
 *
 * Two programs share the code: steer is attached; it first tail-calls slot 0
 * of the program array "filter", an operator's own program, which drops,
 * redirects or passes as it likes and goes on with the steering by a tail call
 * to slot 1, where steer_next sits. An empty slot 0 falls through. Through
 * libxdp's dispatcher the programs behind this one see what it passes.
 *
 * State: the maps (steer.h). The service writes the owned addresses, the
 * sockets and slot 1, the operator slot 0, this program the counters. Each
 * frame counts exactly one verdict, unless the operator's program kept it.
 */
#include <linux/bpf.h>
#include <linux/icmpv6.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <xdp/xdp_helpers.h>

#include "bpf/steer.h"

#define ND_SOLICIT 135
#define ND_ADVERT 136
#define ARP_HRD_ETHER 1

/* ARP for Ethernet and IPv4. <linux/if_arp.h> needs a C library. */
struct arp_ip4 {
	__be16 hrd, pro;
	__u8 hln, pln;
	__be16 op;
	__u8 sha[6], spa[4], tha[6], tpa[4];
};

struct nd_msg {
	struct icmp6hdr icmp;
	struct steer_v6 target;
};

/* Of the NIC, set before loading; three halves of an Ethernet address. */
const volatile __u16 nic_mac[3] = {0};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, STEER_MAX_ADDRS);
	__type(key, __be32);
	__type(value, __u8);
} owned_v4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, STEER_MAX_ADDRS);
	__type(key, struct steer_v6);
	__type(value, __u8);
} owned_v6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, STEER_MAX_QUEUES);
	__type(key, __u32);
	__type(value, __u32);
} xsks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, STEER_VERDICT_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} verdicts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} filter SEC(".maps");

/* libxdp: early, and the next program sees what passes. */
struct {
	__uint(priority, 10);
	__uint(XDP_PASS, 1);
} XDP_RUN_CONFIG(steer);

static __always_inline void verdict_count(__u32 verdict)
{
	__u64 *n = bpf_map_lookup_elem(&verdicts, &verdict);

	if (n)
		*n += 1;
}

static __always_inline bool mac_is_ours(const struct ethhdr *eth)
{
	const __u16 *dst = (const __u16 *)eth->h_dest;

	return dst[0] == nic_mac[0] && dst[1] == nic_mac[1] &&
	       dst[2] == nic_mac[2];
}

static __always_inline bool mac_is_ours_or_group(const struct ethhdr *eth)
{
	return (eth->h_dest[0] & 1) || mac_is_ours(eth);
}

static __always_inline bool owned4(__be32 addr)
{
	return bpf_map_lookup_elem(&owned_v4, &addr);
}

static __always_inline bool owned6(const void *addr)
{
	struct steer_v6 key;

	__builtin_memcpy(&key, addr, sizeof(key));
	return bpf_map_lookup_elem(&owned_v6, &key);
}

static __always_inline __u32 judge_ip4(const struct ethhdr *eth,
				       const void *end)
{
	const struct iphdr *ip = (const void *)(eth + 1);

	if ((const void *)(ip + 1) > end)
		return STEER_SHORT;
	if (ip->version != 4)
		return STEER_OTHER_PROTO;
	if (ip->ihl < 5)
		return STEER_SHORT;
	return mac_is_ours(eth) && owned4(ip->daddr) ? STEER_REDIRECT
						     : STEER_NOT_OWNED;
}

static __always_inline __u32 judge_arp(const struct ethhdr *eth,
				       const void *end)
{
	const struct arp_ip4 *arp = (const void *)(eth + 1);
	__be32 target;

	if ((const void *)(arp + 1) > end)
		return STEER_SHORT;
	if (arp->hrd != bpf_htons(ARP_HRD_ETHER) ||
	    arp->pro != bpf_htons(ETH_P_IP) || arp->hln != 6 || arp->pln != 4)
		return STEER_OTHER_PROTO;
	__builtin_memcpy(&target, arp->tpa, sizeof(target));
	return mac_is_ours_or_group(eth) && owned4(target) ? STEER_REDIRECT
							   : STEER_NOT_OWNED;
}

/* ND to a group: solicited-node (RFC 4291 2.7.1) or all-nodes. */
static __always_inline __u32 judge_nd(const struct ipv6hdr *ip, const void *end)
{
	const struct nd_msg *nd = (const void *)(ip + 1);

	if ((const void *)(&nd->icmp + 1) > end)
		return STEER_SHORT;
	if (nd->icmp.icmp6_type != ND_SOLICIT &&
	    nd->icmp.icmp6_type != ND_ADVERT)
		return STEER_NOT_OWNED;
	if ((const void *)(nd + 1) > end)
		return STEER_SHORT;
	return owned6(&nd->target) ? STEER_REDIRECT : STEER_NOT_OWNED;
}

static __always_inline __u32 judge_ip6(const struct ethhdr *eth,
				       const void *end)
{
	const struct ipv6hdr *ip = (const void *)(eth + 1);

	if ((const void *)(ip + 1) > end)
		return STEER_SHORT;
	if (ip->version != 6)
		return STEER_OTHER_PROTO;
	if (mac_is_ours(eth) && owned6(&ip->daddr))
		return STEER_REDIRECT;
	if (mac_is_ours_or_group(eth) && ip->nexthdr == IPPROTO_ICMPV6 &&
	    ip->daddr.s6_addr[0] == 0xff)
		return judge_nd(ip, end);
	return STEER_NOT_OWNED;
}

static __always_inline __u32 judge(const struct xdp_md *ctx)
{
	const void *end = (const void *)(long)ctx->data_end;
	const struct ethhdr *eth = (const void *)(long)ctx->data;

	if ((const void *)(eth + 1) > end)
		return STEER_SHORT;
	switch (eth->h_proto) {
	case bpf_htons(ETH_P_IP):
		return judge_ip4(eth, end);
	case bpf_htons(ETH_P_IPV6):
		return judge_ip6(eth, end);
	case bpf_htons(ETH_P_ARP):
		return judge_arp(eth, end);
	default:
		return STEER_OTHER_PROTO;
	}
}

static __always_inline int steer_frame(struct xdp_md *ctx)
{
	__u32 verdict = judge(ctx);
	int action = XDP_PASS;

	if (verdict == STEER_REDIRECT) {
		action = bpf_redirect_map(&xsks, ctx->rx_queue_index, XDP_PASS);
		if (action != XDP_REDIRECT)
			verdict = STEER_NO_SOCKET;
	}
	verdict_count(verdict);
	return action;
}

SEC("xdp")
int steer(struct xdp_md *ctx)
{
	bpf_tail_call(ctx, &filter, STEER_SLOT_OPERATOR);
	return steer_frame(ctx);
}

SEC("xdp")
int steer_next(struct xdp_md *ctx)
{
	return steer_frame(ctx);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
