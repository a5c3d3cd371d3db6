/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ctx.c - contexts: their life, and giving commands
 *
 * Read xts_proto.h first (rings). The command rings of a context have one
 * producer: whoever holds its lock.
 *
 * Commands. A socket that has something to tell (credits, data, a shutdown or
 * close) and has not told it is on the dirty list. A send tells at once and
 * takes the credits of earlier receives along, so that a request and its answer
 * cost one command; credits alone are told when half a buffer has gathered or
 * when the thread is about to wait. A full ring leaves sockets on the list; the
 * next call on the context tries again.
 *
 * When the session is lost, the context detaches at the next look at its rings:
 * its connections are reset, its descriptors are closed and its share of the
 * memory given up once no spinning thread looks at it any more.
 *
 * Memory: a struct per context, recycled, never freed; XTS_MAX_CTX of them can
 * be attached.
 */
#include "libsock/service.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RING_MASK (XTS_RING_SLOTS - 1)

/* ---- membership --------------------------------------------------------- */

void xctx_join(struct xctx *c, struct xsock *s)
{
	TAILQ_INSERT_TAIL(&c->socks, s, ctx_link);
	c->n_socks++;
	atomic_store_explicit(&s->ctx, c, memory_order_release);
}

void xctx_leave(struct xctx *c, struct xsock *s)
{
	if (s->dirty) {
		TAILQ_REMOVE(&c->dirty, s, dirty_link);
		s->dirty = false;
	}
	if (s->listed) {
		TAILQ_REMOVE(&c->ready, s, ready_link);
		c->n_ready--;
		s->listed = false;
	}
	TAILQ_REMOVE(&c->socks, s, ctx_link);
	c->n_socks--;
	atomic_store_explicit(&s->ctx, NULL, memory_order_release);
}

/* ---- commands ----------------------------------------------------------- */

void xctx_mark_dirty(struct xctx *c, struct xsock *s)
{
	if (s->dirty)
		return;
	s->dirty = true;
	TAILQ_INSERT_TAIL(&c->dirty, s, dirty_link);
}

/* The next free command slot of a core, NULL: the ring is full. */
static struct xts_cmd *cmd_reserve(struct xring *ring)
{
	if (ring->cmd_producer - ring->cmd_consumer >= XTS_RING_SLOTS) {
		ring->cmd_consumer = __atomic_load_n(
			&ring->area->cmd_index.consumer, __ATOMIC_ACQUIRE);
		if (ring->cmd_producer - ring->cmd_consumer >= XTS_RING_SLOTS)
			return NULL;
	}
	return &ring->area->cmd[ring->cmd_producer & RING_MASK];
}

static void cmd_submit(struct xring *ring)
{
	__atomic_store_n(&ring->area->cmd_index.producer, ++ring->cmd_producer,
			 __ATOMIC_RELEASE);
}

static void kick(struct xring *ring)
{
	uint64_t one = 1;
	ssize_t n;

	xfence();
	if (__builtin_expect(!__atomic_load_n(&ring->area->core.need_doorbell,
					      __ATOMIC_RELAXED),
			     1))
		return;
	/* EAGAIN: it is rung already. */
	do
		n = write(ring->doorbell_fd, &one, sizeof(one));
	while (n < 0 && errno == EINTR);
}

/* false: the ring is full, s stays as it is. */
/* What one command can tell of: up to the end of the buffer, and of the urgent
 * byte, which is its last. */
static uint32_t tell_len(const struct xsock *s, uint32_t off)
{
	uint32_t len = s->tx_unsent;

	if (len > s->tx_size - off)
		len = s->tx_size - off;
	if (__builtin_expect(s->cmd_flags & XTS_F_URGENT, 0) && len > s->tx_urg)
		len = s->tx_urg;
	return len;
}

/* And the flags that go with it. The others wait for the last one. */
static uint32_t tell_flags(struct xsock *s, uint32_t len)
{
	uint32_t flags = s->tx_unsent ? 0 : s->cmd_flags & ~XTS_F_URGENT;

	if (__builtin_expect(s->cmd_flags & XTS_F_URGENT, 0)) {
		s->tx_urg -= len;
		if (!s->tx_urg) {
			flags |= XTS_F_URGENT;
			s->cmd_flags &= ~XTS_F_URGENT;
		}
	}
	if (!s->tx_unsent)
		s->cmd_flags = 0;
	return flags;
}

