/* ec_linear_w4_params.h: what the kernels of linear_w4 are called with. */
#ifndef EC_LINEAR_W4_PARAMS_H
#define EC_LINEAR_W4_PARAMS_H

#include <stdint.h>

/* ec_linear_w4.cu: `rows` of x, `out_c` rows of weights in `tiles` of 16; a block has wm x wk warps. */
typedef struct {
    int32_t rows;
    int32_t in_c;
    int32_t out_c;
    int32_t tiles;
    int32_t wm;
    int32_t wk;
    int32_t splits;       /* blocks that share the channels of one output */
    int32_t split_groups; /* groups of channels of each, fewer in the last */
    float act_min;
    float act_max;
    float norm_eps;
} ec_linear_w4_params;

#endif
