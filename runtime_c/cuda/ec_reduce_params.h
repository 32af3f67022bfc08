/* Params of ec_reduce.cu and ec_argmax.cu. */
#ifndef EC_REDUCE_CUDA_PARAMS_H
#define EC_REDUCE_CUDA_PARAMS_H

#include <stdint.h>

typedef struct {
    int32_t rows;
    int32_t count;
    float scale; /* of a sum of floats; 1, or 1 / count for a mean */
} ec_reduce_rows_params;

typedef struct {
    int32_t count;
    int32_t inner;
    int32_t splits; /* blocks that share the rows of one column */
    float scale;
} ec_reduce_columns_params;

typedef struct {
    int32_t outputs;
    int32_t kept1; /* sizes of the two inner kept axes */
    int32_t kept2;
    int32_t kept_stride0;
    int32_t kept_stride1;
    int32_t kept_stride2;
    int32_t count; /* size0 * size1 * size2 */
    int32_t size1; /* sizes of the two inner reduced axes */
    int32_t size2;
    int32_t stride0;
    int32_t stride1;
    int32_t stride2;
    float scale;
} ec_reduce_any_params;

typedef struct {
    int32_t outputs; /* outer * inner */
    int32_t count;
    int32_t inner;
    int32_t splits; /* blocks that share a row */
} ec_argmax_cuda_params;

#endif
