/*
 * Pooling of x[N,H,W,C], int8: maximum or average of each window.
 *
 *   maximum: y[p,q,c] = max of the taps inside of the map
 *   average: y[p,q,c] = clamp(zero + floor(sum (x - zero) / d + 1/2), -128, 127), d = divisor, or the number of taps
 *            inside of the map where divisor is 0
 *
 * x int8[N][H][W][C], y int8[N][P][Q][C] with one scale and zero; every window reaches into the map; x and y aligned to
 * 16 bytes. VEC (16, 4 or 1) divides C. ADAPTIVE: window p is rows floor(p H / P) .. ceil((p + 1) H / P) - 1, and so for
 * q, in place of kernel, stride and padding.
 *
 * ec_pool2d_s8_body: a thread makes VEC channels of one output. Grid: threads over channels (fastest) and outputs.
 * ec_global_pool_s8_body: the window is the whole map; THREADS / 32 warps share its pixels, lanes take 4 VEC... channels:
 * one word of four each. C a multiple of 4. Grid: (C / 128, N, 1).
 * No scratch. Equals max_pool2d, avg_pool2d, adaptive_max_pool2d and adaptive_avg_pool2d of edgec/ops/pool.py.
 */
#include "ec_cuda.cuh"
#include "ec_pool2d_s8_params.h"
#include "ec_requant.cuh"

template <bool MAXIMUM> __device__ __forceinline__ int32_t ec_pool_step(int32_t sum, int32_t value)
{
    return MAXIMUM ? max(sum, value) : sum + value;
}

__device__ __forceinline__ int32_t ec_pool_average(const ec_pool2d_s8_params &p, int32_t sum, int32_t count)
{
    const int32_t divisor = p.divisor > 0 ? p.divisor : count;
    return ec_clamp(ec_divide_round(sum - count * p.zero, divisor) + p.zero, -128, 127);
}

template <int VEC, bool MAXIMUM, bool ADAPTIVE>
__device__ __forceinline__ void ec_pool2d_s8_body(const ec_pool2d_s8_params &p, const void *input, void *output)
{
    const int vectors = p.channels / VEC, index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= vectors * p.batch * p.out_h * p.out_w) {
        return;
    }
    const int vector = index % vectors, pixel = index / vectors;
    const int column = pixel % p.out_w, line = pixel / p.out_w, row = line % p.out_h, image = line / p.out_h;
    const int8_t *const x = static_cast<const int8_t *>(input) + (size_t)image * p.in_h * p.in_w * p.channels +
                            vector * VEC;
    const int top = ADAPTIVE ? row * p.in_h / p.out_h : row * p.stride_h - p.pad_top;
    const int left = ADAPTIVE ? column * p.in_w / p.out_w : column * p.stride_w - p.pad_left;
    const int rows = ADAPTIVE ? ((row + 1) * p.in_h + p.out_h - 1) / p.out_h - top : p.kernel_h;
    const int columns = ADAPTIVE ? ((column + 1) * p.in_w + p.out_w - 1) / p.out_w - left : p.kernel_w;
    const int down = ADAPTIVE ? 1 : p.dilation_h, right = ADAPTIVE ? 1 : p.dilation_w;
    int32_t sum[VEC], count = 0;
#pragma unroll
    for (int i = 0; i < VEC; i++) {
        sum[i] = MAXIMUM ? -128 : 0;
    }
    for (int r = 0; r < rows; r++) {
        const int h = top + r * down;
#pragma unroll 3
        for (int s = 0; s < columns; s++) {
            const int v = left + s * right;
            if ((uint32_t)h < (uint32_t)p.in_h && (uint32_t)v < (uint32_t)p.in_w) {
                int32_t values[VEC];
                ec_load_s8<VEC>(values, x + (size_t)(h * p.in_w + v) * p.channels);
#pragma unroll
                for (int i = 0; i < VEC; i++) {
                    sum[i] = ec_pool_step<MAXIMUM>(sum[i], values[i]);
                }
                count++;
            }
        }
    }
    if (!MAXIMUM) {
#pragma unroll
        for (int i = 0; i < VEC; i++) {
            sum[i] = ec_pool_average(p, sum[i], count);
        }
    }
    ec_store_s8<VEC>(static_cast<int8_t *>(output) + (size_t)pixel * p.channels + vector * VEC, sum);
}

template <int WARPS, bool MAXIMUM>
__device__ __forceinline__ void ec_global_pool_s8_body(const ec_pool2d_s8_params &p, const void *input, void *output)
{
    __shared__ int32_t sums[WARPS][32][4];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, words = p.channels / 4;
    const int word = blockIdx.x * 32 + lane, pixels = p.in_h * p.in_w;
    const uint32_t *const x = static_cast<const uint32_t *>(input) + (size_t)blockIdx.y * pixels * words + word;
    int32_t sum[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        sum[i] = MAXIMUM ? -128 : 0;
    }
    if (word < words) {
#pragma unroll 4
        for (int pixel = warp; pixel < pixels; pixel += WARPS) {
            const uint32_t value = x[(size_t)pixel * words];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                sum[i] = ec_pool_step<MAXIMUM>(sum[i], ec_byte(value, i));
            }
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        sums[warp][lane][i] = sum[i];
    }
    __syncthreads();
    if (warp == 0 && word < words) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
#pragma unroll
            for (int other = 1; other < WARPS; other++) {
                sum[i] = ec_pool_step<MAXIMUM>(sum[i], sums[other][lane][i]);
            }
            sum[i] = MAXIMUM ? sum[i] : ec_pool_average(p, sum[i], pixels);
        }
        ec_store_s8<4>(static_cast<int8_t *>(output) + (size_t)blockIdx.y * p.channels + word * 4, sum);
    }
}
