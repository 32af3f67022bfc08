/* Convolution, linear, matmul, pooling and resize: parameters and prototypes.
 *
 * Activations are NHWC, weights OHWI. All _s8 kernels equal the integer form of their op in
 * edgec/ops bit for bit:
 *
 *   y = clamp(zero_out + requantize(bias + sum x w, multiplier[o], shift[o]), act_min, act_max)
 *
 * where bias int32[O] is the folded bias b[o] - zero_in * sum w[o]: the kernel multiplies the raw
 * x, and a tap that lies in the padding counts as x = zero_in. multiplier is int32[O], shift
 * uint8[O]. The host has made sure that |bias| + 256 * sum |w| < 2^31 for each output channel.
 */
#ifndef EC_CONV_H
#define EC_CONV_H

#include <stdint.h>

/* conv2d and depthwise, int8. in_c and out_c count all groups; a group has in_c / groups inputs and
 * out_c / groups outputs. pad_top and pad_left may be 0 or more; what lies beyond the map at the
 * bottom and right is padding too. For depthwise groups == in_c. */
typedef struct ec_conv2d_params {
    int32_t in_h;
    int32_t in_w;
    int32_t in_c;
    int32_t out_h;
    int32_t out_w;
    int32_t out_c;
    int32_t kernel_h;
    int32_t kernel_w;
    int32_t stride_h;
    int32_t stride_w;
    int32_t pad_top;
    int32_t pad_left;
    int32_t dilation_h;
    int32_t dilation_w;
    int32_t groups;
    int32_t zero_in;
    int32_t zero_out;
    int32_t act_min;
    int32_t act_max;
    int32_t ring_0;
    int32_t ring_y;
} ec_conv2d_params;

/* The same in float; act_min and act_max are finite. */
typedef struct ec_conv2d_f32_params {
    int32_t in_h;
    int32_t in_w;
    int32_t in_c;
    int32_t out_h;
    int32_t out_w;
    int32_t out_c;
    int32_t kernel_h;
    int32_t kernel_w;
    int32_t stride_h;
    int32_t stride_w;
    int32_t pad_top;
    int32_t pad_left;
    int32_t dilation_h;
    int32_t dilation_w;
    int32_t groups;
    float act_min;
    float act_max;
    int32_t ring_0;
    int32_t ring_y;
} ec_conv2d_f32_params;

/* linear, int8: `rows` vectors of in_c elements (all leading axes of the input). */
typedef struct ec_linear_params {
    int32_t rows;
    int32_t in_c;
    int32_t out_c;
    int32_t zero_in;
    int32_t zero_out;
    int32_t act_min;
    int32_t act_max;
} ec_linear_params;

/* The same in float; act_min and act_max are finite. */
typedef struct ec_linear_f32_params {
    int32_t rows;
    int32_t in_c;
    int32_t out_c;
    float act_min;
    float act_max;
} ec_linear_f32_params;

/* Max and average pooling, int8 and float. Input and output share `zero`, which float ignores.
 * divisor > 0 divides each sum; 0 divides by the number of taps inside the map. */
typedef struct ec_pool2d_params {
    int32_t in_h;
    int32_t in_w;
    int32_t channels;
    int32_t out_h;
    int32_t out_w;
    int32_t kernel_h;
    int32_t kernel_w;
    int32_t stride_h;
    int32_t stride_w;
    int32_t pad_top;
    int32_t pad_left;
    int32_t dilation_h;
    int32_t dilation_w;
    int32_t divisor;
    int32_t zero;
    int32_t ring_0;
    int32_t ring_y;
} ec_pool2d_params;

/* Transposed convolution, int8. The output counts as padded by pad_top and pad_left rows and
 * columns that are not stored. step = stride / gcd(stride, dilation): every step-th tap of a
 * window reaches an output; back = dilation / gcd: so many input rows (columns) does the next such
 * tap lie before. */
