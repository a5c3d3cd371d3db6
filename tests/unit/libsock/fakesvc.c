/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fakesvc.c - see fakesvc.h
 *
 * State: one instance. The control thread and whoever plays the core take the
 * one lock for every step, so that tests stay simple; the rings themselves are
 * used as xts_proto.h says, without regard to that lock.
 */
#include "tests/unit/libsock/fakesvc.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PROGRAMS 4u
#define CTXS 16u
#define MASK (XTS_RING_SLOTS - 1)

struct fake_ctx {
	bool used;
	int event_fd, doorbell_fd;
	struct xts_ctx_area *area;
	uint32_t cmd_consumer, reply_producer, woken;
};

struct fake_program {
	int sock;
	uint8_t *mem;
	struct fake_ctx ctx[CTXS];
};

static struct {
	pthread_mutex_t lock;
	pthread_t control, core;
	atomic_bool stop, core_stop;
	int listen_fd;
	enum fakesvc_mode mode;
	enum xts_reason reason;
	uint32_t welcome_flags;
	uint64_t mem_size;
	struct fake_program program[PROGRAMS];
	unsigned int n_programs, n_flows, released, turn;
	struct fakesvc_flow flow[FAKESVC_FLOWS];
} fs = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- rings -------------------------------------------------------------- */

static void fence(void)
{
	static uint32_t dummy;

	__atomic_fetch_add(&dummy, 1, __ATOMIC_SEQ_CST);
}

static void post(uint32_t program, uint32_t ctx, const struct xts_reply *r)
{
	struct fake_ctx *x = &fs.program[program].ctx[ctx];
	struct xts_core_area *a = &x->area->core[0];
	uint64_t one = 1;
	uint32_t sleep;

	while (x->reply_producer - __atomic_load_n(&a->reply_index.consumer,
						   __ATOMIC_ACQUIRE) ==
	       XTS_RING_SLOTS)
		usleep(100);
	a->reply[x->reply_producer & MASK] = *r;
	__atomic_store_n(&a->reply_index.producer, ++x->reply_producer,
			 __ATOMIC_RELEASE);
	fence();
	sleep = __atomic_load_n(&x->area->app_sleep, __ATOMIC_RELAXED);
	if (sleep & 1 && sleep != x->woken) {
		x->woken = sleep;
		assert(write(x->event_fd, &one, sizeof(one)) > 0);
	}
}

static bool pull(struct fake_ctx *x, struct xts_cmd *cmd)
{
	struct xts_core_area *a = &x->area->core[0];

	if (__atomic_load_n(&a->cmd_index.producer, __ATOMIC_ACQUIRE) ==
	    x->cmd_consumer)
		return false;
	*cmd = a->cmd[x->cmd_consumer & MASK];
	__atomic_store_n(&a->cmd_index.consumer, ++x->cmd_consumer,
			 __ATOMIC_RELEASE);
	return true;
}

/* What the real core checks, too. */
static void account(struct fakesvc_flow *f, const struct xts_cmd *cmd)
{
	assert(cmd->type == XTS_CMD_SEND || cmd->type == XTS_CMD_SETOPT ||
	       cmd->type == XTS_CMD_INFO);
	if (cmd->type != XTS_CMD_SEND || f->closed)
		return;
	assert(cmd->credits <= f->rx_len);
	f->rx_len -= cmd->credits;
	if (!f->rx_len)
		f->rx_pos = 0;
	if (cmd->len) {
		assert(!f->shut_wr);
		assert(cmd->off < FAKESVC_BUF);
		assert(cmd->len <= FAKESVC_BUF - cmd->off);
		assert(cmd->len <= FAKESVC_BUF - f->tx_len);
		if (!f->tx_len)
			f->tx_pos = cmd->off;
		assert(cmd->off ==
		       ((f->tx_pos + f->tx_len) & (FAKESVC_BUF - 1)));
		f->tx_len += cmd->len;
	}
	f->shut_wr |= (cmd->flags & XTS_F_SHUT_WR) != 0;
	f->closed |= (cmd->flags & XTS_F_CLOSE) != 0;
}

/* ---- control ------------------------------------------------------------ */

static void send_msg(int sock, const struct xts_ctl_msg *m, const int *fds,
		     unsigned int n)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(4 * sizeof(int))];
	} u = {0};
	struct iovec iov = {(void *)m, sizeof(*m)};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};

	if (n) {
		mh.msg_control = u.buf;
		mh.msg_controllen = CMSG_SPACE(n * sizeof(int));
		u.align.cmsg_level = SOL_SOCKET;
		u.align.cmsg_type = SCM_RIGHTS;
		u.align.cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(&u.align), fds, n * sizeof(int));
	}
	sendmsg(sock, &mh, MSG_NOSIGNAL);
}

