/*
 * ec_reduce.cu: ops reduce_sum, reduce_mean, reduce_max and reduce_min, and global average and maximum pooling.
 *
 * T: float, __half, __nv_bfloat16 or int32_t; JOIN: ec_reduce_sum<T>, ec_reduce_max<T> or ec_reduce_min<T>. Floats are
 * joined in fp32 and multiplied by `scale`, with one rounding at the end; integers wrap. Dense tensors.
 *
 * ec_reduce_rows_body: y[r] of x[r, i], i < count, a multiple of V; LANES threads a row (above 32: the whole block).
 * Grid: rows / (threads / LANES).
 * ec_reduce_columns_body: y[o, c] of x[o, i, c], i < count, c < inner, a multiple of V. A block takes LANES vectors of
 * columns by threads / LANES rows at a time; threads is a power of two from LANES * V to 1024. Grid: inner / (V * LANES), 1, outer.
 * ec_reduce_columns_split_body: the same with `splits` blocks to a column (grid.y). Scratch: outer * splits * inner
 * carried elements (4 bytes); the last block joins them in order. Counters: one for each (column block, outer).
 * ec_reduce_any_body: up to three kept and three reduced axes of any strides, one warp an output.
 *
 * H200, 2026-11-21, fp16, benchmarks/cuda_memory.py: global pool of 7 x 7 x 1280 in 1.12 us (PyTorch 4.26), 28 x 28 x 240
 * in 2.12 (11.7; in two steps 3.7), 112 x 112 x 32 in 4.46 (7.25); rows of 65536 x 1024 at 104 % of 4.2 TB/s, columns 66 %.
 */
#include "ec_reduce.cuh"
#include "ec_reduce_params.h"

template <typename T, int V>
__device__ __forceinline__ void ec_carried(typename ec_carry<T>::type (&to)[V], const T *from)
{
    const ec_vector<T, V> v = *reinterpret_cast<const ec_vector<T, V> *>(from);
#pragma unroll
    for (int i = 0; i < V; i++) {
        to[i] = ec_carry<T>::in(v.at[i]);
    }
}

template <typename T, typename JOIN, int V, int LANES>
__device__ __forceinline__ void ec_reduce_rows_body(const ec_reduce_rows_params &p, const void *x, void *y)
{
    typedef typename ec_carry<T>::type C;
    const int row = (int)(blockIdx.x * (blockDim.x / LANES) + threadIdx.x / LANES), lane = (int)threadIdx.x % LANES;
    const T *from = (const T *)x + (size_t)min(row, p.rows - 1) * p.count;
    C sum = JOIN::start();
#pragma unroll 4
    for (int i = lane * V; i < p.count; i += LANES * V) {
        C v[V];
        ec_carried<T, V>(v, from + i);
#pragma unroll
        for (int k = 0; k < V; k++) {
            sum = JOIN::of(sum, v[k]);
        }
    }
#pragma unroll
    for (int step = (LANES < 32 ? LANES : 32) / 2; step > 0; step >>= 1) {
        sum = JOIN::of(sum, __shfl_xor_sync(0xffffffffu, sum, step));
    }
    if (LANES > 32) {
        __shared__ C warps[32];
        if (threadIdx.x % 32u == 0) {
            warps[threadIdx.x / 32u] = sum;
        }
        __syncthreads();
        sum = warps[0];
        for (int i = 1; i < LANES / 32; i++) {
            sum = JOIN::of(sum, warps[i]);
        }
    }
    if (lane == 0 && row < p.rows) {
        ((T *)y)[row] = ec_carry<T>::out(sum, p.scale);
    }
}

/* Element threadIdx.x of the LANES * V that the block's vectors hold, joined over the block's rows; for threads below
 * LANES * V. */
template <typename C, typename JOIN, int V, int LANES> __device__ __forceinline__ C ec_join_rows(C (&sum)[V])
{
    constexpr int WIDTH = LANES * V, ROWS = LANES < 32 ? 32 : 1024 / LANES;
    __shared__ C parts[ROWS][WIDTH];
    const int lane = (int)threadIdx.x % LANES, rows = (int)blockDim.x / (LANES < 32 ? 32 : LANES);
    if (LANES < 32) {
#pragma unroll
        for (int k = 0; k < V; k++) {
#pragma unroll
            for (int s = 16; s >= LANES; s >>= 1) {
                sum[k] = JOIN::of(sum[k], __shfl_xor_sync(0xffffffffu, sum[k], s));
            }
        }
    }
    __syncthreads();
    if (LANES >= 32 || threadIdx.x % 32u < LANES) {
#pragma unroll
        for (int k = 0; k < V; k++) {
            parts[threadIdx.x / (LANES < 32 ? 32 : LANES)][lane * V + k] = sum[k];
        }
    }
    __syncthreads();
    C joined = JOIN::start();
    if (threadIdx.x < WIDTH) {
#pragma unroll 8
        for (int row = 0; row < rows; row++) {
            joined = JOIN::of(joined, parts[row][threadIdx.x]);
        }
    }
    return joined;
}

