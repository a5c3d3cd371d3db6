/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * wait.c - poll(2) and select(2) over sockets of ours and all other descriptors
 *
 * A set without one of ours goes to the kernel as it is. Otherwise libsock
 * polls (lend.h), for select() too: its sets become an array, by the bits that
 * Linux's select() takes for readable, writable and exceptional.
 *
 * An epoll with a polling context is readable for the kernel when the service
 * had something to say, be it of interest or not. So it is asked when a wait
 * ends for it, and the wait goes on if there is nothing.
 *
 * Memory: arrays as large as the program's, from the heap if they are large.
 */
#include "libsock/preload/preload.h"

#include <stdlib.h>
#include <string.h>

#define ON_STACK 64u

int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size);
int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
		const sigset_t *mask, size_t size);
void __chk_fail(void) __attribute__((noreturn));

/* ---- poll ------------------------------------------------------------------
 */

enum { OURS = 1, EPOLLS = 2 };

static int found_one(uint64_t word)
{
	if (fd_kind_of(word) == FD_SOCKET)
		return OURS;
	if (fd_kind_of(word) == FD_EPOLL && ep_promise(fd_number_of(word)))
		return EPOLLS;
	return 0;
}

/* What of that is there; epolls begin to tell. */
static int look(const struct pollfd *fds, nfds_t n)
{
	int found = 0;
	uint64_t word;
	nfds_t i;

	/* No more than the kernel would look at. */
	if (unlikely(n > FD_MAX || (n && memory_none(fds))))
		return 0;
	for (i = 0; i < n; i++) {
		word = fd_word(fds[i].fd);
		if (unlikely(word))
			found |= found_one(word);
	}
	return found;
}

static int ours_poll(struct pollfd *fds, nfds_t n, uint64_t deadline,
		     const sigset_t *mask, bool sel)
{
	int stack[ON_STACK], *xs = stack, ret;
	nfds_t i;

	if (n > ON_STACK)
		xs = malloc(n * sizeof(*xs));
	if (!xs) {
		errno = ENOMEM;
		return -1;
	}
	for (i = 0; i < n; i++)
		xs[i] = fd_ours(fds[i].fd);
	ret = xlend_poll(fds, xs, n, deadline, mask, sel);
	if (xs != stack)
		free(xs);
	return ret;
}

/* Of n that are ready, without the epolls that have nothing. */
static int ask_epolls(struct pollfd *fds, nfds_t total, int n)
{
	struct pollfd *f;
	uint64_t word;

	for (f = fds; f < fds + total; f++) {
		word = fd_word(f->fd);
		if (!(f->revents & (POLLIN | POLLRDNORM)) ||
		    fd_kind_of(word) != FD_EPOLL ||
		    ep_readable(f->fd, fd_number_of(word)))
			continue;
		f->revents &= ~(POLLIN | POLLRDNORM);
		n -= !f->revents;
	}
	return n;
}

static int wait_all(struct pollfd *fds, nfds_t n, uint64_t deadline,
		    const sigset_t *mask, bool sel)
{
	bool late;
	int ret;

	signal_begin();
	do {
		late = deadline == 0 ||
		       (deadline < UINT64_MAX && time_ns() >= deadline);
		ret = ours_poll(fds, n, late ? 0 : deadline, mask, sel);
		if (ret > 0)
			ret = ask_epolls(fds, n, ret);
	} while (!ret && !late);
	return ret;
}

int poll(struct pollfd *fds, nfds_t n, int timeout)
{
	if (likely(!look(fds, n)))
		return real.poll(fds, n, timeout);
	return wait_all(fds, n, time_deadline_ms(timeout), NULL, false);
}

int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size)
{
	if (size / sizeof(*fds) < n)
		__chk_fail();
	return poll(fds, n, timeout);
}

int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
	  const sigset_t *mask)
{
	if (likely(!look(fds, n)) || !time_valid(timeout))
		return real.ppoll(fds, n, timeout, mask);
	return wait_all(fds, n, time_deadline(timeout), mask, false);
}

int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
		const sigset_t *mask, size_t size)
{
	if (size / sizeof(*fds) < n)
		__chk_fail();
	return ppoll(fds, n, timeout, mask);
}

/* ---- select ----------------------------------------------------------------
 */

#define WORD_BITS (8 * (int)sizeof(unsigned long))

/* Sets may be larger than an fd_set: programs allocate their own. */
struct sets {
	unsigned long *in, *out, *ex; /* NULL: none */
	int n;
};

static bool bit(const unsigned long *set, int fd)
{
	return set && set[fd / WORD_BITS] >> fd % WORD_BITS & 1;
}

static unsigned long bits(const struct sets *s, int word)
{
	return (s->in ? s->in[word] : 0) | (s->out ? s->out[word] : 0) |
	       (s->ex ? s->ex[word] : 0);
}

