/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * family.c - offloaded connections that children of fork() hold, too
 *
 * Linux's connection lives as long as any process has a descriptor of it, and
 * each may use it. An offloaded one is one process's. So a process that forks
 * while it has some keeps a link to the child, a socket pair, and a thread that
 * listens to its links:
 *   - a child that uses such a connection wants it: the parent, whatever else
 *     it does or waits for, hands it over to the kernel
 *   - whenever it leaves, for this or any other reason, each child that has it
 *     is sent the new socket, to be taken when that child comes to use it
 *   - closed by the parent it stays open, without a descriptor of the
 *     program's, until the children have closed it, too, or have ended
 *   - the parent hands over what it shares before it ends or becomes another
 *     program
 *   - an epoll is both's, and readable when the parent's polling context under
 *     it may have something. A child that looks at it has the parent look first
 * A child is a parent to its own children, and keeps its link upwards open in
 * them: the connections of a grandparent are open as long as they live, and if
 * their parent has ended they ask the grandparent themselves.
 *
 * Where there is no link, or nobody at its end, the service is asked
 * (leave.c of libsock): it knows whose connection it is.
 *
 * State: the links, kept and shared are guarded by the family's lock, and so is
 * which file a descriptor of a socket of ours is (table.c). Order: the table's
 * lock, libsock's, the family's, under which none is taken.
 *
 * Memory: an entry for each child that lives, 8 bytes for each connection that
 * it shares; UPLINKS descriptors upwards.
 */
#include "libsock/preload/preload.h"

#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define UPLINKS 8u
#define STACK_SIZE (256u << 10)
#define EVENTS 16
#define NOBODY 1 /* no errno */

enum msg_type {
	MSG_WANT,   /* up: I use it */
	MSG_CLOSED, /* up: I have it no more */
	MSG_LOOK,   /* up: have you something in that epoll? */
	MSG_HANDED, /* down; with the kernel's socket */
	MSG_YOURS,  /* down: what you have is the kernel's */
	MSG_STAYS,  /* down: err says why */
	MSG_LOOKED, /* down: it is readable if so */
};

struct msg {
	uint32_t type;
	int32_t err;
	/* The same in the child, whose memory is a copy; or an epoll's number,
	 * which is no cookie */
	uint64_t cookie;
};

/* To a child: n connections; 0: it has that one no more. */
struct link {
	struct link *next;
	int fd;
	bool listened_to, ended;
	uint32_t n;
	uint64_t cookies[];
};

/* Upwards: a socket that has come before it was wanted. */
struct came {
	struct came *next;
	uint64_t cookie;
	int fd;
};

/* Closed by the program. */
struct kept {
	struct kept *next;
	uint64_t cookie;
	bool over; /* nobody shares it any more */
};

static struct {
	pthread_mutex_t lock;
	struct link *links;
	struct kept *kept;
	struct link *next; /* between fork()'s handlers */
	int child_end;
	int epfd, wake_fd;	    /* the thread's; -1: there is no thread */
	_Atomic bool stop, stopped; /* it shall end; it has */
	uint32_t n_up;
	int up[UPLINKS];
	bool has_forked;       /* children share what I share upwards */
	_Atomic bool silent;   /* family_end(): epolls ask nobody */
	pthread_mutex_t wants; /* one at a time */
	struct came *came;     /* under wants */
	uint16_t shared[FD_MAX + XSOCK_NUMBERS_FROM]; /* links, by number */
} family = {.lock = PTHREAD_MUTEX_INITIALIZER,
	    .wants = PTHREAD_MUTEX_INITIALIZER,
	    .epfd = -1,
	    .wake_fd = -1};

void family_lock(void)
{
	pthread_mutex_lock(&family.lock);
}

void family_unlock(void)
{
	pthread_mutex_unlock(&family.lock);
}

static void close_private(int fd)
{
	if (fd < 0)
		return;
	fd_set_word(fd, 0);
	real.close(fd);
}

/* ---- messages --------------------------------------------------------------
 */