/* The same of rows first, first + step, ... below `end` of this thread's vector of columns. */
template <typename T, typename JOIN, int V, int LANES>
__device__ __forceinline__ typename ec_carry<T>::type ec_reduce_block(const T *from, int inner, int first, int end,
                                                                      int step)
{
    typedef typename ec_carry<T>::type C;
    C sum[V];
#pragma unroll
    for (int k = 0; k < V; k++) {
        sum[k] = JOIN::start();
    }
#pragma unroll 4
    for (int i = first; i < end; i += step) {
        C v[V];
        ec_carried<T, V>(v, from + (size_t)i * inner);
#pragma unroll
        for (int k = 0; k < V; k++) {
            sum[k] = JOIN::of(sum[k], v[k]);
        }
    }
    return ec_join_rows<C, JOIN, V, LANES>(sum);
}

template <typename T, typename JOIN, int V, int LANES>
__device__ __forceinline__ void ec_reduce_columns_body(const ec_reduce_columns_params &p, const void *x, void *y)
{
    const int tile = (int)blockIdx.x * LANES * V, c = tile + (int)threadIdx.x % LANES * V;
    const T *from = (const T *)x + (size_t)blockIdx.z * p.count * p.inner + c;
    const typename ec_carry<T>::type sum = ec_reduce_block<T, JOIN, V, LANES>(
        from, p.inner, (int)threadIdx.x / LANES, c < p.inner ? p.count : 0, (int)blockDim.x / LANES);
    if (threadIdx.x < LANES * V && tile + (int)threadIdx.x < p.inner) {
        ((T *)y)[(size_t)blockIdx.z * p.inner + tile + threadIdx.x] = ec_carry<T>::out(sum, p.scale);
    }
}

template <typename T, typename JOIN, int V, int LANES>
__device__ __forceinline__ void ec_reduce_columns_split_body(const ec_reduce_columns_params &p, const void *x, void *y,
                                                             void *scratch, void *counters)
{
    typedef typename ec_carry<T>::type C;
    constexpr int WIDTH = LANES * V;
    const int tile = (int)blockIdx.x * WIDTH, c = tile + (int)threadIdx.x % LANES * V;
    const int row = (int)threadIdx.x / LANES, step = (int)blockDim.x / LANES;
    const T *from = (const T *)x + (size_t)blockIdx.z * p.count * p.inner + c;
    C sum = ec_reduce_block<T, JOIN, V, LANES>(from, p.inner, (int)blockIdx.y * step + row,
                                               c < p.inner ? p.count : 0, p.splits * step);
    const int element = tile + (int)threadIdx.x % WIDTH;
    C *parts = (C *)scratch + (size_t)blockIdx.z * p.splits * p.inner + element;
    if (threadIdx.x < WIDTH && element < p.inner) {
        __stcg(parts + (size_t)blockIdx.y * p.inner, sum);
    }
    if (!ec_last_block((int32_t *)counters + blockIdx.z * gridDim.x + blockIdx.x, p.splits)) {
        return;
    }
    __shared__ C groups[1024];
    sum = JOIN::start();
    if (element < p.inner) {
#pragma unroll 4
        for (int i = (int)threadIdx.x / WIDTH; i < p.splits; i += (int)blockDim.x / WIDTH) {
            sum = JOIN::of(sum, __ldcg(parts + (size_t)i * p.inner));
        }
    }
    groups[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x < WIDTH && element < p.inner) {
        for (int g = WIDTH; g < (int)blockDim.x; g += WIDTH) {
            sum = JOIN::of(sum, groups[threadIdx.x + g]);
        }
        ((T *)y)[(size_t)blockIdx.z * p.inner + element] = ec_carry<T>::out(sum, p.scale);
    }
}

template <typename T, typename JOIN>
__device__ __forceinline__ void ec_reduce_any_body(const ec_reduce_any_params &p, const void *x, void *y)
{
    typedef typename ec_carry<T>::type C;
    const int output = (int)((blockIdx.x * blockDim.x + threadIdx.x) / 32u), lane = (int)(threadIdx.x % 32u);
    if (output >= p.outputs) {
        return;
    }
    const int k2 = output % p.kept2, k1 = output / p.kept2 % p.kept1, k0 = output / p.kept2 / p.kept1;
    const T *from = (const T *)x + (ptrdiff_t)k0 * p.kept_stride0 + (ptrdiff_t)k1 * p.kept_stride1 +
                    (ptrdiff_t)k2 * p.kept_stride2;
    C sum = JOIN::start();
#pragma unroll 4
    for (int i = lane; i < p.count; i += 32) {
        const int i2 = i % p.size2, i1 = i / p.size2 % p.size1, i0 = i / p.size2 / p.size1;
        const ptrdiff_t at = (ptrdiff_t)i0 * p.stride0 + (ptrdiff_t)i1 * p.stride1 + (ptrdiff_t)i2 * p.stride2;
        sum = JOIN::of(sum, ec_carry<T>::in(from[at]));
    }
#pragma unroll
    for (int step = 16; step > 0; step >>= 1) {
        sum = JOIN::of(sum, __shfl_xor_sync(0xffffffffu, sum, step));
    }
    if (lane == 0) {
        ((T *)y)[output] = ec_carry<T>::out(sum, p.scale);
    }
}
