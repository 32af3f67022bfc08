/*
 * ec_row_values.cuh: rows of a dense tensor held in registers, for kernels that need a whole row at once.
 *
 * LANES neighbouring threads (a power of two; above 32 they are the whole block) share a row of `count` elements and
 * hold VECS vectors of V elements each: vector k of lane l begins at element (k * LANES + l) * V. count is a multiple of
 * V. What lies beyond it holds `fill`. Every thread of the block takes part in every reduction.
 */
#ifndef EC_ROW_VALUES_CUH
#define EC_ROW_VALUES_CUH

#include "ec_cuda.cuh"

struct ec_add {
    static __device__ __forceinline__ float of(float a, float b)
    {
        return a + b;
    }
};

/* The larger; NaN where one of them is NaN. */
struct ec_larger {
    static __device__ __forceinline__ float of(float a, float b)
    {
        return a > b || a != a ? a : b;
    }
};

/* `v` of all LANES threads of a row, joined; every thread gets the result. */
template <typename Join, int LANES> __device__ __forceinline__ float ec_across(float v)
{
#pragma unroll
    for (int step = (LANES < 32 ? LANES : 32) / 2; step > 0; step >>= 1) {
        v = Join::of(v, __shfl_xor_sync(0xffffffffu, v, step));
    }
    if (LANES > 32) {
        __shared__ float warps[32];
        constexpr int COUNT = LANES > 32 ? LANES / 32 : 1;
        __syncthreads();
        if (threadIdx.x % 32u == 0) {
            warps[threadIdx.x / 32u] = v;
        }
        __syncthreads();
        v = warps[threadIdx.x % COUNT];
#pragma unroll
        for (int step = COUNT / 2; step > 0; step >>= 1) {
            v = Join::of(v, __shfl_xor_sync(0xffffffffu, v, step));
        }
    }
    return v;
}

template <typename T, int V, int LANES, int VECS>
__device__ __forceinline__ void ec_row_load(float (&to)[VECS][V], const T *row, int count, float fill)
{
    const int lane = (int)threadIdx.x % LANES;
#pragma unroll
    for (int k = 0; k < VECS; k++) {
        const int at = (k * LANES + lane) * V;
        if (at < count) {
            ec_load<T, V>(to[k], row + at);
        } else {
#pragma unroll
            for (int v = 0; v < V; v++) {
                to[k][v] = fill;
            }
        }
    }
}

template <typename T, int V, int LANES, int VECS>
__device__ __forceinline__ void ec_row_store(T *row, const float (&from)[VECS][V], int count)
{
    const int lane = (int)threadIdx.x % LANES;
#pragma unroll
    for (int k = 0; k < VECS; k++) {
        const int at = (k * LANES + lane) * V;
        if (at < count) {
            ec_store<T, V>(row + at, from[k]);
        }
    }
}

/* exp for softmax: float32 exactly, half types to 2**-21. */
template <typename T> __device__ __forceinline__ float ec_exp(float v)
{
    return sizeof(T) == 4 ? expf(v) : __expf(v);
}

#endif
