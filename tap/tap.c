// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap.c - the TAP device: made, dressed as the NIC, and taken away again
 *
 * Read first: the kernel's Documentation/networking/tuntap.rst, rtnetlink(7).
 *
 * The TAP is Linux's end of the wire for the addresses that the service owns.
 * It has the NIC's MAC, so that a frame can go from one to the other as it is,
 * and the NIC's MTU. It asks for no offloads: what Linux writes into it is a
 * frame with all checksums in place and no longer than the MTU. The device
 * lives as long as its descriptor; its addresses, routes and neighbours vanish
 * with it, so undoing means deleting it, the policy rules (service.c), and
 * giving the NIC back what was taken (takeover.c).
 *
 * The NIC and the TAP are two interfaces of one host on one link. What keeps
 * them apart: XDP takes every frame for an owned address, ARP and neighbour
 * discovery included, off the NIC before Linux sees it there, and the policy
 * rule or the moved routes send what comes from an owned address out of the
 * TAP. So default sysctls do: the NIC could answer an ARP request for an owned
 * address (arp_ignore=0) only while XDP is off, and would give the same MAC.
 * With rp_filter=1 the reverse path of a frame that came in on the TAP is
 * looked up with the owned address as source: the rule leads it to the TAP as
 * well. arp_announce=2 makes the TAP ask with an address of its own, because an
 * answer to any other one would not come back to it.
 *
 * The NIC's permanent neighbour entries are copied to the TAP: whoever pinned
 * the gateway's MAC means it for the addresses of the service too.
 *
 * State: struct tap, the guardian's.
 */
#include "tap/private.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/ip.h>
#include <linux/neighbour.h>
#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* A frame that AF_XDP can carry in one 4 KiB buffer: page less headroom (256)
 * and skb_shared_info (320), less the Ethernet header and a VLAN tag. */
#define MTU_MAX 3498u
#define MTU_MIN 576u
#define TX_QUEUE_LEN 4096u

int tap_fail(char *err, int error, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(err, TAP_ERR_MAX, format, ap);
	va_end(ap);
	return error;
}

int tap_fail_nl(const struct tap *t, char *err, int error, const char *what)
{
	if (error == -EPERM || error == -EACCES)
		return tap_fail(
			err, error,
			"%s: no permission: run as root, or with CAP_NET_ADMIN",
			what);
	return tap_fail(err, error, "%s: %s%s%s", what, strerror(-error),
			t->nl.said[0] ? ": " : "", t->nl.said);
}

/* ---- addresses as text --------------------------------------------------- */

const char *tap_addr_text(const struct tap_addr *addr, char *buf, size_t len)
{
	char text[INET6_ADDRSTRLEN] = "?";

	inet_ntop(addr->family, addr->addr, text, sizeof(text));
	snprintf(buf, len, "%s", text);
	return buf;
}

/* Why @a can't be an address of a service's own; NULL: it can. */
static const char *unusable4(const struct tap_addr *a)
{
	uint32_t ip, host_bits;

	memcpy(&ip, a->addr, 4);
	ip = ntohl(ip);
	if (ip >> 24 == 0 || ip >> 24 == 127 || ip >= 0xe0000000)
		return "is no unicast address";
	if (a->prefix_len >= 31)
		return NULL;
	host_bits = UINT32_MAX >> a->prefix_len;
	if ((ip & host_bits) == 0)
		return "is the address of the network, not of a host";
	if ((ip & host_bits) == host_bits)
		return "is the broadcast address of its network";
	return NULL;
}

static const char *unusable6(const struct tap_addr *a)
{
	struct in6_addr ip;

	memcpy(&ip, a->addr, 16);
	if (IN6_IS_ADDR_MULTICAST(&ip) || IN6_IS_ADDR_UNSPECIFIED(&ip) ||
	    IN6_IS_ADDR_LOOPBACK(&ip) || IN6_IS_ADDR_V4MAPPED(&ip))
		return "is no unicast address";
	return NULL;
}

static bool parse_length(const char *text, unsigned int max, uint8_t *length)
{
	unsigned long value;
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	value = strtoul(text, &end, 10);
	if (*end || end - text > 3 || value == 0 || value > max)
		return false;
	*length = (uint8_t)value;
	return true;
}

