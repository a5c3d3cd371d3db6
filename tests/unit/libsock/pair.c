/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pair.c - see pair.h
 */
#include "tests/unit/libsock/pair.h"

#include <arpa/inet.h>
#include <assert.h>
#include <unistd.h>

int pair_listen(struct sockaddr_in *in)
{
	socklen_t len = sizeof(*in);
	int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*in = (struct sockaddr_in){.sin_family = AF_INET};
	in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert(!bind(l, (struct sockaddr *)in, sizeof(*in)));
	assert(!listen(l, 16));
	assert(!getsockname(l, (struct sockaddr *)in, &len));
	return l;
}

int pair_open(int *peer)
{
	struct sockaddr_in in;
	int l = pair_listen(&in);
	int s = xts_socket(AF_INET, SOCK_STREAM, 0);

	assert(s > 0);
	assert(!xts_connect(s, (struct sockaddr *)&in, sizeof(in)));
	*peer = accept(l, NULL, NULL);
	assert(*peer >= 0);
	close(l);
	return s;
}

int pair_offloaded(int *peer, void *ectx, uint32_t events,
		   struct fakesvc_flow **flow)
{
	struct epoll_event ev = {.events = events};
	unsigned int n = fakesvc_flows();
	char c;
	int s = pair_open(peer), tries;

	ev.data.fd = s;
	if (ectx)
		assert(!xts_epoll_ctl(ectx, EPOLL_CTL_ADD, s, &ev));
	else
		xts_recv(s, &c, 1, MSG_DONTWAIT);
	*flow = fakesvc_flow(n);
	for (tries = 0; xts_offload_reason(s) && tries < 5000; tries++)
		usleep(1000);
	assert(xts_offload_reason(s) == 0);
	return s;
}

void pair_close(int s, int peer)
{
	xts_close(s);
	close(peer);
}
