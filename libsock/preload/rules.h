/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rules.h - a file of rules that choose connections (private)
 *
 * Used by the interposer and by tas-run, which looks for mistakes before it
 * starts the program. Lists of ports are those of --ports, too.
 */
#ifndef LIBSOCK_PRELOAD_RULES_H
#define LIBSOCK_PRELOAD_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#pragma GCC visibility push(hidden)

#define PORT_RANGES 64u
#define RULES_MAX 256u
#define RULES_FILE_MAX 65536u
#define RULES_ERROR_MAX 400u

struct port_list {
	unsigned int n; /* 0: any port */
	struct {
		uint16_t from, to;
	} range[PORT_RANGES];
};

/* An IPv4 address is written as IPv6 has it: ::ffff:a.b.c.d. */
struct prefix {
	bool set; /* false: any address */
	uint8_t bytes[16];
	unsigned int bits;
};

struct rule {
	bool allow;
	bool accept, connect; /* which connections it is about */
	struct prefix local, peer;
	struct port_list ports; /* of the server's end */
};

struct rules {
	unsigned int n;
	struct rule *rule;
	char error[RULES_ERROR_MAX]; /* when a file could not be used */
};

/* "80,6000-6999"; false: it is no such list. */
bool port_list_parse(struct port_list *list, const char *text);
bool port_list_has(const struct port_list *list, unsigned int port);

/* The rules for program in text, which is taken apart; name is said in errors.
 * false: rules->error says why. */
bool rules_parse(struct rules *rules, const char *name, char *text,
		 const char *program);
/* The same of a file. */
bool rules_read(struct rules *rules, const char *path, const char *program);
void rules_free(struct rules *rules);

/* What the first rule that fits says; true where none does. */
bool rules_allow(const struct rules *rules, bool accepted,
		 const struct sockaddr *local, const struct sockaddr *peer);

#pragma GCC visibility pop

#endif
