/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * service.c - the session with the service: control socket, memory, contexts
 *
 * The session is opened when the first socket wants to be offloaded, at most
 * every RETRY_MS while there is no service. The peer is believed only if it
 * runs as root or as ourselves (SO_PEERCRED) and its memory can't shrink
 * (F_SEAL_SHRINK), so that a dying service costs no SIGBUS. Every number it
 * sends is checked against the memory's size; nonsense counts as its death.
 *
 * The end of a session is noticed by whoever sleeps (the control socket is in
 * every epoll) or has found its rings empty a thousand times. Each context then
 * detaches by itself when its lock is next taken; the memory is unmapped when
 * the last one has. A later socket may open a new session: the service was
 * started again.
 *
 * The service lock serialises the control socket and the list of contexts. It
 * is never taken on the data path, nor by a thread that holds a context's lock.
 *
 * fork(): the memory is not inherited (MADV_DONTFORK), the child closes its
 * copies of the descriptors and of the shadow sockets, and starts without a
 * session.
 */
#include "libsock/service.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define RETRY_MS 100u
#define CHECK_NS 1000000u /* a service that ended is noticed this late */
#define ANSWER_MS 5000	  /* the service has this long to answer */
#define ANSWER_LOOK_MS 2
#define SEND_TRIES 1000 /* of a millisecond each */
#define MAX_FDS (1 + XTS_MAX_CORES)

static struct {
	pthread_mutex_t lock;
	struct xsession *current;
	struct xctx *contexts;
	uint64_t retry_ns;
	uint64_t checked_ns; /* when it was last asked for */
	enum xts_reason why; /* no session until retry_ns */
} svc = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct {
	pthread_once_t once;
	pthread_key_t thread_key;
	bool disabled;
	uint64_t spin_ns;
} env = {.once = PTHREAD_ONCE_INIT};

static __thread struct xctx *thread_ctx; /* the thread's own */
static __thread struct xctx *polled_ctx; /* the one it last polled */

static void close_all(const int *fds, uint32_t n)
{
	while (n)
		close(fds[--n]);
}

struct xhanded {
	struct xhanded *next;
	uint64_t cookie;
	int fd;
};

static void inbox_clear(struct xinbox *in)
{
	struct xhanded *h;

	while ((h = in->handed)) {
		in->handed = h->next;
		close(h->fd);
		free(h);
	}
	if (in->answered)
		close_all(in->answer_fds, in->n_answer_fds);
	in->answered = false;
}

/* ---- process-wide settings ---------------------------------------------- */

static void thread_exit(void *arg)
{
	thread_ctx = NULL;
	xsvc_ctx_release(arg);
}

static void fork_prepare(void)
{
	pthread_mutex_lock(&svc.lock);
	xsock_table_lock();
	xsock_table_fork();
}

static void fork_parent(void)
{
	xsock_table_unlock();
	pthread_mutex_unlock(&svc.lock);
}

static void fork_child(void)
{
	struct xctx *c;

	for (c = svc.contexts; c; c = c->next) {
		xctx_child(c);
		if (c != thread_ctx && !c->dead)
			c->orphan = true;
	}
	if (svc.current) {
		close(svc.current->control_fd);
		inbox_clear(&svc.current->inbox);
		free(svc.current);
		svc.current = NULL;
	}
	svc.retry_ns = 0;
	polled_ctx = NULL;
	xsock_table_child();
	fork_parent();
}

static void env_read(void)
{
	const char *v = getenv("XTS_DISABLE");

	env.disabled = v && *v && strcmp(v, "0") != 0;
	v = getenv("XTS_SPIN_US");
	env.spin_ns = v && *v ? strtoull(v, NULL, 10) * 1000 : 50000;
	pthread_key_create(&env.thread_key, thread_exit);
	pthread_atfork(fork_prepare, fork_parent, fork_child);
}

bool xsvc_disabled(void)
{
	pthread_once(&env.once, env_read);
	return env.disabled;
}

uint64_t xctx_spin_ns(void)
{
	return env.spin_ns;
}

