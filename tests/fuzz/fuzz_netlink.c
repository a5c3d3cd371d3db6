/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_netlink.c - what Linux answers on netlink sockets
 *
 * libmnl's socket functions are replaced by the ones below, so that tap/ runs
 * as it is, against a kernel whose every answer comes from the input: links,
 * neighbours, addresses and routes with any attributes, cut short, nested,
 * lying about lengths, errors with words, dumps that were interrupted. Nothing
 * of the system is touched: the TAP device is to have the name of one that
 * exists, and then no one is made; interfaces are named that don't exist.
 *
 * Requests that are sent must be messages that hold together. The sanitizers
 * see what reads beyond a message; each is in memory of its own (nl_list).
 */
#include "slowpath/snapshot.h"
#include "tap/private.h"
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <sys/socket.h>
#include <unistd.h>

#define NIC_INDEX 2
#define TAP_INDEX 3
#define TALK_MAX 2000u /* answers to one input */

static struct input in;
static struct nlmsghdr asked; /* the last request */
static bool alive;	      /* a socket is open */
static uint32_t answers;

/* ---- a message from the input ----------------------------------------------
 */

struct text {
	uint8_t *p;
	uint32_t len, room;
};

static uint8_t *grow(struct text *t, uint32_t n)
{
	uint8_t *at = t->p + t->len;
	uint32_t whole = NLMSG_ALIGN(n);

	if (whole > t->room - t->len)
		return NULL;
	memset(at, 0, whole);
	t->len += whole;
	return at;
}

/* Types are small, lengths are mostly what tap/ hopes for. */
static void put_attr(struct text *t, unsigned int depth)
{
	static const uint8_t lens[] = {4, 4, 4, 6, 16, 1, 0, 32};
	uint32_t how = take(&in, 1), type = take(&in, 1), n = how >> 4 & 7, at;
	struct nlattr *a = (void *)grow(t, sizeof(*a));

	if (!a)
		return;
	at = t->len - sizeof(*a);
	if (how & 1 && depth < 3) {
		/* Or a next hop: it begins as an attribute does. */
		uint8_t *body = how & 2 ? grow(t, 4) : NULL;

		if (body)
			take_bytes(&in, body, 4);
		while (n--)
			put_attr(t, depth + 1);
		n = t->len - at - sizeof(*a);
	} else {
		uint8_t *body;

		n = lens[n];
		body = grow(t, n);
		if (body)
			take_bytes(&in, body, n);
		else
			n = 0;
	}
	a->nla_type = type & 0x3f;
	a->nla_len = (uint16_t)(sizeof(*a) + n);
	if (how & 0x80)
		a->nla_len = (uint16_t)take(&in, 2);
}

/* What its type says stands in front of the attributes; interfaces are often
 * ours. */
static void put_body(struct text *t, uint16_t type)
{
	uint32_t n = sizeof(struct ifinfomsg), how = take(&in, 1);
	struct ifaddrmsg *ifa;
	uint8_t *p;

	if (type == RTM_NEWADDR)
		n = sizeof(*ifa);
	else if (type == RTM_NEWROUTE)
		n = sizeof(struct rtmsg);
	else if (type == RTM_NEWNEIGH)
		n = sizeof(struct ndmsg);
	if (how & 1)
		n = take(&in, 1) & 31;
	p = grow(t, n);
	if (!p || n < 12)
		return;
	take_bytes(&in, p, n > 4 ? 4 : n);
	p[0] = how & 2 ? AF_INET6 : AF_INET;
	ifa = (void *)p;
	if (type == RTM_NEWADDR)
		p += offsetof(struct ifaddrmsg, ifa_index);
	else
		p += 4;
	if (type != RTM_NEWROUTE)
		*(uint32_t *)p = how & 4 ? NIC_INDEX : TAP_INDEX;
	if (type == RTM_NEWNEIGH)
		((struct ndmsg *)ifa)->ndm_state = 0x80; /* permanent */
	if (type == RTM_NEWROUTE) {
		((struct rtmsg *)ifa)->rtm_table = RT_TABLE_MAIN;
		((struct rtmsg *)ifa)->rtm_type = RTN_UNICAST;
		((struct rtmsg *)ifa)->rtm_flags = take(&in, 1);
	}
	if (type == RTM_NEWLINK)
		*(uint32_t *)(p + 4) = take(&in, 1); /* flags: up */
}

