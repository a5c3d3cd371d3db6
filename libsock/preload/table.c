/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * table.c - what each descriptor of the program is
 *
 * Read preload.h first. Words are read without a lock. What changes who owns a
 * socket (adopting, duplicating, closing) takes the table's lock, which nobody
 * takes to move data; the sockets themselves are closed outside of it. Order:
 * the table's lock before any of libsock's.
 *
 * A descriptor's word goes before the descriptor does: another thread may get
 * the same number from the kernel at once. So a word is never one of an older
 * file, unless the program closed that past us (a raw system call); adopting
 * then finds a word and lets go of what it named.
 *
 * refs counts the descriptors of each XTS socket. The one that libsock holds as
 * the shadow is replaced by another when it is closed first.
 *
 * A connection that leaves the service gets another file (fd_replace_all()),
 * under the lock of a context and the family's. The latter is held whenever a
 * socket's descriptors change, by who has the table's lock. A duplicate that
 * was made meanwhile is made again.
 *
 * Memory: zero pages until used, 12 bytes for each descriptor.
 */
#include "libsock/preload/preload.h"

#include <fcntl.h>
#include <sys/stat.h>

_Atomic uint64_t fd_words[FD_MAX];

static struct {
	pthread_mutex_t lock;
	_Atomic int highest;
	_Atomic uint32_t swaps; /* goes up when files were replaced */
	uint32_t refs[FD_MAX + XSOCK_NUMBERS_FROM]; /* by XTS number */
} table = {.lock = PTHREAD_MUTEX_INITIALIZER};

void fd_table_lock(void)
{
	pthread_mutex_lock(&table.lock);
}

void fd_table_unlock(void)
{
	pthread_mutex_unlock(&table.lock);
}

int fd_highest(void)
{
	return atomic_load(&table.highest);
}

void fd_set_word(int fd, uint64_t word)
{
	int high = atomic_load(&table.highest);

	if ((uint32_t)fd >= FD_MAX)
		return;
	while (word && fd > high &&
	       !atomic_compare_exchange_weak(&table.highest, &high, fd))
		;
	atomic_store_explicit(&fd_words[fd], word, memory_order_relaxed);
}

static bool is_socket(uint64_t word)
{
	return fd_kind_of(word) == FD_SOCKET || fd_kind_of(word) == FD_KERNEL;
}

/* ---- references -----------------------------------------------------------
 */

/* Table locked. */
static void take_ref(uint64_t word)
{
	if (is_socket(word))
		table.refs[fd_number_of(word)]++;
	else if (fd_kind_of(word) == FD_EPOLL)
		ep_copied(fd_number_of(word));
}

/* Another descriptor of the same socket, -1: none that we know. */
static int find_other(int number)
{
	int fd, high = fd_highest();
	uint64_t word;

	for (fd = 0; fd <= high; fd++) {
		word = fd_word(fd);
		if (is_socket(word) && fd_number_of(word) == number)
			return fd;
	}
	return -1;
}

/* The shadow is one of the program's, or a copy of ours: leave_shadow(). */
bool fd_stands_for(int fd, int s)
{
	int shadow = xts_shadow_fd(s);
	uint64_t word = shadow >= 0 ? fd_word(shadow) : 0;

	if (is_socket(word) && fd_number_of(word) == s)
		return shadow == fd;
	return find_other(s) == fd;
}

/* fd, the shadow, is about to be closed, and others are left. An entry of an
 * epoll that was made by it lives on by a descriptor of our own, so that none
 * of the program's others finds it. */
static void leave_shadow(int number, int fd)
{
	int other = find_other(number);

	if (ep_registered_by(number) == fd)
		other = own_copy(fd);
	xlend_reshadow(number, other);
}

/* The word of fd, which has none from now on; *last: it was its socket's last
 * descriptor. Table locked. */
