/*
 * ec_ranked.cuh: numbers as unsigned integers of the same order, alone and with their index, and the largest of a block.
 */
#ifndef EC_RANKED_CUH
#define EC_RANKED_CUH

#include "ec_cuda.cuh"

/* Larger where f is; both zeros alike, NaN largest of all. */
__device__ __forceinline__ uint32_t ec_order(float f)
{
    const uint32_t bits = __float_as_uint(f);
    const uint32_t order = bits >> 31 ? ~bits : bits | 0x80000000u;
    return f != f ? 0xffffffffu : f == 0.0f ? 0x80000000u : order;
}

__device__ __forceinline__ float ec_of_order(uint32_t order)
{
    return __uint_as_float(order >> 31 ? order & 0x7fffffffu : ~order);
}

/* A number and its index as one unsigned number that is larger where the number is, or the index smaller. */
template <typename T> __device__ __forceinline__ unsigned long long ec_ranked(T v, int index)
{
    return (unsigned long long)ec_order(ec_float(v)) << 32 | (uint32_t)~index;
}
template <> __device__ __forceinline__ unsigned long long ec_ranked<int32_t>(int32_t v, int index)
{
    return (unsigned long long)((uint32_t)v ^ 0x80000000u) << 32 | (uint32_t)~index;
}

__device__ __forceinline__ int ec_ranked_index(unsigned long long ranked)
{
    return (int)~(uint32_t)ranked;
}

/* The largest of all threads of the block, for every one of them. */
__device__ __forceinline__ unsigned long long ec_block_max(unsigned long long best)
{
    __shared__ unsigned long long warps[32];
#pragma unroll
    for (int step = 16; step > 0; step >>= 1) {
        const unsigned long long other = __shfl_xor_sync(0xffffffffu, best, step);
        best = other > best ? other : best;
    }
    __syncthreads();
    if (threadIdx.x % 32u == 0) {
        warps[threadIdx.x / 32u] = best;
    }
    __syncthreads();
    best = threadIdx.x % 32u < blockDim.x / 32u ? warps[threadIdx.x % 32u] : 0;
#pragma unroll
    for (int step = 16; step > 0; step >>= 1) {
        const unsigned long long other = __shfl_xor_sync(0xffffffffu, best, step);
        best = other > best ? other : best;
    }
    return best;
}

#endif
