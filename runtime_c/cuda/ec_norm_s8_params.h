/* Parameters of the int8 kernels over rows on CUDA: softmax, normalisation, attention; C99. */
#ifndef EC_NORM_CUDA_S8_PARAMS_H
#define EC_NORM_CUDA_S8_PARAMS_H

#include <stdint.h>

/* ec_softmax_s8.cu */
typedef struct ec_softmax_s8_params {
    int32_t outer, count, inner;
} ec_softmax_s8_params;

/* ec_norm_s8.cu: `images` of `positions` x `channels`; a group normalises `width` channels of all positions. */
typedef struct ec_norm_s8_params {
    int32_t positions, channels, width;
    int32_t gain_step, fraction, shift, eps_high, eps_low, zero_in, zero_out;
} ec_norm_s8_params;

/* ec_attention_s8.cu; mask steps are in elements, 0 where the mask repeats. */
typedef struct ec_attention_s8_params {
    int32_t heads, kv_heads, queries, keys, depth, value_depth, causal;
    int32_t mask_batch, mask_head, mask_query, mask_key;
    int32_t zero_q, zero_k, zero_v, zero_y;
    int32_t score_m, score_shift, out_m, out_shift;
} ec_attention_s8_params;

#endif
