#include "ec_axis.h"

#include <math.h>

static const float PI = 3.14159265358979f;

static float clamp(float x, float low, float high) {
    return x < low ? low : x > high ? high : x;
}

static float wrapped(const ec_axis *axis, float position) {
    if (axis->wraps == 0 || (position > -PI && position <= PI)) {
        return position;
    }
    return position - 2.0f * PI * ceilf((position - PI) / (2.0f * PI));
}

float ec_axis_way(const ec_axis *axis, float from, float to) {
    return wrapped(axis, to - from);
}

/* Whether the command is a target: its motion is the way from the last one. */
static bool is_target(ec_axis_kind kind) {
    return kind == EC_ABSOLUTE || kind == EC_LAG || kind == EC_DISCRETE;
}

bool ec_axis_is_angle(const ec_axis *axis) {
    return axis->wraps != 0 && is_target(axis->kind);
}

float ec_command_way(const ec_axis *axis, float from, float to) {
    return ec_axis_is_angle(axis) ? ec_axis_way(axis, from, to) : to - from;
}

void ec_command_clear(const ec_control_config *config, ec_command *command) {
    for (uint32_t i = 0; i < config->axes; i++) {
        command->last[i] = 0.0f;
        command->motion[i] = 0.0f;
        command->change[i] = 0.0f;
    }
    command->started = false;
}

void ec_command_copy(const ec_control_config *config, ec_command *to, const ec_command *from) {
    for (uint32_t i = 0; i < config->axes; i++) {
        to->last[i] = from->last[i];
        to->motion[i] = from->motion[i];
        to->change[i] = from->change[i];
    }
    to->started = from->started;
}

/* The target that the axis is taken to have: the last command, before the first one the measured
 * position. */
static float target_of(const ec_axis *axis, const ec_command *command, const float *state,
                       uint32_t i) {
    if (command->started) {
        return command->last[i];
    }
    return axis->position >= 0 ? wrapped(axis, state[axis->position]) : axis->hold_action;
}

void ec_command_start(const ec_control_config *config, ec_command *command, const float *state) {
    for (uint32_t i = 0; i < config->axes && !command->started; i++) {
        const ec_axis *axis = &config->axis[i];
        command->last[i] = is_target(axis->kind) ? target_of(axis, command, state, i) : 0.0f;
    }
}

static float hold(const ec_axis *axis, const ec_command *command, const float *state, uint32_t i) {
    switch (axis->kind) {
    case EC_ABSOLUTE:
    case EC_LAG:
    case EC_DISCRETE:
        return target_of(axis, command, state, i);
    case EC_ACCELERATION:
        return clamp(-axis->brake * state[axis->velocity] / axis->gain, -axis->brake_max,
                     axis->brake_max);
    case EC_MODEL:
        return axis->hold_action;
    default:
        return 0.0f;
    }
}

/* The most that a motion may change now so that the change can fall to 0, by `jerk` a period, where
 * the motion has come `way` further: change + (change - jerk) + ... = way. */
static float change_towards(float way, float jerk) {
    float steps = floorf(0.5f * (sqrtf(1.0f + 8.0f * fabsf(way) / jerk) - 1.0f));
    float rest = (fabsf(way) - 0.5f * jerk * steps * (steps + 1.0f)) / (steps + 1.0f);
    return copysignf(jerk * steps + rest, way);
}

/* `action` with its motion, the change of that and the jerk within their limits. */
static float limit_motion(const ec_axis *axis, const ec_command *command, uint32_t i,
                          float reference, float action) {
    bool target = is_target(axis->kind);
    float wanted = target ? ec_axis_way(axis, reference, action) : action;
    float motion = clamp(wanted, -axis->motion_max, axis->motion_max);
    float change = motion - command->motion[i], allowed = change;
    if (axis->jerk_max < INFINITY) {
        float most = change_towards(change, axis->jerk_max);
        allowed = fabsf(most) < fabsf(change) ? most : change;
        allowed = clamp(allowed, command->change[i] - axis->jerk_max,
                        command->change[i] + axis->jerk_max);
    }
    allowed = clamp(allowed, -axis->change_max, axis->change_max);
    if (allowed != change) {
        motion = clamp(command->motion[i] + allowed, -axis->motion_max, axis->motion_max);
    }
    if (motion == wanted) {
        return action;
    }
    return target ? wrapped(axis, reference + motion) : motion;
}

/* `action` such that the position stays inside its limits; where it is outside, such that it goes
 * no further out. */
