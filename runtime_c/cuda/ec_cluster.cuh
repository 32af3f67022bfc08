/*
 * ec_cluster.cuh: blocks of one cluster (sm_90 and later) wait for each other and read each other's shared memory.
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
