/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * conn.h - the slow path's view of offloaded and of closing connections
 */
#ifndef SLOWPATH_CONN_H
#define SLOWPATH_CONN_H

#include "slowpath/cache.h"
#include "slowpath/daemon.h"
#include "slowpath/translate.h"

/* The tables' hash is keyed: peers choose the keys. */
#define HASH_FUNCTION(keyptr, keylen, hashv)                                   \
	((hashv) = (unsigned int)key_hash((const void *)(keyptr), d->seed))
#include <uthash.h>

#define CONN_HELD_MAX 256u /* frames held for one connection */

enum conn_phase {
	CONN_HOLD,	 /* state being copied from Linux */
	CONN_INSTALLING, /* INSTALL is with the core; frames are held */
	CONN_LIVE,	 /* the core carries it */
	CONN_REMOVING,	 /* REMOVE or CLOSE is with the core */
	CONN_GONE,	 /* about to be freed */
};

/* Why a connection was asked to leave its core: what happens on REMOVED. */
enum conn_why {
	CONN_WHY_NONE,	   /* the program closed it */
	CONN_WHY_LINUX,	   /* Linux closed or reset its socket */
	CONN_WHY_RESET,	   /* we reset it: service stops, program offended */
	CONN_WHY_HANDOVER, /* a kernel socket takes over */
};

/* Whether Linux is to hear of a connection that is in use, see refresh.c. */
enum conn_refresh {
	REFRESH_NONE,
	REFRESH_LISTED, /* in daemon.refresh */
	REFRESH_ASKED,	/* the peer's next segment is passed on */
};

struct program_ctx;
struct handed;

struct held_frame {
	struct held_frame *prev, *next;
	uint32_t len;
	uint8_t data[];
};

/* Memory that INSTALL needs until it is answered. */
struct install {
	struct flow_params params;
	struct conn *conn;
};

struct conn {
	UT_hash_handle hh; /* in daemon.conns */
	struct conn_key key;
	struct conn *prev, *next;		  /* in program.conns */
	struct conn *refresh_prev, *refresh_next; /* in daemon.refresh */
	struct program *program;
	uint64_t cookie;	 /* the program's name for the socket */
	struct install *install; /* until INSTALLED */
	/* Of the peer's, until INSTALLED; then of Linux's, which came when the
	 * flow was gone, until REMOVED. */
	struct held_frame *held;
	struct held_frame *rst; /* Linux's RST, until REMOVED */
	/* Of a new connection of this name, until REMOVED: */
	struct held_frame *syn_in, *syn_out; /* the peer's, Linux's */
	struct flow_frozen *frozen; /* the core's, once it was told to leave */
	struct handed *handed;	    /* who waits for the kernel socket */
	struct translation t;
	struct flow_id flow;
	int fd;	       /* our duplicate of the shadow socket */
	int fresh;     /* the socket that is to take over, -1: none yet */
	uint32_t slot; /* its buffers in the program's memory */
	uint32_t n_held;
	uint32_t snd_mss;   /* that the path takes for all that Linux knows */
	uint32_t ts_recent; /* of the offload; for our ACKs to Linux */
	uint32_t refresh_at_s;
	uint16_t ctx;
	uint8_t core;
	uint8_t phase;	 /* enum conn_phase; conn_set_phase() */
	uint8_t why;	 /* enum conn_why */
	uint8_t refresh; /* enum conn_refresh */
	uint8_t l2[FP_L2_MAX];
	uint8_t ttl, tos; /* of Linux's frames, as in cache.h */
	uint32_t flow_label;
	bool unacked;	      /* Linux still waits for ACKs of its data */
	bool answering;	      /* Linux is answering a frame of the peer's now */
	bool fin_in, fin_out; /* FIN passed from the peer, from Linux */
	bool fin_acked;	      /* the peer has acknowledged Linux's */
	bool passive;	      /* the peer's FIN came before ours */
	bool move;	      /* to ctx, asked before INSTALLED */
	bool leave;	      /* hand-over, asked before INSTALLED */
	bool narrow;	      /* snd_mss may grow again, see pathmtu.c */
};

/* A connection whose flow is gone and whose socket Linux may still have: FIN
 * exchange, TIME_WAIT. There are many of them, so they are small. */
struct remnant {
	UT_hash_handle hh; /* in daemon.remnants or, later, daemon.late */
	struct conn_key key;
	struct translation t;
	struct flow_view view; /* final */
	uint32_t check_at_s;   /* ask Linux then whether it still has it */
	uint8_t core;
	bool fin_in : 1, fin_out : 1, fin_acked : 1, passive : 1; /* as above */
	bool open : 1; /* segments of the peer's are still to come */
	bool late : 1; /* Linux has it no more: gone at check_at_s */
};
static_assert(sizeof(struct remnant) <= 152, "there are 300,000 of them");

/* For context @ctx of its program; takes over @fd. */
struct conn *conn_new(struct daemon *d, struct program *program, uint32_t ctx,
		      const struct conn_key *key, int fd);
/* Leaves the tables, closes fd, frees held frames; the buffers go back. */
void conn_free(struct daemon *d, struct conn *c);
struct conn *conn_find(struct daemon *d, const struct conn_key *key);
struct conn *conn_by_flow(struct daemon *d, unsigned int core,
			  struct flow_id id);
void conn_set_phase(struct conn *c, enum conn_phase phase);
/* Its replies go to context @x, which it uses already. */
void conn_move(struct daemon *d, struct conn *c, struct program_ctx *x);
/* false: too many held frames, or no memory */
bool conn_hold(struct conn *c, const void *frame, uint32_t len);
struct held_frame *held_copy(const void *frame, uint32_t len);
void held_free(struct held_frame *list);

#define CONN_NAME_MAX 128
/* "10.0.0.1:80-10.0.0.2:12345" */
const char *conn_name(const struct conn_key *key, char *buf);

struct remnant *remnant_new(struct daemon *d, const struct conn *c,
			    const struct flow_view *view);
struct remnant *remnant_find(struct daemon *d, const struct conn_key *key);
void remnant_free(struct daemon *d, struct remnant *l);
/* Both FINs are acknowledged, or one side has reset it. */
void remnant_closed(struct daemon *d, struct remnant *l);
/* Linux forgets it now; what of it is still on its way is translated yet. */
void remnant_late(struct daemon *d, struct remnant *l);
/* Forget those that Linux has forgotten; ns until the next look, -1: none. */
int64_t remnant_reclaim(struct daemon *d);

#endif
