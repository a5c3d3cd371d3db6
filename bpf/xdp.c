// SPDX-License-Identifier: BSD-2-Clause
/*
 * xdp.c - load, attach and detach the XDP program
 *
 * The object file of steer.bpf.c is part of this binary (bpftool skeleton).
 * Attaching tries, for driver mode and then for generic mode (in AUTO on a veth
 * with one queue the other way round, see nic_has_skbs()),
 *
 *   1. libxdp, whose dispatcher lets other XDP programs share the NIC. It
 *      needs a kernel with freplace, a BPF file system and libxdp's own
 *      dispatcher object; without freplace libxdp attaches the program alone;
 *   2. the program alone, by the kernel's own interface, for all that libxdp
 *      can't do. It never replaces a program that is there.
 *
 * Whichever worked is remembered, and only that is undone: alone, the kernel is
 * asked to detach exactly our program; through libxdp, the dispatcher goes on
 * with the others.
 *
 * The program array "filter" is pinned as PIN_DIR/NAME/filter. NAME is the
 * NIC's, and outside of the network namespace that process 1 runs in, where
 * another NIC may be called the same, also the namespace's inode:
 * s0@4026532281. A program array empties when no descriptor and no pin is left,
 * so the skeleton stays open as long as the program is attached. A crash may
 * leave a pin behind, and network namespaces of two PID namespaces may share a
 * BPF file system: who holds a lock (flock) on PIN_DIR/NAME owns the pin, and a
 * pin without a lock is stale. If /sys/fs/bpf is no BPF file system (a
 * container, a minimal system) one is mounted there and taken off again at
 * release, unless others use it by then. Without a pin everything works but the
 * operator's slot.
 *
 * State: struct xdp, one per NIC, made before the fork; parent and child use
 * their copies one at a time, the maps belong to the kernel. Last message of
 * libbpf and libxdp: static, the callers are single-threaded.
 */
#include "bpf/xdp.h"

#include "bpf/steer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/magic.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <xdp/libxdp.h>

#include "bpf/steer.skel.h"

#define BPFFS "/sys/fs/bpf"
#define PIN_DIR_DEFAULT BPFFS "/tas-xdp"
#define PIN_PATH_MAX 512
#define PIN_NAME_MAX (IF_NAMESIZE + 21)
#define PIN_TRIES 3

struct xdp {
	struct steer *skel;
	struct xdp_program *prog; /* attached through the dispatcher, or NULL */
	unsigned int ifindex;
	char ifname[IF_NAMESIZE];
	bool generic;
	bool attached;
	bool mounted; /* the BPF file system is our mount */
	int pin_lock; /* directory of the pin, locked; -1: no pin */
	char pin_base[PIN_PATH_MAX]; /* PIN_DIR */
	char pin_dir[PIN_PATH_MAX];  /* PIN_DIR/NAME */
	char pin_path[PIN_PATH_MAX]; /* PIN_DIR/NAME/filter */
};

/* ---- messages ------------------------------------------------------------ */

static char last_message[160];

/* Keep the kernel's own words if there are any, else the first complaint. */
static void message_keep(const char *format, va_list ap)
{
	static const char marker[] = "Kernel error message: ";
	char line[512], *text;

	vsnprintf(line, sizeof(line), format, ap);
	line[strcspn(line, "\n")] = '\0';
	text = strstr(line, marker);
	if (!text && last_message[0])
		return;
	text = text ? text + strlen(marker) : line;
	if (!strncmp(text, "libbpf: ", 8) || !strncmp(text, "libxdp: ", 8))
		text += 8;
	snprintf(last_message, sizeof(last_message), "%.150s", text);
}

static int libbpf_message(enum libbpf_print_level level, const char *format,
			  va_list ap)
{
	if (level == LIBBPF_WARN)
		message_keep(format, ap);
	return 0;
}

static int libxdp_message(enum libxdp_print_level level, const char *format,
			  va_list ap)
{
	if (level == LIBXDP_WARN)
		message_keep(format, ap);
	return 0;
}

static void messages_catch(void)
{
	libbpf_set_print(libbpf_message);
	libxdp_set_print(libxdp_message);
	last_message[0] = '\0';
}

__attribute__((format(printf, 3, 4))) static int fail(char *err, int error,
						      const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(err, XDP_ERR_MAX, format, ap);
	va_end(ap);
	return error;
}

