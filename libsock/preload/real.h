/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * real.h - the functions of libc that the interposer stands in front of
 *
 * real.NAME is libc's own (or that of the next library preloaded). Each
 * pointer begins as a stub that resolves all of them: constructors of other
 * libraries may call us before ours has run.
 */
#ifndef LIBSOCK_PRELOAD_REAL_H
#define LIBSOCK_PRELOAD_REAL_H

#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

/* What a variadic function is called with, by its fixed equivalent: the calling
 * conventions of the CPUs served pass these alike. */
#define PRELOAD_REAL(X)                                                        \
	X(int, close, (int fd), (fd))                                          \
	X(int, shutdown, (int fd, int how), (fd, how))                         \
	X(int, socket, (int d, int t, int p), (d, t, p))                       \
	X(int, bind, (int fd, const struct sockaddr *a, socklen_t l),          \
	  (fd, a, l))                                                          \
	X(int, listen, (int fd, int n), (fd, n))                               \
	X(int, accept, (int fd, struct sockaddr *a, socklen_t *l), (fd, a, l)) \
	X(int, accept4, (int fd, struct sockaddr *a, socklen_t *l, int f),     \
	  (fd, a, l, f))                                                       \
	X(int, connect, (int fd, const struct sockaddr *a, socklen_t l),       \
	  (fd, a, l))                                                          \
	X(int, dup, (int fd), (fd))                                            \
	X(int, dup2, (int fd, int to), (fd, to))                               \
	X(int, dup3, (int fd, int to, int f), (fd, to, f))                     \
	X(int, fcntl, (int fd, int cmd, long arg), (fd, cmd, arg))             \
	X(int, fcntl64, (int fd, int cmd, long arg), (fd, cmd, arg))           \
	X(int, ioctl, (int fd, unsigned long r, void *arg), (fd, r, arg))      \
	X(int, getsockopt, (int fd, int l, int n, void *v, socklen_t *len),    \
	  (fd, l, n, v, len))                                                  \
	X(int, setsockopt,                                                     \
	  (int fd, int l, int n, const void *v, socklen_t len),                \
	  (fd, l, n, v, len))                                                  \
	X(int, getsockname, (int fd, struct sockaddr *a, socklen_t *l),        \
	  (fd, a, l))                                                          \
	X(int, getpeername, (int fd, struct sockaddr *a, socklen_t *l),        \
	  (fd, a, l))                                                          \
	X(ssize_t, read, (int fd, void *b, size_t n), (fd, b, n))              \
	X(ssize_t, write, (int fd, const void *b, size_t n), (fd, b, n))       \
	X(ssize_t, readv, (int fd, const struct iovec *v, int n), (fd, v, n))  \
	X(ssize_t, writev, (int fd, const struct iovec *v, int n), (fd, v, n)) \
	X(ssize_t, preadv2,                                                    \
	  (int fd, const struct iovec *v, int n, off_t o, int f),              \
	  (fd, v, n, o, f))                                                    \
	X(ssize_t, pwritev2,                                                   \
	  (int fd, const struct iovec *v, int n, off_t o, int f),              \
	  (fd, v, n, o, f))                                                    \
	X(ssize_t, send, (int fd, const void *b, size_t n, int f),             \
	  (fd, b, n, f))                                                       \
	X(ssize_t, sendto,                                                     \
	  (int fd, const void *b, size_t n, int f, const struct sockaddr *a,   \
	   socklen_t l),                                                       \
	  (fd, b, n, f, a, l))                                                 \
	X(ssize_t, sendmsg, (int fd, const struct msghdr *m, int f),           \
	  (fd, m, f))                                                          \
	X(int, sendmmsg, (int fd, struct mmsghdr *m, unsigned int n, int f),   \
	  (fd, m, n, f))                                                       \
	X(ssize_t, recv, (int fd, void *b, size_t n, int f), (fd, b, n, f))    \
	X(ssize_t, recvfrom,                                                   \
	  (int fd, void *b, size_t n, int f, struct sockaddr *a,               \
	   socklen_t *l),                                                      \
	  (fd, b, n, f, a, l))                                                 \
	X(ssize_t, recvmsg, (int fd, struct msghdr *m, int f), (fd, m, f))     \
	X(int, recvmmsg,                                                       \
	  (int fd, struct mmsghdr *m, unsigned int n, int f,                   \
	   struct timespec *t),                                                \
	  (fd, m, n, f, t))                                                    \
	X(ssize_t, sendfile, (int out, int in, off_t *o, size_t n),            \
	  (out, in, o, n))                                                     \
	X(ssize_t, sendfile64, (int out, int in, off_t *o, size_t n),          \
	  (out, in, o, n))                                                     \
	X(ssize_t, splice,                                                     \
	  (int in, off_t *oi, int out, off_t *oo, size_t n, unsigned int f),   \
	  (in, oi, out, oo, n, f))                                             \
	X(FILE *, fdopen, (int fd, const char *mode), (fd, mode))              \
	X(int, fclose, (FILE * f), (f))                                        \
	X(int, fileno, (FILE * f), (f))                                        \
	X(int, fileno_unlocked, (FILE * f), (f))                               \
	X(void, closefrom, (int fd), (fd))                                     \
	X(int, close_range, (unsigned int a, unsigned int b, int f),           \
	  (a, b, f))                                                           \
	X(int, epoll_create, (int n), (n))                                     \
	X(int, epoll_create1, (int f), (f))                                    \
	X(int, epoll_ctl, (int ep, int op, int fd, struct epoll_event *e),     \
	  (ep, op, fd, e))                                                     \
	X(int, epoll_wait, (int ep, struct epoll_event *e, int n, int t),      \
	  (ep, e, n, t))                                                       \
	X(int, epoll_pwait,                                                    \
	  (int ep, struct epoll_event *e, int n, int t, const sigset_t *m),    \
	  (ep, e, n, t, m))                                                    \
	X(int, epoll_pwait2,                                                   \
	  (int ep, struct epoll_event *e, int n, const struct timespec *t,     \
	   const sigset_t *m),                                                 \
	  (ep, e, n, t, m))                                                    \
	X(int, eventfd, (unsigned int v, int f), (v, f))                       \
	X(int, poll, (struct pollfd * p, nfds_t n, int t), (p, n, t))          \
	X(int, ppoll,                                                          \
	  (struct pollfd * p, nfds_t n, const struct timespec *t,              \
	   const sigset_t *m),                                                 \
	  (p, n, t, m))                                                        \
	X(int, select,                                                         \
	  (int n, fd_set *r, fd_set *w, fd_set *e, struct timeval *t),         \
	  (n, r, w, e, t))                                                     \
	X(int, pselect,                                                        \
	  (int n, fd_set *r, fd_set *w, fd_set *e, const struct timespec *t,   \
	   const sigset_t *m),                                                 \
	  (n, r, w, e, t, m))                                                  \
	X(int, sigaction,                                                      \
	  (int n, const struct sigaction *a, struct sigaction *o), (n, a, o))  \
	X(pid_t, fork, (void), ())                                             \
	X(int, execve, (const char *p, char *const *a, char *const *e),        \
	  (p, a, e))                                                           \
	X(int, execv, (const char *p, char *const *a), (p, a))                 \
	X(int, execvp, (const char *p, char *const *a), (p, a))                \
	X(int, execvpe, (const char *p, char *const *a, char *const *e),       \
	  (p, a, e))                                                           \
	X(int, posix_spawn,                                                    \
	  (pid_t * pid, const char *p, const posix_spawn_file_actions_t *f,    \
	   const posix_spawnattr_t *at, char *const *a, char *const *e),       \
	  (pid, p, f, at, a, e))                                               \
	X(int, posix_spawnp,                                                   \
	  (pid_t * pid, const char *p, const posix_spawn_file_actions_t *f,    \
	   const posix_spawnattr_t *at, char *const *a, char *const *e),       \
	  (pid, p, f, at, a, e))                                               \
	X(int, posix_spawn_file_actions_adddup2,                               \
	  (posix_spawn_file_actions_t * f, int fd, int to), (f, fd, to))       \
	X(int, fexecve, (int fd, char *const *a, char *const *e), (fd, a, e))  \
	X(int, execveat,                                                       \
	  (int d, const char *p, char *const *a, char *const *e, int f),       \
	  (d, p, a, e, f))                                                     \
	X(void, _exit, (int status), (status))                                 \
	X(void, quick_exit, (int status), (status))                            \
	X(int, setrlimit, (int r, const struct rlimit *n), (r, n))             \
	X(int, prlimit,                                                        \
	  (pid_t pid, int r, const struct rlimit *n, struct rlimit *o),        \
	  (pid, r, n, o))                                                      \
	X(int, prctl,                                                          \
	  (int o, unsigned long a, unsigned long b, unsigned long c,           \
	   unsigned long d),                                                   \
	  (o, a, b, c, d))                                                     \
	X(long, syscall,                                                       \
	  (long nr, long a, long b, long c, long d, long e, long f),           \
	  (nr, a, b, c, d, e, f))

struct preload_real {
/* A type and a list of parameters take no parentheses. */
/* NOLINTNEXTLINE(bugprone-macro-parentheses) */
#define X(ret, name, params, args) ret(*name) params;
	PRELOAD_REAL(X)
#undef X
};

/* Written once, by whoever calls first. */
extern struct preload_real real;

#endif
