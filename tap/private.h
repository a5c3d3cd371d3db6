/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * private.h - what the files of tap/ share
 */
#ifndef TAP_PRIVATE_H
#define TAP_PRIVATE_H

#include "tap/netlink.h"
#include "tap/tap.h"

#include <net/ethernet.h>

/* tap_addr rows: the service's own plus a link-local one (service.c). */
#define TAP_MAX_OWNED (TAP_MAX_ADDRS + 1)

struct tap {
	struct nl nl;
	int fd; /* of the TAP device, -1: none */
	char nic[IF_NAMESIZE];
	char name[IF_NAMESIZE];
	unsigned int nic_index;
	unsigned int index; /* 0: no TAP device yet */
	unsigned int mtu;
	uint8_t mac[ETH_ALEN];
	bool takeover;
	struct nl_list neighs; /* RTM_NEWNEIGH: the NIC's permanent ones */
	struct tap_addr owned[TAP_MAX_OWNED];
	unsigned int n_owned;

	/* service.c */
	uint32_t table;	      /* our routing table, 0: none yet */
	unsigned int n_rules; /* rules exist for owned[0 .. n_rules - 1] */

	/* takeover.c */
	bool moved;	       /* the NIC was touched */
	struct nl_list addrs;  /* RTM_NEWADDR as dumped from the NIC */
	struct nl_list routes; /* RTM_NEWROUTE, likewise */
	uint64_t saved_ms;     /* when they were dumped, CLOCK_MONOTONIC */
	int addr_gen_mode;     /* of the NIC before, -1: no IPv6 */
	int accept_ra;	       /* likewise */
};

/* Put a sentence into @err; returns @error. */
int tap_fail(char *err, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* As tap_fail(): what was tried, and what the kernel says to it. */
int tap_fail_nl(const struct tap *t, char *err, int error, const char *what);
bool tap_owns_family(const struct tap *t, int family);
/* Put the NIC's permanent neighbours on interface @ifindex, those of families
 * that the service owns addresses of. */
int tap_neigh_put(struct tap *t, unsigned int ifindex);
const char *tap_addr_text(const struct tap_addr *addr, char *buf, size_t len);

/* ---- tap/service.c: addresses of the service's own ----------------------- */

int service_check(struct tap *t, char *err);
int service_set_up(struct tap *t, char *err);
void service_undo(struct tap *t);

/* ---- tap/takeover.c: the NIC's addresses --------------------------------- */

int takeover_save(struct tap *t, char *err);
int takeover_move(struct tap *t, char *err);
int takeover_restore(struct tap *t, char *err);
void takeover_free(struct tap *t);

/* ---- tap/route.c: copies of routes --------------------------------------- */

/* How a copy of a dumped route differs from the original. */
struct route_edit {
	unsigned int from, to; /* interface to replace */
	uint32_t table;	       /* 0: keep */
	bool drop_prefsrc;
	bool onlink;  /* IPv4 gateways: on the link, whatever the table says */
	bool plain;   /* write out what a nexthop object stands for */
	bool forever; /* no expiry */
	uint32_t elapsed_s; /* to subtract from the expiry */
};

/* The hop at @hop is whole, @left bytes being there. */
bool route_hop_ok(const struct rtnexthop *hop, int left);
bool route_uses(const struct nlmsghdr *msg, unsigned int ifindex);
uint32_t route_table(const struct nlmsghdr *msg);
void route_build(struct nl_req *req, uint16_t type, uint16_t flags,
		 const struct nlmsghdr *msg, const struct route_edit *edit);
/* Install all of @list, in its order as far as gateways allow. */
int route_install(struct nl *nl, const struct nl_list *list,
		  const struct route_edit *edit);

#endif