static bool msg_send(int link, enum msg_type type, uint64_t cookie, int err,
		     int fd)
{
	struct msg m = {.type = type, .err = err, .cookie = cookie};
	struct iovec iov = {&m, sizeof(m)};
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} u = {0};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *cm;
	ssize_t n;

	if (fd >= 0) {
		msg.msg_control = u.buf;
		msg.msg_controllen = sizeof(u.buf);
		cm = CMSG_FIRSTHDR(&msg);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cm), &fd, sizeof(fd));
	}
	do
		n = real.sendmsg(link, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	return n == sizeof(m);
}

/* 1: one came, 0: none, -1: nor will one. *fd: the caller's. */
static int msg_recv(int link, struct msg *m, int *fd)
{
	struct iovec iov = {m, sizeof(*m)};
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} u;
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = u.buf,
			     .msg_controllen = sizeof(u.buf)};
	struct cmsghdr *cm;
	ssize_t n;

	*fd = -1;
	do
		n = real.recvmsg(link, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? 0 : -1;
	cm = CMSG_FIRSTHDR(&msg);
	if (cm && cm->cmsg_level == SOL_SOCKET && cm->cmsg_type == SCM_RIGHTS) {
		memcpy(fd, CMSG_DATA(cm), sizeof(*fd));
		*fd = own_lift(*fd);
	}
	return n == sizeof(*m) ? 1 : -1;
}

/* ---- downwards, family locked ----------------------------------------------
 */

static uint64_t *link_find(struct link *l, uint64_t cookie)
{
	uint32_t i;

	for (i = 0; i < l->n; i++)
		if (l->cookies[i] == cookie)
			return &l->cookies[i];
	return NULL;
}

static void wake(void)
{
	const uint64_t one = 1;

	if (family.wake_fd >= 0 &&
	    real.write(family.wake_fd, &one, sizeof(one)) < 0)
		return; /* woken already */
}

/* One that shared it does so no more. */
static void drop_share(uint64_t *cookie)
{
	uint16_t *n = &family.shared[xlend_number(*cookie)];
	struct kept *k;

	if (*n)
		--*n;
	for (k = *n ? NULL : family.kept; k; k = k->next)
		if (k->cookie == *cookie)
			k->over = true;
	*cookie = 0;
	wake();
}

static void link_free(struct link *l)
{
	uint32_t i;

	for (i = 0; i < l->n; i++)
		if (l->cookies[i])
			drop_share(&l->cookies[i]);
	/* A process on its way to another image may have a copy. */
	if (l->listened_to && family.epfd >= 0)
		real.epoll_ctl(family.epfd, EPOLL_CTL_DEL, l->fd, NULL);
	close_private(l->fd);
	free(l);
}

void family_push(int s, int fd)
{
	uint64_t cookie = xlend_cookie(s), *at;
	struct link *l;

	for (l = family.shared[s] ? family.links : NULL; l; l = l->next) {
		at = link_find(l, cookie);
		if (!at)
			continue;
		msg_send(l->fd, MSG_HANDED, cookie, 0, fd);
		drop_share(at);
	}
}

bool family_shares(int s)
{
	return family.shared[s];
}

bool family_keep(int s)
{
	struct kept *k = family.shared[s] ? malloc(sizeof(*k)) : NULL;
	bool keeps;

	if (!k)
		return false;
	family_lock();
	keeps = family.shared[s];
	if (keeps) {
		*k = (struct kept){family.kept, xlend_cookie(s), false};
		family.kept = k;
	}
	family_unlock();
	if (!keeps)
		free(k);
	return keeps;
}

/* ---- the thread ------------------------------------------------------------
 */

/* Is it still to be told of this one? */
static bool has(struct link *l, uint64_t cookie)
{
	bool yes;

	family_lock();
	yes = link_find(l, cookie);
	family_unlock();
	return yes;
}

/* What a child wants is handed over; if it is not sent by that, it learns why.
 */
