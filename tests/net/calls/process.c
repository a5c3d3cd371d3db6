// SPDX-License-Identifier: BSD-2-Clause
/*
 * process.c - what a program does with its descriptors besides: other
 * processes, streams, splice, and messages that carry descriptors
 */
#include "world.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void await_child(pid_t pid)
{
	int status = -1;

	if (waitpid(pid, &status, 0) != pid)
		say("no child");
	say("child: status %x", (unsigned int)status);
}

/* ---- fork ---------------------------------------------------------------- */

/* The child uses all that it inherits while the parent waits. */
static void child_works(void)
{
	uint32_t steps = 1 + pick(6);
	pid_t pid;

	say_end();
	w->in_child = true;
	pid = fork();
	if (pid == 0) {
		watchdog();
		for (uint32_t i = 0; i < steps; i++) {
			child_step();
			say(" (child)");
			say_end();
		}
		_exit(7);
	}
	await_child(pid);
	w->in_child = false;
}

/* The parent closes its descriptor, the child goes on with it. */
static void child_keeps(struct item *it)
{
	struct conn *c = conn_of(it);
	int fds[2], fd = it->fd;
	uint32_t n = 1 + pick(1000);
	char go = 0;
	ssize_t done;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return;
	pid = fork();
	if (pid == 0) {
		if (read(fds[0], &go, 1) != 1)
			_exit(1);
		done = write(fd, bytes_at(stream_ours(c->n), c->out_sent), n);
		_exit(done == (ssize_t)n ? 0 : 2);
	}
	say(" closed by the parent");
	say_result(close(fd));
	if (write(fds[1], &go, 1) != 1)
		say(" no pipe");
	await_child(pid);
	close(fds[0]);
	close(fds[1]);
	c->out_sent += n;
	item_gone(it);
}

void step_fork(void)
{
	struct item *it = item_pick(CONN);
	struct conn *c;

	if (!w->leave)
		return;
	say("fork");
	if (it && chance(4)) {
		c = conn_of(it);
		if (c->refs == 1 && c->peer_open && !c->reset && !c->shut_wr &&
		    !c->linger && !conn_avail(c) && !c->nonblock) {
			say(" fd%d", it->fd);
			child_keeps(it);
			return;
		}
	}
	child_works();
}

/* Another program writes to the connection. */
void step_exec(void)
{
	static char *const argv[] = {"echo", "text", NULL};
	extern char **environ;
	struct item *it = item_pick(CONN);
	posix_spawn_file_actions_t actions;
	struct conn *c;
	struct answer a;
	pid_t pid = -1;

	if (!w->leave || !it)
		return;
	c = conn_of(it);
	if (!c->peer_open || c->reset || c->shut_wr)
		return;
	conn_drain(c);
	say("exec fd%d ", it->fd);
	if (chance(2)) {
		posix_spawn_file_actions_init(&actions);
		posix_spawn_file_actions_adddup2(&actions, it->fd, 1);
		if (posix_spawn(&pid, "/bin/echo", &actions, NULL, argv,
				environ) != 0)
			say("no program");
		posix_spawn_file_actions_destroy(&actions);
	} else {
		pid = fork();
		if (pid == 0) {
			dup2(it->fd, 1);
			execv("/bin/echo", argv);
			_exit(127);
		}
	}
	await_child(pid);
	a = ask(ORDER_TEXT, conn_index(c), 5, 0);
	say(" the peer read %d %.4s %d", a.result, a.text, a.err);
	say_ready(it->fd);
}

/* ---- SCM_RIGHTS ---------------------------------------------------------- */

static ssize_t pass_message(int s, int *fd, bool get)
{
	char byte = 'x';
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(int))];
	} u = {0};
	struct iovec iov = {&byte, 1};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = &u,
			   .msg_controllen = sizeof(u)};
	ssize_t n;

	u.h.cmsg_level = SOL_SOCKET;
	u.h.cmsg_type = SCM_RIGHTS;
	u.h.cmsg_len = CMSG_LEN(sizeof(int));
	if (!get) {
		memcpy(CMSG_DATA(&u.h), fd, sizeof(int));
		return sendmsg(s, &m, 0);
	}
	n = recvmsg(s, &m, 0);
	memcpy(fd, CMSG_DATA(&u.h), sizeof(int));
	return n;
}

