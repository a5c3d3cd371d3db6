// SPDX-License-Identifier: BSD-2-Clause
/*
 * badapp - a program that breaks the contract with the service on purpose
 *
 *   badapp control           garbage on the control socket
 *   badapp connects N        N control connections at once, all silent
 *   badapp scribble ADDRESS PORT SECONDS
 *       listens there, has one connection offloaded, then writes random bytes
 *       over all of its shared memory for so long
 *   badapp command KIND ADDRESS PORT
 *       the same, with one well-formed lie in a command ring: flow, range,
 *       credits, producer, type, consumer
 *   badapp destroy ADDRESS PORT
 *       has one connection offloaded, destroys its context, then closes it
 *
 * It speaks xts_proto.h itself, without libsock. stdout says "offloaded" when
 * the peer may send and ends with a line "session=closed" (the service ended
 * it), "session=open", or for control "answered=N closed=N".
 */
#include "io.h"
#include "stream.h"

#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/un.h>

static uint64_t rng = 7;

static struct session {
	int control;
	int event_fd, doorbell[XTS_MAX_CORES];
	uint32_t cores, ctx;
	uint8_t *mem;
	uint64_t mem_size;
	struct xts_ctx_area *area;
	struct xts_core_area *core; /* the flow's */
	struct xts_reply flow;	    /* the answer OFFLOADED */
} x;

static int control_connect(void)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	const char *name = getenv("XTS_CONTROL");
	int s = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	socklen_t len;

	if (!name || !*name)
		name = XTS_CONTROL_DEFAULT;
	if (s < 0)
		io_die("socket");
	len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
			  strlen(name));
	strncpy(un.sun_path, name, sizeof(un.sun_path) - 1);
	if (un.sun_path[0] == '@')
		un.sun_path[0] = 0;
	else
		len++;
	if (connect(s, (struct sockaddr *)&un, len) < 0)
		io_die("control socket %s", name);
	return s;
}

