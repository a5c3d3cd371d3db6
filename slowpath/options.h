/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * options.h - the command line of tas-xdp
 */
#ifndef SLOWPATH_OPTIONS_H
#define SLOWPATH_OPTIONS_H

#include "bpf/xdp.h"
#include "libsock/xts_proto.h"
#include "slowpath/log.h"
#include "tap/tap.h"

#define OPTIONS_MAX_FLOWS (1u << 20)
#define OPTIONS_MAX_APP_MEMORY 16384u /* MiB: LARGE_AREAS * LARGE_SIZE */

struct options {
	struct tap_config tap;	 /* NIC, TAP name, addresses */
	unsigned int queues;	 /* fast-path cores */
	int cpus[XTS_MAX_CORES]; /* of each core, -1: not pinned */
	unsigned int n_cpus;
	unsigned int spin_us;
	unsigned int flows;	/* each core's */
	uint64_t app_memory;	/* bytes of large buffers, each program's */
	const char *congestion; /* of all flows; NULL: each socket's own */
	enum xdp_mode mode;
	bool copy;	     /* no zero-copy */
	const char *control; /* '@': abstract, else a path */
	const char *bpffs;   /* NULL: where the BPF side puts it */
	enum log_level log;
	int ready_fd; /* -1: none */
};

enum options_result {
	OPTIONS_RUN,   /* filled in */
	OPTIONS_DONE,  /* help or version was printed */
	OPTIONS_USAGE, /* wrong; the reason was printed */
};

/* Strings of @argv are kept by reference. */
enum options_result options_parse(int argc, char **argv, struct options *o);

#endif
