/*
 * ec_attention_linear.cu: ReLU linear attention (EfficientViT), y[n,t,a,:] = relu(q_t) S / (relu(q_t) . s + eps) with
 * S = sum_t relu(k_t)^T v_t [D][D] and s = sum_t relu(k_t).
 *
 * q, k, v: T at the places of ec_linear_attention_params, rows 16-byte aligned; y: T [n][tokens][heads][D]. D is 8, 16
 * or 32. A block takes tokens of one head for S and s, each warp every sixteenth of them; the warps' sums are added in
 * dynamic shared memory (float [WARPS + 1][D][D + 1]) in a fixed order. Grid: (parts, heads, batch). One launch, in
 * which each block sums up all tokens and makes y of `part` of them; or, for many tokens, a first launch that leaves
 * the sums of `part` tokens in the scratch, float [n][heads][parts][D][D + 1], and a second that adds them up and
 * makes y. All in float32. Equals edgec.ops.linear_attention within rounding.
 *
 * Measured, NVIDIA H200, CUDA 13.0, 2026-11-21, fp16, us a launch in a graph: EfficientViT-B1's 196 tokens, 16 heads
 * of 16: 5.8 with one block a head, 3.6 with blocks that repeat the sums and make y of 32 tokens; 49 tokens, 32
 * heads: 2.7.
 */
#include "ec_attention_params.h"
#include "ec_cuda.cuh"

enum { EC_LINEAR_WARPS = 16, EC_LINEAR_THREADS = 32 * EC_LINEAR_WARPS };

/* Sums of the tokens first..last-1, [D][D + 1] in `shared` (float [WARPS + 1][D][D + 1]); the last column is s. */
template <typename T, int D>
__device__ __forceinline__ void ec_linear_sums(const T *k, const T *v, int64_t k_step, int64_t v_step, int first,
                                               int last, float *shared)
{
    constexpr int OWN = D * D / 32, SIZE = D * (D + 1); /* channels of v that a lane has; one of k */
    constexpr int EACH = D / OWN;                       /* lanes a channel of k */
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, d = lane / EACH, e = lane % EACH * OWN;
    constexpr int LOAD = OWN < 16 / (int)sizeof(T) ? OWN : 16 / (int)sizeof(T), AHEAD = D < 32 ? 8 : 2;
    float sum[OWN] = {}, total = 0.0f;
#pragma unroll AHEAD
    for (int t = first + warp; t < last; t += EC_LINEAR_WARPS) {
        const float key = fmaxf(ec_float(k[t * k_step + d]), 0.0f);
        total += key;
#pragma unroll
        for (int i = 0; i < OWN; i += LOAD) {
            float value[LOAD];
            ec_load<T, LOAD>(value, v + t * v_step + e + i);
#pragma unroll
            for (int j = 0; j < LOAD; j++) {
                sum[i + j] = fmaf(key, value[j], sum[i + j]);
            }
        }
    }
    float *const own = shared + (warp + 1) * SIZE + d * (D + 1);
#pragma unroll
    for (int i = 0; i < OWN; i++) {
        own[e + i] = sum[i];
    }
    if (e == 0) {
        own[D] = total;
    }
    __syncthreads();
    for (int at = threadIdx.x; at < SIZE; at += EC_LINEAR_THREADS) {
        float whole = 0.0f;
#pragma unroll
        for (int i = 1; i <= EC_LINEAR_WARPS; i++) {
            whole += shared[i * SIZE + at];
        }
        shared[at] = whole;
    }
    __syncthreads();
}

/* y of the tokens first..last-1 from the sums in `shared`. */
template <typename T, int D>
__device__ __forceinline__ void ec_linear_apply(const T *q, int64_t q_step, T *y, int64_t y_step, int first, int last,
                                                float eps, const float *shared)
{
    for (int at = threadIdx.x; at < (last - first) * (D / 4); at += EC_LINEAR_THREADS) {
        const int t = first + at / (D / 4), e = at % (D / 4) * 4;
        float total = eps, sum[4] = {};
#pragma unroll
        for (int d = 0; d < D; d += 4) {
            float query[4];
            ec_load<T, 4>(query, q + t * q_step + d);
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const float x = fmaxf(query[j], 0.0f), *const row = shared + (d + j) * (D + 1);
                total = fmaf(x, row[D], total);
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    sum[i] = fmaf(x, row[e + i], sum[i]);
                }
            }
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            sum[i] /= total;
        }
        ec_store<T, 4>(y + t * y_step + e, sum);
    }
}

