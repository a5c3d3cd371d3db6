/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * control.c - the socket on which programs ask for service
 *
 * Read first: libsock/xts_proto.h "control socket", unix(7) SCM_RIGHTS and
 * SO_PEERCRED. Messages have one size; a message of another size, with an
 * unknown type, with descriptors where none belong, or out of turn ends the
 * sender's session, and nobody else's. At most CTL_MAX_FDS descriptors are
 * taken from one message; the kernel closes the others.
 *
 * Any user may connect: what a program may do with a connection was decided
 * by Linux when it got the socket, and it can name no connection but by handing
 * over its descriptor. Number and owners are bounded (program.h). Replies are
 * sent without waiting: a program that does not read them is cut off.
 */
#include "slowpath/control.h"
#include "slowpath/program.h"
#include "slowpath/closing.h"
#include "slowpath/handover.h"
#include "slowpath/log.h"
#include "slowpath/offload.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <utlist.h>

#define CTL_MAX_FDS 4
#define CTL_BATCH 256u /* messages of one program in a row */
#define CTL_MSG_FDS (1 + XTS_MAX_CORES)

static struct log_limit refused_limit, offence_limit;

/* ---- the listening socket
 * ---------------------------------------------------- */

static socklen_t control_address(const char *name, struct sockaddr_un *sun)
{
	size_t len = strlen(name);

	*sun = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (len >= sizeof(sun->sun_path))
		len = sizeof(sun->sun_path) - 1;
	memcpy(sun->sun_path, name, len);
	if (name[0] != '@')
		return sizeof(*sun);
	sun->sun_path[0] = '\0';
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
}

/* A path that nobody listens on is left from a service that was killed. */
static void remove_stale(const char *name, const struct sockaddr_un *sun,
			 socklen_t len)
{
	struct stat st;
	int fd;

	if (name[0] == '@' || lstat(name, &st) != 0 || !S_ISSOCK(st.st_mode))
		return;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	if (connect(fd, (const void *)sun, len) != 0 && errno == ECONNREFUSED)
		unlink(name);
	close(fd);
}

int control_listen(const char *name)
{
	struct sockaddr_un sun;
	socklen_t len = control_address(name, &sun);
	int fd, err;

	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		err = errno;
		log_err("can't make the control socket: %s", strerror(err));
		return -err;
	}
	remove_stale(name, &sun, len);
	if (bind(fd, (const void *)&sun, len) == 0 && listen(fd, 128) == 0) {
		if (name[0] != '@' && chmod(name, 0666) != 0)
			log_warn("can't open %s to all users: %s", name,
				 strerror(errno));
		return fd;
	}
	err = errno;
	if (err == EADDRINUSE)
		log_err("another tas-xdp runs in this network namespace (control socket %s): stop it first, or give this one its own --control and --tap",
			name);
	else
		log_err("can't listen on control socket %s: %s", name,
			strerror(err));
	close(fd);
	return -err;
}

void control_unlink(const char *name)
{
	if (name[0] != '@')
		unlink(name);
}

/* ---- messages
 * ------------------------------------------------------------------ */

int control_send(struct program *a, const struct xts_ctl_msg *msg,
		 const int *fds, unsigned int n_fds)
{
	union {
		struct cmsghdr head;
		uint8_t room[CMSG_SPACE(CTL_MSG_FDS * sizeof(int))];
	} ctl = {0};
	struct iovec iov = {(void *)(uintptr_t)msg, sizeof(*msg)};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};

	if (n_fds) {
		struct cmsghdr *c = &ctl.head;

		mh.msg_control = &ctl;
		mh.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
	}
	return sendmsg(a->sock, &mh, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno
								      : 0;
}

int control_unread(const struct program *a)
{
	int n = 0;

	return ioctl(a->sock, SIOCOUTQ, &n) == 0 ? n : 0;
}

static bool reply(struct program *a, const struct xts_ctl_msg *msg,
		  const int *fds, unsigned int n_fds)
{
	return control_send(a, msg, fds, n_fds) == 0;
}

