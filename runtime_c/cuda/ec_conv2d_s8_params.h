/* Parameters of the int8 kernels with weights on CUDA; C99. */
#ifndef EC_CONV2D_S8_PARAMS_H
#define EC_CONV2D_S8_PARAMS_H

#include <stdint.h>

/* ec_conv2d_s8.cu; a linear layer is a convolution of 1x1 maps. */
typedef struct ec_conv2d_s8_params {
    int32_t rows; /* outputs of one channel: N * P * Q */
    int32_t in_h, in_w, in_c;
    int32_t out_h, out_w, out_c;
    int32_t kernel_h, kernel_w;
    int32_t stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
    int32_t group_in, group_out; /* channels of a group; with runs, group_in is their length in k */
    int32_t in_bytes;            /* of x */
    int32_t k;                   /* R * S * group_in; with runs, R * group_in */
    int32_t k_blocks;            /* of 32, in the packed weights of an output */
    int32_t n_blocks;            /* of 32 outputs, in the packed weights of a group */
    int32_t splits, steps;       /* parts of k, and their steps of BK */
    int32_t act_min, act_max;
} ec_conv2d_s8_params;

/* ec_gemv_s8.cu */
typedef struct ec_gemv_s8_params {
    int32_t rows, in_c, out_c;
    int32_t act_min, act_max;
} ec_gemv_s8_params;

/* ec_depthwise_conv2d_s8.cu */
typedef struct ec_depthwise_s8_params {
    int32_t batch, in_h, in_w, channels, out_h, out_w;
    int32_t kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
    int32_t strips; /* of a row of outputs */
    int32_t zero_in, act_min, act_max;
} ec_depthwise_s8_params;

/* ec_conv_transpose2d_s8.cu */
typedef struct ec_conv_transpose2d_s8_params {
    int32_t batch, in_h, in_w, in_c, out_h, out_w, out_c, kernel_h, kernel_w;
    int32_t stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w, groups;
    int32_t zero_in, act_min, act_max;
} ec_conv_transpose2d_s8_params;

/* ec_matmul_s8.cu: leading axes n0, n1, n2 with the steps of each operand in elements. */
typedef struct ec_matmul_s8_params {
    int32_t n0, n1, n2, a_0, a_1, a_2, b_0, b_1, b_2;
    int32_t m, k, n, b_k, b_n;
    int32_t zero_a, zero_b, zero_out, multiplier, shift;
} ec_matmul_s8_params;

#endif