/* To ourselves: one more descriptor */
void step_pass(void)
{
	struct item *it = item_pick(CONN);
	int pair[2], fd = -1;

	if (!w->leave || !it || conn_over(conn_of(it)) || items_full() ||
	    socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) < 0)
		return;
	say("pass fd%d", it->fd);
	say_result(pass_message(pair[0], &it->fd, false));
	say_result(pass_message(pair[1], &fd, true));
	say(" fd%d", fd);
	close(pair[0]);
	close(pair[1]);
	if (fd >= 0)
		item_add(fd, CONN, it->conn);
	say_ready(it->fd);
}

/* ---- stdio --------------------------------------------------------------- */

/* A stream over a duplicate: what is there, and a line back */
void step_stdio(void)
{
	struct item *it = item_pick(CONN);
	size_t n, want;
	struct conn *c;
	FILE *f;
	int fd;

	if (!it)
		return;
	c = conn_of(it);
	if (!c->peer_open || c->reset || c->shut_wr || c->lowat > 1)
		return;
	fd = dup(it->fd);
	f = fdopen(fd, "r+");
	say("stdio fd%d", fileno(f));
	want = conn_avail(c) > 4000 ? 4000 : conn_avail(c);
	if (conn_avail(c) <= 4000 && want) {
		n = fread(buf, 1, want, f);
		say(" read %zu", n);
		if (memcmp(buf, bytes_at(stream_theirs(c->n), c->in_read), n) !=
		    0)
			say(" WRONG BYTES");
		c->in_read += n;
	}
	fseek(f, 0, SEEK_CUR);
	n = fwrite(bytes_at(stream_ours(c->n), c->out_sent), 1, 500, f);
	say(" wrote %zu", n);
	say_result(fclose(f));
	conn_sent(c, 500);
	conn_drain(c);
	say_ready(it->fd);
}

/* ---- splice -------------------------------------------------------------- */

void step_splice(void)
{
	struct item *it = item_pick(CONN);
	struct conn *c;
	int fds[2];
	ssize_t n, got;

	/* SPLICE_F_NONBLOCK is the pipe's. */
	if (!w->leave || !it || conn_over(conn_of(it)) ||
	    (!conn_of(it)->nonblock && conn_waits(conn_of(it), 1)) ||
	    pipe2(fds, O_NONBLOCK | O_CLOEXEC) < 0)
		return;
	c = conn_of(it);
	say("splice fd%d", it->fd);
	if (chance(2)) {
		if (write(fds[1], bytes_at(stream_ours(c->n), c->out_sent),
			  1000) != 1000)
			say(" no pipe");
		n = splice(fds[0], NULL, it->fd, NULL, 1000, SPLICE_F_NONBLOCK);
		say(" out");
		say_result(n);
		conn_sent(c, n);
	} else {
		n = splice(it->fd, NULL, fds[1], NULL, 1000, SPLICE_F_NONBLOCK);
		say(" in");
		say_result(n);
		got = n > 0 ? read(fds[0], buf, BUF) : 0;
		if (n > 0 &&
		    (got != n ||
		     memcmp(buf, bytes_at(stream_theirs(c->n), c->in_read),
			    (size_t)n) != 0))
			say(" WRONG BYTES");
		c->in_read += n > 0 ? (uint64_t)n : 0;
	}
	close(fds[0]);
	close(fds[1]);
	say_ready(it->fd);
}

/* ---- others -------------------------------------------------------------- */

void step_other(void)
{
	struct item *it = item_pick(CONN);
	char path[64], text[64] = "";
	int fd;

	if (!it)
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", it->fd);
	say("proc fd%d", it->fd);
	if (chance(2)) {
		say_result(readlink(path, text, sizeof(text) - 1) > 0);
		say(" %.7s", text);
	} else {
		fd = open(path, O_RDWR);
		say_result(fd);
		if (fd >= 0)
			close(fd);
	}
}
