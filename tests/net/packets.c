// SPDX-License-Identifier: BSD-2-Clause
/*
 * packets - frames that no honest stack sends, as fast as one thread can
 *
 *   packets syn IF MAC SOURCE DEST PORT SECONDS
 *       SYNs from SOURCE (no host has that address), random ports
 *   packets bad IF MAC SOURCE DEST SPORT,DPORT SECONDS
 *       malformed, truncated and wrongly checksummed frames of every kind, IPv4
 *       or IPv6 as the addresses are; many for the live connection
 *       SOURCE:SPORT -> DEST:DPORT
 *
 * For the live connection only frames are made that a correct TCP ignores or
 * answers with an ACK: a wrong checksum or length, or no data and no FIN at a
 * random sequence number. ARP and neighbour discovery never speak of SOURCE.
 * Whatever else arrives is up to the random numbers (fixed seed).
 *
 * Last line of stdout: sent=N.
 */
#include "raw.h"
#include "stream.h"

#define FRAME_MAX 1514u

static uint64_t rng;

static uint32_t rnd(uint32_t below)
{
	return (uint32_t)(stream_mix(&rng) % below);
}

static void fill(uint8_t *p, size_t len)
{
	while (len--)
		*p++ = (uint8_t)stream_mix(&rng);
}

/* ---- well-formed frames to begin with; each returns its length -------------
 */

static size_t make_tcp(uint8_t *f, uint8_t flags, size_t options, size_t data)
{
	size_t len = 20 + options + data;
	size_t at = make_ip(f, IPPROTO_TCP, len);
	uint8_t *t = f + at;

	put16(t, raw.sport);
	put16(t + 2, raw.dport);
	put32(t + 4, rnd(UINT32_MAX));
	put32(t + 8, rnd(UINT32_MAX));
	t[12] = (uint8_t)((20 + options) << 2);
	t[13] = flags;
	put16(t + 14, rnd(65536));
	put16(t + 18, 0);
	fill(t + 20, options + data);
	checksum(f, IPPROTO_TCP, len, 16);
	return at + len;
}

static void break_tcp(uint8_t *f)
{
	f[L2 + ip_len() + 17] ^= (uint8_t)(1 + rnd(255));
}

/* ---- kinds
 * ------------------------------------------------------------------- */

static size_t kind_wrong_checksum(uint8_t *f)
{
	size_t len = make_tcp(f, (uint8_t)rnd(256), 4ul * rnd(11), rnd(1400));

	break_tcp(f);
	return len;
}

/* Right checksum, no data, random numbers: never FIN. */
static size_t kind_out_of_window(uint8_t *f)
{
	return make_tcp(f, (uint8_t)(rnd(256) & ~1u), 4ul * rnd(11), 0);
}

static size_t kind_data_offset(uint8_t *f)
{
	size_t len = make_tcp(f, 0x10, 0, rnd(40));

	f[L2 + ip_len() + 12] = (uint8_t)(rnd(16) << 4);
	break_tcp(f);
	return len;
}

/* Options whose lengths run backwards or beyond the header. */
static size_t kind_options(uint8_t *f)
{
	size_t len = make_tcp(f, 0x10, 40, 0);
	uint8_t *o = f + L2 + ip_len() + 20;

	for (int i = 0; i < 40; i += 2) {
		o[i] = (uint8_t)rnd(40);
		o[i + 1] = (uint8_t)rnd(4);
	}
	checksum(f, IPPROTO_TCP, 60, 16);
	return len;
}

static size_t kind_truncated(uint8_t *f)
{
	size_t len = make_tcp(f, 0x18, 12, 100);

	break_tcp(f);
	return 14 + rnd((uint32_t)len - 14);
}

/* The IP header lies about lengths, version or header length. */
static size_t kind_ip_lies(uint8_t *f)
{
	size_t len = make_tcp(f, 0x18, 12, rnd(200));
	uint8_t *ip = f + L2;

	break_tcp(f);
	switch (rnd(4)) {
	case 0:
		put16(ip + (raw.v6 ? 4 : 2), rnd(65536));
		break;
	case 1:
		ip[0] = (uint8_t)rnd(256);
		break;
	case 2:
		ip[raw.v6 ? 6 : 9] = (uint8_t)rnd(256);
		break;
	default:
		fill(ip, ip_len());
	}
	if (!raw.v6 && rnd(2)) { /* a right header checksum for the lie */
		put16(ip + 10, 0);
		put16(ip + 10, fold(sum(ip, 20, 0)));
	}
	return len;
}