/* ---- control socket ----------------------------------------------------- */

void xsvc_lose(struct xsession *ss)
{
	/* The hang-up wakes whoever sleeps on the socket. */
	if (!atomic_exchange(&ss->lost, true))
		shutdown(ss->control_fd, SHUT_RDWR);
}

void xsvc_check(struct xsession *ss)
{
	struct pollfd p = {.fd = ss->control_fd, .events = POLLRDHUP};

	if (poll(&p, 1, 0) > 0 && p.revents & (POLLRDHUP | POLLHUP | POLLERR))
		xsvc_lose(ss);
}

void xsvc_put(struct xsession *ss)
{
	if (atomic_fetch_sub(&ss->refs, 1) != 1)
		return;
	close(ss->control_fd);
	inbox_clear(&ss->inbox);
	if (ss->mem)
		munmap(ss->mem, ss->mem_size);
	free(ss);
}

static int control_send(struct xsession *ss, const struct xts_ctl_msg *m,
			int fd)
{
	struct iovec iov = {(void *)m, sizeof(*m)};
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} u = {0};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	struct timespec pause = {.tv_nsec = 1000000};
	struct cmsghdr *cm;
	int tries;

	if (fd >= 0) {
		msg.msg_control = u.buf;
		msg.msg_controllen = sizeof(u.buf);
		cm = CMSG_FIRSTHDR(&msg);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cm), &fd, sizeof(fd));
	}
	for (tries = 0; tries < SEND_TRIES; tries++) {
		if (sendmsg(ss->control_fd, &msg, MSG_NOSIGNAL) > 0)
			return 0;
		/* Too many descriptors in flight: the service takes them. */
		if (errno == ETOOMANYREFS)
			nanosleep(&pause, NULL);
		else if (errno != EINTR)
			break;
	}
	return -errno;
}

/* One message and its descriptors, *n_fds of them: all of them the caller's.
 * Does not wait. */
