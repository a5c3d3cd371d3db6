/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * life.c - descriptors come and go: close, dup, fcntl, fork, exec, exit
 *
 * A duplicate has its original's word. The child of fork() has the parent's
 * words: what was offloaded is the parent's, until the child uses it
 * (family.c); what was not may be used by either. vfork() is fork(): a child in
 * our memory would change the parent's words.
 *
 * exec() and posix_spawn() pass the kernel's sockets on. What of those that
 * stay open is offloaded is handed over before; the new program's interposer
 * finds them. So is what posix_spawn() shall put under another number, when it
 * is told so: libc acts on that list past us.
 *
 * Before the process ends all that it sent is given to the service.
 */
#include "libsock/preload/preload.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FLUSH_NS UINT64_C(1000000000)

int __close(int fd);
int __dup2(int fd, int to);
int __fcntl(int fd, int cmd, ...);

extern char **environ;

/* ---- closing ---------------------------------------------------------------
 */

int close(int fd)
{
	uint64_t word = fd_word(fd);

	if (likely(!word))
		return real.close(fd);
	return fd_close(fd, word);
}

int __close(int fd)
{
	return close(fd);
}

/* Of ours, and then of the others, around what is the library's. */
static int close_span(unsigned int first, unsigned int last)
{
	unsigned int fd, high = (unsigned int)fd_highest(), from = first;
	uint64_t word;
	int ret = 0;

	for (fd = first; fd <= last && fd <= high; fd++) {
		word = fd_word((int)fd);
		if (fd_kind_of(word) == FD_PRIVATE) {
			if (fd > from)
				ret |= real.close_range(from, fd - 1, 0);
			from = fd + 1;
		} else if (word) {
			fd_close((int)fd, word);
		}
	}
	if (from <= last && from >= first)
		ret |= real.close_range(from, last, 0);
	return ret ? -1 : 0;
}

int close_range(unsigned int first, unsigned int last, int flags)
{
	if (flags & (int)~CLOSE_RANGE_UNSHARE || last < first)
		return real.close_range(first, last, flags);
	return close_span(first, last);
}

void closefrom(int first)
{
	close_span(first < 0 ? 0 : (unsigned int)first, ~0u);
}

/* ---- duplicating ------------------------------------------------------------
 */

int dup(int fd)
{
	uint32_t before = fd_swaps();
	int copy = real.dup(fd);

	fd_copied(fd, copy, before);
	return copy;
}

static int replace(int fd, int to, int flags, bool three)
{
	struct fd_replace r = {.parked = -1};
	uint32_t before = fd_swaps();
	int ret;

	if (fd == to || !fd_word(to))
		goto plain;
	if (fd_kind_of(fd_word(to)) == FD_PRIVATE) {
		errno = EBUSY;
		return -1;
	}
	if (real.fcntl(fd, F_GETFD, 0) < 0)
		return -1;
	r = fd_begin_replace(to);
plain:
	ret = three ? real.dup3(fd, to, flags) : real.dup2(fd, to);
	if (ret < 0)
		fd_not_replaced(to, &r);
	else
		fd_replaced(&r);
	fd_copied(fd, ret, before);
	return ret;
}

int dup2(int fd, int to)
{
	return replace(fd, to, 0, false);
}

int __dup2(int fd, int to)
{
	return dup2(fd, to);
}

int dup3(int fd, int to, int flags)
{
	return replace(fd, to, flags, true);
}

static int any_fcntl(int fd, int cmd, long arg, bool wide)
{
	int ret, s = cmd == F_SETFL ? fd_ours(fd) : 0;
	uint32_t before = fd_swaps();

	if (unlikely(s))
		return xts_fcntl(s, cmd, arg);
	ret = wide ? real.fcntl64(fd, cmd, arg) : real.fcntl(fd, cmd, arg);
	if (cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC)
		fd_copied(fd, ret, before);
	return ret;
}

int fcntl(int fd, int cmd, ...)
{
	va_list ap;
	long arg;

	va_start(ap, cmd);
	arg = va_arg(ap, long);
	va_end(ap);
	return any_fcntl(fd, cmd, arg, false);
}

int fcntl64(int fd, int cmd, ...)
{
	va_list ap;
	long arg;

	va_start(ap, cmd);
	arg = va_arg(ap, long);
	va_end(ap);
	return any_fcntl(fd, cmd, arg, true);
}

int __fcntl(int fd, int cmd, ...)
{
	va_list ap;
	long arg;

	va_start(ap, cmd);
	arg = va_arg(ap, long);
	va_end(ap);
	return any_fcntl(fd, cmd, arg, false);
}

