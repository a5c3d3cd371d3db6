/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * world.h - what the program under test knows of its descriptors
 *
 * Steps are generated from the seed and from this state alone. All of it lies
 * in memory that forked children share: they take steps too, while the parent
 * waits.
 *
 * A connection here is what the kernel calls an open file description: it has
 * one or more descriptors (items). What is known of it serves to tell whether
 * a call would wait, and for what.
 */
#ifndef TESTS_NET_CALLS_WORLD_H
#define TESTS_NET_CALLS_WORLD_H

#include "order.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define ITEMS 28
#define BUF 65536

enum kind { FRESH, CONN, LISTENER, PIPE_IN, PIPE_OUT, EVENT, EPOLL, KINDS };

struct conn {
	int refs;   /* descriptors */
	uint32_t n; /* what its streams are made from */
	uint64_t in_sent, in_read;
	uint64_t out_sent, out_seen; /* seen by the peer */
	bool peer_open;		     /* the peer has its end */
	bool fin;		     /* the peer sends no more */
	bool reset;		     /* it is over */
	bool shut_rd, shut_wr;
	bool nonblock;
	bool touched;
	bool linger;
	int lowat;
	int rcv_ms, snd_ms; /* SO_RCVTIMEO, SO_SNDTIMEO */
	/* The entry that an epoll (by its number, 0: none) has of it. */
	uint32_t in_epoll;
	int in_by;
};

struct item {
	int fd;
	enum kind kind;
	int conn;
	uint32_t epoll; /* which: duplicates have the same number */
};

struct world {
	uint64_t seed, rng;
	uint32_t opened; /* connections so far */
	uint32_t epolls; /* the same */
	int step;
	bool leave;  /* steps that send a connection home to Linux */
	bool settle; /* connections are used before the first step with them */
	bool in_child;	/* a child takes steps */
	bool tame;	/* no pointers to where nothing is */
	bool accepting; /* listener: nonblocking */
	int pending;	/* connection that waits to be accepted, -1 */
	int family;
	bool mapped;			    /* IPv4 by an IPv6 socket */
	struct sockaddr_storage self, peer; /* where each listens */
	socklen_t addr_len;
	struct conn heir; /* what a connection has from the listener */
	int n_items;
	struct item items[ITEMS];
	struct conn conns[SLOTS];
};

extern struct world *w;
extern char *buf;	     /* BUF bytes */
extern volatile int signals; /* SIGUSR1 seen by this process */

void world_open(uint64_t seed, const char *control);
void world_step(int step);
void watchdog(void);

uint32_t pick(uint32_t n);
static inline bool chance(uint32_t one_in)
{
	return pick(one_in) == 0;
}

/* At most BUF bytes of a stream, see order.h. */
const void *bytes_at(uint32_t stream, uint64_t pos);

/* One line of output a step: parts are added to it. */
void __attribute__((format(printf, 1, 2))) say(const char *fmt, ...);
void say_end(void);
bool said(void);
/* ": n" or ": -1 ENAME", from errno */
void say_result(long n);

/* ---- descriptors --------------------------------------------------------- */

/* NULL if there is none. */
struct item *item_pick(enum kind kind);
struct item *item_any(void);
/* A connection that has ended, NULL */
struct item *item_over(void);
struct item *item_of_conn(const struct conn *c);
struct item *item_add(int fd, enum kind kind, int conn);
struct item *item_add_copy(int fd, const struct item *of);
/* The descriptor is closed; if it was its connection's last one, what the peer
 * sees of the end is said. */
void item_gone(struct item *it);
bool items_full(void);
/* A descriptor that is none. */
int closed_fd(void);
/* Nobody may read or write there: a page of the program's, which only a call
 * that goes to the kernel finds out; NULL or an address of the kernel's; any of
 * these. */
void *bad_page(void);
void *bad_pointer(void);
void *bad_memory(void);

/* ---- connections --------------------------------------------------------- */

static inline struct conn *conn_of(const struct item *it)
{
	return &w->conns[it->conn];
}
static inline int conn_index(const struct conn *c)
{
	return (int)(c - w->conns);
}
static inline uint64_t conn_avail(const struct conn *c)
{
	return c->in_sent - c->in_read;
}
static inline bool conn_over(const struct conn *c)
{
	return c->reset || (c->fin && c->shut_wr);
}
int conn_free(void); /* -1 */
void conn_begin(int conn);
/* Its first descriptor is there. */
void conn_settle(struct conn *c, int fd);
/* Once: the service decides whether it carries the connection. */
void conn_touched(struct conn *c);
/* Would a call wait that wants so many bytes? */
static inline bool conn_waits(const struct conn *c, uint64_t target)
{
	return !c->fin && !c->reset && !c->shut_rd && conn_avail(c) < target;
}
bool conn_can_get(const struct conn *c); /* the peer may send */
/* All that we sent has been read by the peer. */
void conn_drain(struct conn *c);
/* n bytes were sent or received by a call. */
void conn_sent(struct conn *c, ssize_t n);

/* What the peer does; answered when it can be seen here. */
void peer_sends(struct conn *c, uint32_t n, unsigned int later_ms);
void peer_fin(struct conn *c, unsigned int later_ms);
void peer_resets(struct conn *c);
void peer_closes(struct conn *c);
/* Orders for later have been carried out, and can be seen. */
void peer_last(void);
struct answer ask(enum order_op op, int slot, uint32_t n,
		  unsigned int later_ms);
/* A state of TCP's, a bit for each, is reached. */
void await_states(const struct conn *c, uint32_t states);
/* The peer's FIN is here. */
void await_fin(struct conn *c);
/* Our FIN has been acknowledged. */
void await_fin_acked(const struct conn *c);

/* ---- signals ------------------------------------------------------------- */

/* SIGUSR1 again and again until signal_stop(). */
void signal_start(bool restart);
void signal_stop(void);
uint64_t now_ms(void);
void sleep_ms(unsigned int ms);
const char *flag_text(uint32_t flags, const char *const *names);

/* ---- steps --------------------------------------------------------------- */

void step_recv(void); /* receive.c */
void step_send(void); /* transmit.c */
void step_fill(void);
void step_sendfile(void);
void step_open(void); /* open.c */
void step_close(void);
void step_dup(void);
void step_shutdown(void);
void step_peer(void);
void step_listener(void);
void step_setsockopt(void); /* option.c */
void step_getsockopt(void);
void step_fcntl(void);
void step_ioctl(void);
void step_name(void);
void step_error(void);
void step_poll(void); /* wait.c */
void step_select(void);
void step_epoll_open(void); /* epoll.c */
void step_epoll_ctl(void);
void step_epoll_wait(void);
void step_fork(void); /* process.c */
void step_exec(void);
void step_pass(void);
void step_stdio(void);
void step_splice(void);
void step_other(void);

/* What poll says of it, at the end of a line. */
void say_ready(int fd);
/* One of the steps that a child may take. */
void child_step(void);

#endif
