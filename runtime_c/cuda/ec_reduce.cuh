/*
 * ec_reduce.cuh: how elements are joined by a reduction. `carry` is what T is summed in: float for the float types and
 * int32, wrapping, for int32. NaN wins a maximum and a minimum.
 */
#ifndef EC_REDUCE_CUH
#define EC_REDUCE_CUH

#include "ec_cuda.cuh"

template <typename T> struct ec_carry {
    typedef float type;
    static __device__ __forceinline__ float in(T v)
    {
        return ec_float(v);
    }
    static __device__ __forceinline__ T out(float v, float scale)
    {
        return ec_element<T>::of(v * scale);
    }
    static constexpr float HIGHEST = INFINITY, LOWEST = -INFINITY;
};
template <> struct ec_carry<int32_t> {
    typedef int32_t type;
    static __device__ __forceinline__ int32_t in(int32_t v)
    {
        return v;
    }
    static __device__ __forceinline__ int32_t out(int32_t v, float)
    {
        return v;
    }
    static constexpr int32_t HIGHEST = 2147483647, LOWEST = -2147483647 - 1;
};

template <typename T> struct ec_reduce_sum {
    typedef typename ec_carry<T>::type C;
    static __device__ __forceinline__ C start()
    {
        return 0;
    }
    static __device__ __forceinline__ float of(float a, float b)
    {
        return a + b;
    }
    static __device__ __forceinline__ int32_t of(int32_t a, int32_t b)
    {
        return (int32_t)((uint32_t)a + (uint32_t)b);
    }
};
template <typename T> struct ec_reduce_max {
    typedef typename ec_carry<T>::type C;
    static __device__ __forceinline__ C start()
    {
        return ec_carry<T>::LOWEST;
    }
    static __device__ __forceinline__ C of(C a, C b)
    {
        return a > b || a != a ? a : b;
    }
};
template <typename T> struct ec_reduce_min {
    typedef typename ec_carry<T>::type C;
    static __device__ __forceinline__ C start()
    {
        return ec_carry<T>::HIGHEST;
    }
    static __device__ __forceinline__ C of(C a, C b)
    {
        return a < b || a != a ? a : b;
    }
};

/* Whether this block is the last of `blocks` to get here; what the others wrote before is then visible. The counter is
 * zero again after the last. For every thread of the block. */
__device__ __forceinline__ bool ec_last_block(int32_t *counter, int blocks)
{
    __shared__ bool last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        last = atomicAdd(counter, 1) == blocks - 1;
        if (last) {
            *counter = 0;
        }
    }
    __syncthreads();
    if (last) {
        __threadfence();
    }
    return last;
}

#endif