static void hello(struct fake_program *p)
{
	struct xts_ctl_msg m = {.type = XTS_CTL_WELCOME,
				.version = XTS_PROTO_VERSION,
				.cores = 1,
				.buf_size = FAKESVC_BUF,
				.flags = fs.welcome_flags};
	int fd = memfd_create("fakesvc", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	fs.mem_size =
		CTXS * XTS_CTX_AREA_SIZE(1) + FAKESVC_FLOWS * 2 * FAKESVC_BUF;
	m.mem_size = fs.mem_size;
	assert(!ftruncate(fd, (off_t)fs.mem_size));
	assert(!fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW));
	p->mem = mmap(NULL, fs.mem_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		      0);
	assert(p->mem != MAP_FAILED);
	send_msg(p->sock, &m, &fd, 1);
	close(fd);
}

static void ctx_create(struct fake_program *p)
{
	struct xts_ctl_msg m = {.type = XTS_CTL_CTX,
				.version = XTS_PROTO_VERSION};
	uint32_t n = 0;
	int fds[2];

	while (p->ctx[n].used)
		n++;
	assert(n < CTXS);
	m.ctx = n;
	m.ctx_off = n * XTS_CTX_AREA_SIZE(1);
	p->ctx[n] = (struct fake_ctx){
		.used = true,
		.event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC),
		.doorbell_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC),
		.area = (void *)(p->mem + m.ctx_off),
	};
	p->ctx[n].area->core[0].core.cpu = -1;
	fds[0] = p->ctx[n].event_fd;
	fds[1] = p->ctx[n].doorbell_fd;
	send_msg(p->sock, &m, fds, 2);
}

static bool begin(const struct fakesvc_flow *f)
{
	struct xts_ctx_area *a = fs.program[f->program].ctx[f->ctx].area;

	assert(!f->number == !(fs.welcome_flags & XTS_F_TAKES));
	if (!f->number)
		return true;
	__atomic_store_n(&a->taken, f->number, __ATOMIC_SEQ_CST);
	fence();
	return __atomic_load_n(&a->in_kernel, __ATOMIC_ACQUIRE) != f->number;
}

static void answer(struct fakesvc_flow *f, enum fakesvc_mode mode)
{
	struct xts_reply r = {.cookie = f->cookie};

	if (mode == FAKESVC_SILENT)
		return;
	while (!begin(f))
		usleep(100);
	if (mode == FAKESVC_DECLINE) {
		close(f->fd);
		f->fd = -1;
		r.type = XTS_REPLY_DECLINED;
		r.err = fs.reason;
	} else {
		r.type = XTS_REPLY_OFFLOADED;
		r.flow = f->index;
		r.flow_gen = f->index + 100;
		r.buf_size = FAKESVC_BUF;
		r.rx_buf = f->rx_buf;
		f->used = true;
	}
	post(f->program, f->ctx, &r);
}

static void offload(uint32_t program, const struct xts_ctl_msg *m, int fd)
{
	uint32_t n = fs.n_flows++;
	struct fakesvc_flow *f = &fs.flow[n];

	assert(n < FAKESVC_FLOWS && fd >= 0);
	*f = (struct fakesvc_flow){
		.index = n,
		.ctx = m->ctx,
		.program = program,
		.cookie = m->cookie,
		.number = m->flow,
		.rx_buf = CTXS * XTS_CTX_AREA_SIZE(1) + n * (2 * FAKESVC_BUF),
		.fd = fd,
	};
	answer(f, fs.mode);
}

static void move(const struct xts_ctl_msg *m)
{
	struct xts_reply r = {.type = XTS_REPLY_MOVED, .cookie = m->cookie};
	struct fakesvc_flow *f = &fs.flow[m->flow];

	assert(m->flow_gen == m->flow + 100 && f->cookie == m->cookie);
	post(f->program, f->ctx, &r);
	f->ctx = m->ctx;
}