static void serve_want(struct link *l, uint64_t cookie)
{
	int s = xlend_number(cookie), rc = -ENOENT;
	uint64_t *at;

	if (has(l, cookie) && xlend_cookie(s) == cookie)
		rc = xlend_state(s) == XLEND_FORKED ? sock_claim(s)
		     : xts_handover(s)		    ? -errno
						    : 0;
	family_lock();
	at = link_find(l, cookie);
	if (rc) {
		msg_send(l->fd, MSG_STAYS, cookie, -rc, -1);
	} else if (at) {
		msg_send(l->fd, MSG_YOURS, cookie, 0, -1);
		drop_share(at);
	}
	family_unlock();
}

static void serve_link(struct link *l)
{
	struct msg m;
	int fd, rc;
	uint64_t *at;

	while ((rc = msg_recv(l->fd, &m, &fd)) > 0) {
		close_private(fd);
		if (m.type == MSG_WANT) {
			serve_want(l, m.cookie);
		} else if (m.type == MSG_CLOSED) {
			family_lock();
			at = link_find(l, m.cookie);
			if (at)
				drop_share(at);
			family_unlock();
		} else if (m.type == MSG_LOOK) {
			ep_look((int)m.cookie);
			msg_send(l->fd, MSG_LOOKED, m.cookie, 0, -1);
		}
	}
	l->ended = rc < 0;
}

/* Locked: those that ended, out of the list. */
static void forget_ended(void)
{
	struct link **p = &family.links, *l;

	while ((l = *p)) {
		if (!l->ended) {
			p = &l->next;
			continue;
		}
		*p = l->next;
		link_free(l);
	}
}

/* The connections that nobody has any more. */
static void close_kept(void)
{
	struct kept **p, *k, *over = NULL;

	family_lock();
	forget_ended();
	for (p = &family.kept; (k = *p);) {
		if (!k->over) {
			p = &k->next;
			continue;
		}
		*p = k->next;
		k->next = over;
		over = k;
	}
	family_unlock();
	while ((k = over)) {
		over = k->next;
		if (xlend_cookie(xlend_number(k->cookie)) == k->cookie)
			xts_close(xlend_number(k->cookie));
		free(k);
	}
}

/* Only this thread takes links out of the list. */
static void *listen_to_links(void *arg)
{
	struct epoll_event evs[EVENTS];
	uint64_t drop;
	int n, i;

	while (!atomic_load(&family.stop)) {
		n = real.epoll_wait(family.epfd, evs, EVENTS, -1);
		for (i = 0; i < n; i++)
			if (evs[i].data.ptr)
				serve_link(evs[i].data.ptr);
			else if (real.read(family.wake_fd, &drop,
					   sizeof(drop)) < 0)
				continue;
		close_kept();
	}
	atomic_store(&family.stopped, true);
	return NULL;
}

static void fds_close(void)
{
	close_private(family.wake_fd);
	close_private(family.epfd);
	family.epfd = family.wake_fd = -1;
}

static bool listens_to(int fd, struct link *l)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = l};

	return fd >= 0 && !real.epoll_ctl(family.epfd, EPOLL_CTL_ADD, fd, &ev);
}

