/*
 * attention, int8, integers only: edgec/ops/attention.py gives the arithmetic, ec_attention.h the same in C.
 *
 *   score(j) = sum_d (q[d] - zero_q) (k[j][d] - zero_k) + bias[j], left out where the mask or the causal rule forbids j
 *   u(j)     = requantize(max score - score(j), score_m, score_shift)
 *   e(j)     = (table[u % 256] + 2^(14 + u / 256)) >> (15 + u / 256), 0 where u / 256 > 16
 *   t        = sum_j e(j) (v[j] - zero_v) / sum_j e(j) with 20 fractional bits, by an integer reciprocal
 *   y        = clamp(zero_y + requantize(t, out_m, out_shift), -128, 127); zero_y where no key may be attended
 *
 * q int8[N][A][T][D], k int8[N][B][S][D], v int8[N][B][S][E], y int8[N][A][T][E], other memory than the inputs; table
 * uint32[256]. MASK: 0 none, 1 bytes (0: forbidden), 2 int32 bias (INT32_MIN: forbidden); by the steps of the params.
 * WORDS: D is a multiple of 4. A block of 128 threads makes one query of one head. Shared memory: 4 S + D rounded up to
 * 4, + 1024. Grid: (T, A, N). No scratch. Sums: |score| < 2^30, e <= 2^15, their sum < 2^31.
 */
#include "ec_cuda.cuh"
#include "ec_norm_s8_params.h"
#include "ec_requant.cuh"

#define EC_EXCLUDED ((int32_t)0x80000000)
#define EC_ATTENTION_THREADS 128

/* Weight of a key whose score lies `below` under the largest. */
__device__ __forceinline__ int32_t ec_attention_weight_s8(const ec_attention_s8_params &p, int32_t below,
                                                          const uint32_t *table)
{
    const int32_t u = ec_requantize(below, p.score_m, p.score_shift), power = u >> 8;
    if (power > 16) {
        return 0;
    }
    return (int32_t)((__ldg(table + (u & 255)) + ((uint32_t)1 << (14 + power))) >> (15 + power));
}

/* sum_d (q - zero_q) (k - zero_k); q in shared memory, its sum given. */
template <bool WORDS>
__device__ __forceinline__ int32_t ec_attention_score_s8(const ec_attention_s8_params &p, const int8_t *q,
                                                         const int8_t *k)
{
    int32_t acc = 0, sum_q = 0, sum_k = 0;
    if (WORDS) {
        for (int d = 0; d < p.depth; d += 4) {
            const int32_t a = *reinterpret_cast<const int32_t *>(q + d), b = *reinterpret_cast<const int32_t *>(k + d);
            acc = __dp4a(a, b, acc);
            sum_q = __dp4a(a, 0x01010101, sum_q);
            sum_k = __dp4a(b, 0x01010101, sum_k);
        }
    } else {
        for (int d = 0; d < p.depth; d++) {
            acc += q[d] * k[d];
            sum_q += q[d];
            sum_k += k[d];
        }
    }
    return acc - p.zero_k * sum_q - p.zero_q * sum_k + p.depth * p.zero_q * p.zero_k;
}

/* The largest (MAXIMUM) or the sum of `v` over the block, in every thread. */
template <bool MAXIMUM> __device__ __forceinline__ int32_t ec_attention_reduce(int32_t v, int32_t *shared)
{
    v = MAXIMUM ? __reduce_max_sync(0xffffffffu, v) : __reduce_add_sync(0xffffffffu, v);
    __syncthreads();
    if (threadIdx.x % 32 == 0) {
        shared[threadIdx.x / 32] = v;
    }
    __syncthreads();
    v = shared[0];
#pragma unroll
    for (int i = 1; i < EC_ATTENTION_THREADS / 32; i++) {
        v = MAXIMUM ? max(v, shared[i]) : v + shared[i];
    }
    return v;
}

