/*
 * ec_group_norm.cu: op group_norm, y[n, q, c] = (x[n, q, c] - mean) / sqrt(variance + eps) * gain[c] + bias[c], mean and
 * variance over all positions q and the channels of c's group; and op batch_norm, y[r, c] = (x[r, c] - mean[c]) *
 * gamma[c] / sqrt(var[c] + eps) + beta[c].
 *
 * x, y [batch, positions, channels] of type T (__half, __nv_bfloat16, float), dense; gain, bias, mean, var [channels].
 * `group`, for batch_norm `channels`, is a multiple of V. Statistics in fp32, the variance from centred values; one
 * rounding at the end. GAIN, BIAS: whether they are there (one element is passed where not).
 * ec_group_norm_body: one group of one image a block, read three times; grid: groups, batch. ec_batch_norm_body: one
 * vector a thread. No scratch.
 *
 * H200, 2026-11-21, fp16, benchmarks/cuda_memory.py: 64 x 64 x 320 in 32 groups in 24.6 us (PyTorch 39.7): one block a
 * group leaves most SMs idle.
 */
#include "ec_norm_params.h"
#include "ec_row_values.cuh"

/* Sum over the group of x - mean, or of its square. */
template <typename T, int V, int THREADS, bool SQUARE>
__device__ __forceinline__ float ec_group_sum(const ec_group_norm_cuda_params &p, const T *from, float mean)
{
    const int vectors = p.group / V, total = vectors * p.positions;
    float sum = 0.0f;
#pragma unroll 4
    for (int i = (int)threadIdx.x; i < total; i += THREADS) {
        float v[V];
        ec_load<T, V>(v, from + (size_t)(i / vectors) * p.channels + i % vectors * V);
#pragma unroll
        for (int k = 0; k < V; k++) {
            const float d = v[k] - mean;
            sum += SQUARE ? d * d : d;
        }
    }
    return ec_across<ec_add, THREADS>(sum);
}

template <typename T, int V, int THREADS, bool GAIN, bool BIAS>
__device__ __forceinline__ void ec_group_norm_body(const ec_group_norm_cuda_params &p, const void *x, const void *gain,
                                                   const void *bias, void *y)
{
    const int first = (int)blockIdx.x * p.group;
    const size_t start = (size_t)blockIdx.y * p.positions * p.channels + first;
    const T *from = (const T *)x + start;
    const float mean = ec_group_sum<T, V, THREADS, false>(p, from, 0.0f) * p.inverse;
    const float scale = rsqrtf(ec_group_sum<T, V, THREADS, true>(p, from, mean) * p.inverse + p.eps);
    const int vectors = p.group / V, total = vectors * p.positions;
#pragma unroll 2
    for (int i = (int)threadIdx.x; i < total; i += THREADS) {
        const int c = i % vectors * V;
        const size_t at = (size_t)(i / vectors) * p.channels + c;
        float v[V], g[V], b[V];
        ec_load<T, V>(v, from + at);
        if (GAIN) {
            ec_load<T, V>(g, (const T *)gain + first + c);
        }
        if (BIAS) {
            ec_load<T, V>(b, (const T *)bias + first + c);
        }
#pragma unroll
        for (int k = 0; k < V; k++) {
            v[k] = (v[k] - mean) * scale * (GAIN ? g[k] : 1.0f) + (BIAS ? b[k] : 0.0f);
        }
        ec_store<T, V>((T *)y + start + at, v);
    }
}

template <typename T, int V>
__device__ __forceinline__ void ec_batch_norm_body(const ec_batch_norm_params &p, const void *x, const void *gamma,
                                                   const void *beta, const void *mean, const void *var, void *y)
{
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x, vectors = (uint32_t)p.channels / V;
    if (i >= (uint32_t)p.rows * vectors) {
        return;
    }
    const int c = (int)(i % vectors) * V;
    float v[V], g[V], b[V], m[V], s[V];
    ec_load<T, V>(v, (const T *)x + (size_t)i * V);
    ec_load<T, V>(g, (const T *)gamma + c);
    ec_load<T, V>(b, (const T *)beta + c);
    ec_load<T, V>(m, (const T *)mean + c);
    ec_load<T, V>(s, (const T *)var + c);
#pragma unroll
    for (int k = 0; k < V; k++) {
        v[k] = (v[k] - m[k]) * (g[k] * rsqrtf(s[k] + p.eps)) + b[k];
    }
    ec_store<T, V>((T *)y + (size_t)i * V, v);
}