static int fail_permission(char *err, int error)
{
	return fail(
		err, error,
		"no permission to load an XDP program: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN");
}

static int fail_load(char *err, int error)
{
	if (error == -EPERM || error == -EACCES)
		return fail_permission(err, error);
	return fail(
		err, error,
		"the kernel did not load the XDP program (%s; %s): Linux 5.10 or later with CONFIG_BPF_SYSCALL and CONFIG_XDP_SOCKETS is needed",
		strerror(-error), last_message);
}

/* Why the last attempt to attach failed. @driver: driver mode was asked for. */
static int fail_attach(const struct xdp *x, char *err, int error, bool driver)
{
	const char *hint = driver ? "; --mode generic works with every driver"
				  : "";

	switch (error) {
	case -EPERM:
	case -EACCES:
		return fail_permission(err, error);
	case -ENODEV:
		return fail(err, error, "there is no network interface %s",
			    x->ifname);
	case -EBUSY:
	case -EEXIST:
		return fail(
			err, -EBUSY,
			"another XDP program is attached to %s: detach it first (ip link set dev %s xdp off), or load it behind tas-xdp with xdp-loader",
			x->ifname, x->ifname);
	case -EOPNOTSUPP:
		return fail(err, error,
			    "the driver of %s does not do XDP%s%s%s", x->ifname,
			    last_message[0] ? ": " : "", last_message, hint);
	default:
		return fail(err, error,
			    "XDP could not be attached to %s: %s%s%s",
			    x->ifname,
			    last_message[0] ? last_message : strerror(-error),
			    strstr(last_message, "MTU")
				    ? "; lower the MTU (ip link set mtu)"
				    : "",
			    hint);
	}
}

/* ---- attach and detach --------------------------------------------------- */

static int nic_mac(const struct xdp *x, uint16_t mac[3], char *err)
{
	struct ifreq ifr = {0};
	int fd, error = 0;

	memcpy(ifr.ifr_name, x->ifname, sizeof(ifr.ifr_name));
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fail(err, -errno, "no socket: %s", strerror(errno));
	if (ioctl(fd, SIOCGIFHWADDR, &ifr) < 0)
		error = fail(err, -errno, "there is no network interface %s",
			     x->ifname);
	else if (ifr.ifr_hwaddr.sa_family != ARPHRD_ETHER)
		error = fail(
			err, -EOPNOTSUPP,
			"%s is not an Ethernet interface: name one with --nic",
			x->ifname);
	close(fd);
	memcpy(mac, ifr.ifr_hwaddr.sa_data, 6);
	return error;
}

static int object_open(struct xdp *x, const uint16_t mac[3])
{
	x->skel = steer__open();
	if (!x->skel)
		return -ENOMEM;
	memcpy((void *)x->skel->rodata->nic_mac, mac, 6);
	return 0;
}

static void object_close(struct xdp *x)
{
	if (x->prog)
		xdp_program__close(x->prog);
	x->prog = NULL;
	steer__destroy(x->skel);
	x->skel = NULL;
}

/* Is what hangs on the NIC now a dispatcher of libxdp's? */
static bool dispatcher_attached(const struct xdp *x)
{
	struct xdp_multiprog *mp;
	bool dispatcher;

	mp = xdp_multiprog__get_from_ifindex((int)x->ifindex);
	if (libxdp_get_error(mp))
		return false;
	dispatcher = !xdp_multiprog__is_legacy(mp);
	xdp_multiprog__close(mp);
	return dispatcher;
}

static int attach_libxdp(struct xdp *x, const uint16_t mac[3], bool generic)
{
	DECLARE_LIBXDP_OPTS(xdp_program_opts, opts, .prog_name = "steer");
	int error = object_open(x, mac);

	if (error)
		return error;
	opts.obj = x->skel->obj;
	x->prog = xdp_program__create(&opts);
	error = (int)libxdp_get_error(x->prog);
	if (error)
		x->prog = NULL;
	else
		error = xdp_program__attach(
			x->prog, (int)x->ifindex,
			generic ? XDP_MODE_SKB : XDP_MODE_NATIVE, 0);
	if (error) {
		object_close(x);
		return error;
	}
	if (!dispatcher_attached(x)) {
		xdp_program__close(x->prog);
		x->prog = NULL;
	}
	return 0;
}

