/* Pointwise operations, reductions and conversions: parameters and prototypes.
 *
 * The integer kernels equal the integer form of their op in edgec/ops bit for bit. Kernels named
 * _rows_ take NHWC maps of one image and compute output rows row0 <= r < row1; row r of a buffer
 * stands at r % ring, and an operand without rows (a vector along the channels, a number) has ring
 * 1. An output may be the same memory as an operand of its size, except where a kernel says
 * otherwise.
 *
 * Broadcasting: element (i0, ..., i5) of the output, 0 <= ik < dk, reads operand a at the sum of
 * ik * ak; a stride of 0 repeats. The host has merged axes, so that few of them exceed 1.
 */
#ifndef EC_POINTWISE_H
#define EC_POINTWISE_H

#include <stdint.h>

/* y[i] = table[x[i] + 128], `size` elements. */
typedef struct ec_lut_params {
    int32_t size;
} ec_lut_params;

/* The same on rows of `row_size` elements. */
typedef struct ec_lut_rows_params {
    int32_t row_size;
    int32_t ring_0;
    int32_t ring_y;
} ec_lut_rows_params;

/* add, sub, mul, minimum, maximum in int8. The meaning of multipliers and offset is each kernel's.
 * For the _rows_ kernels d0..d5 and the strides are those of one row, row_a, row_b and row_y the
 * elements from one row of a buffer to the next; the others do not read row_* and ring_*. */
typedef struct ec_binary_s8_params {
    int32_t d0;
    int32_t d1;
    int32_t d2;
    int32_t d3;
    int32_t d4;
    int32_t d5;
    int32_t a0;
    int32_t a1;
    int32_t a2;
    int32_t a3;
    int32_t a4;
    int32_t a5;
    int32_t b0;
    int32_t b1;
    int32_t b2;
    int32_t b3;
    int32_t b4;
    int32_t b5;
    int32_t zero_a;
    int32_t zero_b;
    int32_t multiplier_a;
    int32_t multiplier_b;
    int32_t offset;
    int32_t shift;
    int32_t zero_out;
    int32_t act_min;
    int32_t act_max;
    int32_t row_a;
    int32_t row_b;
    int32_t row_y;
    int32_t ring_0;
    int32_t ring_1;
    int32_t ring_y;
} ec_binary_s8_params;

/* where: strides c of the condition, a and b of the two sources. */
typedef struct ec_where_params {
    int32_t d0;
    int32_t d1;
    int32_t d2;
    int32_t d3;
    int32_t d4;
    int32_t d5;
    int32_t c0;
    int32_t c1;
    int32_t c2;
    int32_t c3;
    int32_t c4;
    int32_t c5;
    int32_t a0;
    int32_t a1;
    int32_t a2;
    int32_t a3;
    int32_t a4;
    int32_t a5;
    int32_t b0;
    int32_t b1;
    int32_t b2;
    int32_t b3;
    int32_t b4;
    int32_t b5;
} ec_where_params;

/* masked_fill: strides c of the mask; x is whole. */
typedef struct ec_masked_fill_params {
    int32_t d0;
    int32_t d1;
    int32_t d2;
    int32_t d3;
    int32_t d4;
    int32_t d5;
    int32_t c0;
    int32_t c1;
    int32_t c2;
    int32_t c3;
    int32_t c4;
    int32_t c5;
    int32_t value;
} ec_masked_fill_params;

/* prelu: multiplier and shift of x >= zero_in; those below it are per channel. */
typedef struct ec_prelu_params {
    int32_t size;
    int32_t channels;
    int32_t zero_in;
    int32_t multiplier;
    int32_t shift;
    int32_t zero_out;
} ec_prelu_params;

/* The same on rows of `row_size` elements. */
typedef struct ec_prelu_rows_params {
    int32_t row_size;
    int32_t channels;
    int32_t zero_in;
    int32_t multiplier;
    int32_t shift;
    int32_t zero_out;
    int32_t ring_0;
    int32_t ring_y;
} ec_prelu_rows_params;

/* Reductions. Output element (i0, i1, i2), 0 <= ik < keptk, reduces the elements at
 * sum ik * kept_stridek + sum jk * stridek, 0 <= jk < sizek. */
typedef struct ec_reduce_s8_params {
    int32_t kept0;
    int32_t kept1;
    int32_t kept2;
    int32_t kept_stride0;
    int32_t kept_stride1;
    int32_t kept_stride2;
    int32_t size0;
    int32_t size1;
    int32_t size2;
    int32_t stride0;
    int32_t stride1;
    int32_t stride2;
    int32_t zero_in;
    int32_t multiplier;
    int32_t shift;
    int32_t zero_out;
} ec_reduce_s8_params;