/* ---- processes --------------------------------------------------------------
 */

static void before_exec(void)
{
	int err = errno;

	sock_leave_for_exec();
	family_leave();
	xlend_flush(time_ns() + FLUSH_NS);
	errno = err;
}

int posix_spawn(pid_t *pid, const char *path,
		const posix_spawn_file_actions_t *actions,
		const posix_spawnattr_t *attr, char *const argv[],
		char *const envp[])
{
	sock_leave_for_exec();
	return real.posix_spawn(pid, path, actions, attr, argv, envp);
}

int posix_spawnp(pid_t *pid, const char *file,
		 const posix_spawn_file_actions_t *actions,
		 const posix_spawnattr_t *attr, char *const argv[],
		 char *const envp[])
{
	sock_leave_for_exec();
	return real.posix_spawnp(pid, file, actions, attr, argv, envp);
}

int posix_spawn_file_actions_adddup2(posix_spawn_file_actions_t *actions,
				     int fd, int to)
{
	if (fd_socket(fd))
		sock_leave_fd(fd);
	return real.posix_spawn_file_actions_adddup2(actions, fd, to);
}

int execve(const char *path, char *const argv[], char *const envp[])
{
	before_exec();
	return real.execve(path, argv, envp);
}

int execv(const char *path, char *const argv[])
{
	before_exec();
	return real.execv(path, argv);
}

int execvp(const char *file, char *const argv[])
{
	before_exec();
	return real.execvp(file, argv);
}

int execvpe(const char *file, char *const argv[], char *const envp[])
{
	before_exec();
	return real.execvpe(file, argv, envp);
}

int fexecve(int fd, char *const argv[], char *const envp[])
{
	before_exec();
	return real.fexecve(fd, argv, envp);
}

int execveat(int dir, const char *path, char *const argv[], char *const envp[],
	     int flags)
{
	before_exec();
	return real.execveat(dir, path, argv, envp, flags);
}

/* The arguments as an array on the heap: its end comes with exec(), or here. */
static char **gather(const char *arg, va_list ap)
{
	size_t n = 0, room = 16;
	char **argv = malloc(room * sizeof(*argv)), **more;

	for (; argv; arg = va_arg(ap, const char *)) {
		argv[n++] = (char *)arg;
		if (!arg)
			return argv;
		if (n < room)
			continue;
		room *= 2;
		more = realloc(argv, room * sizeof(*argv));
		if (!more)
			free(argv);
		argv = more;
	}
	errno = ENOMEM;
	return NULL;
}

static int gathered(int ret, char **argv)
{
	int err = errno;

	free(argv);
	errno = err;
	return ret;
}

int execl(const char *path, const char *arg, ...)
{
	char **argv;
	va_list ap;

	va_start(ap, arg);
	argv = gather(arg, ap);
	va_end(ap);
	return argv ? gathered(execv(path, argv), argv) : -1;
}

int execlp(const char *file, const char *arg, ...)
{
	char **argv;
	va_list ap;

	va_start(ap, arg);
	argv = gather(arg, ap);
	va_end(ap);
	return argv ? gathered(execvp(file, argv), argv) : -1;
}

int execle(const char *path, const char *arg, ...)
{
	char **argv, *const *envp;
	va_list ap;

	va_start(ap, arg);
	argv = gather(arg, ap);
	envp = argv ? va_arg(ap, char *const *) : NULL;
	va_end(ap);
	return argv ? gathered(execve(path, argv, envp), argv) : -1;
}

static void before_exit(void)
{
	family_leave();
	xlend_flush(time_ns() + FLUSH_NS);
	report_write();
}

void _exit(int status)
{
	before_exit();
	real._exit(status);
	__builtin_unreachable();
}

void _Exit(int status)
{
	_exit(status);
}

/* ---- the interposer itself
 * --------------------------------------------------- */

static void parent(void)
{
	fd_table_unlock();
	family_begin();
}

static void child(void)
{
	fd_table_child();
	family_child_end();
	ep_child();
	report_child();
}

static void __attribute__((constructor)) begin(void)
{
	config_read();
	xlend_replace = fd_replace_all;
	xlend_claim = sock_claim;
	xlend_is_shared = share_exists;
	/* The first to be registered prepares last, and goes on first. */
	pthread_atfork(family_prepare, family_parent, family_child);
	xlend_init();
	pthread_atfork(fd_table_lock, parent, child);
	adopt_inherited();
}

static void __attribute__((destructor)) end(void)
{
	before_exit();
}