static bool receive(uint32_t program)
{
	struct fake_program *p = &fs.program[program];
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} u;
	struct xts_ctl_msg m;
	struct iovec iov = {&m, sizeof(m)};
	struct msghdr mh = {.msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = u.buf,
			    .msg_controllen = sizeof(u.buf)};
	int fd = -1;

	if (recvmsg(p->sock, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) != sizeof(m))
		return false;
	if (mh.msg_controllen)
		memcpy(&fd, CMSG_DATA(&u.align), sizeof(fd));
	switch (m.type) {
	case XTS_CTL_HELLO:
		hello(p);
		break;
	case XTS_CTL_CTX_CREATE:
		ctx_create(p);
		break;
	case XTS_CTL_OFFLOAD:
		offload(program, &m, fd);
		break;
	case XTS_CTL_MOVE:
		move(&m);
		break;
	case XTS_CTL_HANDOVER:
		assert(m.flow_gen == m.flow + 100 && fd < 0);
		assert(fs.flow[m.flow].cookie == m.cookie);
		fs.flow[m.flow].leaving++;
		break;
	case XTS_CTL_RELEASE:
		fs.released++;
		break;
	default:
		assert(!"unknown control message");
	}
	return true;
}

static void *control_main(void *arg)
{
	struct pollfd p[1 + PROGRAMS];
	unsigned int i, n;

	while (!fs.stop) {
		pthread_mutex_lock(&fs.lock);
		n = fs.n_programs;
		p[0] = (struct pollfd){fs.listen_fd, POLLIN, 0};
		for (i = 0; i < n; i++)
			p[1 + i] =
				(struct pollfd){fs.program[i].sock, POLLIN, 0};
		pthread_mutex_unlock(&fs.lock);
		if (poll(p, 1 + n, 5) <= 0)
			continue;
		pthread_mutex_lock(&fs.lock);
		if (p[0].revents && n < PROGRAMS)
			fs.program[fs.n_programs++].sock =
				accept4(fs.listen_fd, NULL, NULL, SOCK_CLOEXEC);
		for (i = 0; i < n; i++) {
			if (p[1 + i].revents && !receive(i)) {
				close(fs.program[i].sock);
				fs.program[i].sock = -1;
			}
		}
		pthread_mutex_unlock(&fs.lock);
	}
	return NULL;
}

void fakesvc_start(enum fakesvc_mode mode, uint32_t flags)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	static unsigned int starts;
	char name[64];
	int n;

	memset(fs.program, 0, sizeof(fs.program));
	memset(fs.flow, 0, sizeof(fs.flow));
	fs.n_programs = fs.n_flows = fs.released = 0;
	fs.mode = mode;
	fs.reason = XTS_REASON_NOT_OURS;
	fs.welcome_flags = flags;
	fs.stop = false;
	n = snprintf(name, sizeof(name), "@xts-test-%d-%u", getpid(), starts++);
	setenv("XTS_CONTROL", name, 1);
	memcpy(sun.sun_path + 1, name + 1, (size_t)n - 1);
	fs.listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert(!bind(fs.listen_fd, (void *)&sun,
		     (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
				 (size_t)n)));
	assert(!listen(fs.listen_fd, 8));
	assert(!pthread_create(&fs.control, NULL, control_main, NULL));
}

void fakesvc_set_mode(enum fakesvc_mode mode)
{
	pthread_mutex_lock(&fs.lock);
	fs.mode = mode;
	pthread_mutex_unlock(&fs.lock);
}

void fakesvc_set_reason(enum xts_reason reason)
{
	pthread_mutex_lock(&fs.lock);
	fs.reason = reason;
	pthread_mutex_unlock(&fs.lock);
}

void fakesvc_stop(void)
{
	struct fake_program *p;
	unsigned int i, j;

	fs.stop = true;
	pthread_join(fs.control, NULL);
	close(fs.listen_fd);
	for (i = 0; i < fs.n_flows; i++)
		if (fs.flow[i].fd >= 0)
			close(fs.flow[i].fd);
	for (i = 0; i < fs.n_programs; i++) {
		p = &fs.program[i];
		if (p->sock >= 0)
			close(p->sock);
		for (j = 0; j < CTXS && p->ctx[j].used; j++) {
			close(p->ctx[j].event_fd);
			close(p->ctx[j].doorbell_fd);
		}
		if (p->mem)
			munmap(p->mem, fs.mem_size);
	}
	/* libsock asks every millisecond whether its service still is there. */
	usleep(2000);
}

/* ---- what tests see ----------------------------------------------------- */

unsigned int fakesvc_flows(void)
{
	unsigned int n;

	pthread_mutex_lock(&fs.lock);
	n = fs.n_flows;
	pthread_mutex_unlock(&fs.lock);
	return n;
}

struct fakesvc_flow *fakesvc_flow(unsigned int n)
{
	int tries;

	for (tries = 0; tries < 5000 && fakesvc_flows() <= n; tries++)
		usleep(1000);
	return fakesvc_flows() > n ? &fs.flow[n] : NULL;
}

