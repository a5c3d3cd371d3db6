// SPDX-License-Identifier: BSD-2-Clause
/*
 * takeover.c - the NIC's addresses and routes on the TAP, and back (--takeover)
 *
 * What is moved: every address of the NIC, link-local ones included, and every
 * route in any table but "local" that leaves through it. Both are kept as the
 * messages that the kernel dumped. Moving is: addresses onto the TAP, routes
 * and addresses off the NIC, routes onto the TAP. Going back, after the TAP is
 * gone: addresses onto the NIC, routes that came with them but were not there
 * before off, saved routes on.
 *
 * Order. Linux lists IPv4 addresses as they were added (the first of a subnet
 * is its primary), IPv6 addresses of one scope the other way round; so IPv6
 * ones are added last to first. Routes go in as they were dumped.
 * Lifetimes and expiries go on counting while the service runs: the time that
 * passed is subtracted, except on the TAP for what a router advertised, since
 * advertisements (to all nodes, so never for an owned address alone) don't
 * reach the TAP and could not prolong it. Flags that Linux computes (permanent,
 * tentative, deprecated, secondary, temporary, stable-privacy) are not sent
 * back. IPv6 addresses go back without duplicate address detection, they never
 * left this host: added with "nodad", which is then taken off.
 *
 * Meanwhile the NIC must not get addresses by itself: addr_gen_mode none keeps
 * it from making a link-local one when its link comes back, accept_ra=0 from
 * making others. accept_ra can't be set by netlink, hence the write to /proc.
 * A DHCP client that goes on running on the NIC is not held back.
 *
 * State: addrs, routes and the two settings in struct tap, written by
 * takeover_save(). Bounded by TAP_MAX_ADDRS and the NIC's routes.
 */
#include "tap/private.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FOREVER UINT32_MAX

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static uint32_t elapsed_s(const struct tap *t)
{
	return (uint32_t)((now_ms() - t->saved_ms) / 1000);
}

/* ---- two settings of the NIC --------------------------------------------- */

static int accept_ra_open(const struct tap *t, int flags)
{
	char path[64 + IF_NAMESIZE];

	snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/accept_ra",
		 t->nic);
	return open(path, flags | O_CLOEXEC);
}

static int accept_ra_get(const struct tap *t)
{
	int fd = accept_ra_open(t, O_RDONLY), value = -1;
	char text[16] = "";

	if (fd < 0)
		return -1;
	if (read(fd, text, sizeof(text) - 1) > 0)
		value = atoi(text);
	close(fd);
	return value;
}

static int accept_ra_set(const struct tap *t, int value)
{
	int fd = accept_ra_open(t, O_WRONLY), error = 0;

	if (fd < 0)
		return -errno;
	if (dprintf(fd, "%d\n", value) < 0)
		error = -errno;
	close(fd);
	return error;
}

/* IFLA_AF_SPEC { AF_INET6 { IFLA_INET6_ADDR_GEN_MODE } } of a link message. */
static int addr_gen_mode_of(const struct nlmsghdr *msg)
{
	const struct nlattr *family, *attr;
	struct nl_attrs attrs;

	nl_parse(msg, sizeof(struct ifinfomsg), &attrs);
	if (!attrs.at[IFLA_AF_SPEC])
		return -1;
	mnl_attr_for_each_nested(family, attrs.at[IFLA_AF_SPEC])
	{
		if (mnl_attr_get_type(family) != AF_INET6)
			continue;
		mnl_attr_for_each_nested(attr, family)
		{
			if (mnl_attr_get_type(attr) ==
				    IFLA_INET6_ADDR_GEN_MODE &&
			    mnl_attr_validate(attr, MNL_TYPE_U8) >= 0)
				return mnl_attr_get_u8(attr);
		}
	}
	return -1;
}

static int addr_gen_mode_get(struct tap *t)
{
	struct nl_list answer = {0};
	struct nl_req req;
	int mode = -1;

	nl_start(&req, RTM_GETLINK, 0, sizeof(struct ifinfomsg));
	((struct ifinfomsg *)req.body)->ifi_index = (int)t->nic_index;
	if (nl_ask(&t->nl, &req, &answer) == 0 && answer.n)
		mode = addr_gen_mode_of(answer.msg[0]);
	nl_list_free(&answer);
	return mode;
}

