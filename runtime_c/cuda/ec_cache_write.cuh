/*
 * ec_cache_write.cuh: the first of two launches of a prefill in half types, where all rows are whole vectors: turns q
 * and k by their positions and puts k and v into the caches. The same numbers as ec_cache_write in
 * ec_attention_cached.cuh, which has all else.
 *
 * A block a token: its sines and cosines once, then 16 channels a thread at a time, two vectors that are each other's
 * pairs where channels are turned. Places are multiples of 8 elements, depth and value_depth of 16, rotary of 8 and at
 * most 128. Grid: (tokens, samples).
 *
 * Measured, NVIDIA H200, CUDA 13.0, 2026-11-21, fp16, 32 / 8 heads x 128, us of a graph with the attention
 * (ec_attention_wgmma.cu) less that alone; ec_cache_write in brackets: 512 tokens 7 (13), 2048 tokens 22 (50), 50 MB
 * there. 128 threads a block: 9 and 22, 384: 8 and 25.
 */
#ifndef EC_CACHE_WRITE_CUH
#define EC_CACHE_WRITE_CUH

#include "ec_attention_cached.cuh"

/* Pairs (x[i], y[i]) of channels, turned by turns[i]. */
__device__ __forceinline__ void ec_turn_pairs(float (&x)[8], float (&y)[8], const float2 *turns)
{
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const float2 turn = turns[i];
        const float before = x[i];
        x[i] = before * turn.x - y[i] * turn.y;
        y[i] = y[i] * turn.x + before * turn.y;
    }
}

/* The same of neighbours: x and y are 16 channels in a row. */
__device__ __forceinline__ void ec_turn_neighbours(float (&x)[8], float (&y)[8], const float2 *turns)
{
    float even[8], odd[8];
#pragma unroll
    for (int i = 0; i < 8; i++) {
        even[i] = i < 4 ? x[2 * i] : y[2 * i - 8];
        odd[i] = i < 4 ? x[2 * i + 1] : y[2 * i - 7];
    }
    ec_turn_pairs(even, odd, turns);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        x[2 * i] = even[i];
        x[2 * i + 1] = odd[i];
        y[2 * i] = even[i + 4];
        y[2 * i + 1] = odd[i + 4];
    }
}

template <typename T>
__device__ __forceinline__ void ec_cache_write_rows(const ec_cached_attention_params &p, const void *q, const void *k,
                                                    const void *v, const void *keys, const void *values,
                                                    const void *position_, const void *frequency, void *new_keys,
                                                    void *new_values, void *scratch)
{
    __shared__ float2 turns[128];
    const int token = blockIdx.x, sample = blockIdx.y, turned = p.rotary > 0 ? p.heads : 0;
    const int position = ec_cached_position(p, position_, sample);
    const int64_t caches = (int64_t)sample * p.kv_heads * p.keys;
    ec_keep_caches<T>(p, keys, values, new_keys, new_values, caches, position);
    for (int i = threadIdx.x; i < p.rotary; i += blockDim.x) {
        turns[i] = ec_turn(position + token, static_cast<const float *>(frequency)[i], p.rotary_scale);
    }
    __syncthreads();
    const int key_units = p.depth / 16, value_units = p.value_depth / 16, rows_qk = turned + p.kv_heads;
    for (int at = threadIdx.x; at < rows_qk * key_units + p.kv_heads * value_units; at += blockDim.x) {
        const int after = at - rows_qk * key_units, each = after >= 0 ? value_units : key_units;
        const int row = (after >= 0 ? after : at) / each, unit = (after >= 0 ? after : at) - row * each;
        const T *from;
        T *to;
        if (after >= 0) {
            from = static_cast<const T *>(v) + p.v_offset + sample * p.v_batch + row * p.v_head + token * p.v_token;
            to = static_cast<T *>(new_values) + (caches + (int64_t)row * p.keys + position + token) * p.value_depth;
        } else if (row < turned) {
            from = static_cast<const T *>(q) + p.q_offset + sample * p.q_batch + row * p.q_head + token * p.q_token;
            to = static_cast<T *>(scratch) + (((int64_t)sample * p.heads + row) * p.tokens + token) * p.depth;
        } else {
            const int head = row - turned;
            from = static_cast<const T *>(k) + p.k_offset + sample * p.k_batch + head * p.k_head + token * p.k_token;
            to = static_cast<T *>(new_keys) + (caches + (int64_t)head * p.keys + position + token) * p.depth;
        }
        const bool turns_it = after < 0 && unit < p.rotary / 8, apart = turns_it && p.pair_step > 1;
        const int a = apart ? 8 * unit : 16 * unit, b = apart ? a + p.rotary : a + 8;
        float x[8], y[8];
        ec_load<T, 8>(x, from + a);
        ec_load<T, 8>(y, from + b);
        if (apart) {
            ec_turn_pairs(x, y, turns + 8 * unit);
        } else if (turns_it) {
            ec_turn_neighbours(x, y, turns + 8 * unit);
        }
        ec_store<T, 8>(to + a, x);
        ec_store<T, 8>(to + b, y);
    }
}

template <typename T>
__device__ __forceinline__ void ec_cache_write_rows_body(const ec_cached_attention_params &p, const void *q,
                                                         const void *k, const void *v, const void *keys,
                                                         const void *values, const void *position, void *y,
                                                         void *new_keys, void *new_values, void *scratch)
{
    ec_cache_write_rows<T>(p, q, k, v, keys, values, position, nullptr, new_keys, new_values, scratch);
}

template <typename T>
__device__ __forceinline__ void
ec_cache_write_rows_rotary_body(const ec_cached_attention_params &p, const void *q, const void *k, const void *v,
                                const void *keys, const void *values, const void *position, const void *frequency,
                                void *y, void *new_keys, void *new_values, void *scratch)
{
    ec_cache_write_rows<T>(p, q, k, v, keys, values, position, frequency, new_keys, new_values, scratch);
}

#endif
