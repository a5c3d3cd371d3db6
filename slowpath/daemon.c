/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * daemon.c - the child process: cores, and the slow path's loop
 *
 * Set-up opens a queue for each core, enters its socket in the XDP program's
 * map and starts the core's thread; then this thread runs the slow path. A turn
 * of the loop: what io_uring reports (TAP, control, shadow sockets, signals,
 * cores that wake us) -> events of every core -> frames from the TAP -> closing
 * connections that are due -> one flush of the commands a core. With nothing
 * left to do it arms the cores' event rings and waits in io_uring, for ever if
 * no closing connection is due for a check: idle costs nothing.
 *
 * Commands to a core whose ring is full wait in core_link.waiting, so
 * nothing but frames of Linux's is ever lost; their number is bounded by the
 * connections and contexts there are, and by the frames held for them.
 */
#include "slowpath/daemon.h"
#include "slowpath/program.h"
#include "slowpath/bridge.h"
#include "slowpath/closing.h"
#include "slowpath/conntrack.h"
#include "slowpath/control.h"
#include "slowpath/handover.h"
#include "slowpath/large.h"
#include "slowpath/log.h"
#include "slowpath/fragment.h"
#include "slowpath/offload.h"
#include "slowpath/pathmtu.h"
#include "slowpath/refresh.h"
#include "slowpath/snapshot.h"
#include "slowpath/stats.h"
#include "slowpath/stop.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <sched.h>
#include <unistd.h>
#include <utlist.h>

#define SPIN_NS 20000u /* with nothing to do before it sleeps */
#define EVENT_BATCH 64u
/* A received frame's room in a UMEM frame: the kernel keeps 256 bytes. */
#define UMEM_HEADROOM 256u

static struct log_limit offender_limit;

uint64_t daemon_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

uint32_t daemon_now_ms(void)
{
	return (uint32_t)(daemon_now_ns() / 1000000);
}

uint32_t daemon_now_s(void)
{
	return (uint32_t)(daemon_now_ns() / 1000000000);
}

/* ---- commands to cores
 * --------------------------------------------------------- */

/* Everything but the frame is cleared. */
static void clear_cmd(struct fp_msg *m, enum fp_cmd type)
{
	memset(m, 0, offsetof(struct fp_msg, frame));
	m->type = type;
	m->flow.index = FP_NO_FLOW;
}

struct fp_msg *daemon_cmd(struct daemon *d, unsigned int core, enum fp_cmd type,
			  bool droppable)
{
	struct core_link *k = &d->cores[core];
	struct fp_msg *m = k->waiting ? NULL : fp_cmd_reserve(k->core);

	k->filling = NULL;
	if (!m && droppable) {
		d->count.to_wire_full++;
		return NULL;
	}
	if (!m) {
		k->filling = aligned_alloc(XTS_CACHELINE, sizeof(*k->filling));
		if (!k->filling) {
			log_err("out of memory");
			abort(); /* the guardian restores */
		}
		m = &k->filling->msg;
	}
	clear_cmd(m, type);
	return m;
}

void daemon_submit(struct daemon *d, unsigned int core)
{
	struct core_link *k = &d->cores[core];

	k->dirty = true;
	if (!k->filling) {
		fp_cmd_submit(k->core);
		return;
	}
	DL_APPEND(k->waiting, k->filling);
	k->filling = NULL;
}

/* Move waiting commands into the ring. */
static void push_waiting(struct core_link *k)
{
	struct waiting_cmd *w;
	struct fp_msg *m;

	while ((w = k->waiting) != NULL) {
		m = fp_cmd_reserve(k->core);
		if (!m)
			return;
		memcpy(m, &w->msg, offsetof(struct fp_msg, frame));
		memcpy(m->frame, w->msg.frame, w->msg.frame_len);
		fp_cmd_submit(k->core);
		k->dirty = true;
		DL_DELETE(k->waiting, w);
		free(w);
	}
}

/* true: commands still wait for room */
static bool flush_cores(struct daemon *d)
{
	bool waiting = false;

	for (unsigned int i = 0; i < d->n_cores; i++) {
		struct core_link *k = &d->cores[i];

		push_waiting(k);
		if (k->dirty)
			fp_cmd_flush(k->core);
		k->dirty = false;
		waiting |= k->waiting != NULL;
	}
	return waiting;
}

/* ---- events of cores
 * ------------------------------------------------------------ */

