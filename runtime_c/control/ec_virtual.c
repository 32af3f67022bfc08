#include "ec_virtual.h"

#include <stdbool.h>
#include <string.h>

typedef struct {
    ec_loop *loop;
    float *chunk; /* under way */
    uint64_t sequence, asked;
    int64_t arrives_ns;
    bool under_way;
} flight;

struct ec_virtual {
    const ec_control_config *config;
    uint32_t count;
    int64_t now_ns;
    flight *flights;
};

static size_t padded(size_t bytes) {
    return (bytes + 63u) / 64u * 64u;
}

static size_t chunk_bytes(const ec_control_config *config) {
    return (size_t)config->horizon * config->axes * sizeof(float);
}

size_t ec_virtual_bytes(const ec_control_config *config, uint32_t count) {
    size_t each = ec_loop_bytes(config) + padded(chunk_bytes(config));
    return padded(sizeof(ec_virtual)) + padded(count * sizeof(flight)) + count * each;
}

ec_control_status ec_virtual_init(const ec_control_config *config, uint32_t count, void *memory,
                                  size_t bytes, ec_virtual **loops) {
    ec_control_status status = ec_control_check(config);
    if (status != EC_CONTROL_OK) {
        return status;
    }
    if (memory == NULL || ((uintptr_t)memory & 63u) != 0u ||
        bytes < ec_virtual_bytes(config, count)) {
        return EC_CONTROL_BAD_MEMORY;
    }
    uint8_t *at = (uint8_t *)memory;
    ec_virtual *all = (ec_virtual *)memory;
    at += padded(sizeof *all);
    *all = (ec_virtual){.config = config, .count = count, .flights = (flight *)(void *)at};
    at += padded(count * sizeof(flight));
    for (uint32_t i = 0; i < count; i++) {
        all->flights[i] = (flight){.chunk = (float *)(void *)at};
        at += padded(chunk_bytes(config));
        status = ec_loop_init(config, at, ec_loop_bytes(config), &all->flights[i].loop);
        if (status != EC_CONTROL_OK) {
            return status;
        }
        at += ec_loop_bytes(config);
    }
    *loops = all;
    return EC_CONTROL_OK;
}

static void deliver(ec_virtual *loops, flight *one) {
    if (one->under_way && loops->now_ns >= one->arrives_ns) {
        ec_loop_deliver(one->loop, one->sequence, one->chunk, one->arrives_ns);
        one->under_way = false;
    }
}

uint32_t ec_virtual_begin(ec_virtual *loops, const float *states, uint32_t *who, float *told,
                          float *prefix, uint32_t *delay) {
    const ec_control_config *config = loops->config;
    size_t row = (size_t)config->horizon * config->axes;
    uint32_t count = 0;
    for (uint32_t i = 0; i < loops->count; i++) {
        flight *one = &loops->flights[i];
        deliver(loops, one);
        ec_observation observation = {
            .now_ns = loops->now_ns,
            .observed_ns = loops->now_ns,
            .state = states + (size_t)i * config->states,
        };
        const ec_request *request = ec_loop_begin(one->loop, &observation);
        if (request != NULL) {
            one->asked = request->sequence;
            who[count] = i;
            delay[count] = request->delay;
            memcpy(told + (size_t)count * config->states, request->state,
                   config->states * sizeof(float));
            memset(prefix + count * row, 0, row * sizeof(float));
            memcpy(prefix + count * row, request->prefix,
                   (size_t)request->delay * config->axes * sizeof(float));
            count++;
        }
    }
    return count;
}

void ec_virtual_answer(ec_virtual *loops, uint32_t count, const uint32_t *who, const float *chunks,
                       const int64_t *latency_ns) {
    size_t row = (size_t)loops->config->horizon * loops->config->axes;
    for (uint32_t i = 0; i < count; i++) {
        flight *one = &loops->flights[who[i]];
        memcpy(one->chunk, chunks + i * row, row * sizeof(float));
        one->sequence = one->asked;
        one->arrives_ns = loops->now_ns + latency_ns[i];
        one->under_way = true;
        deliver(loops, one);
    }
}

void ec_virtual_end(ec_virtual *loops, float *actions, ec_tick_result *results) {
    for (uint32_t i = 0; i < loops->count; i++) {
        float *action = actions + (size_t)i * loops->config->axes;
        memset(action, 0, loops->config->axes * sizeof(float));
        results[i] = ec_loop_end(loops->flights[i].loop, action);
    }
    loops->now_ns += loops->config->period_ns;
}

ec_loop *ec_virtual_loop(ec_virtual *loops, uint32_t which) {
    return loops->flights[which].loop;
}
