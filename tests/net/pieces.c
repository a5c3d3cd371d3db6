// SPDX-License-Identifier: BSD-2-Clause
/*
 * pieces - one TCP connection whose segments arrive in IP fragments
 *
 *   pieces IF MAC SOURCE DEST PORT STEP...
 *
 * A small TCP of its own, since no kernel cuts segments as is needed here: it
 * connects from SOURCE, an address that no host has, to DEST at MAC. Bytes are
 * those of offload.c, which is the other end. Steps:
 *
 *   send:N     N bytes in whole segments, until they are acknowledged
 *   recv:N     N bytes, checked
 *   cut:HOW    PAYLOAD bytes in one segment, cut as HOW says; prints HOW=taken
 *              or HOW=refused. What was refused is sent again in one piece.
 *   flood:N    the first pieces of N datagrams of which nothing else comes
 *   fin        FIN, until it is acknowledged and the peer's FIN has come
 *
 * How it knows without a clock that a segment was refused: what it sends next
 * are bytes that the peer has, in two fragments, which take the same way. The
 * answer to these, known by its time stamp, tells what came before them.
 * Nothing is decided by time but to give up, after GIVE_UP_S.
 */
#include "raw.h"

#include <poll.h>

#define PAYLOAD 1400u
#define TCP_LEN 32u /* with time stamps */
#define SEGMENT (TCP_LEN + PAYLOAD)
#define PIECES_MAX 256u
#define AGAIN_MS 500
#define GIVE_UP_S 20
#define SYN 0x02
#define FIN 0x01
#define ACK 0x10
#define OLD 16u /* bytes of a question */

static struct {
	uint32_t snd_una, snd_nxt, rcv_nxt, iss, irs;
	uint32_t tsval, tsecr; /* ours; the peer's last */
	uint32_t echoed;       /* the last of ours that came back */
	uint32_t checked;      /* bytes received that recv:N has asked for */
	uint32_t id;	       /* of the last datagram */
	bool fin;	       /* the peer's has come */
	uint64_t end_ns;
} t;

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 |
	       (uint32_t)p[2] << 8 | p[3];
}

static uint8_t byte_at(uint64_t pos, bool from_client)
{
	uint64_t v =
		(pos + (from_client ? 1 : 7)) * UINT64_C(0x9e3779b97f4a7c15);

	return (uint8_t)(v >> 56);
}

static void __attribute__((noreturn)) fails(const char *step)
{
	fprintf(stderr, "%s: sent %u, acknowledged %u, received %u\n", step,
		t.snd_nxt - t.iss, t.snd_una - t.iss, t.rcv_nxt - t.irs);
	exit(1);
}

static void patience(const char *step)
{
	if (io_now_ns() > t.end_ns)
		fails(step);
}

/* ---- out -------------------------------------------------------------------
 */

/* A segment in @f, behind room for the other headers; the length of TCP. */
static size_t make_segment(uint8_t *f, uint32_t seq, uint8_t flags,
			   uint32_t len)
{
	uint8_t *p = f + L2 + ip_len();
	size_t n = TCP_LEN + len;

	make_ip(f, IPPROTO_TCP, n);
	put16(p, raw.sport);
	put16(p + 2, raw.dport);
	put32(p + 4, seq);
	put32(p + 8, flags & ACK ? t.rcv_nxt : 0);
	p[12] = TCP_LEN / 4 << 4;
	p[13] = flags;
	put16(p + 14, 65535);
	put32(p + 16, 0);
	put32(p + 20, 0x0101080a);
	put32(p + 24, ++t.tsval);
	put32(p + 28, t.tsecr);
	for (uint32_t i = 0; i < len; i++)
		p[TCP_LEN + i] = byte_at(seq + i - t.iss - 1, true);
	checksum(f, IPPROTO_TCP, n, 16);
	return n;
}

static void put_frame(const uint8_t *f, size_t len)
{
	if (send(raw.fd, f, len, 0) != (ssize_t)len)
		io_die("send");
}

static void send_segment(uint32_t seq, uint8_t flags, uint32_t len)
{
	uint8_t f[2048];

	put_frame(f, L2 + ip_len() + make_segment(f, seq, flags, len));
}

struct cut {
	uint32_t off, len;
	uint8_t ecn;
};

