// SPDX-License-Identifier: BSD-2-Clause
/*
 * calls - a generated sequence of socket calls, and what each gave
 *
 *   calls peer CONTROL PORT
 *   calls run CONTROL SEED STEPS ADDRESS PORT PEER-ADDRESS PEER-PORT [WORD...]
 *
 * The first is the other end of all connections: peer.c. The second is a plain
 * program of libc's functions that opens connections to the peer and from it,
 * at ADDRESS PORT, and makes STEPS steps, which come from SEED. The output is a
 * line a step: the arguments, the result, errno and readiness. It depends on
 * nothing but the arguments, so it must be the same whoever carries the
 * connections: that is what the program is for. WORDs: with "leave" there are
 * steps too which need a connection to be the kernel's: fork, exec, SCM_RIGHTS,
 * splice; with "settle", connections are used once, and the service has decided
 * on them, before other steps use them; with "tame", no pointers to where
 * nothing is; with "-NAME", no steps of that name: "-stdio".
 *
 * Nothing is said that depends on time: what the peer does has arrived before
 * the next step, how much fits in a buffer is not said, no call is made to wait
 * unless what ends the waiting is known. A call that does not return within
 * 20 seconds, or CALLS_LIMIT_S, ends the program.
 */
#include "world.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct choice {
	void (*step)(void);
	uint32_t weight;
	const char *name;
};

#define STEP(name, weight)                                                     \
	{                                                                      \
		step_##name, weight, #name                                     \
	}
static struct choice choices[] = {
	STEP(recv, 40),	      STEP(send, 25),	    STEP(fill, 1),
	STEP(sendfile, 3),    STEP(peer, 40),	    STEP(open, 8),
	STEP(close, 5),	      STEP(shutdown, 3),    STEP(dup, 6),
	STEP(listener, 3),    STEP(setsockopt, 10), STEP(getsockopt, 8),
	STEP(fcntl, 8),	      STEP(ioctl, 8),	    STEP(name, 4),
	STEP(error, 5),	      STEP(poll, 15),	    STEP(select, 10),
	STEP(epoll_open, 10), STEP(epoll_ctl, 25),  STEP(epoll_wait, 25),
	STEP(stdio, 2),	      STEP(other, 1),	    STEP(fork, 2),
	STEP(exec, 1),	      STEP(pass, 1),	    STEP(splice, 1),
};
#define CHOICES (sizeof(choices) / sizeof(choices[0]))

/* What a child does: nothing that opens or closes. */
static const struct choice child_choices[] = {
	STEP(recv, 6), STEP(send, 6),	    STEP(peer, 4),
	STEP(poll, 2), STEP(getsockopt, 1), STEP(ioctl, 1),
};

static void take_one(const struct choice *c, size_t n)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += c[i].weight;
	sum = pick(sum);
	while (sum >= c->weight) {
		sum -= c->weight;
		c++;
	}
	c->step();
}

/* Not each is possible at any time. */
static void take_step(const struct choice *c, size_t n)
{
	for (int i = 0; i < 20 && !said(); i++)
		take_one(c, n);
}

void child_step(void)
{
	take_step(child_choices,
		  sizeof(child_choices) / sizeof(child_choices[0]));
}

static void address(struct sockaddr_storage *ss, const char *text,
		    const char *port)
{
	struct sockaddr_in *in = (struct sockaddr_in *)ss;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ss;
	char both[80];

	in->sin_port = htons((uint16_t)atoi(port));
	w->family = strchr(text, ':') || w->mapped ? AF_INET6 : AF_INET;
	ss->ss_family = (sa_family_t)w->family;
	snprintf(both, sizeof(both), "%s%s",
		 strchr(text, ':') || !w->mapped ? "" : "::ffff:", text);
	if (inet_pton(w->family, both,
		      w->family == AF_INET ? (void *)&in->sin_addr
					   : (void *)&in6->sin6_addr) != 1)
		exit(2);
	w->addr_len = w->family == AF_INET ? sizeof(*in) : sizeof(*in6);
}

static void obey(const char *word)
{
	w->leave |= !strcmp(word, "leave");
	w->settle |= !strcmp(word, "settle");
	w->tame |= !strcmp(word, "tame");
	for (size_t i = 0; i < CHOICES; i++)
		if (*word == '-' && !strcmp(word + 1, choices[i].name))
			choices[i].weight = 0;
}

static void listen_there(void)
{
	int s = socket(w->family, SOCK_STREAM, 0), on = 1;

	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(s, (struct sockaddr *)&w->self, w->addr_len) < 0 ||
	    listen(s, 16) < 0) {
		perror("listen");
		exit(1);
	}
	item_add(s, LISTENER, 0);
	ask(ORDER_HELLO, 0, 0, 0);
}

static void finish(void)
{
	if (w->pending >= 0)
		ask(ORDER_RESET, w->pending, 0, 0);
	while (w->n_items) {
		struct item *it = &w->items[w->n_items - 1];
		struct conn *c = conn_of(it);

		say("at last fd%d", it->fd);
		if (it->kind == CONN && c->refs == 1)
			conn_drain(c);
		say_result(close(it->fd));
		item_gone(it);
		say_end();
	}
}

int main(int argc, char **argv)
{
	int steps;

	if (argc == 4 && !strcmp(argv[1], "peer"))
		return peer_main(argv[2], argv[3]);
	if (argc < 9 || strcmp(argv[1], "run") != 0)
		return 2;
	world_open(strtoull(argv[3], NULL, 10), argv[2]);
	steps = atoi(argv[4]);
	for (int i = 9; i < argc; i++)
		obey(argv[i]);
	w->mapped = !strchr(argv[5], ':') && chance(4);
	address(&w->self, argv[5], argv[6]);
	address(&w->peer, argv[7], argv[8]);
	listen_there();
	step_open();
	say_end();
	for (int i = 1; i <= steps; i++) {
		watchdog();
		world_step(i);
		take_step(choices, CHOICES);
		say_end();
	}
	finish();
	return 0;
}