static ssize_t control_send(int s, const void *buf, size_t len, const int *fds,
			    unsigned int n)
{
	char space[CMSG_SPACE(16 * sizeof(int))] = {0};
	struct iovec iov = {(void *)(uintptr_t)buf, len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (n) {
		struct cmsghdr *c = (struct cmsghdr *)space;

		msg.msg_control = space;
		msg.msg_controllen = CMSG_SPACE(n * sizeof(int));
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	}
	return sendmsg(s, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* One message, its descriptors in @fds; number of them, -1: closed or silent.
 */
static int control_recv(int s, struct xts_ctl_msg *m, int *fds, int timeout_ms)
{
	char space[CMSG_SPACE((XTS_MAX_CORES + 1) * sizeof(int))];
	struct iovec iov = {m, sizeof(*m)};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = space,
			     .msg_controllen = sizeof(space)};
	struct pollfd p = {.fd = s, .events = POLLIN};
	struct cmsghdr *c;

	if (poll(&p, 1, timeout_ms) != 1 || recvmsg(s, &msg, 0) <= 0)
		return -1;
	c = CMSG_FIRSTHDR(&msg);
	if (!c || c->cmsg_type != SCM_RIGHTS)
		return 0;
	memcpy(fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
	return (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
}

static bool control_closed(int s, int timeout_ms)
{
	struct pollfd p = {.fd = s, .events = POLLIN};
	char buf[64];

	while (poll(&p, 1, timeout_ms) > 0)
		if (recv(s, buf, sizeof(buf), 0) <= 0)
			return true;
	return false;
}

/* ---- a session by the book
 * --------------------------------------------------- */

static void session_open(void)
{
	struct xts_ctl_msg m = {.type = XTS_CTL_HELLO,
				.version = XTS_PROTO_VERSION};
	int fds[XTS_MAX_CORES + 1];

	x.control = control_connect();
	control_send(x.control, &m, sizeof(m), NULL, 0);
	if (control_recv(x.control, &m, fds, 5000) != 1 ||
	    m.type != XTS_CTL_WELCOME)
		io_die("no welcome");
	x.cores = m.cores;
	x.mem_size = m.mem_size;
	x.mem = mmap(NULL, x.mem_size, PROT_READ | PROT_WRITE, MAP_SHARED,
		     fds[0], 0);
	if (x.mem == MAP_FAILED)
		io_die("mmap");
	m = (struct xts_ctl_msg){.type = XTS_CTL_CTX_CREATE,
				 .version = XTS_PROTO_VERSION};
	control_send(x.control, &m, sizeof(m), NULL, 0);
	if (control_recv(x.control, &m, fds, 5000) < 2 ||
	    m.type != XTS_CTL_CTX || m.err)
		io_die("no context");
	x.ctx = m.ctx;
	x.event_fd = fds[0];
	memcpy(x.doorbell, fds + 1, x.cores * sizeof(int));
	x.area = (struct xts_ctx_area *)(x.mem + m.ctx_off);
}

/* The next reply on any core's ring. */
static bool reply_wait(struct xts_reply *r, int timeout_ms)
{
	uint64_t end = io_now_ns() + (uint64_t)timeout_ms * 1000000;

	while (io_now_ns() < end) {
		for (uint32_t i = 0; i < x.cores; i++) {
			struct xts_core_area *a = &x.area->core[i];
			uint32_t at = a->reply_index.consumer;

			if (__atomic_load_n(&a->reply_index.producer,
					    __ATOMIC_ACQUIRE) == at)
				continue;
			*r = a->reply[at % XTS_RING_SLOTS];
			__atomic_store_n(&a->reply_index.consumer, at + 1,
					 __ATOMIC_RELEASE);
			return true;
		}
		io_sleep_ms(1);
	}
	return false;
}

/* Accept one connection and have it offloaded. */
static void session_offload(const char *address, const char *port)
{
	struct xts_ctl_msg m = {.type = XTS_CTL_OFFLOAD,
				.version = XTS_PROTO_VERSION,
				.cookie = 99};
	struct sockaddr_storage ss;
	socklen_t len = io_addr(&ss, address, port);
	int s, l = io_listener(&ss, len, 0, 16, false);

	printf("listening\n");
	s = accept(l, NULL, NULL);
	if (s < 0)
		io_die("accept");
	m.ctx = x.ctx;
	control_send(x.control, &m, sizeof(m), &s, 1);
	if (!reply_wait(&x.flow, 5000))
		io_die("no answer to the offload");
	if (x.flow.type != XTS_REPLY_OFFLOADED) {
		printf("declined=%u\n", x.flow.err);
		exit(1);
	}
	x.core = &x.area->core[x.flow.core];
	printf("offloaded\n");
}

static void ring_doorbells(void)
{
	uint64_t one = 1;

	for (uint32_t i = 0; i < x.cores; i++)
		if (write(x.doorbell[i], &one, sizeof(one)) < 0 &&
		    errno != EAGAIN)
			return;
}

static int report(void)
{
	printf("session=%s\n",
	       control_closed(x.control, 3000) ? "closed" : "open");
	return 0;
}

/* ---- lies
 * ---------------------------------------------------------------------- */

static int scribble(int seconds)
{
	uint64_t end = io_now_ns() + (uint64_t)seconds * 1000000000u;

	while (io_now_ns() < end) {
		for (uint64_t i = 0; i + 8 <= x.mem_size && i < 64u << 20;
		     i += 8) {
			uint64_t v = stream_mix(&rng);

			__atomic_store_n((uint64_t *)(x.mem + i), v,
					 __ATOMIC_RELAXED);
		}
		ring_doorbells();
	}
	return report();
}

static void command_submit(const struct xts_cmd *cmd)
{
	uint32_t at = x.core->cmd_index.producer;

	x.core->cmd[at % XTS_RING_SLOTS] = *cmd;
	__atomic_store_n(&x.core->cmd_index.producer, at + 1, __ATOMIC_SEQ_CST);
	ring_doorbells();
}

static int command(const char *kind)
{
	struct xts_cmd cmd = {.type = XTS_CMD_SEND,
			      .flow = x.flow.flow,
			      .flow_gen = x.flow.flow_gen};

	if (!strcmp(kind, "flow")) {
		cmd.flow = 0x7fffffff;
	} else if (!strcmp(kind, "range")) {
		cmd.off = x.flow.buf_size - 4;
		cmd.len = 0xfffffff0u;
	} else if (!strcmp(kind, "credits")) {
		cmd.credits = 0xfffffff0u;
	} else if (!strcmp(kind, "type")) {
		cmd.type = 0xdeadbeef;
	} else if (!strcmp(kind, "producer")) {
		__atomic_store_n(&x.core->cmd_index.producer,
				 x.core->cmd_index.producer + 0x10000000u,
				 __ATOMIC_SEQ_CST);
	} else if (!strcmp(kind, "consumer")) {
		__atomic_store_n(&x.core->reply_index.consumer,
				 x.core->reply_index.consumer + 0x10000000u,
				 __ATOMIC_SEQ_CST);
		/* The service looks at it when the ring seems full. */
		for (int i = 0; i < 1500; i++) {
			cmd.off = (uint32_t)i;
			cmd.len = 1;
			command_submit(&cmd);
			io_sleep_ms(1);
		}
		return report();
	} else {
		return 2;
	}
	command_submit(&cmd);
	return report();
}

/* Nothing wrong with that: the service is told of the close by its core, later
 * than we are. */
static int destroy(void)
{
	struct xts_ctl_msg m = {.type = XTS_CTL_CTX_DESTROY,
				.version = XTS_PROTO_VERSION,
				.ctx = x.ctx};
	struct xts_cmd cmd = {.type = XTS_CMD_SEND,
			      .flags = XTS_F_CLOSE,
			      .flow = x.flow.flow,
			      .flow_gen = x.flow.flow_gen};
	struct xts_reply r = {0};
	int fds[XTS_MAX_CORES + 1];

	control_send(x.control, &m, sizeof(m), NULL, 0);
	if (control_closed(x.control, 300))
		return report();
	cmd.credits = x.flow.len;
	while (reply_wait(&r, 100))
		cmd.credits += r.len;
	command_submit(&cmd);
	while (!(r.flags & XTS_F_CLOSED) && reply_wait(&r, 3000))
		;
	printf("closed=%d\n", r.flags & XTS_F_CLOSED ? 1 : 0);
	io_sleep_ms(300);
	m = (struct xts_ctl_msg){.type = XTS_CTL_CTX_CREATE,
				 .version = XTS_PROTO_VERSION};
	control_send(x.control, &m, sizeof(m), NULL, 0);
	if (control_recv(x.control, &m, fds, 3000) > 0)
		printf("ctx=%u\n", m.ctx);
	return report();
}

/* ---- garbage on the control socket
 * ------------------------------------------------ */

/* A session of one message after (or without) the hello; what came of it? */
static void control_try(bool hello, const void *buf, size_t len, const int *fds,
			unsigned int n, unsigned int *answered,
			unsigned int *closed)
{
	struct xts_ctl_msg m = {.type = XTS_CTL_HELLO,
				.version = XTS_PROTO_VERSION};
	struct pollfd p = {.events = POLLIN};
	int got[XTS_MAX_CORES + 1], n_got, s = control_connect();

	if (hello) {
		control_send(s, &m, sizeof(m), NULL, 0);
		n_got = control_recv(s, &m, got, 5000);
		while (n_got > 0)
			close(got[--n_got]);
	}
	control_send(s, buf, len, fds, n);
	p.fd = s;
	if (poll(&p, 1, 20) > 0) {
		if (recv(s, &m, sizeof(m), 0) <= 0)
			(*closed)++;
		else
			(*answered)++;
	}
	close(s);
}

static int control_garbage(void)
{
	unsigned int answered = 0, closed = 0;
	int fds[16], pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		io_die("socketpair");
	for (int i = 0; i < 16; i++)
		fds[i] = i % 5 == 0   ? open("/dev/null", O_RDONLY)
			 : i % 5 == 1 ? socket(AF_INET, SOCK_DGRAM, 0)
			 : i % 5 == 2 ? socket(AF_INET, SOCK_STREAM, 0)
			 : i % 5 == 3 ? pair[0]
				      : open("/proc/self/status", O_RDONLY);
	for (int i = 0; i < 150; i++) {
		uint64_t words[32];
		struct xts_ctl_msg m;
		unsigned int n = i % 3 ? (unsigned int)i % 17 : 0;
		size_t len = (size_t)i % 2 ? sizeof(m)
					   : stream_mix(&rng) % sizeof(words);

		for (int k = 0; k < 32; k++)
			words[k] = stream_mix(&rng);
		/* Every other one is nearly right. */
		memcpy(&m, words, sizeof(m));
		if (i % 4 < 2) {
			m.type = (uint32_t)i % 10;
			m.version = XTS_PROTO_VERSION;
			m.ctx = i % 8 ? m.ctx : (uint32_t)i % 3;
		}
		memcpy(words, &m, sizeof(m));
		control_try(i % 5 != 0, words, len, fds + (i % 5 % (17 - n)), n,
			    &answered, &closed);
	}
	printf("answered=%u closed=%u\n", answered, closed);
	return 0;
}

static int control_connects(int n)
{
	while (n--)
		control_connect();
	printf("connected\n");
	io_sleep_ms(500);
	return 0;
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";

	setlinebuf(stdout);
	signal(SIGPIPE, SIG_IGN);
	if (!strcmp(mode, "control") && argc == 2)
		return control_garbage();
	if (!strcmp(mode, "connects") && argc == 3)
		return control_connects(atoi(argv[2]));
	if (!strcmp(mode, "scribble") && argc == 5) {
		session_open();
		session_offload(argv[2], argv[3]);
		return scribble(atoi(argv[4]));
	}
	if (!strcmp(mode, "command") && argc == 5) {
		session_open();
		session_offload(argv[3], argv[4]);
		return command(argv[2]);
	}
	if (!strcmp(mode, "destroy") && argc == 4) {
		session_open();
		session_offload(argv[2], argv[3]);
		return destroy();
	}
	fprintf(stderr,
		"badapp control | connects N | scribble ADDRESS PORT SECONDS | command KIND ADDRESS PORT | destroy ADDRESS PORT\n");
	return 2;
}