/* Fragment @id of the @n bytes of TCP that make_segment() put into @f. */
static void send_piece(const uint8_t *f, size_t n, uint32_t id,
		       const struct cut *c)
{
	bool more = c->off + c->len < n;
	uint8_t out[2048], *ip = out + L2;
	uint32_t fh = raw.v6 ? 8 : 0;

	make_ip(out, raw.v6 ? IPPROTO_FRAGMENT : IPPROTO_TCP, fh + c->len);
	if (raw.v6) {
		ip[1] |= (uint8_t)(c->ecn << 4);
		ip[40] = IPPROTO_TCP;
		ip[41] = 0;
		put16(ip + 42, c->off | more);
		put32(ip + 44, id);
	} else {
		ip[1] |= c->ecn;
		put16(ip + 4, id);
		put16(ip + 6, c->off / 8 | (more ? IP_MF : 0));
		put16(ip + 10, 0);
		put16(ip + 10, fold(sum(ip, 20, 0)));
	}
	memcpy(ip + ip_len() + fh, f + L2 + ip_len() + c->off, c->len);
	put_frame(out, L2 + ip_len() + fh + c->len);
}

/* ---- in --------------------------------------------------------------------
 */

static void take_options(const uint8_t *p, size_t hdr)
{
	for (size_t i = 20; i + 1 < hdr && p[i];) {
		if (p[i] == TCPOPT_TIMESTAMP && i + 10 <= hdr) {
			t.tsecr = get32(p + i + 2);
			t.echoed = get32(p + i + 6);
		}
		i += p[i] == TCPOPT_NOP ? 1 : p[i + 1] ? p[i + 1] : 40;
	}
}

static void take_data(const uint8_t *p, uint32_t len, uint32_t seq)
{
	for (uint32_t i = 0; i < len; i++)
		if (p[i] != byte_at(seq + i - t.irs - 1, false))
			fails("altered bytes");
	if (seq == t.rcv_nxt)
		t.rcv_nxt += len;
}

/* One TCP segment of the connection; its answer goes at once. */
static void take_segment(const uint8_t *p, size_t len)
{
	size_t hdr = len >= 20 ? (size_t)(p[12] >> 4) * 4 : 0;
	uint32_t seq, ack;

	if (hdr < 20 || hdr > len || p[0] << 8 != (raw.dport & 0xff00) ||
	    p[1] != (raw.dport & 0xff) || p[2] << 8 != (raw.sport & 0xff00) ||
	    p[3] != (raw.sport & 0xff))
		return;
	seq = get32(p + 4);
	ack = get32(p + 8);
	if (p[13] & TH_RST)
		fails("reset");
	take_options(p, hdr);
	if (p[13] & SYN) {
		t.irs = seq;
		t.rcv_nxt = seq + 1;
	}
	if ((int32_t)(ack - t.snd_una) > 0)
		t.snd_una = ack;
	take_data(p + hdr, (uint32_t)(len - hdr), seq);
	if (p[13] & FIN && !t.fin && seq + (uint32_t)(len - hdr) == t.rcv_nxt) {
		t.fin = true;
		t.rcv_nxt++;
	}
	if (len > hdr || p[13] & (SYN | FIN))
		send_segment(t.snd_nxt, ACK, 0);
}

/* A frame of the connection, if one comes in the time. */
static bool take_frame(int ms)
{
	static uint8_t f[65536 + 64];
	struct pollfd pfd = {.fd = raw.fd, .events = POLLIN};
	struct sockaddr_ll ll = {0};
	socklen_t ll_len = sizeof(ll);
	size_t at = L2 + ip_len(), end;
	const uint8_t *ip = f + L2;
	ssize_t n;

	if (poll(&pfd, 1, ms) <= 0)
		return false;
	n = recvfrom(raw.fd, f, sizeof(f), 0, (struct sockaddr *)&ll, &ll_len);
	if (n < (ssize_t)at || ll.sll_pkttype == PACKET_OUTGOING ||
	    ip[raw.v6 ? 6 : 9] != IPPROTO_TCP ||
	    memcmp(ip + (raw.v6 ? 24 : 16), raw.src, raw.v6 ? 16 : 4) != 0)
		return true;
	end = raw.v6 ? 40u + (uint32_t)(ip[4] << 8 | ip[5])
		     : (uint32_t)(ip[2] << 8 | ip[3]);
	if (L2 + end <= (size_t)n && L2 + end >= at)
		take_segment(f + at, L2 + end - at);
	return true;
}

