/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rules.c - a file of rules that choose connections
 *
 * A line is a rule, the first one that fits a connection decides, and one that
 * no rule fits is offloaded:
 *
 *   # comment
 *   deny  connect peer 10.0.0.0/8 port 5432,6000-6999
 *   allow accept local 10.1.2.3 port 80 program nginx
 *   deny
 *
 * allow or deny, then conditions in any order, each once at most: accept or
 * connect, local and peer with an address and maybe a prefix length, port with
 * a list as of --ports (of the server's end), program with a name. All of them
 * have to fit. Rules for other programs are read, and not kept.
 *
 * The file is the operator's, who is told of mistakes by line and with what to
 * write instead: a file with a mistake is not used at all.
 *
 * Memory: RULES_MAX rules, from the heap.
 */
#include "libsock/preload/rules.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLANK " \t\r"

/* A line that is being read. */
struct line {
	struct rules *rules;
	const char *name;
	unsigned int number;
	char *rest; /* strtok_r()'s */
	const char *program;
	bool other; /* a rule for another program */
};

/* ---- mistakes ---------------------------------------------------------------
 */

__attribute__((format(printf, 2, 3))) static bool
mistake(struct line *l, const char *format, ...)
{
	char *error = l->rules->error;
	va_list ap;
	int n;

	n = snprintf(error, RULES_ERROR_MAX, "%s:%u: ", l->name, l->number);
	if (n < 0 || n >= (int)RULES_ERROR_MAX)
		return false;
	va_start(ap, format);
	vsnprintf(error + n, RULES_ERROR_MAX - (size_t)n, format, ap);
	va_end(ap);
	return false;
}

/* ---- ports ------------------------------------------------------------------
 */

/* A number up to 65535 at *p, which moves behind it. */
static bool port(const char **p, uint16_t *value)
{
	char *end;
	unsigned long v;

	if (**p < '0' || **p > '9')
		return false;
	v = strtoul(*p, &end, 10);
	if (v > UINT16_MAX)
		return false;
	*value = (uint16_t)v;
	*p = end;
	return true;
}

bool port_list_parse(struct port_list *list, const char *text)
{
	unsigned int n = 0;

	list->n = 0;
	for (;;) {
		if (n == PORT_RANGES || !port(&text, &list->range[n].from))
			return false;
		list->range[n].to = list->range[n].from;
		if (*text == '-') {
			text++;
			if (!port(&text, &list->range[n].to) ||
			    list->range[n].to < list->range[n].from)
				return false;
		}
		n++;
		if (!*text)
			break;
		if (*text++ != ',')
			return false;
	}
	list->n = n;
	return true;
}

bool port_list_has(const struct port_list *list, unsigned int number)
{
	unsigned int i;

	for (i = 0; i < list->n; i++)
		if (number >= list->range[i].from &&
		    number <= list->range[i].to)
			return true;
	return !list->n;
}

/* ---- addresses --------------------------------------------------------------
 */

static void from_v4(uint8_t *bytes, const void *v4)
{
	memset(bytes, 0, 10);
	memset(bytes + 10, 0xff, 2);
	memcpy(bytes + 12, v4, 4);
}

static bool from_sockaddr(uint8_t *bytes, const struct sockaddr *a)
{
	if (a->sa_family == AF_INET)
		from_v4(bytes, &((const struct sockaddr_in *)a)->sin_addr);
	else if (a->sa_family == AF_INET6)
		memcpy(bytes, &((const struct sockaddr_in6 *)a)->sin6_addr, 16);
	else
		return false;
	return true;
}

static unsigned int port_of(const struct sockaddr *a)
{
	/* The same place in sockaddr_in6. */
	return ntohs(((const struct sockaddr_in *)a)->sin_port);
}

/* Bits of the last byte that the prefix takes part of */
static uint8_t last_mask(const struct prefix *p)
{
	return (uint8_t)(0xff00 >> p->bits % 8);
}

static bool prefix_has(const struct prefix *p, const struct sockaddr *a)
{
	unsigned int whole = p->bits / 8;
	uint8_t bytes[16];

	if (!p->set)
		return true;
	if (!from_sockaddr(bytes, a) || memcmp(bytes, p->bytes, whole) != 0)
		return false;
	return whole == 16 ||
	       !((bytes[whole] ^ p->bytes[whole]) & last_mask(p));
}

/* Nothing behind the prefix */
static bool prefix_clean(const struct prefix *p)
{
	unsigned int i = p->bits / 8;

	if (i < 16 && p->bytes[i] & (uint8_t)~last_mask(p))
		return false;
	for (i++; i < 16; i++)
		if (p->bytes[i])
			return false;
	return true;
}

static bool prefix_length(struct prefix *p, const char *text, unsigned int max)
{
	char *end;
	unsigned long v = strtoul(text, &end, 10);

	if (*text < '0' || *text > '9' || *end || v > max)
		return false;
	p->bits = (unsigned int)v + 128 - max;
	return true;
}

static bool read_prefix(struct line *l, const char *what, struct prefix *p)
{
	char *text = strtok_r(NULL, BLANK, &l->rest), *slash;
	unsigned int max = 128;
	struct in_addr v4;

	if (p->set)
		return mistake(l,
			       "%s is there twice: say it once, or write two "
			       "rules",
			       what);
	if (!text)
		return mistake(l,
			       "no address behind %s: write one, as "
			       "10.0.0.0/8 or fd00::1",
			       what);
	slash = strchr(text, '/');
	if (slash)
		*slash = '\0';
	if (inet_pton(AF_INET, text, &v4) == 1) {
		from_v4(p->bytes, &v4);
		max = 32;
	} else if (inet_pton(AF_INET6, text, p->bytes) != 1) {
		return mistake(l,
			       "\"%s\" is no address: write one, as "
			       "10.0.0.0/8 or fd00::1",
			       text);
	}
	p->set = true;
	p->bits = 128;
	if (slash && !prefix_length(p, slash + 1, max))
		return mistake(l,
			       "\"%s\" is no prefix length of %s: write a "
			       "number up to %u",
			       slash + 1, text, max);
	if (!prefix_clean(p))
		return mistake(l,
			       "%s has bits that /%s leaves out: set these "
			       "to 0, or make the prefix longer",
			       text, slash + 1);
	return true;
}

/* ---- rules ------------------------------------------------------------------
 */

static bool read_ports(struct line *l, struct port_list *ports)
{
	const char *text = strtok_r(NULL, BLANK, &l->rest);

	if (ports->n)
		return mistake(l, "port is there twice: write one list, as "
				  "80,6000-6999");
	if (!text || !port_list_parse(ports, text))
		return mistake(l,
			       "\"%s\" is no list of ports: write numbers "
			       "and ranges without blanks, as 80,6000-6999, "
			       "%u at most",
			       text ? text : "", PORT_RANGES);
	return true;
}

static bool read_program(struct line *l, bool *named)
{
	const char *text = strtok_r(NULL, BLANK, &l->rest);

	if (*named)
		return mistake(l, "program is there twice: write two rules");
	if (!text || strchr(text, '/'))
		return mistake(l, "no name behind program: write it without "
				  "its directory, as nginx");
	*named = true;
	l->other = l->program && strcmp(text, l->program) != 0;
	return true;
}

/* accept or connect, ways is the one that is not meant */
static bool read_way(struct line *l, struct rule *r, bool *other)
{
	if (!r->accept || !r->connect)
		return mistake(l, "accept or connect is there already: leave "
				  "both out if both are meant");
	*other = false;
	return true;
}

static bool read_condition(struct line *l, struct rule *r, const char *word,
			   bool *named)
{
	if (!strcmp(word, "accept"))
		return read_way(l, r, &r->connect);
	if (!strcmp(word, "connect"))
		return read_way(l, r, &r->accept);
	if (!strcmp(word, "local"))
		return read_prefix(l, word, &r->local);
	if (!strcmp(word, "peer"))
		return read_prefix(l, word, &r->peer);
	if (!strcmp(word, "port"))
		return read_ports(l, &r->ports);
	if (!strcmp(word, "program"))
		return read_program(l, named);
	return mistake(l,
		       "\"%s\" is no condition: write accept, connect, "
		       "local, peer, port or program",
		       word);
}

static bool read_line(struct line *l, char *text)
{
	struct rule r = {.accept = true, .connect = true};
	const char *word = strtok_r(text, BLANK, &l->rest);
	bool named = false;

	if (!word)
		return true;
	l->other = false;
	r.allow = !strcmp(word, "allow");
	if (!r.allow && strcmp(word, "deny") != 0)
		return mistake(l,
			       "a rule begins with allow or deny, not with "
			       "\"%s\"",
			       word);
	while ((word = strtok_r(NULL, BLANK, &l->rest)))
		if (!read_condition(l, &r, word, &named))
			return false;
	if (l->other)
		return true;
	if (l->rules->n == RULES_MAX)
		return mistake(l,
			       "more than %u rules: write prefixes and "
			       "lists of ports",
			       RULES_MAX);
	l->rules->rule[l->rules->n++] = r;
	return true;
}

static bool read_lines(struct line *l, char *text)
{
	char *end;

	for (; text; text = end) {
		l->number++;
		end = strchr(text, '\n');
		if (end)
			*end++ = '\0';
		text[strcspn(text, "#")] = '\0';
		if (!read_line(l, text))
			return false;
	}
	return true;
}

bool rules_parse(struct rules *rules, const char *name, char *text,
		 const char *program)
{
	struct line l = {.rules = rules, .name = name, .program = program};

	*rules = (struct rules){0};
	rules->rule = calloc(RULES_MAX, sizeof(*rules->rule));
	if (!rules->rule) {
		snprintf(rules->error, RULES_ERROR_MAX, "%s: %s", name,
			 strerror(ENOMEM));
		return false;
	}
	if (read_lines(&l, text))
		return true;
	rules_free(rules);
	return false;
}

/* All of a file, ended by 0: its length or -errno. */
static ssize_t slurp(const char *path, char *text)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t n = 1;

	if (fd < 0)
		return -errno;
	while (n > 0 && len <= RULES_FILE_MAX) {
		n = read(fd, text + len, RULES_FILE_MAX + 1 - len);
		len += n > 0 ? (size_t)n : 0;
	}
	if (n < 0)
		n = -errno;
	else
		n = len > RULES_FILE_MAX ? -EFBIG : (ssize_t)len;
	close(fd);
	if (n >= 0)
		text[n] = '\0';
	return n;
}