static int addr_gen_mode_set(struct tap *t, int mode)
{
	struct nlattr *spec, *family;
	struct nl_req req;

	nl_start(&req, RTM_NEWLINK, 0, sizeof(struct ifinfomsg));
	((struct ifinfomsg *)req.body)->ifi_index = (int)t->nic_index;
	spec = mnl_attr_nest_start(req.hdr, IFLA_AF_SPEC);
	family = mnl_attr_nest_start(req.hdr, AF_INET6);
	mnl_attr_put_u8(req.hdr, IFLA_INET6_ADDR_GEN_MODE, (uint8_t)mode);
	mnl_attr_nest_end(req.hdr, family);
	mnl_attr_nest_end(req.hdr, spec);
	return nl_talk(&t->nl, &req);
}

/* ---- save ---------------------------------------------------------------- */

static bool address_wanted(const struct nlmsghdr *msg, void *arg)
{
	const struct ifaddrmsg *ifa = mnl_nlmsg_get_payload(msg);
	const struct tap *t = arg;

	return mnl_nlmsg_get_payload_len(msg) >= sizeof(*ifa) &&
	       ifa->ifa_index == t->nic_index &&
	       (ifa->ifa_family == AF_INET || ifa->ifa_family == AF_INET6);
}

static bool route_wanted(const struct nlmsghdr *msg, void *arg)
{
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(msg);
	const struct tap *t = arg;

	return mnl_nlmsg_get_payload_len(msg) >= sizeof(*rtm) &&
	       (rtm->rtm_family == AF_INET || rtm->rtm_family == AF_INET6) &&
	       !(rtm->rtm_flags & RTM_F_CLONED) &&
	       route_table(msg) != RT_TABLE_LOCAL &&
	       route_uses(msg, t->nic_index);
}

static void owned_note(struct tap *t, const struct nlmsghdr *msg)
{
	const struct ifaddrmsg *ifa = mnl_nlmsg_get_payload(msg);
	struct tap_addr *a = &t->owned[t->n_owned];
	const struct nlattr *attr;
	struct nl_attrs attrs;

	nl_parse(msg, sizeof(*ifa), &attrs);
	attr = attrs.at[IFA_LOCAL] ? attrs.at[IFA_LOCAL]
				   : attrs.at[IFA_ADDRESS];
	if (!attr || mnl_attr_get_payload_len(attr) > sizeof(a->addr))
		return;
	memset(a, 0, sizeof(*a));
	a->family = ifa->ifa_family;
	a->prefix_len = ifa->ifa_prefixlen;
	memcpy(a->addr, mnl_attr_get_payload(attr),
	       mnl_attr_get_payload_len(attr));
	t->n_owned++;
}

int takeover_save(struct tap *t, char *err)
{
	static const uint8_t families[] = {AF_INET, AF_INET6};
	int error = 0;

	t->saved_ms = now_ms();
	for (size_t i = 0; i < 2 && !error; i++) {
		error = nl_collect(&t->nl, RTM_GETADDR, families[i],
				   address_wanted, t, &t->addrs);
		if (!error)
			error = nl_collect(&t->nl, RTM_GETROUTE, families[i],
					   route_wanted, t, &t->routes);
	}
	if (error)
		return tap_fail_nl(t, err, error, t->nic);
	if (t->addrs.n > TAP_MAX_ADDRS)
		return tap_fail(
			err, -E2BIG,
			"%s has more than %d addresses: name those for the service with --addr",
			t->nic, TAP_MAX_ADDRS);
	for (size_t i = 0; i < t->addrs.n; i++)
		owned_note(t, t->addrs.msg[i]);
	if (!t->n_owned)
		return tap_fail(
			err, -EADDRNOTAVAIL,
			"%s has no address to take over: give the service one with --addr A/LEN",
			t->nic);
	t->addr_gen_mode = addr_gen_mode_get(t);
	t->accept_ra = accept_ra_get(t);
	return 0;
}

/* ---- addresses ----------------------------------------------------------- */

struct addr_edit {
	unsigned int ifindex;
	uint32_t add_flags;
	const char *from, *to; /* interface's name, for labels */
	bool forever;
	uint32_t elapsed_s;
};

/* Those that may be set; Linux computes the others. */
static uint32_t settable_flags(const struct nlmsghdr *msg)
{
	const struct ifaddrmsg *ifa = mnl_nlmsg_get_payload(msg);
	uint32_t flags, can = IFA_F_NOPREFIXROUTE | IFA_F_MCAUTOJOIN;
	struct nl_attrs attrs;

	nl_parse(msg, sizeof(*ifa), &attrs);
	flags = nl_u32(&attrs, IFA_FLAGS, ifa->ifa_flags);
	if (ifa->ifa_family == AF_INET6)
		can |= IFA_F_NODAD | IFA_F_HOMEADDRESS | IFA_F_MANAGETEMPADDR;
	return flags & can;
}

