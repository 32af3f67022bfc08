/* Params of ec_rope.cu. */
#ifndef EC_ROPE_PARAMS_H
#define EC_ROPE_PARAMS_H

#include <stdint.h>

typedef struct {
    int32_t batch;
    int32_t first;
    int32_t second; /* x is [batch, first, second, depth] */
    int32_t depth;
    int32_t pairs;
    int32_t position_batch; /* positions of an image; 0 where all share theirs */
    float scale;
} ec_rope_params;

#endif
