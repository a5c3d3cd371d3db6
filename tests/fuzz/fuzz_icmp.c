/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_icmp.c - any frame as an ICMP error about a connection
 *
 * Input: four numbers of a connection, a frame. The translation may change the
 * quoted sequence number and the ICMP checksum, nothing else; their sum stays
 * what it was, so that a right checksum stays right and a wrong one wrong.
 */
#include "slowpath/translate.h"

#include <assert.h>
#include <stdlib.h>

#define NUMBERS (3 * sizeof(uint32_t))

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Sum of all behind the Ethernet header, 0 and 0xffff being one. */
static uint16_t sum_of(const uint8_t *p, size_t len)
{
	uint16_t sum =
		len > ETH_HLEN
			? csum_fold(csum_add(p + ETH_HLEN, len - ETH_HLEN, 0))
			: 0;

	return sum == 0xffff ? 0 : sum;
}

static void translate(const struct translation *t, const struct flow_view *v,
		      uint8_t *p, const uint8_t *orig, size_t len)
{
	struct conn_key key, again;
	unsigned int changed = 0;
	size_t i;
	bool ours = translate_icmp_key(p, len, &key);

	translate_icmp_to_linux(t, v, p, len);
	for (i = 0; i < len; i++)
		changed += p[i] != orig[i];
	assert(changed <= (ours ? 6 : 0));
	assert(sum_of(p, len) == sum_of(orig, len));
	assert(translate_icmp_key(p, len, &again) == ours);
	if (ours)
		assert(!memcmp(&key, &again, sizeof(key)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct translation t = {0};
	struct flow_view v = {0};
	uint8_t *room;
	size_t len;

	if (size < NUMBERS || size > 4000)
		return 0;
	memcpy(&t.snd_base, data, 4);
	memcpy(&v.snd_una, data + 4, 4);
	memcpy(&v.snd_nxt, data + 8, 4);
	len = size - NUMBERS;
	room = malloc(len + 1); /* odd addresses, the end exact */
	assert(room);
	memcpy(room + 1, data + NUMBERS, len);
	translate(&t, &v, room + 1, data + NUMBERS, len);
	free(room);
	return 0;
}
