/*
 * ec_softmax.cu: y = exp(x - max) / sum(exp(x - max)) along an axis, of op softmax; LOG: x - max - log(sum), of op
 * log_softmax.
 *
 * x, y [outer, count, inner] of type T (__half, __nv_bfloat16, float), dense. Sums in fp32, one rounding at the end.
 * ec_softmax_body: inner 1, count a multiple of V, the row in registers (ec_row_values.cuh); grid: rows / (threads /
 * LANES). ec_softmax_long_body: inner 1, any count, one row a block, read three times. ec_softmax_inner_body: any inner,
 * one (outer, inner) a thread, read three times. No scratch; y may be x.
 *
 * H200, 2026-11-21, fp16, benchmarks/cuda_memory.py: 12 x 197 x 197 in 1.74 us (PyTorch 2.34), 65536 x 1024 at 80 % of
 * 4.2 TB/s (61 %).
 */
#include "ec_norm_params.h"
#include "ec_row_values.cuh"

template <typename T, int V, int LANES, int VECS, bool LOG>
__device__ __forceinline__ void ec_softmax_body(const ec_softmax_cuda_params &p, const void *x, void *y)
{
    float v[VECS][V];
    const int row = (int)(blockIdx.x * (blockDim.x / LANES) + threadIdx.x / LANES);
    const size_t start = (size_t)min(row, p.rows - 1) * p.count;
    ec_row_load<T, V, LANES, VECS>(v, (const T *)x + start, p.count, -INFINITY);
    float largest = v[0][0], sum = 0.0f;
#pragma unroll
    for (int k = 0; k < VECS; k++) {
#pragma unroll
        for (int i = 0; i < V; i++) {
            largest = fmaxf(largest, v[k][i]);
        }
    }
    largest = ec_across<ec_larger, LANES>(largest);
#pragma unroll
    for (int k = 0; k < VECS; k++) {
#pragma unroll
        for (int i = 0; i < V; i++) {
            const float e = ec_exp<T>(v[k][i] - largest);
            sum += e;
            v[k][i] = LOG ? v[k][i] - largest : e;
        }
    }
    sum = ec_across<ec_add, LANES>(sum);
    const float last = LOG ? -logf(sum) : 1.0f / sum;
#pragma unroll
    for (int k = 0; k < VECS; k++) {
#pragma unroll
        for (int i = 0; i < V; i++) {
            v[k][i] = LOG ? v[k][i] + last : v[k][i] * last;
        }
    }
    if (row < p.rows) {
        ec_row_store<T, V, LANES, VECS>((T *)y + start, v, p.count);
    }
}

template <typename T, int THREADS, bool LOG>
__device__ __forceinline__ void ec_softmax_long_body(const ec_softmax_cuda_params &p, const void *x, void *y)
{
    const T *row = (const T *)x + (size_t)blockIdx.x * p.count;
    T *out = (T *)y + (size_t)blockIdx.x * p.count;
    float largest = -INFINITY, sum = 0.0f;
    for (int i = (int)threadIdx.x; i < p.count; i += THREADS) {
        largest = ec_larger::of(largest, ec_float(row[i]));
    }
    largest = ec_across<ec_larger, THREADS>(largest);
    for (int i = (int)threadIdx.x; i < p.count; i += THREADS) {
        sum += ec_exp<T>(ec_float(row[i]) - largest);
    }
    sum = ec_across<ec_add, THREADS>(sum);
    const float last = LOG ? logf(sum) : 1.0f / sum;
    for (int i = (int)threadIdx.x; i < p.count; i += THREADS) {
        const float d = ec_float(row[i]) - largest;
        out[i] = ec_element<T>::of(LOG ? d - last : ec_exp<T>(d) * last);
    }
}

template <typename T, bool LOG>
__device__ __forceinline__ void ec_softmax_inner_body(const ec_softmax_cuda_params &p, const void *x, void *y)
{
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= p.rows) {
        return;
    }
    const size_t start = (size_t)(i / p.inner) * p.count * p.inner + i % p.inner;
    const T *from = (const T *)x + start;
    float largest = -INFINITY, sum = 0.0f;
#pragma unroll 4
    for (int k = 0; k < p.count; k++) {
        largest = ec_larger::of(largest, ec_float(from[(size_t)k * p.inner]));
    }
#pragma unroll 4
    for (int k = 0; k < p.count; k++) {
        sum += ec_exp<T>(ec_float(from[(size_t)k * p.inner]) - largest);
    }
    const float last = LOG ? logf(sum) : 1.0f / sum;
#pragma unroll 4
    for (int k = 0; k < p.count; k++) {
        const float d = ec_float(from[(size_t)k * p.inner]) - largest;
        ((T *)y)[start + (size_t)k * p.inner] = ec_element<T>::of(LOG ? d - last : ec_exp<T>(d) * last);
    }
}
