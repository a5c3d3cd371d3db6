/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * netlink.h - rtnetlink requests and dumps (private to tap/)
 *
 * A request is built in a struct nl_req: nl_start() writes its header,
 * nl_put*() append attributes, nl_talk() sends it and waits for the kernel's
 * answer. nl_collect() copies the messages of a dump, in the kernel's order,
 * into a list that lives until nl_list_free(). Everything blocks for one round
 * trip; one struct nl serves one thread.
 */
#ifndef TAP_NETLINK_H
#define TAP_NETLINK_H

#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NL_ATTRS_MAX 64 /* more than any rtnetlink family has */
#define NL_REQ_MAX 16384

struct nl {
	struct mnl_socket *sock;
	uint32_t seq;
	char said[128]; /* the kernel's words about the last error, or "" */
};

struct nl_req {
	struct nlmsghdr *hdr; /* in buf */
	void *body;	      /* struct ifaddrmsg, rtmsg... */
	bool overflow;	      /* an attribute did not fit: nl_talk() refuses */
	_Alignas(8) char buf[NL_REQ_MAX];
};

/* Copies of messages, each malloc()ed. */
struct nl_list {
	struct nlmsghdr **msg;
	size_t n;
};

struct nl_attrs {
	const struct nlattr *at[NL_ATTRS_MAX]; /* by type, NULL: absent */
};

/* Is this message of a dump wanted? */
typedef bool (*nl_want)(const struct nlmsghdr *msg, void *arg);

int nl_open(struct nl *nl);
void nl_close(struct nl *nl);

/* @body_len bytes of body, zeroed; @flags beyond NLM_F_REQUEST. */
void nl_start(struct nl_req *req, uint16_t type, uint16_t flags,
	      size_t body_len);
/* 0, or the kernel's -errno with its words in nl->said. */
int nl_talk(struct nl *nl, struct nl_req *req);
/* As nl_talk(); the answer is appended to @list. */
int nl_ask(struct nl *nl, struct nl_req *req, struct nl_list *list);
/* All messages of a dump that @want accepts. @family AF_UNSPEC: all. */
int nl_collect(struct nl *nl, uint16_t type, uint8_t family, nl_want want,
	       void *arg, struct nl_list *list);
void nl_list_free(struct nl_list *list);

/* Attributes behind a body of @body_len bytes; those of unknown type skipped.
 */
void nl_parse(const struct nlmsghdr *msg, size_t body_len,
	      struct nl_attrs *attrs);
uint32_t nl_u32(const struct nl_attrs *attrs, uint16_t type, uint32_t missing);
void nl_put(struct nl_req *req, uint16_t type, const void *data, size_t len);
void nl_put_u32(struct nl_req *req, uint16_t type, uint32_t value);
/* Append a copy of @attr, nested ones included. */
void nl_put_copy(struct nl_req *req, const struct nlattr *attr);

#endif