static bool tell(struct xctx *c, struct xsock *s)
{
	struct xring *ring = &c->ring[s->core];
	uint32_t off, len;
	struct xts_cmd *cmd;

	while (s->tx_unsent || s->rx_credits || s->cmd_flags) {
		cmd = cmd_reserve(ring);
		if (!cmd)
			return false;
		off = (s->tx_off - s->tx_unsent) & (s->tx_size - 1);
		len = tell_len(s, off);
		cmd->type = XTS_CMD_SEND;
		cmd->flow = s->flow;
		cmd->flow_gen = s->flow_gen;
		cmd->off = off;
		cmd->len = len;
		cmd->credits = s->rx_credits;
		s->rx_credits = 0;
		s->tx_unsent -= len;
		cmd->flags = tell_flags(s, len);
		cmd_submit(ring);
	}
	return true;
}

/* By the rule of xts_proto.h, so that nothing wraps round. */
static void move_tx(struct xsock *s, uint32_t start)
{
	uint32_t first = s->tx_size - start;

	if (first > s->tx_used)
		first = s->tx_used;
	if (s->tx_large != s->tx_mem)
		memcpy(s->tx_large + start, s->tx_mem + start, first);
	memcpy(s->tx_large + s->tx_size, s->tx_mem, s->tx_used - first);
}

void xctx_grow_tx(struct xctx *c, struct xsock *s)
{
	struct xring *ring = &c->ring[s->core];
	uint32_t start = (s->tx_off - s->tx_used) & (s->tx_size - 1);
	struct xts_cmd *cmd;

	if (!s->tx_grow || s->tx_unsent || s->gone || s->leaving ||
	    !atomic_load(&c->cores))
		return;
	/* Within the large area nothing may change its place while the core
	 * still reads it. */
	if (s->tx_mem == s->tx_large && start + s->tx_used > s->tx_size)
		return;
	cmd = cmd_reserve(ring);
	if (!cmd)
		return;
	move_tx(s, start);
	memset(cmd, 0, sizeof(*cmd));
	cmd->type = XTS_CMD_GROW_TX;
	cmd->flow = s->flow;
	cmd->flow_gen = s->flow_gen;
	cmd->off = start;
	cmd->len = s->tx_grow;
	cmd_submit(ring);
	s->tx_mem = s->tx_large;
	s->tx_size = s->tx_grow;
	s->tx_grow = 0;
	s->tx_off = (start + s->tx_used) & (s->tx_size - 1);
	kick(ring);
}

void xctx_flush_sock(struct xctx *c, struct xsock *s)
{
	bool told;

	if (!atomic_load_explicit(&c->cores, memory_order_relaxed) || s->gone ||
	    !s->rx_size)
		return;
	told = tell(c, s);
	kick(&c->ring[s->core]);
	if (__builtin_expect(s->leaving, 0))
		xleave_told(c, s);
	else if (__builtin_expect(s->tx_grow, 0))
		xctx_grow_tx(c, s);
	if (!told) {
		xctx_mark_dirty(c, s);
	} else if (s->dirty) {
		TAILQ_REMOVE(&c->dirty, s, dirty_link);
		s->dirty = false;
	}
}

bool xctx_flush(struct xctx *c)
{
	struct xsock *s, *next;
	uint32_t cores = 0, i;
	bool all = true;

	if (TAILQ_EMPTY(&c->dirty))
		return true;
	for (s = TAILQ_FIRST(&c->dirty); s; s = next) {
		next = TAILQ_NEXT(s, dirty_link);
		if (!s->gone && xsock_phase(s) == XPHASE_MOVING)
			continue;
		if (!s->gone && !tell(c, s)) {
			all = false;
		} else {
			if (s->leaving)
				xleave_told(c, s);
			TAILQ_REMOVE(&c->dirty, s, dirty_link);
			s->dirty = false;
		}
		cores |= 1u << s->core;
	}
	for (i = 0; i < atomic_load(&c->cores); i++)
		if (cores & 1u << i)
			kick(&c->ring[i]);
	return all;
}

bool xctx_command(struct xctx *c, struct xsock *s, const struct xts_cmd *what)
{
	struct xring *ring = &c->ring[s->core];
	struct xts_cmd *cmd;

	if (!atomic_load(&c->cores) || s->gone)
		return true;
	cmd = cmd_reserve(ring);
	if (!cmd)
		return false;
	*cmd = *what;
	cmd->flow = s->flow;
	cmd->flow_gen = s->flow_gen;
	cmd_submit(ring);
	kick(ring);
	return true;
}

/* ---- life --------------------------------------------------------------- */

void xctx_watch_session(struct xctx *c)
{
	xctx_watch(c->epfd, c->event_fd, XTAG_EVENT, EPOLLIN | EPOLLET);
	xctx_watch(c->epfd, c->session->control_fd, XTAG_CONTROL,
		   EPOLLRDHUP | EPOLLET);
}

