/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * port.h - all frames of a network interface, in and out, in batches
 */
#ifndef BENCH_PORT_H
#define BENCH_PORT_H

#include <linux/if_packet.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define PORT_BATCH 64u

struct port_frame {
	uint8_t *data;
	uint32_t len;
	uint64_t at_ns; /* arrival, CLOCK_MONOTONIC */
};

struct port {
	const char *ifname;
	int fd;
	uint32_t frame_max; /* longest frame, Ethernet header included */
	/* receive ring, shared with the kernel: its status words say whose */
	uint8_t *ring;
	uint32_t slot_size, next, taken;
	/* frames to send, and what happens to their memory then */
	struct mmsghdr msg[PORT_BATCH];
	struct iovec iov[PORT_BATCH];
	unsigned int n_tx;
	/* frames that got lost here, which nobody asked for */
	uint64_t rx_overruns;	/* the ring was full */
	uint64_t rx_unfinished; /* no checksum yet, or too long for a frame */
	uint64_t tx_failures;	/* send() said no */
	uint64_t tx_drops_before;
};

/* Promiscuous from here on. die()s. */
void port_open(struct port *p, const char *ifname);
void port_close(struct port *p);

/*
 * The next frame, which stays where it is until port_release(); at most
 * PORT_BATCH at a time. The clock: what to add to CLOCK_REALTIME.
 */
bool port_receive(struct port *p, int64_t to_monotonic_ns,
		  struct port_frame *f);
void port_release(struct port *p);

/* The frame's memory must last until port_flush(). False: flush first. */
bool port_send(struct port *p, uint8_t *data, uint32_t len);
void port_flush(struct port *p);

/* Asks the kernel. Frames that came and were not returned by port_receive();
 * frames that port_send() took and that did not reach the other end. */
uint64_t port_rx_losses(struct port *p);
uint64_t port_tx_losses(struct port *p);

#endif
