/*
 * ec_row_norm.cu: ops layer_norm and rms_norm over the innermost `count` elements.
 *
 *     layer_norm: y[r, i] = (x[r, i] - mean_r) / sqrt(mean_i (x[r, i] - mean_r)^2 + eps) * gain[i] + bias[i]
 *     rms_norm:   y[r, i] = x[r, i] / sqrt(mean_i x[r, i]^2 + eps) * gain[i]
 *
 * x, y [rows, count], gain and bias [count], all of type T (__half, __nv_bfloat16, float), dense; count a multiple of V.
 * Statistics in fp32, the variance from the centred row; one rounding at the end. CENTRED: layer_norm. GAIN, BIAS:
 * whether they are there (one element is passed where not). EARLY: they are constants, loaded before the kernel waits
 * for the one before it.
 *
 * ec_row_norm_body holds a row in registers (ec_row_values.cuh); grid: rows / (threads / LANES). ec_row_norm_long_body
 * takes rows of any length, one a block, and reads them three times. No scratch.
 *
 * H200, 2026-11-21, fp16, benchmarks/cuda_memory.py: layer_norm of 3136 x 96 in 1.21 us (PyTorch 5.31), 197 x 768 in 1.13
 * (3.32), 65536 x 1024 at 80 % of 4.2 TB/s (43 %); rms_norm of 1 x 4096 in 1.13 us (4.17).
 */
#include "ec_norm_params.h"
#include "ec_row_values.cuh"

template <typename T, int V, int LANES, int VECS, bool CENTRED, bool GAIN, bool BIAS, bool EARLY>
__device__ __forceinline__ void ec_row_norm_body(const ec_row_norm_params &p, const void *x, const void *gain,
                                                 const void *bias, void *y)
{
    float g[VECS][V], b[VECS][V], v[VECS][V];
    if (EARLY && GAIN) {
        ec_row_load<T, V, LANES, VECS>(g, (const T *)gain, p.count, 0.0f);
    }
    if (EARLY && BIAS) {
        ec_row_load<T, V, LANES, VECS>(b, (const T *)bias, p.count, 0.0f);
    }
    ec_wait_previous();
    ec_launch_next();
    const int row = (int)(blockIdx.x * (blockDim.x / LANES) + threadIdx.x / LANES);
    const size_t start = (size_t)min(row, p.rows - 1) * p.count;
    ec_row_load<T, V, LANES, VECS>(v, (const T *)x + start, p.count, 0.0f);
    if (!EARLY && GAIN) {
        ec_row_load<T, V, LANES, VECS>(g, (const T *)gain, p.count, 0.0f);
    }
    if (!EARLY && BIAS) {
        ec_row_load<T, V, LANES, VECS>(b, (const T *)bias, p.count, 0.0f);
    }
    float mean = 0.0f, square = 0.0f;
    if (CENTRED) {
#pragma unroll
        for (int k = 0; k < VECS; k++) {
#pragma unroll
            for (int i = 0; i < V; i++) {
                mean += v[k][i];
            }
        }
        mean = ec_across<ec_add, LANES>(mean) * p.inverse;
    }
#pragma unroll
    for (int k = 0; k < VECS; k++) {
        const bool inside = (k * LANES + (int)threadIdx.x % LANES) * V < p.count;
#pragma unroll
        for (int i = 0; i < V; i++) {
            v[k][i] = inside ? v[k][i] - mean : 0.0f;
            square += v[k][i] * v[k][i];
        }
    }
    const float scale = rsqrtf(ec_across<ec_add, LANES>(square) * p.inverse + p.eps);
#pragma unroll
    for (int k = 0; k < VECS; k++) {
#pragma unroll
        for (int i = 0; i < V; i++) {
            v[k][i] = v[k][i] * scale * (GAIN ? g[k][i] : 1.0f) + (BIAS ? b[k][i] : 0.0f);
        }
    }
    if (row < p.rows) {
        ec_row_store<T, V, LANES, VECS>((T *)y + start, v, p.count);
    }
}

template <typename T, int THREADS, bool CENTRED, bool GAIN, bool BIAS>
__device__ __forceinline__ void ec_row_norm_long_body(const ec_row_norm_params &p, const void *x, const void *gain,
                                                      const void *bias, void *y)
{
    const T *row = (const T *)x + (size_t)blockIdx.x * p.count;
    T *out = (T *)y + (size_t)blockIdx.x * p.count;
    float mean = 0.0f, square = 0.0f;
    if (CENTRED) {
        for (int i = (int)threadIdx.x; i < p.count; i += THREADS) {
            mean += ec_float(row[i]);
        }
        mean = ec_across<ec_add, THREADS>(mean) * p.inverse;
    }
    for (int i = (int)threadIdx.x; i < p.count; i += THREADS) {
        const float d = ec_float(row[i]) - mean;
        square += d * d;
    }
    const float scale = rsqrtf(ec_across<ec_add, THREADS>(square) * p.inverse + p.eps);
    for (int i = (int)threadIdx.x; i < p.count; i += THREADS) {
        const float g = GAIN ? ec_float(((const T *)gain)[i]) : 1.0f, b = BIAS ? ec_float(((const T *)bias)[i]) : 0.0f;
        out[i] = ec_element<T>::of((ec_float(row[i]) - mean) * scale * g + b);
    }
}