static int control_read(struct xsession *ss, struct xts_ctl_msg *m, int *fds,
			uint32_t *n_fds)
{
	struct iovec iov = {m, sizeof(*m)};
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(MAX_FDS * sizeof(int))];
	} u;
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = u.buf,
			     .msg_controllen = sizeof(u.buf)};
	struct cmsghdr *cm;
	ssize_t n;

	*n_fds = 0;
	n = recvmsg(ss->control_fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (n <= 0)
		return n ? -errno : -ECONNRESET;
	for (cm = CMSG_FIRSTHDR(&msg); cm; cm = CMSG_NXTHDR(&msg, cm)) {
		if (cm->cmsg_level != SOL_SOCKET || cm->cmsg_type != SCM_RIGHTS)
			continue;
		*n_fds = (uint32_t)((cm->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(cm), *n_fds * sizeof(int));
	}
	return n == sizeof(*m) && !(msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
		       ? 0
		       : -EPROTO;
}

/* Takes one message into the inbox, whose lock is held. One that finds no
 * place there is nonsense: an answer to nothing, or no kernel socket. */
static int control_take(struct xsession *ss)
{
	struct xinbox *in = &ss->inbox;
	int fds[MAX_FDS] = {-1}, err;
	struct xhanded *h = NULL;
	struct xts_ctl_msg m;
	uint32_t n_fds;

	err = control_read(ss, &m, fds, &n_fds);
	if (!err && m.type != XTS_CTL_HANDED && !in->answered) {
		in->answer = m;
		in->n_answer_fds = n_fds;
		memcpy(in->answer_fds, fds, sizeof(fds));
		in->answered = true;
		return 0;
	}
	if (!err && m.type == XTS_CTL_HANDED && n_fds == 1)
		h = malloc(sizeof(*h));
	if (h) {
		*h = (struct xhanded){in->handed, m.cookie, fds[0]};
		in->handed = h;
		return 0;
	}
	close_all(fds, n_fds);
	return err ? err : -EPROTO;
}

/* The answer to what was sent last; svc.lock held. Another thread may take it
 * for us (xsvc_handed()), so we look often. */
static int control_recv(struct xsession *ss, struct xts_ctl_msg *m, int *fds,
			uint32_t *n_fds)
{
	uint64_t end = xclock_ns() + ANSWER_MS * 1000000ull;
	struct pollfd p = {.fd = ss->control_fd, .events = POLLIN};
	struct xinbox *in = &ss->inbox;
	int err = -EAGAIN;

	*n_fds = 0;
	while (err == -EAGAIN) {
		pthread_mutex_lock(&in->lock);
		do
			err = in->answered ? 0 : control_take(ss);
		while (!err && !in->answered);
		if (!err) {
			*m = in->answer;
			*n_fds = in->n_answer_fds;
			memcpy(fds, in->answer_fds, sizeof(in->answer_fds));
			in->answered = false;
		}
		pthread_mutex_unlock(&in->lock);
		if (err == -EINTR)
			err = -EAGAIN;
		if (err == -EAGAIN && xclock_ns() >= end)
			return -ETIMEDOUT;
		if (err == -EAGAIN)
			poll(&p, 1, ANSWER_LOOK_MS);
	}
	return err;
}

static int inbox_find(struct xinbox *in, uint64_t cookie)
{
	struct xhanded **p, *h;
	int fd = -1;

	for (p = &in->handed; *p; p = &(*p)->next) {
		if ((*p)->cookie != cookie)
			continue;
		h = *p;
		*p = h->next;
		fd = h->fd;
		free(h);
		break;
	}
	return fd;
}

int xsvc_handed(struct xsession *ss, uint64_t cookie)
{
	int fd, err;

	pthread_mutex_lock(&ss->inbox.lock);
	do
		err = control_take(ss);
	while (!err || err == -EINTR);
	fd = inbox_find(&ss->inbox, cookie);
	pthread_mutex_unlock(&ss->inbox.lock);
	return fd;
}

/* ---- session ------------------------------------------------------------ */

static int control_connect(void)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	const char *name = getenv("XTS_CONTROL");
	struct timeval tv = {.tv_sec = 1};
	struct ucred cred;
	socklen_t len;
	int fd;

	if (!name || !*name)
		name = XTS_CONTROL_DEFAULT;
	if (strlen(name) >= sizeof(sun.sun_path))
		return -1;
	memcpy(sun.sun_path, name, strlen(name));
	len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
			  strlen(name));
	if (*name == '@')
		sun.sun_path[0] = '\0';
	else
		len++;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	if (connect(fd, (struct sockaddr *)&sun, len))
		goto fail;
	len = sizeof(cred);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) ||
	    (cred.uid != 0 && cred.uid != geteuid()))
		goto fail;
	return fd;
fail:
	close(fd);
	return -1;
}

static bool welcome_valid(const struct xts_ctl_msg *m, int fd)
{
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);

	return m->type == XTS_CTL_WELCOME && m->version == XTS_PROTO_VERSION &&
	       m->cores >= 1 && m->cores <= XTS_MAX_CORES &&
	       m->mem_size >= XTS_PAGE && m->mem_size <= SIZE_MAX / 2 &&
	       seals >= 0 && seals & F_SEAL_SHRINK && !fstat(fd, &st) &&
	       (uint64_t)st.st_size >= m->mem_size;
}

/* The conversation that opens a session; 0 or a reason. */
static enum xts_reason session_greet(struct xsession *ss)
{
	struct xts_ctl_msg m = {.type = XTS_CTL_HELLO,
				.version = XTS_PROTO_VERSION};
	enum xts_reason why = XTS_REASON_REFUSED;
	int fds[MAX_FDS] = {-1};
	uint32_t n_fds;
	void *mem;

