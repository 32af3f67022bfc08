/*
 * ec_conv_grouped.cu: convolutions and transposed convolutions with groups, one output a thread.
 *
 *     y[n,p,q,o] = epilogue(clamp(b[o] + sum_{r,s,i} x[n, ..., g c + i] w[o,r,s,i])), g = the group of o
 *
 * x NHWC, w OHWI with the channels of one group, read RUN at a time, which divides them; b float[o], y NHWC. Sums are
 * float; the result is rounded once, after the epilogue. Equals the ops conv2d, conv1d and conv_transpose2d within the
 * rounding.
 */
#include "ec_cuda.cuh"
#include "ec_gemm_params.h"

template <typename T, int RUN, typename EPILOGUE>
__device__ __forceinline__ void ec_conv_grouped_body(const ec_conv_grouped_params &o, const void *x_, const void *w_,
                                                     const void *bias, void *y, const EPILOGUE &epilogue)
{
    const int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= o.m * o.n) {
        return;
    }
    const int row = at / o.n, column = at - row * o.n, line = row / o.q, image = line / o.p;
    const int channels = o.c / o.groups, group = column / (o.n / o.groups);
    const int top = (line - image * o.p) * o.stride_h - o.pad_h, left = (row - line * o.q) * o.stride_w - o.pad_w;
    const T *const x = static_cast<const T *>(x_) + (int64_t)image * o.h * o.w * o.c + group * channels;
    const T *w = static_cast<const T *>(w_) + (int64_t)column * o.taps * channels;
    float sum[1] = {static_cast<const float *>(bias)[column]};
    for (int tap = 0; tap < o.taps; tap++, w += channels) {
        const int r = tap / o.taps_w, s = tap - r * o.taps_w;
        const int y_up = top + r * o.dilation_h, x_up = left + s * o.dilation_w;
        const int y_in = y_up / o.up_h, x_in = x_up / o.up_w;
        if (y_up < 0 || x_up < 0 || y_in >= o.h || x_in >= o.w || y_in * o.up_h != y_up || x_in * o.up_w != x_up) {
            continue;
        }
        const T *const from = x + ((int64_t)y_in * o.w + x_in) * o.c;
#pragma unroll 2
        for (int i = 0; i < channels; i += RUN) {
            float a[RUN], b[RUN];
            ec_load<T, RUN>(a, from + i);
            ec_load<T, RUN>(b, w + i);
#pragma unroll
            for (int e = 0; e < RUN; e++) {
                sum[0] = fmaf(a[e], b[e], sum[0]);
            }
        }
    }
    sum[0] = fminf(fmaxf(sum[0], o.act_min), o.act_max);
    epilogue.template apply<1>(sum, (size_t)at, column);
    ec_store<T, 1>(static_cast<T *>(y) + at, sum);
}
