/* The loop as its own files see it: ec_loop.c, which runs it, and ec_play.c, which says what its
 * chunks hold for a period. */
#ifndef EC_LOOP_OWN_H
#define EC_LOOP_OWN_H

#include <stdbool.h>

#include "ec_axis.h"
#include "ec_chunk.h"
#include "ec_control.h"

struct ec_loop {
    const ec_control_config *config;
    ec_command command, ahead;        /* what was sent; the same, of periods to come */
    float *state, *rolled, *expected; /* now; ahead; as it was to be at the next hand-over */
    float *measured;                  /* as it was observed */
    float *history;                   /* [EC_CONTROL_HISTORY][axes], actions by period */
    int64_t first;                    /* period of the first of them */
    float *asked_state, *prefix;      /* of the request */
    float *incoming;                  /* [horizon][axes], the policy's numbers */
    float *wanted, *sent, *stop_from; /* [axes] */
    ec_chunk *chunk;                  /* [chunks], the newest is chunk[newest] */
    uint32_t chunks, newest, held_chunks;
    bool pending, ready, expects;
    ec_request request;
    uint64_t sequence;
    ec_delay delay;
    uint32_t asked_delay; /* periods, of the next request */
    bool seen;            /* a good observation was there */
    int64_t tick, now_ns, observed_ns;
    uint64_t frame;
    uint32_t frozen, overruns, starved; /* periods in a row */
    uint32_t blind;                     /* periods in a row without a good observation */
    uint32_t unusable;                  /* answers in a row that were bad or dropped */
    bool held;                          /* the last period had no action */
    ec_stop stop;
    uint32_t stopping; /* periods of the stop that have passed */
    bool fresh;        /* the observation of this period is good */
    uint32_t took;     /* a chunk was taken up in this period */
    ec_counts counts;
    ec_histogram histogram[EC_LOOP_HISTOGRAMS];
};

/* The newest chunk; NULL before the first. */
const ec_chunk *ec_loop_newest(const ec_loop *loop);

/* Number of the chunk's action of a period. */
int64_t ec_loop_index(const ec_chunk *chunk, int64_t tick);

/* Periods until the chunk is used up. */
int64_t ec_loop_remaining(const ec_loop *loop);

/* What the chunks say of a period, if anything; else the robot holds. */
ec_source ec_loop_action(const ec_loop *loop, int64_t tick, float *wanted);

#endif