int tap_addr_parse(const char *text, struct tap_addr *addr, char *err)
{
	const char *slash = strchr(text, '/'), *why;
	char host[INET6_ADDRSTRLEN];
	size_t len = slash ? (size_t)(slash - text) : 0;

	memset(addr, 0, sizeof(*addr));
	if (!slash || len >= sizeof(host))
		goto bad;
	memcpy(host, text, len);
	host[len] = '\0';
	addr->family = strchr(host, ':') ? AF_INET6 : AF_INET;
	if (inet_pton(addr->family, host, addr->addr) != 1)
		goto bad;
	if (!parse_length(slash + 1, addr->family == AF_INET ? 32 : 128,
			  &addr->prefix_len))
		goto bad;
	why = addr->family == AF_INET ? unusable4(addr) : unusable6(addr);
	if (why)
		return tap_fail(err, -EINVAL, "%.64s %s", text, why);
	return 0;
bad:
	return tap_fail(
		err, -EINVAL,
		"\"%.64s\" is not an address with its prefix length, such as 10.0.0.5/24 or 2001:db8::5/64",
		text);
}

/* ---- the NIC ------------------------------------------------------------- */

static int nic_judge(struct tap *t, const struct nlmsghdr *msg, char *err)
{
	const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(msg);
	struct nl_attrs attrs;

	if (mnl_nlmsg_get_payload_len(msg) < sizeof(*ifi))
		return tap_fail_nl(t, err, -EBADMSG, t->nic);
	nl_parse(msg, sizeof(*ifi), &attrs);
	t->nic_index = (unsigned int)ifi->ifi_index;
	t->mtu = nl_u32(&attrs, IFLA_MTU, 0);
	if (ifi->ifi_type != ARPHRD_ETHER || !attrs.at[IFLA_ADDRESS] ||
	    mnl_attr_get_payload_len(attrs.at[IFLA_ADDRESS]) != ETH_ALEN)
		return tap_fail(
			err, -EOPNOTSUPP,
			"%s is not an Ethernet interface: name one with --nic",
			t->nic);
	memcpy(t->mac, mnl_attr_get_payload(attrs.at[IFLA_ADDRESS]), ETH_ALEN);
	if (!(ifi->ifi_flags & IFF_UP))
		return tap_fail(err, -ENETDOWN, "%s is down: ip link set %s up",
				t->nic, t->nic);
	if (t->mtu > MTU_MAX)
		return tap_fail(
			err, -EMSGSIZE,
			"the MTU of %s is %u, but AF_XDP carries at most %u: ip link set %s mtu %u",
			t->nic, t->mtu, MTU_MAX, t->nic, MTU_MAX);
	if (t->mtu < MTU_MIN)
		return tap_fail(
			err, -EMSGSIZE,
			"the MTU of %s is %u, too small for TCP: ip link set %s mtu 1500",
			t->nic, t->mtu, t->nic);
	return 0;
}

static int link_ask(struct tap *t, const char *name, struct nl_list *answer)
{
	struct nl_req req;

	nl_start(&req, RTM_GETLINK, 0, sizeof(struct ifinfomsg));
	nl_put(&req, IFLA_IFNAME, name, strlen(name) + 1);
	return nl_ask(&t->nl, &req, answer);
}

static int nic_read(struct tap *t, char *err)
{
	struct nl_list answer = {0};
	int error = link_ask(t, t->nic, &answer);

	if (error == -ENODEV)
		tap_fail(
			err, error,
			"there is no network interface %s: ip link shows those that exist",
			t->nic);
	else if (error || !answer.n)
		error = tap_fail_nl(t, err, error ? error : -ENODEV, t->nic);
	else
		error = nic_judge(t, answer.msg[0], err);
	nl_list_free(&answer);
	return error;
}

/* ---- the device ---------------------------------------------------------- */

static int device_fail(const struct tap *t, int error, char *err)
{
	switch (error) {
	case -EBUSY:
		return tap_fail(
			err, error,
			"an interface %s exists already: end what made it (another tas-xdp?), or choose another name with --tap",
			t->name);
	case -EPERM:
	case -EACCES:
		return tap_fail(
			err, error,
			"no permission to make a TAP device: run as root, or with CAP_NET_ADMIN");
	case -ENOENT:
	case -ENODEV:
	case -ENXIO:
		return tap_fail(err, error,
				"/dev/net/tun is missing: modprobe tun");
	default:
		return tap_fail(err, error, "TAP device %s: %s", t->name,
				strerror(-error));
	}
}

static int device_create(struct tap *t, char *err)
{
	struct ifreq ifr = {0};

	t->fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (t->fd < 0)
		return device_fail(t, -errno, err);
	memcpy(ifr.ifr_name, t->name, sizeof(t->name));
	/* Exclusive: never join a persistent device of somebody else's. */
	ifr.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_TUN_EXCL);
	if (ioctl(t->fd, TUNSETIFF, &ifr) < 0) {
		int error = -errno;

		close(t->fd);
		t->fd = -1;
		return device_fail(t, error, err);
	}
	t->index = if_nametoindex(t->name);
	return t->index ? 0 : device_fail(t, -errno, err);
}

