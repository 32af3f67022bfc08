/* Hammers the ring of ec_record.h: one thread records periods as fast as it can, another drains.
 *
 *   control_recorder PERIODS
 *
 * Prints what was recorded, drained and dropped. Exit 1: a record was damaged, out of order, of
 * another period than its state says, or not accounted for.
 */
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ec_record.h"

#define RING ((size_t)1 << 15)

typedef struct {
    ec_loop *loop;
    ec_recorder *recorder;
    uint64_t periods;
    _Atomic uint32_t done;
} work;

static void *write_all(void *given) {
    work *w = (work *)given;
    float state[2], action[1];
    for (uint64_t tick = 0; tick < w->periods; tick++) {
        state[0] = (float)(tick % 100000u);
        state[1] = -state[0];
        ec_observation observation = {
            .now_ns = (int64_t)tick * 1000,
            .observed_ns = (int64_t)tick * 1000,
            .state = state,
        };
        ec_recorded_begin(w->recorder, w->loop, &observation, 0);
        ec_recorded_end(w->recorder, w->loop, action);
    }
    atomic_store_explicit(&w->done, 1u, memory_order_release);
    return NULL;
}

static float real(const uint8_t *from) {
    float x;
    memcpy(&x, from, sizeof x);
    return x;
}

static int64_t whole(const uint8_t *from) {
    int64_t x;
    memcpy(&x, from, sizeof x);
    return x;
}

/* Records in `bytes`; exits where one is wrong. */
static uint64_t check(const uint8_t *bytes, size_t count, uint64_t *number) {
    static uint64_t offset[RING / 32];
    static uint8_t type[RING / 32];
    const uint64_t sizes[EC_RECORD_TYPES] = {0, 72, 32 + 40 + 8 + 16, 32 + 24 + 16, 72, 48};
    uint64_t at = 0;
    size_t found = ec_record_scan(sizes, bytes, count, &at, number, offset, type, RING / 32);
    if (at != count) {
        printf("damaged at %" PRIu64 " of %zu\n", at, count);
        exit(1);
    }
    for (size_t i = 0; i < found; i++) {
        const uint8_t *record = bytes + offset[i];
        if (type[i] == EC_RECORD_OBSERVATION) {
            float wanted = (float)(whole(record + 16) % 100000);
            if (real(record + 64) != wanted || real(record + 68) != -wanted) {
                printf("mixed at period %" PRId64 "\n", whole(record + 16));
                exit(1);
            }
        }
    }
    return found;
}

int main(int count, char **words) {
    static _Alignas(64) uint8_t loop_memory[1 << 20], recorder_memory[1 << 18];
    static uint8_t taken[RING];
    static const uint8_t model[EC_RECORD_HASH_BYTES];
    const ec_axis axis = {
        .kind = EC_DELTA,
        .position = 0,
        .gain = 1.0f,
        .action_min = -1.0f,
        .action_max = 1.0f,
        .position_min = -INFINITY,
        .position_max = INFINITY,
        .motion_max = INFINITY,
        .change_max = INFINITY,
        .jerk_max = INFINITY,
        .action_scale = 1.0f,
    };
    const ec_control_config config = {
        .mode = EC_SYNC,
        .axes = 1,
        .states = 2,
        .horizon = 4,
        .execute = 2,
        .period_ns = 1000,
        .quantum = 1,
        .stop_after = 1,
        .axis = &axis,
    };
    work w = {.periods = count > 1 ? strtoull(words[1], NULL, 10) : 1000u};
    if (ec_loop_init(&config, loop_memory, sizeof loop_memory, &w.loop) != EC_CONTROL_OK ||
        ec_recorder_init(&config, model, RING, recorder_memory, sizeof recorder_memory,
                         &w.recorder) != EC_CONTROL_OK) {
        return 1;
    }
    if (ec_recorder_next(w.recorder, taken, sizeof taken) == 0u) { /* the header */
        return 1;
    }
    pthread_t writer;
    if (pthread_create(&writer, NULL, write_all, &w) != 0) {
        return 1;
    }
    uint64_t number = 0, drained = 0;
    uint32_t done = 0;
    while (done == 0u) {
        done = atomic_load_explicit(&w.done, memory_order_acquire);
        size_t bytes = ec_recorder_take(w.recorder, taken, sizeof taken);
        drained += check(taken, bytes, &number);
    }
    pthread_join(writer, NULL);
    uint64_t dropped = ec_recorder_dropped(w.recorder);
    printf("recorded=%" PRIu64 " drained=%" PRIu64 " dropped=%" PRIu64 "\n", 2u * w.periods + 1u,
           drained, dropped);
    return drained + dropped == 2u * w.periods + 1u ? 0 : 1;
}
