/*
 * ec_linear_w8a8.cu: int8 products with scales known at run time, and the rows that they take.
 *
 * ec_quantize_rows_body: a[m] = max_k |x[m,k]|, scale[m] = a / 127, q[m,k] = rint(x[m,k] (127 / a)) in [-127, 127]; rows
 * below 1e-30 are zeros. Every step is rounded to float32 once: equals quantize_rows of edgec/ops/linear_w8a8.py bit for
 * bit. x [rows, K], q int8 [rows, K], scale float [rows]. One block a row; V divides K.
 *
 * ec_linear_w8a8_body: y[m,n] = epilogue(clamp(float(sum_k q[m,k] w[n,k]) (scale[m] sw[n]) + bias[n])). Sums are exact in
 * int32 (K < 133,000); the steps after them are rounded once each, as in the op. q and w int8 with rows of whole 16-byte
 * chunks, sw and bias float [N], y of type T.
 *
 * Measured on an H200, 2026-11-21, fp16, weights from memory, one launch of a graph of many (benchmarks/cuda_linears.py):
 * one row, N x K 6144x4096 8.7 us, 4096x4096 8.1, 28672x4096 28.4, 4096x14336 16.5; sum 61.6, and 62.5 with 8 rows
 * (reading the weights at 4.8 TB/s: 45.4). Quantising rows of 4096 takes 1.8, of 14336 3.1.
 */
#include "ec_gemm.cuh"
#include "ec_gemm_params.h"
#include "ec_linear_w8a8_params.h"
#include "ec_rows.cuh"

extern __shared__ __align__(128) unsigned char ec_shared[];

/* Maximum over the block; every thread gets it. */
template <int THREADS> __device__ __forceinline__ float ec_block_max(float v)
{
    __shared__ float warps[THREADS / 32];
    v = ec_warp_max(v);
    if (threadIdx.x % 32 == 0) {
        warps[threadIdx.x / 32] = v;
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < THREADS / 32; i++) {
        v = fmaxf(v, warps[i]);
    }
    return v;
}

template <typename T, int V, int THREADS>
__device__ __forceinline__ void ec_quantize_rows_body(const ec_quantize_rows_params &p, const void *x, void *q,
                                                      void *scale)
{
    const T *row = (const T *)x + (size_t)blockIdx.x * p.in_c;
    int8_t *to = (int8_t *)q + (size_t)blockIdx.x * p.in_c;
    float most = 0.0f;
    for (int k = threadIdx.x * V; k < p.in_c; k += THREADS * V) {
        float v[V];
        ec_load<T, V>(v, row + k);
#pragma unroll
        for (int e = 0; e < V; e++) {
            most = fmaxf(most, fabsf(v[e]));
        }
    }
    most = ec_block_max<THREADS>(most);
    const bool zeros = most < 1e-30f;
    const float inverse = zeros ? 0.0f : __fdiv_rn(127.0f, most);
    if (threadIdx.x == 0) {
        ((float *)scale)[blockIdx.x] = zeros ? 0.0f : __fdiv_rn(most, 127.0f);
    }
    for (int k = threadIdx.x * V; k < p.in_c; k += THREADS * V) {
        float v[V];
        ec_load<T, V>(v, row + k);
        ec_vector<int8_t, V> out;
#pragma unroll
        for (int e = 0; e < V; e++) {
            out.at[e] = (int8_t)fminf(fmaxf(rintf(__fmul_rn(v[e], inverse)), -127.0f), 127.0f);
        }
        *reinterpret_cast<ec_vector<int8_t, V> *>(to + k) = out;
    }
}

/* Scales, bias, clamp, epilogue and store of V sums of a row. */
template <typename T, typename EPILOGUE> struct ec_finish_w8a8 {
    const float *row_scale, *column_scale, *bias;
    float low, high;
    T *y;
    int n;
    EPILOGUE epilogue;

    template <int V> __device__ __forceinline__ void run(int32_t (&sum)[V], int row, int column) const
    {
        const float scale = row_scale[row];
        float v[V];
#pragma unroll
        for (int e = 0; e < V; e++) {
            const float both = __fmul_rn(scale, column_scale[column + e]);
            v[e] = __fadd_rn(__fmul_rn(__int2float_rn(sum[e]), both), bias[column + e]);
            v[e] = fminf(fmaxf(v[e], low), high);
        }
        const size_t index = (size_t)row * n + column;
        epilogue.template apply<V>(v, index, column);
        ec_store<T, V>(y + index, v);
    }
};

template <typename TILE, int SPLIT, int V, typename T, typename EPILOGUE>
__device__ __forceinline__ void ec_linear_w8a8_body(const ec_gemm_params &p, const void *q, const void *scale,
                                                    const void *w, const void *column_scale, const void *bias,
                                                    void *y, void *scratch, void *counters,
                                                    const EPILOGUE &epilogue)
{
    ec_launch_next();
    const ec_place place = ec_place::of<TILE>(p.m, p.splits);
    const int first = place.first<TILE>(p.k), last = place.last<TILE>(p.k);
    ec_rows_dense<TILE, TILE::ROWS_A, true, false> a(q, p.pitch_a, place.row, p.m, p.k);
    ec_rows_dense<TILE, TILE::ROWS_B, true, true> b(w, p.pitch_b, place.column, p.n, p.pitch_b);
    ec_sums<TILE> sums;
    ec_gemm_core(sums, a, b, ec_all_slices(), first, last, ec_shared);
    const ec_finish_w8a8<T, EPILOGUE> finish = {(const float *)scale, (const float *)column_scale,
                                                (const float *)bias,  p.act_min,
                                                p.act_max,            (T *)y,
                                                p.n,                  epilogue};
    ec_gemm_finish<TILE, SPLIT, V>(sums, place, p.m, p.n, ec_shared, scratch, counters, finish);
}
