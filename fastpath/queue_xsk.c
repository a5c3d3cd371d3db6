/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * queue_xsk.c - a queue on an AF_XDP socket
 *
 * Read first: Documentation/networking/af_xdp.rst, libxdp's xsk.h. One UMEM a
 * queue: its first half belongs to reception and goes round between the fill
 * ring, the RX ring and the caller; the second half to transmission, round
 * between a stack of free frames, the TX ring and the completion ring. So
 * neither direction can starve the other, and no ring can overflow: each is as
 * large as the frames that can be in it.
 *
 * Zero-copy is tried first unless the caller knows better; generic XDP has
 * only copy mode. The XDP program is not loaded here (bpf/ does that).
 *
 * kick() makes a system call only if the TX ring holds frames and the kernel
 * wants to be told. In copy mode that call sends them, up to 32 at a time, so
 * it may be repeated; when the device's queue is full the rest waits for the
 * next turn. When the fill ring ran dry the kernel may need a call as well
 * before it receives again; rx() makes it when it finds nothing.
 *
 * State: one struct queue_xsk, one thread.
 */
#include "fastpath/queue.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/if_xdp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <xdp/xsk.h>

#define KICK_TRIES 4
#define BUSY_PAUSE_NS 10000000L
#define BUSY_TRIES 50

struct queue_xsk {
	struct queue q;
	struct xsk_ring_cons rx;
	struct xsk_ring_prod tx;
	struct xsk_ring_prod fill;
	struct xsk_ring_cons comp;
	int fd;
	uint32_t frame_size;
	uint32_t half;	 /* frames of each direction */
	uint32_t n_free; /* of free[] */
	uint8_t *area;
	uint64_t area_size;
	struct xsk_umem *umem;
	struct xsk_socket *xsk;
	uint32_t free[]; /* addresses of free transmit frames */
};

static struct queue_xsk *xsk_of(struct queue *q)
{
	return (struct queue_xsk *)q;
}

static unsigned int xsk_rx(struct queue *q, struct queue_frame *f,
			   unsigned int max)
{
	struct queue_xsk *x = xsk_of(q);
	uint32_t idx, n, i;
	uint64_t bytes = 0;

	n = xsk_ring_cons__peek(&x->rx, max, &idx);
	if (!n) {
		if (xsk_ring_prod__needs_wakeup(&x->fill))
			recvfrom(x->fd, NULL, 0, MSG_DONTWAIT, NULL, NULL);
		return 0;
	}
	for (i = 0; i < n; i++) {
		const struct xdp_desc *d =
			xsk_ring_cons__rx_desc(&x->rx, idx + i);

		f[i].addr = (uint32_t)d->addr;
		f[i].len = d->len;
		f[i].data = x->area + d->addr;
		bytes += d->len;
	}
	xsk_ring_cons__release(&x->rx, n);
	queue_count(&q->stats.rx_frames, n);
	queue_count(&q->stats.rx_bytes, bytes);
	return n;
}

static void xsk_rx_release(struct queue *q, const struct queue_frame *f,
			   unsigned int n)
{
	struct queue_xsk *x = xsk_of(q);
	uint32_t base = ~(x->frame_size - 1);
	uint32_t idx, i;

	/* There is always room: as many slots as receive frames. */
	if (!n || xsk_ring_prod__reserve(&x->fill, n, &idx) != n)
		return;
	for (i = 0; i < n; i++)
		*xsk_ring_prod__fill_addr(&x->fill, idx + i) = f[i].addr & base;
	xsk_ring_prod__submit(&x->fill, n);
}

/* Take back what was sent. */
static void reap(struct queue_xsk *x)
{
	uint32_t idx, n, i;

	n = xsk_ring_cons__peek(&x->comp, x->half, &idx);
	if (!n)
		return;
	for (i = 0; i < n; i++)
		x->free[x->n_free++] =
			(uint32_t)*xsk_ring_cons__comp_addr(&x->comp, idx + i);
	xsk_ring_cons__release(&x->comp, n);
}

