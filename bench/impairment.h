/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * impairment.h - what a bad wire does to the frames of one direction
 *
 * Decisions only: no frame is kept and no clock is read here. The caller shows
 * every frame with its time of arrival and is told how many copies go out and
 * when; what is corrupted or marked is changed in the frame itself.
 */
#ifndef BENCH_IMPAIRMENT_H
#define BENCH_IMPAIRMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IMPAIRMENT_DROPS 64u	    /* ranges of given frames */
#define IMPAIRMENT_QUEUE_MAX 65536u /* frames in the bottleneck, 2^n */
#define IMPAIRMENT_DELAY_MAX 10000000000ull
/* A frame held back behind others waits no longer than that for them. */
#define IMPAIRMENT_HELD_NS 100000000u
#define IMPAIRMENT_COPIES 2u
#define IMPAIRMENT_ERR_MAX 160u

/* A level of the bottleneck's queue; 0 = none in that unit. */
struct impairment_level {
	uint64_t bytes;
	uint64_t frames;
};

/* What was asked for. Probabilities are 0 to 1, all 0 is a perfect wire. */
struct impairment_spec {
	double loss;
	double burst_begin, burst_end; /* a frame's chance to begin, end one */
	double duplicate;
	double reorder;
	uint32_t reorder_frames; /* held back behind so many, or ... */
	uint64_t reorder_ns;	 /* ... for so long */
	double corrupt;
	uint64_t delay_ns;
	uint64_t jitter_ns;	       /* half width, or standard deviation */
	bool jitter_normal;	       /* else uniform */
	bool order_free;	       /* jitter lets frames overtake others */
	uint64_t rate;		       /* bit/s; 0 = no bottleneck */
	struct impairment_level queue; /* drop-tail above it */
	struct impairment_level ecn;   /* CE above it */
	struct impairment_range {
		uint64_t first, last;
	} drop[IMPAIRMENT_DROPS]; /* TCP frames with data, 1 = the next */
	uint32_t drops;
	bool drop_named; /* the parser saw "drop": count from here */
};

/* name, text */
#define IMPAIRMENT_COUNTERS(X)                                                 \
	X(frames, "IP frames that came, neighbour discovery aside")            \
	X(bytes, "their bytes, Ethernet header included")                      \
	X(data_frames, "those of them that are TCP with data")                 \
	X(control, "other frames: ARP, neighbour and group messages")          \
	X(lost, "lost by any of the next three")                               \
	X(lost_given, "as data-bearing frame of a given number")               \
	X(lost_burst, "in a burst")                                            \
	X(lost_random, "by chance")                                            \
	X(queue_drops, "copies that the bottleneck's queue had no room for")   \
	X(duplicated, "frames of which a second copy went")                    \
	X(reordered, "copies held back")                                       \
	X(corrupted, "frames with a flipped bit")                              \
	X(marked, "frames marked CE")                                          \
	X(queue_max_bytes, "most bytes in the bottleneck's queue")             \
	X(queue_max_frames, "most frames there")

struct impairment_counters {
#define X(name, text) uint64_t name;
	IMPAIRMENT_COUNTERS(X)
#undef X
};

struct impairment {
	struct impairment_spec spec;
	struct impairment_counters counters;
	uint64_t seed;
	uint64_t number;      /* of the frame being decided, 1 = the first */
	uint64_t data_number; /* of TCP frames with data since "drop" */
	bool in_burst;
	uint64_t now_ns;   /* latest arrival */
	uint64_t order_ns; /* no later frame may go before */
	/* The bottleneck: frames not completely sent, oldest first. */
	struct {
		uint64_t sent_ns;
		uint32_t len;
	} queue[IMPAIRMENT_QUEUE_MAX];
	uint32_t queue_head, queue_tail;
	uint64_t queue_bytes;
	uint64_t free_ns;	/* the last of them has been sent */
	uint64_t free_fraction; /* beyond it, in 1/rate ns */
};

struct impairment_out {
	uint64_t at_ns;
	uint32_t behind; /* after so many later frames, or at_ns at last */
	bool overtakes;	 /* counts as one of those for frames held before */
};

/*
 * SPEC changes what it names and leaves the rest: a comma list as impair.c's
 * head describes. On an error spec is as it was and err says what is wrong.
 */
int impairment_spec_parse(struct impairment_spec *spec, const char *text,
			  char err[IMPAIRMENT_ERR_MAX]);

/* Directions of one seed differ by their number. The size of the structure
 * asks for calloc() or static storage, zeroed. */
void impairment_init(struct impairment *im, uint64_t seed,
		     unsigned int direction);
int impairment_set(struct impairment *im, const char *text,
		   char err[IMPAIRMENT_ERR_MAX]);

/* The number of copies in out: 0 means that the frame is gone. */
unsigned int impairment_decide(struct impairment *im, uint64_t now_ns,
			       uint8_t *frame, uint32_t len,
			       struct impairment_out out[IMPAIRMENT_COPIES]);

#endif
