// SPDX-License-Identifier: BSD-2-Clause
/*
 * netlink.c - rtnetlink requests and dumps
 *
 * Read first: rtnetlink(7), libmnl's documentation. Every request carries
 * NLM_F_ACK, so that each gets exactly one answer; extended acknowledgments
 * are on, and the kernel's sentence about an error is kept for the message
 * that the user sees. A dump that the kernel marks as interrupted (something
 * changed meanwhile) is thrown away and asked for again.
 *
 * State: struct nl, the caller's. Memory is bounded by what the kernel dumps:
 * addresses, routes and neighbours that the caller's filter accepts.
 */
#include "tap/netlink.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DUMP_TRIES 8

int nl_open(struct nl *nl)
{
	int one = 1;

	memset(nl, 0, sizeof(*nl));
	nl->seq = (uint32_t)time(NULL);
	nl->sock = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	if (!nl->sock)
		return -errno;
	/* Older kernels lack it: then errors come without words. */
	mnl_socket_setsockopt(nl->sock, NETLINK_EXT_ACK, &one, sizeof(one));
	mnl_socket_setsockopt(nl->sock, NETLINK_CAP_ACK, &one, sizeof(one));
	if (mnl_socket_bind(nl->sock, 0, MNL_SOCKET_AUTOPID) < 0) {
		int error = -errno;

		nl_close(nl);
		return error;
	}
	return 0;
}

void nl_close(struct nl *nl)
{
	if (nl->sock)
		mnl_socket_close(nl->sock);
	nl->sock = NULL;
}

void nl_start(struct nl_req *req, uint16_t type, uint16_t flags,
	      size_t body_len)
{
	memset(req->buf, 0, sizeof(req->buf)); /* also what pads attributes */
	req->hdr = mnl_nlmsg_put_header(req->buf);
	req->hdr->nlmsg_type = type;
	req->hdr->nlmsg_flags = NLM_F_REQUEST | flags;
	req->overflow = false;
	req->body = mnl_nlmsg_put_extra_header(req->hdr, body_len);
}

/* NLMSGERR_ATTR_MSG of an error message, if the kernel sent one. */
static void keep_words(struct nl *nl, const struct nlmsghdr *msg)
{
	const struct nlmsgerr *err = mnl_nlmsg_get_payload(msg);
	size_t offset = sizeof(*err);
	const struct nlattr *attr;

	if (!(msg->nlmsg_flags & NLM_F_ACK_TLVS))
		return;
	if (!(msg->nlmsg_flags & NLM_F_CAPPED))
		offset += mnl_nlmsg_get_payload_len(&err->msg);
	if (offset > mnl_nlmsg_get_payload_len(msg))
		return;
	mnl_attr_for_each(attr, msg, offset)
	{
		if (mnl_attr_get_type(attr) == NLMSGERR_ATTR_MSG &&
		    mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0)
			snprintf(nl->said, sizeof(nl->said), "%s",
				 mnl_attr_get_str(attr));
	}
}

struct answer {
	struct nl *nl;
	nl_want want; /* NULL: all */
	void *arg;
	struct nl_list *list; /* NULL: an acknowledgment is all we expect */
};

static int list_append(struct nl_list *list, const struct nlmsghdr *msg)
{
	struct nlmsghdr *copy, **grown;

	grown = realloc(list->msg, (list->n + 1) * sizeof(void *));
	if (!grown)
		return -ENOMEM;
	list->msg = grown;
	copy = malloc(NLMSG_ALIGN(msg->nlmsg_len));
	if (!copy)
		return -ENOMEM;
	memcpy(copy, msg, msg->nlmsg_len);
	list->msg[list->n++] = copy;
	return 0;
}

static int on_data(const struct nlmsghdr *msg, void *arg)
{
	struct answer *a = arg;

	if (!a->list || (a->want && !a->want(msg, a->arg)))
		return MNL_CB_OK;
	if (list_append(a->list, msg) < 0) {
		errno = ENOMEM;
		return MNL_CB_ERROR;
	}
	return MNL_CB_OK;
}

static int on_error(const struct nlmsghdr *msg, void *arg)
{
	const struct nlmsgerr *err = mnl_nlmsg_get_payload(msg);
	struct answer *a = arg;

	if (mnl_nlmsg_get_payload_len(msg) < sizeof(*err)) {
		errno = EBADMSG;
		return MNL_CB_ERROR;
	}
	keep_words(a->nl, msg);
	errno = err->error < 0 ? -err->error : err->error;
	return err->error ? MNL_CB_ERROR : MNL_CB_STOP;
}

