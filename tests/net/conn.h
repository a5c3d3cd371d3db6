/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * conn.h - one connection of the traffic generator: an agreed dialogue
 *
 * The connector begins with a struct hello that says how many bytes go each
 * way, from which streams, and who closes how. From then on both ends run the
 * same code. Each end knows every byte that must arrive (stream.h), where the
 * stream must end, and how: with EOF or with ECONNRESET. Anything else is a
 * failure, with one line on stderr.
 *
 * What holds bytes back (conn_tx_limit): in a dialogue of messages the turn of
 * the other end; before a reset all but the other end's acknowledgment, its
 * last byte, as a reset destroys what is under way; after a half-close
 * everything until the EOF has been read.
 */
#ifndef TESTS_NET_CONN_H
#define TESTS_NET_CONN_H

#include "io.h"
#include "stream.h"

#include <stdatomic.h>

enum closing {
	CLOSE_CLIENT_FIN, /* one end closes, the other reads EOF and closes */
	CLOSE_SERVER_FIN,
	CLOSE_CLIENT_RST, /* the other end reads ECONNRESET */
	CLOSE_SERVER_RST,
	CLOSE_BOTH,	   /* both close at the same instant */
	CLOSE_CLIENT_HALF, /* shutdown(SHUT_WR); then the other end's data */
	CLOSE_SERVER_HALF,
	CLOSE_MIX,		/* option only: all of the above in turn */
	CLOSE_HOLD = CLOSE_MIX, /* nobody closes */
};

#define HELLO_MAGIC 0x74726166u

struct hello {
	uint32_t magic;
	uint8_t closing; /* enum closing */
	uint8_t rpc;	 /* messages in turn instead of both ways at once */
	uint8_t reserved[2];
	uint32_t c2s_seed, s2c_seed; /* stream.h */
	uint32_t msg_max;	     /* message and block sizes are 1 .. this */
	uint32_t number;	     /* of the connection, for messages */
	uint64_t c2s, s2c;	     /* bytes after the hello */
	uint64_t close_at_ns;	     /* CLOCK_MONOTONIC, for CLOSE_BOTH */
};

struct conn {
	int s;
	bool client, connecting, closed;
	bool started;	/* the hello has passed */
	bool eof, shut; /* read the end; said the end */
	bool sampled;	/* counted in conn_reasons */
	bool held; /* CLOSE_HOLD: all data passed, waits for the other end */
	bool complete; /* CLOSE_HOLD: counted as such */
	bool handed;   /* conn_handover: tried */
	struct hello h;
	size_t hello_done;
	uint64_t tx, tx_total, rx, rx_total;
	uint64_t hand_at;  /* bytes passed at which it is handed over */
	uint64_t sizes;	   /* random state: block sizes of this end */
	uint64_t turns;	   /* random state: message sizes, same at both ends */
	uint64_t start_ns; /* when the hello had passed */
	uint64_t moved_ns; /* when bytes passed last */
	uint64_t stall_ns; /* the longest time between two such */
	uint64_t turn_end; /* where the current message ends */
	uint32_t events;   /* what epoll waits for now */
	struct conn *prev, *next; /* the worker's list */
	const char *failure;	  /* NULL: none */
	int failure_errno;
};

static uint64_t conn_pause_ns; /* between the hello and what follows it */
static bool conn_no_read;      /* leave data in the socket while held */
static bool conn_handover;     /* hand each over to the kernel somewhere */
static atomic_ulong conn_reasons[XTS_REASON_COUNT], conn_handed;
static atomic_ullong conn_hand_ns; /* the longest that one took */

static inline bool conn_mine(const struct conn *c, enum closing by_client,
			     enum closing by_server)
{
	return c->h.closing == (c->client ? by_client : by_server);
}

static inline bool conn_complete(const struct conn *c)
{
	return c->started && c->tx == c->tx_total && c->rx == c->rx_total;
}

static inline void conn_fail(struct conn *c, const char *what, int err)
{
	if (c->failure)
		return;
	c->failure = what;
	c->failure_errno = err;
	fprintf(stderr,
		"connection %u (%s, closing %u): %s%s%s; sent %llu of %llu, received %llu of %llu\n",
		c->h.number, c->client ? "connector" : "listener", c->h.closing,
		what, err ? ": " : "", err ? strerror(err) : "",
		(unsigned long long)c->tx, (unsigned long long)c->tx_total,
		(unsigned long long)c->rx, (unsigned long long)c->rx_total);
}

