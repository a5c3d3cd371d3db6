/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * guardian.c - the parent process that puts everything back
 *
 * The parent does what changes the host (control socket, TAP device, addresses,
 * XDP program), forks the daemon and does nothing else than wait. Signals that
 * ask for an end, and SIGUSR1, are handed on to the daemon. When the daemon is
 * gone, whatever the cause, the parent detaches the XDP program and gives the
 * addresses back, so a crash of the daemon costs no address.
 *
 * The other way round the daemon gets SIGTERM when its parent dies
 * (PR_SET_PDEATHSIG), ends as if asked to, and restores by itself.
 *
 * State: struct guardian, on the stack of guardian_run(); the child has a copy
 * of it by fork(). Single-threaded: the daemon starts its threads after the
 * fork.
 */
#include "slowpath/guardian.h"
#include "slowpath/control.h"
#include "slowpath/daemon.h"

#include <errno.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct guardian {
	const struct options *opt;
	struct tap *tap;
	struct xdp *xdp;
	int listen_fd;	  /* control socket */
	sigset_t signals; /* blocked in both processes */
};

static bool has_capability(const struct __user_cap_data_struct *data, int cap)
{
	return data[CAP_TO_INDEX(cap)].effective & CAP_TO_MASK(cap);
}

static int check_privilege(void)
{
	struct __user_cap_header_struct head = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {0};

	if (syscall(SYS_capget, &head, data) != 0)
		return -errno;
	if (has_capability(data, CAP_NET_ADMIN) &&
	    has_capability(data, CAP_NET_RAW) &&
	    (has_capability(data, CAP_SYS_ADMIN) ||
	     has_capability(data, CAP_BPF)))
		return 0;
	log_err("not enough privilege: run as root, or with CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF");
	return -EPERM;
}

static void raise_limits(void)
{
	struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
	struct rlimit files;

	if (setrlimit(RLIMIT_MEMLOCK, &all) != 0)
		log_warn("can't raise the limit of locked memory: %s",
			 strerror(errno));
	/* A descriptor for each offloaded connection. */
	for (rlim_t n = 1 << 20; n >= 65536; n /= 2) {
		files.rlim_cur = files.rlim_max = n;
		if (setrlimit(RLIMIT_NOFILE, &files) == 0)
			return;
	}
	if (getrlimit(RLIMIT_NOFILE, &files) != 0)
		return;
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	log_warn(
		"at most %lu open files: raise the limit (ulimit -n) for more offloaded connections",
		(unsigned long)files.rlim_cur);
}

static int own_addresses(struct guardian *g, char *err)
{
	const struct tap_addr *addrs;
	unsigned int n = tap_owned(g->tap, &addrs);
	int rc;

	for (unsigned int i = 0; i < n; i++) {
		rc = xdp_own(g->xdp, addrs[i].family, addrs[i].addr, true);
		if (rc) {
			snprintf(
				err, XDP_ERR_MAX,
				"can't steer address %u of %u to the service: %s",
				i + 1, n, strerror(-rc));
			return rc;
		}
	}
	return 0;
}

static void restore(struct guardian *g)
{
	char err[TAP_ERR_MAX + XDP_ERR_MAX] = "";

	if (g->xdp && xdp_release(g->xdp, err) != 0)
		log_err("%s", err);
	if (g->tap && tap_restore(g->tap, err) != 0)
		log_err("%s", err);
	g->xdp = NULL;
	g->tap = NULL;
	control_unlink(g->opt->control);
}

static int set_up(struct guardian *g)
{
	char err[TAP_ERR_MAX + XDP_ERR_MAX] = "";
	struct xdp_config xcfg = {
		.ifname = g->opt->tap.nic,
		.mode = g->opt->mode,
		.one_queue = g->opt->queues == 1,
		.pin_dir = g->opt->bpffs,
	};
	int rc;

	g->listen_fd = control_listen(g->opt->control);
	if (g->listen_fd < 0)
		return g->listen_fd; /* has said why */
	rc = tap_setup(&g->opt->tap, &g->tap, err);
	if (rc)
		goto failed;
	xcfg.ifindex = tap_nic_index(g->tap);
	rc = xdp_attach(&xcfg, &g->xdp, err);
	if (rc)
		goto failed;
	rc = own_addresses(g, err);
	if (rc)
		goto failed;
	return 0;
failed:
	log_err("%s", *err ? err : strerror(-rc));
	restore(g);
	return rc;
}

/* The daemon's process; never returns. */
static void run_child(struct guardian *g, pid_t guardian)
{
	struct daemon_config cfg = {
		.opt = g->opt,
		.tap = g->tap,
		.xdp = g->xdp,
		.listen_fd = g->listen_fd,
	};
	int status = EXIT_FAILURE;

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	prctl(PR_SET_NAME, "tas-xdp-slow");
	if (getppid() == guardian)
		status = daemon_run(&cfg);
	if (getppid() != guardian) {
		log_warn("the guardian process is gone: restoring by myself");
		restore(g);
	}
	exit(status);
}

/* Wait for the child's end, handing signals on; its wait status. */
static int wait_child(struct guardian *g, pid_t child)
{
	int sig, status;

	for (;;) {
		if (sigwait(&g->signals, &sig) != 0)
			continue;
		if (sig != SIGCHLD) {
			kill(child, sig);
			continue;
		}
		if (waitpid(child, &status, WNOHANG) == child)
			return status;
	}
}

static int exit_status(int status)
{
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	log_err("the daemon was ended by signal %d (%s); its connections are lost, addresses and XDP are being restored",
		WTERMSIG(status), strsignal(WTERMSIG(status)));
	return 128 + WTERMSIG(status);
}

int guardian_run(const struct options *o)
{
	struct guardian g = {.opt = o, .listen_fd = -1};
	pid_t self = getpid(), child;
	int status;

	if (check_privilege() != 0)
		return EXIT_FAILURE;
	raise_limits();
	sigemptyset(&g.signals);
	sigaddset(&g.signals, SIGCHLD);
	sigaddset(&g.signals, SIGTERM);
	sigaddset(&g.signals, SIGINT);
	sigaddset(&g.signals, SIGHUP);
	sigaddset(&g.signals, SIGUSR1);
	sigprocmask(SIG_BLOCK, &g.signals, NULL);
	signal(SIGPIPE, SIG_IGN);
	if (set_up(&g) != 0)
		return EXIT_FAILURE;
	child = fork();
	if (child == 0)
		run_child(&g, self);
	close(g.listen_fd);
	if (o->ready_fd >= 0)
		close(o->ready_fd);
	if (child < 0) {
		log_err("can't start the daemon: %s", strerror(errno));
		restore(&g);
		return EXIT_FAILURE;
	}
	status = exit_status(wait_child(&g, child));
	restore(&g);
	return status;
}