/* The attribute that makes a message of interest. */
static void put_wanted(struct text *t, uint16_t type)
{
	static const uint8_t attrs[][2] = {
		[0] = {IFLA_ADDRESS, 6}, [1] = {IFLA_MTU, 4},
		[2] = {IFA_LOCAL, 4},	 [3] = {IFA_ADDRESS, 16},
		[4] = {RTA_OIF, 4},	 [5] = {RTA_GATEWAY, 4},
	};
	uint32_t i = type == RTM_NEWLINK ? 0 : type == RTM_NEWADDR ? 2 : 4;

	for (uint32_t end = i + 2; i < end; i++) {
		struct nlattr *a = (void *)grow(t, 4u + attrs[i][1]);

		if (!a)
			return;
		a->nla_type = attrs[i][0];
		a->nla_len = 4u + attrs[i][1];
		take_bytes(&in, a + 1, attrs[i][1]);
		if (attrs[i][0] == RTA_OIF && i == 4)
			*(uint32_t *)(a + 1) = NIC_INDEX;
		if (attrs[i][0] == IFLA_MTU && i == 1)
			*(uint32_t *)(a + 1) = 1500;
	}
}

static struct nlmsghdr *put_header(struct text *t, uint16_t type)
{
	struct nlmsghdr *h = (void *)grow(t, sizeof(*h));

	if (!h)
		return NULL;
	h->nlmsg_type = type;
	h->nlmsg_seq = asked.nlmsg_seq;
	return h;
}

static void put_message(struct text *t, uint32_t how)
{
	/* GET and NEW differ by two, as RTM_GETLINK and RTM_NEWLINK do. */
	uint16_t type = (uint16_t)(asked.nlmsg_type & ~3u);
	uint32_t n = how >> 4, at = t->len;
	struct nlmsghdr *h = put_header(t, type);

	if (!h)
		return;
	put_body(t, type);
	if (how & 8)
		put_wanted(t, type);
	while (n--)
		put_attr(t, 0);
	h->nlmsg_len = t->len - at;
	h->nlmsg_flags = NLM_F_MULTI;
	if ((how & 7) == 6)
		h->nlmsg_flags |= (uint16_t)take(&in, 2);
	if ((how & 7) == 5)
		h->nlmsg_len = take(&in, 2);
	if ((how & 7) == 4)
		h->nlmsg_len = take(&in, 4);
}

/* An answer's end: no error, or one, perhaps with words. */
static void put_end(struct text *t, uint32_t how)
{
	uint32_t at = t->len, n = how >> 4 & 3;
	bool dump = asked.nlmsg_flags & NLM_F_DUMP;
	struct nlmsghdr *h =
		put_header(t, dump && how & 1 ? NLMSG_DONE : NLMSG_ERROR);
	struct nlmsgerr *e;

	if (!h)
		return;
	e = (void *)grow(t, how & 2 ? sizeof(*e) : take(&in, 1) & 31);
	if (e && how & 2)
		e->error = how & 4 ? 0 : -(int)take(&in, 1);
	if (e && how & 2)
		e->msg.nlmsg_len = how & 8 ? sizeof(e->msg) : take(&in, 4);
	while (n--)
		put_attr(t, 2);
	h->nlmsg_len = t->len - at;
	h->nlmsg_flags = how & 0xc0 ? NLM_F_CAPPED | NLM_F_ACK_TLVS : 0;
}

/* ---- libmnl's socket -------------------------------------------------------
 */

struct mnl_socket *mnl_socket_open2(int bus, int flags)
{
	require(!alive && bus == NETLINK_ROUTE);
	alive = true;
	return (void *)&alive;
}

int mnl_socket_bind(struct mnl_socket *nl, unsigned int groups, pid_t pid)
{
	return 0;
}

int mnl_socket_setsockopt(const struct mnl_socket *nl, int type, void *buf,
			  socklen_t len)
{
	return 0;
}

int mnl_socket_close(struct mnl_socket *nl)
{
	require(alive);
	alive = false;
	return 0;
}

unsigned int mnl_socket_get_portid(const struct mnl_socket *nl)
{
	return 0;
}

ssize_t mnl_socket_sendto(const struct mnl_socket *nl, const void *buf,
			  size_t len)
{
	const struct nlattr *attr;
	const struct nlmsghdr *h = buf;
	uint32_t n = 0;

	require(alive && len >= sizeof(*h) && h->nlmsg_len == len);
	require(len <= NL_REQ_MAX && h->nlmsg_flags & NLM_F_REQUEST);
	if (h->nlmsg_type == RTM_NEWROUTE || h->nlmsg_type == RTM_DELROUTE) {
		/* Attributes fill the message. */
		mnl_attr_for_each(attr, h, sizeof(struct rtmsg))
		{
			n += MNL_ALIGN(attr->nla_len);
		}
		require(len == NLMSG_LENGTH(sizeof(struct rtmsg)) + n);
	}
	memcpy(&asked, h, sizeof(asked));
	return (ssize_t)len;
}

