/*
 * model.c: y = x + 1 on int8, a counter as state, and a few ways to go wrong; the smallest model
 * that a port runs.
 */
#include "model.h"

static const int8_t step[4] EC_WEIGHTS EC_ALIGN(4) = {1, 1, 1, 1};

ec_status edgec_tiny_init(edgec_tiny *instance, void *arena, uint32_t arena_bytes) {
    uint32_t i;
    if (instance == NULL || arena == NULL) {
        return EC_NULL_POINTER;
    }
    if (arena_bytes < EDGEC_TINY_ARENA_BYTES) {
        return EC_TOO_SMALL;
    }
    instance->arena = (int8_t *)arena;
    for (i = 0; i < 4u; i++) {
        instance->arena[i] = 0; /* state: the sum of x[0] so far */
    }
    return EC_OK;
}

ec_status edgec_tiny_invoke(edgec_tiny *instance) {
    const int8_t *x = edgec_tiny_x(instance);
    int8_t *y = edgec_tiny_y(instance);
    uint32_t i;
    instance->arena[0] = (int8_t)(instance->arena[0] + x[0]);
    EC_PROFILE(0);
    for (i = 0; i < EDGEC_TINY_ELEMENTS; i++) {
        y[i] = (int8_t)(x[i] + step[i % 4u]);
    }
    EC_PROFILE(1);
    y[EDGEC_TINY_ELEMENTS] = instance->arena[0];
    return EC_OK;
}
