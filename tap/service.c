// SPDX-License-Identifier: BSD-2-Clause
/*
 * service.c - addresses of the service's own (--addr), their rule and routes
 *
 * For each address A/LEN, next to everything that the host has already:
 *
 *   address   A/LEN on the TAP, without the prefix route that Linux would add
 *             to the main table and without duplicate address detection
 *   rule      from A lookup T, right behind the rule of the local table
 *   table T   a free number from 0x7461 on: A's prefix out of the TAP, and the
 *             NIC's routes of the main table with the TAP in its place
 *   main      A's prefix out of the TAP with a metric so high that any route
 *             which the host has for that prefix wins: only a host without one
 *             reaches the peers on the link through the service
 *
 * So what is sent from A leaves through the TAP, whatever the host does
 * otherwise, and is answered there; what the host sends from its other
 * addresses goes where it always went. The reverse path of a frame from a peer
 * to A is looked up with A as source and meets the same rule, which is what
 * rp_filter=1 asks for. Gateways in T are marked as on the link (IPv4), or have
 * a host route of their own (IPv6, where a gateway of the main table's on-link
 * prefix can't carry that mark), so that T holds even without A's prefix.
 * The copies are made once, when the service starts.
 *
 * With an IPv6 address the TAP gets a link-local one, random because the one
 * made from the MAC is the NIC's. Linux needs it as the source of neighbour
 * solicitations that no packet caused (RFC 4861 7.3.3). It is owned as the
 * others are.
 *
 * Our routes and rules carry protocol 116. Undoing deletes the rules; the rest
 * goes with the TAP.
 *
 * State: n_rules and table in struct tap.
 */
#include "tap/private.h"

#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#define FIRST_TABLE 0x7461u
#define LAST_TABLE 0x74ffu
#define MAIN_METRIC 0x7461u
#define ROUTE_PROTOCOL 116

static size_t addr_len(int family)
{
	return family == AF_INET ? 4 : 16;
}

static uint8_t addr_bits(int family)
{
	return family == AF_INET ? 32 : 128;
}

static bool is_link_local(const struct tap_addr *a)
{
	return a->family == AF_INET6 && a->addr[0] == 0xfe &&
	       (a->addr[1] & 0xc0) == 0x80;
}

/* ---- before anything is touched ------------------------------------------ */

static bool address_wanted(const struct nlmsghdr *msg, void *arg)
{
	const struct ifaddrmsg *ifa = mnl_nlmsg_get_payload(msg);

	return mnl_nlmsg_get_payload_len(msg) >= sizeof(*ifa) &&
	       (ifa->ifa_family == AF_INET || ifa->ifa_family == AF_INET6);
}

static bool message_is_for(const struct nlmsghdr *msg, const struct tap_addr *a)
{
	const struct ifaddrmsg *ifa = mnl_nlmsg_get_payload(msg);
	const struct nlattr *attr;
	struct nl_attrs attrs;

	if (ifa->ifa_family != a->family)
		return false;
	nl_parse(msg, sizeof(*ifa), &attrs);
	attr = attrs.at[IFA_LOCAL] ? attrs.at[IFA_LOCAL]
				   : attrs.at[IFA_ADDRESS];
	return attr && mnl_attr_get_payload_len(attr) == addr_len(a->family) &&
	       !memcmp(mnl_attr_get_payload(attr), a->addr,
		       addr_len(a->family));
}

static int fail_taken(const struct tap *t, const struct tap_addr *a,
		      const struct nlmsghdr *msg, char *err)
{
	const struct ifaddrmsg *ifa = mnl_nlmsg_get_payload(msg);
	char text[INET6_ADDRSTRLEN], name[IF_NAMESIZE] = "?";

	if_indextoname(ifa->ifa_index, name);
	tap_addr_text(a, text, sizeof(text));
	return tap_fail(
		err, -EADDRINUSE,
		"%s is an address of %s already: ip addr del %s/%u dev %s%s",
		text, name, text, ifa->ifa_prefixlen, name,
		ifa->ifa_index == t->nic_index
			? ", or move all of its addresses with --takeover"
			: "");
}

