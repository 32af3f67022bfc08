/*
 * ec_bulk.cuh: copies of whole runs of memory into shared memory by the copy engine (sm_90 and later), which tell a
 * barrier in shared memory how many bytes have arrived. Elsewhere nothing here does anything, and no record asks for
 * it.
 */
#ifndef EC_BULK_CUH
#define EC_BULK_CUH

#include "ec_cuda.cuh"

/* One lane of the warp; all have to come here. */
__device__ __forceinline__ bool ec_elected()
{
    uint32_t elected = 0;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("{\n.reg .pred p;\nelect.sync _|p, 0xffffffff;\nselp.u32 %0, 1, 0, p;\n}" : "=r"(elected));
#endif
    return elected != 0;
}

/* A barrier at shared address `barrier` whose phases end when the bytes have come that one thread expects. */
__device__ __forceinline__ void ec_arrival_init(uint32_t barrier)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(barrier) : "memory");
#endif
}

/* The barriers that this thread has made are known to the copy engine and, after a barrier of the block, to all. */
__device__ __forceinline__ void ec_arrivals_ready()
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}

__device__ __forceinline__ void ec_arrival_expect(uint32_t barrier, int bytes)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
#endif
}

/* Waits for the end of a phase: the first has parity 0, the second 1, the third 0. */
__device__ __forceinline__ void ec_arrival_wait(uint32_t barrier, int parity)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile(
        "{\n.reg .pred p;\nAGAIN:\nmbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n@!p bra AGAIN;\n}" ::"r"(
            barrier),
        "r"(parity)
        : "memory");
#endif
}

/* `bytes` from `from` to shared address `to`; all three multiples of 16. */
__device__ __forceinline__ void ec_copy_bulk(uint32_t to, const void *from, int bytes, uint32_t barrier)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
                 "l"(from), "r"(bytes), "r"(barrier)
                 : "memory");
#endif
}

/* The same into both blocks of a cluster of two, at the same place, told to the barrier at the same place of each. */
__device__ __forceinline__ void ec_copy_bulk_both(uint32_t to, const void *from, int bytes, uint32_t barrier)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], %2, "
                 "[%3], %4;" ::"r"(to),
                 "l"(from), "r"(bytes), "r"(barrier), "h"((uint16_t)3)
                 : "memory");
#endif
}

#endif