/* The same in float; a sum is divided by `divisor`. */
typedef struct ec_reduce_f32_params {
    int32_t kept0;
    int32_t kept1;
    int32_t kept2;
    int32_t kept_stride0;
    int32_t kept_stride1;
    int32_t kept_stride2;
    int32_t size0;
    int32_t size1;
    int32_t size2;
    int32_t stride0;
    int32_t stride1;
    int32_t stride2;
    float divisor;
} ec_reduce_f32_params;

/* The same of integers. */
typedef struct ec_reduce_i32_params {
    int32_t kept0;
    int32_t kept1;
    int32_t kept2;
    int32_t kept_stride0;
    int32_t kept_stride1;
    int32_t kept_stride2;
    int32_t size0;
    int32_t size1;
    int32_t size2;
    int32_t stride0;
    int32_t stride1;
    int32_t stride2;
} ec_reduce_i32_params;

/* argmax over the middle of x[outer][size][inner]. */
typedef struct ec_argmax_params {
    int32_t outer;
    int32_t size;
    int32_t inner;
} ec_argmax_params;

/* quantize: `inverse` is 1 / scale rounded to float. */
typedef struct ec_quantize_params {
    int32_t size;
    float inverse;
    int32_t zero;
} ec_quantize_params;

typedef struct ec_dequantize_params {
    int32_t size;
    float scale;
    int32_t zero;
} ec_dequantize_params;

typedef struct ec_requantize_params {
    int32_t size;
    int32_t zero_in;
    int32_t multiplier;
    int32_t shift;
    int32_t zero_out;
} ec_requantize_params;

void ec_lut_s8(const ec_lut_params *p, const int8_t *x, const int8_t *table, int8_t *y);
void ec_lut_rows_s8(const ec_lut_rows_params *p, int32_t row0, int32_t row1, const int8_t *x,
                    const int8_t *table, int8_t *y);

/* Also sub, with a negative multiplier_b. */
void ec_add_s8(const ec_binary_s8_params *p, const int8_t *a, const int8_t *b, int8_t *y);
void ec_add_rows_s8(const ec_binary_s8_params *p, int32_t row0, int32_t row1, const int8_t *a,
                    const int8_t *b, int8_t *y);
void ec_mul_s8(const ec_binary_s8_params *p, const int8_t *a, const int8_t *b, int8_t *y);
void ec_mul_rows_s8(const ec_binary_s8_params *p, int32_t row0, int32_t row1, const int8_t *a,
                    const int8_t *b, int8_t *y);
void ec_minimum_s8(const ec_binary_s8_params *p, const int8_t *a, const int8_t *b, int8_t *y);
void ec_maximum_s8(const ec_binary_s8_params *p, const int8_t *a, const int8_t *b, int8_t *y);

void ec_where_x1(const ec_where_params *p, const uint8_t *condition, const int8_t *a,
                 const int8_t *b, int8_t *y);
void ec_masked_fill_x1(const ec_masked_fill_params *p, const int8_t *x, const uint8_t *mask,
                       int8_t *y);

/* multiplier int32[channels] with the sign of the slope, shift uint8[channels]. */
void ec_prelu_s8(const ec_prelu_params *p, const int8_t *x, const int32_t *multiplier,
                 const uint8_t *shift, int8_t *y);
void ec_prelu_rows_s8(const ec_prelu_rows_params *p, int32_t row0, int32_t row1, const int8_t *x,
                      const int32_t *multiplier, const uint8_t *shift, int8_t *y);

/* The output is other memory than the input. */
void ec_reduce_sum_s8(const ec_reduce_s8_params *p, const int8_t *x, int8_t *y);
void ec_reduce_max_s8(const ec_reduce_s8_params *p, const int8_t *x, int8_t *y);
void ec_reduce_min_s8(const ec_reduce_s8_params *p, const int8_t *x, int8_t *y);
void ec_reduce_sum_f32(const ec_reduce_f32_params *p, const float *x, float *y);
void ec_reduce_sum_f32_simd(const ec_reduce_f32_params *p, const float *x, float *y);
void ec_reduce_max_f32(const ec_reduce_f32_params *p, const float *x, float *y);
void ec_reduce_min_f32(const ec_reduce_f32_params *p, const float *x, float *y);
void ec_reduce_sum_i32(const ec_reduce_i32_params *p, const int32_t *x, int32_t *y);
void ec_reduce_max_i32(const ec_reduce_i32_params *p, const int32_t *x, int32_t *y);
void ec_reduce_min_i32(const ec_reduce_i32_params *p, const int32_t *x, int32_t *y);
void ec_argmax_s8(const ec_argmax_params *p, const int8_t *x, int32_t *y);
void ec_argmax_f32(const ec_argmax_params *p, const float *x, int32_t *y);

/* The output is other memory than the input. */
void ec_quantize_f32(const ec_quantize_params *p, const float *x, int8_t *y);
void ec_dequantize_s8(const ec_dequantize_params *p, const int8_t *x, float *y);
void ec_requantize_s8_map(const ec_requantize_params *p, const int8_t *x, int8_t *y);

#endif
