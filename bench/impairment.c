/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * impairment.c - decide what happens to each frame of one direction
 *
 * In this order: given losses, bursts (Gilbert-Elliott with a lossless and a
 * lossy state), random loss; duplication; corruption; the bottleneck (CE mark
 * on arrival as in RFC 8257 section 3.1, drop-tail, serialisation); delay and
 * jitter; holding back. What is lost does not take room in the queue.
 *
 * Chance is a function of the seed, the frame's number in its direction and
 * the purpose of the draw (the output of splitmix64 at that position), with no
 * other state: the same frames meet the same fate in every run, and changing
 * one impairment leaves the draws of the others as they are. Frames that the
 * hosts send when they please (ARP, neighbour discovery, group membership) have
 * no number, pass the bottleneck by and are only delayed.
 *
 * One thread. Memory is bounded: the queue is a ring of IMPAIRMENT_QUEUE_MAX
 * lengths and times, which also is the highest limit; frames are the caller's.
 * Times are nanoseconds of any clock that does not go back.
 */
#include "bench/impairment.h"

#include <net/ethernet.h>
#include <netinet/in.h>
#include <string.h>

#define NS_PER_S 1000000000ull

/* ---- chance -------------------------------------------------------------- */

enum lane {
	LANE_BURST,
	LANE_LOSS,
	LANE_DUPLICATE,
	LANE_CORRUPT,
	LANE_CORRUPT_BIT,
	LANE_COPY, /* three for each copy */
	LANE_COPY_REORDER = 0,
	LANE_COPY_JITTER = 1, /* and the one behind it */
	LANE_COPY_WIDTH = 3,
	LANES = LANE_COPY + IMPAIRMENT_COPIES * LANE_COPY_WIDTH,
};

static uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static uint64_t draw(const struct impairment *im, unsigned int lane)
{
	uint64_t position = im->number * LANES + lane + 1;

	return mix(im->seed + position * 0x9e3779b97f4a7c15ull);
}

/* Uniform in [0, 1): 0 never happens and 1 always does. */
static double unit(uint64_t bits)
{
	return (double)(bits >> 11) * 0x1p-53;
}

static bool happens(const struct impairment *im, unsigned int lane, double p)
{
	return p > 0 && unit(draw(im, lane)) < p;
}

void impairment_init(struct impairment *im, uint64_t seed,
		     unsigned int direction)
{
	im->seed = mix(mix(seed) + direction + 1);
}

int impairment_set(struct impairment *im, const char *text,
		   char err[IMPAIRMENT_ERR_MAX])
{
	struct impairment_spec spec = im->spec;
	int ret = impairment_spec_parse(&spec, text, err);

	if (ret < 0)
		return ret;
	if (spec.drop_named)
		im->data_number = 0;
	spec.drop_named = false;
	if (spec.burst_begin <= 0)
		im->in_burst = false;
	if (spec.rate != im->spec.rate)
		im->free_fraction = 0;
	im->spec = spec;
	return 0;
}

/* ---- frames -------------------------------------------------------------- */

struct view {
	bool ip;	       /* IPv4 or IPv6 that is impaired */
	bool tcp_data;	       /* TCP with at least one byte */
	uint8_t *header;       /* the IP header */
	uint32_t payload, end; /* offsets in the frame of what is behind it */
};

