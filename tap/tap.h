/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tap.h - the TAP device, the addresses it holds, and how all goes back
 *
 * Everything goes through rtnetlink with libmnl; no program is run. Called by
 * the guardian (the parent process) before the daemon starts and after it
 * ended, single-threaded; calls block for a netlink round trip. Functions
 * return 0 or -errno and leave a sentence that names the remedy in @err.
 */
#ifndef TAP_TAP_H
#define TAP_TAP_H

#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#define TAP_NAME "tas0"
#define TAP_ERR_MAX 256
#define TAP_MAX_ADDRS 64

struct tap_addr {
	int family; /* AF_INET, AF_INET6 */
	uint8_t prefix_len;
	uint8_t addr[16]; /* network byte order */
};

/* "10.0.0.5/24" or "2001:db8::5/64"; -EINVAL with a message. */
int tap_addr_parse(const char *text, struct tap_addr *addr, char *err);

struct tap_config {
	const char *nic;
	const char *name; /* TAP_NAME unless an option says otherwise */
	bool takeover;	  /* move all of the NIC's addresses and routes */
	struct tap_addr addrs[TAP_MAX_ADDRS]; /* without takeover */
	unsigned int n_addrs;
};

struct tap; /* opaque: descriptor, saved state */

/* Make the TAP with the NIC's MAC and MTU, bring it up, put the addresses on
 * it with rule and routes, or move the NIC's. On failure everything is as it
 * was. */
int tap_setup(const struct tap_config *cfg, struct tap **tap, char *err);
/* Undo all of tap_setup(), as far as the kernel lets it, and free @tap. */
int tap_restore(struct tap *tap, char *err);

int tap_fd(const struct tap *tap); /* non-blocking, one frame a read/write */
unsigned int tap_nic_index(const struct tap *tap);
unsigned int tap_nic_mtu(const struct tap *tap);
/* The addresses that the service owns now. */
unsigned int tap_owned(const struct tap *tap, const struct tap_addr **addrs);

#endif
