/* Params of ec_linear_plain.cu. */
#ifndef EC_LINEAR_PLAIN_PARAMS_H
#define EC_LINEAR_PLAIN_PARAMS_H

#include <stdint.h>

typedef struct {
    int32_t rows;
    int32_t in_c;
    int32_t out_c;
    float act_min;
    float act_max;
} ec_linear_plain_params;

#endif