/* *@loaded: the kernel took the program, what failed is attaching. */
static int attach_alone(struct xdp *x, const uint16_t mac[3], bool generic,
			bool *loaded)
{
	uint32_t flags = XDP_FLAGS_UPDATE_IF_NOEXIST |
			 (generic ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE);
	int error;

	*loaded = false;
	last_message[0] = '\0';
	error = object_open(x, mac);
	if (error)
		return error;
	error = steer__load(x->skel);
	if (!error) {
		*loaded = true;
		last_message[0] = '\0';
		error = bpf_xdp_attach((int)x->ifindex,
				       bpf_program__fd(x->skel->progs.steer),
				       flags, NULL);
	}
	if (error)
		object_close(x);
	return error;
}

/* An error that the other mode would meet too. */
static bool error_is_final(int error)
{
	return error == -EBUSY || error == -EEXIST || error == -EPERM ||
	       error == -EACCES || error == -ENODEV;
}

/* veth hands over frames that are socket buffers already: its driver mode
 * copies each into a page and, passed on, back; generic mode takes it as it is
 * (0.5 us less a request and answer). Generic mode knows one queue there. */
static bool nic_has_skbs(const struct xdp *x)
{
	struct ethtool_drvinfo info = {.cmd = ETHTOOL_GDRVINFO};
	struct ifreq ifr = {.ifr_data = (void *)&info};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool veth;

	if (fd < 0)
		return false;
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", x->ifname);
	veth = ioctl(fd, SIOCETHTOOL, &ifr) == 0 &&
	       strcmp(info.driver, "veth") == 0;
	close(fd);
	return veth;
}

static int attach(struct xdp *x, enum xdp_mode mode, bool one_queue, char *err)
{
	uint16_t mac[3];
	bool loaded = false, first;
	int error = nic_mac(x, mac, err);

	if (error)
		return error;
	first = mode == XDP_MODE_AUTO && one_queue && nic_has_skbs(x);
	for (int i = 0; i <= 1; i++) {
		bool generic = i != first;

		if (mode == (generic ? XDP_MODE_DRIVER : XDP_MODE_GENERIC))
			continue;
		x->generic = generic;
		error = attach_libxdp(x, mac, generic);
		if (error)
			error = attach_alone(x, mac, generic, &loaded);
		if (!error) {
			x->attached = true;
			return 0;
		}
		if (!loaded)
			return fail_load(err, error);
		if (error_is_final(error))
			break;
	}
	return fail_attach(x, err, error, mode == XDP_MODE_DRIVER);
}

static int detach(struct xdp *x, char *err)
{
	DECLARE_LIBBPF_OPTS(bpf_xdp_attach_opts, opts);
	int error;

	if (!x->skel || !x->attached)
		return 0;
	x->attached = false;
	if (x->prog) {
		error = xdp_program__detach(
			x->prog, (int)x->ifindex,
			x->generic ? XDP_MODE_SKB : XDP_MODE_NATIVE, 0);
	} else {
		opts.old_prog_fd = bpf_program__fd(x->skel->progs.steer);
		error = bpf_xdp_detach(
			(int)x->ifindex,
			XDP_FLAGS_REPLACE | (x->generic ? XDP_FLAGS_SKB_MODE
							: XDP_FLAGS_DRV_MODE),
			&opts);
	}
	/* The NIC went away, or somebody has put another program in place. */
	if (!error || error == -ENODEV || error == -ENOENT || error == -EEXIST)
		return 0;
	return fail(
		err, error,
		"XDP could not be detached from %s (%s): ip link set dev %s xdp off",
		x->ifname, strerror(-error), x->ifname);
}

/* ---- the pin ------------------------------------------------------------- */

static bool is_bpffs(const char *path)
{
	struct statfs fs;

	return statfs(path, &fs) == 0 && fs.f_type == BPF_FS_MAGIC;
}

/* The directory above @path, if that is no directory yet. */
static void existing_parent(const char *path, char *parent)
{
	struct stat st;
	char *slash;

	snprintf(parent, PIN_PATH_MAX, "%s", path);
	while (stat(parent, &st) < 0) {
		slash = strrchr(parent, '/');
		if (!slash || slash == parent) {
			snprintf(parent, PIN_PATH_MAX, "%s", slash ? "/" : ".");
			return;
		}
		*slash = '\0';
	}
}