static bool refuse(struct program *a, int err)
{
	struct xts_ctl_msg msg = {.type = XTS_CTL_REFUSED,
				  .version = XTS_PROTO_VERSION,
				  .err = (uint32_t)err};

	log_limited(&refused_limit, LOG_LEVEL_WARN, "program %d refused: %s",
		    a->pid, strerror(err));
	reply(a, &msg, NULL, 0);
	return false;
}

static bool on_hello(struct program *a, const struct xts_ctl_msg *in)
{
	struct xts_ctl_msg out = {.type = XTS_CTL_WELCOME,
				  .version = XTS_PROTO_VERSION,
				  .cores = a->d->n_cores,
				  .buf_size = DAEMON_BUF_SIZE,
				  .flags = XTS_F_KEEPS | XTS_F_TAKES};
	int rc;

	if (in->version != XTS_PROTO_VERSION)
		return refuse(a, EPROTONOSUPPORT);
	if (a->mem)
		return false;
	rc = program_memory(a);
	if (rc)
		return refuse(a, -rc);
	out.mem_size = a->mem_size;
	return reply(a, &out, &a->memfd, 1);
}

static bool on_ctx_create(struct program *a, const struct xts_ctl_msg *in)
{
	struct xts_ctl_msg out = {.type = XTS_CTL_CTX,
				  .version = XTS_PROTO_VERSION,
				  .cookie = in->cookie};
	int fds[CTL_MSG_FDS];
	struct program_ctx *x = program_ctx_add(a, &out.ctx);

	if (!x) {
		out.err = errno ? (uint32_t)errno : ENOMEM;
		return reply(a, &out, NULL, 0);
	}
	out.ctx_off = (uint64_t)((uint8_t *)x->fp.area - a->mem);
	fds[0] = x->fp.app_event_fd;
	memcpy(fds + 1, x->fp.doorbell_fd, a->d->n_cores * sizeof(int));
	return reply(a, &out, fds, 1 + a->d->n_cores);
}

static bool on_ctx_destroy(struct program *a, const struct xts_ctl_msg *in)
{
	struct program_ctx *x = program_ctx_find(a, in->ctx);

	if (!x)
		return false;
	program_ctx_end(a, x);
	return true;
}

static bool on_offload(struct program *a, const struct xts_ctl_msg *in, int *fd)
{
	struct program_ctx *x = program_ctx_find(a, in->ctx);

	if (!x || *fd < 0)
		return false;
	offload_request(a->d, a, x, in, *fd);
	*fd = -1;
	return true;
}

/* The connection of a handle. A core may have told the program of it before
 * it told us (INSTALLED): then it has no handle here yet, but a name. */
static struct conn *find_moving(struct program *a, const struct xts_ctl_msg *in)
{
	struct flow_id id = {in->flow, in->flow_gen};
	struct conn *c = conn_by_flow(a->d, in->core, id);

	if (c)
		return c;
	DL_FOREACH (a->conns, c)
		if (c->cookie == in->cookie && c->phase == CONN_INSTALLING)
			break;
	return c;
}

static bool on_move(struct program *a, const struct xts_ctl_msg *in)
{
	struct program_ctx *x = program_ctx_find(a, in->ctx);
	struct conn *c = find_moving(a, in);

	if (!x || (c && c->program != a))
		return false;
	if (!c || (c->phase != CONN_LIVE && c->phase != CONN_INSTALLING))
		return true; /* gone meanwhile: the old ring tells */
	program_ctx_put(a, c->ctx);
	c->ctx = (uint16_t)in->ctx;
	program_ctx_get(a, c->ctx);
	if (c->phase == CONN_LIVE)
		conn_move(a->d, c, x);
	else
		c->move = true;
	return true;
}

/* Its own by handle, anybody's by a copy of the shadow. */
static bool on_handover(struct program *a, const struct xts_ctl_msg *in, int fd)
{
	const struct program_ctx *x = program_ctx_find(a, in->ctx);
	struct conn *c = fd < 0 ? find_moving(a, in) : handover_find(a->d, fd);

	if (!x || (fd < 0 && c && c->program != a))
		return false;
	handover_request(a->d, a, c, in);
	return true;
}