bool rules_read(struct rules *rules, const char *path, const char *program)
{
	char *text = malloc(RULES_FILE_MAX + 2);
	ssize_t n = text ? slurp(path, text) : -ENOMEM;
	bool good = false;

	*rules = (struct rules){0};
	if (n < 0)
		snprintf(rules->error, RULES_ERROR_MAX, "%s: %s", path,
			 strerror((int)-n));
	else if (memchr(text, '\0', (size_t)n))
		snprintf(rules->error, RULES_ERROR_MAX,
			 "%s: not text: there is a zero byte in it", path);
	else
		good = rules_parse(rules, path, text, program);
	free(text);
	return good;
}

void rules_free(struct rules *rules)
{
	free(rules->rule);
	rules->rule = NULL;
	rules->n = 0;
}

bool rules_allow(const struct rules *rules, bool accepted,
		 const struct sockaddr *local, const struct sockaddr *peer)
{
	unsigned int i, number = port_of(accepted ? local : peer);
	const struct rule *r;

	for (i = 0; i < rules->n; i++) {
		r = &rules->rule[i];
		if ((accepted ? r->accept : r->connect) &&
		    port_list_has(&r->ports, number) &&
		    prefix_has(&r->local, local) && prefix_has(&r->peer, peer))
			return r->allow;
	}
	return true;
}
