/*
 * Pooling of x[N,H,W,C], int8: maximum or average of each window.
 *
 *   maximum: y[p,q,c] = max of the taps inside of the map
 *   average: y[p,q,c] = clamp(zero + floor(sum (x - zero) / d + 1/2), -128, 127), d = divisor, or the number of taps
 *            inside of the map where divisor is 0
 *
 * x int8[N][H][W][C], y int8[N][P][Q][C] with one scale and zero; every window reaches into the map; x and y aligned
 * to 16 bytes. VEC (16, 8, 4, 2 or 1) divides C. ADAPTIVE: window p is rows floor(p H / P) .. ceil((p + 1) H / P) -
 * 1, and so for q, in place of kernel, stride and padding.
 *
 * ec_pool2d_s8_body: a thread makes VEC channels of one output. Grid: threads over channels (fastest) and outputs.
 * ec_global_pool_s8_body: the window is the whole map. A block of 256 threads takes 8 vectors of VEC (16, 8 or 4, which
 * divides C) channels over `share` pixels; the splits of a map are a cluster of CLUSTER blocks that add through shared
 * memory (sm_90), or (CLUSTER 0) add through scratch. Grid: (C / (8 VEC) * splits, N, 1). Scratch, where CLUSTER is
 * 0: 32 VEC bytes a block; counters: one for each 8 vectors of an image.
 * Equals max_pool2d, avg_pool2d, adaptive_max_pool2d and adaptive_avg_pool2d of edgec/ops/pool.py.
 */
#include "ec_cuda.cuh"
#include "ec_pool2d_s8_params.h"
#include "ec_tile_s8.cuh"

enum { EC_POOL_THREADS = 256, EC_POOL_VECTORS = 8 };

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
#pragma unroll 3
    for (int r = 0; r < rows; r++) {
        const int h = top + r * down;
#pragma unroll 3
        for (int s = 0; s < columns; s++) {
            const int v = left + s * right;
            const bool inside = (uint32_t)h < (uint32_t)p.in_h && (uint32_t)v < (uint32_t)p.in_w;
            int32_t values[VEC]; /* always loaded, so that the loads of several taps are under way at once */
            ec_load_s8<VEC>(values, inside ? x + (size_t)(h * p.in_w + v) * p.channels : x);
#pragma unroll
            for (int i = 0; i < VEC; i++) {
                sum[i] = inside ? ec_pool_step<MAXIMUM>(sum[i], values[i]) : sum[i];
            }
            count += inside;
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

template <int VEC, bool MAXIMUM, int CLUSTER>
__device__ __forceinline__ void ec_global_pool_s8_body(const ec_pool2d_s8_params &p, const void *input, void *output,
                                                       void *scratch, void *counters)
{
    constexpr int THREADS = EC_POOL_THREADS, GROUP = EC_POOL_VECTORS * VEC, LANES = THREADS / EC_POOL_VECTORS;
    __shared__ __align__(16) int32_t sums[LANES][GROUP], totals[GROUP];
    constexpr int PEERS = CLUSTER > 1 ? CLUSTER : 1;
    const int splits = CLUSTER == 0 ? p.splits : CLUSTER, group = blockIdx.x / splits;
    const int split = blockIdx.x - group * splits;
    const int vector = threadIdx.x % EC_POOL_VECTORS, lane = threadIdx.x / EC_POOL_VECTORS;
    const int channel0 = group * GROUP, channel = channel0 + vector * VEC, pixels = p.in_h * p.in_w;
    const int first = split * p.share, last = min(first + p.share, pixels);
    const int8_t *const x = static_cast<const int8_t *>(input) + (size_t)blockIdx.y * pixels * p.channels + channel;
    ec_launch_next();
    ec_wait_previous();
    int32_t sum[VEC];
#pragma unroll
    for (int i = 0; i < VEC; i++) {
        sum[i] = MAXIMUM ? -128 : 0;
    }
    if (channel < p.channels) {
#pragma unroll 4
        for (int pixel = first + lane; pixel < last; pixel += LANES) {
            int32_t values[VEC];
            ec_load_s8<VEC>(values, x + (size_t)pixel * p.channels);
#pragma unroll
            for (int i = 0; i < VEC; i++) {
                sum[i] = ec_pool_step<MAXIMUM>(sum[i], values[i]);
            }
        }
    }
#pragma unroll
    for (int i = 0; i < VEC; i += 4) {
        const int4 four = make_int4(sum[i], sum[i + 1], sum[i + 2], sum[i + 3]);
        *reinterpret_cast<int4 *>(&sums[lane][vector * VEC + i]) = four;
    }
    __syncthreads();
#pragma unroll 1
    for (int c = threadIdx.x; c < GROUP; c += THREADS) {
        int32_t total = sums[0][c];
#pragma unroll 8
        for (int other = 1; other < LANES; other++) {
            total = ec_pool_step<MAXIMUM>(total, sums[other][c]);
        }
        totals[c] = total;
    }
    ec_cluster_sync<PEERS>();
    int8_t *const y = static_cast<int8_t *>(output) + (size_t)blockIdx.y * p.channels + channel0;
    const int here = min(GROUP, p.channels - channel0);
    if constexpr (CLUSTER > 0) {
        const uint32_t at = (uint32_t)__cvta_generic_to_shared(totals);
#pragma unroll 1
        for (int c = split * THREADS + threadIdx.x; c < here; c += PEERS * THREADS) {
            int32_t total = ec_load_cluster4<PEERS>(at + 4 * c, 0);
#pragma unroll
            for (int peer = 1; peer < PEERS; peer++) {
                total = ec_pool_step<MAXIMUM>(total, ec_load_cluster4<PEERS>(at + 4 * c, peer));
            }
            y[c] = (int8_t)(MAXIMUM ? total : ec_pool_average(p, total, pixels));
        }
        if (CLUSTER > 1) {
            ec_cluster_sync<PEERS>(); /* the others still read this block's memory */
        }
        return;
    }
    const int tile = blockIdx.y * (gridDim.x / splits) + group;
    int32_t *const parts = static_cast<int32_t *>(scratch) + (size_t)tile * splits * GROUP;
    for (int c = threadIdx.x; c < GROUP; c += THREADS) {
        __stcg(parts + split * GROUP + c, totals[c]);
    }
    if (!ec_last_block(static_cast<int32_t *>(counters) + tile, splits, &totals[0])) {
        return;
    }
#pragma unroll 1
    for (int c = threadIdx.x; c < here; c += THREADS) {
        int32_t total = __ldcg(parts + c);
        for (int other = 1; other < splits; other++) {
            total = ec_pool_step<MAXIMUM>(total, __ldcg(parts + other * GROUP + c));
        }
        y[c] = (int8_t)(MAXIMUM ? total : ec_pool_average(p, total, pixels));
    }
}
