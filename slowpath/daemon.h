/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * daemon.h - the slow path's state, shared by its modules
 *
 * One thread owns all of it. The cores' threads see only their struct fp_core
 * and what is handed to them by commands.
 */
#ifndef SLOWPATH_DAEMON_H
#define SLOWPATH_DAEMON_H

#include "fastpath/fastpath.h"
#include "fastpath/queue.h"
#include "slowpath/cache.h"
#include "slowpath/loop.h"
#include "slowpath/options.h"
#include "slowpath/sysctl.h"

#define DAEMON_FRAME_MAX 4096u /* room for a frame read from the TAP */
#define DAEMON_BUF_SIZE UINT32_C(131072) /* of each connection buffer */
#define DAEMON_UMEM_FRAMES 4096u	 /* a queue */

/* What the slow path counts: name, text */
#define SLOW_COUNTERS(X)                                                       \
	X(to_linux, "frames written to the TAP")                               \
	X(to_linux_failed, "drop: the TAP did not take a frame")               \
	X(to_wire, "frames of Linux's passed to a core")                       \
	X(to_wire_full, "drop: frames of Linux's, a core's ring was full")     \
	X(translated_in, "frames translated for Linux")                        \
	X(translated_out, "frames translated for the wire")                    \
	X(absorbed, "frames of Linux's that the wire need not see")            \
	X(reassembled, "segments put together from IP fragments")              \
	X(held, "frames held during an offload")                               \
	X(held_full, "drop: too many frames held")                             \
	X(renewed, "SYNs kept until the connection before was removed")        \
	X(offloaded, "connections offloaded")                                  \
	X(declined, "requests for offload declined")                           \
	X(probed, "headers learned by a probe")                                \
	X(handed_over, "connections handed over to the kernel")                \
	X(handover_failed, "connections lost on the way to the kernel")        \
	X(removed_close, "offloaded connections closed by the program")        \
	X(removed_abort, "offloaded connections aborted by the program")       \
	X(removed_timeout, "offloaded connections timed out")                  \
	X(removed_asked,                                                       \
	  "offloaded connections ended by Linux or the service")               \
	X(remnant_reclaimed, "closing connections that Linux has forgotten")   \
	X(grown, "connections given larger buffers")                           \
	X(programs, "programs connected")                                      \
	X(offenders, "programs that broke the contract")                       \
	X(turns, "turns of the loop")                                          \
	X(waits, "times the loop went to sleep")

struct slow_counters {
#define X(name, text) uint64_t name;
	SLOW_COUNTERS(X)
#undef X
};

struct conn;
struct program;
struct remnant;

/* What pathmtu.c reads of net.ipv4. */
enum pathmtu_sysctl {
	PATHMTU_PROBING,
	PATHMTU_BASE,
	PATHMTU_FLOOR,
	PATHMTU_THRESHOLD,
	PATHMTU_INTERVAL,
	PATHMTU_SYSCTLS,
};

/* A command that found its core's ring full. */
struct waiting_cmd {
	struct waiting_cmd *prev, *next;
	struct fp_msg msg;
};

/* The slow path's side of one core. */
struct core_link {
	struct fp_core *core;
	struct queue *queue;	     /* for its counters and descriptor */
	struct waiting_cmd *waiting; /* commands not yet in the ring */
	struct waiting_cmd *filling; /* reserved, not yet submitted */
	struct conn **by_flow;	     /* flow index -> connection */
	unsigned int flows;	     /* installed or being installed */
	bool dirty;		     /* commands since the last flush */
};

struct daemon_config {
	const struct options *opt;
	struct tap *tap;
	struct xdp *xdp;
	int listen_fd; /* control socket */
};

struct daemon {
	const struct daemon_config *cfg;
	const struct options *opt;
	struct loop loop;
	struct core_link cores[XTS_MAX_CORES];
	unsigned int n_cores;
	struct cache cache;
	uint64_t seed; /* of keyed hashes */
	int tap_fd;
	uint8_t mac[6];	  /* of the TAP, which is the NIC's */
	bool tap_pending; /* the TAP may hold frames */
	int diag_fd;	  /* inet_diag */
	int signal_fd;
	int shadow_epoll; /* shadow sockets of live connections */
	unsigned int tap_index;
	struct sysctl stdurg; /* net.ipv4.tcp_stdurg */
	struct sysctl mtu_sysctl[PATHMTU_SYSCTLS];
	bool cc_unknown_said;
	struct fragments *fragments;
	int conntrack_fd;	  /* ctnetlink, -1: none */
	bool handing;		  /* programs have sockets to be given */
	int route_fd;		  /* rtnetlink: routes change */
	bool routes_changed;	  /* since the last look at all flows' MTU */
	uint64_t mtu_check_ns;	  /* when to look at it; 0: no need */
	struct conn *conns;	  /* uthash: being offloaded or live */
	struct conn *refresh;	  /* list of live ones, see refresh.c */
	struct remnant *remnants; /* uthash, in the order of check_at_s */
	struct remnant *late;	  /* the same, of those that Linux forgot */
	struct program *programs; /* list */
	uint32_t remnants_open;	  /* that the peer has not done with */
	unsigned int n_programs;
	uint32_t next_program;
	uint32_t buf_limit; /* bytes a buffer may grow to, 0: it may not */
	uint64_t work_ns;   /* when there was last something to do */
	bool stopping;
	bool stop_resets; /* programs had their time to take connections */
	uint64_t stop_ask_ns, stop_reset_ns, stop_deadline_ns;
	struct slow_counters count;
};

int daemon_run(const struct daemon_config *cfg);

uint64_t daemon_now_ns(void);
uint32_t daemon_now_ms(void);
uint32_t daemon_now_s(void);

/*
 * A command to a core; order is kept. With @droppable NULL is returned when
 * the ring is full (frames of Linux's), otherwise only without memory: the
 * command waits until there is room.
 */
struct fp_msg *daemon_cmd(struct daemon *d, unsigned int core, enum fp_cmd type,
			  bool droppable);
void daemon_submit(struct daemon *d, unsigned int core);

#endif
