// SPDX-License-Identifier: BSD-2-Clause
/*
 * requests - ask a web server all the time, and count what is lost exactly
 *
 *   requests ADDRESS PORT KEPT SHORT PATH=FILE...
 *
 * KEPT threads ask on connections that they keep as long as the server does,
 * SHORT threads on a connection for each request, for one PATH after another; a
 * body must be FILE's. On SIGTERM each thread finishes its request. Then
 *   asked=N kept=N raced=N lost=N
 * kept: the answers that came on a connection that had brought one already.
 * raced: a kept connection ended before a byte of the answer. The server may
 * close it while the request is under way; RFC 9110 section 9.2.2 and RFC 9112
 * section 9.3.1 let a client ask again for what is safe to ask for twice. The
 * same request is made again, on a new connection.
 * lost: all else that is not the whole answer: a connection that is refused,
 * or ends without an answer though it is new, or ends in the middle of one, or
 * stands still for 20 seconds; a status other than 200; a wrong body. Each is
 * said on stderr. The exit status is 1 if there was one, or nobody asked.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LIMIT_S 20
#define HEAD_MAX 4096
#define THREADS_MAX 64

struct page {
	const char *path;
	char *body;
	size_t len;
};

static struct page *pages;
static unsigned int n_pages;
static struct sockaddr_in server;
static _Atomic bool over;
static _Atomic unsigned int asked, kept, raced, lost;

struct client {
	bool keeps;
	int fd;		  /* -1: none */
	unsigned int had; /* answers on it */
	uint32_t seed;
	char *buf;
};

enum outcome { ANSWERED, ENDED_EARLY, LOST };

static void die(const char *what)
{
	fprintf(stderr, "requests: %s: %s\n", what, strerror(errno));
	exit(2);
}

static enum outcome lose(const struct client *c, const struct page *p,
			 const char *why)
{
	fprintf(stderr, "requests: %s, %s connection, answer %u: %s: %s\n",
		p->path, c->keeps ? "kept" : "short", c->had + 1, why,
		strerror(errno));
	atomic_fetch_add(&lost, 1);
	return LOST;
}

static void hang_up(struct client *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	c->had = 0;
}

static bool call(struct client *c)
{
	struct timeval limit = {.tv_sec = LIMIT_S};

	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		die("socket");
	if (setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) ||
	    setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)))
		die("SO_RCVTIMEO");
	return connect(c->fd, (void *)&server, sizeof(server)) == 0;
}

/* ---- one answer ------------------------------------------------------------
 */

/* What a head that has arrived says. */
struct head {
	size_t len, body;
	bool ok, closes;
};

static bool head_read(const char *buf, struct head *h)
{
	const char *end = strstr(buf, "\r\n\r\n"), *at;

	if (!end)
		return false;
	h->len = (size_t)(end - buf) + 4;
	h->ok = !strncmp(buf, "HTTP/1.1 200 ", 13);
	at = strcasestr(buf, "\r\nContent-Length:");
	h->body = at && at < end ? strtoul(at + 17, NULL, 10) : 0;
	at = strcasestr(buf, "\r\nConnection: close");
	h->closes = at && at <= end;
	return true;
}

/* Bytes of one answer until it is whole; what is wrong, else NULL. */
static const char *receive(struct client *c, const struct page *p,
			   struct head *h, size_t *got)
{
	size_t want = HEAD_MAX;
	bool head = false;
	ssize_t n;

	for (*got = 0; *got < want; *got += (size_t)n) {
		n = recv(c->fd, c->buf + *got, want - *got, 0);
		if (n < 0)
			return "broken";
		errno = 0;
		if (n == 0)
			return "ended";
		if (head)
			continue;
		c->buf[*got + (size_t)n] = '\0';
		head = head_read(c->buf, h);
		if (head && (!h->ok || h->body != p->len))
			return "not what was asked for";
		if (head)
			want = h->len + h->body;
	}
	if (!head || *got != want)
		return "no answer";
	return memcmp(c->buf + h->len, p->body, p->len) ? "altered" : NULL;
}

