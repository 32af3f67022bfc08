/*
 * layer_norm, rms_norm and group_norm, int8, integers only. Over the n elements that are normalised together:
 *
 *   d = n x - sum(x),         V = n sum(x^2) - sum(x)^2       (RMS: d = n (x - zero_in), V = n sum((x - zero_in)^2))
 *   U = V 2^fraction + eps,   1 / sqrt(U) = r 2^(k - 60)      (edgec/fixedpoint.py, reciprocal_sqrt)
 *   t = (d r rounded) >> (60 - 16 - fraction / 2 - k)
 *   y = clamp(zero_out + ((t gain[c] + bias[c] 2^16 rounded) >> (16 + shift)), -128, 127)
 *
 * x, y int8[images][positions][channels]; a group is `width` channels of all positions of an image, n = positions *
 * width <= 2^20 (layer_norm and rms_norm: one position, width == channels); y may be x. gain, bias int32[channels] or
 * [1] with gain_step 0. A block of THREADS makes one group. Grid: (rows, 1, 1), or (groups, images, 1) of group_norm.
 * No scratch. Equals the ops' quant in edgec/ops/norm.py and edgec/ops/norm_integer.py.
 */
#include "ec_cuda.cuh"
#include "ec_norm_s8_params.h"
#include "ec_requant.cuh"

/* floor(sqrt(v)), 2^60 <= v < 2^62: by a reciprocal root in double, Newton's steps; it is off by one at most. */
__device__ __forceinline__ uint64_t ec_integer_sqrt(uint64_t v)
{
    const double x = (double)v;
    double r;
    asm("rsqrt.approx.ftz.f64 %0, %1;" : "=d"(r) : "d"(x));
#pragma unroll
    for (int step = 0; step < 3; step++) {
        r = r * fma(-0.5 * x * r, r, 1.5);
    }
    uint64_t root = (uint64_t)(x * r);
    root -= root * root > v;
    root += (root + 1) * (root + 1) <= v;
    return root;
}

/* r and the shift of t, from n^2 times the variance. */
__device__ __forceinline__ int2 ec_norm_scale_of(const ec_norm_s8_params &p, int64_t variance)
{
    const uint64_t eps = ((uint64_t)(uint32_t)p.eps_high << 32) | (uint32_t)p.eps_low;
    uint64_t v = ((uint64_t)variance << p.fraction) + eps;
    const int32_t shift = 60 - 16 - p.fraction / 2;
    if (v == 0) {
        return make_int2(0, shift);
    }
    const int32_t k = (__clzll((long long)v) - 2) / 2; /* the largest with v 4^k < 2^62 */
    v <<= 2 * k;
    return make_int2((int32_t)(((uint64_t)1 << 60) / ec_integer_sqrt(v)), shift - k);
}

__device__ __forceinline__ int32_t ec_norm_output(const ec_norm_s8_params &p, int32_t d, int2 scale, int32_t gain,
                                                  int32_t bias)
{
    const int32_t t = (int32_t)(((int64_t)d * scale.x + ((int64_t)1 << (scale.y - 1))) >> scale.y);
    const int64_t acc = (int64_t)t * gain + (int64_t)bias * 65536;
    const int32_t down = 16 + p.shift;
    const int64_t y = p.zero_out + ((acc + ((int64_t)1 << (down - 1))) >> down);
    return (int32_t)min(max(y, (int64_t)-128), (int64_t)127);
}

/* The sum of `v` over the block, in every thread. */
template <int THREADS> __device__ __forceinline__ int64_t ec_block_sum_long(int64_t v, int64_t *shared)
{
#pragma unroll
    for (int step = 16; step > 0; step >>= 1) {
        v += __shfl_xor_sync(0xffffffffu, v, step);
    }
    if (THREADS == 32) {
        return v;
    }
    __syncthreads();
    if (threadIdx.x % 32 == 0) {
        shared[threadIdx.x / 32] = v;
    }
    __syncthreads();
    v = 0;
#pragma unroll
    for (int i = 0; i < THREADS / 32; i++) {
        v += shared[i];
    }
    return v;
}

/* The group that begins at element `first`; the tables begin at channel `channel`. */
template <bool RMS, int THREADS>
__device__ __forceinline__ void ec_norm_s8_group(const ec_norm_s8_params &p, size_t first, int channel,
                                                 const void *input, const void *gain, const void *bias, void *output)
{
    __shared__ int64_t shared[THREADS / 32];
    const int8_t *const x = static_cast<const int8_t *>(input) + first;
    int8_t *const y = static_cast<int8_t *>(output) + first;
    const int32_t n = p.positions * p.width, zero = RMS ? p.zero_in : 0;
    int64_t sum = 0, squares = 0;
    for (int i = threadIdx.x; i < n; i += THREADS) {
        const int position = i / p.width;
        const int32_t value = x[(size_t)position * p.channels + (i - position * p.width)] - zero;
        sum += value;
        squares += value * value;
    }
    squares = ec_block_sum_long<THREADS>(squares, shared);
    sum = RMS ? 0 : ec_block_sum_long<THREADS>(sum, shared);
    const int2 scale = ec_norm_scale_of(p, n * squares - sum * sum);
    for (int i = threadIdx.x; i < n; i += THREADS) {
        const int position = i / p.width, c = i - position * p.width;
        const size_t at = (size_t)position * p.channels + c;
        const int table = (channel + c) * p.gain_step;
        const int32_t d = n * (x[at] - zero) - (int32_t)sum;
        y[at] = (int8_t)ec_norm_output(p, d, scale, __ldg(static_cast<const int32_t *>(gain) + table),
                                       __ldg(static_cast<const int32_t *>(bias) + table));
    }
}

/* layer_norm and rms_norm: block i makes row i. */
template <bool RMS, int THREADS>
__device__ __forceinline__ void ec_row_norm_s8_body(const ec_norm_s8_params &p, const void *input, const void *gain,
                                                    const void *bias, void *output)
{
    ec_norm_s8_group<RMS, THREADS>(p, (size_t)blockIdx.x * p.width, 0, input, gain, bias, output);
}

/* group_norm: a block makes a group of an image. */
template <bool RMS, int THREADS>
__device__ __forceinline__ void ec_norm_s8_body(const ec_norm_s8_params &p, const void *input, const void *gain,
                                                const void *bias, void *output)
{
    const int channel = blockIdx.x * p.width;
    ec_norm_s8_group<RMS, THREADS>(p, (size_t)blockIdx.y * p.positions * p.channels + channel, channel, input, gain,
                                   bias, output);
}