/* Messages fill what was received: libmnl compares lengths as if they had a
 * sign, so that one above INT_MAX would pass and be read far outside. */
static bool messages_fit(const char *buf, size_t n)
{
	struct nlmsghdr h;

	while (n >= sizeof(h)) {
		memcpy(&h, buf, sizeof(h));
		if (h.nlmsg_len < sizeof(h) || h.nlmsg_len > n)
			return false;
		if (NLMSG_ALIGN(h.nlmsg_len) >= n)
			return true;
		buf += NLMSG_ALIGN(h.nlmsg_len);
		n -= NLMSG_ALIGN(h.nlmsg_len);
	}
	return n == 0;
}

static int exchange(struct nl *nl, struct nlmsghdr *request, struct answer *a)
{
	/* NLMSG_DONE, behind the array's end, ends a dump by default. */
	static mnl_cb_t control[NLMSG_ERROR + 1] = {
		[NLMSG_ERROR] = on_error,
	};
	char buf[32768];
	uint32_t seq = ++nl->seq;
	int port = (int)mnl_socket_get_portid(nl->sock);
	ssize_t n;
	int ret;

	nl->said[0] = '\0';
	request->nlmsg_seq = seq;
	if (mnl_socket_sendto(nl->sock, request, request->nlmsg_len) < 0)
		return -errno;
	do {
		n = mnl_socket_recvfrom(nl->sock, buf, sizeof(buf));
		if (n < 0)
			return -errno;
		if (!messages_fit(buf, (size_t)n))
			return -EBADMSG;
		ret = mnl_cb_run2(buf, (size_t)n, seq, (unsigned int)port,
				  on_data, a, control, NLMSG_ERROR + 1);
	} while (ret > MNL_CB_STOP);
	return ret < 0 ? -errno : 0;
}

int nl_talk(struct nl *nl, struct nl_req *req)
{
	struct answer a = {.nl = nl};

	if (req->overflow)
		return -EMSGSIZE;
	req->hdr->nlmsg_flags |= NLM_F_ACK;
	return exchange(nl, req->hdr, &a);
}

int nl_ask(struct nl *nl, struct nl_req *req, struct nl_list *list)
{
	struct answer a = {.nl = nl, .list = list};

	req->hdr->nlmsg_flags |= NLM_F_ACK;
	return exchange(nl, req->hdr, &a);
}

int nl_collect(struct nl *nl, uint16_t type, uint8_t family, nl_want want,
	       void *arg, struct nl_list *list)
{
	struct answer a = {nl, want, arg, list};
	struct nl_req req;
	int error = -EINTR;
	size_t before = list->n;

	/* Long enough for any family's header; ndm, rtm and ifa begin with the
	 * family, and the kernel accepts a longer one in a dump request. */
	for (int i = 0; error == -EINTR && i < DUMP_TRIES; i++) {
		while (list->n > before)
			free(list->msg[--list->n]);
		nl_start(&req, type, NLM_F_DUMP, sizeof(struct ifinfomsg));
		*(uint8_t *)req.body = family;
		error = exchange(nl, req.hdr, &a);
	}
	return error;
}

void nl_list_free(struct nl_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		free(list->msg[i]);
	free(list->msg);
	list->msg = NULL;
	list->n = 0;
}

void nl_parse(const struct nlmsghdr *msg, size_t body_len,
	      struct nl_attrs *attrs)
{
	const struct nlattr *attr;

	memset(attrs, 0, sizeof(*attrs));
	if (mnl_nlmsg_get_payload_len(msg) < body_len)
		return;
	mnl_attr_for_each(attr, msg, body_len)
	{
		uint16_t type = mnl_attr_get_type(attr);

		if (type < NL_ATTRS_MAX)
			attrs->at[type] = attr;
	}
}

uint32_t nl_u32(const struct nl_attrs *attrs, uint16_t type, uint32_t missing)
{
	const struct nlattr *attr = attrs->at[type];

	if (!attr || mnl_attr_validate(attr, MNL_TYPE_U32) < 0)
		return missing;
	return mnl_attr_get_u32(attr);
}

void nl_put(struct nl_req *req, uint16_t type, const void *data, size_t len)
{
	if (!mnl_attr_put_check(req->hdr, NL_REQ_MAX, type, len, data))
		req->overflow = true;
}

void nl_put_u32(struct nl_req *req, uint16_t type, uint32_t value)
{
	nl_put(req, type, &value, sizeof(value));
}

void nl_put_copy(struct nl_req *req, const struct nlattr *attr)
{
	nl_put(req, attr->nla_type, mnl_attr_get_payload(attr),
	       mnl_attr_get_payload_len(attr));
}
