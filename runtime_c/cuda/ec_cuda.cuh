/*
 * ec_cuda.cuh: what every CUDA kernel shares: element types and their conversions, 16-byte vectors, asynchronous
 * copies, reductions over a warp and a block, and the hand-over between kernels of a graph.
 *
 * sm_87 and later. Nothing here allocates or synchronises with the host.
 */
#ifndef EC_CUDA_CUH
#define EC_CUDA_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Programmatic dependent launch (sm_90): a kernel of a graph may start while the one before it still runs. Before it
 * touches any buffer of the arena, every thread waits for the previous kernel; on older chips graphs run kernels one
 * after the other and both functions are empty.
 */
__device__ __forceinline__ void ec_wait_previous()
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

__device__ __forceinline__ void ec_launch_next()
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

/* Element types to float and back, rounding to nearest even. */
__device__ __forceinline__ float ec_float(float v)
{
    return v;
}
__device__ __forceinline__ float ec_float(__half v)
{
    return __half2float(v);
}
__device__ __forceinline__ float ec_float(__nv_bfloat16 v)
{
    return __bfloat162float(v);
}
__device__ __forceinline__ float ec_float(int8_t v)
{
    return (float)v;
}

template <typename T> struct ec_element;
template <> struct ec_element<float> {
    static __device__ __forceinline__ float of(float v)
    {
        return v;
    }
};
template <> struct ec_element<__half> {
    static __device__ __forceinline__ __half of(float v)
    {
        return __float2half_rn(v);
    }
};
template <> struct ec_element<__nv_bfloat16> {
    static __device__ __forceinline__ __nv_bfloat16 of(float v)
    {
        return __float2bfloat16_rn(v);
    }
};
template <> struct ec_element<int8_t> {
    static __device__ __forceinline__ int8_t of(float v)
    {
        return (int8_t)fminf(fmaxf(rintf(v), -128.0f), 127.0f);
    }
};

/* V elements of T as one access; `aligned` to its own size. */
template <typename T, int V> struct alignas(sizeof(T) * V) ec_vector {
    T at[V];
};

/* V elements from memory that this kernel may also write, as floats. */
template <typename T, int V>
__device__ __forceinline__ void ec_load(float (&out)[V], const T *from)
{
    const ec_vector<T, V> v = *reinterpret_cast<const ec_vector<T, V> *>(from);
#pragma unroll
    for (int i = 0; i < V; i++) {
        out[i] = ec_float(v.at[i]);
    }
}

template <typename T, int V>
__device__ __forceinline__ void ec_store(T *to, const float (&in)[V])
{
    ec_vector<T, V> v;
#pragma unroll
    for (int i = 0; i < V; i++) {
        v.at[i] = ec_element<T>::of(in[i]);
    }
    *reinterpret_cast<ec_vector<T, V> *>(to) = v;
}

/* As ec_load, in accesses of 16 bytes at most. */
template <typename T, int V>
__device__ __forceinline__ void ec_load_run(float (&out)[V], const T *from)
{
    constexpr int MOST = 16 / (int)sizeof(T), RUN = V < MOST ? V : MOST;
#pragma unroll
    for (int at = 0; at < V; at += RUN) {
        const ec_vector<T, RUN> v = *reinterpret_cast<const ec_vector<T, RUN> *>(from + at);
#pragma unroll
        for (int i = 0; i < RUN; i++) {
            out[at + i] = ec_float(v.at[i]);
        }
    }
}

/* Sum and maximum over a warp; every lane gets the result. */
__device__ __forceinline__ float ec_warp_sum(float v)
{
#pragma unroll
    for (int step = 16; step > 0; step >>= 1) {
        v += __shfl_xor_sync(0xffffffffu, v, step);
    }
    return v;
}

__device__ __forceinline__ float ec_warp_max(float v)
{
#pragma unroll
    for (int step = 16; step > 0; step >>= 1) {
        v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, step));
    }
    return v;
}

/* Barrier `which` (1 to 15) of THREADS threads: `sync` waits for all, `arrive` does not. */
template <int THREADS> __device__ __forceinline__ void ec_some_sync(int which)
{
    asm volatile("bar.sync %0, %1;" ::"r"(which), "n"(THREADS) : "memory");
}

template <int THREADS> __device__ __forceinline__ void ec_some_arrive(int which)
{
    asm volatile("bar.arrive %0, %1;" ::"r"(which), "n"(THREADS) : "memory");
}

/* Shared memory at 32-bit addresses. */
__device__ __forceinline__ uint4 ec_load_shared16(uint32_t shared)
{
    uint4 v;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "r"(shared)
                 : "memory");
    return v;
}

__device__ __forceinline__ uint32_t ec_load_shared4(uint32_t shared)
{
    uint32_t v;
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(shared) : "memory");
    return v;
}

__device__ __forceinline__ uint32_t ec_load_shared2(uint32_t shared)
{
    uint16_t v;
    asm volatile("ld.shared.u16 %0, [%1];" : "=h"(v) : "r"(shared) : "memory");
    return v;
}

__device__ __forceinline__ void ec_store_shared16(uint32_t shared, int4 v)
{
    asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(shared), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
                 : "memory");
}

/* 16 bytes from global to shared memory, asynchronously; zeros where `valid` is false (then `from` is not read). */
__device__ __forceinline__ void ec_copy_async16(void *to_shared, const void *from, bool valid)
{
    const uint32_t to = (uint32_t)__cvta_generic_to_shared(to_shared);
    const int bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}

/* The same of 4 bytes. */
__device__ __forceinline__ void ec_copy_async4(void *to_shared, const void *from)
{
    const uint32_t to = (uint32_t)__cvta_generic_to_shared(to_shared);
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(from) : "memory");
}

__device__ __forceinline__ void ec_copy_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Wait until at most PENDING groups of this thread's copies are under way. */
template <int PENDING> __device__ __forceinline__ void ec_copy_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

/*
 * erf for results that are rounded to a half type: Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26;
 * absolute error below 3e-7.
 */
__device__ __forceinline__ float ec_erf_half(float x)
{
    const float a = fabsf(x);
    const float t = __fdividef(1.0f, 1.0f + 0.3275911f * a);
    const float p = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t + 0.254829592f) * t;
    return copysignf(1.0f - p * __expf(-a * a), x);
}

/* The epilogue that does nothing: see backends/cuda_epilogue.py. */
struct ec_no_epilogue {
    template <int V>
    __device__ __forceinline__ void apply(float (&v)[V], size_t index, int column) const
    {
    }
    template <int V>
    __device__ __forceinline__ void apply_s8(int32_t (&v)[V], size_t index, int column) const
    {
    }
};

#endif
