#include "ec_trial.h"

#include <string.h>

#include "ec_axis.h"

struct ec_trial {
    const ec_control_config *config;
    const ec_trial_config *trial;
    ec_loop *loop;
    ec_recorder *recorder;
    ec_faults *faults;
    uint64_t seed;
    int64_t tick;
    uint32_t rested; /* periods */
    float *state, *chunk, *action;
    uint64_t sequence; /* of the chunk under way */
    int64_t published_ns;
    bool under_way;
};

static size_t padded(size_t bytes) {
    return (bytes + 63u) / 64u * 64u;
}

static size_t float_bytes(size_t count) {
    return padded(count * sizeof(float));
}

size_t ec_trial_bytes(const ec_control_config *config, size_t ring_bytes) {
    size_t recorder = ec_recorder_bytes(config, ring_bytes);
    if (recorder == 0u) {
        return 0;
    }
    return padded(sizeof(ec_trial)) + ec_loop_bytes(config) + recorder + ec_faults_bytes(config) +
           float_bytes(config->states) + float_bytes(config->axes) +
           float_bytes((size_t)config->horizon * config->axes);
}

ec_control_status ec_trial_init(const ec_control_config *config, const ec_trial_config *trial,
                                const ec_fault_script *script, size_t ring_bytes, void *memory,
                                size_t bytes, ec_trial **made) {
    static const uint8_t no_model[EC_RECORD_HASH_BYTES];
    ec_control_status status = ec_control_check(config);
    if (status != EC_CONTROL_OK) {
        return status;
    }
    size_t needed = ec_trial_bytes(config, ring_bytes);
    if (memory == NULL || ((uintptr_t)memory & 63u) != 0u || needed == 0u || bytes < needed) {
        return EC_CONTROL_BAD_MEMORY;
    }
    memset(memory, 0, needed);
    ec_trial *one = (ec_trial *)memory;
    uint8_t *at = (uint8_t *)memory + padded(sizeof *one);
    size_t loop = ec_loop_bytes(config), recorder = ec_recorder_bytes(config, ring_bytes);
    size_t faults = ec_faults_bytes(config);
    one->config = config;
    one->trial = trial;
    one->seed = trial->seed;
    status = ec_loop_init(config, at, loop, &one->loop);
    at += loop;
    if (status == EC_CONTROL_OK) {
        status = ec_recorder_init(config, no_model, ring_bytes, at, recorder, &one->recorder);
    }
    at += recorder;
    if (status == EC_CONTROL_OK) {
        status = ec_faults_init(config, script, at, faults, &one->faults);
    }
    at += faults;
    one->state = (float *)(void *)at;
    one->action = (float *)(void *)(at + float_bytes(config->states));
    one->chunk = (float *)(void *)(at + float_bytes(config->states) + float_bytes(config->axes));
    *made = one;
    return status;
}

/* From -1 to 1. */
static float number(ec_trial *trial) {
    return (float)(int32_t)(uint32_t)(ec_random(&trial->seed) >> 32) * 0x1p-31f;
}

/* The policy's chunk for a state in its units. Accelerations also brake, so that speeds stay. */
static void answer(ec_trial *trial, const ec_request *request) {
    const ec_control_config *config = trial->config;
    for (uint32_t t = 0; t < config->horizon; t++) {
        for (uint32_t i = 0; i < config->axes; i++) {
            const ec_axis *axis = &config->axis[i];
            float middle = 0.5f * (axis->action_min + axis->action_max);
            float half = 0.5f * (axis->action_max - axis->action_min);
            float action = middle + trial->trial->excess * half * number(trial);
            if (axis->kind == EC_ACCELERATION) {
                float scale =
                    config->state_scale != NULL ? config->state_scale[axis->velocity] : 1.0f;
                action -= 0.2f * scale * request->state[axis->velocity] / axis->gain;
            } else if (axis->kind == EC_DISCRETE) {
                action = action > middle ? axis->action_max : axis->action_min;
            }
            trial->chunk[t * config->axes + i] =
                (action - axis->action_offset) / axis->action_scale;
        }
    }
    int64_t most = trial->trial->latency_most_ns - trial->trial->latency_least_ns + 1;
    trial->sequence = request->sequence;
    trial->published_ns = trial->tick * config->period_ns + trial->trial->latency_least_ns +
                          (int64_t)(ec_random(&trial->seed) % (uint64_t)most);
    trial->under_way = true;
}

static void deliver(ec_trial *trial) {
    if (trial->under_way && trial->tick * trial->config->period_ns >= trial->published_ns) {
        ec_faults_publish(trial->faults, trial->sequence, trial->chunk, trial->published_ns);
        trial->under_way = false;
    }
    ec_delivery one;
    while (ec_faults_next(trial->faults, &one)) {
        ec_recorded_deliver(trial->recorder, trial->loop, one.sequence, one.actions,
                            one.published_ns);
    }
}

static void move(ec_trial *trial, ec_source source) {
    const ec_control_config *config = trial->config;
    if (source != EC_FROM_NOTHING) {
        ec_roll(config, trial->state, trial->action);
    }
    for (uint32_t i = 0; trial->trial->noise > 0.0f && i < config->states; i++) {
        trial->state[i] += trial->trial->noise * number(trial);
    }
}

/* Stops that are asked for, and resets after a rest. */
static void obey(ec_trial *trial, ec_source source) {
    const ec_trial_config *given = trial->trial;
    trial->rested = source == EC_FROM_REST ? trial->rested + 1u : 0u;
    if (given->reset_after > 0u && trial->rested >= given->reset_after) {
        ec_recorded_reset(trial->recorder, trial->loop);
        trial->rested = 0;
    }
    if (given->stop_every > 0u && trial->tick % given->stop_every == 0) {
        ec_recorded_stop(trial->recorder, trial->loop, EC_STOP_ASKED);
    }
}

void ec_trial_run(ec_trial *trial, uint64_t periods) {
    for (uint64_t period = 0; period < periods; period++) {
        int64_t now_ns = trial->tick * trial->config->period_ns;
        ec_observation observation = {
            .now_ns = now_ns,
            .observed_ns = now_ns,
            .frame = (uint64_t)trial->tick + 1u,
            .state = trial->state,
        };
        observation = ec_faults_observe(trial->faults, &observation);
        deliver(trial);
        const ec_request *request =
            ec_recorded_begin(trial->recorder, trial->loop, &observation, 0);
        if (request != NULL) {
            answer(trial, request);
            deliver(trial);
        }
        ec_tick_result result = ec_recorded_end(trial->recorder, trial->loop, trial->action);
        move(trial, result.source);
        trial->tick++;
        obey(trial, result.source);
    }
}

ec_loop *ec_trial_loop(ec_trial *trial) {
    return trial->loop;
}

ec_recorder *ec_trial_recorder(ec_trial *trial) {
    return trial->recorder;
}

ec_faults *ec_trial_faults(ec_trial *trial) {
    return trial->faults;
}

float *ec_trial_state(ec_trial *trial) {
    return trial->state;
}
