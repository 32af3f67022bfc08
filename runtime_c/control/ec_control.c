#include "ec_control.h"

#include <math.h>
#include <stdbool.h>

static const float PI = 3.14159265358979f;

const char *ec_control_text(ec_control_status status) {
    switch (status) {
    case EC_CONTROL_OK:
        return "ok";
    case EC_CONTROL_BAD_SIZE:
        return "axes, states, horizon or execute out of range";
    case EC_CONTROL_BAD_LIMIT:
        return "a limit is absent, not finite or inverted";
    case EC_CONTROL_BAD_AXIS:
        return "an axis names no place in the state, or has a number that its kind does not take";
    case EC_CONTROL_BAD_DELAY:
        return "the delay is beyond the actions that are played, or beyond what the policy was "
               "trained for";
    case EC_CONTROL_BAD_QUANTUM:
        return "actions of this kind cannot be joined";
    case EC_CONTROL_BAD_MEMORY:
        return "too little memory, or not aligned to 64 bytes";
    case EC_CONTROL_BAD_CHUNK:
        return "the chunk is not finite, absurd, or nobody asked for it";
    case EC_CONTROL_BAD_OPTION:
        return "an option is out of its range";
    }
    return "unknown status";
}

const char *ec_stop_text(ec_stop stop) {
    switch (stop) {
    case EC_STOP_NONE:
        return "runs";
    case EC_STOP_ASKED:
        return "asked to stop";
    case EC_STOP_LATE:
        return "the next chunk is too late";
    case EC_STOP_STALL:
        return "the policy does not answer";
    case EC_STOP_OBSERVATION:
        return "no good observation for too long";
    case EC_STOP_FROZEN:
        return "the picture does not change";
    case EC_STOP_OVERRUN:
        return "periods in a row took too long";
    case EC_STOP_BEYOND:
        return "the delay is beyond what the policy was trained for";
    case EC_STOP_CHUNK:
        return "the policy's chunks are bad or too late";
    case EC_STOPS:
        break;
    }
    return "unknown reason";
}

/* Whether a limit is there, positive or infinite. */
static bool is_limit(float x) {
    return x > 0.0f; /* not of NaN */
}

static ec_control_status check_numbers(const ec_axis *axis) {
    if (!isfinite(axis->action_min) || !isfinite(axis->action_max) ||
        axis->action_min > axis->action_max || isnan(axis->position_min) ||
        isnan(axis->position_max) || axis->position_min > axis->position_max ||
        !is_limit(axis->motion_max) || !is_limit(axis->change_max) || !is_limit(axis->jerk_max)) {
        return EC_CONTROL_BAD_LIMIT;
    }
    bool target = axis->kind == EC_ABSOLUTE || axis->kind == EC_LAG || axis->kind == EC_DISCRETE;
    if (axis->wraps != 0 && (isfinite(axis->position_min) || isfinite(axis->position_max) ||
                             (target && (axis->action_min > -PI || axis->action_max < PI)))) {
        return EC_CONTROL_BAD_LIMIT;
    }
    bool ok =
        isfinite(axis->action_scale) && axis->action_scale != 0.0f && isfinite(axis->action_offset);
    if (axis->kind == EC_DELTA || axis->kind == EC_VELOCITY || axis->kind == EC_ACCELERATION) {
        ok = ok && isfinite(axis->gain) && axis->gain > 0.0f && axis->action_min <= 0.0f &&
             axis->action_max >= 0.0f;
    }
    if (axis->kind == EC_ACCELERATION) {
        ok = ok && isfinite(axis->travel) && axis->brake > 0.0f && axis->brake <= 1.0f &&
             is_limit(axis->brake_max);
    }
    if (axis->kind == EC_LAG) {
        ok = ok && axis->alpha > 0.0f && axis->alpha <= 1.0f && is_limit(axis->rate);
    }
    if (axis->kind == EC_MODEL || (axis->position < 0 && target)) {
        ok = ok && axis->hold_action >= axis->action_min && axis->hold_action <= axis->action_max;
    }
    return ok ? EC_CONTROL_OK : EC_CONTROL_BAD_AXIS;
}