/* Where the heads of one block stand. */
template <typename T> struct ec_linear_head {
    const T *q, *k, *v;
    T *y;
    __device__ __forceinline__ ec_linear_head(const ec_linear_attention_params &p, const void *q_, const void *k_,
                                              const void *v_, void *y_)
    {
        const int head = blockIdx.y, sample = blockIdx.z;
        q = static_cast<const T *>(q_) + p.q_offset + sample * p.q_batch + head * p.q_head;
        k = static_cast<const T *>(k_) + p.k_offset + sample * p.k_batch + head * p.k_head;
        v = static_cast<const T *>(v_) + p.v_offset + sample * p.v_batch + head * p.v_head;
        y = static_cast<T *>(y_) + ((int64_t)sample * p.tokens * p.heads + head) * p.depth;
    }
};

template <typename T, int D>
__device__ __forceinline__ void ec_linear_attention_body(const ec_linear_attention_params &p, const void *q,
                                                         const void *k, const void *v, void *y)
{
    extern __shared__ __align__(128) unsigned char ec_shared[];
    float *const shared = reinterpret_cast<float *>(ec_shared);
    const ec_linear_head<T> head(p, q, k, v, y);
    ec_linear_sums<T, D>(head.k, head.v, p.k_token, p.v_token, 0, p.tokens, shared);
    const int first = blockIdx.x * p.part, last = min(first + p.part, p.tokens);
    ec_linear_apply<T, D>(head.q, p.q_token, head.y, (int64_t)p.heads * D, first, last, p.eps, shared);
}

template <typename T, int D>
__device__ __forceinline__ void ec_linear_attention_sums_body(const ec_linear_attention_params &p, const void *q,
                                                              const void *k, const void *v, void *y, void *scratch)
{
    extern __shared__ __align__(128) unsigned char ec_shared[];
    float *const shared = reinterpret_cast<float *>(ec_shared);
    constexpr int SIZE = D * (D + 1);
    const ec_linear_head<T> head(p, q, k, v, y);
    const int first = blockIdx.x * p.part, last = min(first + p.part, p.tokens);
    ec_linear_sums<T, D>(head.k, head.v, p.k_token, p.v_token, first, last, shared);
    float *const to = static_cast<float *>(scratch) +
                      (((int64_t)blockIdx.z * p.heads + blockIdx.y) * gridDim.x + blockIdx.x) * SIZE;
    for (int at = threadIdx.x; at < SIZE; at += EC_LINEAR_THREADS) {
        to[at] = shared[at];
    }
}

template <typename T, int D>
__device__ __forceinline__ void ec_linear_attention_apply_body(const ec_linear_attention_params &p, const void *q,
                                                               const void *k, const void *v, void *y, void *scratch)
{
    __shared__ float shared[D * (D + 1)];
    constexpr int SIZE = D * (D + 1);
    const ec_linear_head<T> head(p, q, k, v, y);
    const float *const from =
        static_cast<const float *>(scratch) + ((int64_t)blockIdx.z * p.heads + blockIdx.y) * gridDim.x * SIZE;
    for (int at = threadIdx.x; at < SIZE; at += EC_LINEAR_THREADS) {
        float whole = 0.0f;
        for (int part = 0; part < (int)gridDim.x; part++) {
            whole += from[(int64_t)part * SIZE + at];
        }
        shared[at] = whole;
    }
    __syncthreads();
    const int first = blockIdx.x * p.part, last = min(first + p.part, p.tokens);
    ec_linear_apply<T, D>(head.q, p.q_token, head.y, (int64_t)p.heads * D, first, last, p.eps, shared);
}
