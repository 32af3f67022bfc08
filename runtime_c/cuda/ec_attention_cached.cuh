/*
 * ec_attention_cached.cuh: rotary positions of new tokens and their way into the caches.
 */
#ifndef EC_ATTENTION_CACHED_CUH
#define EC_ATTENTION_CACHED_CUH

#include "ec_cuda.cuh"
#include "ec_attention_params.h"

/* Tokens that the cache of a sample holds before this call; so few that the new ones fit. */
__device__ __forceinline__ int ec_cached_position(const ec_cached_attention_params &p, const void *position,
                                                  int sample)
{
    const int held = static_cast<const int32_t *>(position)[sample * p.position_step];
    return max(0, min(held, p.keys - p.tokens));
}

/* (cosine, sine) of position * frequency, the product rounded to float32, times the scale; |angle| < 2^23. */
__device__ __forceinline__ float2 ec_turn(int position, float frequency, float scale)
{
    const float angle = (float)position * frequency;
    const float turns = rintf(angle * 0.15915494309189535f);
    float rest = fmaf(-turns, 6.28125f, angle); /* 2 pi in three parts, the first two of few bits */
    rest = fmaf(-turns, 0.0019350051879882812f, rest);
    rest = fmaf(-turns, 3.0199159819567e-07f, rest);
    float2 v;
    __sincosf(rest, &v.y, &v.x);
    v.x *= scale;
    v.y *= scale;
    return v;
}

/* First channel of pair i, and of the other one `pair_step` on. */
__device__ __forceinline__ int ec_pair_channel(const ec_cached_attention_params &p, int i)
{
    return p.pair_step == 1 ? 2 * i : i;
}

/* Where the new cache is not the old one's memory: rows first..last-1 of `old` but for those of the new tokens. */
template <typename T>
__device__ __forceinline__ void ec_keep_cache(T *to, const T *old, int first, int last, int position, int tokens,
                                              int depth, int thread, int threads)
{
    if (to == old) {
        return;
    }
    for (int64_t at = (int64_t)first * depth + thread; at < (int64_t)last * depth; at += threads) {
        const int row = (int)(at / depth);
        if (row < position || row >= position + tokens) {
            to[at] = old[at];
        }
    }
}

/* The same of all key heads of a sample, whose caches begin at row `caches`, by all blocks along x. */
template <typename T>
__device__ __forceinline__ void ec_keep_caches(const ec_cached_attention_params &p, const void *keys,
                                               const void *values, void *new_keys, void *new_values, int64_t caches,
                                               int position)
{
    const int thread = blockIdx.x * blockDim.x + threadIdx.x, threads = gridDim.x * blockDim.x;
    for (int b = 0; b < p.kv_heads; b++) {
        const int64_t first = caches + (int64_t)b * p.keys;
        ec_keep_cache(static_cast<T *>(new_keys) + first * p.depth, static_cast<const T *>(keys) + first * p.depth, 0,
                      p.keys, position, p.tokens, p.depth, thread, threads);
        ec_keep_cache(static_cast<T *>(new_values) + first * p.value_depth,
                      static_cast<const T *>(values) + first * p.value_depth, 0, p.keys, position, p.tokens,
                      p.value_depth, thread, threads);
    }
}

/*
 * The first of two launches: a warp a row of q (with rotary only), k or v, any element type and alignment. Grid: (rows
 * of a sample / warps, samples).
 */
template <typename T>
__device__ __forceinline__ void ec_cache_write(const ec_cached_attention_params &p, const void *q, const void *k,
                                               const void *v, const void *keys, const void *values,
                                               const void *position_, const void *frequency, void *new_keys,
                                               void *new_values, void *scratch)
{
    const int sample = blockIdx.y, lane = threadIdx.x & 31, turned = p.rotary > 0 ? p.heads : 0;
    const int position = ec_cached_position(p, position_, sample);
    const int64_t row = (int64_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    const int each = turned + 2 * p.kv_heads, token = (int)(row / each), part = (int)(row % each);
    const int64_t caches = (int64_t)sample * p.kv_heads * p.keys;
    ec_keep_caches<T>(p, keys, values, new_keys, new_values, caches, position);
    if (token >= p.tokens) {
        return;
    }
    const bool is_v = part >= turned + p.kv_heads, is_q = part < turned;
    const int head = is_q ? part : is_v ? part - turned - p.kv_heads : part - turned;
    const int64_t cached = caches + (int64_t)head * p.keys + position + token;
    if (is_v) {
        const T *const from = static_cast<const T *>(v) + p.v_offset + sample * p.v_batch + head * p.v_head +
                              token * p.v_token;
        for (int c = lane; c < p.value_depth; c += 32) {
            static_cast<T *>(new_values)[cached * p.value_depth + c] = from[c];
        }
        return;
    }
    const T *const from = is_q ? static_cast<const T *>(q) + p.q_offset + sample * p.q_batch + head * p.q_head +
                                     token * p.q_token
                               : static_cast<const T *>(k) + p.k_offset + sample * p.k_batch + head * p.k_head +
                                     token * p.k_token;
    T *const to = is_q ? static_cast<T *>(scratch) + (((int64_t)sample * p.heads + head) * p.tokens + token) * p.depth
                       : static_cast<T *>(new_keys) + cached * p.depth;
    for (int i = lane; i < p.rotary; i += 32) {
        const float2 turn = ec_turn(position + token, static_cast<const float *>(frequency)[i], p.rotary_scale);
        const int a = ec_pair_channel(p, i), b = a + p.pair_step;
        const float x = ec_float(from[a]), y = ec_float(from[b]);
        to[a] = ec_element<T>::of(x * turn.x - y * turn.y);
        to[b] = ec_element<T>::of(y * turn.x + x * turn.y);
    }
    for (int c = 2 * p.rotary + lane; c < p.depth; c += 32) {
        to[c] = from[c];
    }
}

template <typename T>
__device__ __forceinline__ void ec_cache_write_body(const ec_cached_attention_params &p, const void *q, const void *k,
                                                    const void *v, const void *keys, const void *values,
                                                    const void *position, void *y, void *new_keys, void *new_values,
                                                    void *scratch)
{
    ec_cache_write<T>(p, q, k, v, keys, values, position, nullptr, new_keys, new_values, scratch);
}

template <typename T>
__device__ __forceinline__ void
ec_cache_write_rotary_body(const ec_cached_attention_params &p, const void *q, const void *k, const void *v,
                           const void *keys, const void *values, const void *position, const void *frequency, void *y,
                           void *new_keys, void *new_values, void *scratch)
{
    ec_cache_write<T>(p, q, k, v, keys, values, position, frequency, new_keys, new_values, scratch);
}

#endif