	if (control_send(ss, &m, -1))
		return XTS_REASON_NO_SERVICE;
	if (control_recv(ss, &m, fds, &n_fds) || n_fds != 1 ||
	    !welcome_valid(&m, fds[0]))
		goto out;
	why = XTS_REASON_NO_MEMORY;
	mem = mmap(NULL, m.mem_size, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0],
		   0);
	if (mem == MAP_FAILED)
		goto out;
	madvise(mem, m.mem_size, MADV_DONTFORK);
	ss->mem = mem;
	ss->mem_size = m.mem_size;
	ss->cores = m.cores;
	ss->buf_size = m.buf_size;
	ss->keeps = m.flags & XTS_F_KEEPS;
	ss->takes = m.flags & XTS_F_TAKES;
	why = XTS_REASON_NONE;
out:
	close_all(fds, n_fds);
	return why;
}

static enum xts_reason session_open(void)
{
	struct xsession *ss;
	enum xts_reason why = XTS_REASON_NO_SERVICE;

	if (svc.retry_ns && xclock_ns() < svc.retry_ns)
		return svc.why;
	ss = calloc(1, sizeof(*ss));
	if (!ss)
		return XTS_REASON_NO_MEMORY;
	atomic_store(&ss->refs, 1);
	pthread_mutex_init(&ss->inbox.lock, NULL);
	ss->control_fd = control_connect();
	if (ss->control_fd >= 0)
		why = session_greet(ss);
	if (!why) {
		svc.current = ss;
		svc.retry_ns = 0;
		return 0;
	}
	if (ss->control_fd >= 0)
		xsvc_put(ss);
	else
		free(ss);
	svc.retry_ns = xclock_ns() + RETRY_MS * 1000000ull;
	svc.why = why;
	return why;
}

/* Contexts that nobody uses let go of a session that is lost. */
static void drain_idle(void)
{
	struct xctx *c;

	for (c = svc.contexts; c; c = c->next) {
		if (c->in_use && !c->orphan)
			continue;
		pthread_mutex_lock(&c->lock);
		xctx_drain(c);
		pthread_mutex_unlock(&c->lock);
	}
}

/* The current session, opened if there is none; 0 or a reason. */
static enum xts_reason session_get(void)
{
	uint64_t now = xclock_ns();

	if (svc.current && !atomic_load(&svc.current->lost) &&
	    now - svc.checked_ns >= CHECK_NS) {
		svc.checked_ns = now;
		xsvc_check(svc.current);
	}
	if (svc.current && atomic_load(&svc.current->lost)) {
		drain_idle();
		xsvc_put(svc.current);
		svc.current = NULL;
	}
	return svc.current ? 0 : session_open();
}

/* ---- contexts ----------------------------------------------------------- */

static bool ctx_valid(const struct xts_ctl_msg *m, const struct xsession *ss,
		      uint32_t n_fds)
{
	return m->type == XTS_CTL_CTX && n_fds == 1 + ss->cores &&
	       m->ctx_off % XTS_PAGE == 0 && m->ctx_off <= ss->mem_size &&
	       XTS_CTX_AREA_SIZE(ss->cores) <= ss->mem_size - m->ctx_off;
}

/* c is detached and locked. */
static void ctx_adopt(struct xctx *c, struct xsession *ss,
		      const struct xts_ctl_msg *m, const int *fds)
{
	uint32_t i;

	c->session = ss;
	atomic_fetch_add(&ss->refs, 1);
	c->area = (struct xts_ctx_area *)(ss->mem + m->ctx_off);
	c->number = m->ctx;
	c->event_fd = fds[0];
	for (i = 0; i < ss->cores; i++) {
		c->ring[i].area = &c->area->core[i];
		c->ring[i].doorbell_fd = fds[1 + i];
		fcntl(fds[1 + i], F_SETFL, O_NONBLOCK);
	}
	xctx_init_attached(c);
}

static enum xts_reason ctx_create(struct xsession *ss, struct xctx *c)
{
	struct xts_ctl_msg m = {.type = XTS_CTL_CTX_CREATE,
				.version = XTS_PROTO_VERSION};
	int fds[MAX_FDS] = {-1};
	uint32_t n_fds = 0;