static bool xsk_tx_alloc(struct queue *q, struct queue_frame *f)
{
	struct queue_xsk *x = xsk_of(q);

	if (x->n_free == 0) {
		reap(x);
		if (x->n_free == 0) {
			queue_count(&q->stats.tx_full, 1);
			return false;
		}
	}
	f->addr = x->free[--x->n_free];
	f->data = x->area + f->addr;
	f->len = x->frame_size;
	return true;
}

static void xsk_tx_submit(struct queue *q, const struct queue_frame *f)
{
	struct queue_xsk *x = xsk_of(q);
	struct xdp_desc *d;
	uint32_t idx;

	/* There is always room: as many slots as transmit frames. */
	if (xsk_ring_prod__reserve(&x->tx, 1, &idx) != 1) {
		x->free[x->n_free++] = f->addr;
		return;
	}
	d = xsk_ring_prod__tx_desc(&x->tx, idx);
	d->addr = f->addr;
	d->len = f->len;
	d->options = 0;
	xsk_ring_prod__submit(&x->tx, 1);
	queue_count(&q->stats.tx_frames, 1);
	queue_count(&q->stats.tx_bytes, f->len);
}

static void xsk_tx_abandon(struct queue *q, const struct queue_frame *f)
{
	struct queue_xsk *x = xsk_of(q);

	x->free[x->n_free++] = f->addr;
}

static bool tx_ring_empty(const struct queue_xsk *x)
{
	return __atomic_load_n(x->tx.consumer, __ATOMIC_ACQUIRE) ==
	       *x->tx.producer;
}

static bool xsk_kick(struct queue *q)
{
	struct queue_xsk *x = xsk_of(q);
	bool empty;
	int tries;

	for (tries = 0; tries < KICK_TRIES; tries++) {
		if (tx_ring_empty(x))
			break;
		if (!xsk_ring_prod__needs_wakeup(&x->tx)) {
			q->to_kick = true; /* it may stop before the end */
			return true;	   /* the driver is at it */
		}
		queue_count(&q->stats.kicks, 1);
		if (sendto(x->fd, NULL, 0, MSG_DONTWAIT, NULL, 0) < 0 &&
		    errno != EAGAIN)
			break; /* EBUSY, ENOBUFS: full; ENETDOWN: wait */
	}
	if (x->n_free < x->half / 2)
		reap(x);
	empty = tx_ring_empty(x);
	q->to_kick = !empty;
	return empty;
}

static int xsk_fd(const struct queue *q)
{
	return ((const struct queue_xsk *)q)->fd;
}

static void xsk_close(struct queue *q)
{
	struct queue_xsk *x = xsk_of(q);

	if (x->xsk)
		xsk_socket__delete(x->xsk);
	if (x->umem)
		xsk_umem__delete(x->umem);
	if (x->area)
		munmap(x->area, x->area_size);
	free(x);
}

static const struct queue_ops xsk_ops = {
	.rx = xsk_rx,
	.rx_release = xsk_rx_release,
	.tx_alloc = xsk_tx_alloc,
	.tx_submit = xsk_tx_submit,
	.tx_abandon = xsk_tx_abandon,
	.kick = xsk_kick,
	.fd = xsk_fd,
	.close = xsk_close,
};

