/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * xdp.h - load, attach and detach the XDP program (user-space side)
 *
 * The object is embedded through a bpftool skeleton. Called by the guardian
 * before and after the daemon's life, and by the daemon to enter its sockets.
 * Functions return 0 or -errno and leave a sentence that names the remedy in
 * @err (XDP_ERR_MAX bytes).
 */
#ifndef BPF_XDP_H
#define BPF_XDP_H

#include <stdbool.h>
#include <stdint.h>

#define XDP_ERR_MAX 256

enum xdp_mode { XDP_MODE_AUTO, XDP_MODE_DRIVER, XDP_MODE_GENERIC };

struct xdp; /* opaque */

struct xdp_config {
	unsigned int ifindex;
	const char *ifname;
	enum xdp_mode mode;  /* AUTO: what is fastest on this NIC */
	bool one_queue;	     /* AUTO may choose a mode that knows one only */
	const char *pin_dir; /* for the filter map; NULL: /sys/fs/bpf/tas-xdp */
};

int xdp_attach(const struct xdp_config *cfg, struct xdp **xdp, char *err);
/* Detach, unpin, free. Safe in the parent after the child died. */
int xdp_release(struct xdp *xdp, char *err);
bool xdp_is_generic(const struct xdp *xdp); /* attached in generic mode */
int xdp_own(struct xdp *xdp, int family, const void *addr, bool own);
int xdp_set_socket(struct xdp *xdp, unsigned int queue, int xsk_fd);
/* Frames per enum steer_verdict, summed over CPUs. */
int xdp_verdicts(struct xdp *xdp, uint64_t *counts, unsigned int n);

#endif