	if (control_send(ss, &m, -1) || control_recv(ss, &m, fds, &n_fds))
		goto lost;
	if (m.type == XTS_CTL_CTX && m.err) {
		close_all(fds, n_fds);
		return XTS_REASON_NO_MEMORY;
	}
	if (!ctx_valid(&m, ss, n_fds))
		goto lost;
	pthread_mutex_lock(&c->lock);
	ctx_adopt(c, ss, &m, fds);
	pthread_mutex_unlock(&c->lock);
	return 0;
lost:
	close_all(fds, n_fds);
	xsvc_lose(ss);
	return XTS_REASON_LOST_SERVICE;
}

enum xts_reason xsvc_attach(struct xctx *c)
{
	enum xts_reason why = session_get();
	struct xsession *has;

	if (why)
		return why;
	pthread_mutex_lock(&c->lock);
	if (c->session && c->session != svc.current && !c->detached)
		xctx_drain(c); /* detaches: that one is lost */
	has = c->session;
	pthread_mutex_unlock(&c->lock);
	if (has == svc.current)
		return 0;
	/* Threads still look at the old session's memory: not now. */
	return has ? XTS_REASON_LOST_SERVICE : ctx_create(svc.current, c);
}

/* An orphan without sockets may be used again. The service keeps it: threads
 * that come and go cost it nothing. */
static void ctx_reap(struct xctx *c)
{
	pthread_mutex_lock(&c->lock);
	xctx_flush(c);
	xctx_drain(c);
	if (!c->n_socks && !c->n_waiters)
		c->orphan = c->in_use = c->dead = false;
	pthread_mutex_unlock(&c->lock);
}

static void reap_orphans(void)
{
	struct xctx *c;

	for (c = svc.contexts; c; c = c->next)
		if (c->in_use && c->orphan)
			ctx_reap(c);
}

struct xctx *xsvc_ctx_new(void)
{
	struct xctx *c;

	pthread_once(&env.once, env_read);
	pthread_mutex_lock(&svc.lock);
	reap_orphans();
	for (c = svc.contexts; c && c->in_use; c = c->next)
		;
	if (!c) {
		c = xctx_new();
		if (c) {
			c->next = svc.contexts;
			svc.contexts = c;
		}
	}
	if (c)
		c->in_use = true;
	pthread_mutex_unlock(&svc.lock);
	return c;
}

bool xsvc_flush(void)
{
	struct xctx *c;
	bool all = true;

	pthread_mutex_lock(&svc.lock);
	for (c = svc.contexts; c; c = c->next) {
		pthread_mutex_lock(&c->lock);
		all &= xctx_flush(c);
		pthread_mutex_unlock(&c->lock);
	}
	pthread_mutex_unlock(&svc.lock);
	return all;
}

void xsvc_ctx_release(struct xctx *c)
{
	if (polled_ctx == c)
		polled_ctx = NULL;
	pthread_mutex_lock(&svc.lock);
	c->orphan = true;
	ctx_reap(c);
	pthread_mutex_unlock(&svc.lock);
}

struct xctx *xctx_thread(void)
{
	if (polled_ctx && atomic_load(&polled_ctx->polling))
		return polled_ctx;
	if (!thread_ctx) {
		thread_ctx = xsvc_ctx_new();
		if (thread_ctx)
			pthread_setspecific(env.thread_key, thread_ctx);
	}
	return thread_ctx;
}

void xctx_thread_polls(struct xctx *c)
{
	polled_ctx = c;
}

/* ---- sockets ------------------------------------------------------------ */