static int twice(const struct tap *t, char *err)
{
	char text[INET6_ADDRSTRLEN];

	for (unsigned int i = 0; i < t->n_owned; i++) {
		for (unsigned int j = 0; j < i; j++) {
			const struct tap_addr *a = &t->owned[i];

			if (a->family == t->owned[j].family &&
			    !memcmp(a->addr, t->owned[j].addr, 16))
				return tap_fail(
					err, -EINVAL,
					"--addr %s is given twice",
					tap_addr_text(a, text, sizeof(text)));
		}
	}
	return 0;
}

int service_check(struct tap *t, char *err)
{
	struct nl_list list = {0};
	int error = twice(t, err);

	if (error)
		return error;
	error = nl_collect(&t->nl, RTM_GETADDR, AF_UNSPEC, address_wanted, NULL,
			   &list);
	if (error)
		tap_fail_nl(t, err, error, "addresses");
	for (size_t i = 0; i < list.n && !error; i++) {
		for (unsigned int j = 0; j < t->n_owned && !error; j++) {
			if (message_is_for(list.msg[i], &t->owned[j]))
				error = fail_taken(t, &t->owned[j], list.msg[i],
						   err);
		}
	}
	nl_list_free(&list);
	return error;
}

/* ---- a free table -------------------------------------------------------- */

struct table_use {
	bool taken[LAST_TABLE - FIRST_TABLE + 1];
};

static void table_note(struct table_use *use, uint32_t table)
{
	if (table >= FIRST_TABLE && table <= LAST_TABLE)
		use->taken[table - FIRST_TABLE] = true;
}

/* struct fib_rule_hdr has the layout of struct rtmsg, FRA_TABLE is RTA_TABLE.
 */
static bool note_table(const struct nlmsghdr *msg, void *arg)
{
	if (mnl_nlmsg_get_payload_len(msg) >= sizeof(struct rtmsg))
		table_note(arg, route_table(msg));
	return false;
}
_Static_assert(sizeof(struct fib_rule_hdr) == sizeof(struct rtmsg) &&
		       (int)FRA_TABLE == (int)RTA_TABLE,
	       "rules and routes name their table alike");

static int table_pick(struct tap *t, char *err)
{
	static const uint16_t dumps[] = {RTM_GETROUTE, RTM_GETRULE};
	static const uint8_t families[] = {AF_INET, AF_INET6};
	struct table_use use = {0};
	struct nl_list none = {0};

	for (size_t i = 0; i < 4; i++) {
		int error = nl_collect(&t->nl, dumps[i / 2], families[i % 2],
				       note_table, &use, &none);

		if (error && error != -EAFNOSUPPORT && error != -EOPNOTSUPP)
			return tap_fail_nl(t, err, error, "routing tables");
	}
	for (uint32_t table = FIRST_TABLE; table <= LAST_TABLE; table++) {
		if (!use.taken[table - FIRST_TABLE]) {
			t->table = table;
			return 0;
		}
	}
	return tap_fail(
		err, -ENOSPC,
		"routing tables %u to %u are all in use: ip rule, ip route show table all",
		FIRST_TABLE, LAST_TABLE);
}

/* ---- address, rule, prefix ----------------------------------------------- */

static int address_add(struct tap *t, const struct tap_addr *a, uint32_t flags,
		       char *err)
{
	char text[INET6_ADDRSTRLEN];
	struct ifaddrmsg *ifa;
	struct nl_req req;
	int error;

	nl_start(&req, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, sizeof(*ifa));
	ifa = req.body;
	ifa->ifa_family = (uint8_t)a->family;
	ifa->ifa_prefixlen = a->prefix_len;
	ifa->ifa_index = t->index;
	if (a->family == AF_INET6)
		flags |= IFA_F_NODAD;
	nl_put_u32(&req, IFA_FLAGS, flags);
	nl_put(&req, IFA_LOCAL, a->addr, addr_len(a->family));
	nl_put(&req, IFA_ADDRESS, a->addr, addr_len(a->family));
	error = nl_talk(&t->nl, &req);
	if (error == -EAFNOSUPPORT || error == -EOPNOTSUPP ||
	    (error == -EACCES && a->family == AF_INET6))
		return tap_fail(
			err, error,
			"%s: IPv6 is switched off: sysctl net.ipv6.conf.all.disable_ipv6=0",
			tap_addr_text(a, text, sizeof(text)));
	if (error)
		return tap_fail_nl(t, err, error,
				   tap_addr_text(a, text, sizeof(text)));
	return 0;
}

