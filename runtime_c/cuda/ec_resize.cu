/*
 * ec_resize.cu: op resize of x [batch, in_h, in_w, C] to y [batch, out_h, out_w, C], dense.
 *
 * ec_resize_nearest_body: y[n, p, q] = x[n, rows[p], columns[q]], pixels in `vectors` units of BYTES bytes; rows uint16
 * [out_h], columns uint16 [out_w]. Any element type.
 * ec_resize_bilinear_body: rows and columns hold two source lines each (uint16 [out_h, 2], [out_w, 2]), row_weight and
 * column_weight the share of the second (fp32); y = the rows blended first, then the columns, in fp32 with one rounding
 * at the end. T: __half, __nv_bfloat16, float; `vectors` vectors of V channels.
 * One unit or vector a thread. No scratch.
 *
 * H200, 2026-11-21, fp16, benchmarks/cuda_memory.py: bilinear of 32 x 32 x 256 to 128 x 128 in 6.1 us (PyTorch 39.1).
 */
#include "ec_move.cuh"
#include "ec_pool2d_params.h"

/* The pixel and vector that this thread makes. */
struct ec_resized {
    uint32_t index;
    int n, p, q, vector;
    __device__ __forceinline__ explicit ec_resized(const ec_resize_cuda_params &params)
    {
        index = blockIdx.x * blockDim.x + threadIdx.x;
        const uint32_t pixel = index / (uint32_t)params.vectors, line = pixel / (uint32_t)params.out_w;
        vector = (int)(index - pixel * (uint32_t)params.vectors);
        q = (int)(pixel - line * (uint32_t)params.out_w);
        n = (int)(line / (uint32_t)params.out_h);
        p = (int)(line - (uint32_t)n * (uint32_t)params.out_h);
    }
};

template <int BYTES>
__device__ __forceinline__ void ec_resize_nearest_body(const ec_resize_cuda_params &p, const void *x, const void *rows,
                                                       const void *columns, void *y)
{
    typedef typename ec_unit<BYTES>::type U;
    const ec_resized at(p);
    if (at.n >= p.batch) {
        return;
    }
    const int row = ((const uint16_t *)rows)[at.p], column = ((const uint16_t *)columns)[at.q];
    const size_t from = (((size_t)at.n * p.in_h + row) * p.in_w + column) * p.vectors + at.vector;
    ((U *)y)[at.index] = ((const U *)x)[from];
}

template <typename T, int V>
__device__ __forceinline__ void ec_resize_bilinear_body(const ec_resize_cuda_params &p, const void *x, const void *rows,
                                                        const void *columns, const void *row_weight,
                                                        const void *column_weight, void *y)
{
    const ec_resized at(p);
    if (at.n >= p.batch) {
        return;
    }
    const ushort2 row = ((const ushort2 *)rows)[at.p], column = ((const ushort2 *)columns)[at.q];
    const float w = ((const float *)row_weight)[at.p], u = ((const float *)column_weight)[at.q];
    const T *from = (const T *)x + ((size_t)at.n * p.in_h * p.in_w * p.vectors + at.vector) * V;
    const size_t pitch = (size_t)p.vectors * V;
    float a[V], b[V], c[V], d[V];
    ec_load<T, V>(a, from + ((size_t)row.x * p.in_w + column.x) * pitch);
    ec_load<T, V>(b, from + ((size_t)row.y * p.in_w + column.x) * pitch);
    ec_load<T, V>(c, from + ((size_t)row.x * p.in_w + column.y) * pitch);
    ec_load<T, V>(d, from + ((size_t)row.y * p.in_w + column.y) * pitch);
#pragma unroll
    for (int k = 0; k < V; k++) {
        const float first = a[k] * (1.0f - w) + b[k] * w, second = c[k] * (1.0f - w) + d[k] * w;
        a[k] = first * (1.0f - u) + second * u;
    }
    ec_store<T, V>((T *)y + (size_t)at.index * V, a);
}