static void on_offender(struct daemon *d, const struct fp_msg *m)
{
	struct program *a = program_find(d, m->ctx->app);

	if (!a || a->sock < 0)
		return;
	d->count.offenders++;
	log_limited(
		&offender_limit, LOG_LEVEL_WARN,
		"program %d broke the shared-memory contract (%s): its connections are reset",
		a->pid, m->text ? m->text : "unknown");
	program_end(a, true);
}

static void on_event(struct daemon *d, unsigned int core,
		     const struct fp_msg *m)
{
	switch ((enum fp_event)m->type) {
	case FP_EV_FRAME:
		bridge_from_wire(d, core, m);
		break;
	case FP_EV_INSTALLED:
		offload_installed(d, core, m);
		break;
	case FP_EV_SHUT_WR:
		closing_shut_wr(d, core, m);
		break;
	case FP_EV_REMOVED:
		closing_removed(d, core, m);
		break;
	case FP_EV_STAYS:
		handover_stays(d, core, m);
		break;
	case FP_EV_GROW:
		large_wanted(d, core, m);
		break;
	case FP_EV_CTX_GONE:
		program_ctx_gone(d, m->ctx);
		break;
	case FP_EV_OFFENDER:
		on_offender(d, m);
		break;
	}
}

static bool read_events(struct daemon *d)
{
	uint64_t given = d->count.to_linux;
	bool some = false;

	for (unsigned int i = 0; i < d->n_cores; i++) {
		struct fp_core *core = d->cores[i].core;
		const struct fp_msg *m;

		for (unsigned int n = 0; n < EVENT_BATCH; n++) {
			m = fp_ev_peek(core);
			if (!m)
				break;
			on_event(d, i, m);
			fp_ev_release(core);
			some = true;
		}
	}
	if (d->count.to_linux != given)
		program_hint_all(d);
	return some;
}

/* ---- the loop
 * ---------------------------------------------------------------------- */

static void on_tap(void *arg, uint32_t events)
{
	struct daemon *d = arg;

	d->tap_pending = true;
}

static void on_shadow(void *arg, uint32_t events)
{
	closing_shadow_events(arg);
}

/* The loop looks at the rings after each wake-up. */
static void on_core(void *arg, uint32_t events)
{
}

static void on_signal(void *arg, uint32_t events)
{
	struct daemon *d = arg;
	struct signalfd_siginfo si;

	while (read(d->signal_fd, &si, sizeof(si)) == sizeof(si)) {
		if (si.ssi_signo == SIGUSR1)
			stats_dump(d);
		else if (si.ssi_signo != SIGCHLD)
			stop_begin(d);
	}
}

static bool arm_cores(struct daemon *d)
{
	bool empty = true;

	for (unsigned int i = 0; i < d->n_cores; i++)
		empty &= fp_ev_arm(d->cores[i].core);
	return empty;
}

/* Of two times to wait, -1: for ever. */
static int64_t sooner(int64_t a, int64_t b)
{
	return a < 0 || (b >= 0 && b < a) ? b : a;
}

static void run(struct daemon *d)
{
	int64_t next_ns;
	bool busy;

	while (!stop_done(d)) {
		d->count.turns++;
		busy = loop_poll(&d->loop);
		busy |= read_events(d);
		if (d->tap_pending) {
			bridge_drain(d);
			busy = true;
		}
		next_ns = sooner(remnant_reclaim(d), pathmtu_check(d));
		next_ns = sooner(next_ns, refresh_check(d));
		/* A ring or a program's socket was full: soon again. */
		if (handover_flush(d) | flush_cores(d))
			next_ns = 1000000;
		if (busy || d->tap_pending) {
			d->work_ns = daemon_now_ns();
			continue;
		}
		/* What comes next often comes at once: no sleep in between. */
		if (daemon_now_ns() - d->work_ns < SPIN_NS) {
			sched_yield();
			continue;
		}
		if (!arm_cores(d))
			continue;
		if (d->stopping &&
		    (next_ns < 0 || next_ns > stop_timeout_ns(d)))
			next_ns = stop_timeout_ns(d);
		d->count.waits++;
		loop_wait(&d->loop, next_ns);
	}
	flush_cores(d);
}

/* ---- set-up and tear-down
 * ------------------------------------------------------------ */

