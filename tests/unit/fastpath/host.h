/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * host.h - a core on a memory queue, with the test as peer, program and slow
 * path
 *
 * A test is run over a matrix of variants; struct host has a flow installed and
 * released, its first replies taken. Sequence numbers in struct seg are
 * relative: seq to the first byte the peer sends, ack to the first byte we
 * send. Payload is a pattern of the byte's place in its stream, so that every
 * byte can be checked. Time stands still unless host_advance_ms() moves it.
 *
 * Teardown takes the flow away and fails the test if a frame, flow, timer or
 * held frame is left, or an event or segment that the test did not look at
 * when it said so by host_quiet().
 */
#ifndef TESTS_UNIT_FASTPATH_HOST_H
#define TESTS_UNIT_FASTPATH_HOST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "fastpath/core.h"

#include <errno.h>

#define HOST_FRAMES 512u
#define HOST_BUF 16384u
#define HOST_MSS 1000u
#define HOST_FLOWS 8u
#define HOST_CTXS 2u

#define SEG_FIN 0x01
#define SEG_SYN 0x02
#define SEG_RST 0x04
#define SEG_PSH 0x08
#define SEG_ACK 0x10
#define SEG_URG 0x20
#define SEG_ECE 0x40
#define SEG_CWR 0x80

struct variant {
	bool ts, v6;
	uint8_t wscale; /* both sides' */
	uint32_t isn;	/* of both sides: near the wrap-around or not */
};

/* A segment of the peer, or one that was sent to it. */
struct seg {
	uint32_t seq, ack, len;
	uint32_t flags;	       /* 0: ACK */
	uint32_t win;	       /* bytes; 0: a large one */
	uint32_t tsval, tsecr; /* tsval 0: the current time */
	bool win0;	       /* a window of 0 */
	bool no_ts;	       /* leave the option out */
	bool sack;	       /* put a SACK option behind the time stamps */
	/* SACK blocks, relative as seq is: of the peer's stream in what was
	 * sent to it, of ours in what it sends. */
	uint32_t n_blocks;
	struct sack_block block[SEG_SACK_MAX];
	uint16_t urg; /* urgent pointer; its flag is in flags */
	uint8_t ecn;  /* the two bits of the traffic class */
	bool bad_tcp_sum, bad_ip_sum;
	uint16_t pport; /* 0: of the flow */
};

struct host {
	struct variant v;
	struct fp_core *core;
	struct queue *q;
	uint64_t now_ns;
	uint8_t *mem;
	uint64_t mem_size;
	uint64_t buf_off;   /* of the first flow's buffers */
	uint64_t large_off; /* of room for large ones */
	struct fp_ctx ctx[HOST_CTXS];
	struct flow_params params;
	struct flow_id id;
	uint32_t irs, iss; /* first bytes of each stream */
	uint32_t app_off;  /* where the program writes next */
	uint32_t app_sent; /* bytes of its stream */
	bool quiet;
	struct fp_msg ev;	/* the last event */
	struct xts_reply reply; /* the last reply */
	uint8_t out[4096];	/* the last segment sent */
	uint8_t in[4096];
};

uint8_t host_pattern(uint32_t stream_pos);

/* ---- life ---- */
struct host *host_new(const struct variant *v); /* core and contexts only */
void host_install(struct host *h); /* INSTALL, look at the answer */
void host_release(struct host *h); /* RELEASE, take the OFFLOADED reply */
struct host *host_open(const struct variant *v); /* all of that */
void host_close(struct host *h); /* with the checks of the teardown */
void host_free(struct host *h);	 /* without them; the core is gone */
struct flow *host_flow(struct host *h);
void host_quiet(struct host *h); /* nothing may be left to look at */

/* ---- turns and time ---- */
void host_turn(struct host *h);
void host_advance_ms(struct host *h, uint32_t ms); /* a turn each ms */

/* ---- peer ---- */
uint32_t host_build(struct host *h, struct seg s, uint8_t *buf);
void host_push(struct host *h, struct seg s); /* into the queue */
void host_rx(struct host *h, struct seg s);   /* and a turn */
bool host_tx(struct host *h, struct seg *s);  /* what was sent; checked */
#define expect_tx(h, s_, l_, a_) expect_tx_at(h, s_, l_, a_, __FILE__, __LINE__)
/* Send @n full segments and look at them. */
void host_burst(struct host *h, uint32_t n);
/* A path of 40 ms with SACK: two segments sent and acknowledged. */
struct flow *host_open_path(struct host *h);
/* An ACK with one SACK block, in bytes. */
void host_sack(struct host *h, uint32_t ack, uint32_t start, uint32_t end);
struct seg expect_tx_at(struct host *h, uint32_t seq, uint32_t len,
			uint32_t ack, const char *file, int line);
#define expect_no_tx(h) assert_false(host_tx(h, &(struct seg){0}))

/* ---- program ---- */
struct xts_cmd host_cmd(struct host *h, uint32_t len, uint32_t credits,
			uint32_t flags);
void host_put(struct host *h, unsigned int ctx, struct xts_cmd cmd);
void host_send(struct host *h, uint32_t len);	    /* with a turn */
void host_credit(struct host *h, uint32_t credits); /* with a turn */
bool host_reply(struct host *h, unsigned int ctx);
/* RECV with @len bytes from stream position @pos, bytes checked. */
#define expect_data(h, p, l) expect_data_at(h, p, l, __FILE__, __LINE__)
void expect_data_at(struct host *h, uint32_t pos, uint32_t len,
		    const char *file, int line);

/* ---- slow path ---- */
struct fp_msg *host_fp(struct host *h, enum fp_cmd type); /* reserve */
void host_fp_go(struct host *h);			  /* submit, a turn */
bool host_event(struct host *h);
#define expect_event(h, t) expect_event_at(h, t, __FILE__, __LINE__)
void expect_event_at(struct host *h, enum fp_event type, const char *file,
		     int line);
#define host_count(h, name) (fp_core_counters((h)->core)->name)

/* ---- running ---- */
struct host_test {
	const char *name;
	void (*run)(struct host *h);
	bool bare; /* without a flow */
};
#define T(f)                                                                   \
	{                                                                      \
#f, f, false                                                   \
	}
#define T_BARE(f)                                                              \
	{                                                                      \
#f, f, true                                                    \
	}
/* Every test with every variant; exit status for main(). */
int host_run(const char *group, const struct host_test *tests, size_t n,
	     bool matrix);
#define HOST_RUN(tests, matrix)                                                \
	host_run(__FILE__, tests, sizeof(tests) / sizeof((tests)[0]), matrix)

#endif
