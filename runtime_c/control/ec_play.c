#include <string.h>

#include "ec_loop_own.h"

const ec_chunk *ec_loop_newest(const ec_loop *loop) {
    return loop->held_chunks > 0u ? &loop->chunk[loop->newest] : NULL;
}

/* The chunk that is `age` chunks older. */
static const ec_chunk *older(const ec_loop *loop, uint32_t age) {
    return &loop->chunk[(loop->newest + loop->chunks - age) % loop->chunks];
}

int64_t ec_loop_index(const ec_chunk *chunk, int64_t tick) {
    return (int64_t)chunk->start + tick - chunk->taken;
}

/* How many of its actions are played at most. */
static uint32_t extent(const ec_loop *loop, const ec_chunk *chunk) {
    uint32_t extra = loop->config->mode == EC_SYNC ? 0u : loop->config->extra;
    uint32_t left = chunk->count - chunk->execute;
    return chunk->execute + (extra < left ? extra : left);
}

int64_t ec_loop_remaining(const ec_loop *loop) {
    const ec_chunk *chunk = ec_loop_newest(loop);
    if (chunk == NULL) {
        return 0;
    }
    if (loop->config->continuous != 0u) {
        return chunk->taken + (loop->asked_delay > 0u ? loop->asked_delay : 1) - loop->tick;
    }
    return (int64_t)chunk->execute - ec_loop_index(chunk, loop->tick);
}

/* The weighted mean of all chunks that speak of a period: of each, `ensemble_ratio` times the next
 * older one's weight. Of angles the mean of the ways from the newest one's; there is no mean of
 * discrete commands, the newest one's counts. */
static void mean_action(const ec_loop *loop, int64_t tick, float *wanted) {
    const ec_control_config *config = loop->config;
    float total = 0.0f, weight = 1.0f;
    const ec_chunk *chunk = ec_loop_newest(loop);
    const float *last = chunk->action + (size_t)ec_loop_index(chunk, tick) * config->axes;
    memset(wanted, 0, config->axes * sizeof(float));
    for (uint32_t age = loop->held_chunks; age-- > 0u;) { /* the oldest first */
        const ec_chunk *one = older(loop, age);
        int64_t index = ec_loop_index(one, tick);
        if (index < (int64_t)one->count) {
            const float *action = one->action + (size_t)index * config->axes;
            for (uint32_t i = 0; i < config->axes; i++) {
                const ec_axis *axis = &config->axis[i];
                wanted[i] +=
                    weight *
                    (ec_axis_is_angle(axis) ? ec_axis_way(axis, last[i], action[i]) : action[i]);
            }
            total += weight;
            weight *= config->ensemble_ratio;
        }
    }
    for (uint32_t i = 0; i < config->axes; i++) {
        const ec_axis *axis = &config->axis[i];
        wanted[i] /= total;
        if (axis->kind == EC_DISCRETE) {
            wanted[i] = last[i];
        } else if (ec_axis_is_angle(axis)) {
            wanted[i] = ec_axis_way(axis, 0.0f, last[i] + wanted[i]);
        }
    }
}

/* Let the chunk before fade out over `blend` periods. */
static void blend(const ec_loop *loop, int64_t tick, float *wanted) {
    const ec_control_config *config = loop->config;
    int64_t step = tick - ec_loop_newest(loop)->taken;
    if (step >= (int64_t)config->blend || loop->held_chunks < 2u || !ec_loop_newest(loop)->joins) {
        return;
    }
    const ec_chunk *old = older(loop, 1);
    int64_t index = ec_loop_index(old, tick);
    if (index >= (int64_t)old->count) {
        return;
    }
    float share = (float)(step + 1) / (float)(config->blend + 1u);
    if (config->blend_quintic != 0u) {
        share = share * share * share * (10.0f + share * (-15.0f + 6.0f * share));
    }
    const float *action = old->action + (size_t)index * config->axes;
    for (uint32_t i = 0; i < config->axes; i++) {
        const ec_axis *axis = &config->axis[i];
        if (ec_axis_is_angle(axis)) {
            float way = ec_axis_way(axis, action[i], wanted[i]);
            wanted[i] = ec_axis_way(axis, 0.0f, action[i] + share * way);
        } else if (axis->kind != EC_DISCRETE) {
            wanted[i] = (1.0f - share) * action[i] + share * wanted[i];
        }
    }
}

ec_source ec_loop_action(const ec_loop *loop, int64_t tick, float *wanted) {
    const ec_control_config *config = loop->config;
    const ec_chunk *chunk = ec_loop_newest(loop);
    if (chunk == NULL || ec_loop_index(chunk, tick) >= (int64_t)extent(loop, chunk)) {
        return EC_FROM_HOLD;
    }
    int64_t index = ec_loop_index(chunk, tick);
    if (config->mode == EC_ENSEMBLE) {
        mean_action(loop, tick, wanted);
    } else {
        memcpy(wanted, chunk->action + (size_t)index * config->axes, config->axes * sizeof(float));
        blend(loop, tick, wanted);
    }
    return index < (int64_t)chunk->execute ? EC_FROM_CHUNK : EC_FROM_EXTRA;
}