static const char *queue_remedy(int err)
{
	switch (err) {
	case EBUSY:
		return "another program has an AF_XDP socket on it: stop that one, or use fewer --queues";
	case EINVAL:
	case ENXIO:
	case ENODEV:
		return "the interface may have fewer queues: see 'ethtool -l', use fewer --queues";
	case ENOMEM:
	case ENOBUFS:
		return "not enough memory to lock: raise 'ulimit -l'";
	case EPERM:
		return "run as root, or with CAP_NET_RAW and CAP_BPF";
	case EOPNOTSUPP:
		return "the driver can't do that: try --copy or --mode generic";
	}
	return strerror(err);
}

static int open_queue(struct daemon *d, unsigned int i)
{
	unsigned int frame = tap_nic_mtu(d->cfg->tap) + FP_L2_MAX;
	struct queue_xsk_config cfg = {
		.ifname = d->opt->tap.nic,
		.queue_id = i,
		.frames = DAEMON_UMEM_FRAMES,
		.frame_size = frame + UMEM_HEADROOM <= 2048 ? 2048 : 4096,
		.generic = xdp_is_generic(d->cfg->xdp),
		.force_copy = d->opt->copy,
	};
	struct core_link *k = &d->cores[i];
	char err[XDP_ERR_MAX] = "";
	int rc;

	if (frame > FP_FRAME_MAX) {
		log_err("the MTU of %s is %u: at most %u fits an AF_XDP frame (ip link set %s mtu ...)",
			cfg.ifname, frame - FP_L2_MAX, FP_FRAME_MAX - FP_L2_MAX,
			cfg.ifname);
		return -EMSGSIZE;
	}
	k->queue = queue_xsk_open(&cfg);
	if (!k->queue) {
		rc = -errno;
		log_err("can't open queue %u of %s: %s", i, cfg.ifname,
			queue_remedy(-rc));
		return rc;
	}
	rc = xdp_set_socket(d->cfg->xdp, i, queue_xsk_fd(k->queue));
	if (rc)
		log_err("can't steer frames of queue %u to the service: %s", i,
			*err ? err : strerror(-rc));
	return rc;
}

static int open_core(struct daemon *d, unsigned int i)
{
	struct core_link *k = &d->cores[i];
	struct fp_config cfg = {
		.index = i,
		.max_flows = d->opt->flows,
		.spin_us = d->opt->spin_us,
		.cpu = d->opt->cpus[i],
	};
	int rc;

	rc = open_queue(d, i);
	if (rc)
		goto err_queue;
	k->by_flow = calloc(d->opt->flows, sizeof(struct conn *));
	cfg.queue = k->queue;
	k->core = k->by_flow ? fp_core_create(&cfg) : NULL;
	if (!k->core) {
		rc = -errno;
		log_err("can't make core %u: %s", i, strerror(-rc));
		goto err_flows;
	}
	rc = fp_core_start(k->core);
	if (rc == 0)
		rc = loop_watch(&d->loop, fp_ev_fd(k->core), POLLIN, on_core,
				d);
	if (rc >= 0) {
		d->n_cores++;
		log_info("queue %u of %s: %s", i, d->opt->tap.nic,
			 k->queue->mode);
		return 0;
	}
	log_err("can't start core %u: %s", i, strerror(-rc));
	fp_core_stop(k->core);
	fp_core_destroy(k->core);
	k->queue = NULL; /* went with the core */
err_flows:
	free(k->by_flow);
err_queue:
	if (k->queue)
		k->queue->ops->close(k->queue);
	return rc;
}

static void close_if_open(int fd)
{
	if (fd >= 0)
		close(fd);
}

static void close_cores(struct daemon *d)
{
	for (unsigned int i = 0; i < d->n_cores; i++) {
		struct core_link *k = &d->cores[i];
		struct waiting_cmd *w, *tmp;

		fp_core_stop(k->core);
		fp_core_destroy(k->core);
		DL_FOREACH_SAFE (k->waiting, w, tmp)
			free(w);
		free(k->by_flow);
	}
}

static int watch_signals(struct daemon *d)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	d->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (d->signal_fd < 0)
		return -errno;
	return loop_watch(&d->loop, d->signal_fd, POLLIN, on_signal, d);
}

