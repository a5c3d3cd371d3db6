/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * signal.c - knowing that a signal handler ran
 *
 * A call of the kernel's that waits is interrupted by a handler, and goes on by
 * itself if that was installed with SA_RESTART. Our calls spin before they
 * sleep, and sleep in epoll_wait(2), which never goes on. So every handler is
 * called through handle(), which counts, in its thread, and notes whether the
 * call it interrupted is to end. What sigaction() says of old handlers is what
 * the program had set.
 *
 * A handler that was installed past us (a raw system call) interrupts a sleep
 * only, and the call goes on.
 */
#include "libsock/preload/preload.h"

#include <string.h>

typedef void (*simple_handler)(int);
typedef void (*info_handler)(int, siginfo_t *, void *);

simple_handler __sysv_signal(int n, simple_handler handler);
simple_handler bsd_signal(int n, simple_handler handler);
int __sigaction(int n, const struct sigaction *a, struct sigaction *o);

/* What the program set. */
static struct {
	_Atomic(info_handler) call; /* NULL: libc's own business */
	_Atomic int flags;
} set[_NSIG];

XLEND_TLS uint32_t signal_ending, signal_ending_seen;
static sigset_t interrupting; /* siginterrupt() */

bool signal_restarts(int s, bool sends)
{
	/* As Linux: a call with a time-out never goes on, unless nothing was
	 * called. */
	if (signal_ending != signal_ending_seen ||
	    (xlend_signals != xlend_signals_seen && xlend_times_out(s, sends)))
		return false;
	xlend_signals_seen = xlend_signals;
	return true;
}

static void handle(int n, siginfo_t *info, void *context)
{
	info_handler call = atomic_load(&set[n].call);
	int flags = atomic_load(&set[n].flags);

	xlend_signals++;
	if (!(flags & SA_RESTART))
		signal_ending++;
	if (flags & (int)SA_RESETHAND)
		atomic_store(&set[n].call, NULL);
	if (call)
		call(n, info, context);
}

static bool is_function(const struct sigaction *a)
{
	return a->sa_handler != SIG_DFL && a->sa_handler != SIG_IGN;
}

/* Says what the program set, in place of what the kernel has. */
static void translate(struct sigaction *old, info_handler call, int flags)
{
	if (old->sa_sigaction != handle || !call)
		return;
	old->sa_sigaction = call;
	old->sa_flags = (old->sa_flags & ~SA_SIGINFO) | (flags & SA_SIGINFO);
}

int sigaction(int n, const struct sigaction *action, struct sigaction *old)
{
	struct sigaction ours;
	info_handler call;
	int flags, ret;

	if (n < 1 || n >= _NSIG)
		return real.sigaction(n, action, old);
	call = atomic_load(&set[n].call);
	flags = atomic_load(&set[n].flags);
	if (action && is_function(action)) {
		ours = *action;
		atomic_store(&set[n].flags, action->sa_flags);
		atomic_store(&set[n].call, action->sa_sigaction);
		ours.sa_sigaction = handle;
		ours.sa_flags |= SA_SIGINFO;
		action = &ours;
	}
	ret = real.sigaction(n, action, old);
	if (!ret && old)
		translate(old, call, flags);
	if (ret && action == &ours) {
		atomic_store(&set[n].flags, flags);
		atomic_store(&set[n].call, call);
	}
	return ret;
}

int __sigaction(int n, const struct sigaction *a, struct sigaction *o)
{
	return sigaction(n, a, o);
}

static simple_handler install(int n, simple_handler handler, int flags)
{
	struct sigaction a = {.sa_handler = handler, .sa_flags = flags}, old;

	sigemptyset(&a.sa_mask);
	if (!(flags & SA_NODEFER))
		sigaddset(&a.sa_mask, n);
	return sigaction(n, &a, &old) ? SIG_ERR : old.sa_handler;
}

simple_handler signal(int n, simple_handler handler)
{
	if (n < 1 || n >= _NSIG || handler == SIG_ERR) {
		errno = EINVAL;
		return SIG_ERR;
	}
	return install(n, handler,
		       sigismember(&interrupting, n) ? 0 : SA_RESTART);
}

simple_handler bsd_signal(int n, simple_handler handler)
{
	return signal(n, handler);
}

simple_handler __sysv_signal(int n, simple_handler handler)
{
	return install(n, handler, (int)(SA_RESETHAND | SA_NODEFER));
}

int siginterrupt(int n, int interrupts)
{
	struct sigaction a;

	if (sigaction(n, NULL, &a))
		return -1;
	if (interrupts) {
		sigaddset(&interrupting, n);
		a.sa_flags &= ~SA_RESTART;
	} else {
		sigdelset(&interrupting, n);
		a.sa_flags |= SA_RESTART;
	}
	return sigaction(n, &a, NULL);
}
