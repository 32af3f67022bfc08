/*
 * ec_gemm_params.h: the parameters of the matrix products and convolutions of the CUDA backend.
 *
 * m rows by n columns with sums over k. K is cut into `splits` parts, each in a block of its own; act_min and act_max
 * clamp the results.
 */
#ifndef EC_GEMM_PARAMS_H
#define EC_GEMM_PARAMS_H

#include <stdint.h>

/* Rows of a stand pitch_a apart, those of b (columns of the product) pitch_b. */
typedef struct ec_gemm_params {
    int32_t m, n, k, splits;
    int32_t pitch_a, pitch_b;
    float act_min, act_max;
} ec_gemm_params;

/* As above, not clamped, for each place of three leading axes of sizes n0, n1, n2; a and b step by a_i, b_i elements. */
typedef struct ec_matmul_params {
    int32_t m, n, k, splits;
    int32_t pitch_a, pitch_b;
    int32_t n1, n2;
    int64_t a_0, a_1, a_2, b_0, b_1, b_2;
} ec_matmul_params;

/*
 * Rows are the places of y[N,p,q,n]: row (image, i, j) reads x[image, (i stride_h - pad_h + r dilation_h) / up_h, ...],
 * where that is whole and inside of the map [h,w,c]. k = taps_h * taps_w * c; weights stand pitch_b apart.
 */
typedef struct ec_conv_params {
    int32_t m, n, k, splits;
    int32_t pitch_b;
    int32_t h, w, c, p, q, taps_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, up_h, up_w;
    float act_min, act_max;
} ec_conv_params;

/* As above with `groups`; `taps` = taps_h * taps_w. */
typedef struct ec_conv_grouped_params {
    int32_t m, n, groups, taps;
    int32_t h, w, c, p, q, taps_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, up_h, up_w;
    float act_min, act_max;
} ec_conv_grouped_params;

/* As ec_conv_params, of stride_h, ..., without `up`: blocks make tiles of places that read patches of patch_h rows of
 * patch_w elements; tiles_h * tiles_w cover an image. */
typedef struct ec_conv_patch_params {
    int32_t n, k, pitch_b;
    int32_t h, w, c, p, q, taps_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
    int32_t patch_h, patch_w, tiles_h, tiles_w;
    float act_min, act_max;
} ec_conv_patch_params;

#endif