void xctx_init_attached(struct xctx *c)
{
	uint32_t i;

	for (i = 0; i < c->session->cores; i++) {
		c->ring[i].cmd_producer = c->ring[i].cmd_consumer = 0;
		__atomic_store_n(&c->ring[i].reply_consumer, 0,
				 __ATOMIC_RELAXED);
	}
	c->sleep_word = 0; /* a new area is all zero */
	c->attach_no++;
	c->detached = false;
	c->empty_drains = 0;
	atomic_store(&c->asked, 0);
	atomic_store(&c->decided, 0);
	if (c->n_sleepers || c->armed)
		xctx_sleep_begin(c);
	if (c->polling)
		xctx_watch_session(c);
	atomic_store(&c->cores, c->session->cores);
	/* Sleepers made earlier don't listen to the eventfd. */
	xctx_wake(c);
}

void xctx_forget_rings(struct xctx *c)
{
	uint32_t i;

	/* Closing leaves the epolls only if no other process has it open. */
	if (c->polling && c->epfd >= 0) {
		epoll_ctl(c->epfd, EPOLL_CTL_DEL, c->event_fd, NULL);
		epoll_ctl(c->epfd, EPOLL_CTL_DEL, c->session->control_fd, NULL);
	}
	close(c->event_fd);
	for (i = 0; i < c->session->cores; i++)
		close(c->ring[i].doorbell_fd);
	xsvc_put(c->session);
	c->session = NULL;
	c->area = NULL;
	c->detached = false;
	c->attach_no++;
}

/* No rings any more: what was offloaded has lost its connection. What Linux
 * thinks of these connections is older than what the peers think: it is told
 * to forget them, so that the peers are reset when they next send. */
void xctx_detach(struct xctx *c)
{
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	struct xsock *s, *next;

	atomic_store(&c->cores, 0);
	c->detached = true;
	for (s = TAILQ_FIRST(&c->socks); s; s = next) {
		next = TAILQ_NEXT(s, ctx_link);
		if (xsock_phase(s) == XPHASE_CLOSING) {
			xctx_close_answered(c, s);
			continue;
		}
		if (s->leaving && xleave_lost(c, s))
			continue;
		atomic_store(&s->reason, XTS_REASON_LOST_SERVICE);
		if (!s->gone)
			(void)connect(s->fd, &none, sizeof(none));
		xctx_end_flow(c, s, ECONNRESET);
		xsvc_unkeep(s);
		s->rx_avail = s->urg = 0;
		atomic_store(&s->ask, 0);
		if (xsock_phase(s) == XPHASE_ASKING) {
			xsock_set_phase(s, XPHASE_OFFLOADED);
			xepoll_to_user(c, s);
		}
	}
	xctx_wake(c);
	if (!c->n_waiters)
		xctx_forget_rings(c);
}

struct xctx *xctx_new(void)
{
	struct xctx *c = aligned_alloc(XTS_CACHELINE,
				       (sizeof(*c) + XTS_CACHELINE - 1) &
					       ~(size_t)(XTS_CACHELINE - 1));

	if (!c)
		return NULL;
	memset(c, 0, sizeof(*c));
	pthread_mutex_init(&c->lock, NULL);
	TAILQ_INIT(&c->socks);
	TAILQ_INIT(&c->dirty);
	TAILQ_INIT(&c->ready);
	c->epfd = c->kern_epfd = c->wake_fd = -1;
	return c;
}

/* The parent's threads are not here, its memory is not ours. */
void xctx_child(struct xctx *c)
{
	struct xsleeper *sl;
	uint32_t i;

	pthread_mutex_init(&c->lock, NULL);
	while ((sl = c->idle_sleepers)) {
		c->idle_sleepers = sl->next;
		xctx_sleeper_free(sl);
	}
	while ((sl = c->asleep)) {
		c->asleep = sl->next;
		xctx_sleeper_free(sl);
	}
	if (c->session) {
		close(c->event_fd);
		for (i = 0; i < c->session->cores; i++)
			close(c->ring[i].doorbell_fd);
	}
	if (c->polling) {
		close(c->epfd);
		close(c->kern_epfd);
		close(c->wake_fd);
		c->dead = true;
	}
	c->session = NULL;
	c->area = NULL;
	atomic_store(&c->cores, 0);
	c->n_sleepers = c->n_waiters = c->n_socks = c->n_ready = 0;
	c->armed = c->detached = false;
	atomic_store(&c->polling, false);
	c->epfd = c->kern_epfd = c->wake_fd = -1;
	TAILQ_INIT(&c->socks);
	TAILQ_INIT(&c->dirty);
	TAILQ_INIT(&c->ready);
}
