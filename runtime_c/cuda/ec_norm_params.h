/* Params of ec_row_norm.cu, ec_group_norm.cu and ec_softmax.cu. */
#ifndef EC_CUDA_NORM_PARAMS_H
#define EC_CUDA_NORM_PARAMS_H

#include <stdint.h>

typedef struct {
    int32_t rows;
    int32_t count; /* elements of a row */
    float inverse; /* 1 / count */
    float eps;
} ec_row_norm_params;

typedef struct {
    int32_t positions;
    int32_t channels;
    int32_t group; /* channels of a group */
    float inverse; /* 1 / (positions * group) */
    float eps;
} ec_group_norm_cuda_params;

typedef struct {
    int32_t rows;
    int32_t channels;
    float eps;
} ec_batch_norm_params;

typedef struct {
    int32_t rows;  /* outer * inner */
    int32_t count; /* elements that sum to one */
    int32_t inner; /* distance of two of them */
} ec_softmax_cuda_params;

#endif