static ec_control_status check_axis(const ec_control_config *config, const ec_axis *axis) {
    int32_t states = (int32_t)config->states;
    bool placed = axis->position >= -1 && axis->position < states;
    if (axis->kind == EC_ACCELERATION) {
        placed = placed && axis->velocity >= 0 && axis->velocity < states &&
                 axis->velocity != axis->position;
    }
    if (!placed || (uint32_t)axis->kind >= (uint32_t)EC_AXIS_KINDS ||
        (axis->kind == EC_MODEL && config->model == NULL)) {
        return EC_CONTROL_BAD_AXIS;
    }
    if (config->quantum > 1u && (axis->kind == EC_ACCELERATION || axis->kind == EC_MODEL)) {
        return EC_CONTROL_BAD_QUANTUM;
    }
    return check_numbers(axis);
}

static bool options_in_range(const ec_control_config *config) {
    const ec_delay_config *estimate = &config->estimate;
    bool ok = (uint32_t)config->mode < (uint32_t)EC_MODES && config->period_ns > 0 &&
              config->stall_ns >= 0 && config->age_max_ns >= 0 && config->absurd >= 0.0f &&
              config->stop_after > 0u && config->blend <= config->execute &&
              (uint32_t)config->beyond <= (uint32_t)EC_BEYOND_STOP &&
              (uint32_t)config->late <= (uint32_t)EC_LATE_PLAY;
    if (config->mode == EC_SYNC) {
        ok = ok && config->continuous == 0u;
    }
    if (config->mode == EC_ENSEMBLE) {
        ok = ok && config->ensemble_ratio > 0.0f && config->ensemble_ratio <= 1.0f &&
             config->blend == 0u;
    }
    if (config->delay < 0) {
        ok = ok && estimate->window >= 1u && estimate->window <= EC_DELAY_MAX_WINDOW &&
             estimate->share > 0.0 && estimate->share <= 1.0 && estimate->guard_ns >= 0 &&
             estimate->calm > 0u;
    }
    return ok;
}

uint32_t ec_control_delay_limit(const ec_control_config *config) {
    bool aligned =
        config->mode == EC_ALIGNED || config->mode == EC_ENSEMBLE || config->mode == EC_RTC_PREFIX;
    uint32_t actions = config->execute;
    if (aligned && config->horizon - config->execute < actions) {
        actions = config->horizon - config->execute;
    }
    uint32_t most = (actions + config->quantum - 1u) / config->quantum;
    return most < config->delay_trained ? most : config->delay_trained;
}

static bool delay_in_range(const ec_control_config *config) {
    uint32_t delay = config->delay >= 0 ? (uint32_t)config->delay : config->delay_min;
    return delay <= ec_control_delay_limit(config);
}

ec_control_status ec_control_check(const ec_control_config *config) {
    if (config->axes < 1u || config->axes > EC_CONTROL_MAX_AXES ||
        config->states > EC_CONTROL_MAX_STATES || config->horizon < 1u ||
        config->horizon > EC_CONTROL_MAX_HORIZON || config->execute < 1u ||
        config->execute > config->horizon || config->axis == NULL) {
        return EC_CONTROL_BAD_SIZE;
    }
    if (config->quantum < 1u || config->quantum > config->execute) {
        return EC_CONTROL_BAD_QUANTUM;
    }
    for (uint32_t i = 0; i < config->axes; i++) {
        ec_control_status status = check_axis(config, &config->axis[i]);
        if (status != EC_CONTROL_OK) {
            return status;
        }
    }
    for (uint32_t i = 0; i < config->states; i++) {
        if ((config->state_scale != NULL &&
             !(isfinite(config->state_scale[i]) && config->state_scale[i] != 0.0f)) ||
            (config->state_offset != NULL && !isfinite(config->state_offset[i]))) {
            return EC_CONTROL_BAD_OPTION;
        }
    }
    if (!options_in_range(config)) {
        return EC_CONTROL_BAD_OPTION;
    }
    return delay_in_range(config) ? EC_CONTROL_OK : EC_CONTROL_BAD_DELAY;
}