static uint64_t drop(int fd, bool *last)
{
	uint64_t word = fd_word(fd);
	int n = fd_number_of(word);

	*last = false;
	if (!word || fd_kind_of(word) == FD_PRIVATE)
		return word;
	if (!is_socket(word)) {
		fd_set_word(fd, 0);
		return word;
	}
	family_lock();
	fd_set_word(fd, 0);
	*last = --table.refs[n] == 0;
	family_unlock();
	if (!*last && xts_shadow_fd(n) == fd)
		leave_shadow(n, fd);
	return word;
}

/* ---- adopting -------------------------------------------------------------
 */

/* fd is new, and yet has a word: its file was closed past us. */
static void forget_stale(int fd)
{
	bool last;
	uint64_t word = drop(fd, &last);

	if (last) {
		xlend_reshadow(fd_number_of(word), -1);
		xts_close(fd_number_of(word));
	} else if (fd_kind_of(word) == FD_EPOLL) {
		ep_closed(fd_number_of(word));
	}
}

void fd_adopt(int fd, bool accepted, bool nonblock)
{
	int n;

	if ((uint32_t)fd >= FD_MAX)
		return;
	fd_table_lock();
	if (fd_word(fd))
		forget_stale(fd);
	n = xlend_adopt(fd, accepted, nonblock);
	if (n >= 0) {
		table.refs[n] = 1;
		fd_set_word(fd, fd_make(FD_SOCKET, 0, n));
	}
	fd_table_unlock();
}

void fd_fresh(int fd)
{
	if (fd < 0 || !fd_word(fd))
		return;
	fd_table_lock();
	forget_stale(fd);
	fd_table_unlock();
}

void fd_disown(int fd, uint64_t word)
{
	bool last;

	fd_table_lock();
	if (fd_word(fd) == word) {
		drop(fd, &last);
		if (last) {
			xlend_reshadow(fd_number_of(word), -1);
			xts_close(fd_number_of(word));
		}
	}
	fd_table_unlock();
}

void fd_demote(int fd, uint64_t word)
{
	uint64_t kernel = fd_make(FD_KERNEL, 0, fd_number_of(word));

	/* Unless it was closed meanwhile. */
	atomic_compare_exchange_strong(&fd_words[fd], &word, kernel);
}

int fd_settle(int fd, int s)
{
	enum xlend_state state = xlend_state(s);

	if (unlikely(state == XLEND_FORKED)) {
		sock_claim(s);
		state = xlend_state(s);
	}
	if (likely(state != XLEND_KERNEL))
		return s;
	fd_demote(fd, fd_make(FD_SOCKET, 0, s));
	return 0;
}

int fd_of_same_file(int fd)
{
	int other, high = fd_highest();
	struct stat a, b;

	if (fstat(fd, &a))
		return -1;
	for (other = 0; other <= high; other++)
		if (other != fd && is_socket(fd_word(other)) &&
		    !fstat(other, &b) && a.st_ino == b.st_ino &&
		    a.st_dev == b.st_dev)
			return other;
	return -1;
}

/* ---- duplicates -----------------------------------------------------------
 */

uint32_t fd_swaps(void)
{
	return atomic_load_explicit(&table.swaps, memory_order_relaxed);
}

/* to becomes a copy of fd, and keeps its FD_CLOEXEC. */
static void put_over(int fd, int to)
{
	long flags = real.fcntl(to, F_GETFD, 0);
	int rc;

	do
		rc = real.dup3(fd, to, flags & FD_CLOEXEC ? O_CLOEXEC : 0);
	while (rc < 0 && (errno == EBUSY || errno == EINTR));
}

static bool same_file(int a, int b)
{
	struct stat sa, sb;

	return !fstat(a, &sa) && !fstat(b, &sb) && sa.st_ino == sb.st_ino &&
	       sa.st_dev == sb.st_dev;
}

void fd_replace_all(int s, int shadow, int fd)
{
	int other, high = fd_highest(), err = errno;
	uint32_t left;
	uint64_t word;

	family_lock();
	atomic_fetch_add(&table.swaps, 1);
	left = table.refs[s];
	for (other = 0; left && other <= high; other++) {
		word = fd_word(other);
		if (!is_socket(word) || fd_number_of(word) != s)
			continue;
		left--;
		/* What it had was closed past us: not another's file. */
		if (other != shadow && same_file(other, shadow))
			put_over(fd, other);
	}
	if (shadow >= 0)
		put_over(fd, shadow);
	family_push(s, fd);
	family_unlock();
	errno = err;
}

