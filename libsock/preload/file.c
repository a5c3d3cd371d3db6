/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * file.c - from files to sockets without the program's help
 *
 * sendfile() to an offloaded socket reads the file into a buffer and sends
 * that: what was sent is what the file's position, or *off, advances by. Where
 * that is impossible, and for splice(), the connection is handed over.
 *
 * Memory: a buffer on the stack.
 */
#include "libsock/preload/preload.h"

#include <fcntl.h>
#include <sys/sendfile.h>
#include <unistd.h>

#define CHUNK 65536u
#define SENDFILE_MAX 0x7ffff000u

/* Up to len bytes at pos from in; sent ones, or -1. *readable: in could be. */
static ssize_t copy_once(int s, int in, off_t pos, size_t len, bool *readable)
{
	uint8_t buf[CHUNK];
	ssize_t got = pread(in, buf, len < CHUNK ? len : CHUNK, pos);

	*readable |= got >= 0;
	if (got <= 0)
		return got;
	return ours_send(s, buf, (size_t)got, 0);
}

static ssize_t copy(int s, int in, off_t *pos, size_t len, bool *readable)
{
	size_t done = 0, want;
	ssize_t n = 0;

	if (len > SENDFILE_MAX)
		len = SENDFILE_MAX;
	*readable = !len;
	while (done < len) {
		want = len - done < CHUNK ? len - done : CHUNK;
		n = copy_once(s, in, *pos, want, readable);
		if (n <= 0)
			break;
		*pos += n;
		done += (size_t)n;
		if ((size_t)n < want)
			break;
	}
	return done ? (ssize_t)done : n;
}

static ssize_t ours_sendfile(int s, int in, off_t *off, size_t len,
			     bool *readable)
{
	off_t pos = off ? *off : lseek(in, 0, SEEK_CUR);
	ssize_t n;

	*readable = false;
	if (pos < 0)
		return -1;
	n = copy(s, in, &pos, len, readable);
	if (n > 0 && off)
		*off = pos;
	else if (n > 0)
		lseek(in, pos, SEEK_SET);
	return n;
}

ssize_t sendfile(int out, int in, off_t *off, size_t len)
{
	int s = fd_ours(out);
	bool readable;
	ssize_t n;

	if (likely(!s))
		return real.sendfile(out, in, off, len);
	n = ours_sendfile(s, in, off, len, &readable);
	if (n >= 0 || readable)
		return n;
	if (!sock_leave(s, XTS_REASON_SHARED))
		return real.sendfile(out, in, off, len);
	errno = EINVAL;
	return -1;
}

ssize_t sendfile64(int out, int in, off_t *off, size_t len)
{
	return sendfile(out, in, off, len);
}

ssize_t splice(int in, off_t *in_off, int out, off_t *out_off, size_t len,
	       unsigned int flags)
{
	if (unlikely((fd_ours(in) && sock_leave_fd(in)) ||
		     (fd_ours(out) && sock_leave_fd(out)))) {
		errno = EINVAL;
		return -1;
	}
	return real.splice(in, in_off, out, out_off, len, flags);
}
