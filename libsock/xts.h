/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * xts.h - XDP-Transport sockets: TCP carried by the tas-xdp service
 *
 * Each xts_* function takes the arguments of its BSD socket counterpart and
 * returns what it returns: -1 with errno set on failure. Sockets are named by
 * XTS socket numbers, a number space of their own: never pass one to a function
 * that wants a file descriptor, or the other way round. A call on a number
 * that is no open socket fails with EBADF.
 *
 * Every XTS socket is backed by a kernel socket (its shadow). Linux opens and
 * closes the connection; when it is established, the service may carry it (it
 * is then offloaded). A connection that can't be offloaded works through the
 * same calls on the kernel socket; xts_offload_reason() says why. Without the
 * service everything stays in the kernel.
 *
 * Blocking. Sockets block unless SOCK_NONBLOCK, O_NONBLOCK (xts_fcntl) or
 * MSG_DONTWAIT says otherwise; a blocked call spins for XTS_SPIN_US
 * microseconds (environment, default 50), yielding the CPU, and then sleeps. A
 * signal handler interrupts a sleeping call with EINTR.
 *
 * Threads. Any thread may use any socket. A socket joins the context of the
 * thread that first uses it, or of the polling context that it is added to;
 * keep to one context a thread for speed. A polling context serves one thread
 * at a time.
 *
 * Addresses are in network byte order, sizes in bytes, times in milliseconds
 * unless a name says otherwise.
 *
 * Source: T. Herbert, "TCP and ULP Offload via AF_XDP Sockets"; POSIX.1-2017.
 */
#ifndef XTS_H
#define XTS_H

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

int xts_socket(int domain, int type, int protocol);
int xts_bind(int s, const struct sockaddr *addr, socklen_t len);
int xts_listen(int s, int backlog);
int xts_accept(int s, struct sockaddr *addr, socklen_t *len);
int xts_accept4(int s, struct sockaddr *addr, socklen_t *len, int flags);
int xts_connect(int s, const struct sockaddr *addr, socklen_t len);
int xts_shutdown(int s, int how);
int xts_close(int s);

ssize_t xts_send(int s, const void *buf, size_t len, int flags);
ssize_t xts_sendto(int s, const void *buf, size_t len, int flags,
		   const struct sockaddr *addr, socklen_t alen);
ssize_t xts_sendmsg(int s, const struct msghdr *msg, int flags);
ssize_t xts_recv(int s, void *buf, size_t len, int flags);
ssize_t xts_recvfrom(int s, void *buf, size_t len, int flags,
		     struct sockaddr *addr, socklen_t *alen);
ssize_t xts_recvmsg(int s, struct msghdr *msg, int flags);

int xts_ioctl(int s, unsigned long request, ...);
int xts_fcntl(int s, int cmd, ...);
int xts_getsockopt(int s, int level, int name, void *val, socklen_t *len);
int xts_setsockopt(int s, int level, int name, const void *val, socklen_t len);
int xts_getsockname(int s, struct sockaddr *addr, socklen_t *len);
int xts_getpeername(int s, struct sockaddr *addr, socklen_t *len);

/*
 * xts_epoll_ctx_create() - a polling context, NULL with errno on failure
 *
 * xts_epoll_ctl() and xts_epoll() are epoll_ctl(2) and a non-blocking
 * epoll_wait(2) on it. EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLHUP, EPOLLERR,
 * level-triggered, EPOLLET and EPOLLONESHOT are served. xts_epoll_fd() is a
 * file descriptor that is readable when xts_epoll() may have something to
 * return: put it into an epoll instance of your own, and call xts_epoll() until
 * it returns 0 whenever that says so. It belongs to the context.
 * xts_epoll_wait() waits by itself: it spins for XTS_SPIN_US, then sleeps;
 * timeout in milliseconds, -1 for ever, 0 is xts_epoll().
 */
void *xts_epoll_ctx_create(void);
int xts_epoll_ctx_destroy(void *ectx);
int xts_epoll_ctl(void *ectx, int op, int s, struct epoll_event *ev);
int xts_epoll(void *ectx, struct epoll_event *events, int maxevents);
int xts_epoll_wait(void *ectx, struct epoll_event *events, int maxevents,
		   int timeout);
int xts_epoll_fd(void *ectx);

/*
 * xts_import() - make an XTS socket of a kernel socket; it takes the
 * descriptor over (xts_close() closes it) and offloads the connection if it
 * can. EBADF, ENOTSOCK, EMFILE, ENOMEM.
 */
int xts_import(int fd);
/* xts_shadow_fd() - the kernel socket behind s; owned by s. Don't read from or
 * write to it while s is offloaded. */
int xts_shadow_fd(int s);

/*
 * xts_handover() - make the connection of s a kernel socket's again, for good
 *
 * An offloaded connection leaves the service with all its state; the peer
 * notices nothing. Nothing that was received or sent is lost, doubled or out of
 * order. s keeps its number, xts_shadow_fd() says the same descriptor as before
 * (with its FD_CLOEXEC and the socket's options), which may now be used like
 * any other; polling contexts go on to report s, and report what is ready once
 * more. A socket that was not offloaded will not be; one that is the kernel's
 * already stays so.
 *
 * Waits until it is done, usually well below a millisecond, whatever s's
 * blocking mode; a signal does not interrupt it. Any thread may call it; calls
 * of other threads on s wait meanwhile (those that may not: EAGAIN) and then go
 * on in the kernel. Other descriptors of the kernel socket (dup(2), copies in
 * other processes) are not replaced: they see ECONNABORTED.
 *
 * 0, or -1 with errno; then s is as before:
 *   EBADF      not an open socket
 *   ENOTCONN   the connection is over: reset, or ended in both directions
 *   EBUSY      urgent data (MSG_OOB) wait to be read, or to be acknowledged
 *   ECONNRESET it failed in the middle, or the service ended: s is reset
 *   others     as of socket(2) and bind(2): no kernel socket could be made
 */
int xts_handover(int s);

/*
 * xts_offload_reason() - why s is not offloaded
 * Returns 0 if s is offloaded, a positive number (an enum xts_reason of
 * xts_proto.h) if not, -1 with EBADF. xts_reason_text() says it for people; the
 * text is static.
 */
int xts_offload_reason(int s);
const char *xts_reason_text(int reason);

#ifdef __cplusplus
}
#endif
#endif
