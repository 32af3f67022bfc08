#define _GNU_SOURCE
#include "control_robot.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* In programs without control_heap.c nothing is counted. */
void heap_watch(uint32_t on) __attribute__((weak));

static void watch(uint32_t on) {
    if (heap_watch != NULL) {
        heap_watch(on);
    }
}

size_t robot_bytes(void) {
    return sizeof(robot);
}

void robot_init(robot *made, float limit) {
    *made = (robot){.limit = limit, .act_fails_from = -1, .sense_fails_from = -1};
}

uint64_t robot_outside(const robot *which) {
    return which->outside;
}

uint64_t robot_wrong(const robot *which) {
    return which->wrong;
}

static int64_t monotonic_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + (int64_t)now.tv_nsec;
}

int32_t robot_sense(void *user, ec_sensed *sensed) {
    robot *r = (robot *)user;
    watch(1);
    r->wrong += sensed->period != (int64_t)r->senses ? 1u : 0u;
    r->senses++;
    if (r->allocates != 0u) {
        void *volatile made = malloc(16);
        free(made);
    }
    memcpy(sensed->state, r->position, sizeof r->position);
    sensed->observed_ns = r->virtual_time != 0u ? sensed->now_ns : monotonic_ns();
    sensed->frame = r->senses;
    return r->sense_fails_from >= 0 && sensed->period >= r->sense_fails_from;
}

int32_t robot_act(void *user, const ec_sent *sent) {
    robot *r = (robot *)user;
    r->wrong += sent->period != (int64_t)r->senses - 1 ? 1u : 0u;
    r->acts++;
    r->source = sent->result.source;
    for (uint32_t i = 0; i < ROBOT_AXES; i++) {
        r->outside += !(fabsf(sent->action[i]) <= r->limit) ? 1u : 0u;
        r->last[i] = sent->action[i];
        r->position[i] += sent->action[i];
    }
    return r->act_fails_from >= 0 && sent->period >= r->act_fails_from;
}

/* Every word is the payload's number. */
void robot_payload(void *user, void *payload) {
    robot *r = (robot *)user;
    uint32_t *word = (uint32_t *)payload;
    r->number++;
    for (uint32_t i = 0; i < ROBOT_PAYLOAD / sizeof *word; i++) {
        word[i] = r->number;
    }
}

void robot_trace(void *user, const ec_period *period) {
    robot *r = (robot *)user;
    r->wrong += period->period != (int64_t)r->traces ? 1u : 0u;
    r->traces++;
    r->asked += period->request != NULL ? 1u : 0u;
    r->delivered += period->chunk != NULL ? 1u : 0u;
    r->rests += period->result.source == EC_FROM_REST ? 1u : 0u;
    r->last_period = period->period;
    watch(0);
}

void robot_beat(void *user, int64_t period) {
    robot *r = (robot *)user;
    (void)period;
    r->beats++;
}

static int32_t fail(policy *p, float *chunk) {
    switch (p->fault) {
    case POLICY_HANGS:
        while (sem_wait(&p->release) != 0) {
        }
        return 0;
    case POLICY_EXITS:
        pthread_exit(NULL);
    case POLICY_RETURNS:
        return EC_INFER_END;
    case POLICY_FAILS:
        return 1;
    default:
        chunk[0] = NAN;
        return 0;
    }
}

/* Each action closes a fifth of the way to the target that is left after those before. */
int32_t policy_infer(void *user, const ec_request *request, const void *payload, float *chunk) {
    policy *p = (policy *)user;
    const uint32_t *word = (const uint32_t *)payload;
    for (uint32_t i = 0; payload != NULL && i < ROBOT_PAYLOAD / sizeof *word; i++) {
        uint32_t wanted = p->unnumbered != 0u ? word[0] : (uint32_t)request->sequence;
        p->wrong += word[i] != wanted ? 1u : 0u;
    }
    if (p->latency_ns > 0) {
        struct timespec pause = {.tv_sec = 0, .tv_nsec = (long)p->latency_ns};
        nanosleep(&pause, NULL);
    }
    for (uint32_t axis = 0; axis < ROBOT_AXES; axis++) {
        float at = request->state[axis];
        for (uint32_t i = 0; i < p->horizon; i++) {
            float step = 0.2f * (p->target - at);
            step = step > 0.5f ? 0.5f : (step < -0.5f ? -0.5f : step);
            chunk[i * ROBOT_AXES + axis] = step;
            at += step;
        }
    }
    p->answers++;
    return p->fault != POLICY_WORKS && p->answers > p->after ? fail(p, chunk) : 0;
}
