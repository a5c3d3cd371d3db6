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
 * splice; with "tame", no pointers to where nothing is.
 *
 * Nothing is said that depends on time: what the peer does has arrived before
 * the next step, how much fits in a buffer is not said, no call is made to wait
 * unless what ends the waiting is known. A call that does not return within 20
 * seconds ends the program.
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
};

static const struct choice choices[] = {
	{step_recv, 40},       {step_send, 25},	      {step_fill, 1},
	{step_sendfile, 3},    {step_peer, 40},	      {step_open, 8},
	{step_close, 5},       {step_shutdown, 3},    {step_dup, 6},
	{step_listener, 3},    {step_setsockopt, 10}, {step_getsockopt, 8},
	{step_fcntl, 8},       {step_ioctl, 8},	      {step_name, 4},
	{step_error, 5},       {step_poll, 15},	      {step_select, 10},
	{step_epoll_open, 10}, {step_epoll_ctl, 25},  {step_epoll_wait, 25},
	{step_stdio, 2},       {step_other, 1},	      {step_fork, 2},
	{step_exec, 1},	       {step_pass, 1},	      {step_splice, 1},
};

/* What a child does: nothing that opens or closes. */
static const struct choice child_choices[] = {
	{step_recv, 6}, {step_send, 6},	      {step_peer, 4},
	{step_poll, 2}, {step_getsockopt, 1}, {step_ioctl, 1},
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
	for (int i = 9; i < argc; i++) {
		w->leave |= !strcmp(argv[i], "leave");
		w->tame |= !strcmp(argv[i], "tame");
	}
	w->mapped = !strchr(argv[5], ':') && chance(4);
	address(&w->self, argv[5], argv[6]);
	address(&w->peer, argv[7], argv[8]);
	listen_there();
	step_open();
	say_end();
	for (w->step = 1; w->step <= steps; w->step++) {
		watchdog();
		take_step(choices, sizeof(choices) / sizeof(choices[0]));
		say_end();
	}
	finish();
	return 0;
}
