// SPDX-License-Identifier: BSD-2-Clause
/*
 * route.c - copies of routes: another interface, another table, later again
 *
 * Read first: rtnetlink(7). A dumped RTM_NEWROUTE message is the kernel's whole
 * description of a route; sending its attributes back makes it again. Except:
 *
 *   RTA_OIF, RTA_MULTIPATH   name interfaces, which the copy may change
 *   RTA_CACHEINFO            is read-only; its expiry goes back as RTA_EXPIRES
 *   RTA_NH_ID                stands for interface and gateway, which the kernel
 *                            also writes out; only one of the two is sent
 *   rtm_flags                mixes state (dead, linkdown, offload) with the one
 *                            flag that is configuration: onlink
 *
 * A route with a gateway is accepted only when the gateway is reachable, so a
 * list is installed in several passes over what was refused for that.
 *
 * State: none.
 */
#include "tap/private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct rtmsg *route_body(const struct nlmsghdr *msg)
{
	return mnl_nlmsg_get_payload(msg);
}

uint32_t route_table(const struct nlmsghdr *msg)
{
	struct nl_attrs attrs;

	nl_parse(msg, sizeof(struct rtmsg), &attrs);
	return nl_u32(&attrs, RTA_TABLE, route_body(msg)->rtm_table);
}

/* RTNH_OK reads its length before it looks. */
bool route_hop_ok(const struct rtnexthop *hop, int left)
{
	return left >= (int)sizeof(*hop) && RTNH_OK(hop, left);
}

static bool hops_use(const struct nlattr *multipath, unsigned int ifindex)
{
	const char *p = mnl_attr_get_payload(multipath);
	int left = mnl_attr_get_payload_len(multipath);
	const struct rtnexthop *hop = (const void *)p;

	while (route_hop_ok(hop, left)) {
		if ((unsigned int)hop->rtnh_ifindex == ifindex)
			return true;
		left -= (int)RTNH_ALIGN(hop->rtnh_len);
		hop = RTNH_NEXT(hop);
	}
	return false;
}

bool route_uses(const struct nlmsghdr *msg, unsigned int ifindex)
{
	struct nl_attrs attrs;

	nl_parse(msg, sizeof(struct rtmsg), &attrs);
	if (nl_u32(&attrs, RTA_OIF, 0) == ifindex)
		return true;
	return attrs.at[RTA_MULTIPATH] &&
	       hops_use(attrs.at[RTA_MULTIPATH], ifindex);
}

static unsigned int edit_interface(const struct route_edit *edit,
				   unsigned int ifindex)
{
	return ifindex == edit->from ? edit->to : ifindex;
}

static void put_hops(struct nl_req *req, const struct nlattr *attr,
		     const struct route_edit *edit)
{
	_Alignas(8) char copy[NL_REQ_MAX];
	size_t len = mnl_attr_get_payload_len(attr);
	int left = (int)len;
	struct rtnexthop *hop = (void *)copy;

	if (len > sizeof(copy)) {
		req->overflow = true;
		return;
	}
	memcpy(copy, mnl_attr_get_payload(attr), len);
	while (route_hop_ok(hop, left)) {
		hop->rtnh_ifindex = (int)edit_interface(
			edit, (unsigned int)hop->rtnh_ifindex);
		hop->rtnh_flags &= RTNH_F_ONLINK;
		if (edit->onlink)
			hop->rtnh_flags |= RTNH_F_ONLINK;
		left -= (int)RTNH_ALIGN(hop->rtnh_len);
		hop = RTNH_NEXT(hop);
	}
	nl_put(req, RTA_MULTIPATH, copy, len);
}

static void put_expiry(struct nl_req *req, const struct nlattr *attr,
		       const struct route_edit *edit)
{
	const struct rta_cacheinfo *ci = mnl_attr_get_payload(attr);
	long hz = sysconf(_SC_CLK_TCK);
	long seconds;

	if (mnl_attr_get_payload_len(attr) < sizeof(*ci) || edit->forever ||
	    ci->rta_expires <= 0 || hz <= 0)
		return;
	seconds = ci->rta_expires / hz - (long)edit->elapsed_s;
	nl_put_u32(req, RTA_EXPIRES, seconds > 0 ? (uint32_t)seconds : 1);
}