bool fakesvc_begin(struct fakesvc_flow *f)
{
	bool ok;

	pthread_mutex_lock(&fs.lock);
	ok = begin(f);
	pthread_mutex_unlock(&fs.lock);
	return ok;
}

void fakesvc_answer(struct fakesvc_flow *f, enum fakesvc_mode mode)
{
	pthread_mutex_lock(&fs.lock);
	answer(f, mode);
	pthread_mutex_unlock(&fs.lock);
}

void fakesvc_info(struct fakesvc_flow *f, const struct xts_info *info)
{
	struct xts_reply r = {.type = XTS_REPLY_INFO, .cookie = f->cookie};
	uint32_t i;

	pthread_mutex_lock(&fs.lock);
	for (i = 0; i < XTS_INFO_PARTS; i++) {
		r.flags = i;
		memcpy((uint8_t *)&r + offsetof(struct xts_reply, off),
		       (const uint8_t *)info + i * XTS_INFO_PART,
		       XTS_INFO_PART);
		post(f->program, f->ctx, &r);
	}
	pthread_mutex_unlock(&fs.lock);
}

void fakesvc_urgent(struct fakesvc_flow *f, uint32_t flags, uint32_t urgent,
		    int byte)
{
	struct xts_reply r = {
		.type = XTS_REPLY_URGENT,
		.flags = flags,
		.cookie = f->cookie,
		.err = byte < 0 ? 0 : XTS_URGENT_HAS | (uint32_t)byte,
		.urgent = urgent,
	};

	pthread_mutex_lock(&fs.lock);
	post(f->program, f->ctx, &r);
	pthread_mutex_unlock(&fs.lock);
}

static void reply(struct fakesvc_flow *f, const uint8_t *data, uint32_t len,
		  uint32_t credits, uint32_t flags, uint32_t err)
{
	struct xts_reply r = {.type = XTS_REPLY_RECV,
			      .flags = flags,
			      .cookie = f->cookie,
			      .len = len,
			      .credits = credits,
			      .err = err};
	uint8_t *mem = fs.program[f->program].mem + f->rx_buf;
	uint32_t i;

	assert(f->rx_len + len <= FAKESVC_BUF);
	r.off = f->rx_pos;
	for (i = 0; i < len; i++)
		mem[(f->rx_pos + i) & (FAKESVC_BUF - 1)] = data[i];
	f->rx_pos = (f->rx_pos + len) & (FAKESVC_BUF - 1);
	f->rx_len += len;
	assert(credits <= f->tx_len);
	f->tx_pos = (f->tx_pos + credits) & (FAKESVC_BUF - 1);
	f->tx_len -= credits;
	post(f->program, f->ctx, &r);
}

void fakesvc_reply(struct fakesvc_flow *f, const void *data, uint32_t len,
		   uint32_t credits, uint32_t flags, uint32_t err)
{
	pthread_mutex_lock(&fs.lock);
	reply(f, data, len, credits, flags, err);
	pthread_mutex_unlock(&fs.lock);
}

uint32_t fakesvc_ctx(struct fakesvc_flow *f)
{
	uint32_t ctx;

	pthread_mutex_lock(&fs.lock);
	ctx = f->ctx;
	pthread_mutex_unlock(&fs.lock);
	return ctx;
}

static struct fake_ctx *ctx_of(struct fakesvc_flow *f)
{
	return &fs.program[f->program].ctx[fakesvc_ctx(f)];
}

bool fakesvc_command(struct fakesvc_flow *f, struct xts_cmd *cmd)
{
	struct fake_ctx *x = ctx_of(f);
	bool got = false;
	int tries;

	for (tries = 0; tries < 1000 && !got; tries++) {
		pthread_mutex_lock(&fs.lock);
		got = pull(x, cmd);
		if (got)
			account(&fs.flow[cmd->flow], cmd);
		pthread_mutex_unlock(&fs.lock);
		if (!got)
			usleep(1000);
	}
	return got;
}

bool fakesvc_no_command(struct fakesvc_flow *f)
{
	struct fake_ctx *x = ctx_of(f);

	return __atomic_load_n(&x->area->core[0].cmd_index.producer,
			       __ATOMIC_ACQUIRE) == x->cmd_consumer;
}

const uint8_t *fakesvc_tx(struct fakesvc_flow *f, uint32_t off)
{
	return fs.program[f->program].mem + f->rx_buf + FAKESVC_BUF + off;
}

void fakesvc_need_doorbell(struct fakesvc_flow *f, bool on)
{
	__atomic_store_n(&ctx_of(f)->area->core[0].core.need_doorbell, on,
			 __ATOMIC_SEQ_CST);
}