/* Both ends draw the same message sizes. */
static inline void conn_next_turn(struct conn *c)
{
	uint64_t total = c->tx_total;

	c->turn_end += 1 + stream_mix(&c->turns) % c->h.msg_max;
	if (c->turn_end > total)
		c->turn_end = total;
}

static inline void conn_start(struct conn *c)
{
	c->started = true;
	c->start_ns = c->moved_ns = io_now_ns();
	c->tx_total = c->client ? c->h.c2s : c->h.s2c;
	c->rx_total = c->client ? c->h.s2c : c->h.c2s;
	c->sizes = c->h.number + (c->client ? 0 : 1ull << 32);
	c->turns = c->h.number;
	c->hand_at = 1 + stream_mix(&c->sizes) % (c->tx_total + c->rx_total);
	if (c->h.rpc)
		conn_next_turn(c);
}

static inline bool conn_pauses(const struct conn *c)
{
	return conn_pause_ns && c->client && c->started && !c->tx &&
	       io_now_ns() < c->start_ns + conn_pause_ns;
}

static inline uint64_t conn_tx_limit(struct conn *c)
{
	if (conn_pauses(c))
		return 0;
	if (conn_mine(c, CLOSE_SERVER_HALF, CLOSE_CLIENT_HALF) && !c->eof)
		return 0;
	if (!c->h.rpc)
		return c->tx_total -
		       (c->tx_total && c->rx < c->rx_total &&
			conn_mine(c, CLOSE_SERVER_RST, CLOSE_CLIENT_RST));
	/* The connector speaks first; a turn ends with its answer. */
	while (c->turn_end < c->tx_total && c->tx >= c->turn_end &&
	       c->rx >= c->turn_end)
		conn_next_turn(c);
	if (!c->client && c->rx < c->turn_end)
		return c->tx;
	return c->turn_end;
}

/* 1: something was sent, 0: not now. */
static inline int conn_send_hello(struct conn *c)
{
	ssize_t n = io_send(c->s, (char *)&c->h + c->hello_done,
			    sizeof(c->h) - c->hello_done, 0);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n < 0) {
		conn_fail(c, "send of the hello", errno);
		return 0;
	}
	c->hello_done += (size_t)n;
	if (c->hello_done == sizeof(c->h))
		conn_start(c);
	return 1;
}

static inline int conn_recv_hello(struct conn *c)
{
	ssize_t n = io_recv(c->s, (char *)&c->h + c->hello_done,
			    sizeof(c->h) - c->hello_done, 0);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) {
		conn_fail(c, n ? "receive of the hello" : "EOF in the hello",
			  n ? errno : 0);
		return 0;
	}
	c->hello_done += (size_t)n;
	if (c->hello_done < sizeof(c->h))
		return 1;
	if (c->h.magic != HELLO_MAGIC)
		conn_fail(c, "the hello is corrupt", 0);
	conn_start(c);
	return 1;
}

static inline int conn_send_some(struct conn *c)
{
	uint64_t limit = conn_tx_limit(c), len;
	ssize_t n;

	if (c->tx >= limit)
		return 0;
	len = 1 + stream_mix(&c->sizes) % (c->h.msg_max < STREAM_BLOCK
						   ? c->h.msg_max
						   : STREAM_BLOCK);
	if (len > limit - c->tx)
		len = limit - c->tx;
	n = io_send(c->s,
		    stream_at(c->client ? c->h.c2s_seed : c->h.s2c_seed, c->tx),
		    len, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n < 0) {
		conn_fail(c, "send", errno);
		return 0;
	}
	c->tx += (uint64_t)n;
	return 1;
}

/* The stream ended; is that how it was agreed? */
static inline void conn_ended(struct conn *c, int err)
{
	bool reset = conn_mine(c, CLOSE_SERVER_RST, CLOSE_CLIENT_RST);

	c->eof = true;
	if (c->h.closing == CLOSE_HOLD) {
		c->failure_errno = err;
		return;
	}
	if (c->rx != c->rx_total)
		conn_fail(c, "the stream ends early", err);
	else if (err && (!reset || err != ECONNRESET))
		conn_fail(c, "receive", err);
	else if (!err && reset)
		conn_fail(c, "EOF where a reset was agreed", 0);
}