/* false: the program has to go. A descriptor that is kept becomes -1. */
static bool handle(struct program *a, const struct xts_ctl_msg *in, int *fd)
{
	if (in->type == XTS_CTL_HELLO)
		return *fd < 0 && on_hello(a, in);
	if (!a->mem)
		return false;
	if (in->type == XTS_CTL_OFFLOAD)
		return on_offload(a, in, fd);
	if (in->type == XTS_CTL_HANDOVER)
		return on_handover(a, in, *fd);
	if (*fd >= 0)
		return false;
	switch (in->type) {
	case XTS_CTL_CTX_CREATE:
		return on_ctx_create(a, in);
	case XTS_CTL_CTX_DESTROY:
		return on_ctx_destroy(a, in);
	case XTS_CTL_MOVE:
		return on_move(a, in);
	case XTS_CTL_RELEASE:
		program_slot_release(a, in->cookie);
		return true;
	}
	return false;
}

/* Keep the first descriptor of a message, close the others; their number. */
static unsigned int take_fds(struct msghdr *mh, int *fd)
{
	unsigned int n = 0;

	*fd = -1;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
		size_t room;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		room = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < room; i++, n++) {
			int one;

			memcpy(&one, CMSG_DATA(c) + i * sizeof(int),
			       sizeof(int));
			if (n == 0)
				*fd = one;
			else
				close(one);
		}
	}
	return n;
}

/* One message; 1: handled, 0: none waits, -1: the program has gone, or has to
 * go (*offence). */
static int receive(struct program *a, bool *offence)
{
	union {
		struct cmsghdr head;
		uint8_t room[CMSG_SPACE(CTL_MAX_FDS * sizeof(int))];
	} ctl;
	struct xts_ctl_msg in;
	struct iovec iov = {&in, sizeof(in)};
	struct msghdr mh = {.msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = &ctl,
			    .msg_controllen = sizeof(ctl)};
	unsigned int n_fds;
	ssize_t n;
	bool ok;
	int fd;

	n = recvmsg(a->sock, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	n_fds = take_fds(&mh, &fd);
	if (n == 0 && n_fds == 0)
		return -1; /* hung up (an empty message counts as that) */
	ok = n == (ssize_t)sizeof(in) && n_fds <= 1 &&
	     !(mh.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) && handle(a, &in, &fd);
	if (fd >= 0)
		close(fd);
	*offence = !ok;
	return ok ? 1 : -1;
}

static void on_program(void *arg, uint32_t events);

static void watch(struct program *a)
{
	a->watch = loop_watch(&a->d->loop, a->sock, POLLIN | POLLRDHUP,
			      on_program, a);
	if (a->watch < 0)
		program_end(a, false);
}

static void on_program(void *arg, uint32_t events)
{
	struct program *a = arg;
	bool offence = false;
	unsigned int n = 0;
	int rc;

	do {
		rc = receive(a, &offence);
	} while (rc > 0 && ++n < CTL_BATCH);
	if (rc == 0)
		return;
	if (rc > 0) { /* others first; a new poll reports the rest */
		loop_unwatch(&a->d->loop, a->watch);
		watch(a);
		return;
	}
	if (offence) {
		a->d->count.offenders++;
		log_limited(
			&offence_limit, LOG_LEVEL_WARN,
			"program %d sent nonsense on the control socket: session ended",
			a->pid);
	}
	program_end(a, offence);
}

/* ---- new programs
 * ---------------------------------------------------------------- */

static void admit(struct daemon *d, int sock)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	struct program *a;

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0) {
		close(sock);
		return;
	}
	a = program_new(d, sock, cred.pid, cred.uid);
	if (!a) {
		log_limited(&refused_limit, LOG_LEVEL_WARN,
			    "program %d refused: too many programs", cred.pid);
		close(sock);
		return;
	}
	watch(a);
}

static void on_listen(void *arg, uint32_t events)
{
	struct daemon *d = arg;
	int sock;

	for (;;) {
		sock = accept4(d->cfg->listen_fd, NULL, NULL,
			       SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (sock < 0)
			return;
		admit(d, sock);
	}
}

int control_start(struct daemon *d, int listen_fd)
{
	int rc = loop_watch(&d->loop, listen_fd, POLLIN, on_listen, d);

	return rc < 0 ? rc : 0;
}