template <int MASK, bool WORDS>
__device__ __forceinline__ void ec_attention_s8_run(const ec_attention_s8_params &p, const void *query, const void *key,
                                                    const void *value, const void *mask, const void *table,
                                                    void *output)
{
    extern __shared__ __align__(16) uint8_t ec_shared[];
    int64_t *const parts = reinterpret_cast<int64_t *>(ec_shared); /* [128] */
    int32_t *const scores = reinterpret_cast<int32_t *>(ec_shared + 1024);
    int8_t *const q = reinterpret_cast<int8_t *>(scores + p.keys);
    __shared__ int32_t reduced[EC_ATTENTION_THREADS / 32];
    const int i = blockIdx.x, head = blockIdx.y, image = blockIdx.z;
    const size_t row = ((size_t)image * p.heads + head) * p.queries + i;
    const size_t group = (size_t)image * p.kv_heads + head / (p.heads / p.kv_heads);
    const int8_t *const k = static_cast<const int8_t *>(key) + group * p.keys * p.depth;
    const int8_t *const v = static_cast<const int8_t *>(value) + group * p.keys * p.value_depth;
    for (int d = threadIdx.x; d < p.depth; d += EC_ATTENTION_THREADS) {
        q[d] = static_cast<const int8_t *>(query)[row * p.depth + d];
    }
    __syncthreads();
    const size_t mask_at = (size_t)image * p.mask_batch + (size_t)head * p.mask_head + (size_t)i * p.mask_query;
    int32_t most = EC_EXCLUDED;
    for (int j = threadIdx.x; j < p.keys; j += EC_ATTENTION_THREADS) {
        const size_t at = mask_at + (size_t)j * p.mask_key;
        const int32_t bias = MASK == 2 ? static_cast<const int32_t *>(mask)[at] : 0;
        const bool forbidden = (p.causal && j > i) || bias == EC_EXCLUDED ||
                               (MASK == 1 && static_cast<const uint8_t *>(mask)[at] == 0);
        const int32_t score =
            forbidden ? EC_EXCLUDED : ec_attention_score_s8<WORDS>(p, q, k + (size_t)j * p.depth) + bias;
        scores[j] = score;
        most = max(most, score);
    }
    most = ec_attention_reduce<true>(most, reduced);
    int32_t sum = 0;
    for (int j = threadIdx.x; j < p.keys; j += EC_ATTENTION_THREADS) {
        const int32_t score = scores[j];
        const int32_t e = score == EC_EXCLUDED
                              ? 0
                              : ec_attention_weight_s8(p, most - score, static_cast<const uint32_t *>(table));
        scores[j] = e;
        sum += e;
    }
    sum = ec_attention_reduce<false>(sum, reduced);
    const int up = sum > 0 ? __clz(sum) - 1 : 0; /* sum 2^up in [2^30, 2^31) */
    const int64_t reciprocal = sum > 0 ? (int64_t)(((uint64_t)1 << 61) / (uint64_t)((uint32_t)sum << up)) : 0;
    const int wide = p.value_depth < EC_ATTENTION_THREADS ? p.value_depth : EC_ATTENTION_THREADS;
    const int shares = EC_ATTENTION_THREADS / wide, share = threadIdx.x / wide;
    for (int d0 = 0; d0 < p.value_depth; d0 += wide) {
        const int d = d0 + threadIdx.x % wide;
        int64_t total = 0;
        if (share < shares && d < p.value_depth) {
            for (int j = share; j < p.keys; j += shares) {
                total += scores[j] * v[(size_t)j * p.value_depth + d];
            }
        }
        __syncthreads();
        parts[threadIdx.x] = total;
        __syncthreads();
        if (share == 0 && d < p.value_depth) {
            for (int other = 1; other < shares; other++) {
                total += parts[other * wide + threadIdx.x];
            }
            total -= (int64_t)p.zero_v * sum;
            const int64_t numerator = (total * ((int64_t)1 << up)) >> 8;
            const int32_t t = (int32_t)((numerator * reciprocal) >> 33);
            const int32_t y = ec_requantize_s8(t, p.out_m, p.out_shift, p.zero_y, -128, 127);
            static_cast<int8_t *>(output)[row * p.value_depth + d] = (int8_t)(sum > 0 ? y : p.zero_y);
        }
    }
}

template <bool WORDS>
__device__ __forceinline__ void ec_attention_s8_body(const ec_attention_s8_params &p, const void *q, const void *k,
                                                     const void *v, const void *table, void *y)
{
    ec_attention_s8_run<0, WORDS>(p, q, k, v, nullptr, table, y);
}

template <bool WORDS>
__device__ __forceinline__ void ec_attention_mask_s8_body(const ec_attention_s8_params &p, const void *q, const void *k,
                                                          const void *v, const void *mask, const void *table, void *y)
{
    ec_attention_s8_run<1, WORDS>(p, q, k, v, mask, table, y);
}

template <bool WORDS>
__device__ __forceinline__ void ec_attention_bias_s8_body(const ec_attention_s8_params &p, const void *q, const void *k,
                                                          const void *v, const void *bias, const void *table, void *y)
{
    ec_attention_s8_run<2, WORDS>(p, q, k, v, bias, table, y);
}