static uint32_t lifetime_left(uint32_t seconds, uint32_t elapsed)
{
	if (seconds == FOREVER)
		return FOREVER;
	return seconds > elapsed ? seconds - elapsed : 0;
}

static void put_lifetime(struct nl_req *req, const struct nlattr *attr,
			 const struct addr_edit *edit)
{
	struct ifa_cacheinfo ci;

	if (mnl_attr_get_payload_len(attr) < sizeof(ci) || edit->forever)
		return;
	memcpy(&ci, mnl_attr_get_payload(attr), sizeof(ci));
	ci.ifa_valid = lifetime_left(ci.ifa_valid, edit->elapsed_s);
	ci.ifa_prefered = lifetime_left(ci.ifa_prefered, edit->elapsed_s);
	if (!ci.ifa_valid)
		ci.ifa_valid = 1; /* so that it ends as any other does */
	nl_put(req, IFA_CACHEINFO, &ci, sizeof(ci));
}

/* NIC:x becomes TAP:x; a label that fits no more is left out. */
static void put_label(struct nl_req *req, const char *label,
		      const struct addr_edit *edit)
{
	size_t len = strlen(edit->from);
	char text[2 * IF_NAMESIZE];

	if (!strncmp(label, edit->from, len))
		snprintf(text, sizeof(text), "%s%s", edit->to, label + len);
	else
		snprintf(text, sizeof(text), "%s", label);
	if (strlen(text) < IF_NAMESIZE)
		nl_put(req, IFA_LABEL, text, strlen(text) + 1);
}

static void addr_build(struct nl_req *req, uint16_t type, uint16_t flags,
		       const struct nlmsghdr *msg, const struct addr_edit *edit)
{
	struct ifaddrmsg *ifa;
	const struct nlattr *attr;

	nl_start(req, type, flags, sizeof(*ifa));
	ifa = req->body;
	*ifa = *(const struct ifaddrmsg *)mnl_nlmsg_get_payload(msg);
	ifa->ifa_index = edit->ifindex;
	ifa->ifa_flags = 0;
	nl_put_u32(req, IFA_FLAGS, settable_flags(msg) | edit->add_flags);
	mnl_attr_for_each(attr, msg, sizeof(*ifa))
	{
		switch (mnl_attr_get_type(attr)) {
		case IFA_LOCAL:
		case IFA_ADDRESS:
		case IFA_BROADCAST:
		case IFA_ANYCAST:
		case IFA_RT_PRIORITY:
		case IFA_PROTO:
			nl_put_copy(req, attr);
			break;
		case IFA_LABEL:
			if (mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0)
				put_label(req, mnl_attr_get_str(attr), edit);
			break;
		case IFA_CACHEINFO:
			put_lifetime(req, attr, edit);
			break;
		default:
			break;
		}
	}
}

static bool is_ip6(const struct nlmsghdr *msg)
{
	const struct ifaddrmsg *ifa = mnl_nlmsg_get_payload(msg);

	return ifa->ifa_family == AF_INET6;
}

static int address_add(struct tap *t, const struct nlmsghdr *msg,
		       struct addr_edit *edit)
{
	struct nl_req req;
	int error;

	edit->add_flags = is_ip6(msg) ? IFA_F_NODAD : 0;
	addr_build(&req, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, msg, edit);
	error = nl_talk(&t->nl, &req);
	if (error || !edit->add_flags || (settable_flags(msg) & IFA_F_NODAD) ||
	    edit->ifindex != t->nic_index)
		return error;
	/* Back home: it is in place; now without the flag. */
	edit->add_flags = 0;
	addr_build(&req, RTM_NEWADDR, NLM_F_REPLACE, msg, edit);
	return nl_talk(&t->nl, &req);
}

/* All of them, in the order that gives the NIC's order. */
static int addresses_add(struct tap *t, struct addr_edit *edit)
{
	bool ra = t->accept_ra > 0 && edit->ifindex != t->nic_index;
	int error, result = 0;

	for (size_t i = 0; i < t->addrs.n; i++) {
		if (is_ip6(t->addrs.msg[i]))
			continue;
		edit->forever = false;
		error = address_add(t, t->addrs.msg[i], edit);
		result = result ? result : error;
	}
	for (size_t i = t->addrs.n; i-- > 0;) {
		if (!is_ip6(t->addrs.msg[i]))
			continue;
		edit->forever = ra;
		error = address_add(t, t->addrs.msg[i], edit);
		result = result ? result : error;
	}
	return result;
}