/* The number of descriptors; *found: as look(). */
static nfds_t count(const struct sets *s, int *found)
{
	unsigned long left;
	nfds_t total = 0;
	uint64_t word;
	int w;

	*found = 0;
	if ((s->in && memory_none(s->in)) || (s->out && memory_none(s->out)) ||
	    (s->ex && memory_none(s->ex)))
		return 0;
	for (w = 0; w * WORD_BITS < s->n; w++) {
		for (left = bits(s, w); left; left &= left - 1) {
			word = fd_word(w * WORD_BITS + __builtin_ctzl(left));
			if (word)
				*found |= found_one(word);
			total++;
		}
	}
	return total;
}

static nfds_t to_poll(const struct sets *s, struct pollfd *fds)
{
	nfds_t total = 0;
	int fd;

	for (fd = 0; fd < s->n; fd++) {
		if (!(bits(s, fd / WORD_BITS) >> fd % WORD_BITS & 1))
			continue;
		fds[total].fd = fd;
		fds[total++].events = (short)((bit(s->in, fd) ? POLLIN : 0) |
					      (bit(s->out, fd) ? POLLOUT : 0) |
					      (bit(s->ex, fd) ? POLLPRI : 0));
	}
	return total;
}

static int give(unsigned long *set, const struct pollfd *f, bool asked,
		int which)
{
	bool on = asked && f->revents & which;

	if (asked && !on)
		set[f->fd / WORD_BITS] &= ~(1ul << f->fd % WORD_BITS);
	return on;
}

/* The sets as select() returns them, and its value. */
static int from_poll(const struct sets *s, const struct pollfd *fds, nfds_t n)
{
	const struct pollfd *f;
	int on = 0;

	for (f = fds; f < fds + n; f++)
		if (f->revents & POLLNVAL) {
			errno = EBADF;
			return -1;
		}
	for (f = fds; f < fds + n; f++) {
		on += give(s->in, f, f->events & POLLIN, XLEND_IN_SET);
		on += give(s->out, f, f->events & POLLOUT, XLEND_OUT_SET);
		on += give(s->ex, f, f->events & POLLPRI, XLEND_EX_SET);
	}
	return on;
}

static int ours_select(const struct sets *s, nfds_t n, uint64_t deadline,
		       const sigset_t *mask)
{
	struct pollfd stack[ON_STACK], *fds = stack;
	int ret;

	if (n > ON_STACK)
		fds = malloc(n * sizeof(*fds));
	if (!fds) {
		errno = ENOMEM;
		return -1;
	}
	to_poll(s, fds);
	ret = wait_all(fds, n, deadline, mask, true);
	if (ret >= 0)
		ret = from_poll(s, fds, n);
	if (fds != stack)
		free(fds);
	return ret;
}

static struct sets sets_of(int n, fd_set *in, fd_set *out, fd_set *ex)
{
	return (struct sets){.in = (unsigned long *)in,
			     .out = (unsigned long *)out,
			     .ex = (unsigned long *)ex,
			     .n = n < (int)FD_MAX ? n : (int)FD_MAX};
}

int select(int n, fd_set *in, fd_set *out, fd_set *ex, struct timeval *timeout)
{
	struct sets s = sets_of(n, in, out, ex);
	uint64_t deadline = UINT64_MAX, now;
	int found;
	nfds_t total = count(&s, &found);
	int ret;

	if (likely(!found) || (timeout && memory_none(timeout)))
		return real.select(n, in, out, ex, timeout);
	if (timeout) {
		if (timeout->tv_sec < 0 || timeout->tv_usec < 0) {
			errno = EINVAL;
			return -1;
		}
		deadline = (uint64_t)timeout->tv_sec * 1000000000u +
			   (uint64_t)timeout->tv_usec * 1000u;
		deadline = deadline ? deadline + time_ns() : 0;
	}
	ret = ours_select(&s, total, deadline, NULL);
	if (!timeout)
		return ret;
	/* Linux says what is left. */
	now = time_ns();
	deadline = deadline > now ? deadline - now : 0;
	timeout->tv_sec = (time_t)(deadline / 1000000000u);
	timeout->tv_usec = (suseconds_t)(deadline % 1000000000u / 1000u);
	return ret;
}

int pselect(int n, fd_set *in, fd_set *out, fd_set *ex,
	    const struct timespec *timeout, const sigset_t *mask)
{
	struct sets s = sets_of(n, in, out, ex);
	int found;
	nfds_t total = count(&s, &found);

	if (likely(!found) || !time_valid(timeout))
		return real.pselect(n, in, out, ex, timeout, mask);
	return ours_select(&s, total, time_deadline(timeout), mask);
}