/* Options that the library acts on, as the kernel socket has them. */
static void options_load(struct xsock *s)
{
	struct timeval tv;
	socklen_t len;
	int v;

	len = sizeof(v);
	if (!getsockopt(s->fd, SOL_SOCKET, SO_RCVLOWAT, &v, &len) && v > 0)
		atomic_store(&s->rcvlowat, (uint32_t)v);
	len = sizeof(v);
	if (!getsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &v, &len))
		atomic_store(&s->nodelay, v != 0);
	len = sizeof(v);
	if (atomic_load(&s->tuned) &&
	    !getsockopt(s->fd, SOL_SOCKET, SO_OOBINLINE, &v, &len))
		atomic_store(&s->oobinline, v != 0);
	len = sizeof(tv);
	if (!getsockopt(s->fd, SOL_SOCKET, SO_RCVTIMEO, &tv, &len))
		atomic_store(&s->rcvtimeo_ns,
			     (uint64_t)tv.tv_sec * 1000000000u +
				     (uint64_t)tv.tv_usec * 1000u);
	len = sizeof(tv);
	if (!getsockopt(s->fd, SOL_SOCKET, SO_SNDTIMEO, &tv, &len))
		atomic_store(&s->sndtimeo_ns,
			     (uint64_t)tv.tv_sec * 1000000000u +
				     (uint64_t)tv.tv_usec * 1000u);
}

/* Linux gives an accepted socket its listener's options. */
void xsvc_inherit(struct xsock *s, struct xsock *listener)
{
	if (!listener->options_known)
		options_load(listener);
	listener->options_known = true;
	atomic_store(&s->rcvlowat, atomic_load(&listener->rcvlowat));
	atomic_store(&s->rcvtimeo_ns, atomic_load(&listener->rcvtimeo_ns));
	atomic_store(&s->sndtimeo_ns, atomic_load(&listener->sndtimeo_ns));
	atomic_store(&s->nodelay, atomic_load(&listener->nodelay));
	atomic_store(&s->oobinline, atomic_load(&listener->oobinline));
	s->options_known = true;
	atomic_store(&s->tuned, atomic_load(&listener->tuned));
}

static bool offload_send(struct xctx *c, struct xsock *s)
{
	struct xts_ctl_msg m = {.type = XTS_CTL_OFFLOAD,
				.version = XTS_PROTO_VERSION,
				.ctx = c->number,
				.cookie = xsock_cookie(s),
				.flow = atomic_load(&s->ask)};

	if (atomic_load(&s->nodelay))
		m.flags |= XTS_F_NODELAY;
	if (atomic_load(&s->tuned))
		m.flags |= XTS_F_TUNED;
	return !control_send(svc.current, &m, s->fd);
}

/* Another thread may be in the kernel on it, or handle the one event that the
 * program asked for: not now. */
static bool ask_disturbs(struct xsock *s)
{
	s->ep_wants = s->ep_where == XWHERE_KERNEL &&
		      s->ep_flags & EPOLLONESHOT && !s->ep_armed;
	if (!s->ep_wants && !atomic_load(&s->kernel_calls))
		return false;
	xsock_put_off(s);
	return true;
}

/* Only Linux knows which byte of what it still has to send is urgent. */
static bool urgent_under_way(struct xsock *s)
{
	int unacked = 0;

	if (!atomic_load(&s->oob_sent))
		return false;
	if (!ioctl(s->fd, SIOCOUTQ, &unacked) && unacked) {
		atomic_store(&s->reason, XTS_REASON_URGENT);
		xsock_put_off(s);
		return true;
	}
	atomic_store(&s->oob_sent, false);
	return false;
}

/* A connection that another process has is not for us alone. It may have been
 * passed on to us, and be closed there soon. If the service carries it for that
 * one, we have to ask for it: FORKED; otherwise it is NEW again after that. */
static bool is_shared(struct xsock *s)
{
	if (s->inherited && xlend_is_shared)
		s->inherited = xlend_is_shared((int)s->index + XSOCK_FIRST);
	return s->inherited;
}