static size_t kind_fragment(uint8_t *f)
{
	size_t len = make_tcp(f, 0x18, 12, rnd(600));
	uint8_t *ip = f + L2;

	break_tcp(f);
	if (raw.v6) {
		ip[6] = IPPROTO_FRAGMENT;
		fill(ip + 40, 8);
		ip[40] = IPPROTO_TCP;
		return len;
	}
	put16(ip + 4, rnd(8)); /* so that some meet */
	put16(ip + 6, rnd(65536));
	put16(ip + 10, 0);
	put16(ip + 10, fold(sum(ip, 20, 0)));
	return len;
}

/* IPv4 options, or a chain of IPv6 extension headers. */
static size_t kind_ip_options(uint8_t *f)
{
	size_t at = make_ip(f, IPPROTO_TCP, 200);
	uint8_t *ip = f + L2;
	static const uint8_t next[] = {0, 43, 44, 51, 60, 135, 59, 6};

	fill(f + at, 200);
	if (raw.v6) {
		ip[6] = next[rnd(sizeof(next))];
		for (size_t i = 0; i < 192; i += 8) {
			f[at + i] = next[rnd(sizeof(next))];
			f[at + i + 1] = (uint8_t)rnd(3);
		}
	} else {
		ip[0] = (uint8_t)(0x46 + rnd(10));
		put16(ip + 10, 0);
		put16(ip + 10, fold(sum(ip, (ip[0] & 15u) * 4ul, 0)));
	}
	return at + 200;
}

/* ICMP errors that quote the connection, cut at any length. */
static size_t kind_icmp(uint8_t *f)
{
	uint8_t quoted[FRAME_MAX];
	size_t len = 8 + rnd(80), at;
	uint8_t proto = raw.v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
	static const uint8_t types4[] = {3, 4, 5, 11, 12, 8, 0, 13};
	static const uint8_t types6[] = {1, 2, 3, 4, 128, 129, 200, 255};
	uint8_t swap[16];

	make_tcp(quoted, 0x10, 12, 40);
	if (raw.v6) {
		memcpy(swap, quoted + 22, 16);
		memcpy(quoted + 22, quoted + 38, 16);
		memcpy(quoted + 38, swap, 16);
	} else {
		memcpy(swap, quoted + 26, 4);
		memcpy(quoted + 26, quoted + 30, 4);
		memcpy(quoted + 30, swap, 4);
	}
	put16(quoted + L2 + ip_len(), raw.dport);
	put16(quoted + L2 + ip_len() + 2, raw.sport);
	at = make_ip(f, proto, len);
	fill(f + at, 8);
	/* Not redirects: Linux may believe them. */
	f[at] = raw.v6 ? types6[rnd(8)] : types4[rnd(8)];
	if (!raw.v6 && f[at] == 5)
		f[at] = 3;
	f[at + 1] = (uint8_t)rnd(16);
	memcpy(f + at + 8, quoted + L2, len - 8);
	checksum(f, proto, len, 2);
	if (rnd(4) == 0)
		f[at + 2] ^= 1;
	return at + len;
}

/* ARP, or a neighbour advertisement or solicitation, mostly random. */
static size_t kind_neighbour(uint8_t *f)
{
	size_t at, len = 8 + rnd(60);

	if (!raw.v6) {
		memcpy(f, raw.eth, 12);
		put16(f + 12, ETH_P_ARP);
		fill(f + 14, 46);
		if (rnd(2)) {
			static const uint8_t head[] = {0, 1, 8, 0, 6, 4, 0};

			memcpy(f + 14, head, sizeof(head));
			memcpy(f + 38, raw.dst, 4);
			f[28] = 0; /* a sender in 0.0.0.0/8 */
		}
		return 14 + rnd(47);
	}
	at = make_ip(f, IPPROTO_ICMPV6, len);
	f[L2 + 7] = 255;
	f[L2 + 8] = 0xfd; /* from fdff:: */
	f[L2 + 9] = 0xff;
	fill(f + at, len);
	f[at] = (uint8_t)(135 + rnd(2));
	f[at + 1] = 0;
	checksum(f, IPPROTO_ICMPV6, len, 2);
	return at + len;
}

