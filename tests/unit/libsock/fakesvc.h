/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fakesvc.h - a service for libsock's tests: control socket and rings, no TCP
 *
 * One thread speaks the control protocol on a name of this process's own. The
 * test plays the fast-path core itself, command by command, or starts an echo
 * core, a thread that sends back what the program sends, in pieces that change,
 * through every corner of the buffers.
 */
#ifndef TESTS_FAKESVC_H
#define TESTS_FAKESVC_H

#include "libsock/xts_proto.h"

#include <stdbool.h>

#define FAKESVC_BUF 4096ul
#define FAKESVC_FLOWS 64ul

struct fakesvc_flow {
	bool used, closed, shut_wr, eof_told;
	uint32_t index, ctx, program;
	uint64_t cookie;
	uint64_t rx_buf;
	uint32_t rx_pos, rx_len; /* next byte, not consumed yet */
	uint32_t tx_pos, tx_len; /* first byte not acknowledged, how many */
	unsigned int leaving;	 /* XTS_CTL_HANDOVER came so often */
	uint32_t number;	 /* of the request, 0: none */
	int fd;
};

enum fakesvc_mode { FAKESVC_OFFLOAD, FAKESVC_DECLINE, FAKESVC_SILENT };

void fakesvc_start(enum fakesvc_mode mode, uint32_t flags); /* of WELCOME */
void fakesvc_set_mode(enum fakesvc_mode mode);
/* Why connections are declined from now on; NOT_OURS at the start. */
void fakesvc_set_reason(enum xts_reason reason);
void fakesvc_stop(void); /* dies: all descriptors closed */
/* The n-th flow ever offered; waits for it. */
struct fakesvc_flow *fakesvc_flow(unsigned int n);
unsigned int fakesvc_flows(void);
/* The context whose rings carry the flow. */
uint32_t fakesvc_ctx(struct fakesvc_flow *f);
/* Begins with the request, which an answer does, too: see "Taking". false: the
 * program uses the socket. */
bool fakesvc_begin(struct fakesvc_flow *f);
void fakesvc_answer(struct fakesvc_flow *f, enum fakesvc_mode mode);
/* Data, credits, flags to the program. */
void fakesvc_reply(struct fakesvc_flow *f, const void *data, uint32_t len,
		   uint32_t credits, uint32_t flags, uint32_t err);
/* XTS_REPLY_URGENT; flags 0 or XTS_F_URGENT, byte -1: not yet. */
void fakesvc_urgent(struct fakesvc_flow *f, uint32_t flags, uint32_t urgent,
		    int byte);
/* The answer to XTS_CMD_INFO. */
void fakesvc_info(struct fakesvc_flow *f, const struct xts_info *info);
/* The next command of the flow's context; false: none within a second. */
bool fakesvc_command(struct fakesvc_flow *f, struct xts_cmd *cmd);
bool fakesvc_no_command(struct fakesvc_flow *f);
const uint8_t *fakesvc_tx(struct fakesvc_flow *f, uint32_t off);
void fakesvc_need_doorbell(struct fakesvc_flow *f, bool on);
bool fakesvc_doorbell_rang(struct fakesvc_flow *f);
uint32_t fakesvc_app_sleep(struct fakesvc_flow *f);
void fakesvc_set_cpu(struct fakesvc_flow *f, int cpu); /* the core's */
unsigned int fakesvc_released(void);
/* Waits for XTS_CTL_HANDOVER; false: none within a second. */
bool fakesvc_leaves(struct fakesvc_flow *f);
/* The kernel socket that takes over, which stays the caller's, and, if told,
 * the reply that tells of it. */
void fakesvc_hand(struct fakesvc_flow *f, int fd, bool told);
void fakesvc_refuse(struct fakesvc_flow *f, int err);
void fakesvc_core_start(void); /* the echo core */
void fakesvc_core_stop(void);

#endif
