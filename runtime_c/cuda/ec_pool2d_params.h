/* Params of ec_pool2d.cu and ec_resize.cu. */
#ifndef EC_CUDA_POOL2D_PARAMS_H
#define EC_CUDA_POOL2D_PARAMS_H

#include <stdint.h>

typedef struct {
    int32_t batch;
    int32_t in_h;
    int32_t in_w;
    int32_t channels;
    int32_t out_h;
    int32_t out_w;
    int32_t kernel_h; /* from here on 0 in an adaptive pooling */
    int32_t kernel_w;
    int32_t stride_h;
    int32_t stride_w;
    int32_t pad_top;
    int32_t pad_left;
    int32_t dilation_h;
    int32_t dilation_w;
    int32_t divisor; /* 0: the number of taps inside of the map */
} ec_pool2d_cuda_params;

typedef struct {
    int32_t batch;
    int32_t in_h;
    int32_t in_w;
    int32_t vectors; /* of a pixel */
    int32_t out_h;
    int32_t out_w;
} ec_resize_cuda_params;

#endif