static uint16_t word(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

/* Neighbour discovery and multicast listeners: hosts send them unasked. */
static bool icmp6_is_control(uint8_t type)
{
	return (type >= 130 && type <= 137) || type == 143;
}

static void view_tcp(struct view *v, const uint8_t *frame, uint32_t at)
{
	v->tcp_data = at + 20 <= v->end &&
		      at + (frame[at + 12] >> 4) * 4u < v->end;
}

static void view_ip4(struct view *v, uint8_t *frame, uint32_t len)
{
	const uint8_t *h = frame + ETH_HLEN;
	uint32_t total, header;

	if (len < ETH_HLEN + 20 || h[0] >> 4 != 4)
		return;
	header = (h[0] & 15) * 4u;
	total = word(h + 2);
	if (header < 20 || total < header || total > len - ETH_HLEN ||
	    h[9] == IPPROTO_IGMP)
		return;
	v->ip = true;
	v->header = frame + ETH_HLEN;
	v->payload = ETH_HLEN + header;
	v->end = ETH_HLEN + total;
	if (h[9] == IPPROTO_TCP && !(word(h + 6) & 0x1fff))
		view_tcp(v, frame, v->payload);
}

static void view_ip6(struct view *v, uint8_t *frame, uint32_t len)
{
	const uint8_t *h = frame + ETH_HLEN;
	uint32_t at = ETH_HLEN + 40;
	uint8_t next;

	if (len < at || h[0] >> 4 != 6 || word(h + 4) > len - at)
		return;
	v->end = at + word(h + 4);
	next = h[6];
	while ((next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING ||
		next == IPPROTO_DSTOPTS) &&
	       at + 8 <= v->end) {
		next = frame[at];
		at += 8 + frame[at + 1] * 8u;
	}
	if (next == IPPROTO_ICMPV6 && at < v->end &&
	    icmp6_is_control(frame[at]))
		return;
	v->ip = true;
	v->header = frame + ETH_HLEN;
	v->payload = ETH_HLEN + 40;
	if (next == IPPROTO_TCP)
		view_tcp(v, frame, at);
}

static struct view view_of(uint8_t *frame, uint32_t len)
{
	struct view v = {0};

	if (len < ETH_HLEN)
		return v;
	if (word(frame + 12) == ETHERTYPE_IP)
		view_ip4(&v, frame, len);
	else if (word(frame + 12) == ETHERTYPE_IPV6)
		view_ip6(&v, frame, len);
	return v;
}

/* RFC 1624, equation 3 */
static void checksum_update(uint8_t *sum, uint16_t old, uint16_t new)
{
	uint32_t s = (uint16_t)~word(sum) + (uint32_t)(uint16_t)~old + new;

	s = (s & 0xffff) + (s >> 16);
	s = (s & 0xffff) + (s >> 16);
	s = ~s;
	sum[0] = (uint8_t)(s >> 8);
	sum[1] = (uint8_t)s;
}

/* CE where the sender is capable of ECN: RFC 3168 section 5. */
static bool mark_ce(const struct view *v)
{
	bool v4 = v->header[0] >> 4 == 4;
	uint8_t *field = v->header + 1, ce = v4 ? 0x03 : 0x30;
	uint16_t old = word(v->header);

	if (!(*field & ce) || (*field & ce) == ce)
		return false;
	*field |= ce;
	if (v4)
		checksum_update(v->header + 10, old, word(v->header));
	return true;
}

static bool corrupt(const struct impairment *im, const struct view *v,
		    uint8_t *frame)
{
	uint64_t bits = (v->end - v->payload) * 8ull, bit;

	if (!bits)
		return false;
	bit = (uint64_t)(unit(draw(im, LANE_CORRUPT_BIT)) * (double)bits);
	frame[v->payload + bit / 8] ^= (uint8_t)(1u << bit % 8);
	return true;
}

/* ---- loss ---------------------------------------------------------------- */

static bool is_given(const struct impairment *im)
{
	const struct impairment_spec *s = &im->spec;
	uint32_t i;

	for (i = 0; i < s->drops; i++)
		if (im->data_number >= s->drop[i].first &&
		    im->data_number <= s->drop[i].last)
			return true;
	return false;
}

static bool in_burst(struct impairment *im)
{
	const struct impairment_spec *s = &im->spec;

	if (happens(im, LANE_BURST,
		    im->in_burst ? s->burst_end : s->burst_begin))
		im->in_burst = !im->in_burst;
	return im->in_burst;
}

static bool is_lost(struct impairment *im, bool tcp_data)
{
	struct impairment_counters *c = &im->counters;
	bool burst = in_burst(im); /* each frame is a step of that state */

	if (tcp_data) {
		c->data_frames++;
		im->data_number++;
	}
	if (tcp_data && is_given(im))
		c->lost_given++;
	else if (burst)
		c->lost_burst++;
	else if (happens(im, LANE_LOSS, im->spec.loss))
		c->lost_random++;
	else
		return false;
	c->lost++;
	return true;
}

/* ---- the bottleneck ------------------------------------------------------ */

static uint32_t queue_frames(const struct impairment *im)
{
	return im->queue_tail - im->queue_head;
}

static void queue_drain(struct impairment *im)
{
	uint32_t i;

	while (queue_frames(im)) {
		i = im->queue_head % IMPAIRMENT_QUEUE_MAX;
		if (im->queue[i].sent_ns > im->now_ns)
			break;
		im->queue_bytes -= im->queue[i].len;
		im->queue_head++;
	}
}

static bool level_exceeded(const struct impairment_level *level, uint64_t bytes,
			   uint64_t frames)
{
	return (level->bytes && bytes > level->bytes) ||
	       (level->frames && frames > level->frames);
}

/* False if the queue is full; else when the frame's last bit has been sent. */
static bool queue_enter(struct impairment *im, uint32_t len, uint64_t *sent_ns)
{
	struct impairment_counters *c = &im->counters;
	uint32_t i = im->queue_tail % IMPAIRMENT_QUEUE_MAX;
	uint64_t bits_ns;

	if (queue_frames(im) == IMPAIRMENT_QUEUE_MAX ||
	    level_exceeded(&im->spec.queue, im->queue_bytes + len,
			   queue_frames(im) + 1)) {
		c->queue_drops++;
		return false;
	}
	if (!queue_frames(im)) {
		im->free_ns = im->now_ns;
		im->free_fraction = 0;
	}
	bits_ns = len * (8 * NS_PER_S) + im->free_fraction;
	im->free_ns += bits_ns / im->spec.rate;
	im->free_fraction = bits_ns % im->spec.rate;
	im->queue[i].sent_ns = im->free_ns;
	im->queue[i].len = len;
	im->queue_tail++;
	im->queue_bytes += len;
	if (im->queue_bytes > c->queue_max_bytes)
		c->queue_max_bytes = im->queue_bytes;
	if (queue_frames(im) > c->queue_max_frames)
		c->queue_max_frames = queue_frames(im);
	*sent_ns = im->free_ns;
	return true;
}

/* ---- time ---------------------------------------------------------------- */

/* In units of its half width or of its standard deviation: the sum of twelve
 * uniform numbers less six has the latter of a normal one, and no tail beyond
 * six of them. */
static double jitter_draw(const struct impairment *im, unsigned int lane)
{
	uint64_t a, b, c;
	uint64_t sum = 0;
	int i;

	a = draw(im, lane);
	if (!im->spec.jitter_normal)
		return 2 * unit(a) - 1;
	b = draw(im, lane + 1);
	c = mix(a ^ b);
	for (i = 0; i < 64; i += 16)
		sum += (a >> i & 0xffff) + (b >> i & 0xffff) +
		       (c >> i & 0xffff);
	return ((double)sum + 6) / 65536 - 6;
}

static uint64_t jittered(const struct impairment *im, unsigned int lane,
			 uint64_t sent_ns)
{
	const struct impairment_spec *s = &im->spec;
	double delay = (double)s->delay_ns;

	if (!s->jitter_ns)
		return sent_ns + s->delay_ns;
	delay += jitter_draw(im, lane) * (double)s->jitter_ns;
	return sent_ns + (delay > 0 ? (uint64_t)delay : 0);
}

/* Does the copy enter, and when does it leave? */
static bool copy_send(struct impairment *im, unsigned int copy, uint32_t len,
		      struct impairment_out *out)
{
	const unsigned int lane = LANE_COPY + copy * LANE_COPY_WIDTH;
	const struct impairment_spec *s = &im->spec;
	uint64_t sent_ns = im->now_ns;

	if (s->rate && !queue_enter(im, len, &sent_ns))
		return false;
	*out = (struct impairment_out){0};
	out->at_ns = jittered(im, lane + LANE_COPY_JITTER, sent_ns);
	if (!s->order_free && out->at_ns < im->order_ns)
		out->at_ns = im->order_ns;
	if (happens(im, lane + LANE_COPY_REORDER, s->reorder)) {
		im->counters.reordered++;
		out->behind = s->reorder_frames;
		out->at_ns += out->behind ? IMPAIRMENT_HELD_NS : s->reorder_ns;
		return true;
	}
	out->overtakes = true;
	im->order_ns = out->at_ns;
	return true;
}

/* ---- one frame ----------------------------------------------------------- */

unsigned int impairment_decide(struct impairment *im, uint64_t now_ns,
			       uint8_t *frame, uint32_t len,
			       struct impairment_out out[IMPAIRMENT_COPIES])
{
	struct impairment_counters *c = &im->counters;
	const struct view v = view_of(frame, len);
	unsigned int copies = 1, copy, n = 0;
	bool crowded;

	if (now_ns > im->now_ns)
		im->now_ns = now_ns;
	if (!v.ip) {
		c->control++;
		out[0] = (struct impairment_out){.at_ns = im->now_ns +
							  im->spec.delay_ns};
		return 1;
	}
	im->number++;
	c->frames++;
	c->bytes += len;
	if (is_lost(im, v.tcp_data))
		return 0;
	if (happens(im, LANE_CORRUPT, im->spec.corrupt))
		c->corrupted += corrupt(im, &v, frame);
	queue_drain(im);
	crowded = im->spec.rate &&
		  level_exceeded(&im->spec.ecn, im->queue_bytes,
				 queue_frames(im));
	if (happens(im, LANE_DUPLICATE, im->spec.duplicate)) {
		c->duplicated++;
		copies++;
	}
	for (copy = 0; copy < copies; copy++)
		n += copy_send(im, copy, len, &out[n]);
	if (n && crowded)
		c->marked += mark_ce(&v);
	return n;
}
