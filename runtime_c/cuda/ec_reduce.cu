/*
 * ec_reduce.cu: ops reduce_sum, reduce_mean, reduce_max and reduce_min, and global average and maximum pooling.
 *
 * T: float, __half, __nv_bfloat16 or int32_t; JOIN: ec_reduce_sum<T>, ec_reduce_max<T> or ec_reduce_min<T>. Floats are
 * joined in fp32 and multiplied by `scale`, with one rounding at the end; integers wrap. Dense tensors.
 *
 * ec_reduce_rows_body: y[r] of x[r, i], i < count, a multiple of V; LANES threads a row (above 32: the whole block).
 * Grid: rows / (threads / LANES).
 * ec_reduce_columns_body: y[o, c] of x[o, i, c], i < count, c < inner, a multiple of V. A block takes LANES vectors of
 * columns by threads / LANES rows. Grid: inner / (V * LANES), 1, outer.
 * ec_reduce_columns_split_body: the same with `splits` blocks to a column (grid.y). Scratch: outer * splits * inner
 * carried elements (4 bytes); the last block joins them in order. Counters: one for each (column block, outer).
 * ec_reduce_any_body: up to three kept and three reduced axes of any strides, one warp an output.
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

/* Rows first, first + step, ... below `end` of one vector of columns, then over the rows of the block; the threads of
 * row 0 of the block get the result. */
template <typename C, typename JOIN, int V, int LANES, typename Load>
__device__ __forceinline__ void ec_reduce_block(C (&sum)[V], int first, int end, int step, const Load &load)
{
#pragma unroll
    for (int k = 0; k < V; k++) {
        sum[k] = JOIN::start();
    }
#pragma unroll 8
    for (int i = first; i < end; i += step) {
        C v[V];
        load(v, i);
#pragma unroll
        for (int k = 0; k < V; k++) {
            sum[k] = JOIN::of(sum[k], v[k]);
        }
    }
    if (LANES < 32) {
#pragma unroll
        for (int k = 0; k < V; k++) {
#pragma unroll
            for (int s = 16; s >= LANES; s >>= 1) {
                sum[k] = JOIN::of(sum[k], __shfl_xor_sync(0xffffffffu, sum[k], s));
            }
        }
    }
    __shared__ C parts[32][LANES * V];
    const int lane = (int)threadIdx.x % LANES, warp = (int)threadIdx.x / 32, warps = (int)blockDim.x / 32;
    __syncthreads();
    if (threadIdx.x % 32u < LANES) {
#pragma unroll
        for (int k = 0; k < V; k++) {
            parts[warp][lane * V + k] = sum[k];
        }
    }
    __syncthreads();
    if (threadIdx.x < LANES) {
        for (int w = 1; w < warps; w++) {
#pragma unroll
            for (int k = 0; k < V; k++) {
                sum[k] = JOIN::of(sum[k], parts[w][lane * V + k]);
            }
        }
    }
}

template <typename T, int V>
__device__ __forceinline__ void ec_reduced(T *to, const typename ec_carry<T>::type (&sum)[V], float scale)
{
    ec_vector<T, V> v;
#pragma unroll
    for (int k = 0; k < V; k++) {
        v.at[k] = ec_carry<T>::out(sum[k], scale);
    }
    *reinterpret_cast<ec_vector<T, V> *>(to) = v;
}

template <typename T, typename JOIN, int V, int LANES>
__device__ __forceinline__ void ec_reduce_columns_body(const ec_reduce_columns_params &p, const void *x, void *y)
{
    typedef typename ec_carry<T>::type C;
    const int lane = (int)threadIdx.x % LANES, c = ((int)blockIdx.x * LANES + lane) * V;
    const bool inside = c < p.inner;
    const T *from = (const T *)x + (size_t)blockIdx.z * p.count * p.inner + c;
    C sum[V];
    ec_reduce_block<C, JOIN, V, LANES>(sum, (int)threadIdx.x / LANES, inside ? p.count : 0, (int)blockDim.x / LANES,
                                       [&](C(&v)[V], int i) { ec_carried<T, V>(v, from + (size_t)i * p.inner); });
    if (threadIdx.x < LANES && inside) {
        ec_reduced<T, V>((T *)y + (size_t)blockIdx.z * p.inner + c, sum, p.scale);
    }
}

template <typename T, typename JOIN, int V, int LANES>
__device__ __forceinline__ void ec_reduce_columns_split_body(const ec_reduce_columns_params &p, const void *x, void *y,
                                                             void *scratch, void *counters)
{
    typedef typename ec_carry<T>::type C;
    const int lane = (int)threadIdx.x % LANES, c = ((int)blockIdx.x * LANES + lane) * V;
    const int row = (int)threadIdx.x / LANES, step = (int)blockDim.x / LANES;
    const bool inside = c < p.inner;
    const T *from = (const T *)x + (size_t)blockIdx.z * p.count * p.inner + c;
    C *parts = (C *)scratch + (size_t)blockIdx.z * p.splits * p.inner + c;
    C sum[V];
    ec_reduce_block<C, JOIN, V, LANES>(sum, (int)blockIdx.y * step + row, inside ? p.count : 0, p.splits * step,
                                       [&](C(&v)[V], int i) { ec_carried<T, V>(v, from + (size_t)i * p.inner); });
    if (threadIdx.x < LANES && inside) {
#pragma unroll
        for (int k = 0; k < V; k++) {
            __stcg(parts + (size_t)blockIdx.y * p.inner + k, sum[k]);
        }
    }
    if (!ec_last_block((int32_t *)counters + blockIdx.z * gridDim.x + blockIdx.x, p.splits)) {
        return;
    }
    ec_reduce_block<C, JOIN, V, LANES>(sum, row, inside ? p.splits : 0, step, [&](C(&v)[V], int i) {
#pragma unroll
        for (int k = 0; k < V; k++) {
            v[k] = __ldcg(parts + (size_t)i * p.inner + k);
        }
    });
    if (threadIdx.x < LANES && inside) {
        ec_reduced<T, V>((T *)y + (size_t)blockIdx.z * p.inner + c, sum, p.scale);
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