/* ---- steps -----------------------------------------------------------------
 */

/* Send, again now and then, until it is acknowledged. */
static void deliver(const char *step, uint8_t flags, uint32_t len)
{
	uint32_t seq = t.snd_una,
		 end = seq + len + (flags & (SYN | FIN) ? 1 : 0);

	if ((int32_t)(end - t.snd_nxt) > 0)
		t.snd_nxt = end;
	do {
		uint64_t again = io_now_ns() + AGAIN_MS * UINT64_C(1000000);

		patience(step);
		send_segment(seq, flags, len);
		while ((int32_t)(t.snd_una - end) < 0 && io_now_ns() < again)
			take_frame(AGAIN_MS / 10);
	} while ((int32_t)(t.snd_una - end) < 0);
}

static void step_send(const char *step, uint32_t n)
{
	while (n) {
		uint32_t len = n < PAYLOAD ? n : PAYLOAD;

		deliver(step, ACK, len);
		n -= len;
	}
}

static void step_recv(const char *step, uint32_t n)
{
	while (t.rcv_nxt - t.fin - t.irs - 1 - t.checked < n) {
		patience(step);
		take_frame(AGAIN_MS);
	}
	t.checked += n;
}

/* true: the peer has all that was sent. */
static bool ask(const char *step)
{
	static const struct cut in_two[] = {{0, TCP_LEN + OLD / 2, 0},
					    {TCP_LEN + OLD / 2, OLD / 2, 0}};
	uint8_t f[2048];

	for (;;) {
		uint64_t again = io_now_ns() + AGAIN_MS * UINT64_C(1000000);
		size_t n = make_segment(f, t.snd_una - OLD, ACK, OLD);
		uint32_t ts = t.tsval;

		patience(step);
		t.id++;
		send_piece(f, n, t.id, &in_two[0]);
		send_piece(f, n, t.id, &in_two[1]);
		while (io_now_ns() < again) {
			take_frame(AGAIN_MS / 10);
			if (t.snd_una == t.snd_nxt)
				return true;
			if ((int32_t)(t.echoed - ts) >= 0)
				return false;
		}
	}
}

#define A 480u
#define B 960u
#define END (SEGMENT - B)

static const struct way {
	const char *name;
	struct cut cut[8]; /* len 0: no more */
} ways[] = {
	{"in-order", {{0, A, 0}, {A, A, 0}, {B, END, 0}}},
	{"reversed", {{B, END, 0}, {A, A, 0}, {0, A, 0}}},
	{"last-first", {{B, END, 0}, {0, A, 0}, {A, A, 0}}},
	{"each-twice",
	 {{0, A, 0}, {0, A, 0}, {B, END, 0}, {B, END, 0}, {A, A, 0}}},
	{"within-another", {{0, A, 0}, {8, 16, 0}, {A, A, 0}, {B, END, 0}}},
	{"no-first", {{A, A, 0}, {B, END, 0}}},
	{"no-middle", {{0, A, 0}, {B, END, 0}}},
	{"no-last", {{0, A, 0}, {A, A, 0}}},
	{"overlap-above", {{0, A, 0}, {A - 8, A + 8, 0}, {B, END, 0}}},
	{"overlap-below", {{B, END, 0}, {A, A + 8, 0}, {0, A, 0}}},
	{"two-ends", {{0, A, 0}, {B, END - 8, 0}, {B, END, 0}, {A, A, 0}}},
	{"short-first", {{0, 16, 0}, {16, A - 16, 0}, {A, SEGMENT - A, 0}}},
	{"marked", {{0, A, 2}, {A, A, 3}, {B, END, 2}}},
	{"marked-wrongly", {{0, A, 0}, {A, A, 3}, {B, END, 0}}},
	{"ect-mixed", {{0, A, 0}, {A, A, 2}, {B, END, 0}}},
};