static inline int conn_recv_some(struct conn *c)
{
	static __thread uint8_t buf[STREAM_BLOCK];
	uint64_t len = 1 + stream_mix(&c->sizes) % STREAM_BLOCK;
	ssize_t n;

	if (c->eof || (conn_no_read && c->h.closing == CLOSE_HOLD))
		return 0;
	n = io_recv(c->s, buf, len, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) {
		conn_ended(c, n ? errno : 0);
		return 1;
	}
	if (c->rx + (uint64_t)n > c->rx_total)
		conn_fail(c, "more bytes than were sent", 0);
	else if (memcmp(buf,
			stream_at(c->client ? c->h.s2c_seed : c->h.c2s_seed,
				  c->rx),
			(size_t)n) != 0)
		conn_fail(c, "altered bytes", 0);
	c->rx += (uint64_t)n;
	return 1;
}

/* Once all of one direction has passed: who carried it? */
static inline void conn_sample(struct conn *c)
{
	int reason;

	if (c->sampled || !io_use_xts ||
	    ((!c->tx_total || c->tx < c->tx_total) &&
	     (!c->rx_total || c->rx < c->rx_total)))
		return;
	c->sampled = true;
	reason = xts_offload_reason(c->s);
	if (reason < 0 || reason >= XTS_REASON_COUNT)
		conn_fail(c, "xts_offload_reason", errno);
	else
		conn_reasons[reason]++;
}

/* Bytes passed, of a connection that waited for that; while it holds them back
 * itself no time counts. */
static inline void conn_moved(struct conn *c)
{
	uint64_t now = io_now_ns();

	if (c->tx && now - c->moved_ns > c->stall_ns)
		c->stall_ns = now - c->moved_ns;
	c->moved_ns = now;
}

/* Of those that are offloaded. Linux may have ended one already. */
static inline void conn_hand_over(struct conn *c)
{
	uint64_t start = io_now_ns(), took;

	if (!conn_handover || c->handed || !c->started ||
	    c->tx + c->rx < c->hand_at)
		return;
	c->handed = true;
	if (xts_offload_reason(c->s) != XTS_REASON_NONE)
		return;
	if (xts_handover(c->s)) {
		/* The peer may reset it in between. */
		if (errno != ENOTCONN &&
		    (errno != ECONNRESET ||
		     !conn_mine(c, CLOSE_SERVER_RST, CLOSE_CLIENT_RST)))
			conn_fail(c, "xts_handover", errno);
		return;
	}
	took = io_now_ns() - start;
	if (took > conn_hand_ns)
		conn_hand_ns = took;
	conn_handed++;
	if (xts_offload_reason(c->s) != XTS_REASON_HANDED_OVER)
		conn_fail(c, "it was not handed over", 0);
}

/* Everything that can be done now; bounded, so that others get their turn. */
static inline void conn_transfer(struct conn *c)
{
	uint64_t before = c->tx + c->rx;
	int i, progress = 1;

	for (i = 0; i < 32 && progress && !c->failure; i++) {
		if (!c->started)
			progress = c->client ? conn_send_hello(c)
					     : conn_recv_hello(c);
		else
			progress = conn_recv_some(c) | conn_send_some(c);
		conn_hand_over(c);
		conn_sample(c);
	}
	if (c->tx + c->rx != before)
		conn_moved(c);
}

/* May this end close now, and does it shut its direction down first? */
static inline bool conn_may_close(struct conn *c)
{
	if (conn_mine(c, CLOSE_CLIENT_HALF, CLOSE_SERVER_HALF)) {
		if (!c->shut && c->started && c->tx == c->tx_total) {
			c->shut = true;
			if (io_shut_wr(c->s) < 0)
				conn_fail(c, "shutdown", errno);
		}
		return c->eof;
	}
	if (c->h.closing == CLOSE_HOLD)
		return c->eof;
	if (!conn_complete(c))
		return false;
	if (conn_mine(c, CLOSE_CLIENT_FIN, CLOSE_SERVER_FIN))
		return true;
	if (conn_mine(c, CLOSE_CLIENT_RST, CLOSE_SERVER_RST)) {
		io_linger_reset(c->s);
		return true;
	}
	if (c->h.closing == CLOSE_BOTH && io_now_ns() >= c->h.close_at_ns)
		return true;
	return c->eof;
}

#endif