static struct ifinfomsg *link_start(struct nl_req *req, unsigned int ifindex)
{
	struct ifinfomsg *ifi;

	nl_start(req, RTM_NEWLINK, 0, sizeof(*ifi));
	ifi = req->body;
	ifi->ifi_index = (int)ifindex;
	return ifi;
}

/* No link-local address by itself. Without IPv6 in the kernel: nothing to do.
 */
static void device_quiet_ip6(struct tap *t)
{
	struct nlattr *spec, *family;
	struct nl_req req;

	link_start(&req, t->index);
	spec = mnl_attr_nest_start(req.hdr, IFLA_AF_SPEC);
	family = mnl_attr_nest_start(req.hdr, AF_INET6);
	mnl_attr_put_u8(req.hdr, IFLA_INET6_ADDR_GEN_MODE,
			IN6_ADDR_GEN_MODE_NONE);
	mnl_attr_nest_end(req.hdr, family);
	mnl_attr_nest_end(req.hdr, spec);
	nl_talk(&t->nl, &req);
}

static int device_dress(struct tap *t, char *err)
{
	struct nlattr *spec, *family, *conf;
	struct ifinfomsg *ifi;
	struct nl_req req;
	int error;

	link_start(&req, t->index);
	nl_put(&req, IFLA_ADDRESS, t->mac, sizeof(t->mac));
	nl_put_u32(&req, IFLA_MTU, t->mtu);
	nl_put_u32(&req, IFLA_TXQLEN, TX_QUEUE_LEN);
	spec = mnl_attr_nest_start(req.hdr, IFLA_AF_SPEC);
	family = mnl_attr_nest_start(req.hdr, AF_INET);
	conf = mnl_attr_nest_start(req.hdr, IFLA_INET_CONF);
	mnl_attr_put_u32(req.hdr, IPV4_DEVCONF_ARP_ANNOUNCE, 2);
	mnl_attr_nest_end(req.hdr, conf);
	mnl_attr_nest_end(req.hdr, family);
	mnl_attr_nest_end(req.hdr, spec);
	error = nl_talk(&t->nl, &req);
	if (error)
		return tap_fail_nl(t, err, error, t->name);
	device_quiet_ip6(t);
	ifi = link_start(&req, t->index);
	ifi->ifi_flags = IFF_UP;
	ifi->ifi_change = IFF_UP;
	error = nl_talk(&t->nl, &req);
	return error ? tap_fail_nl(t, err, error, t->name) : 0;
}

static bool neigh_wanted(const struct nlmsghdr *msg, void *arg)
{
	const struct ndmsg *nd = mnl_nlmsg_get_payload(msg);
	const struct tap *t = arg;

	return mnl_nlmsg_get_payload_len(msg) >= sizeof(*nd) &&
	       (unsigned int)nd->ndm_ifindex == t->nic_index &&
	       (nd->ndm_state & NUD_PERMANENT) &&
	       !(nd->ndm_flags & NTF_PROXY) &&
	       (nd->ndm_family == AF_INET || nd->ndm_family == AF_INET6);
}

static int neigh_save(struct tap *t, char *err)
{
	int error = nl_collect(&t->nl, RTM_GETNEIGH, AF_UNSPEC, neigh_wanted, t,
			       &t->neighs);

	return error ? tap_fail_nl(t, err, error, "static neighbours") : 0;
}

bool tap_owns_family(const struct tap *t, int family)
{
	for (unsigned int i = 0; i < t->n_owned; i++) {
		if (t->owned[i].family == family)
			return true;
	}
	return false;
}

int tap_neigh_put(struct tap *t, unsigned int ifindex)
{
	struct nl_attrs attrs;
	struct nl_req req;
	struct ndmsg *nd;
	int error = 0;

	for (size_t i = 0; !error && i < t->neighs.n; i++) {
		nl_parse(t->neighs.msg[i], sizeof(*nd), &attrs);
		nd = mnl_nlmsg_get_payload(t->neighs.msg[i]);
		if (!attrs.at[NDA_DST] || !attrs.at[NDA_LLADDR] ||
		    !tap_owns_family(t, nd->ndm_family))
			continue;
		nl_start(&req, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE,
			 sizeof(*nd));
		nd = req.body;
		*nd = *(struct ndmsg *)mnl_nlmsg_get_payload(t->neighs.msg[i]);
		nd->ndm_ifindex = (int)ifindex;
		nl_put_copy(&req, attrs.at[NDA_DST]);
		nl_put_copy(&req, attrs.at[NDA_LLADDR]);
		error = nl_talk(&t->nl, &req);
	}
	return error;
}

