/*
 * ec_cluster.cuh: blocks of one cluster (sm_90 and later) wait for each other, read each other's shared memory and
 * send each other numbers.
 */
#ifndef EC_CLUSTER_CUH
#define EC_CLUSTER_CUH

#include "ec_cuda.cuh"

/* Every thread of every block of the cluster has come here. */
__device__ __forceinline__ void ec_cluster_sync()
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

/* The same where nothing was written that another block reads: no access is waited for. */
__device__ __forceinline__ void ec_cluster_sync_reads()
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.relaxed.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
#endif
}

/* The two halves of ec_cluster_sync; memory is ordered only for what ec_cluster_expect prepared before. */
__device__ __forceinline__ void ec_cluster_arrive()
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
#endif
}

__device__ __forceinline__ void ec_cluster_wait()
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

/* By one thread, before it arrives: `bytes` will be sent to this block, told by `arrived` in its shared memory. */
__device__ __forceinline__ void ec_cluster_expect(uint64_t *arrived, int bytes)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    const uint32_t at = (uint32_t)__cvta_generic_to_shared(arrived);
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;\nfence.mbarrier_init.release.cluster;\n"
                 "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(at),
                 "r"(bytes)
                 : "memory");
#endif
}

/* Until all the expected bytes have come; for any threads of the block. */
__device__ __forceinline__ void ec_cluster_await(uint64_t *arrived)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    const uint32_t at = (uint32_t)__cvta_generic_to_shared(arrived);
    uint32_t done = 0;
    while (!done) {
        asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], 0;\n"
                     "selp.u32 %0, 1, 0, p;\n}"
                     : "=r"(done)
                     : "r"(at)
                     : "memory");
    }
#endif
}

/* V floats to the same places in the shared memory of block `rank` of the cluster. */
template <int V>
__device__ __forceinline__ void ec_cluster_send(float *to, const float (&v)[V], uint64_t *arrived, int rank)
{
    static_assert(V == 2 || V == 4, "8 or 16 bytes");
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    uint32_t at = (uint32_t)__cvta_generic_to_shared(to), told = (uint32_t)__cvta_generic_to_shared(arrived);
    asm volatile("mapa.shared::cluster.u32 %0, %0, %1;" : "+r"(at) : "r"(rank));
    asm volatile("mapa.shared::cluster.u32 %0, %0, %1;" : "+r"(told) : "r"(rank));
    if (V == 4) {
        asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(
                         at),
                     "f"(v[0]), "f"(v[1]), "f"(v[2 % V]), "f"(v[3 % V]), "r"(told)
                     : "memory");
    } else {
        asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.f32 [%0], {%1, %2}, [%3];" ::"r"(at),
                     "f"(v[0]), "f"(v[1]), "r"(told)
                     : "memory");
    }
#endif
}

/* 16 bytes of the shared memory of block `rank` of the cluster, at this block's address `from`. */
template <typename S> __device__ __forceinline__ void ec_cluster_load(S (&v)[4], const S *from, int rank)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    uint32_t at = (uint32_t)__cvta_generic_to_shared(from), r[4];
    asm volatile("mapa.shared::cluster.u32 %0, %0, %1;" : "+r"(at) : "r"(rank));
    asm volatile("ld.shared::cluster.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
#pragma unroll
    for (int e = 0; e < 4; e++) {
        v[e] = *reinterpret_cast<const S *>(&r[e]);
    }
#endif
}

#endif
