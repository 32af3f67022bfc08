/* A robot in memory and a policy that steers it to a target, with the faults that tests ask for. */
#ifndef CONTROL_ROBOT_H
#define CONTROL_ROBOT_H

#include <semaphore.h>
#include <stdatomic.h>

#include "ec_threads.h"

#define ROBOT_AXES 2u
#define ROBOT_PAYLOAD 256u

typedef enum {
    POLICY_WORKS,
    POLICY_HANGS,   /* waits for `release` */
    POLICY_EXITS,   /* ends its thread */
    POLICY_RETURNS, /* EC_INFER_END */
    POLICY_FAILS,   /* has no chunk */
    POLICY_NAN
} policy_fault;

typedef struct {
    float position[ROBOT_AXES]; /* moves by each action */
    float limit;                /* of an action */
    float last[ROBOT_AXES];     /* action */
    uint64_t senses, acts, traces, beats, asked, delivered, rests;
    uint64_t outside; /* actions beyond the limit, or not finite */
    uint64_t wrong;   /* calls out of order, of a wrong period, with a wrong payload */
    int64_t act_fails_from, sense_fails_from; /* periods; below 0: never */
    int64_t last_period;
    uint32_t allocates;    /* 1: sense calls the heap */
    uint32_t virtual_time; /* 1: what is sensed is of the time that it is told */
    ec_source source;
    uint32_t number; /* of the payload, as the policy must see it */
} robot;

typedef struct {
    uint32_t horizon;
    float target;
    int64_t latency_ns;
    policy_fault fault;
    uint32_t unnumbered; /* 1: payloads are whole, but not numbered like the requests */
    uint64_t after;      /* answers before the fault */
    _Atomic uint64_t answers;
    uint64_t wrong;
    sem_t release;
} policy;

/* For programs that know no more than an address: of a robot's bytes, zeros, one that works. */
size_t robot_bytes(void);
void robot_init(robot *made, float limit);
uint64_t robot_outside(const robot *which);
uint64_t robot_wrong(const robot *which);

int32_t robot_sense(void *user, ec_sensed *sensed);
int32_t robot_act(void *user, const ec_sent *sent);
void robot_payload(void *user, void *payload);
void robot_trace(void *user, const ec_period *period);
void robot_beat(void *user, int64_t period);
int32_t policy_infer(void *user, const ec_request *request, const void *payload, float *chunk);

#endif