static int addresses_remove(struct tap *t)
{
	struct addr_edit edit = {
		.ifindex = t->nic_index, .from = t->nic, .to = t->nic};
	struct nl_req req;
	int error;

	/* Last to first: secondary addresses before their primary. */
	for (size_t i = t->addrs.n; i-- > 0;) {
		addr_build(&req, RTM_DELADDR, 0, t->addrs.msg[i], &edit);
		error = nl_talk(&t->nl, &req);
		if (error && error != -EADDRNOTAVAIL)
			return error;
	}
	return 0;
}

/* ---- routes -------------------------------------------------------------- */

static int route_remove(struct tap *t, const struct nlmsghdr *msg)
{
	const struct route_edit same = {.from = t->nic_index,
					.to = t->nic_index};
	struct nl_req req;
	int error;

	route_build(&req, RTM_DELROUTE, 0, msg, &same);
	error = nl_talk(&t->nl, &req);
	return error == -ESRCH ? 0 : error;
}

/* The same route, whatever its age? */
static bool route_equal(const struct nlmsghdr *a, const struct nlmsghdr *b)
{
	const struct route_edit ageless = {.forever = true};
	struct nl_req ra, rb;

	route_build(&ra, RTM_NEWROUTE, 0, a, &ageless);
	route_build(&rb, RTM_NEWROUTE, 0, b, &ageless);
	return ra.hdr->nlmsg_len == rb.hdr->nlmsg_len &&
	       !memcmp(ra.buf, rb.buf, ra.hdr->nlmsg_len);
}

static bool was_saved(const struct tap *t, const struct nlmsghdr *msg)
{
	for (size_t i = 0; i < t->routes.n; i++) {
		if (route_equal(t->routes.msg[i], msg))
			return true;
	}
	return false;
}

/* Routes that Linux made with the addresses and that were not there before. */
static int routes_remove_new(struct tap *t)
{
	static const uint8_t families[] = {AF_INET, AF_INET6};
	struct nl_list now = {0};
	int error = 0;

	for (size_t i = 0; i < 2 && !error; i++)
		error = nl_collect(&t->nl, RTM_GETROUTE, families[i],
				   route_wanted, t, &now);
	for (size_t i = 0; i < now.n && !error; i++) {
		if (!was_saved(t, now.msg[i]))
			error = route_remove(t, now.msg[i]);
	}
	nl_list_free(&now);
	return error;
}

/* ---- there and back ------------------------------------------------------ */

int takeover_move(struct tap *t, char *err)
{
	struct addr_edit addr = {
		.ifindex = t->index, .from = t->nic, .to = t->name};
	struct route_edit route = {.from = t->nic_index,
				   .to = t->index,
				   .plain = true,
				   .forever = t->accept_ra > 0};
	int error;

	t->moved = true;
	if (t->addr_gen_mode >= 0)
		addr_gen_mode_set(t, IN6_ADDR_GEN_MODE_NONE);
	if (t->accept_ra > 0)
		accept_ra_set(t, 0);
	error = addresses_add(t, &addr);
	if (error)
		return tap_fail_nl(t, err, error, "addresses onto the TAP");
	for (size_t i = t->routes.n; i-- > 0 && !error;)
		error = route_remove(t, t->routes.msg[i]);
	if (!error)
		error = addresses_remove(t);
	if (error)
		return tap_fail_nl(t, err, error, "addresses off the NIC");
	error = route_install(&t->nl, &t->routes, &route);
	return error ? tap_fail_nl(t, err, error, "routes onto the TAP") : 0;
}

int takeover_restore(struct tap *t, char *err)
{
	uint32_t elapsed = elapsed_s(t);
	struct addr_edit addr = {.ifindex = t->nic_index,
				 .from = t->nic,
				 .to = t->nic,
				 .elapsed_s = elapsed};
	struct route_edit route = {
		.from = t->nic_index, .to = t->nic_index, .elapsed_s = elapsed};
	int error, error2;

	if (!t->moved)
		return 0;
	t->moved = false;
	error = addresses_add(t, &addr);
	if (error)
		tap_fail_nl(t, err, error, "addresses back onto the NIC");
	routes_remove_new(t);
	error2 = route_install(&t->nl, &t->routes, &route);
	if (error2 && !error)
		tap_fail_nl(t, err, error2, "routes back onto the NIC");
	/* Linux forgot them with the last IPv4 address. */
	tap_neigh_put(t, t->nic_index);
	if (t->addr_gen_mode >= 0)
		addr_gen_mode_set(t, t->addr_gen_mode);
	if (t->accept_ra > 0)
		accept_ra_set(t, t->accept_ra);
	return error ? error : error2;
}

void takeover_free(struct tap *t)
{
	nl_list_free(&t->addrs);
	nl_list_free(&t->routes);
}
