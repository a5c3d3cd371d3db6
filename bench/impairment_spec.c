/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * impairment_spec.c - read what a wire shall do from a comma list
 *
 * One row of a table for each name. A number without "=" goes on with the list
 * of "drop", the only value that has commas. All is checked before any of it
 * counts, so that a mistyped line in the middle of a run changes nothing.
 */
#include "bench/impairment.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX 1024u
#define RATE_MIN 1000.0
#define RATE_MAX 400e9
#define QUEUE_DEFAULT 1000u /* frames, where only a rate is named */

/* ---- values -------------------------------------------------------------- */

struct unit {
	const char *name;
	double factor;
};

static const struct unit time_units[] = {
	{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {0}};
static const struct unit rate_units[] = {
	{"bit", 1}, {"kbit", 1e3}, {"mbit", 1e6}, {"gbit", 1e9}, {0}};
static const struct unit byte_units[] = {{"b", 1}, {"k", 1e3}, {"m", 1e6}, {0}};
static const struct unit frame_units[] = {{"p", 1}, {0}};

/* Decimal digits and a point alone: no sign, no exponent, no "nan". */
static const char *number(const char *text, double *value)
{
	size_t n = strspn(text, "0123456789.");
	char *end;

	if (!n || n > 20)
		return NULL;
	*value = strtod(text, &end);
	return end == text + n ? end : NULL;
}

/* A number with one of the units; 0 needs none. */
static bool quantity(const char *text, const struct unit *units, double *value)
{
	const char *end = number(text, value);

	if (!end)
		return false;
	if (!*end && *value == 0)
		return true;
	for (; units->name; units++) {
		if (!strcmp(end, units->name)) {
			*value *= units->factor;
			return true;
		}
	}
	return false;
}

static bool percent(const char *text, double *p)
{
	const char *end = number(text, p);

	if (!end || (*end && strcmp(end, "%") != 0) || *p > 100)
		return false;
	*p /= 100;
	return true;
}

static bool duration(const char *text, uint64_t *ns)
{
	double v;

	if (!quantity(text, time_units, &v) || v > (double)IMPAIRMENT_DELAY_MAX)
		return false;
	*ns = (uint64_t)(v + 0.5);
	return true;
}

static bool level(const char *text, double min_bytes,
		  struct impairment_level *l)
{
	struct impairment_level none = {0};
	double v;

	if (quantity(text, frame_units, &v)) {
		if (v > IMPAIRMENT_QUEUE_MAX || v != (double)(uint64_t)v)
			return false;
		*l = none;
		l->frames = (uint64_t)v;
		return true;
	}
	if (!quantity(text, byte_units, &v) || v < min_bytes || v > 1e12)
		return false;
	*l = none;
	l->bytes = (uint64_t)v;
	return true;
}

/* "A/B": cut it there; NULL if there is no second part */
static char *second(char *text)
{
	char *slash = strchr(text, '/');

	if (slash)
		*slash++ = '\0';
	return slash;
}

/* ---- names --------------------------------------------------------------- */

static bool set_loss(struct impairment_spec *s, char *text)
{
	return percent(text, &s->loss);
}

static bool set_burst(struct impairment_spec *s, char *text)
{
	char *end = second(text);

	if (!percent(text, &s->burst_begin))
		return false;
	if (!end)
		return s->burst_begin <= 0;
	return percent(end, &s->burst_end) && s->burst_end > 0;
}

static bool set_duplicate(struct impairment_spec *s, char *text)
{
	return percent(text, &s->duplicate);
}

static bool set_reorder(struct impairment_spec *s, char *text)
{
	char *by = second(text);
	double frames;

	if (!percent(text, &s->reorder))
		return false;
	if (!by)
		return s->reorder <= 0;
	s->reorder_frames = 0;
	if (!quantity(by, frame_units, &frames))
		return duration(by, &s->reorder_ns) && s->reorder_ns;
	s->reorder_frames = (uint32_t)frames;
	return frames >= 1 && frames <= 1000 &&
	       frames == (double)s->reorder_frames;
}

static bool set_corrupt(struct impairment_spec *s, char *text)
{
	return percent(text, &s->corrupt);
}

static bool set_delay(struct impairment_spec *s, char *text)
{
	return duration(text, &s->delay_ns);
}

static bool set_jitter(struct impairment_spec *s, char *text)
{
	const char *shape = second(text);

	s->jitter_normal = shape && !strcmp(shape, "normal");
	if (shape && !s->jitter_normal && strcmp(shape, "uniform") != 0)
		return false;
	return duration(text, &s->jitter_ns);
}

static bool set_order(struct impairment_spec *s, char *text)
{
	s->order_free = !strcmp(text, "free");
	return s->order_free || !strcmp(text, "keep");
}

static bool set_rate(struct impairment_spec *s, char *text)
{
	double v;

	if (!quantity(text, rate_units, &v) ||
	    (v != 0 && (v < RATE_MIN || v > RATE_MAX)))
		return false;
	s->rate = (uint64_t)v;
	if (!s->rate)
		s->queue = s->ecn = (struct impairment_level){0};
	return true;
}

static bool set_queue(struct impairment_spec *s, char *text)
{
	/* Less than one frame would let none pass. */
	return level(text, 2000, &s->queue) &&
	       (s->queue.bytes || s->queue.frames);
}

static bool set_ecn(struct impairment_spec *s, char *text)
{
	return level(text, 0, &s->ecn);
}

static bool drop_add(struct impairment_spec *s, const char *text)
{
	struct impairment_range r = {0};
	char *end;

	if (s->drops == IMPAIRMENT_DROPS || *text < '0' || *text > '9')
		return false;
	r.first = r.last = strtoul(text, &end, 10);
	if (end[0] == '-' && end[1] >= '0' && end[1] <= '9')
		r.last = strtoul(end + 1, &end, 10);
	if (*end || !r.first || r.last < r.first)
		return false;
	s->drop[s->drops++] = r;
	return true;
}

static bool set_drop(struct impairment_spec *s, char *text)
{
	s->drops = 0;
	s->drop_named = true;
	return !strcmp(text, "none") || drop_add(s, text);
}

static const struct name {
	const char *name;
	bool (*set)(struct impairment_spec *s, char *text);
	const char *wants;
} names[] = {
	{"loss", set_loss, "a percentage: 0 to 100"},
	{"burst", set_burst, "BEGIN/END, two percentages, or 0"},
	{"drop", set_drop, "numbers from 1 or ranges N-M, at most 64, or none"},
	{"duplicate", set_duplicate, "a percentage: 0 to 100"},
	{"reorder", set_reorder,
	 "PERCENT/HOLD, HOLD 1p to 1000p (frames) or a time, or 0"},
	{"corrupt", set_corrupt, "a percentage: 0 to 100"},
	{"delay", set_delay, "a time with its unit (ns, us, ms, s), up to 10s"},
	{"jitter", set_jitter,
	 "a time with its unit (ns, us, ms, s), /uniform or /normal"},
	{"order", set_order, "keep or free"},
	{"rate", set_rate, "1kbit to 400gbit (bit, kbit, mbit, gbit), or 0"},
	{"queue", set_queue,
	 "bytes from 2000b (b, k = 1000, m) or 1p to 65536p (frames)"},
	{"ecn", set_ecn, "bytes (b, k = 1000, m) or frames (p), or 0"},
};

/* ---- the list ------------------------------------------------------------ */

static int item_parse(struct impairment_spec *s, char *item, bool *in_drop,
		      char err[IMPAIRMENT_ERR_MAX])
{
	char *value = strchr(item, '=');
	size_t i;

	if (!strcmp(item, "clear")) {
		*s = (struct impairment_spec){.drop_named = true};
		*in_drop = false;
		return 0;
	}
	if (!value && *in_drop && drop_add(s, item))
		return 0;
	if (value)
		*value++ = '\0';
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(item, names[i].name) != 0)
			continue;
		*in_drop = names[i].set == set_drop;
		if (value && names[i].set(s, value))
			return 0;
		snprintf(err, IMPAIRMENT_ERR_MAX, "%.20s wants %s", item,
			 names[i].wants);
		return -EINVAL;
	}
	snprintf(err, IMPAIRMENT_ERR_MAX, "unknown impairment '%.40s'", item);
	return -EINVAL;
}

int impairment_spec_parse(struct impairment_spec *spec, const char *text,
			  char err[IMPAIRMENT_ERR_MAX])
{
	struct impairment_spec s = *spec;
	char copy[TEXT_MAX], *rest = copy, *item;
	bool in_drop = false;

	s.drop_named = false;
	if ((size_t)snprintf(copy, sizeof(copy), "%s", text) >= sizeof(copy)) {
		snprintf(err, IMPAIRMENT_ERR_MAX, "too long");
		return -EINVAL;
	}
	while (*text && (item = strsep(&rest, ",")))
		if (item_parse(&s, item, &in_drop, err) < 0)
			return -EINVAL;
	if (!s.rate &&
	    (s.ecn.bytes || s.ecn.frames || s.queue.bytes || s.queue.frames)) {
		snprintf(
			err, IMPAIRMENT_ERR_MAX,
			"queue and ecn need a rate: without it none builds up");
		return -EINVAL;
	}
	if (s.rate && !s.queue.bytes && !s.queue.frames)
		s.queue.frames = QUEUE_DEFAULT;
	*spec = s;
	return 0;
}