static int rule_talk(struct tap *t, uint16_t type, uint16_t flags,
		     const struct tap_addr *a)
{
	struct fib_rule_hdr *rule;
	struct nl_req req;
	uint8_t protocol = ROUTE_PROTOCOL;

	nl_start(&req, type, flags, sizeof(*rule));
	rule = req.body;
	rule->family = (uint8_t)a->family;
	rule->src_len = addr_bits(a->family);
	rule->action = FR_ACT_TO_TBL;
	nl_put_u32(&req, FRA_TABLE, t->table);
	nl_put(&req, FRA_SRC, a->addr, addr_len(a->family));
	nl_put(&req, FRA_PROTOCOL, &protocol, sizeof(protocol));
	return nl_talk(&t->nl, &req);
}

/* @dst/@len out of the TAP. */
static int link_route_add(struct tap *t, int family, const uint8_t *dst,
			  uint8_t len, uint32_t table, uint32_t metric,
			  const uint8_t *prefsrc)
{
	uint8_t net[16] = {0};
	struct rtmsg *rtm;
	struct nl_req req;
	int error;

	memcpy(net, dst, len / 8);
	if (len % 8)
		net[len / 8] = dst[len / 8] & (uint8_t)(0xff00 >> len % 8);
	nl_start(&req, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, sizeof(*rtm));
	rtm = req.body;
	rtm->rtm_family = (uint8_t)family;
	rtm->rtm_dst_len = len;
	rtm->rtm_protocol = ROUTE_PROTOCOL;
	rtm->rtm_scope = family == AF_INET ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
	rtm->rtm_type = RTN_UNICAST;
	nl_put_u32(&req, RTA_TABLE, table);
	nl_put_u32(&req, RTA_OIF, t->index);
	nl_put(&req, RTA_DST, net, addr_len(family));
	if (metric)
		nl_put_u32(&req, RTA_PRIORITY, metric);
	if (prefsrc)
		nl_put(&req, RTA_PREFSRC, prefsrc, addr_len(family));
	error = nl_talk(&t->nl, &req);
	return error == -EEXIST ? 0 : error;
}

static int address_set_up(struct tap *t, const struct tap_addr *a, char *err)
{
	int error = address_add(t, a, IFA_F_NOPREFIXROUTE, err);

	if (error)
		return error;
	error = rule_talk(t, RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, a);
	if (error)
		return tap_fail_nl(t, err, error, "policy rule");
	t->n_rules = (unsigned int)(a - t->owned) + 1;
	if (a->prefix_len == addr_bits(a->family))
		return 0;
	error = link_route_add(t, a->family, a->addr, a->prefix_len, t->table,
			       0, NULL);
	if (!error)
		error = link_route_add(t, a->family, a->addr, a->prefix_len,
				       RT_TABLE_MAIN, MAIN_METRIC, a->addr);
	return error ? tap_fail_nl(t, err, error, "route of the prefix") : 0;
}

static int link_local_set_up(struct tap *t, char *err)
{
	struct tap_addr *a = &t->owned[t->n_owned];
	int error;

	for (unsigned int i = 0; i < t->n_owned; i++) {
		if (is_link_local(&t->owned[i]))
			return 0;
	}
	memset(a, 0, sizeof(*a));
	a->family = AF_INET6;
	a->prefix_len = 64;
	a->addr[0] = 0xfe;
	a->addr[1] = 0x80;
	if (getrandom(a->addr + 8, 8, 0) != 8)
		return tap_fail(err, -errno, "no random numbers: %s",
				strerror(errno));
	a->addr[8] &= 0xfd; /* not an address that anybody assigned */
	error = address_add(t, a, 0, err);
	if (!error)
		t->n_owned++;
	return error;
}

/* ---- the NIC's routes in our table --------------------------------------- */

