/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * queue.h - where frames come from and go to: one interface, several queues
 *
 * A queue belongs to one thread. queue_xsk.c is the AF_XDP queue (one UMEM a
 * queue), queue_mem.c keeps frames in memory for unit tests and instruction
 * counts. Frames are named by their address in the queue's frame memory.
 *
 * Life of a frame: rx() hands out received frames, which the caller gives back
 * with rx_release(); tx_alloc() hands out a free frame, which tx_submit() puts
 * on the wire in order (or tx_abandon() gives back). Nothing reaches the wire
 * before kick(), which is called once a burst, if to_kick says so, and costs a
 * system call only when the kernel wants one. Nothing here blocks.
 */
#ifndef FASTPATH_QUEUE_H
#define FASTPATH_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#define QUEUE_BURST 64u

struct queue_frame {
	uint8_t *data; /* first byte of the Ethernet header */
	uint32_t len;
	uint32_t addr; /* the queue's name for the frame */
};

struct queue_stats {
	uint64_t rx_frames, tx_frames, rx_bytes, tx_bytes;
	uint64_t kicks;	  /* system calls made to start transmission */
	uint64_t tx_full; /* tx_alloc() found no free frame or ring slot */
};

/* Statistics have one writer; others may read them meanwhile. */
static inline void queue_count(uint64_t *stat, uint64_t n)
{
	__atomic_store_n(stat, *stat + n, __ATOMIC_RELAXED);
}
static inline uint64_t queue_counted(const uint64_t *stat)
{
	return __atomic_load_n(stat, __ATOMIC_RELAXED);
}

struct queue;

struct queue_ops {
	unsigned int (*rx)(struct queue *q, struct queue_frame *f,
			   unsigned int max);
	void (*rx_release)(struct queue *q, const struct queue_frame *f,
			   unsigned int n);
	/* false: no frame free now; f->len is the room in the frame */
	bool (*tx_alloc)(struct queue *q, struct queue_frame *f);
	void (*tx_submit)(struct queue *q, const struct queue_frame *f);
	void (*tx_abandon)(struct queue *q, const struct queue_frame *f);
	/* false: frames still wait for the kernel, call again next turn */
	bool (*kick)(struct queue *q);
	int (*fd)(const struct queue *q); /* to poll for RX, -1: none */
	void (*close)(struct queue *q);
};

/* The head of each implementation's own struct. */
struct queue {
	const struct queue_ops *ops;
	struct queue_stats stats; /* written by the queue's thread */
	const char *mode;	  /* "zero-copy", "copy", "generic", "memory" */
	/* kick() has something to do: set by who submits, cleared before
	 * kick(), which sets it again while the kernel hasn't taken all */
	bool to_kick;
};

struct queue_xsk_config {
	const char *ifname;
	unsigned int queue_id;
	unsigned int frames;	 /* in the UMEM, a power of two */
	unsigned int frame_size; /* 2048 or 4096 */
	bool generic;		 /* XDP is attached in generic mode */
	bool force_copy;
};

/* May wait half a second for a queue that the kernel is about to free.
 * NULL with errno set: EBUSY (the queue is taken), EOPNOTSUPP, EPERM... The
 * socket's descriptor is what goes into the XDP program's map. */
struct queue *queue_xsk_open(const struct queue_xsk_config *cfg);
int queue_xsk_fd(const struct queue *q);

/* In-memory queue; push delivers a frame to rx(), pop takes one that was
 * submitted and kicked (returns its length, 0 for none). */
struct queue *queue_mem_open(unsigned int frames, unsigned int frame_size);
bool queue_mem_push(struct queue *q, const void *frame, uint32_t len);
uint32_t queue_mem_pop(struct queue *q, void *frame, uint32_t room);
/* Frames that are nobody's: all of them when nothing is under way. */
unsigned int queue_mem_free(const struct queue *q);

#endif