bool fakesvc_doorbell_rang(struct fakesvc_flow *f)
{
	uint64_t n;

	return read(ctx_of(f)->doorbell_fd, &n, sizeof(n)) > 0;
}

uint32_t fakesvc_app_sleep(struct fakesvc_flow *f)
{
	return __atomic_load_n(&ctx_of(f)->area->app_sleep, __ATOMIC_SEQ_CST);
}

void fakesvc_set_cpu(struct fakesvc_flow *f, int cpu)
{
	__atomic_store_n(&ctx_of(f)->area->core[0].core.cpu, cpu,
			 __ATOMIC_SEQ_CST);
}

unsigned int fakesvc_released(void)
{
	unsigned int n;

	pthread_mutex_lock(&fs.lock);
	n = fs.released;
	pthread_mutex_unlock(&fs.lock);
	return n;
}

bool fakesvc_leaves(struct fakesvc_flow *f)
{
	bool leaves = false;
	int tries;

	for (tries = 0; tries < 1000 && !leaves; tries++) {
		usleep(1000);
		pthread_mutex_lock(&fs.lock);
		leaves = f->leaving;
		pthread_mutex_unlock(&fs.lock);
	}
	return leaves;
}

static void handed(struct fakesvc_flow *f, int err)
{
	struct xts_reply r = {.type = XTS_REPLY_HANDED,
			      .cookie = f->cookie,
			      .err = (uint32_t)err};

	f->leaving = 0;
	post(f->program, f->ctx, &r);
}

void fakesvc_hand(struct fakesvc_flow *f, int fd, bool told)
{
	struct xts_ctl_msg m = {.type = XTS_CTL_HANDED,
				.version = XTS_PROTO_VERSION,
				.cookie = f->cookie};

	pthread_mutex_lock(&fs.lock);
	send_msg(fs.program[f->program].sock, &m, &fd, 1);
	f->used = false;
	if (told)
		handed(f, 0);
	pthread_mutex_unlock(&fs.lock);
}

void fakesvc_refuse(struct fakesvc_flow *f, int err)
{
	pthread_mutex_lock(&fs.lock);
	handed(f, err);
	pthread_mutex_unlock(&fs.lock);
}

/* ---- the echo core ------------------------------------------------------ */

/* Sends back some of what the program sent. */
static void echo(struct fakesvc_flow *f)
{
	uint8_t piece[FAKESVC_BUF];
	uint32_t room = FAKESVC_BUF - f->rx_len, n = f->tx_len, i;

	if (n > 1 + fs.turn % 1999)
		n = 1 + fs.turn % 1999;
	if (n > room)
		n = room;
	for (i = 0; i < n; i++)
		piece[i] = *fakesvc_tx(f, (f->tx_pos + i) & (FAKESVC_BUF - 1));
	if (n)
		reply(f, piece, n, n, 0, 0);
	if (f->shut_wr && !f->tx_len && !f->eof_told) {
		f->eof_told = true;
		reply(f, NULL, 0, 0, XTS_F_EOF, 0);
	}
	if (f->closed && f->used) {
		f->used = false;
		f->tx_len = 0;
		reply(f, NULL, 0, 0, XTS_F_CLOSED, 0);
	}
}

/* Nothing that was taken is ever unacknowledged here. */
static void told(struct fakesvc_flow *f, const struct xts_cmd *cmd)
{
	if (cmd->flags & XTS_F_CREDITS && f->used)
		reply(f, NULL, 0, 0, XTS_F_CREDITS, 0);
}

static void *core_main(void *arg)
{
	struct xts_cmd cmd;
	unsigned int i, j, n;

	while (!fs.core_stop) {
		pthread_mutex_lock(&fs.lock);
		n = 0;
		for (i = 0; i < fs.n_programs; i++) {
			for (j = 0; j < CTXS && fs.program[i].ctx[j].used;
			     j++) {
				while (pull(&fs.program[i].ctx[j], &cmd)) {
					account(&fs.flow[cmd.flow], &cmd);
					told(&fs.flow[cmd.flow], &cmd);
					n++;
				}
			}
		}
		for (i = 0; i < fs.n_flows; i++) {
			fs.turn++;
			if (fs.flow[i].used)
				echo(&fs.flow[i]);
		}
		pthread_mutex_unlock(&fs.lock);
		if (!n)
			usleep(50);
	}
	return NULL;
}

void fakesvc_core_start(void)
{
	fs.core_stop = false;
	assert(!pthread_create(&fs.core, NULL, core_main, NULL));
}

void fakesvc_core_stop(void)
{
	fs.core_stop = true;
	pthread_join(fs.core, NULL);
}