static float limit_position(const ec_axis *axis, const float *state, float reference,
                            float action) {
    if (is_target(axis->kind)) {
        float low = reference < axis->position_min ? reference : axis->position_min;
        float high = reference > axis->position_max ? reference : axis->position_max;
        return clamp(action, low, high);
    }
    if ((axis->kind != EC_DELTA && axis->kind != EC_VELOCITY) || axis->position < 0) {
        return action;
    }
    float low = (axis->position_min - state[axis->position]) / axis->gain;
    float high = (axis->position_max - state[axis->position]) / axis->gain;
    return clamp(action, low < 0.0f ? low : 0.0f, high > 0.0f ? high : 0.0f);
}

/* What the actuator takes of `action`, remembered. `planned`: what the limits of motion made of the
 * wish; a motion that was broken off has no change that the next one could go on with. */
static void send(const ec_axis *axis, ec_command *command, uint32_t i, float reference,
                 float planned, float action, float *sent) {
    action = clamp(action, axis->action_min, axis->action_max);
    float motion =
        is_target(axis->kind) ? ec_axis_way(axis, reference, action) : action - reference;
    command->change[i] = action == planned ? motion - command->motion[i] : 0.0f;
    command->motion[i] = motion;
    command->last[i] = action;
    *sent = action;
}

uint32_t ec_command_send(const ec_control_config *config, ec_command *command, const float *state,
                         const float *wanted, float *sent) {
    uint32_t limited = 0;
    for (uint32_t i = 0; i < config->axes; i++) {
        const ec_axis *axis = &config->axis[i];
        float reference = is_target(axis->kind) ? target_of(axis, command, state, i) : 0.0f;
        float held = hold(axis, command, state, i);
        if (wanted == NULL || !isfinite(wanted[i])) {
            send(axis, command, i, reference, NAN, isfinite(held) ? held : 0.0f, &sent[i]);
            limited += wanted != NULL ? 1u : 0u;
            continue;
        }
        float planned = wanted[i], action = wanted[i];
        if (axis->kind != EC_DISCRETE) {
            action = clamp(action, axis->action_min, axis->action_max);
            planned = clamp(limit_motion(axis, command, i, reference, action), axis->action_min,
                            axis->action_max); /* of the last bit */
            action = limit_position(axis, state, reference, planned);
        }
        send(axis, command, i, reference, planned, action, &sent[i]);
        limited += sent[i] != wanted[i] ? 1u : 0u;
    }
    command->started = true;
    return limited;
}

void ec_command_stop(const ec_control_config *config, ec_command *command, const float *state,
                     const float *from, uint32_t step, uint32_t steps, float *sent) {
    float share = (float)(steps - 1u - step) / (float)steps;
    for (uint32_t i = 0; i < config->axes; i++) {
        const ec_axis *axis = &config->axis[i];
        float reference = is_target(axis->kind) ? target_of(axis, command, state, i) : 0.0f;
        float action = hold(axis, command, state, i);
        if (axis->kind == EC_DELTA || axis->kind == EC_VELOCITY) {
            action = limit_position(axis, state, reference, share * from[i]);
        } else if (axis->kind == EC_ABSOLUTE || axis->kind == EC_LAG) {
            action = wrapped(axis, reference + share * from[i]);
            action = limit_position(axis, state, reference, action);
        }
        send(axis, command, i, reference, NAN, isfinite(action) ? action : 0.0f, &sent[i]);
    }
    command->started = true;
}

bool ec_command_reaches(const ec_control_config *config, const float *state) {
    for (uint32_t i = 0; i < config->axes; i++) {
        const ec_axis *axis = &config->axis[i];
        if (is_target(axis->kind) && axis->kind != EC_DISCRETE && axis->position >= 0) {
            float place = wrapped(axis, state[axis->position]);
            float nearest = clamp(place, axis->action_min, axis->action_max);
            if (fabsf(nearest - place) > axis->motion_max) {
                return false;
            }
        }
    }
    return true;
}

void ec_roll(const ec_control_config *config, float *state, const float *action) {
    for (uint32_t i = 0; i < config->axes; i++) {
        const ec_axis *axis = &config->axis[i];
        if (axis->kind == EC_ACCELERATION) {
            float velocity = state[axis->velocity] + axis->gain * action[i];
            state[axis->velocity] = velocity;
            if (axis->position >= 0) {
                state[axis->position] =
                    wrapped(axis, state[axis->position] + axis->travel * velocity);
            }
        }
        if (axis->position < 0 || axis->kind == EC_ACCELERATION || axis->kind == EC_MODEL) {
            continue;
        }
        float position = state[axis->position];
        if (axis->kind == EC_ABSOLUTE || axis->kind == EC_DISCRETE) {
            position = action[i];
        } else if (axis->kind == EC_LAG) {
            float way = ec_axis_way(axis, position, action[i]);
            position = position + clamp(axis->alpha * way, -axis->rate, axis->rate);
        } else {
            position = position + axis->gain * action[i];
        }
        state[axis->position] = wrapped(axis, position);
    }
    if (config->model != NULL) {
        config->model(config->model_user, state, action);
    }
}