static void put_attr(struct nl_req *req, const struct nlattr *attr,
		     bool by_object, const struct route_edit *edit)
{
	switch (mnl_attr_get_type(attr)) {
	case RTA_TABLE:
		if (mnl_attr_validate(attr, MNL_TYPE_U32) < 0)
			break;
		nl_put_u32(req, RTA_TABLE,
			   edit->table ? edit->table : mnl_attr_get_u32(attr));
		break;
	case RTA_CACHEINFO:
		put_expiry(req, attr, edit);
		break;
	case RTA_PREFSRC:
		if (!edit->drop_prefsrc)
			nl_put_copy(req, attr);
		break;
	case RTA_NH_ID:
		if (by_object)
			nl_put_copy(req, attr);
		break;
	case RTA_OIF:
		if (!by_object && mnl_attr_validate(attr, MNL_TYPE_U32) >= 0)
			nl_put_u32(
				req, RTA_OIF,
				edit_interface(edit, mnl_attr_get_u32(attr)));
		break;
	case RTA_MULTIPATH:
		if (!by_object)
			put_hops(req, attr, edit);
		break;
	case RTA_GATEWAY:
	case RTA_VIA:
	case RTA_FLOW:
	case RTA_ENCAP:
	case RTA_ENCAP_TYPE:
		if (!by_object)
			nl_put_copy(req, attr);
		break;
	default:
		nl_put_copy(req, attr);
	}
}

void route_build(struct nl_req *req, uint16_t type, uint16_t flags,
		 const struct nlmsghdr *msg, const struct route_edit *edit)
{
	const struct rtmsg *from = route_body(msg);
	const struct nlattr *attr;
	struct nl_attrs attrs;
	struct rtmsg *rtm;
	bool by_object;

	nl_parse(msg, sizeof(*from), &attrs);
	by_object = attrs.at[RTA_NH_ID] && !edit->plain;
	nl_start(req, type, flags, sizeof(*rtm));
	rtm = req->body;
	*rtm = *from;
	rtm->rtm_flags &= by_object ? 0 : RTNH_F_ONLINK;
	if (edit->onlink && (attrs.at[RTA_GATEWAY] || attrs.at[RTA_VIA]))
		rtm->rtm_flags |= RTNH_F_ONLINK;
	if (edit->table)
		rtm->rtm_table = RT_TABLE_UNSPEC;
	mnl_attr_for_each(attr, msg, sizeof(*from))
		put_attr(req, attr, by_object, edit);
}

static int install_one(struct nl *nl, const struct nlmsghdr *msg,
		       const struct route_edit *edit)
{
	/* IPv4 may hold equal routes one behind the other; for IPv6 "append"
	 * would make one multipath route of them. */
	uint16_t flags = NLM_F_CREATE;
	struct nl_req req;
	int error;

	if (route_body(msg)->rtm_family == AF_INET)
		flags |= NLM_F_APPEND;
	route_build(&req, RTM_NEWROUTE, flags, msg, edit);
	error = nl_talk(nl, &req);
	return error == -EEXIST ? 0 : error;
}

/* Perhaps the kernel takes it when another route is in. */
static bool worth_another_try(int error)
{
	return error == -ENETUNREACH || error == -EHOSTUNREACH ||
	       error == -EINVAL;
}

int route_install(struct nl *nl, const struct nl_list *list,
		  const struct route_edit *edit)
{
	bool *done = calloc(list->n + 1, sizeof(*done));
	bool progress = true;
	int result = 0;

	if (!done)
		return -ENOMEM;
	while (progress) {
		progress = false;
		for (size_t i = 0; i < list->n; i++) {
			int error;

			if (done[i])
				continue;
			error = install_one(nl, list->msg[i], edit);
			done[i] = !worth_another_try(error);
			progress |= !error;
			if (error && done[i])
				result = error;
		}
	}
	for (size_t i = 0; i < list->n && !result; i++) {
		if (!done[i])
			result = install_one(nl, list->msg[i], edit);
	}
	free(done);
	return result;
}
