/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * interpose.c - what tas-run costs a call on a descriptor that isn't its own
 *
 *   tas-run interpose [--rounds N] [--json]
 *
 * Each call is made as a program makes it, through the interposer, and straight
 * into libc (its handle says where that is), in short turns, on descriptors
 * that answer at once: /dev/null, a socket without data, an empty epoll. The
 * fastest turn of each is what the call costs; the difference is the
 * interposer's part. Without tas-run the difference is the measurement's error.
 */
#include "bench/measure.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CALLS 2000u /* a turn */

static int null_fd, sock_fd, ep_fd;
static char byte[8];
static struct pollfd polled;
static struct epoll_event event;

/* The same functions as the linker found them, and as libc has them. */
struct calls {
	ssize_t (*read)(int, void *, size_t);
	ssize_t (*write)(int, const void *, size_t);
	ssize_t (*recv)(int, void *, size_t, int);
	int (*poll)(struct pollfd *, nfds_t, int);
	int (*epoll_wait)(int, struct epoll_event *, int, int);
	int (*close)(int);
};

static struct calls linked = {read, write, recv, poll, epoll_wait, close}, libc;

static void do_read(const struct calls *c)
{
	c->read(null_fd, byte, sizeof(byte));
}
static void do_write(const struct calls *c)
{
	c->write(null_fd, byte, sizeof(byte));
}
static void do_recv(const struct calls *c)
{
	c->recv(sock_fd, byte, sizeof(byte), MSG_DONTWAIT);
}
static void do_poll(const struct calls *c)
{
	c->poll(&polled, 1, 0);
}
static void do_epoll_wait(const struct calls *c)
{
	c->epoll_wait(ep_fd, &event, 1, 0);
}
static void do_close(const struct calls *c)
{
	c->close(-1);
}

static const struct {
	const char *name;
	void (*call)(const struct calls *);
} kinds[] = {
	{"read", do_read}, {"write", do_write},		  {"recv", do_recv},
	{"poll", do_poll}, {"epoll_wait", do_epoll_wait}, {"close", do_close}};

#define N_KINDS (sizeof(kinds) / sizeof(kinds[0]))

/* ns a call */
static double turn(void (*call)(const struct calls *), const struct calls *c)
{
	uint64_t start = now_ns();
	unsigned int i;

	for (i = 0; i < CALLS; i++)
		call(c);
	return (double)(now_ns() - start) / CALLS;
}

static void *libc_has(void *handle, const char *name)
{
	void *f = dlsym(handle, name);

	if (!f)
		die("libc has no %s", name);
	return f;
}

static void open_all(void)
{
	void *handle = dlopen("libc.so.6", RTLD_NOW);
	int pair[2];

	if (!handle)
		die("%s", dlerror());
	*(void **)&libc.read = libc_has(handle, "read");
	*(void **)&libc.write = libc_has(handle, "write");
	*(void **)&libc.recv = libc_has(handle, "recv");
	*(void **)&libc.poll = libc_has(handle, "poll");
	*(void **)&libc.epoll_wait = libc_has(handle, "epoll_wait");
	*(void **)&libc.close = libc_has(handle, "close");
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	ep_fd = epoll_create1(EPOLL_CLOEXEC);
	if (null_fd < 0 || ep_fd < 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		die_errno("can't open");
	sock_fd = pair[0];
	polled.fd = sock_fd;
	polled.events = POLLIN;
}

static void measure(unsigned int kind, unsigned long rounds, bool json)
{
	double via = 1e9, direct = 1e9, ns;
	unsigned long i;

	for (i = 0; i < rounds; i++) {
		ns = turn(kinds[kind].call, &linked);
		via = ns < via ? ns : via;
		ns = turn(kinds[kind].call, &libc);
		direct = ns < direct ? ns : direct;
	}
	printf(json ? "{\"call\":\"%s\",\"libc_ns\":%.1f,\"ns\":%.1f,"
		      "\"added_ns\":%.1f}\n"
		    : "%-12s %8.1f %8.1f %8.1f\n",
	       kinds[kind].name, direct, via, via - direct);
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{"rounds", required_argument, NULL, 'r'},
		{"json", no_argument, NULL, 'j'},
		{0}};
	unsigned long rounds = 500;
	bool json = false;
	unsigned int i;
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c == 'r')
			rounds = number_parse("--rounds", optarg, 1, 1000000);
		else if (c == 'j')
			json = true;
		else
			die("usage: tas-run interpose [--rounds N] [--json]");
	}
	open_all();
	if (!json)
		printf("%-12s %8s %8s %8s\n", "call, ns", "libc", "here",
		       "added");
	for (i = 0; i < N_KINDS; i++)
		measure(i, rounds, json);
	return 0;
}
