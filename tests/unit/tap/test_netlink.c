/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_netlink.c - answers of Linux's that are not as they should be
 *
 * Messages are built by hand, with bytes behind them that must not be seen.
 * libmnl's socket functions are replaced by the ones below: the answer to every
 * request is the same list of messages.
 */
#include "tap/private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/if_addr.h>
#include <net/if_arp.h>

#define NIC 2
#define TAP 3
#define JUNK 0xa5
#define ROOM 4096u

/* ---- messages ---- */

struct answer {
	_Alignas(8) char buf[ROOM];
	uint32_t len;
};

static struct answer answer;
static _Alignas(8) char asked[ROOM]; /* the last request, zeros behind it */

static struct nlmsghdr *message(uint16_t type, size_t body)
{
	struct nlmsghdr *h = (void *)(answer.buf + answer.len);

	h->nlmsg_type = type;
	h->nlmsg_flags = NLM_F_MULTI;
	h->nlmsg_seq = 0;
	h->nlmsg_pid = 0;
	h->nlmsg_len = (uint32_t)NLMSG_LENGTH(body);
	memset(NLMSG_DATA(h), 0, body);
	answer.len += NLMSG_ALIGN(h->nlmsg_len);
	return h;
}

static void attr(struct nlmsghdr *h, uint16_t type, const void *data,
		 uint16_t len)
{
	struct nlattr *a = (void *)((char *)h + NLMSG_ALIGN(h->nlmsg_len));

	a->nla_type = type;
	a->nla_len = (uint16_t)(sizeof(*a) + len);
	memcpy(a + 1, data, len);
	h->nlmsg_len = NLMSG_ALIGN(h->nlmsg_len) + MNL_ALIGN(a->nla_len);
	answer.len = (uint32_t)((char *)h - answer.buf) + h->nlmsg_len;
}

static struct nlmsghdr *route(uint8_t family)
{
	struct nlmsghdr *h = message(RTM_NEWROUTE, sizeof(struct rtmsg));
	struct rtmsg *rtm = NLMSG_DATA(h);

	rtm->rtm_family = family;
	rtm->rtm_table = RT_TABLE_MAIN;
	rtm->rtm_type = RTN_UNICAST;
	return h;
}

static int setup(void **state)
{
	memset(answer.buf, JUNK, sizeof(answer.buf));
	answer.len = 0;
	return 0;
}

/* ---- libmnl's socket ---- */

struct mnl_socket *mnl_socket_open2(int bus, int flags)
{
	return (void *)&answer;
}

int mnl_socket_bind(struct mnl_socket *nl, unsigned int groups, pid_t pid)
{
	return 0;
}

int mnl_socket_setsockopt(const struct mnl_socket *nl, int type, void *buf,
			  socklen_t len)
{
	return 0;
}

int mnl_socket_close(struct mnl_socket *nl)
{
	return 0;
}

unsigned int mnl_socket_get_portid(const struct mnl_socket *nl)
{
	return 0;
}

ssize_t mnl_socket_sendto(const struct mnl_socket *nl, const void *buf,
			  size_t len)
{
	assert_true(len <= ROOM);
	memset(asked, 0, sizeof(asked));
	memcpy(asked, buf, len);
	return (ssize_t)len;
}

/* A dump gets the messages, everything else that it was done. */
ssize_t mnl_socket_recvfrom(const struct mnl_socket *nl, void *buf,
			    size_t bufsiz)
{
	const struct nlmsghdr *q = (void *)asked;
	bool get = (q->nlmsg_type & 3) == 2;
	uint32_t len = get ? answer.len : 0;
	struct {
		struct nlmsghdr h;
		struct nlmsgerr e;
	} done = {.h = {.nlmsg_len = sizeof(done), .nlmsg_type = NLMSG_ERROR}};

	assert_true(len + sizeof(done) <= bufsiz);
	memcpy(buf, answer.buf, len);
	memcpy((char *)buf + len, &done, sizeof(done));
	len += (uint32_t)sizeof(done);
	for (struct nlmsghdr *h = buf; (char *)h < (char *)buf + len;
	     h = (void *)((char *)h + NLMSG_ALIGN(h->nlmsg_len))) {
		h->nlmsg_seq = q->nlmsg_seq;
		if (h->nlmsg_len < sizeof(*h) || h->nlmsg_len > len)
			break;
	}
	return (ssize_t)len;
}

/* ---- tests ---- */

static void test_a_link_without_its_body_is_refused(void **state)
{
	struct tap_config cfg = {.nic = "nic", .name = "lo", .n_addrs = 1};
	char err[TAP_ERR_MAX];
	struct tap *t;

	assert_int_equal(tap_addr_parse("10.9.0.2/24", &cfg.addrs[0], err), 0);
	message(RTM_NEWLINK, 4);
	assert_int_equal(tap_setup(&cfg, &t, err), -EBADMSG);
}