static size_t kind_udp(uint8_t *f)
{
	size_t len = 8 + rnd(200), at = make_ip(f, IPPROTO_UDP, len);

	fill(f + at, len);
	put16(f + at + 4, rnd(65536));
	return at + len;
}

static size_t kind_other_port(uint8_t *f)
{
	uint16_t sport = raw.sport, dport = raw.dport;
	size_t len;

	raw.sport = (uint16_t)rnd(65536);
	/* not the port of a listener: this is no SYN flood */
	raw.dport = (uint16_t)(1 + rnd(100));
	len = make_tcp(f, (uint8_t)rnd(256), 4ul * rnd(11), rnd(1400));
	raw.sport = sport;
	raw.dport = dport;
	return len;
}

static size_t kind_random(uint8_t *f)
{
	static const uint16_t types[] = {ETH_P_IP,    ETH_P_IPV6,   ETH_P_ARP,
					 ETH_P_8021Q, ETH_P_8021AD, 0x855b,
					 0x0000,      0x0100,	    0xffff};
	size_t len = 14 + rnd(FRAME_MAX - 14);

	memcpy(f, raw.eth, 12);
	put16(f + 12, types[rnd(9)]);
	fill(f + 14, len - 14);
	/* an owned address where one belongs */
	if (rnd(2))
		memcpy(f + (raw.v6 ? 38 : 30), raw.dst, raw.v6 ? 16 : 4);
	return len;
}

static size_t kind_vlan(uint8_t *f)
{
	uint8_t inner[FRAME_MAX];
	size_t len = make_tcp(inner, 0x10, 12, 20);

	break_tcp(inner);
	memcpy(f, inner, 12);
	put16(f + 12, ETH_P_8021Q);
	put16(f + 14, rnd(65536));
	memcpy(f + 16, inner + 12, len - 12);
	return len + 4;
}

static size_t (*const kinds[])(uint8_t *f) = {
	kind_wrong_checksum, kind_out_of_window, kind_data_offset,
	kind_options,	     kind_truncated,	 kind_ip_lies,
	kind_fragment,	     kind_ip_options,	 kind_icmp,
	kind_neighbour,	     kind_udp,		 kind_other_port,
	kind_random,	     kind_vlan,
};

#define N_KINDS (sizeof(kinds) / sizeof(kinds[0]))

static size_t syn(uint8_t *f)
{
	size_t len;

	raw.sport = (uint16_t)(1024 + rnd(60000));
	len = make_tcp(f, 0x02, 4, 0);
	put32(f + len - 4, 0x020405b4); /* MSS 1460 */
	checksum(f, IPPROTO_TCP, 24, 16);
	return len;
}

int main(int argc, char **argv)
{
	unsigned long sent = 0, tried = 0;
	uint8_t frame[FRAME_MAX + 64];
	bool flood_syn;
	uint64_t end;

	if (argc != 8) {
		fprintf(stderr,
			"packets syn|bad IF MAC SOURCE DEST PORTS SECONDS\n");
		return 2;
	}
	flood_syn = !strcmp(argv[1], "syn");
	raw_open(argv[2], argv[3], 0);
	raw_address(argv[4], raw.src);
	raw_address(argv[5], raw.dst);
	if (flood_syn)
		raw.dport = (uint16_t)atoi(argv[6]);
	else if (sscanf(argv[6], "%hu,%hu", &raw.sport, &raw.dport) != 2)
		return 2;
	end = io_now_ns() + strtoull(argv[7], NULL, 10) * 1000000000u;
	while (io_now_ns() < end) {
		size_t len = flood_syn ? syn(frame)
				       : kinds[tried % N_KINDS](frame);

		tried++;
		if (len > FRAME_MAX)
			len = FRAME_MAX;
		if (send(raw.fd, frame, len, 0) > 0)
			sent++;
		if (flood_syn && tried % 32 == 0)
			usleep(1000);
	}
	printf("sent=%lu tried=%lu\n", sent, tried);
	return sent ? 0 : 1;
}
