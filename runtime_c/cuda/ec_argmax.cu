/*
 * ec_argmax.cu: y[o, c] = index of the largest x[o, i, c], i < count, the first of equal ones; of op argmax. NaN counts
 * as the largest.
 *
 * x [outer, count, inner] of type T (float, __half, __nv_bfloat16, int8_t, int32_t), y int32 [outer, inner], dense.
 * ec_argmax_body: inner 1, `splits` blocks a row (grid: splits, outer), vectors of V elements (count a multiple of V).
 * Scratch: outer * splits times 8 bytes; the last block of a row joins what the others found. Counters: outer.
 * ec_argmax_inner_body: any inner, one output a thread.
 *
 * H200, 2026-11-21, fp16, benchmarks/cuda_memory.py: 128256 logits in 3.0 us (PyTorch 26.1).
 */
#include "ec_ranked.cuh"
#include "ec_reduce.cuh"
#include "ec_reduce_params.h"

template <typename T, int V>
__device__ __forceinline__ void ec_argmax_body(const ec_argmax_cuda_params &p, const void *x, void *y, void *scratch,
                                               void *counters)
{
    const T *row = (const T *)x + (size_t)blockIdx.y * p.count;
    unsigned long long best = 0;
#pragma unroll 4
    for (int i = (int)(blockIdx.x * blockDim.x + threadIdx.x) * V; i < p.count; i += p.splits * (int)blockDim.x * V) {
        const ec_vector<T, V> v = *reinterpret_cast<const ec_vector<T, V> *>(row + i);
#pragma unroll
        for (int k = 0; k < V; k++) {
            const unsigned long long here = ec_ranked<T>(v.at[k], i + k);
            best = here > best ? here : best;
        }
    }
    best = ec_block_max(best);
    if (p.splits > 1) {
        unsigned long long *parts = (unsigned long long *)scratch + (size_t)blockIdx.y * p.splits;
        if (threadIdx.x == 0) {
            __stcg(parts + blockIdx.x, best);
        }
        if (!ec_last_block((int32_t *)counters + blockIdx.y, p.splits)) {
            return;
        }
        best = ec_block_max((int)threadIdx.x < p.splits ? __ldcg(parts + threadIdx.x) : 0ull);
    }
    if (threadIdx.x == 0) {
        ((int32_t *)y)[blockIdx.y] = ec_ranked_index(best);
    }
}

template <typename T>
__device__ __forceinline__ void ec_argmax_inner_body(const ec_argmax_cuda_params &p, const void *x, void *y,
                                                     void *scratch, void *counters)
{
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= p.outputs) {
        return;
    }
    const T *from = (const T *)x + (size_t)(i / p.inner) * p.count * p.inner + i % p.inner;
    unsigned long long best = 0;
#pragma unroll 4
    for (int k = 0; k < p.count; k++) {
        const unsigned long long here = ec_ranked<T>(from[(size_t)k * p.inner], k);
        best = here > best ? here : best;
    }
    ((int32_t *)y)[i] = ec_ranked_index(best);
}
