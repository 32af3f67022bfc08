/*
 * ec_tile_s8.cuh: the pieces of int8 matrix products on tensor cores: m16n8k32 products with int32 sums, tiles of rows
 * in shared memory, packed weights, and the sum of partial tiles.
 *
 * Weights are packed on the host (layout "s8_mma", backends/cuda_weights_s8.py) in blocks of 32 outputs by 32 of k,
 * 1024 bytes, in the order of the fragments: lane l = 4 g + t reads 16 bytes at 512 h + 16 l, the words of the
 * n8-tiles j = 2 h and 2 h + 1, for each k = 4 t.. and k = 16 + 4 t... Column g of tile j is output 8 (g / 2) + 2 j +
 * g % 2, so that lane (g, t) holds, in its accumulators of the four tiles, the outputs 8 t .. 8 t + 7 of a row: one
 * store of 8 bytes.
 */
#ifndef EC_TILE_S8_CUH
#define EC_TILE_S8_CUH

#include "ec_cuda.cuh"
#include "ec_requant.cuh"

#define EC_WEIGHT_BLOCK 1024 /* bytes of 32 outputs by 32 of k */

/* d += a (16 x 32, row major) * b (32 x 8): sums in int32. */
__device__ __forceinline__ void ec_mma_s8(int32_t (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* Four matrices of 8 rows of 16 bytes; lane l gives the address of row l % 8 of matrix l / 8. */
__device__ __forceinline__ void ec_load_matrices(uint32_t (&out)[4], uint32_t shared)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(shared)
                 : "memory");
}

/* 16 bytes of the shared memory of block `peer` of the cluster of CLUSTER; 1: of this block. */
template <int CLUSTER> __device__ __forceinline__ int4 ec_load_cluster16(uint32_t shared, int peer)
{
    int4 v;
    if constexpr (CLUSTER > 1) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
        uint32_t remote;
        asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(shared), "r"(peer));
        asm volatile("ld.shared::cluster.v4.u32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                     : "r"(remote)
                     : "memory");
#endif
    } else {
        asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                     : "r"(shared)
                     : "memory");
    }
    return v;
}

/* An int32 of the same. */
template <int CLUSTER> __device__ __forceinline__ int32_t ec_load_cluster4(uint32_t shared, int peer)
{
    int32_t v;
    if constexpr (CLUSTER > 1) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
        uint32_t remote;
        asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(shared), "r"(peer));
        asm volatile("ld.shared::cluster.u32 %0, [%1];" : "=r"(v) : "r"(remote) : "memory");
#endif
    } else {
        asm volatile("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(shared) : "memory");
    }
    return v;
}

/* All threads of the cluster wait for each other and see what was written to its shared memory; 1: of this block. */
template <int CLUSTER> __device__ __forceinline__ void ec_cluster_sync()
{
    if constexpr (CLUSTER > 1) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
        asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
        asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
    } else {
        __syncthreads();
    }
}

/* BYTES (4, 8 or 16) from global to shared memory, asynchronously; through L1 where AGAIN says that neighbours read
 * them too. */
template <int BYTES, bool AGAIN> __device__ __forceinline__ void ec_copy_async(uint32_t to, const void *from)
{
    if constexpr (AGAIN || BYTES < 16) {
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(to), "l"(from), "n"(BYTES) : "memory");
    } else {
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
    }
}

/* Where 16-byte piece `chunk` of row `row` stands in a tile of rows of BK bytes: no two rows that a load of matrices
 * reads together fall on the same banks. */
template <int BK> __device__ __forceinline__ uint32_t ec_swizzle(int row, int chunk)
{
    const int turn = BK >= 128 ? row & 7 : (row >> 1) & 3;
    return (uint32_t)(row * BK + ((chunk ^ turn) << 4));
}

/* Copies weights of BN outputs by BK of k from the packed blocks at `w` (its row of blocks is `k_blocks` long). */
template <int BN, int BK, int THREADS>
__device__ __forceinline__ void ec_weights_copy(uint32_t to, const uint8_t *w, int k_blocks)
{
    constexpr int RUN = BK / 32 * (EC_WEIGHT_BLOCK / 16), COUNT = BN / 32 * RUN;
#pragma unroll
    for (int i = 0; i < (COUNT + THREADS - 1) / THREADS; i++) {
        const int at = threadIdx.x + i * THREADS;
        if (COUNT % THREADS == 0 || at < COUNT) {
            const uint8_t *from = w + (size_t)(at / RUN) * k_blocks * EC_WEIGHT_BLOCK + (size_t)(at % RUN) * 16;
            ec_copy_async<16, false>(to + 16 * at, from);
        }
    }
}

/* The products of one step: this warp's 16 MI rows and 32 NB outputs, over every WARPS_K-th 32 of BK. */
template <int MI, int NB, int BK, int WARPS_K>
__device__ __forceinline__ void ec_tile_products(int32_t (&acc)[MI][4 * NB][4], uint32_t rows, int row,
                                                 uint32_t weights, int warp_k)
{
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int step = 0; step < BK / 32 / WARPS_K; step++) {
        const int kk = step * WARPS_K + warp_k;
        uint32_t a[MI][4];
#pragma unroll
        for (int i = 0; i < MI; i++) {
            ec_load_matrices(a[i], rows + ec_swizzle<BK>(row + 16 * i + lane % 16, 2 * kk + lane / 16));
        }
#pragma unroll
        for (int n = 0; n < NB; n++) {
            const uint32_t block = weights + (uint32_t)((n * (BK / 32) + kk) * EC_WEIGHT_BLOCK + 16 * lane);
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const uint4 b = ec_load_shared16(block + 512 * h);
#pragma unroll
                for (int i = 0; i < MI; i++) {
                    ec_mma_s8(acc[i][4 * n + 2 * h], a[i], b.x, b.y);
                    ec_mma_s8(acc[i][4 * n + 2 * h + 1], a[i], b.z, b.w);
                }
            }
        }
    }
}

/* Whether this block is the last of `splits` to come here, in every thread: it then sees what the others wrote before.
 * The counter is zero again afterwards. `last`: a word of shared memory. */
__device__ __forceinline__ bool ec_last_block(int32_t *counter, int splits, volatile int32_t *last)
{
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        *last = atomicAdd(counter, 1) == splits - 1;
        if (*last) {
            *counter = 0;
        }
    }
    __syncthreads();
    const bool mine = *last;
    __threadfence();
    return mine;
}

#endif
