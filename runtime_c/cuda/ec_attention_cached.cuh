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

/*
 * One row of `depth` channels from `from` to `to` by the threads lane, lane + lanes, ...: pairs turned as `turns` says,
 * the rest as it is. `again`: a second place that gets the same (null: none).
 */
template <typename T>
__device__ __forceinline__ void ec_turned_row(const ec_cached_attention_params &p, const float2 *turns, const T *from,
                                              T *to, T *again, int depth, int lane, int lanes)
{
    for (int i = lane; i < p.rotary; i += lanes) {
        const int a = ec_pair_channel(p, i), b = a + p.pair_step;
        const float x = ec_float(from[a]), y = ec_float(from[b]);
        const float2 turn = turns[i];
        const T first = ec_element<T>::of(x * turn.x - y * turn.y), second = ec_element<T>::of(y * turn.x + x * turn.y);
        to[a] = first;
        to[b] = second;
        if (again != nullptr) {
            again[a] = first;
            again[b] = second;
        }
    }
    for (int c = 2 * p.rotary + lane; c < depth; c += lanes) {
        to[c] = from[c];
        if (again != nullptr) {
            again[c] = from[c];
        }
    }
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

#endif
