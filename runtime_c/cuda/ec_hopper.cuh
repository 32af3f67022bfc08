/*
 * ec_hopper.cuh: what warp groups of one block that do different things need (sm_90a alone; elsewhere nothing of it is
 * compiled): barriers in shared memory, and matrix products whose first operand is in registers. PTX manual, sections "mbarrier", "bar" and "Asynchronous warpgroup level matrix instructions".
 */
#ifndef EC_HOPPER_CUH
#define EC_HOPPER_CUH

#include "ec_wgmma.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

#define EC_LIST_8 "%0, %1, %2, %3, %4, %5, %6, %7"
#define EC_LIST_16 EC_LIST_8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define EC_LIST_32                                                                                                     \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, "   \
    "%24, %25, %26, %27, %28, %29, %30, %31"
#define EC_LIST_64                                                                                                     \
    EC_LIST_32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, "     \
               "%51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define EC_SUMS_8(d, i)                                                                                                \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]),        \
        "+f"(d[i + 7])
#define EC_SUMS_16(d, i) EC_SUMS_8(d, i), EC_SUMS_8(d, i + 8)
#define EC_SUMS_32(d, i) EC_SUMS_16(d, i), EC_SUMS_16(d, i + 16)
#define EC_SUMS_64(d, i) EC_SUMS_32(d, i), EC_SUMS_32(d, i + 32)

/*
 * A warp group's d[64,N] over 16 of k, laid out as ec_wgmma's. `first`: d = a b^T, `more`: d += a b^T, a[64,16] and
 * b[N,16] in shared memory; `registers`: as `more`, a in four registers (as ec_mma's, warp w with the rows from 16 w
 * on); `rows_k`: d += a b, a in registers, too, b's rows are k.
 */
template <typename T, int N> struct ec_group_product;

#define EC_GROUP_PRODUCT(T, KIND, N, COUNT, O0, O1, O2, O3, O4)                                                        \
    template <> struct ec_group_product<T, N> {                                                                        \
        static __device__ __forceinline__ void first(float (&d)[COUNT], uint64_t a, uint64_t b)                        \
        {                                                                                                              \
            asm volatile("wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." KIND "." KIND " {" EC_LIST_##COUNT          \
                         "}, " O0 ", " O1 ", 0, 1, 1, 0, 0;"                                                           \
                         : EC_SUMS_##COUNT(d, 0)                                                                       \
                         : "l"(a), "l"(b));                                                                            \
        }                                                                                                              \
        static __device__ __forceinline__ void more(float (&d)[COUNT], uint64_t a, uint64_t b)                         \
        {                                                                                                              \
            asm volatile("wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." KIND "." KIND " {" EC_LIST_##COUNT          \
                         "}, " O0 ", " O1 ", 1, 1, 1, 0, 0;"                                                           \
                         : EC_SUMS_##COUNT(d, 0)                                                                       \
                         : "l"(a), "l"(b));                                                                            \
        }                                                                                                              \
        static __device__ __forceinline__ void rows_k(float (&d)[COUNT], const uint32_t *a, uint64_t b)                \
        {                                                                                                              \
            asm volatile("wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." KIND "." KIND " {" EC_LIST_##COUNT          \
                         "}, {" O0 ", " O1 ", " O2 ", " O3 "}, " O4 ", 1, 1, 1, 1;"                                    \
                         : EC_SUMS_##COUNT(d, 0)                                                                       \
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                                        \
        }                                                                                                              \
        static __device__ __forceinline__ void registers(float (&d)[COUNT], const uint32_t (&a)[4], uint64_t b)        \
        {                                                                                                              \
            asm volatile("wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." KIND "." KIND " {" EC_LIST_##COUNT          \
                         "}, {" O0 ", " O1 ", " O2 ", " O3 "}, " O4 ", 1, 1, 1, 0;"                                    \
                         : EC_SUMS_##COUNT(d, 0)                                                                       \
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                                        \
        }                                                                                                              \
    }

EC_GROUP_PRODUCT(__half, "f16", 16, 8, "%8", "%9", "%10", "%11", "%12");
EC_GROUP_PRODUCT(__half, "f16", 32, 16, "%16", "%17", "%18", "%19", "%20");
EC_GROUP_PRODUCT(__half, "f16", 64, 32, "%32", "%33", "%34", "%35", "%36");
EC_GROUP_PRODUCT(__half, "f16", 128, 64, "%64", "%65", "%66", "%67", "%68");
EC_GROUP_PRODUCT(__nv_bfloat16, "bf16", 16, 8, "%8", "%9", "%10", "%11", "%12");
EC_GROUP_PRODUCT(__nv_bfloat16, "bf16", 32, 16, "%16", "%17", "%18", "%19", "%20");
EC_GROUP_PRODUCT(__nv_bfloat16, "bf16", 64, 32, "%32", "%33", "%34", "%35", "%36");
EC_GROUP_PRODUCT(__nv_bfloat16, "bf16", 128, 64, "%64", "%65", "%66", "%67", "%68");

/* What rows_k reads from shared address `at` on: slices of 64 columns, `slice_bytes` from one to the next. */
__device__ __forceinline__ uint64_t ec_describe_rows_k(uint32_t at, int slice_bytes)
{
    return (uint64_t)((at & 0x3ffff) >> 4) | (uint64_t)(slice_bytes >> 4) << 16 | (uint64_t)(1024 >> 4) << 32 |
           (uint64_t)1 << 62;
}

/* Products between `open` and `close` are one group; `wait` leaves the last PENDING groups under way. */
__device__ __forceinline__ void ec_products_open()
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void ec_products_close()
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

template <int PENDING> __device__ __forceinline__ void ec_products_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

/* No instruction on these registers moves across this place. */
template <int N> __device__ __forceinline__ void ec_hold(float (&v)[N])
{
#pragma unroll
    for (int i = 0; i < N; i++) {
        asm volatile("" : "+f"(v[i])::"memory");
    }
}

template <int N> __device__ __forceinline__ void ec_hold(uint32_t (&v)[N])
{
#pragma unroll
    for (int i = 0; i < N; i++) {
        asm volatile("" : "+r"(v[i])::"memory");
    }
}

/* The registers of each thread of a warp group, from here on. */
template <int COUNT> __device__ __forceinline__ void ec_more_registers()
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}

template <int COUNT> __device__ __forceinline__ void ec_fewer_registers()
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}

/* Barriers of 8 bytes at a shared address: phase n ends with its `arrivals`-th arrival and is waited for by n % 2. */
__device__ __forceinline__ void ec_barrier_start(uint32_t at, int arrivals)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(at), "r"(arrivals) : "memory");
}

__device__ __forceinline__ void ec_barrier_arrive(uint32_t at)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(at) : "memory");
}

/* Arrives when the copies that this thread has asked for so far are done. */
__device__ __forceinline__ void ec_barrier_arrive_copies(uint32_t at)
{
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(at) : "memory");
}

__device__ __forceinline__ void ec_barrier_wait(uint32_t at, int parity)
{
    asm volatile("{\n"
                 ".reg .pred done;\n"
                 "again:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@done bra ready;\n"
                 "bra again;\n"
                 "ready:\n"
                 "}" ::"r"(at),
                 "r"(parity)
                 : "memory");
}

/* As ec_copy_async16, to a shared address. */
__device__ __forceinline__ void ec_copy_async16_to(uint32_t to, const void *from, bool valid)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(valid ? 16 : 0) : "memory");
}

#endif
#endif
