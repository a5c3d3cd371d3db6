/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * queue_mem.c - a queue whose wire is memory: unit tests, instruction counts
 *
 * Frames lie in one array. A stack holds those that are nobody's; two rings
 * hold what was pushed and not yet received, and what was submitted. Submitted
 * frames can be popped only after kick(), as on a wire. Push, pop and the
 * queue's own operations may come from one thread only.
 *
 * Limit: the number of frames given to queue_mem_open(), a power of two or
 * rounded up to one; without a free frame push() and tx_alloc() fail.
 */
#include "fastpath/queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct mem_ring {
	uint32_t head, tail; /* taken from, put at */
	struct queue_frame *slots;
};

struct queue_mem {
	struct queue q;
	uint32_t mask;
	uint32_t frame_size;
	uint32_t n_free;
	uint32_t kicked; /* tx ring up to here may be popped */
	struct mem_ring rx, tx;
	uint8_t *frames;
	uint32_t free[]; /* offsets of free frames */
};

static struct queue_mem *mem_of(struct queue *q)
{
	return (struct queue_mem *)q;
}

static bool take_free(struct queue_mem *m, struct queue_frame *f)
{
	if (!m->n_free)
		return false;
	f->addr = m->free[--m->n_free];
	f->data = m->frames + f->addr;
	f->len = m->frame_size;
	return true;
}

static void give_back(struct queue_mem *m, const struct queue_frame *f)
{
	m->free[m->n_free++] = f->addr;
}

static unsigned int mem_rx(struct queue *q, struct queue_frame *f,
			   unsigned int max)
{
	struct queue_mem *m = mem_of(q);
	unsigned int n = m->rx.tail - m->rx.head, i;

	if (!n)
		return 0;
	if (n > max)
		n = max;
	for (i = 0; i < n; i++) {
		f[i] = m->rx.slots[m->rx.head++ & m->mask];
		q->stats.rx_bytes += f[i].len;
	}
	q->stats.rx_frames += n;
	return n;
}

static void mem_rx_release(struct queue *q, const struct queue_frame *f,
			   unsigned int n)
{
	while (n--)
		give_back(mem_of(q), f++);
}

static bool mem_tx_alloc(struct queue *q, struct queue_frame *f)
{
	if (take_free(mem_of(q), f))
		return true;
	q->stats.tx_full++;
	return false;
}

static void mem_tx_submit(struct queue *q, const struct queue_frame *f)
{
	struct queue_mem *m = mem_of(q);

	m->tx.slots[m->tx.tail++ & m->mask] = *f;
	q->stats.tx_frames++;
	q->stats.tx_bytes += f->len;
}

static void mem_tx_abandon(struct queue *q, const struct queue_frame *f)
{
	give_back(mem_of(q), f);
}

static bool mem_kick(struct queue *q)
{
	struct queue_mem *m = mem_of(q);

	if (m->kicked != m->tx.tail) {
		m->kicked = m->tx.tail;
		q->stats.kicks++;
	}
	return true;
}

static int mem_fd(const struct queue *q)
{
	return -1;
}

static void mem_close(struct queue *q)
{
	struct queue_mem *m = mem_of(q);

	free(m->rx.slots);
	free(m->tx.slots);
	free(m->frames);
	free(m);
}

static const struct queue_ops mem_ops = {
	.rx = mem_rx,
	.rx_release = mem_rx_release,
	.tx_alloc = mem_tx_alloc,
	.tx_submit = mem_tx_submit,
	.tx_abandon = mem_tx_abandon,
	.kick = mem_kick,
	.fd = mem_fd,
	.close = mem_close,
};

struct queue *queue_mem_open(unsigned int frames, unsigned int frame_size)
{
	struct queue_mem *m;
	unsigned int n = 1, i;

	while (n < frames)
		n *= 2;
	m = calloc(1, sizeof(*m) + n * sizeof(m->free[0]));
	if (!m)
		return NULL;
	m->q.ops = &mem_ops;
	m->q.mode = "memory";
	m->mask = n - 1;
	m->frame_size = frame_size;
	m->rx.slots = calloc(n, sizeof(*m->rx.slots));
	m->tx.slots = calloc(n, sizeof(*m->tx.slots));
	m->frames = calloc(n, frame_size);
	if (!m->rx.slots || !m->tx.slots || !m->frames) {
		mem_close(&m->q);
		errno = ENOMEM;
		return NULL;
	}
	for (i = 0; i < frames; i++)
		m->free[i] = i * frame_size;
	m->n_free = frames;
	return &m->q;
}

bool queue_mem_push(struct queue *q, const void *frame, uint32_t len)
{
	struct queue_mem *m = mem_of(q);
	struct queue_frame f;

	if (len > m->frame_size || !take_free(m, &f))
		return false;
	memcpy(f.data, frame, len);
	f.len = len;
	m->rx.slots[m->rx.tail++ & m->mask] = f;
	return true;
}

uint32_t queue_mem_pop(struct queue *q, void *frame, uint32_t room)
{
	struct queue_mem *m = mem_of(q);
	struct queue_frame f;

	if (m->tx.head == m->kicked)
		return 0;
	f = m->tx.slots[m->tx.head++ & m->mask];
	memcpy(frame, f.data, f.len < room ? f.len : room);
	give_back(m, &f);
	return f.len;
}

unsigned int queue_mem_free(const struct queue *q)
{
	return ((const struct queue_mem *)q)->n_free;
}