static int read_identity(struct daemon *d)
{
	struct ifreq ifr = {0};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int rc = 0;

	if (fd < 0)
		return -errno;
	strncpy(ifr.ifr_name, d->opt->tap.name, IFNAMSIZ - 1);
	d->tap_index = if_nametoindex(d->opt->tap.name);
	d->buf_limit = large_limit();
	if (d->tap_index == 0 || ioctl(fd, SIOCGIFHWADDR, &ifr) != 0)
		rc = -errno;
	memcpy(d->mac, ifr.ifr_hwaddr.sa_data, sizeof(d->mac));
	close(fd);
	return rc;
}

/* Descriptors of the loop; daemon_close() closes what was opened. */
static int open_loop(struct daemon *d)
{
	int rc = loop_open(&d->loop);

	if (rc) {
		log_err("can't set up io_uring: %s%s", strerror(-rc),
			rc == -EPERM ? " (sysctl kernel.io_uring_disabled=0)"
				     : "");
		return rc;
	}
	if (getrandom(&d->seed, sizeof(d->seed), 0) != sizeof(d->seed))
		return -errno;
	d->tap_fd = tap_fd(d->cfg->tap);
	sysctl_open(&d->stdurg, "/proc/sys/net/ipv4/tcp_stdurg");
	d->diag_fd = snapshot_diag_open();
	if (d->diag_fd < 0)
		return d->diag_fd;
	d->conntrack_fd = conntrack_open();
	d->shadow_epoll = epoll_create1(EPOLL_CLOEXEC);
	if (d->shadow_epoll < 0)
		return -errno;
	d->fragments = fragments_new();
	if (!d->fragments)
		return -ENOMEM;
	rc = cache_init(&d->cache, d->seed);
	if (rc == 0)
		rc = pathmtu_open(d);
	if (rc == 0)
		rc = read_identity(d);
	if (rc == 0)
		rc = watch_signals(d);
	if (rc >= 0)
		rc = loop_watch(&d->loop, d->tap_fd, POLLIN, on_tap, d);
	if (rc >= 0)
		rc = loop_watch(&d->loop, d->shadow_epoll, POLLIN, on_shadow,
				d);
	return rc < 0 ? rc : 0;
}

/* Whatever was opened, and what the stop did not wait for. Cores go first: they
 * hold on to contexts and to programs' memory. The TAP is the guardian's. */
static void daemon_close(struct daemon *d)
{
	struct remnant *l, *next_l;
	struct program *a, *next_a;
	struct conn *c, *next_c;

	close_cores(d);
	HASH_ITER (hh, d->conns, c, next_c)
		conn_free(d, c);
	DL_FOREACH_SAFE (d->programs, a, next_a)
		program_discard(a);
	HASH_ITER (hh, d->remnants, l, next_l)
		remnant_free(d, l);
	HASH_ITER (hh, d->late, l, next_l)
		remnant_free(d, l);
	cache_destroy(&d->cache);
	loop_close(&d->loop);
	close_if_open(d->signal_fd);
	close_if_open(d->shadow_epoll);
	close_if_open(d->diag_fd);
	close_if_open(d->conntrack_fd);
	sysctl_close(&d->stdurg);
	pathmtu_close(d);
	fragments_free(d->fragments);
	free(d);
}

static void say_ready(struct daemon *d)
{
	log_info("serving on %s with %u queue(s)", d->opt->tap.nic, d->n_cores);
	if (d->opt->ready_fd < 0)
		return;
	if (write(d->opt->ready_fd, "ready\n", 6) != 6)
		log_warn("can't write to descriptor %d of --ready-fd: %s",
			 d->opt->ready_fd, strerror(errno));
	close(d->opt->ready_fd);
}

int daemon_run(const struct daemon_config *cfg)
{
	struct daemon *d = calloc(1, sizeof(*d));
	int rc;

	if (!d)
		return EXIT_FAILURE;
	d->cfg = cfg;
	d->opt = cfg->opt;
	d->diag_fd = d->shadow_epoll = d->signal_fd = d->stdurg.fd = -1;
	d->conntrack_fd = -1;
	pathmtu_init(d);
	rc = open_loop(d);
	if (rc)
		log_err("can't start: %s", strerror(-rc));
	for (unsigned int i = 0; rc == 0 && i < d->opt->queues; i++)
		rc = open_core(d, i);
	if (rc == 0)
		rc = control_start(d, cfg->listen_fd);
	if (rc == 0) {
		say_ready(d);
		run(d);
	}
	daemon_close(d);
	return rc == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
