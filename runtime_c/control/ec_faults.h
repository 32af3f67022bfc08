/* What goes wrong between a robot, its policy and its control loop, on purpose.
 *
 * Between the sensors and ec_loop_begin stands ec_faults_observe, between the policy and
 * ec_loop_deliver stand ec_faults_publish and ec_faults_next. A script says what happens when: at
 * random, by a seed, or in the periods of a plan. The same script and calls give the same faults.
 * docs/control-faults.md says what the loop does about each, and within how many periods.
 */
#ifndef EC_FAULTS_H
#define EC_FAULTS_H

#include <stdbool.h>

#include "ec_control.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    /* Of a chunk that is published while the fault lasts. */
    EC_FAULT_NAN,       /* a number of it is none */
    EC_FAULT_INFINITE,  /* a number of it is infinite */
    EC_FAULT_RANGE,     /* a number of it is `size` times its range outside */
    EC_FAULT_LATE,      /* it comes so many periods later; an inference that stalls */
    EC_FAULT_LOST,      /* it never comes */
    EC_FAULT_DUPLICATE, /* it comes again so many periods later */
    EC_FAULT_REORDER,   /* it comes after the next one */
    /* For so many periods. */
    EC_FAULT_DEAD,      /* no chunk that is published comes: a killed thread */
    EC_FAULT_DROPPED,   /* the last observation again, with its time */
    EC_FAULT_FROZEN,    /* the last picture and state again, with a new time */
    EC_FAULT_STALE,     /* observations are 1 to 16 periods old */
    EC_FAULT_STATE_NAN, /* a number of the state is none */
    EC_FAULT_SPIKE,     /* a number of the state is off by up to `size` */
    EC_FAULT_OVERRUN,   /* the period took too long */
    /* Once; the length is how far. */
    EC_FAULT_JUMP,    /* the robot was moved: a number of the state is off by up to `size` from
                         here on */
    EC_FAULT_FORWARD, /* the clock jumps, by so many periods */
    EC_FAULT_BACKWARD,
    EC_FAULTS
} ec_fault;

#define EC_FAULT_QUEUE 8    /* chunks under way; more are lost */
#define EC_FAULT_HISTORY 17 /* observations that are kept */

typedef struct {
    double rate;          /* of a chunk or a period; 0: never at random */
    uint32_t least, most; /* periods */
} ec_fault_rate;

typedef struct {
    int64_t tick;
    ec_fault fault;
    uint32_t periods; /* how long; of chunks: of what is published in this period, how late */
} ec_fault_plan;

typedef struct {
    uint64_t seed;
    float size;
    ec_fault_rate rate[EC_FAULTS];
    const ec_fault_plan *plan; /* [plans], in the order of their periods */
    uint32_t plans;
} ec_fault_script;

typedef struct {
    uint64_t sequence;
    const float *actions; /* good until the next call */
    int64_t published_ns;
} ec_delivery;

typedef struct ec_faults ec_faults;

/* The next number of a sequence (SplitMix64). */
uint64_t ec_random(uint64_t *seed);

size_t ec_faults_bytes(const ec_control_config *config);

/* `memory`: aligned to 64 bytes. `config` and `script` stay. */
ec_control_status ec_faults_init(const ec_control_config *config, const ec_fault_script *script,
                                 void *memory, size_t bytes, ec_faults **faults);

/* A period begins, before chunks are delivered: the observation that the loop gets; its state is
 * good until the next call. */
ec_observation ec_faults_observe(ec_faults *faults, const ec_observation *observation);

/* A chunk is published, at a time by the clock before faults. */
void ec_faults_publish(ec_faults *faults, uint64_t sequence, const float *actions,
                       int64_t published_ns);

/* The next chunk that arrives in this period. False: none does. */
bool ec_faults_next(ec_faults *faults, ec_delivery *delivery);

/* How often each fault has happened, [EC_FAULTS]. */
const uint64_t *ec_faults_counts(const ec_faults *faults);

#ifdef __cplusplus
}
#endif

#endif