typedef struct ec_conv_transpose2d_params {
    int32_t batch;
    int32_t in_h;
    int32_t in_w;
    int32_t in_c;
    int32_t out_h;
    int32_t out_w;
    int32_t out_c;
    int32_t kernel_h;
    int32_t kernel_w;
    int32_t stride_h;
    int32_t stride_w;
    int32_t pad_top;
    int32_t pad_left;
    int32_t dilation_h;
    int32_t dilation_w;
    int32_t groups;
    int32_t step_h;
    int32_t step_w;
    int32_t back_h;
    int32_t back_w;
    int32_t zero_in;
    int32_t zero_out;
    int32_t act_min;
    int32_t act_max;
} ec_conv_transpose2d_params;

/* The same in float; act_min and act_max are finite. */
typedef struct ec_conv_transpose2d_f32_params {
    int32_t batch;
    int32_t in_h;
    int32_t in_w;
    int32_t in_c;
    int32_t out_h;
    int32_t out_w;
    int32_t out_c;
    int32_t kernel_h;
    int32_t kernel_w;
    int32_t stride_h;
    int32_t stride_w;
    int32_t pad_top;
    int32_t pad_left;
    int32_t dilation_h;
    int32_t dilation_w;
    int32_t groups;
    int32_t step_h;
    int32_t step_w;
    int32_t back_h;
    int32_t back_w;
    float act_min;
    float act_max;
} ec_conv_transpose2d_f32_params;

/* matmul: y[n0,n1,n2,M,N] = a[...,M,K] b[...]. Leading axes are brought to three; a_0 is the
 * number of elements between neighbours of a along axis n0, 0 where a is broadcast. Element (k, n)
 * of b stands at k * b_k + n * b_n. int8: one multiplier and shift. */
typedef struct ec_matmul_params {
    int32_t n0;
    int32_t n1;
    int32_t n2;
    int32_t a_0;
    int32_t a_1;
    int32_t a_2;
    int32_t b_0;
    int32_t b_1;
    int32_t b_2;
    int32_t m;
    int32_t k;
    int32_t n;
    int32_t b_k;
    int32_t b_n;
    int32_t zero_a;
    int32_t zero_b;
    int32_t zero_out;
    int32_t multiplier;
    int32_t shift;
} ec_matmul_params;

/* The same in float. */
typedef struct ec_matmul_f32_params {
    int32_t n0;
    int32_t n1;
    int32_t n2;
    int32_t a_0;
    int32_t a_1;
    int32_t a_2;
    int32_t b_0;
    int32_t b_1;
    int32_t b_2;
    int32_t m;
    int32_t k;
    int32_t n;
    int32_t b_k;
    int32_t b_n;
} ec_matmul_f32_params;

/* Adaptive pooling: window p holds rows floor(p * H / P) <= h < ceil((p + 1) * H / P). Float
 * ignores `zero`. */
typedef struct ec_adaptive_pool2d_params {
    int32_t batch;
    int32_t in_h;
    int32_t in_w;
    int32_t channels;
    int32_t out_h;
    int32_t out_w;
    int32_t zero;
} ec_adaptive_pool2d_params;

/* Resize: `pixel` is the channels of bilinear, the bytes of all channels of nearest. */
typedef struct ec_resize_params {
    int32_t batch;
    int32_t in_h;
    int32_t in_w;
    int32_t pixel;
    int32_t out_h;
    int32_t out_w;
} ec_resize_params;

/* Armv6-M has eight registers for arithmetic: inside of a larger loop they run out and every
 * product spills, out of line the loop takes six instructions. Other targets inline and unroll. */
#if defined(__ARM_ARCH_6M__)
#define EC_INNER_LOOP static __attribute__((noinline, unused))
#else
#define EC_INNER_LOOP static inline
#endif