/* By hand: what has no place in the table. */
static bool send_special(const char *how, const uint8_t *f, size_t n)
{
	uint8_t g[2048];
	struct cut c;

	if (!strcmp(how, "tiny")) { /* most of 8 bytes */
		c = (struct cut){0, 40, 0};
		for (; c.off < n; c.off += c.len, c.len = 8)
			send_piece(f, n, t.id, &c);
	} else if (!strcmp(how, "whole")) { /* RFC 6946 */
		c = (struct cut){0, (uint32_t)n, 0};
		send_piece(f, n, t.id, &c);
	} else if (!strcmp(how, "bad-sum")) {
		memcpy(g, f, sizeof(g));
		g[L2 + ip_len() + 700] ^= 1;
		for (c = (struct cut){0, A, 0}; c.off < B; c.off += A)
			send_piece(g, n, t.id, &c);
		c.len = END;
		send_piece(g, n, t.id, &c);
	} else if (!strcmp(how, "interleaved")) { /* with the next segment's */
		make_segment(g, t.snd_nxt, ACK, PAYLOAD);
		t.snd_nxt += PAYLOAD;
		for (c = (struct cut){0, A, 0}; c.off < n; c.off += A) {
			c.len = c.off == B ? END : A;
			send_piece(f, n, t.id, &c);
			send_piece(g, n, t.id + 1, &c);
		}
		t.id++;
	} else {
		return false;
	}
	return true;
}

static void step_cut(const char *how)
{
	const struct way *w = ways, *none = ways + sizeof(ways) / sizeof(*ways);
	const struct cut *c;
	uint8_t f[2048];
	size_t n;

	n = make_segment(f, t.snd_nxt, ACK, PAYLOAD);
	t.snd_nxt += PAYLOAD;
	t.id++;
	while (w < none && strcmp(w->name, how) != 0)
		w++;
	for (c = w->cut; w < none && c < w->cut + 8 && c->len; c++)
		send_piece(f, n, t.id, c);
	if (w == none && !send_special(how, f, n))
		fails(how);
	if (ask(how)) {
		printf("%s=taken\n", how);
		return;
	}
	printf("%s=refused\n", how);
	step_send(how, t.snd_nxt - t.snd_una);
}

static void step_flood(uint32_t n)
{
	static const struct cut first = {0, A, 0};
	uint8_t f[2048];
	size_t len = make_segment(f, t.snd_nxt, ACK, PAYLOAD);

	while (n--)
		send_piece(f, len, ++t.id, &first);
}

static void step_fin(void)
{
	deliver("fin", FIN | ACK, 0);
	while (!t.fin) {
		patience("fin");
		take_frame(AGAIN_MS);
	}
}

static void step_run(const char *step)
{
	/* What has no argument is none of the steps that look at it. */
	const char *arg = strchrnul(step, ':');

	t.end_ns = io_now_ns() + GIVE_UP_S * UINT64_C(1000000000);
	if (!strcmp(step, "fin"))
		step_fin();
	else if (!strncmp(step, "send:", 5))
		step_send(step, (uint32_t)atoi(arg + 1));
	else if (!strncmp(step, "recv:", 5))
		step_recv(step, (uint32_t)atoi(arg + 1));
	else if (!strncmp(step, "cut:", 4))
		step_cut(arg + 1);
	else if (!strncmp(step, "flood:", 6))
		step_flood((uint32_t)atoi(arg + 1));
	else
		fails(step);
}

int main(int argc, char **argv)
{
	setlinebuf(stdout);
	if (argc < 6) {
		fprintf(stderr, "pieces IF MAC SOURCE DEST PORT STEP...\n");
		return 2;
	}
	raw_address(argv[3], raw.src);
	raw_address(argv[4], raw.dst);
	raw_open(argv[1], argv[2], raw.v6 ? ETH_P_IPV6 : ETH_P_IP);
	raw.dport = (uint16_t)atoi(argv[5]);
	/* Connections of other runs are long gone, or not of this number. */
	t.iss = (uint32_t)io_now_ns();
	raw.sport = (uint16_t)(1024 + t.iss / 1024 % 60000);
	t.snd_una = t.snd_nxt = t.iss;
	t.id = t.iss >> 8;
	t.end_ns = io_now_ns() + GIVE_UP_S * UINT64_C(1000000000);
	deliver("connect", SYN, 0);
	for (int i = 6; i < argc; i++)
		step_run(argv[i]);
	printf("done\n");
	return 0;
}
