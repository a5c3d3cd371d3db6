/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * flow.c - the flow table and a flow's installation
 *
 * Theory in flow.h. A slot's life: flow_install() takes it from the free list
 * (or the first never used), flow_remove() takes it out of the table and makes
 * its handle stale, flow_free() gives it back. Removal from the open-addressing
 * table shifts later entries back, so that there are no tombstones and
 * look-ups never grow longer with age.
 *
 * A generation is even while the slot is free or gone and odd while the flow
 * lives, so that a forged handle with generation 0 never fits.
 *
 * Limits: max_flows slots; the table has at least twice as many entries.
 */
#include "fastpath/flow.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/random.h>

#define MSS_MIN 32u
#define RTO_MIN_US 200000u
#define RTO_MAX_US 120000000u
#define RTO_INIT_US 1000000u
#define RCV_MSS 536u

static void *map_zero(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

int flow_table_init(struct flow_table *t, uint32_t max_flows)
{
	uint32_t n = 16;

	memset(t, 0, sizeof(*t));
	if (max_flows == 0 || max_flows > (1u << 24))
		return -EINVAL;
	while (n < 2 * max_flows)
		n *= 2;
	t->mask = n - 1;
	t->max_flows = max_flows;
	if (getrandom(t->seed, sizeof(t->seed), 0) != sizeof(t->seed))
		return -errno;
	t->flows = map_zero((size_t)max_flows * sizeof(*t->flows));
	if (!t->flows)
		return -ENOMEM;
	t->ext = map_zero((size_t)max_flows * sizeof(*t->ext));
	t->entries = map_zero((size_t)n * sizeof(*t->entries));
	if (t->ext && t->entries)
		return 0;
	flow_table_free(t);
	return -ENOMEM;
}

void flow_table_free(struct flow_table *t)
{
	if (t->flows)
		munmap(t->flows, (size_t)t->max_flows * sizeof(*t->flows));
	if (t->ext)
		munmap(t->ext, (size_t)t->max_flows * sizeof(*t->ext));
	if (t->entries)
		munmap(t->entries, (t->mask + 1ul) * sizeof(*t->entries));
	t->flows = NULL;
	t->ext = NULL;
	t->entries = NULL;
}

static void table_insert(struct flow_table *t, struct flow *f)
{
	uint32_t i = f->hash & t->mask;

	while (t->entries[i].slot)
		i = (i + 1) & t->mask;
	t->entries[i].hash = f->hash;
	t->entries[i].slot = f->index + 1;
	t->n_flows++;
}

static void table_delete(struct flow_table *t, const struct flow *f)
{
	uint32_t hole = f->hash & t->mask, i;

	while (t->entries[hole].slot != f->index + 1)
		hole = (hole + 1) & t->mask;
	/* Move back every later entry that may not stay behind a hole. */
	for (i = (hole + 1) & t->mask; t->entries[i].slot;
	     i = (i + 1) & t->mask) {
		uint32_t home = t->entries[i].hash & t->mask;

		if (((i - home) & t->mask) >= ((i - hole) & t->mask)) {
			t->entries[hole] = t->entries[i];
			hole = i;
		}
	}
	t->entries[hole].slot = 0;
	t->n_flows--;
}

struct flow *flow_find_frame(const struct flow_table *t, const struct frame *fr,
			     uint32_t hash)
{
	uint32_t i;

	for (i = hash & t->mask; t->entries[i].slot; i = (i + 1) & t->mask) {
		struct flow *f = &t->flows[t->entries[i].slot - 1];

		if (t->entries[i].hash == hash && flow_is_frame(f, fr))
			return f;
	}
	return NULL;
}

struct flow *flow_find_key(const struct flow_table *t,
			   const struct conn_key *key)
{
	uint32_t hash = flow_hash_key(t, key), i;

	for (i = hash & t->mask; t->entries[i].slot; i = (i + 1) & t->mask) {
		struct flow *f = &t->flows[t->entries[i].slot - 1];

		if (t->entries[i].hash == hash &&
		    !memcmp(&f->key, key, sizeof(*key)))
			return f;
	}
	return NULL;
}

struct flow *flow_by_id(const struct flow_table *t, struct flow_id id)
{
	struct flow *f;

	if (id.index >= t->high || !(id.gen & 1))
		return NULL;
	f = &t->flows[id.index];
	return f->gen == id.gen ? f : NULL;
}

static struct flow *slot_take(struct flow_table *t)
{
	struct flow *f;

	if (t->free_head) {
		f = &t->flows[t->free_head - 1];
		t->free_head = f->free_next;
		return f;
	}
	if (t->high == t->max_flows)
		return NULL;
	f = &t->flows[t->high];
	f->index = t->high;
	__atomic_store_n(&t->high, t->high + 1, __ATOMIC_RELEASE);
	return f;
}

void flow_free(struct flow_table *t, struct flow *f)
{
	f->state = FLOW_FREE;
	f->free_next = t->free_head;
	t->free_head = f->index + 1;
}

void flow_remove(struct flow_table *t, struct flow *f)
{
	table_delete(t, f);
	flow_set(f, gen, f->gen + 1);
	f->state = FLOW_GONE;
	flow_judge(f);
}

void flow_judge(struct flow *f)
{
	f->plain = 0;
	if (f->state == FLOW_OPEN && !f->rcv_fin && !f->snd_fin &&
	    !f->closing && !f->copy_ack && !f->persist && !f->backoff &&
	    !f->cork && !f->more && loss_plain(&f->ext->loss) && !f->ece &&
	    !f->ext->max_pacing_rate && !f->ext->grow.rtt_due &&
	    !reassembly_busy(&f->ext->ooo) && !urgent_busy(&f->ext->urgent))
		f->plain = f->hdr_len;
}

void flow_view_fill(const struct flow *f, struct flow_view *v)
{
#define LOAD(field) __atomic_load_n(&f->field, __ATOMIC_RELAXED)
	v->snd_una = LOAD(snd_una);
	v->snd_nxt = LOAD(snd_nxt);
	v->rcv_nxt = LOAD(rcv_nxt);
	v->rcv_wnd = LOAD(rcv_wnd);
	v->ts_recent = LOAD(ts_recent);
	v->rcv_fin = LOAD(rcv_fin);
	v->snd_fin = LOAD(snd_fin);
#undef LOAD
}

static bool params_ok(const struct flow_params *p)
{
	return p->buf_size && !(p->buf_size & (p->buf_size - 1)) &&
	       p->buf_size <= (1u << 30) && p->rx_len <= p->buf_size &&
	       p->tx_len <= p->buf_size && p->ctx &&
	       p->rx_buf < p->ctx->mem_size &&
	       2ull * p->buf_size <= p->ctx->mem_size - p->rx_buf &&
	       p->snd_nxt - p->snd_una <= p->tx_len &&
	       p->rcv_nxt - p->rcv_wup <= p->buf_size && p->snd_wscale <= 14 &&
	       p->rcv_wscale <= 14 &&
	       (p->key.family == AF_INET || p->key.family == AF_INET6);
}

static uint32_t clamp_us(uint32_t v, uint32_t lo, uint32_t hi)
{
	return v < lo ? lo : v > hi ? hi : v;
}

static void init_sender(struct flow *f, const struct flow_params *p)
{
	uint64_t cwnd;

	flow_set(f, snd_una, p->snd_una);
	flow_set(f, snd_nxt, p->snd_nxt);
	f->snd_wnd = f->ext->snd_wnd_max = p->snd_wnd;
	if (f->ext->snd_wnd_max < p->snd_nxt - p->snd_una)
		f->ext->snd_wnd_max = p->snd_nxt - p->snd_una;
	f->snd_wl1 = p->snd_wl1;
	f->snd_mss = p->snd_mss < MSS_MIN ? MSS_MIN : p->snd_mss;
	f->tx_len = p->tx_len;
	cwnd = (uint64_t)(p->cwnd_segs ? p->cwnd_segs : 10) * f->snd_mss;
	f->cwnd = cwnd > (1u << 30) ? 1u << 30 : (uint32_t)cwnd;
	cwnd = (uint64_t)p->ssthresh_segs * f->snd_mss;
	f->ssthresh = !cwnd || cwnd > (1u << 30) ? 1u << 30 : (uint32_t)cwnd;
	f->sack = p->sack;
	f->ecn = p->ecn;
	f->srtt8_us = p->srtt_us < RTO_MAX_US ? p->srtt_us * 8 : 0;
	f->rttvar4_us = p->rttvar_us < RTO_MAX_US ? p->rttvar_us * 4 : 0;
	f->rto_us = clamp_us(p->rto_us ? p->rto_us : RTO_INIT_US, RTO_MIN_US,
			     RTO_MAX_US);
	f->ts_offset = p->ts_offset;
	f->snd_wscale = p->snd_wscale;
}

void flow_set_rx_size(struct flow *f, uint32_t size)
{
	f->rx_size = size;
	f->sws_min = f->snd_mss < size / 2 ? f->snd_mss : size / 2;
	f->wnd_field = size >> f->rcv_wscale;
	if (f->wnd_field > 0xffff)
		f->wnd_field = 0xffff;
	f->wnd_max = f->wnd_field << f->rcv_wscale;
}

static void init_options(struct flow *f, const struct flow_params *p)
{
	f->nodelay = p->nodelay;
	f->cork = p->cork;
	f->mtu_probing = p->mtu_probing;
	f->cc_fixed = p->cc_fixed;
	f->user_timeout_ms = p->user_timeout_ms;
	f->ext->max_pacing_rate = p->max_pacing_rate;
	f->ext->urgent.stdurg = p->stdurg;
	f->ext->before = (struct flow_before){
		.bytes_acked = p->bytes_acked,
		.bytes_received = p->bytes_received,
		.bytes_sent = p->bytes_sent,
		.bytes_retrans = p->bytes_retrans,
		.total_retrans = p->total_retrans,
		.delivered = p->delivered,
		.delivered_ce = p->delivered_ce,
		.dsack_dups = p->dsack_dups,
	};
}

static void init_receiver(struct flow *f, const struct flow_params *p)
{
	flow_set(f, rcv_nxt, p->rcv_nxt);
	f->rcv_wup = p->rcv_wup;
	flow_set(f, rcv_wnd, p->rcv_wnd);
	flow_set(f, ts_recent, p->ts_recent);
	f->rx_pos = p->rx_len & (p->buf_size - 1);
	f->rx_unread = p->rx_len;
	f->pend_len = p->rx_len;
	f->timestamps = p->timestamps;
	f->rcv_wscale = p->rcv_wscale;
	f->hot_word = htons((p->timestamps ? 8 : 5) << 12 | 0x10);
	f->rcv_mss = p->rcv_mss;
	if (!f->rcv_mss) /* Linux's first guess */
		f->rcv_mss = f->snd_mss < RCV_MSS ? f->snd_mss : RCV_MSS;
	flow_set_rx_size(f, p->buf_size);
	f->ext->grow.limit = p->buf_max;
	f->ext->grow.copied = p->rcv_nxt - p->rx_len;
}

struct flow *flow_install(struct flow_table *t, const struct flow_params *p,
			  int *err)
{
	struct flow *f;
	uint32_t index, gen;
	bool listed, telling;

	*err = EINVAL;
	if (!params_ok(p))
		return NULL;
	*err = EEXIST;
	if (flow_find_key(t, &p->key))
		return NULL;
	*err = ENOSPC;
	f = slot_take(t);
	if (!f)
		return NULL;
	*err = 0;
	index = f->index;
	gen = f->gen;
	listed = f->listed; /* the turn's lists may still name the slot */
	telling = f->telling;
	/* All but the generation, which the slow path may be reading. */
	memset(f, 0, offsetof(struct flow, gen));
	memset(&f->rx_buf, 0, sizeof(*f) - offsetof(struct flow, rx_buf));
	f->listed = listed;
	f->telling = telling;
	f->index = index;
	f->key = p->key;
	f->hash = flow_hash_key(t, &f->key);
	f->rx_buf = p->ctx->mem + p->rx_buf;
	f->tx_buf = f->rx_buf + p->buf_size;
	f->tx_size = p->buf_size;
	f->addrs = flow_addrs(&f->key);
	f->cookie = p->cookie;
	f->ext = &t->ext[index];
	memset(f->ext, 0, sizeof(*f->ext));
	init_sender(f, p);
	init_receiver(f, p);
	init_options(f, p);
	loss_init(f);
	flow_template_init(f, p);
	f->pend_rare = PEND_OFFLOADED;
	f->state = FLOW_HOLD;
	__atomic_store_n(&f->gen, gen + 1, __ATOMIC_RELEASE);
	table_insert(t, f);
	return f;
}