/* sum x[i] * w[i]; downwards, so that the index is the loop count. */
EC_INNER_LOOP int32_t ec_dot_s8(const int8_t *x, const int8_t *w, int32_t count)
{
    int32_t sum = 0;
    for (int32_t i = count; i-- > 0;) {
        sum += x[i] * w[i];
    }
    return sum;
}

/* sum a[i] * b[i] */
static inline float ec_dot_f32(const float *a, const float *b, int32_t count)
{
    float sum = 0.0f;
    for (int32_t i = 0; i < count; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

static inline float ec_clamp_f32(float value, float low, float high)
{
    if (value < low) {
        return low;
    }
    return value > high ? high : value;
}

/* sum w[i] */
EC_INNER_LOOP int32_t ec_sum_s8(const int8_t *w, int32_t count)
{
    int32_t sum = 0;
    for (int32_t i = count; i-- > 0;) {
        sum += w[i];
    }
    return sum;
}

/* Kernel taps first <= t < end of a window that starts at `start` lie inside a map of `size`. */
typedef struct ec_taps {
    int32_t first;
    int32_t end;
} ec_taps;

static inline ec_taps ec_taps_inside(int32_t start, int32_t size, int32_t kernel, int32_t dilation)
{
    ec_taps taps = {0, kernel};
    while (taps.first < kernel && start + taps.first * dilation < 0) {
        taps.first++;
    }
    while (taps.end > taps.first && start + (taps.end - 1) * dilation >= size) {
        taps.end--;
    }
    return taps;
}

/* Next slot of a row walk through a ring buffer: `by` rows on. */
static inline int32_t ec_ring_step(int32_t slot, int32_t by, int32_t ring)
{
    slot += by;
    while (slot >= ring) {
        slot -= ring;
    }
    return slot;
}

/* Taps first, first + step, ... < end of a transposed window reach the output; the first reads
 * input row `input`, each next one `back` rows before. */
typedef struct ec_transposed_taps {
    int32_t first;
    int32_t end;
    int32_t input;
} ec_transposed_taps;

/* `at`: output row plus padding; `size`: input rows. */
static inline ec_transposed_taps ec_taps_reaching(int32_t at, int32_t size, int32_t kernel,
                                                  int32_t stride, int32_t dilation, int32_t step,
                                                  int32_t back)
{
    ec_transposed_taps taps = {0, kernel, 0};
    while (taps.first < kernel && (at - taps.first * dilation) % stride != 0) {
        taps.first++;
    }
    if (taps.first == kernel) {
        return taps;
    }
    taps.input = (at - taps.first * dilation) / stride;
    while (taps.first < kernel && taps.input >= size) {
        taps.first += step;
        taps.input -= back;
    }
    int32_t input = taps.input;
    taps.end = taps.first;
    while (taps.end < kernel && input >= 0) {
        taps.end += step;
        input -= back;
    }
    return taps;
}

/* w int8[O][R][S][C / groups]. */
void ec_conv2d_s8(const ec_conv2d_params *p, int32_t row0, int32_t row1, const int8_t *x,
                  const int8_t *w, const int32_t *bias, const int32_t *multiplier,
                  const uint8_t *shift, int8_t *y);

/* w int8[O][C]; 1x1 kernel, one group, no padding. */
void ec_pointwise_conv2d_s8(const ec_conv2d_params *p, int32_t row0, int32_t row1, const int8_t *x,
                            const int8_t *w, const int32_t *bias, const int32_t *multiplier,
                            const uint8_t *shift, int8_t *y);

/* w int8[R][S][C]; one output a channel. */
void ec_depthwise_conv2d_s8(const ec_conv2d_params *p, int32_t row0, int32_t row1, const int8_t *x,
                            const int8_t *w, const int32_t *bias, const int32_t *multiplier,
                            const uint8_t *shift, int8_t *y);

/* w float[O][R][S][C / groups], bias float[O]. */
void ec_conv2d_f32(const ec_conv2d_f32_params *p, int32_t row0, int32_t row1, const float *x,
                   const float *w, const float *bias, float *y);

/* w float[O][R][S], bias float[O]; output channel o reads input channel o / (O / C). */
void ec_depthwise_conv2d_f32(const ec_conv2d_f32_params *p, int32_t row0, int32_t row1,
                             const float *x, const float *w, const float *bias, float *y);

/* w int8[O][R][S][C / groups]; bias int32[O] is NOT folded. */
void ec_conv_transpose2d_s8(const ec_conv_transpose2d_params *p, const int8_t *x, const int8_t *w,
                            const int32_t *bias, const int32_t *multiplier, const uint8_t *shift,
                            int8_t *y);
void ec_conv_transpose2d_f32(const ec_conv_transpose2d_f32_params *p, const float *x,
                             const float *w, const float *bias, float *y);

/* w int8[O][K]. */
void ec_linear_s8(const ec_linear_params *p, const int8_t *x, const int8_t *w, const int32_t *bias,
                  const int32_t *multiplier, const uint8_t *shift, int8_t *y);
void ec_linear_f32(const ec_linear_f32_params *p, const float *x, const float *w,
                   const float *bias, float *y);
/* scratch: 16 K floats. */
void ec_linear_f32_simd(const ec_linear_f32_params *p, const float *x, const float *w,
                        const float *bias, float *y, float *scratch);

void ec_matmul_s8(const ec_matmul_params *p, const int8_t *a, const int8_t *b, int8_t *y);
void ec_matmul_f32(const ec_matmul_f32_params *p, const float *a, const float *b, float *y);
/* scratch: 16 K floats. */
void ec_matmul_f32_simd(const ec_matmul_f32_params *p, const float *a, const float *b, float *y,
                        float *scratch);

void ec_max_pool2d_s8(const ec_pool2d_params *p, int32_t row0, int32_t row1, const int8_t *x,
                      int8_t *y);
void ec_max_pool2d_f32(const ec_pool2d_params *p, int32_t row0, int32_t row1, const float *x,
                       float *y);
void ec_avg_pool2d_s8(const ec_pool2d_params *p, int32_t row0, int32_t row1, const int8_t *x,
                      int8_t *y);
void ec_avg_pool2d_f32(const ec_pool2d_params *p, int32_t row0, int32_t row1, const float *x,
                       float *y);
void ec_adaptive_avg_pool2d_s8(const ec_adaptive_pool2d_params *p, const int8_t *x, int8_t *y);
void ec_adaptive_avg_pool2d_even_s8(const ec_adaptive_pool2d_params *p, const int8_t *x,
                                    int8_t *y);
void ec_adaptive_avg_pool2d_f32(const ec_adaptive_pool2d_params *p, const float *x, float *y);
void ec_adaptive_max_pool2d_s8(const ec_adaptive_pool2d_params *p, const int8_t *x, int8_t *y);
void ec_adaptive_max_pool2d_f32(const ec_adaptive_pool2d_params *p, const float *x, float *y);

/* rows uint16[P], columns uint16[Q]: source of each output row and column. */
void ec_resize_nearest_x1(const ec_resize_params *p, const void *x, const uint16_t *rows,
                          const uint16_t *columns, void *y);

/* rows uint16[P][3], columns uint16[Q][3]: first source, second source, weight of the second in
 * 2^-11. */
void ec_resize_bilinear_s8(const ec_resize_params *p, const int8_t *x, const uint16_t *rows,
                           const uint16_t *columns, int8_t *y);

/* rows uint16[P][2], columns uint16[Q][2]: first and second source; row_weight float[P] and
 * column_weight float[Q]: weight of the second. */
void ec_resize_bilinear_f32(const ec_resize_params *p, const float *x, const uint16_t *rows,
                            const uint16_t *columns, const float *row_weight,
                            const float *column_weight, float *y);

#endif
