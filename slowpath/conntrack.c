/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * conntrack.c - what conntrack must know of connections that change hands
 *
 * While a connection is offloaded conntrack sees it stand still, in Linux's
 * numbers (translate.c). The kernel socket that takes over goes on in the
 * wire's, which lie anywhere: every segment would be invalid for conntrack, and
 * many rulesets drop those. So its entry is told through ctnetlink to be
 * liberal about windows in both directions, and to forget the highest
 * acknowledgment of each: below that it calls a RST invalid. State, timeout and
 * marks stay as they are.
 *
 * The entry is named by the tuple of the peer's frames, which is one of its two
 * directions whoever opened the connection. A connection in another conntrack
 * zone than the default one is not found.
 *
 * Read first: nfnetlink_conntrack.h, net/netfilter/nf_conntrack_proto_tcp.c.
 */
#include "slowpath/conntrack.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>
#include <sys/socket.h>

int conntrack_open(void)
{
	return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
}

static void put_tuple(struct nlmsghdr *nlh, const struct conn_key *key)
{
	struct nlattr *tuple = mnl_attr_nest_start(nlh, CTA_TUPLE_ORIG);
	struct nlattr *part = mnl_attr_nest_start(nlh, CTA_TUPLE_IP);
	bool six = key->family == AF_INET6;
	size_t len = six ? 16 : 4;

	mnl_attr_put(nlh, six ? CTA_IP_V6_SRC : CTA_IP_V4_SRC, len, key->peer);
	mnl_attr_put(nlh, six ? CTA_IP_V6_DST : CTA_IP_V4_DST, len, key->local);
	mnl_attr_nest_end(nlh, part);
	part = mnl_attr_nest_start(nlh, CTA_TUPLE_PROTO);
	mnl_attr_put_u8(nlh, CTA_PROTO_NUM, IPPROTO_TCP);
	mnl_attr_put_u16(nlh, CTA_PROTO_SRC_PORT, key->pport);
	mnl_attr_put_u16(nlh, CTA_PROTO_DST_PORT, key->lport);
	mnl_attr_nest_end(nlh, part);
	mnl_attr_nest_end(nlh, tuple);
}

static void put_flags(struct nlmsghdr *nlh)
{
	const struct nf_ct_tcp_flags f = {
		.flags = IP_CT_TCP_FLAG_BE_LIBERAL,
		.mask = IP_CT_TCP_FLAG_BE_LIBERAL | IP_CT_TCP_FLAG_MAXACK_SET,
	};
	struct nlattr *info = mnl_attr_nest_start(nlh, CTA_PROTOINFO);
	struct nlattr *tcp = mnl_attr_nest_start(nlh, CTA_PROTOINFO_TCP);

	mnl_attr_put(nlh, CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, sizeof(f), &f);
	mnl_attr_put(nlh, CTA_PROTOINFO_TCP_FLAGS_REPLY, sizeof(f), &f);
	mnl_attr_nest_end(nlh, tcp);
	mnl_attr_nest_end(nlh, info);
}

/* Linux answers within send(); what an earlier call left is read over. */
static int answer(int fd, uint32_t seq)
{
	union {
		struct nlmsghdr nlh;
		char buf[4096];
	} m;

	for (;;) {
		ssize_t n = recv(fd, &m, sizeof(m), MSG_DONTWAIT);
		const struct nlmsgerr *e = mnl_nlmsg_get_payload(&m.nlh);

		if (n < 0)
			return -errno;
		if (n >= (ssize_t)NLMSG_LENGTH(sizeof(*e)) &&
		    m.nlh.nlmsg_type == NLMSG_ERROR && m.nlh.nlmsg_seq == seq)
			return e->error;
	}
}

int conntrack_liberal(int fd, const struct conn_key *key)
{
	static _Atomic uint32_t last_seq;
	union {
		struct nlmsghdr nlh;
		char buf[512];
	} m;
	struct nfgenmsg *nfg;
	uint32_t seq = ++last_seq;
	int rc;

	if (fd < 0)
		return 0;
	mnl_nlmsg_put_header(m.buf);
	m.nlh.nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW;
	m.nlh.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	m.nlh.nlmsg_seq = seq;
	nfg = mnl_nlmsg_put_extra_header(&m.nlh, sizeof(*nfg));
	*nfg = (struct nfgenmsg){.nfgen_family = (uint8_t)key->family,
				 .version = NFNETLINK_V0};
	put_tuple(&m.nlh, key);
	put_flags(&m.nlh);
	if (send(fd, m.buf, m.nlh.nlmsg_len, 0) < 0)
		return -errno;
	rc = answer(fd, seq);
	/* It doesn't track this one, or (EINVAL) any: there is no ctnetlink. */
	return rc == -ENOENT || rc == -EINVAL ? 0 : rc;
}
