/* Runs every mode with all kinds of axes and faults in virtual time, and prints a hash (FNV-1a) of
 * all that was recorded: the same for every compiler, its options and every computer. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "ec_trial.h"

#define AXES 7
#define PERIODS 40

static uint64_t hash = 0xCBF29CE484222325u;

static int32_t add(void *user, const uint8_t *bytes, size_t count) {
    (void)user;
    for (size_t i = 0; i < count; i++) {
        hash = (hash ^ bytes[i]) * 0x100000001B3u;
    }
    return 0;
}

/* One of each kind but the callback, and a speed around a circle. */
static void fill(ec_axis *axis) {
    for (int32_t i = 0; i < AXES; i++) {
        ec_axis_kind kind = i < 6 ? (ec_axis_kind)i : EC_VELOCITY;
        axis[i] = (ec_axis){
            .kind = kind,
            .position = i,
            .velocity = kind == EC_ACCELERATION ? AXES : -1,
            .gain = 0.37f,
            .travel = 0.61f,
            .brake = 0.7f,
            .brake_max = INFINITY,
            .alpha = 0.3f,
            .rate = 0.2f,
            .action_min = kind == EC_DISCRETE ? 0.0f : -4.0f,
            .action_max = kind == EC_DISCRETE ? 1.0f : 4.0f,
            .position_min = -INFINITY,
            .position_max = INFINITY,
            .motion_max = 0.9f,
            .change_max = 0.33f,
            .jerk_max = kind == EC_VELOCITY ? 0.051f : INFINITY,
            .wraps = kind == EC_ABSOLUTE || i == 6,
            .action_scale = 0.7f,
            .action_offset = 0.013f,
        };
    }
}

int main(void) {
    static _Alignas(64) uint8_t memory[8 << 20];
    static const ec_trial_config trial = {7, 1000000, 29000000, 1.3f, 0.01f, 2, 997};
    ec_fault_script script = {.seed = 3, .size = 1.5f};
    ec_axis axis[AXES];
    fill(axis);
    for (uint32_t i = 0; i < EC_FAULTS; i++) {
        script.rate[i] = (ec_fault_rate){0.02, 1, 6};
    }
    uint64_t stops = 0, dropped = 0;
    for (uint32_t mode = 0; mode < EC_MODES; mode++) {
        ec_control_config config = {
            .mode = (ec_mode)mode,
            .axes = AXES,
            .states = AXES + 1,
            .horizon = 12,
            .execute = 6,
            .delay = -1,
            .delay_trained = 6,
            .period_ns = 10000000,
            .quantum = 1,
            .ensemble_ratio = 0.9f,
            .blend = mode == EC_ENSEMBLE ? 0u : 3u,
            .blend_quintic = 1,
            .extra = 2,
            .stop_after = 4,
            .stop_periods = 3,
            .late = EC_LATE_PLAY,
            .late_tolerance = 4,
            .stall_ns = 120000000,
            .age_max_ns = 35000000,
            .frozen_max = 4,
            .overrun_max = 3,
            .absurd = 4.0f,
            .estimate = {16, 1, 2, 0.97, 1000000, 1},
            .axis = axis,
        };
        ec_trial *made;
        if (ec_trial_init(&config, &trial, &script, (size_t)1 << 22, memory, sizeof memory,
                          &made) != EC_CONTROL_OK) {
            return 1;
        }
        for (uint32_t i = 0; i < PERIODS; i++) {
            ec_trial_run(made, 500);
            ec_recorder_drain(ec_trial_recorder(made), add, NULL);
        }
        stops += ec_loop_counts(ec_trial_loop(made))->stops;
        dropped += ec_recorder_dropped(ec_trial_recorder(made));
    }
    printf("%" PRIu64 " stops, %" PRIu64 " dropped, %016" PRIx64 "\n", stops, dropped, hash);
    return 0;
}
