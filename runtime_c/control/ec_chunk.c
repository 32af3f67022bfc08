#include "ec_chunk.h"

#include <math.h>
#include <stdbool.h>

#include "ec_axis.h"

ec_control_status ec_chunk_check(const ec_control_config *config, const float *raw) {
    for (uint32_t t = 0; t < config->horizon; t++) {
        for (uint32_t i = 0; i < config->axes; i++) {
            const ec_axis *axis = &config->axis[i];
            float action = axis->action_scale * raw[t * config->axes + i] + axis->action_offset;
            float middle = 0.5f * (axis->action_min + axis->action_max);
            float half = 0.5f * (axis->action_max - axis->action_min);
            if (!isfinite(action) ||
                (config->absurd > 0.0f && fabsf(action - middle) > config->absurd * half)) {
                return EC_CONTROL_BAD_CHUNK;
            }
        }
    }
    return EC_CONTROL_OK;
}

/* `joined` and one action more, of this axis. `before`: the action before `joined`. */
static float join(ec_axis_kind kind, float before, float joined, float action) {
    if (kind == EC_DELTA || kind == EC_VELOCITY) {
        return joined + action;
    }
    if (kind == EC_DISCRETE) {
        return action != before ? action : joined;
    }
    return action;
}

/* Whether the actuator cannot do in one period what was joined. */
static bool too_far(const ec_axis *axis, float before, float joined) {
    if (axis->kind == EC_DELTA || axis->kind == EC_VELOCITY) {
        return joined < axis->action_min || joined > axis->action_max ||
               fabsf(joined) > axis->motion_max;
    }
    return axis->kind != EC_DISCRETE &&
           fabsf(ec_command_way(axis, before, joined)) > axis->motion_max;
}

/* Join the action `raw` to the last one of `chunk`, where the actuators can do it. */
static bool joined(const ec_control_config *config, const float *raw, const float *last,
                   const ec_chunk *chunk) {
    float sum[EC_CONTROL_MAX_AXES];
    float *newest = chunk->action + (size_t)(chunk->count - 1u) * config->axes;
    const float *before = chunk->count > 1u ? newest - config->axes : last;
    for (uint32_t i = 0; i < config->axes; i++) {
        const ec_axis *axis = &config->axis[i];
        float action = axis->action_scale * raw[i] + axis->action_offset;
        sum[i] = join(axis->kind, before[i], newest[i], action);
        if (too_far(axis, before[i], sum[i])) {
            return false;
        }
    }
    for (uint32_t i = 0; i < config->axes; i++) {
        newest[i] = sum[i];
    }
    return true;
}

uint32_t ec_chunk_read(const ec_control_config *config, const float *raw, const float *last,
                       ec_chunk *chunk) {
    uint32_t splits = 0, members = 0;
    chunk->count = 0;
    chunk->execute = 0;
    for (uint32_t t = 0; t < config->horizon; t++) {
        const float *action = raw + (size_t)t * config->axes;
        bool room = members > 0u && members < config->quantum && t != config->execute;
        if (room && joined(config, action, last, chunk)) {
            members++;
        } else {
            splits += room ? 1u : 0u;
            float *next = chunk->action + (size_t)chunk->count * config->axes;
            for (uint32_t i = 0; i < config->axes; i++) {
                next[i] = config->axis[i].action_scale * action[i] + config->axis[i].action_offset;
            }
            chunk->count++;
            members = 1;
        }
        if (t + 1u == config->execute) {
            chunk->execute = chunk->count;
        }
    }
    return splits;
}