/* NIC, or NIC@INODE outside of the network namespace that init runs in. */
static void pin_name(const struct xdp *x, char *name)
{
	struct stat ours, init;

	if (stat("/proc/thread-self/ns/net", &ours) < 0 ||
	    (stat("/proc/1/ns/net", &init) == 0 && ours.st_ino == init.st_ino &&
	     ours.st_dev == init.st_dev))
		snprintf(name, PIN_NAME_MAX, "%s", x->ifname);
	else
		snprintf(name, PIN_NAME_MAX, "%s@%llu", x->ifname,
			 (unsigned long long)ours.st_ino);
}

/* A BPF file system under PIN_DIR; mounts the usual one if it is missing. */
static int pin_prepare(struct xdp *x, const char *dir, char *err)
{
	char parent[PIN_PATH_MAX], name[PIN_NAME_MAX];
	const char *base = dir ? dir : PIN_DIR_DEFAULT;
	bool usual = !strncmp(base, BPFFS, strlen(BPFFS));

	pin_name(x, name);
	if (strlen(base) + sizeof(name) + sizeof("//filter") > PIN_PATH_MAX)
		return fail(err, -ENAMETOOLONG, "%s: the path is too long",
			    base);
	if (usual && !is_bpffs(BPFFS)) {
		if (mount("bpf", BPFFS, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC,
			  "mode=0700") < 0)
			return fail(
				err, -errno,
				"no BPF file system could be mounted on " BPFFS
				" (%s)",
				strerror(errno));
		x->mounted = true;
	}
	existing_parent(base, parent);
	if (!is_bpffs(parent))
		return fail(
			err, -EINVAL,
			"%s is not in a BPF file system: mount one (mount -t bpf bpf DIR) and name it with --bpffs",
			base);
	snprintf(x->pin_base, sizeof(x->pin_base), "%s", base);
	snprintf(x->pin_dir, sizeof(x->pin_dir), "%.440s/%s", base, name);
	snprintf(x->pin_path, sizeof(x->pin_path), "%.440s/%s/filter", base,
		 name);
	return 0;
}

