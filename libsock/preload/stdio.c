/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stdio.c - streams over sockets
 *
 * libc's streams read and write past us. A connection that gets one before its
 * first data call stays with Linux; one that is offloaded gets a stream whose
 * functions are ours. fileno() does not know such a stream's descriptor: a list
 * has it. fclose() closes the descriptor past us: its word goes first.
 *
 * Memory: an entry for each open stream over an offloaded socket.
 */
#include "libsock/preload/preload.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct stream {
	FILE *file;
	int fd;
	struct stream *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct stream *streams;

static ssize_t stream_read(void *cookie, char *buf, size_t len)
{
	return read(((struct stream *)cookie)->fd, buf, len);
}

static ssize_t stream_write(void *cookie, const char *buf, size_t len)
{
	ssize_t n = write(((struct stream *)cookie)->fd, buf, len);

	return n < 0 ? 0 : n; /* as fopencookie(3) wants it */
}

static int stream_close(void *cookie)
{
	struct stream *st = cookie, **p;
	int ret;

	pthread_mutex_lock(&lock);
	for (p = &streams; *p && *p != st; p = &(*p)->next)
		;
	if (*p)
		*p = st->next;
	pthread_mutex_unlock(&lock);
	ret = close(st->fd);
	free(st);
	return ret;
}

static FILE *stream_open(int fd, const char *mode)
{
	static const cookie_io_functions_t io = {.read = stream_read,
						 .write = stream_write,
						 .close = stream_close};
	struct stream *st = malloc(sizeof(*st));

	if (!st)
		return NULL;
	st->fd = fd;
	st->file = fopencookie(st, mode, io);
	if (!st->file) {
		free(st);
		return NULL;
	}
	pthread_mutex_lock(&lock);
	st->next = streams;
	streams = st;
	pthread_mutex_unlock(&lock);
	return st->file;
}

FILE *fdopen(int fd, const char *mode)
{
	int s = fd_ours(fd);

	if (likely(!s) || sock_keep(s, XTS_REASON_SHARED))
		return real.fdopen(fd, mode);
	return stream_open(fd, mode);
}

static int known_fileno(FILE *file)
{
	struct stream *st;
	int fd = -1;

	pthread_mutex_lock(&lock);
	for (st = streams; st; st = st->next)
		if (st->file == file)
			fd = st->fd;
	pthread_mutex_unlock(&lock);
	return fd;
}

int fileno(FILE *file)
{
	int fd = real.fileno(file), err = errno;

	if (fd < 0)
		fd = known_fileno(file);
	errno = err;
	return fd;
}

int fileno_unlocked(FILE *file)
{
	int fd = real.fileno_unlocked(file), err = errno;

	if (fd < 0)
		fd = known_fileno(file);
	errno = err;
	return fd;
}

int fclose(FILE *file)
{
	int err = errno, fd = real.fileno(file), ret;
	struct fd_replace r;

	errno = err;
	if (likely(!fd_word(fd)))
		return real.fclose(file);
	r = fd_begin_replace(fd);
	ret = real.fclose(file);
	err = errno;
	fd_replaced(&r);
	errno = err;
	return ret;
}
