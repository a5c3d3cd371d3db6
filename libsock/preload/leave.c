/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * leave.c - connections that Linux has to serve from here on
 *
 * One that was not offloaded yet simply stays with Linux. One that was would
 * have to be handed over, which the service can't do: the caller reports its
 * own error, and the connection stays offloaded.
 *
 * A connection may be passed on to another process (SCM_RIGHTS, fork, exec)
 * before it was offloaded: whoever uses it first offers it, and the other one
 * is told XTS_REASON_DUPLICATE.
 */
#include "libsock/preload/preload.h"

#include <fcntl.h>
#include <string.h>

#define DECIDED_NS UINT64_C(1000000000)

int sock_leave(int s, enum xts_reason reason)
{
	enum xlend_state state = xlend_state(s);

	if (state == XLEND_ASKING) {
		xlend_await(s, time_ns() + DECIDED_NS);
		state = xlend_state(s);
	}
	if (state == XLEND_KERNEL || xlend_keep(s, reason))
		return 0;
	return -EBUSY;
}

/* As it is now it may be used by another process. */
static bool may_pass(int fd)
{
	int s = fd_ours(fd);

	return !s || xlend_state(s) == XLEND_NEW ||
	       !sock_leave(s, XTS_REASON_SHARED);
}

int sock_leave_passed(const struct msghdr *msg)
{
	struct cmsghdr *cm;
	size_t i, n;
	int fd;

	for (cm = CMSG_FIRSTHDR(msg); cm;
	     cm = CMSG_NXTHDR((struct msghdr *)msg, cm)) {
		if (cm->cmsg_level != SOL_SOCKET || cm->cmsg_type != SCM_RIGHTS)
			continue;
		n = (cm->cmsg_len - CMSG_LEN(0)) / sizeof(fd);
		for (i = 0; i < n; i++) {
			memcpy(&fd, CMSG_DATA(cm) + i * sizeof(fd), sizeof(fd));
			if (may_pass(fd))
				continue;
			errno = EOPNOTSUPP;
			return -1;
		}
	}
	return 0;
}

void sock_leave_for_exec(void)
{
	int fd, s, high = fd_highest();

	for (fd = 0; fd <= high; fd++) {
		s = fd_ours(fd);
		if (s && !(real.fcntl(fd, F_GETFD, 0) & FD_CLOEXEC))
			may_pass(fd);
	}
}
