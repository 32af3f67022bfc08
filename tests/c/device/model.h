/* model.h: the accessors of the tiny model. */
#ifndef EDGEC_TINY_H
#define EDGEC_TINY_H

#include "edgec.h"

#define EDGEC_TINY_ELEMENTS 8u
#define EDGEC_TINY_ARENA_BYTES (4u + EDGEC_TINY_ELEMENTS + EDGEC_TINY_ELEMENTS + 4u)

typedef struct {
    int8_t *arena;
} edgec_tiny;

ec_status edgec_tiny_init(edgec_tiny *instance, void *arena, uint32_t arena_bytes);
ec_status edgec_tiny_invoke(edgec_tiny *instance);

static inline int8_t *edgec_tiny_x(edgec_tiny *instance) {
    return instance->arena + 4;
}

static inline int8_t *edgec_tiny_y(edgec_tiny *instance) {
    return instance->arena + 4 + EDGEC_TINY_ELEMENTS;
}

#endif
