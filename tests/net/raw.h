/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * raw.h - frames made byte by byte, for peers that are no honest stack
 *
 * One sender and one receiver a program, named by raw: addresses of one family,
 * ports, MAC addresses, and the socket that the frames leave by. Nothing here
 * answers ARP or neighbour discovery.
 */
#ifndef TESTS_NET_RAW_H
#define TESTS_NET_RAW_H

#include "io.h"

#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <sys/ioctl.h>

#define L2 14u /* Ethernet header */

static struct {
	int fd;
	bool v6;
	uint8_t eth[12]; /* both MAC addresses */
	uint8_t src[16], dst[16];
	uint16_t sport, dport;
} raw;

static inline void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static inline void put32(uint8_t *p, uint32_t v)
{
	put16(p, v >> 16);
	put16(p + 2, v & 0xffff);
}

static inline uint32_t sum(const uint8_t *p, size_t len, uint32_t s)
{
	for (size_t i = 0; i < len; i++)
		s += i & 1 ? p[i] : (uint32_t)p[i] << 8;
	return s;
}

static inline uint16_t fold(uint32_t s)
{
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return (uint16_t)~s;
}

static inline size_t ip_len(void)
{
	return raw.v6 ? 40 : 20;
}

/* Ethernet and IP headers for @len bytes of @proto. */
static inline size_t make_ip(uint8_t *f, uint8_t proto, size_t len)
{
	uint8_t *ip = f + L2;

	memcpy(f, raw.eth, 12);
	put16(f + 12, raw.v6 ? ETH_P_IPV6 : ETH_P_IP);
	memset(ip, 0, ip_len());
	if (raw.v6) {
		ip[0] = 0x60;
		put16(ip + 4, (uint32_t)len);
		ip[6] = proto;
		ip[7] = 64;
		memcpy(ip + 8, raw.src, 16);
		memcpy(ip + 24, raw.dst, 16);
	} else {
		ip[0] = 0x45;
		put16(ip + 2, (uint32_t)len + 20);
		ip[6] = 0x40;
		ip[8] = 64;
		ip[9] = proto;
		memcpy(ip + 12, raw.src, 4);
		memcpy(ip + 16, raw.dst, 4);
		put16(ip + 10, fold(sum(ip, 20, 0)));
	}
	return L2 + ip_len();
}

/* The checksum at @at of the upper-layer packet of @len bytes. */
static inline void checksum(uint8_t *f, uint8_t proto, size_t len, size_t at)
{
	uint8_t *ip = f + L2, *p = ip + ip_len();
	uint32_t s = (uint32_t)len + proto;

	if (proto == IPPROTO_ICMP)
		s = 0;
	else if (raw.v6)
		s = sum(ip + 8, 32, s);
	else
		s = sum(ip + 12, 8, s);
	put16(p + at, 0);
	put16(p + at, fold(sum(p, len, s)));
}

/* Frames of @type are received too, ETH_P_*; 0: none are. */
static inline void raw_open(const char *ifname, const char *mac, uint16_t type)
{
	struct sockaddr_ll ll = {.sll_family = AF_PACKET,
				 .sll_protocol = htons(type)};
	struct ifreq ifr = {0};

	raw.fd = socket(AF_PACKET, SOCK_RAW, 0);
	if (raw.fd < 0)
		io_die("AF_PACKET");
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", ifname);
	if (ioctl(raw.fd, SIOCGIFHWADDR, &ifr) < 0)
		io_die("%s", ifname);
	memcpy(raw.eth + 6, ifr.ifr_hwaddr.sa_data, 6);
	ll.sll_ifindex = (int)if_nametoindex(ifname);
	if (bind(raw.fd, (struct sockaddr *)&ll, sizeof(ll)) < 0)
		io_die("bind");
	if (sscanf(mac, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", raw.eth, raw.eth + 1,
		   raw.eth + 2, raw.eth + 3, raw.eth + 4, raw.eth + 5) != 6)
		io_die("not a MAC address: %s", mac);
}

static inline void raw_address(const char *text, uint8_t *addr)
{
	raw.v6 = strchr(text, ':');
	if (inet_pton(raw.v6 ? AF_INET6 : AF_INET, text, addr) != 1)
		io_die("not an address: %s", text);
}

#endif
