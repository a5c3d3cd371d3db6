/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * leave.c - connections that Linux has to serve from here on
 *
 * One that was not offloaded yet simply stays with Linux; one that was is
 * handed over, all its descriptors at once (fd_replace_all()). Where that fails
 * the caller reports an error of its own, and the connection stays offloaded.
 *
 * One that is another process's, of which this one has a copy, is asked for:
 * the parent (family.c), or whoever the service knows. If nobody has it any
 * more, it is over, and Linux says what became of it.
 *
 * A connection may be passed on to another process (SCM_RIGHTS, fork, exec)
 * before it was offloaded: whoever uses it first offers it, and the other one
 * is told XTS_REASON_DUPLICATE, and gets it by asking.
 */
#include "libsock/preload/preload.h"

#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>

#define DECIDED_NS UINT64_C(1000000000)

bool sock_keep(int s, enum xts_reason reason)
{
	if (xlend_state(s) == XLEND_ASKING)
		xlend_await(s, time_ns() + DECIDED_NS);
	return xlend_keep(s, reason);
}

int sock_claim(int s)
{
	int err = errno, rc = family_want(s);

	if (rc > 0 && xlend_state(s) == XLEND_FORKED)
		rc = xts_handover(s) ? -errno : 0;
	if (rc && rc != -EBUSY)
		xlend_taken(s);
	errno = err;
	return rc == -EBUSY ? rc : 0;
}

int sock_leave(int s, enum xts_reason reason)
{
	int err = errno, rc = 0;

	if (!xlend_keep(s, reason))
		rc = xlend_state(s) == XLEND_FORKED ? sock_claim(s)
		     : xts_handover(s)		    ? -errno
						    : 0;
	errno = err;
	return rc;
}

int sock_leave_fd(int fd)
{
	int s = fd_ours(fd), rc = s ? sock_leave(s, XTS_REASON_SHARED) : 0;
	int unread = 0;

	/* What is over, and read to its end, is so for Linux, too. */
	if (rc == -ENOTCONN && !xts_ioctl(s, FIONREAD, &unread) && !unread)
		rc = 0;
	return rc;
}

/* As it is now it may be used by another process. */
static bool may_pass(int fd)
{
	int s = fd_ours(fd);

	return !s || xlend_state(s) == XLEND_NEW || !sock_leave_fd(fd);
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
	int fd, high = fd_highest();

	for (fd = 0; fd <= high; fd++)
		if (fd_socket(fd) && !(real.fcntl(fd, F_GETFD, 0) & FD_CLOEXEC))
			may_pass(fd);
}
