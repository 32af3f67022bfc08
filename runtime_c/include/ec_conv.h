/* Convolution, linear, matmul, pooling and resize: parameters and prototypes.
 *
 * Activations are NHWC, weights OHWI. All _s8 kernels equal the integer form of their op in
 * edgec/ops bit for bit:
 *
 *   y = clamp(zero_out + requantize(bias + sum x w, multiplier[o], shift[o]), act_min, act_max)
 *
 * where bias int32[O] is the folded bias b[o] - zero_in * sum w[o]: the kernel multiplies the raw x,
 * and a tap that lies in the padding counts as x = zero_in. multiplier is int32[O], shift uint8[O].
 * The host has made sure that |bias| + 256 * sum |w| < 2^31 for each output channel.
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

/* sum x[i] * w[i] */
static inline int32_t ec_dot_s8(const int8_t *x, const int8_t *w, int32_t count)
{
    int32_t sum = 0;
    int32_t i = 0;
    for (; i + 4 <= count; i += 4) {
        sum += x[i] * w[i];
        sum += x[i + 1] * w[i + 1];
        sum += x[i + 2] * w[i + 2];
        sum += x[i + 3] * w[i + 3];
    }
    for (; i < count; i++) {
        sum += x[i] * w[i];
    }
    return sum;
}

/* sum w[i] */
static inline int32_t ec_sum_s8(const int8_t *w, int32_t count)
{
    int32_t sum = 0;
    for (int32_t i = 0; i < count; i++) {
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

/* w int8[O][R][S][C / groups]. */
void ec_conv2d_s8(const ec_conv2d_params *p, int32_t row0, int32_t row1, const int8_t *x,
                  const int8_t *w, const int32_t *bias, const int32_t *multiplier,
                  const uint8_t *shift, int8_t *y);

/* w int8[O][R][S]; output channel o reads input channel o / (O / C). */
void ec_depthwise_conv2d_s8(const ec_conv2d_params *p, int32_t row0, int32_t row1, const int8_t *x,
                            const int8_t *w, const int32_t *bias, const int32_t *multiplier,
                            const uint8_t *shift, int8_t *y);

/* w float[O][R][S][C / groups], bias float[O]. */
void ec_conv2d_f32(const ec_conv2d_f32_params *p, int32_t row0, int32_t row1, const float *x,
                   const float *w, const float *bias, float *y);

/* w float[O][R][S], bias float[O]. */
void ec_depthwise_conv2d_f32(const ec_conv2d_f32_params *p, int32_t row0, int32_t row1,
                             const float *x, const float *w, const float *bias, float *y);

#endif