void xsvc_ask(struct xsock *s, struct xctx *c)
{
	uint32_t phase = XPHASE_NEW;
	bool shared = is_shared(s);
	enum xts_reason why;

	pthread_mutex_lock(&svc.lock);
	if (!atomic_compare_exchange_strong(&s->phase, &phase,
					    shared ? XPHASE_FORKED
						   : XPHASE_ASKING) ||
	    shared)
		goto out;
	why = xsvc_attach(c);
	if (why) {
		xsock_declined(s, why);
		goto out;
	}
	if (!s->options_known)
		options_load(s);
	s->options_known = true;
	/* Under the context's lock no other thread closes the socket. */
	pthread_mutex_lock(&c->lock);
	if (ask_disturbs(s) || urgent_under_way(s)) {
		xsock_set_phase(s, XPHASE_NEW);
		goto unlock;
	}
	xctx_join(c, s);
	xask_begin(c, s);
	xepoll_asked(c, s);
	if (offload_send(c, s)) {
		xask_sent(c, s);
	} else {
		atomic_store(&s->ask, 0);
		xctx_leave(c, s);
		xsock_declined(s, XTS_REASON_LOST_SERVICE);
		xepoll_to_kernel(c, s);
	}
unlock:
	pthread_mutex_unlock(&c->lock);
out:
	pthread_mutex_unlock(&svc.lock);
}

/* No answer follows, so the service lock is not needed. */
void xsvc_release_buffers(struct xsession *ss, uint64_t cookie)
{
	struct xts_ctl_msg m = {.type = XTS_CTL_RELEASE,
				.version = XTS_PROTO_VERSION,
				.cookie = cookie};

	if (ss->keeps && !atomic_load(&ss->lost))
		control_send(ss, &m, -1);
}

void xsvc_keep(struct xsock *s, struct xsession *ss)
{
	atomic_fetch_add(&ss->refs, 1);
	s->kept = ss;
}

void xsvc_unkeep(struct xsock *s)
{
	struct xsession *ss = s->kept;

	if (!ss)
		return;
	s->kept = NULL;
	xsvc_release_buffers(ss, xsock_cookie(s));
	xsvc_put(ss);
}

bool xsvc_move(struct xsock *s, struct xctx *to)
{
	struct xts_ctl_msg m = {.type = XTS_CTL_MOVE,
				.version = XTS_PROTO_VERSION,
				.cookie = xsock_cookie(s),
				.flow = s->flow,
				.flow_gen = s->flow_gen,
				.core = s->core};
	bool ok = false;

	pthread_mutex_lock(&svc.lock);
	if (!xsvc_attach(to)) {
		m.ctx = to->number;
		ok = !control_send(svc.current, &m, -1);
	}
	pthread_mutex_unlock(&svc.lock);
	return ok;
}

void xsvc_handover(struct xctx *c, const struct xsock *s)
{
	struct xts_ctl_msg m = {.type = XTS_CTL_HANDOVER,
				.version = XTS_PROTO_VERSION,
				.ctx = c->number,
				.cookie = xsock_cookie(s),
				.flow = s->flow,
				.flow_gen = s->flow_gen,
				.core = s->core};

	/* If it can't be sent, the session ends. */
	if (control_send(c->session, &m, s->foreign ? s->fd : -1))
		xsvc_lose(c->session);
}

/* What of the flow the parent knew is the parent's. */
static void claim_begin(struct xsock *s, struct xctx *c)
{
	s->rx_mem = s->tx_mem = NULL;
	s->rx_size = s->tx_size = s->tx_grow = 0;
	s->rx_avail = s->rx_credits = s->tx_used = s->tx_unsent = 0;
	s->cmd_flags = s->flow = s->flow_gen = s->core = 0;
	s->urg = 0;
	s->gone = false;
	s->foreign = true;
	s->leave_err = 0;
	s->leaving = XLEAVE_ASKED;
	xctx_join(c, s);
	xsvc_handover(c, s);
}

int xsvc_claim(struct xsock *s, struct xctx *c)
{
	uint32_t phase = XPHASE_FORKED;
	int err = 0;

	pthread_mutex_lock(&svc.lock);
	if (xsvc_attach(c))
		err = -ENOTCONN;
	pthread_mutex_lock(&c->lock);
	if (!err &&
	    !atomic_compare_exchange_strong(&s->phase, &phase, XPHASE_LEAVING))
		err = 1;
	if (!err)
		claim_begin(s, c);
	pthread_mutex_unlock(&c->lock);
	pthread_mutex_unlock(&svc.lock);
	return err;
}
