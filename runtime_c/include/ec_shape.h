/* Data movement: strided copies, concatenation, splitting, padding, rolling, lookups at indices.
 *
 * _x1 kernels move bytes or 1-byte elements, _x4 kernels 4-byte elements (float, int32) that
 * stand at multiples of 4. A params struct counts in elements of that size. Unused axes have
 * size 1, stride 0. No kernel here has scratch, rounds, or looks at what it moves, except for
 * indices: a negative index counts from the end, and what then lies outside is taken as the
 * nearest element.
 */
#ifndef EC_SHAPE_H
#define EC_SHAPE_H

#include <stdint.h>

/* y[i0,...,i5] = x[offset + sum_k i_k * stride_k], y row-major without gaps. Strides may be 0. */
typedef struct ec_copy_params {
    int32_t offset;
    int32_t size_0;
    int32_t size_1;
    int32_t size_2;
    int32_t size_3;
    int32_t size_4;
    int32_t size_5;
    int32_t stride_0;
    int32_t stride_1;
    int32_t stride_2;
    int32_t stride_3;
    int32_t stride_4;
    int32_t stride_5;
} ec_copy_params;

/* y is filled with `value` (the bits of an element), then y[offset + sum_k i_k * stride_k] =
 * x[i], x row-major without gaps. `total`: elements of y. */
typedef struct ec_pad_params {
    int32_t total;
    int32_t value;
    int32_t offset;
    int32_t size_0;
    int32_t size_1;
    int32_t size_2;
    int32_t size_3;
    int32_t size_4;
    int32_t size_5;
    int32_t stride_0;
    int32_t stride_1;
    int32_t stride_2;
    int32_t stride_3;
    int32_t stride_4;
    int32_t stride_5;
} ec_pad_params;

/* outer times: bytes_0 from (or to) the first part, bytes_1 from the second, ... */
typedef struct ec_parts_params {
    int32_t outer;
    int32_t bytes_0;
    int32_t bytes_1;
    int32_t bytes_2;
    int32_t bytes_3;
    int32_t bytes_4;
    int32_t bytes_5;
    int32_t bytes_6;
    int32_t bytes_7;
} ec_parts_params;

/* Row by row: pixels of bytes_0 and bytes_1 bytes side by side, `width` in a row. */
typedef struct ec_concat_rows_params {
    int32_t width;
    int32_t bytes_0;
    int32_t bytes_1;
    int32_t ring_0;
    int32_t ring_1;
    int32_t ring_y;
} ec_concat_rows_params;

/* Row by row: in_h rows of row_bytes bytes, `top` rows before them, `left` and `right` bytes round
 * each; new bytes hold `value` (0..255). */
typedef struct ec_pad_rows_params {
    int32_t in_h;
    int32_t row_bytes;
    int32_t top;
    int32_t left;
    int32_t right;
    int32_t value;
    int32_t ring_0;
    int32_t ring_y;
} ec_pad_rows_params;

/* y[.., (i_k + shift_k) mod size_k, ..] = x[.., i_k, ..]; 0 <= shift_k < size_k. Sizes of axis 3
 * are in bytes. */
typedef struct ec_roll_params {
    int32_t size_0;
    int32_t size_1;
    int32_t size_2;
    int32_t size_3;
    int32_t shift_0;
    int32_t shift_1;
    int32_t shift_2;
    int32_t shift_3;
} ec_roll_params;

/* An index of shape size_0..size_3; element i of it points to sum_k i_k * stride_k + index[i] *
 * axis_stride of a tensor of `total` elements, axis_size long there. */
typedef struct ec_gather_params {
    int32_t total;
    int32_t axis_size;
    int32_t axis_stride;
    int32_t size_0;
    int32_t size_1;
    int32_t size_2;
    int32_t size_3;
    int32_t stride_0;
    int32_t stride_1;
    int32_t stride_2;
    int32_t stride_3;
} ec_gather_params;

/* Whole slices at indices: `outer` blocks of axis_size slices of `bytes` bytes, `count` indices. */
typedef struct ec_slices_params {
    int32_t outer;
    int32_t axis_size;
    int32_t count;
    int32_t bytes;
} ec_slices_params;

/* The index as an element of [0, size). */
static inline int32_t ec_resolve_index(int32_t index, int32_t size)
{
    if (index < 0) {
        index = index < -size ? 0 : index + size;
    }
    return index < size ? index : size - 1;
}

/* Copies of one tensor under other axes: transpose, expand, slice, select, pixel_shuffle. */
void ec_copy_x1(const ec_copy_params *p, const void *x, void *y);
void ec_copy_x4(const ec_copy_params *p, const void *x, void *y);

void ec_pad_x1(const ec_pad_params *p, const void *x, void *y);
void ec_pad_x4(const ec_pad_params *p, const void *x, void *y);

/* Output rows row0 <= r < row1 of one image. */
void ec_pad_rows_x1(const ec_pad_rows_params *p, int32_t row0, int32_t row1, const void *x,
                    void *y);
void ec_concat2_rows_x1(const ec_concat_rows_params *p, int32_t row0, int32_t row1, const void *x0,
                        const void *x1, void *y);

/* Joins parts; an unused part has 0 bytes and any pointer. */
void ec_concat2_x1(const ec_parts_params *p, const void *x0, const void *x1, void *y);
void ec_concat8_x1(const ec_parts_params *p, const void *x0, const void *x1, const void *x2,
                   const void *x3, const void *x4, const void *x5, const void *x6, const void *x7,
                   void *y);

/* Cuts into parts. */
void ec_split2_x1(const ec_parts_params *p, const void *x, void *y0, void *y1);
void ec_split3_x1(const ec_parts_params *p, const void *x, void *y0, void *y1, void *y2);
void ec_split4_x1(const ec_parts_params *p, const void *x, void *y0, void *y1, void *y2, void *y3);

void ec_roll_x1(const ec_roll_params *p, const void *x, void *y);

/* y[i] = x at index i. */
void ec_gather_x1(const ec_gather_params *p, const void *x, const int32_t *index, void *y);
void ec_gather_x4(const ec_gather_params *p, const void *x, const int32_t *index, void *y);

/* y = x, then y at index i = source[i], in row-major order of i. y may be x. */
void ec_scatter_x1(const ec_gather_params *p, const void *x, const int32_t *index,
                   const void *source, void *y);
void ec_scatter_x4(const ec_gather_params *p, const void *x, const int32_t *index,
                   const void *source, void *y);
/* y = x, then y at index i += source[i]. y may be x. */
void ec_scatter_add_f32(const ec_gather_params *p, const float *x, const int32_t *index,
                        const float *source, float *y);

/* Slices of x at the indices: index_select, embedding. */
void ec_index_select_x1(const ec_slices_params *p, const void *x, const int32_t *index, void *y);
/* y = x with the slices at the indices replaced by the source's. y may be x. */
void ec_index_copy_x1(const ec_slices_params *p, const void *x, const int32_t *index,
                      const void *source, void *y);

#endif