static bool fds_open(void)
{
	family.epfd = own_lift(real.epoll_create1(EPOLL_CLOEXEC));
	family.wake_fd = own_lift(real.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	if (family.epfd >= 0 && listens_to(family.wake_fd, NULL))
		return true;
	fds_close();
	return false;
}

/* Its signals are the program's other threads'. */
static bool thread_start(void)
{
	sigset_t all, before;
	pthread_attr_t attr;
	pthread_t t;

	if (family.epfd >= 0)
		return true;
	if (!fds_open())
		return false;
	atomic_store(&family.stop, false);
	atomic_store(&family.stopped, false);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	if (pthread_create(&t, &attr, listen_to_links, NULL))
		fds_close();
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return family.epfd >= 0;
}

/* ---- fork() ----------------------------------------------------------------
 */

/* It is not Linux's, nor will it stay so by itself. */
static bool is_shared(int fd, int s)
{
	enum xlend_state state = s ? xlend_state(s) : XLEND_GONE;

	return (state == XLEND_ASKING || state == XLEND_OFFLOADED ||
		state == XLEND_FORKED) &&
	       fd_stands_for(fd, s);
}

/* Only the descriptors' words are looked at. */
static struct link *link_new(void)
{
	int fd, high = fd_highest();
	struct link *l = NULL;
	uint32_t n = 0;

	for (fd = 0; fd <= high; fd++)
		n += is_shared(fd, fd_socket(fd));
	if (n)
		l = malloc(sizeof(*l) + n * sizeof(l->cookies[0]));
	if (!l)
		return NULL;
	*l = (struct link){.fd = -1};
	for (fd = 0; fd <= high && l->n < n; fd++)
		if (is_shared(fd, fd_socket(fd)))
			l->cookies[l->n++] = xlend_cookie(fd_socket(fd));
	return l;
}

void family_prepare(void)
{
	int err = errno, pair[2];

	family_lock();
	family.next = link_new();
	if (family.next &&
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
		free(family.next);
		family.next = NULL;
	}
	if (family.next) {
		family.next->fd = own_lift(pair[0]);
		family.child_end = own_lift(pair[1]);
	}
	errno = err;
}

/* If there is no child after all, the link's end says so. */
void family_parent(void)
{
	struct link *l = family.next;
	uint32_t i;

	family.next = NULL;
	if (l) {
		close_private(family.child_end);
		l->next = family.links;
		family.links = l;
		family.has_forked = true;
		for (i = 0; i < l->n; i++)
			family.shared[xlend_number(l->cookies[i])]++;
	}
	family_unlock();
}

static void forget_links(void)
{
	struct link *l;

	while ((l = family.links)) {
		family.links = l->next;
		link_free(l);
	}
}

/* After all other handlers of fork(). Without a thread the children ask the
 * service. */
void family_begin(void)
{
	struct link *l;
	bool ok = true;

	family_lock();
	if (family.links)
		ok = thread_start();
	for (l = family.links; l && ok; l = l->next) {
		ok = l->listened_to || listens_to(l->fd, l);
		l->listened_to = ok;
	}
	/* Those that the thread may look at are its own to free. */
	while (!ok && family.links && !family.links->listened_to) {
		l = family.links;
		family.links = l->next;
		link_free(l);
	}
	family_unlock();
}

void family_child(void)
{
	struct link *l = family.next;

	pthread_mutex_init(&family.lock, NULL);
	pthread_mutex_init(&family.wants, NULL);
	fds_close();
	forget_links();
	family.has_forked = false;
	family.next = NULL;
	if (!l)
		return;
	close_private(l->fd);
	free(l);
	if (family.n_up < UPLINKS)
		family.up[family.n_up++] = family.child_end;
	else
		close_private(family.child_end);
}

/* The parent's kept ones are none of the child's. */
void family_child_end(void)
{
	struct kept *k;

	while ((k = family.kept)) {
		family.kept = k->next;
		if (xlend_cookie(xlend_number(k->cookie)) == k->cookie)
			xts_close(xlend_number(k->cookie));
		free(k);
	}
}

/* ---- upwards, wants locked -------------------------------------------------
 */

static int came_find(uint64_t cookie)
{
	struct came **p, *k;
	int fd = -1;

	for (p = &family.came; (k = *p); p = &k->next) {
		if (k->cookie != cookie)
			continue;
		fd = k->fd;
		*p = k->next;
		free(k);
		break;
	}
	return fd;
}

/* A socket that nobody waits for. */
static void came_add(uint64_t cookie, int fd)
{
	int s = xlend_number(cookie);
	struct came *k = NULL;

	if (xlend_cookie(s) == cookie && xlend_state(s) == XLEND_FORKED)
		k = malloc(sizeof(*k));
	if (!k) {
		close_private(fd);
		return;
	}
	*k = (struct came){family.came, cookie, fd};
	family.came = k;
}

/* What a link says of cookie, others are kept. 0, *fd is the socket or -1: what
 * the child has is good; -EAGAIN: nothing; NOBODY: nor will it. */
static int up_read(int link, uint64_t cookie, int *fd)
{
	struct msg m;
	int rc;

	while ((rc = msg_recv(link, &m, fd)) > 0) {
		if (m.cookie != cookie) {
			if (*fd >= 0)
				came_add(m.cookie, *fd);
			continue;
		}
		if (m.type != MSG_STAYS)
			return 0;
		return m.err == ENOENT ? NOBODY : -m.err;
	}
	return rc ? NOBODY : -EAGAIN;
}

static int up_ask(int link, enum msg_type type, uint64_t cookie, int *fd)
{
	struct pollfd p = {.fd = link, .events = POLLIN};
	int rc = up_read(link, cookie, fd);

	if (rc != -EAGAIN)
		return rc;
	if (!msg_send(link, type, cookie, 0, -1))
		return NOBODY;
	while ((rc = up_read(link, cookie, fd)) == -EAGAIN)
		real.poll(&p, 1, -1);
	return rc;
}

/* The youngest link whose other end lives. */
static int want(int s, uint64_t cookie)
{
	int fd = came_find(cookie), rc = fd < 0 ? NOBODY : 0;
	uint32_t i;

	for (i = family.n_up; i-- && rc == NOBODY;)
		rc = up_ask(family.up[i], MSG_WANT, cookie, &fd);
	if (rc)
		return rc;
	if (fd >= 0) {
		fd_replace_all(s, xts_shadow_fd(s), fd);
		close_private(fd);
	}
	xlend_taken(s);
	return 0;
}

int family_want(int s)
{
	uint64_t cookie = xlend_cookie(s);
	int rc = 0, err = errno;

	if (!family.n_up)
		return NOBODY;
	pthread_mutex_lock(&family.wants);
	if (xlend_state(s) == XLEND_FORKED)
		rc = want(s, cookie);
	pthread_mutex_unlock(&family.wants);
	errno = err;
	return rc;
}

bool family_asks(void)
{
	return family.n_up && !atomic_load(&family.silent);
}

void family_look(int epoll)
{
	int fd, err = errno;
	uint32_t i;

	if (!family_asks())
		return;
	pthread_mutex_lock(&family.wants);
	for (i = family.n_up; i--;)
		up_ask(family.up[i], MSG_LOOK, (uint64_t)epoll, &fd);
	pthread_mutex_unlock(&family.wants);
	errno = err;
}

void family_closed(int s)
{
	uint64_t cookie = xlend_cookie(s);
	int fd = -1, err = errno, rc;
	uint32_t i;

	if (!family.n_up || xlend_state(s) != XLEND_FORKED)
		return;
	pthread_mutex_lock(&family.wants);
	fd = came_find(cookie);
	for (i = family.n_up; i-- && fd < 0;) {
		rc = up_read(family.up[i], cookie, &fd);
		if (rc == -EAGAIN && !family.has_forked)
			msg_send(family.up[i], MSG_CLOSED, cookie, 0, -1);
	}
	pthread_mutex_unlock(&family.wants);
	close_private(fd);
	errno = err;
}

/* ---- ending ----------------------------------------------------------------
 */

void family_leave(void)
{
	uint64_t *cookies = NULL;
	uint32_t n = 0, i;
	struct link *l;

	family_lock();
	for (l = family.links; l; l = l->next)
		n += l->n;
	if (n)
		cookies = malloc(n * sizeof(*cookies));
	n = 0;
	for (l = cookies ? family.links : NULL; l; l = l->next)
		for (i = 0; i < l->n; i++)
			if (l->cookies[i])
				cookies[n++] = l->cookies[i];
	family_unlock();
	while (n--) {
		int s = xlend_number(cookies[n]);

		if (xlend_cookie(s) == cookies[n] &&
		    xlend_state(s) == XLEND_OFFLOADED)
			xts_handover(s);
	}
	free(cookies);
}

/* What was shared has been sent; the children need no answer any more. */
void family_end(void)
{
	atomic_store(&family.silent, true);
	family_leave();
	family_lock();
	if (family.epfd < 0) {
		family_unlock();
		return;
	}
	atomic_store(&family.stop, true);
	wake();
	family_unlock();
	while (!atomic_load(&family.stopped))
		sched_yield();
	close_kept();
	family_lock();
	forget_links();
	fds_close();
	family_unlock();
}
