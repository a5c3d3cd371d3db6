/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * share.c - does another process have this connection, too?
 *
 * One that came by fork(), exec() or SCM_RIGHTS is not offloaded while the
 * process that it came from still has it: that may go on to use it when we have
 * ended. It usually closes it soon. /proc says what it has open; where it may
 * not be asked (another user's), or has ended, the connection is ours. The
 * same for a connection that was not used yet when its process forked, as long
 * as a child has it.
 *
 * Memory: 4 bytes for each XTS number that was passed on, CHILDREN numbers.
 */
#include "libsock/preload/preload.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

pid_t __vfork(void);

#define ANCESTORS 4
#define NAME_MAX_LEN 64
#define CHILDREN 256u /* the youngest */

/* Who sent it; 0: nobody. Zero pages until used. */
static pid_t senders[FD_MAX + XSOCK_NUMBERS_FROM];
static _Atomic pid_t children[CHILDREN];
static _Atomic uint32_t n_children; /* ever */

static bool is_link_to(int dir, const char *entry, const char *name)
{
	char to[NAME_MAX_LEN];
	ssize_t n = readlinkat(dir, entry, to, sizeof(to));

	return n > 0 && (size_t)n == strlen(name) &&
	       memcmp(to, name, (size_t)n) == 0;
}

/* Probably under the same number. */
static bool process_has(pid_t pid, int fd, const char *name)
{
	char path[NAME_MAX_LEN];
	struct dirent *e;
	bool found;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, fd);
	if (is_link_to(-1, path, name))
		return true;
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	if (!dir)
		return false;
	found = false;
	while (!found && (e = readdir(dir)))
		found = is_link_to(dirfd(dir), e->d_name, name);
	closedir(dir);
	return found;
}

/* 0: none, or not known */
static pid_t parent_of(pid_t pid)
{
	char line[256], *end;
	size_t n;
	FILE *f;

	snprintf(line, sizeof(line), "/proc/%d/stat", (int)pid);
	f = fopen(line, "re");
	if (!f)
		return 0;
	n = fread(line, 1, sizeof(line) - 1, f);
	real.fclose(f);
	line[n] = '\0';
	/* Behind the name, which may hold anything: the state, the parent */
	end = strrchr(line, ')');
	return end && strlen(end) > 4 ? (pid_t)strtol(end + 4, NULL, 10) : 0;
}

static bool children_have(int fd, const char *name)
{
	uint32_t i;
	pid_t pid;

	for (i = 0; i < CHILDREN; i++) {
		pid = atomic_load(&children[i]);
		if (!pid)
			continue;
		if (process_has(pid, fd, name))
			return true;
		if (kill(pid, 0) && errno == ESRCH)
			atomic_compare_exchange_strong(&children[i], &pid, 0);
	}
	return false;
}

pid_t fork(void)
{
	pid_t pid = real.fork();
	uint32_t i;

	if (pid > 0)
		atomic_store(
			&children[atomic_fetch_add(&n_children, 1) % CHILDREN],
			pid);
	for (i = 0; pid == 0 && i < CHILDREN; i++)
		atomic_store(&children[i], 0);
	return pid;
}

/* A child in our memory would change the parent's words. */
pid_t vfork(void)
{
	return fork();
}

pid_t __vfork(void)
{
	return fork();
}

bool share_exists(int s)
{
	int fd = xts_shadow_fd(s), err = errno, i;
	char name[NAME_MAX_LEN];
	pid_t pid = getppid();
	struct stat st;
	bool found;

	if (fd < 0 || fstat(fd, &st))
		return false;
	snprintf(name, sizeof(name), "socket:[%llu]",
		 (unsigned long long)st.st_ino);
	found = (senders[s] && process_has(senders[s], fd, name)) ||
		children_have(fd, name);
	for (i = 0; i < ANCESTORS && pid > 1 && !found; i++) {
		found = process_has(pid, fd, name);
		pid = parent_of(pid);
	}
	errno = err;
	return found;
}

void share_passed(int s, int by)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	int err = errno;

	if (!s)
		return;
	senders[s] = 0;
	if (!real.getsockopt(by, SOL_SOCKET, SO_PEERCRED, &cred, &len) &&
	    cred.pid != getpid())
		senders[s] = cred.pid;
	errno = err;
}