ssize_t mnl_socket_recvfrom(const struct mnl_socket *nl, void *buf,
			    size_t bufsiz)
{
	struct text t = {buf, 0, (uint32_t)bufsiz};
	uint32_t how = take(&in, 1), n = how & 3;

	errno = EIO;
	if (in.p >= in.end || ++answers > TALK_MAX || how == 0xff)
		return -1;
	while (n-- && asked.nlmsg_type < RTM_MAX)
		put_message(&t, take(&in, 1));
	if (how & 0xc)
		put_end(&t, take(&in, 1));
	return t.len && how & 0x10 ? (ssize_t)(take(&in, 2) % t.len)
				   : (ssize_t)t.len;
}

/* ---- what reads them -------------------------------------------------------
 */

static void set_up_and_down(bool takeover)
{
	struct tap_config cfg = {
		.nic = "fuzz0", .name = "lo", .takeover = takeover};
	char err[TAP_ERR_MAX];
	struct tap *t;

	if (!takeover) {
		cfg.n_addrs = 2;
		require(!tap_addr_parse("10.9.0.2/24", &cfg.addrs[0], err));
		require(!tap_addr_parse("fd09::2/64", &cfg.addrs[1], err));
	}
	require(tap_setup(&cfg, &t, err) < 0 && !t);
	require(memchr(err, 0, sizeof(err)) && *err);
}

static void make(struct tap *t, bool takeover)
{
	char err[TAP_ERR_MAX];

	*t = (struct tap){.fd = -1,
			  .nic = "fuzz0",
			  .name = "fuzz1",
			  .nic_index = NIC_INDEX,
			  .index = TAP_INDEX,
			  .takeover = takeover,
			  .addr_gen_mode = -1,
			  .accept_ra = take(&in, 1) & 1 ? 1 : -1};
	require(!nl_open(&t->nl));
	if (takeover)
		return;
	require(!tap_addr_parse("10.9.0.2/24", &t->owned[0], err));
	require(!tap_addr_parse("fd09::2/64", &t->owned[1], err));
	t->n_owned = 2;
}

static bool neigh(const struct nlmsghdr *msg, void *arg)
{
	return mnl_nlmsg_get_payload_len(msg) >= sizeof(struct ndmsg);
}

/* As tap_setup() and tap_restore() do once there is a device. */
static void own_addresses(void)
{
	char err[TAP_ERR_MAX];
	struct tap t;

	make(&t, false);
	if (!service_check(&t, err))
		service_set_up(&t, err);
	nl_collect(&t.nl, RTM_GETNEIGH, AF_UNSPEC, neigh, &t, &t.neighs);
	tap_neigh_put(&t, TAP_INDEX);
	service_undo(&t);
	nl_list_free(&t.neighs);
	nl_close(&t.nl);
}

static void take_over(void)
{
	char err[TAP_ERR_MAX];
	struct tap t;

	make(&t, true);
	if (!takeover_save(&t, err)) {
		require(t.n_owned && t.n_owned <= TAP_MAX_ADDRS);
		takeover_move(&t, err);
	}
	takeover_restore(&t, err);
	takeover_free(&t);
	nl_close(&t.nl);
}

/* Is a connection still there? Its socket is one end of a pair; calls are
 * numbered as snapshot.c does. */
static void ask_diag(void)
{
	static const struct conn_key key = {.family = AF_INET};
	static uint32_t seq;
	static int fd[2];
	struct text t;
	uint8_t room[4096];
	uint32_t n = take(&in, 1) & 3;

	if (!fd[1])
		require(!socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0,
				    fd));
	seq++;
	while (n--) {
		uint32_t how = take(&in, 1);

		t = (struct text){room, 0, sizeof(room)};
		asked.nlmsg_seq = how & 1 ? seq : take(&in, 1);
		put_header(&t, how & 2 ? SOCK_DIAG_BY_FAMILY : NLMSG_ERROR);
		take_bytes(&in, grow(&t, 80), how & 4 ? 8 : 2);
		((struct nlmsghdr *)room)->nlmsg_len = how & 8 ? t.len
							       : take(&in, 2);
		if (how & 16)
			t.len = take(&in, 1);
		require(send(fd[1], room, t.len, 0) == (ssize_t)t.len);
	}
	snapshot_exists(fd[0], &key, 1);
	while (recv(fd[0], room, sizeof(room), 0) >= 0 ||
	       recv(fd[1], room, sizeof(room), 0) >= 0)
		;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	in = (struct input){data, data + size};
	answers = 0;
	memset(&asked, 0, sizeof(asked));
	while (in.p < in.end) {
		switch (take(&in, 1) & 7) {
		case 0:
			set_up_and_down(false);
			break;
		case 1:
			set_up_and_down(true);
			break;
		case 2:
		case 3:
			own_addresses();
			break;
		case 4:
		case 5:
			take_over();
			break;
		default:
			ask_diag();
			break;
		}
		require(!alive);
	}
	return 0;
}