/* Routes to link-local and multicast addresses belong to one interface. */
static bool is_local_scope(const struct nlmsghdr *msg)
{
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(msg);
	const uint8_t *dst;
	struct nl_attrs attrs;

	nl_parse(msg, sizeof(*rtm), &attrs);
	if (rtm->rtm_family != AF_INET6 || !attrs.at[RTA_DST] ||
	    mnl_attr_get_payload_len(attrs.at[RTA_DST]) != 16)
		return false;
	dst = mnl_attr_get_payload(attrs.at[RTA_DST]);
	return dst[0] == 0xff || (dst[0] == 0xfe && (dst[1] & 0xc0) == 0x80);
}

static bool nic_route_wanted(const struct nlmsghdr *msg, void *arg)
{
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(msg);
	const struct tap *t = arg;

	return mnl_nlmsg_get_payload_len(msg) >= sizeof(*rtm) &&
	       rtm->rtm_type == RTN_UNICAST &&
	       !(rtm->rtm_flags & RTM_F_CLONED) &&
	       route_table(msg) == RT_TABLE_MAIN &&
	       route_uses(msg, t->nic_index) && !is_local_scope(msg);
}

/* IPv6: a gateway is on the link. Link-local ones go without saying. */
static int gateway_reach(struct tap *t, const struct nlattr *attr)
{
	const uint8_t *gw = attr ? mnl_attr_get_payload(attr) : NULL;

	if (!gw || mnl_attr_get_payload_len(attr) != 16 ||
	    (gw[0] == 0xfe && (gw[1] & 0xc0) == 0x80))
		return 0;
	return link_route_add(t, AF_INET6, gw, 128, t->table, 0, NULL);
}

static int gateways_reach(struct tap *t, const struct nlmsghdr *msg)
{
	const struct rtnexthop *hop;
	const struct nlattr *attr;
	struct nl_attrs attrs;
	int error, left;

	nl_parse(msg, sizeof(struct rtmsg), &attrs);
	error = gateway_reach(t, attrs.at[RTA_GATEWAY]);
	if (error || !attrs.at[RTA_MULTIPATH])
		return error;
	hop = mnl_attr_get_payload(attrs.at[RTA_MULTIPATH]);
	left = mnl_attr_get_payload_len(attrs.at[RTA_MULTIPATH]);
	while (route_hop_ok(hop, left) && !error) {
		size_t len = hop->rtnh_len - sizeof(*hop);

		mnl_attr_for_each_payload((const struct nlattr *)(hop + 1), len)
		{
			if (mnl_attr_get_type(attr) == RTA_GATEWAY && !error &&
			    (unsigned int)hop->rtnh_ifindex == t->nic_index)
				error = gateway_reach(t, attr);
		}
		left -= (int)RTNH_ALIGN(hop->rtnh_len);
		hop = RTNH_NEXT(hop);
	}
	return error;
}

static int nic_routes_copy(struct tap *t, int family, char *err)
{
	struct route_edit edit = {.from = t->nic_index,
				  .to = t->index,
				  .table = t->table,
				  .drop_prefsrc = true,
				  .onlink = family == AF_INET,
				  .plain = true,
				  .forever = true};
	struct nl_list list = {0};
	int error;

	error = nl_collect(&t->nl, RTM_GETROUTE, (uint8_t)family,
			   nic_route_wanted, t, &list);
	for (size_t i = 0; i < list.n && !error && family == AF_INET6; i++)
		error = gateways_reach(t, list.msg[i]);
	if (!error)
		error = route_install(&t->nl, &list, &edit);
	nl_list_free(&list);
	return error ? tap_fail_nl(t, err, error, "copy of the NIC's routes")
		     : 0;
}

int service_set_up(struct tap *t, char *err)
{
	unsigned int n = t->n_owned;
	int error = table_pick(t, err);

	for (unsigned int i = 0; i < n && !error; i++)
		error = address_set_up(t, &t->owned[i], err);
	if (!error && tap_owns_family(t, AF_INET6))
		error = link_local_set_up(t, err);
	if (!error && tap_owns_family(t, AF_INET))
		error = nic_routes_copy(t, AF_INET, err);
	if (!error && tap_owns_family(t, AF_INET6))
		error = nic_routes_copy(t, AF_INET6, err);
	return error;
}

void service_undo(struct tap *t)
{
	while (t->n_rules > 0)
		rule_talk(t, RTM_DELRULE, 0, &t->owned[--t->n_rules]);
}