static int make_directories(const char *path)
{
	char part[PIN_PATH_MAX];

	snprintf(part, sizeof(part), "%s", path);
	for (char *p = part + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(part, 0700) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	return mkdir(part, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

/* One attempt; -ENOENT: another service removed the directory meanwhile. */
static int pin_try(struct xdp *x)
{
	int map = bpf_map__fd(x->skel->maps.filter);
	int error = make_directories(x->pin_dir);

	if (error)
		return error;
	x->pin_lock = open(x->pin_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (x->pin_lock < 0)
		return -errno;
	if (flock(x->pin_lock, LOCK_EX | LOCK_NB) < 0) {
		error = errno == EWOULDBLOCK ? -EBUSY : -errno;
	} else {
		unlink(x->pin_path);
		error = bpf_obj_pin(map, x->pin_path);
	}
	if (error) {
		close(x->pin_lock);
		x->pin_lock = -1;
	}
	return error;
}

static int pin_filter(struct xdp *x, char *err)
{
	int error = -ENOENT;

	for (int i = 0; error == -ENOENT && i < PIN_TRIES; i++)
		error = pin_try(x);
	if (error == -EBUSY)
		return fail(
			err, error,
			"%s belongs to another tas-xdp: give this one another directory with --bpffs",
			x->pin_dir);
	if (error)
		return fail(err, error, "%s could not be pinned (%s)",
			    x->pin_path, strerror(-error));
	return 0;
}

/* Nothing in the BPF file system but what every one has, and libxdp's
 * directory if that is empty? */
static bool bpffs_is_unused(void)
{
	static const char *const always[] = {".", "..", "maps.debug",
					     "progs.debug"};
	bool unused = true;
	struct dirent *entry;
	DIR *dir;

	rmdir(BPFFS "/xdp");
	dir = opendir(BPFFS);
	while (dir && unused && (entry = readdir(dir))) {
		unused = false;
		for (size_t i = 0; i < 4; i++)
			unused |= !strcmp(entry->d_name, always[i]);
	}
	if (dir)
		closedir(dir);
	return unused;
}

static void unpin(struct xdp *x)
{
	if (x->pin_lock >= 0) {
		unlink(x->pin_path);
		rmdir(x->pin_dir);
		rmdir(x->pin_base); /* stays if others are in it */
		close(x->pin_lock);
		x->pin_lock = -1;
	}
	/* With somebody else's pins, or while another service holds its own,
	 * the mount stays. */
	if (x->mounted && bpffs_is_unused())
		umount2(BPFFS, 0);
	x->mounted = false;
}

/* ---- what bpf/xdp.h promises --------------------------------------------- */

static int fill_slot(struct xdp *x)
{
	uint32_t slot = STEER_SLOT_STEER;
	int fd = bpf_program__fd(x->skel->progs.steer_next);

	return bpf_map_update_elem(bpf_map__fd(x->skel->maps.filter), &slot,
				   &fd, BPF_ANY);
}

static int set_up(struct xdp *x, const struct xdp_config *cfg, char *err)
{
	char why[XDP_ERR_MAX - 64] = "";
	int pin_error, error;

	pin_error = pin_prepare(x, cfg->pin_dir, err);
	/* Who names a directory means it. */
	if (pin_error && cfg->pin_dir)
		return pin_error;
	if (pin_error)
		snprintf(why, sizeof(why), "%.190s", err);
	error = attach(x, cfg->mode, cfg->one_queue, err);
	if (!x->skel) /* as it is after every error */
		return error;
	error = fill_slot(x);
	if (!error && !pin_error) {
		error = pin_filter(x, err);
		if (error && cfg->pin_dir)
			return error;
		snprintf(why, sizeof(why), "%.190s", error ? err : "");
	} else if (error) {
		snprintf(why, sizeof(why), "slot 1 is refused (%s)",
			 strerror(-error));
	}
	err[0] = '\0';
	if (why[0])
		fail(err, 0, "no XDP filter program can be added: %s", why);
	return 0;
}

int xdp_attach(const struct xdp_config *cfg, struct xdp **xdp, char *err)
{
	char ignored[XDP_ERR_MAX];
	struct xdp *x;
	int error;

	*xdp = NULL;
	err[0] = '\0';
	x = calloc(1, sizeof(*x));
	if (!x)
		return fail(err, -ENOMEM, "out of memory");
	messages_catch();
	x->pin_lock = -1;
	x->ifindex = cfg->ifindex;
	snprintf(x->ifname, sizeof(x->ifname), "%s", cfg->ifname);
	error = set_up(x, cfg, err);
	if (error) {
		xdp_release(x, ignored);
		return error;
	}
	*xdp = x;
	return 0;
}

int xdp_release(struct xdp *x, char *err)
{
	int error;

	err[0] = '\0';
	if (!x)
		return 0;
	messages_catch();
	error = detach(x, err);
	object_close(x);
	unpin(x);
	free(x);
	return error;
}

bool xdp_is_generic(const struct xdp *x)
{
	return x->generic;
}

int xdp_own(struct xdp *x, int family, const void *addr, bool own)
{
	const uint8_t value = 1;
	int map, error;

	if (family != AF_INET && family != AF_INET6)
		return -EAFNOSUPPORT;
	map = bpf_map__fd(family == AF_INET ? x->skel->maps.owned_v4
					    : x->skel->maps.owned_v6);
	if (own)
		return bpf_map_update_elem(map, addr, &value, BPF_ANY);
	error = bpf_map_delete_elem(map, addr);
	return error == -ENOENT ? 0 : error;
}

int xdp_set_socket(struct xdp *x, unsigned int queue, int xsk_fd)
{
	uint32_t key = queue;

	return bpf_map_update_elem(bpf_map__fd(x->skel->maps.xsks), &key,
				   &xsk_fd, BPF_ANY);
}

int xdp_verdicts(struct xdp *x, uint64_t *counts, unsigned int n)
{
	int map = bpf_map__fd(x->skel->maps.verdicts);
	int error = 0, cpus = libbpf_num_possible_cpus();
	uint64_t *value;

	if (cpus < 0)
		return cpus;
	value = calloc((size_t)cpus, sizeof(*value));
	if (!value)
		return -ENOMEM;
	memset(counts, 0, n * sizeof(*counts));
	for (uint32_t i = 0; i < n && i < STEER_VERDICT_COUNT; i++) {
		error = bpf_map_lookup_elem(map, &i, value);
		if (error)
			break;
		for (int cpu = 0; cpu < cpus; cpu++)
			counts[i] += value[cpu];
	}
	free(value);
	return error;
}