/* A copy that was made of the old file. Family locked. */
static void copy_again(int fd, int copy, uint64_t word)
{
	if (is_socket(word) && fd_word(fd) == word && !same_file(fd, copy))
		put_over(fd, copy);
}

void fd_copied(int fd, int copy, uint32_t before)
{
	uint64_t word;

	if (copy < 0 || fd == copy || (uint32_t)copy >= FD_MAX ||
	    (!fd_word(fd) && !fd_word(copy)))
		return;
	fd_table_lock();
	forget_stale(copy);
	family_lock();
	word = fd_word(fd);
	if (word && fd_kind_of(word) != FD_PRIVATE) {
		take_ref(word);
		fd_set_word(copy, word);
		if (unlikely(before != fd_swaps()))
			copy_again(fd, copy, word);
	}
	family_unlock();
	fd_table_unlock();
}

struct fd_replace fd_begin_replace(int fd)
{
	struct fd_replace r = {.parked = -1};

	if (!fd_word(fd))
		return r;
	fd_table_lock();
	r.word = drop(fd, &r.last);
	fd_table_unlock();
	/* It is closed when its place is taken: its own way of closing needs a
	 * descriptor. */
	if (r.last) {
		r.parked = own_copy(fd);
		xlend_reshadow(fd_number_of(r.word), r.parked);
	}
	return r;
}

/* The last descriptor of a socket is gone; parked is the shadow. true: it stays
 * open for children. */
static bool stays_open(int s, int parked)
{
	report_count(s);
	if (parked >= 0 && family_shares(s)) {
		xlend_unregister(s);
		if (family_keep(s))
			return true;
	}
	family_closed(s);
	return false;
}

void fd_replaced(struct fd_replace *r)
{
	if (r->last) {
		if (!stays_open(fd_number_of(r->word), r->parked))
			xts_close(fd_number_of(r->word));
	} else if (fd_kind_of(r->word) == FD_EPOLL) {
		ep_closed(fd_number_of(r->word));
	}
}

void fd_not_replaced(int fd, struct fd_replace *r)
{
	if (!r->word)
		return;
	fd_table_lock();
	if (r->last)
		xlend_reshadow(fd_number_of(r->word), fd);
	family_lock();
	if (is_socket(r->word))
		table.refs[fd_number_of(r->word)]++;
	fd_set_word(fd, r->word);
	family_unlock();
	fd_table_unlock();
	if (r->parked >= 0) {
		fd_set_word(r->parked, 0);
		real.close(r->parked);
	}
}

/* ---- closing --------------------------------------------------------------
 */

int fd_close(int fd, uint64_t word)
{
	int n, parked = -1;
	bool last;

	if (fd_kind_of(word) == FD_PRIVATE) {
		errno = EBADF;
		return -1;
	}
	fd_table_lock();
	word = drop(fd, &last);
	fd_table_unlock();
	n = fd_number_of(word);
	if (fd_kind_of(word) == FD_EPOLL)
		ep_closed(n);
	if (!last)
		return real.close(fd);
	if (family_shares(n)) {
		parked = own_copy(fd);
		if (parked >= 0)
			xlend_reshadow(n, parked);
	}
	if (stays_open(n, parked))
		return real.close(fd);
	if (xts_shadow_fd(n) == fd)
		return xts_close(n);
	/* Its shadow is not known any more. */
	xts_close(n);
	return real.close(fd);
}

/* ---- all of them -----------------------------------------------------------
 */

void fd_count_open(void)
{
	int fd, high = fd_highest();
	uint64_t word;

	for (fd = 0; fd <= high; fd++) {
		word = fd_word(fd);
		if (is_socket(word) && fd_stands_for(fd, fd_number_of(word)))
			report_count(fd_number_of(word));
	}
}

void fd_table_child(void)
{
	pthread_mutex_init(&table.lock, NULL);
}