static int neigh_copy(struct tap *t, char *err)
{
	int error = tap_neigh_put(t, t->index);

	return error ? tap_fail_nl(t, err, error, "static neighbours") : 0;
}

static int device_delete(struct tap *t, char *err)
{
	struct nl_req req;
	int error = 0;

	if (t->index) {
		nl_start(&req, RTM_DELLINK, 0, sizeof(struct ifinfomsg));
		((struct ifinfomsg *)req.body)->ifi_index = (int)t->index;
		error = nl_talk(&t->nl, &req);
		if (error == -ENODEV)
			error = 0;
		if (error)
			tap_fail_nl(t, err, error, t->name);
	}
	t->index = 0;
	if (t->fd >= 0)
		close(t->fd);
	t->fd = -1;
	return error;
}

/* ---- what tap/tap.h promises --------------------------------------------- */

static int config_check(const struct tap_config *cfg, char *err)
{
	if (strlen(cfg->nic) >= IF_NAMESIZE || !cfg->nic[0])
		return tap_fail(
			err, -ENODEV,
			"there is no network interface %.64s: ip link shows those that exist",
			cfg->nic);
	if (strlen(cfg->name) >= IF_NAMESIZE || !cfg->name[0] ||
	    strpbrk(cfg->name, "/%: "))
		return tap_fail(
			err, -EINVAL,
			"\"%.64s\" can't be an interface's name: at most 15 characters, none of / %% : and space",
			cfg->name);
	if (cfg->takeover && cfg->n_addrs)
		return tap_fail(err, -EINVAL,
				"--addr and --takeover exclude each other");
	if (!cfg->takeover && !cfg->n_addrs)
		return tap_fail(
			err, -EINVAL,
			"no address: give the service one with --addr A/LEN, or the NIC's with --takeover");
	if (cfg->n_addrs > TAP_MAX_ADDRS)
		return tap_fail(err, -E2BIG, "more than %d addresses",
				TAP_MAX_ADDRS);
	return 0;
}

static int set_up(struct tap *t, char *err)
{
	int error = nl_open(&t->nl);

	if (error)
		return tap_fail(err, error, "no netlink socket: %s",
				strerror(-error));
	error = nic_read(t, err);
	if (!error)
		error = neigh_save(t, err);
	if (!error)
		error = t->takeover ? takeover_save(t, err)
				    : service_check(t, err);
	if (!error)
		error = device_create(t, err);
	if (!error)
		error = device_dress(t, err);
	if (!error)
		error = t->takeover ? takeover_move(t, err)
				    : service_set_up(t, err);
	if (!error)
		error = neigh_copy(t, err);
	return error;
}

int tap_setup(const struct tap_config *cfg, struct tap **tap, char *err)
{
	char ignored[TAP_ERR_MAX];
	struct tap *t;
	int error;

	*tap = NULL;
	err[0] = '\0';
	error = config_check(cfg, err);
	if (error)
		return error;
	t = calloc(1, sizeof(*t));
	if (!t)
		return tap_fail(err, -ENOMEM, "out of memory");
	t->fd = -1;
	t->addr_gen_mode = t->accept_ra = -1;
	t->takeover = cfg->takeover;
	snprintf(t->nic, sizeof(t->nic), "%s", cfg->nic);
	snprintf(t->name, sizeof(t->name), "%s", cfg->name);
	memcpy(t->owned, cfg->addrs, cfg->n_addrs * sizeof(cfg->addrs[0]));
	t->n_owned = cfg->n_addrs;
	error = set_up(t, err);
	if (error) {
		tap_restore(t, ignored);
		return error;
	}
	*tap = t;
	return 0;
}

int tap_restore(struct tap *t, char *err)
{
	char first[TAP_ERR_MAX] = "";
	int error, error2;

	err[0] = '\0';
	if (!t)
		return 0;
	if (!t->takeover)
		service_undo(t);
	error = device_delete(t, first);
	error2 = takeover_restore(t, err);
	if (error && !error2)
		memcpy(err, first, sizeof(first));
	takeover_free(t);
	nl_list_free(&t->neighs);
	nl_close(&t->nl);
	free(t);
	return error2 ? error2 : error;
}

int tap_fd(const struct tap *t)
{
	return t->fd;
}

unsigned int tap_nic_index(const struct tap *t)
{
	return t->nic_index;
}

unsigned int tap_nic_mtu(const struct tap *t)
{
	return t->mtu;
}

unsigned int tap_owned(const struct tap *t, const struct tap_addr **addrs)
{
	*addrs = t->owned;
	return t->n_owned;
}
