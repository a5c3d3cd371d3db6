/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sandbox.c - a process that gives up its system calls
 *
 * Behind a filter of system calls (seccomp(2)) that knows nothing of us, or
 * without the right to open another descriptor (setrlimit(2)), the service can
 * be neither asked nor left: a call too many kills the process. What such a
 * program needs itself is what it does with the kernel's sockets. So before it
 * goes in there, all connections it has become Linux's, those it inherited too,
 * and none is offered from then on. Its line is written into the report, as
 * nothing can be opened at its end.
 *
 * A filter is one thread's. The others of a process stay with Linux, too.
 */
#include "libsock/preload/preload.h"

#include <linux/seccomp.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

/* Whoever wants no more than these has all that it needs. */
#define FILES_FEW 16

void sandbox_begin(void)
{
	int fd, s, high = fd_highest(), err = errno;

	config.accept = false;
	config.connect = false;
	for (fd = 0; fd <= high; fd++) {
		s = fd_ours(fd);
		if (s)
			sock_leave(s, XTS_REASON_SHARED);
	}
	family_end();
	report_write();
	errno = err;
}

/* struct rlimit is struct rlimit64 on the CPUs served. */
static void limit(int resource, const void *new)
{
	const struct rlimit *lim = new;

	if (resource == RLIMIT_NOFILE && lim && lim->rlim_cur < FILES_FEW)
		sandbox_begin();
}

int setrlimit(__rlimit_resource_t resource, const struct rlimit *new)
{
	limit((int)resource, new);
	return real.setrlimit((int)resource, new);
}

int setrlimit64(__rlimit_resource_t resource, const struct rlimit64 *new)
{
	limit((int)resource, new);
	return real.setrlimit((int)resource, (const struct rlimit *)new);
}

int prlimit(pid_t pid, enum __rlimit_resource resource,
	    const struct rlimit *new, struct rlimit *old)
{
	if (!pid || pid == getpid())
		limit((int)resource, new);
	return real.prlimit(pid, (int)resource, new, old);
}

int prlimit64(pid_t pid, enum __rlimit_resource resource,
	      const struct rlimit64 *new, struct rlimit64 *old)
{
	return prlimit(pid, resource, (const struct rlimit *)new,
		       (struct rlimit *)old);
}

/* No question about what the kernel can do: those have no filter. */
bool sandbox_filters(int operation, const void *filter)
{
	return operation == SECCOMP_SET_MODE_STRICT ||
	       (operation == SECCOMP_SET_MODE_FILTER && filter);
}

static bool mode_filters(unsigned long mode, unsigned long filter)
{
	return mode == SECCOMP_MODE_STRICT ||
	       (mode == SECCOMP_MODE_FILTER && filter);
}

int prctl(int option, ...)
{
	unsigned long v[4];
	va_list ap;
	int i;

	va_start(ap, option);
	for (i = 0; i < 4; i++)
		v[i] = va_arg(ap, unsigned long);
	va_end(ap);
	if (option == PR_SET_SECCOMP && mode_filters(v[0], v[1]))
		sandbox_begin();
	return real.prctl(option, v[0], v[1], v[2], v[3]);
}
