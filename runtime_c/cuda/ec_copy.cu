/*
 * ec_copy.cu: one strided copy, y[i0, .., i5] = x[offset + sum_a i_a * stride_a]; of ops transpose, expand, slice, select
 * and pixel_shuffle. And y = value, but x inside of its place (pad), or x shifted cyclically along its axes (roll).
 *
 * y is dense. Units of BYTES bytes (ec_move.cuh); all sizes and strides count them. AXES: how many of the axes, counted
 * from the innermost, are longer than 1. fill_0..3: 16 bytes of repeated new elements. One unit a thread. No scratch.
 *
 * H200, 2026-11-21, fp16, benchmarks/cuda_memory.py: heads of 197 x 12 x 64 in 0.84 us (PyTorch 2.16), roll of 56 x 56 x 96
 * in 1.05 (4.98), pad of 56 x 56 x 64 in 0.97 (3.16).
 */
#include "ec_move.cuh"
#include "ec_move_params.h"

#define EC_TAKE(axis)                                                                                                  \
    if (AXES > 5 - axis + 1) {                                                                                         \
        const uint32_t rest = ec_divide(i, p.magic_##axis, p.shift_##axis);                                            \
        from += (int64_t)(i - rest * p.size_##axis) * p.stride_##axis;                                                 \
        i = rest;                                                                                                      \
    } else if (AXES == 5 - axis + 1) {                                                                                 \
        from += (int64_t)i * p.stride_##axis;                                                                          \
    }

template <int BYTES, int AXES>
__device__ __forceinline__ void ec_copy_body(const ec_copy_cuda_params &p, const void *x, void *y)
{
    typedef typename ec_unit<BYTES>::type U;
    const uint32_t at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= p.total) {
        return;
    }
    uint32_t i = at;
    int64_t from = p.offset;
    EC_TAKE(5)
    EC_TAKE(4)
    EC_TAKE(3)
    EC_TAKE(2)
    EC_TAKE(1)
    if (AXES == 6) {
        from += (int64_t)i * p.stride_0;
    }
    ((U *)y)[at] = ((const U *)x)[from];
}
#undef EC_TAKE

__device__ __forceinline__ void ec_fill(uint4 &to, const ec_place_params &p)
{
    to = make_uint4(p.fill_0, p.fill_1, p.fill_2, p.fill_3);
}
__device__ __forceinline__ void ec_fill(uint2 &to, const ec_place_params &p)
{
    to = make_uint2(p.fill_0, p.fill_1);
}
template <typename U> __device__ __forceinline__ void ec_fill(U &to, const ec_place_params &p)
{
    to = (U)p.fill_0;
}

/* c minus before, along one axis of an input of `size`: into the axis for a roll, else marked where it lies outside. */
template <bool ROLL> __device__ __forceinline__ int32_t ec_placed(uint32_t c, int32_t before, int32_t size, bool &inside)
{
    const int32_t moved = (int32_t)c - before;
    if (ROLL) {
        return moved < 0 ? moved + size : moved;
    }
    inside = inside && moved >= 0 && moved < size;
    return moved;
}

template <int BYTES, bool ROLL>
__device__ __forceinline__ void ec_place_body(const ec_place_params &p, const void *x, void *y)
{
    typedef typename ec_unit<BYTES>::type U;
    const uint32_t at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= p.total) {
        return;
    }
    const uint32_t q3 = ec_divide(at, p.magic_3, p.shift_3), q2 = ec_divide(q3, p.magic_2, p.shift_2);
    const uint32_t q1 = ec_divide(q2, p.magic_1, p.shift_1);
    bool inside = true;
    const int32_t i3 = ec_placed<ROLL>(at - q3 * p.size_3, p.before_3, p.from_3, inside);
    const int32_t i2 = ec_placed<ROLL>(q3 - q2 * p.size_2, p.before_2, p.from_2, inside);
    const int32_t i1 = ec_placed<ROLL>(q2 - q1 * p.size_1, p.before_1, p.from_1, inside);
    const int32_t i0 = ec_placed<ROLL>(q1, p.before_0, p.from_0, inside);
    U unit;
    if (inside) {
        unit = ((const U *)x)[(((size_t)i0 * p.from_1 + i1) * p.from_2 + i2) * p.from_3 + i3];
    } else {
        ec_fill(unit, p);
    }
    ((U *)y)[at] = unit;
}
