/* Parameters of the int8 kernels over windows and rows of a map on CUDA; C99. */
#ifndef EC_POOL2D_S8_PARAMS_H
#define EC_POOL2D_S8_PARAMS_H

#include <stdint.h>

/* ec_pool2d_s8.cu; divisor 0: the number of elements inside of the map. */
typedef struct ec_pool2d_s8_params {
    int32_t batch, in_h, in_w, channels, out_h, out_w;
    int32_t kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
    int32_t divisor, zero;
    int32_t splits, share; /* of the whole map: blocks that share its pixels, and how many each takes */
} ec_pool2d_s8_params;

/* ec_resize_s8.cu */
typedef struct ec_resize_s8_params {
    int32_t batch, in_h, in_w, channels, out_h, out_w;
} ec_resize_s8_params;

#endif
