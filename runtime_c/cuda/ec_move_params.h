/* Params of the kernels that move data: ec_copy.cu, ec_transpose.cu, ec_parts.cu, ec_index.cu. Sizes and strides count
 * units (ec_move.cuh); magic_i and shift_i divide by size_i. */
#ifndef EC_MOVE_PARAMS_H
#define EC_MOVE_PARAMS_H

#include <stdint.h>

typedef struct {
    int64_t offset;
    int64_t stride_0;
    int64_t stride_1;
    int64_t stride_2;
    int64_t stride_3;
    int64_t stride_4;
    int64_t stride_5;
    uint32_t total;
    uint32_t size_1;
    uint32_t size_2;
    uint32_t size_3;
    uint32_t size_4;
    uint32_t size_5;
    uint32_t magic_1;
    uint32_t magic_2;
    uint32_t magic_3;
    uint32_t magic_4;
    uint32_t magic_5;
    uint32_t shift_1;
    uint32_t shift_2;
    uint32_t shift_3;
    uint32_t shift_4;
    uint32_t shift_5;
} ec_copy_cuda_params;

/* Output axis i holds the input from `before_i` on; roll: it holds input element (c - before_i) mod size. */
typedef struct {
    uint32_t total;
    uint32_t size_1; /* of the output */
    uint32_t size_2;
    uint32_t size_3;
    uint32_t magic_1;
    uint32_t magic_2;
    uint32_t magic_3;
    uint32_t shift_1;
    uint32_t shift_2;
    uint32_t shift_3;
    int32_t from_0; /* sizes of the input */
    int32_t from_1;
    int32_t from_2;
    int32_t from_3;
    int32_t before_0;
    int32_t before_1;
    int32_t before_2;
    int32_t before_3;
    uint32_t fill_0; /* 16 bytes of new elements */
    uint32_t fill_1;
    uint32_t fill_2;
    uint32_t fill_3;
} ec_place_params;

typedef struct {
    int64_t x_outer0; /* strides of x and y, in elements */
    int64_t x_outer1;
    int64_t x_outer2;
    int64_t x_column; /* of the axis that lies densely in y */
    int64_t y_outer0;
    int64_t y_outer1;
    int64_t y_outer2;
    int64_t y_row; /* of the axis that lies densely in x */
    int64_t offset;
    int32_t outer1; /* sizes of the two inner of the outer axes */
    int32_t outer2;
    int32_t rows;
    int32_t columns;
} ec_transpose_params;

typedef struct {
    uint32_t total;
    uint32_t size_1; /* units of one run of the joined tensor */
    uint32_t magic_1;
    uint32_t shift_1;
    uint32_t end_0; /* of each part in a run, running; the joined size from the last part on */
    uint32_t end_1;
    uint32_t end_2;
    uint32_t end_3;
    uint32_t end_4;
    uint32_t end_5;
    uint32_t end_6;
    uint32_t end_7;
} ec_parts_cuda_params;

typedef struct {
    uint32_t total; /* units that the index names */
    uint32_t whole; /* units of x */
    int32_t axis_size;
    int32_t count;
    uint32_t size_1; /* units of an element of the axis */
    uint32_t magic_1;
    uint32_t shift_1;
    uint32_t magic_2; /* by count */
    uint32_t shift_2;
} ec_slices_cuda_params;

typedef struct {
    uint32_t total;
    uint32_t whole; /* elements of x */
    int32_t axis_size;
    int64_t axis_stride;
    uint32_t axis_count; /* indices along the axis, and how far apart */
    uint32_t axis_inner;
    int64_t stride_0;
    int64_t stride_1;
    int64_t stride_2;
    int64_t stride_3;
    uint32_t size_1;
    uint32_t size_2;
    uint32_t size_3;
    uint32_t magic_1;
    uint32_t magic_2;
    uint32_t magic_3;
    uint32_t shift_1;
    uint32_t shift_2;
    uint32_t shift_3;
} ec_gather_cuda_params;

#endif
