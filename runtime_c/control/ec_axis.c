#include "ec_axis.h"

#include <math.h>

static const float PI = 3.14159265358979f;

static float clamp(float x, float low, float high) {
    return x < low ? low : x > high ? high : x;
}

/* Whether the command is a target: its motion is the way from the last one. */
static bool is_target(ec_axis_kind kind) {
    return kind == EC_ABSOLUTE || kind == EC_LAG || kind == EC_DISCRETE;
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
    return axis->position >= 0 ? state[axis->position] : axis->hold_action;
}

static float hold(const ec_axis *axis, const ec_command *command, const float *state, uint32_t i) {
    switch (axis->kind) {
    case EC_ABSOLUTE:
    case EC_LAG:
    case EC_DISCRETE:
        return target_of(axis, command, state, i);
    case EC_ACCELERATION:
        return -axis->brake * state[axis->velocity] / axis->gain;
    case EC_MODEL:
        return axis->hold_action;
    default:
        return 0.0f;
    }
}

/* `action` with its motion, the change of that and the jerk within their limits. */
static float limit_motion(const ec_axis *axis, const ec_command *command, uint32_t i,
                          float reference, float action) {
    float wanted = action - reference;
    float motion = wanted;
    if (command->started) {
        float next = command->motion[i] + command->change[i];
        motion = clamp(motion, next - axis->jerk_max, next + axis->jerk_max);
        motion = clamp(motion, command->motion[i] - axis->change_max,
                       command->motion[i] + axis->change_max);
    }
    motion = clamp(motion, -axis->motion_max, axis->motion_max);
    return motion == wanted ? action : reference + motion;
}

/* `action` such that the position stays inside its limits, or comes nearer to them. */
static float limit_position(const ec_axis *axis, const float *state, float action) {
    if (is_target(axis->kind)) {
        return clamp(action, axis->position_min, axis->position_max);
    }
    if ((axis->kind != EC_DELTA && axis->kind != EC_VELOCITY) || axis->position < 0 ||
        axis->wraps != 0) {
        return action;
    }
    float position = state[axis->position];
    float next = position + axis->gain * action;
    if (next > axis->position_max) {
        return (axis->position_max - position) / axis->gain;
    }
    if (next < axis->position_min) {
        return (axis->position_min - position) / axis->gain;
    }
    return action;
}

/* What the actuator takes of `action`, remembered. Whether it is another number. */
static bool send(const ec_axis *axis, ec_command *command, uint32_t i, float reference,
                 float wanted, float action, float *sent) {
    action = clamp(action, axis->action_min, axis->action_max);
    float motion = action - reference;
    command->change[i] = motion - command->motion[i];
    command->motion[i] = motion;
    command->last[i] = action;
    *sent = action;
    return action != wanted;
}

uint32_t ec_command_send(const ec_control_config *config, ec_command *command, const float *state,
                         const float *wanted, float *sent) {
    uint32_t limited = 0;
    for (uint32_t i = 0; i < config->axes; i++) {
        const ec_axis *axis = &config->axis[i];
        float reference = is_target(axis->kind) ? target_of(axis, command, state, i) : 0.0f;
        float asked = wanted != NULL ? wanted[i] : hold(axis, command, state, i);
        float action = asked;
        if (wanted != NULL && axis->kind != EC_DISCRETE) {
            action = limit_motion(axis, command, i, reference, action);
            action = limit_position(axis, state, action);
        }
        limited +=
            send(axis, command, i, reference, asked, action, &sent[i]) && wanted != NULL ? 1u : 0u;
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
        if (axis->kind == EC_DELTA || axis->kind == EC_VELOCITY || axis->kind == EC_ABSOLUTE ||
            axis->kind == EC_LAG) {
            action = limit_position(axis, state, reference + share * from[i]);
        }
        send(axis, command, i, reference, action, action, &sent[i]);
    }
    command->started = true;
}

static float wrapped(const ec_axis *axis, float position) {
    if (axis->wraps == 0 || (position > -PI && position <= PI)) {
        return position;
    }
    return position - 2.0f * PI * ceilf((position - PI) / (2.0f * PI));
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
            position =
                position + clamp(axis->alpha * (action[i] - position), -axis->rate, axis->rate);
        } else {
            position = position + axis->gain * action[i];
        }
        state[axis->position] = wrapped(axis, position);
    }
    if (config->model != NULL) {
        config->model(config->model_user, state, action);
    }
}