static int open_umem(struct queue_xsk *x, const struct queue_xsk_config *cfg)
{
	struct xsk_umem_config uc = {
		.fill_size = x->half,
		.comp_size = x->half,
		.frame_size = cfg->frame_size,
	};
	void *area;

	x->area_size = (uint64_t)cfg->frames * cfg->frame_size;
	area = mmap(NULL, x->area_size, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (area == MAP_FAILED)
		return -errno;
	x->area = area;
	return xsk_umem__create(&x->umem, area, x->area_size, &x->fill,
				&x->comp, &uc);
}

static int open_socket(struct queue_xsk *x, const struct queue_xsk_config *cfg,
		       uint16_t bind_mode)
{
	struct xsk_socket_config sc = {
		.rx_size = x->half,
		.tx_size = x->half,
		.libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD,
		.xdp_flags = cfg->generic ? XDP_FLAGS_SKB_MODE : 0,
		.bind_flags = XDP_USE_NEED_WAKEUP | bind_mode,
	};

	return xsk_socket__create(&x->xsk, cfg->ifname, cfg->queue_id, x->umem,
				  &x->rx, &x->tx, &sc);
}

/* Zero-copy if it may be and the driver can, else copy. A UMEM whose socket
 * could not be bound is made anew: its rings went with the socket. */
static int open_mode(struct queue_xsk *x, const struct queue_xsk_config *cfg,
		     uint16_t bind_mode)
{
	int err = open_umem(x, cfg);

	if (!err)
		err = open_socket(x, cfg, bind_mode);
	if (!err)
		return 0;
	x->xsk = NULL;
	if (x->umem)
		xsk_umem__delete(x->umem);
	x->umem = NULL;
	if (x->area)
		munmap(x->area, x->area_size);
	x->area = NULL;
	return err;
}

static int open_best(struct queue_xsk *x, const struct queue_xsk_config *cfg)
{
	int err = -EOPNOTSUPP;

	if (!cfg->generic && !cfg->force_copy) {
		err = open_mode(x, cfg, XDP_ZEROCOPY);
		x->q.mode = "zero-copy";
	}
	if (err && err != -EBUSY && err != -EPERM && err != -ENODEV) {
		err = open_mode(x, cfg, XDP_COPY);
		x->q.mode = cfg->generic ? "generic" : "copy";
	}
	return err;
}

/* The kernel lets a queue go some time after its last socket was closed: a
 * service that was just restarted waits for its predecessor's. */
static int open_patiently(struct queue_xsk *x,
			  const struct queue_xsk_config *cfg)
{
	const struct timespec pause = {.tv_nsec = BUSY_PAUSE_NS};
	unsigned int n;
	int err = open_best(x, cfg);

	for (n = 0; err == -EBUSY && n < BUSY_TRIES; n++) {
		nanosleep(&pause, NULL);
		err = open_best(x, cfg);
	}
	return err;
}

static void fill_all(struct queue_xsk *x)
{
	uint32_t idx, i;

	if (xsk_ring_prod__reserve(&x->fill, x->half, &idx) == x->half) {
		for (i = 0; i < x->half; i++)
			*xsk_ring_prod__fill_addr(&x->fill, idx + i) =
				(uint64_t)i * x->frame_size;
		xsk_ring_prod__submit(&x->fill, x->half);
	}
	for (i = 0; i < x->half; i++)
		x->free[i] = (x->half + i) * x->frame_size;
	x->n_free = x->half;
}

struct queue *queue_xsk_open(const struct queue_xsk_config *cfg)
{
	struct queue_xsk *x;
	int err;

	if (cfg->frames < 4 || (cfg->frames & (cfg->frames - 1)) ||
	    (cfg->frame_size != 2048 && cfg->frame_size != 4096) ||
	    (uint64_t)cfg->frames * cfg->frame_size > UINT32_MAX) {
		errno = EINVAL;
		return NULL;
	}
	x = calloc(1, sizeof(*x) + cfg->frames / 2 * sizeof(x->free[0]));
	if (!x)
		return NULL;
	x->q.ops = &xsk_ops;
	x->half = cfg->frames / 2;
	x->frame_size = cfg->frame_size;
	err = open_patiently(x, cfg);
	if (err) {
		free(x);
		errno = -err;
		return NULL;
	}
	x->fd = xsk_socket__fd(x->xsk);
	fill_all(x);
	return &x->q;
}

int queue_xsk_fd(const struct queue *q)
{
	return xsk_fd(q);
}
