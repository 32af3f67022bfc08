/* Parameters of the int8 pointwise kernels on CUDA; C99. */
#ifndef EC_POINTWISE_S8_PARAMS_H
#define EC_POINTWISE_S8_PARAMS_H

#include <stdint.h>

/* ec_binary_s8.cu: merged axes of the output, the last d5, and the steps of each operand in elements. */
typedef struct ec_binary_cuda_s8_params {
    int32_t size; /* of the output */
    int32_t d1, d2, d3, d4, d5;
    int32_t a0, a1, a2, a3, a4, b0, b1, b2, b3, b4;
    int32_t zero_a, zero_b, multiplier_a, multiplier_b, offset, shift, zero_out, act_min, act_max;
} ec_binary_cuda_s8_params;

/* ec_select_s8.cu */
typedef struct ec_select_s8_params {
    int32_t size; /* of the output */
    int32_t d0, d1, d2, d3, d4, d5;
    int32_t c0, c1, c2, c3, c4, c5, a0, a1, a2, a3, a4, a5, b0, b1, b2, b3, b4, b5;
    int32_t value;
} ec_select_s8_params;

/* ec_unary_s8.cu */
typedef struct ec_unary_s8_params {
    int32_t size, channels;
    int32_t zero_in, multiplier, shift, zero_out;
    float scale; /* of dequantize; its inverse in quantize */
} ec_unary_s8_params;

/* ec_reduce_s8.cu: three kept and three reduced axes with their steps in elements. */
typedef struct ec_reduce_cuda_s8_params {
    int32_t kept0, kept1, kept2, kept_stride0, kept_stride1, kept_stride2;
    int32_t size0, size1, size2, stride0, stride1, stride2;
    int32_t zero_in, multiplier, shift, zero_out;
} ec_reduce_cuda_s8_params;

#endif