/* Of what is too short for its type nothing is sent back. */
static void test_short_attributes_of_a_route_are_left_out(void **state)
{
	static const struct route_edit same = {.from = NIC, .to = NIC};
	static const uint16_t types[] = {RTA_OIF, RTA_TABLE};

	for (unsigned int i = 0; i < 2; i++) {
		struct nlmsghdr *h;
		struct nl_req req;

		setup(NULL);
		h = route(AF_INET);
		attr(h, types[i], "\1\0", 2);
		route_build(&req, RTM_NEWROUTE, 0, h, &same);
		assert_int_equal(req.hdr->nlmsg_len,
				 NLMSG_LENGTH(sizeof(struct rtmsg)));
	}
}

/* Makes a struct tap that serves 10.9.0.2 and fd09::2. */
static void open_tap(struct tap *t)
{
	char err[TAP_ERR_MAX];

	*t = (struct tap){.fd = -1,
			  .nic = "nic",
			  .name = "tas0",
			  .nic_index = NIC,
			  .index = TAP,
			  .addr_gen_mode = -1,
			  .accept_ra = -1};
	assert_int_equal(tap_addr_parse("10.9.0.2/32", &t->owned[0], err), 0);
	assert_int_equal(tap_addr_parse("fd09::2/128", &t->owned[1], err), 0);
	t->n_owned = 2;
	assert_int_equal(nl_open(&t->nl), 0);
}

/* One whose destination is too short to be judged is not taken for one of
 * link-local scope, whatever lies behind it. */
static void test_a_short_destination_is_not_read_beyond(void **state)
{
	char err[TAP_ERR_MAX];
	struct nlmsghdr *h;
	struct tap t;
	int nic = NIC;

	open_tap(&t);
	h = route(AF_INET6);
	attr(h, RTA_OIF, &nic, 4);
	attr(h, RTA_DST, "\xfe", 1);
	((char *)h)[h->nlmsg_len - 3] = (char)0x80;
	assert_int_equal(service_set_up(&t, err), 0);
	/* Copied, the last that was asked for. */
	h = (void *)asked;
	assert_int_equal(h->nlmsg_type, RTM_NEWROUTE);
	assert_non_null(memmem(asked, sizeof(asked), "\5\0\1\0\xfe", 5));
	nl_close(&t.nl);
}

static void test_a_label_without_end_is_left_out(void **state)
{
	char err[TAP_ERR_MAX];
	struct nlmsghdr *h;
	struct tap t;

	open_tap(&t);
	t.n_owned = 0;
	h = message(RTM_NEWADDR, sizeof(struct ifaddrmsg));
	((struct ifaddrmsg *)NLMSG_DATA(h))->ifa_family = AF_INET;
	((struct ifaddrmsg *)NLMSG_DATA(h))->ifa_index = NIC;
	attr(h, IFA_LOCAL, "\12\11\0\2", 4);
	attr(h, IFA_LABEL, "nic:", 4);
	/* What comes behind it would be taken for the rest. */
	attr(h, 9, "x", 2);
	assert_int_equal(takeover_save(&t, err), 0);
	answer.len = 0;
	assert_int_equal(takeover_move(&t, err), 0);
	assert_null(memmem(asked, sizeof(asked), "nic:", 4));
	takeover_free(&t);
	nl_close(&t.nl);
}

static void test_a_message_longer_than_its_answer_is_refused(void **state)
{
	static const uint32_t lens[] = {64, 1u << 31, 0xfffffff0u, 15};
	struct nl_list list = {0};
	struct nl nl;

	assert_int_equal(nl_open(&nl), 0);
	for (unsigned int i = 0; i < 4; i++) {
		struct nlmsghdr *h;

		setup(NULL);
		message(RTM_NEWLINK, sizeof(struct ifinfomsg));
		h = message(RTM_NEWLINK, 4);
		h->nlmsg_len = lens[i];
		assert_int_equal(nl_collect(&nl, RTM_GETLINK, AF_UNSPEC, NULL,
					    NULL, &list),
				 -EBADMSG);
	}
	nl_list_free(&list);
	nl_close(&nl);
}

/* The words stand behind a copy of the request, as long as it says. */
static void test_an_error_that_lies_of_its_request_has_no_words(void **state)
{
	static const uint32_t lens[] = {4096, 1u << 31, 0xfffffff0u};
	struct nl_list list = {0};
	struct nl nl;

	assert_int_equal(nl_open(&nl), 0);
	for (unsigned int i = 0; i < 3; i++) {
		struct nlmsghdr *h;
		struct nlmsgerr *e;

		setup(NULL);
		h = message(NLMSG_ERROR, sizeof(*e));
		h->nlmsg_flags = NLM_F_ACK_TLVS;
		e = NLMSG_DATA(h);
		e->error = -EPERM;
		e->msg.nlmsg_len = lens[i];
		attr(h, NLMSGERR_ATTR_MSG, "words", 6);
		assert_int_equal(nl_collect(&nl, RTM_GETLINK, AF_UNSPEC, NULL,
					    NULL, &list),
				 -EPERM);
		assert_string_equal(nl.said, "");
	}
	nl_list_free(&list);
	nl_close(&nl);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup(f, setup)
		T(test_a_link_without_its_body_is_refused),
		T(test_short_attributes_of_a_route_are_left_out),
		T(test_a_short_destination_is_not_read_beyond),
		T(test_a_label_without_end_is_left_out),
		T(test_a_message_longer_than_its_answer_is_refused),
		T(test_an_error_that_lies_of_its_request_has_no_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