static bool send_all(int fd, const char *data, size_t len)
{
	return send(fd, data, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static enum outcome ask_once(struct client *c, const struct page *p)
{
	char text[512];
	struct head h = {0};
	size_t got = 0;
	const char *wrong;
	int n = snprintf(text, sizeof(text),
			 "GET %s HTTP/1.1\r\nHost: test\r\n%s\r\n", p->path,
			 c->keeps ? "" : "Connection: close\r\n");

	if (c->fd < 0 && !call(c))
		return lose(c, p, "connect");
	/* Whether it is gone already says recv(): an answer may have come. */
	(void)send_all(c->fd, text, (size_t)n);
	wrong = receive(c, p, &h, &got);
	if (wrong && !got && c->had && errno != EAGAIN)
		return ENDED_EARLY;
	if (wrong)
		return lose(c, p, wrong);
	if (c->had++)
		atomic_fetch_add(&kept, 1);
	if (h.closes || !c->keeps)
		hang_up(c);
	return ANSWERED;
}

static void ask(struct client *c, const struct page *p)
{
	enum outcome out = ask_once(c, p);

	atomic_fetch_add(&asked, 1);
	if (out == ENDED_EARLY) {
		atomic_fetch_add(&raced, 1);
		hang_up(c);
		out = ask_once(c, p);
	}
	if (out != ANSWERED)
		hang_up(c);
}

/* ---- clients ---------------------------------------------------------------
 */

static void think(struct client *c)
{
	struct timespec ts = {0};

	c->seed = c->seed * 1664525u + 1013904223u;
	ts.tv_nsec = c->seed >> 10; /* up to 4 ms */
	nanosleep(&ts, NULL);
}

static void *client_run(void *arg)
{
	struct client *c = arg;
	unsigned int i;

	for (i = c->seed; !atomic_load(&over); i++) {
		ask(c, &pages[i % n_pages]);
		think(c);
	}
	hang_up(c);
	return NULL;
}

static size_t page_read(struct page *p, char *arg)
{
	char *file = strchr(arg, '=');
	struct stat st;
	FILE *f;

	if (!file)
		die(arg);
	*file++ = '\0';
	p->path = arg;
	f = fopen(file, "r");
	if (!f || fstat(fileno(f), &st))
		die(file);
	p->len = (size_t)st.st_size;
	p->body = malloc(p->len + 1);
	if (!p->body || fread(p->body, 1, p->len, f) != p->len)
		die(file);
	fclose(f);
	return p->len;
}

static void clients_run(unsigned int keep, unsigned int n, size_t room)
{
	struct client clients[THREADS_MAX];
	pthread_t threads[THREADS_MAX];
	unsigned int i;
	sigset_t set;
	int sig;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	for (i = 0; i < n; i++) {
		clients[i] = (struct client){.keeps = i < keep, .fd = -1};
		clients[i].seed = i;
		clients[i].buf = malloc(room);
		if (!clients[i].buf ||
		    pthread_create(&threads[i], NULL, client_run, &clients[i]))
			die("thread");
	}
	sigwait(&set, &sig);
	atomic_store(&over, true);
	for (i = 0; i < n; i++) {
		pthread_join(threads[i], NULL);
		free(clients[i].buf);
	}
}

int main(int argc, char **argv)
{
	unsigned int i, keep, n;
	size_t len, room = 0;

	if (argc < 6) {
		fprintf(stderr, "usage: requests ADDRESS PORT KEPT SHORT "
				"PATH=FILE...\n");
		return 2;
	}
	server.sin_family = AF_INET;
	server.sin_port = htons((uint16_t)atoi(argv[2]));
	if (inet_pton(AF_INET, argv[1], &server.sin_addr) != 1)
		die(argv[1]);
	keep = (unsigned int)atoi(argv[3]);
	n = keep + (unsigned int)atoi(argv[4]);
	n_pages = (unsigned int)argc - 5;
	pages = calloc(n_pages, sizeof(*pages));
	if (!pages || n > THREADS_MAX)
		die("too many");
	for (i = 0; i < n_pages; i++) {
		len = page_read(&pages[i], argv[5 + i]);
		room = len > room ? len : room;
	}
	clients_run(keep, n, room + HEAD_MAX + 1);
	printf("asked=%u kept=%u raced=%u lost=%u\n", asked, kept, raced, lost);
	return !asked || lost;
}
