/* Params of ec_depthwise_conv2d.cu. */
#ifndef EC_DEPTHWISE_CONV2D_PARAMS_H
#define EC_DEPTHWISE_CONV2D_PARAMS_H

#include <stdint.h>

typedef struct {
    int32_t in_h;
    int32_t in_w;
    int32_t channels;
    int32_t out_h;
    int32_t out_w;
    int32_t pad_top;
    int32_t pad_left;
    int32_t strips_w; /* strips of TW columns in an output row */
    int32_t strips;   /* strips of TH rows and TW columns in an output map */
    float act_min;
    float act_max;
} ec_depthwise_conv2d_params;

#endif
