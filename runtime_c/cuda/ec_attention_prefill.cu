/*
 * ec_attention_prefill.cu: many new tokens over a cache, in two launches: the first turns q and k by their positions
 * and puts k and v into the caches, the second attends.
 *
 * Formula, places and caches as in ec_attention_decode.cu. First launch: ec_cache_write.cuh, or ec_cache_write in
 * ec_attention_cached.cuh; scratch T [n][heads][tokens][depth] gets the turned q (with rotary only).
 * Second launch: grid (rows / ROWS, kv_heads, batch), as ec_attention.cu with the number of keys position + tokens read
 * on the device; rows 16-byte aligned. ec_attention_plain.cu has a second launch for all else. Equals
 * edgec.ops.cached_attention within rounding.
 */
#include "ec_attention.cuh"
#include "ec_cache_write.cuh"

template <typename TILE>
__device__ __forceinline__ void ec_prefill_run(const ec_cached_attention_params &p, const void *q,
                                               const void *position_, void *y, const void *keys, const void *values,
                                               const void *scratch)
{
    typedef typename TILE::T T;
    extern __shared__ __align__(128) unsigned char ec_shared[];
    const int sample = blockIdx.z, b = blockIdx.y, group = p.heads / p.kv_heads, head0 = b * group;
    const int position = ec_cached_position(p, position_, sample), index = sample * p.kv_heads + b;
    const int tile = p.causal ? (int)(gridDim.x - 1 - blockIdx.x) : (int)blockIdx.x;
    const int64_t turned = (int64_t)p.tokens * p.depth;
    const ec_grouped_rows<T> q_from =
        p.rotary > 0
            ? ec_grouped_rows<T>{static_cast<const T *>(scratch) + ((int64_t)sample * p.heads + head0) * turned, turned,
                                 p.depth, group}
            : ec_grouped_rows<T>{static_cast<const T *>(q) + p.q_offset + sample * p.q_batch + head0 * p.q_head,
                                 p.q_head, p.q_token, group};
    const ec_shown_keys shown = {position + p.tokens, position, p.causal != 0, p.window};
    const ec_query_rows query = {tile * TILE::ROWS, p.tokens * group, group, head0};
    ec_attention_stream<TILE, ec_strided_rows<T>, ec_strided_rows<T>> stream = {
        {static_cast<const T *>(keys) + (int64_t)index * p.keys * p.depth, p.depth},
        {static_cast<const T *>(values) + (int64_t)index * p.keys * p.value_depth, p.value_depth},
        0, 0, 0, p.depth, p.value_depth, nullptr};
    ec_attention_rows<TILE> rows;
    ec_attention_core<TILE>(rows, q_from, stream, ec_no_mask(), shown, query, p.scale,
                            reinterpret_cast<T *>(ec_shared));
    T *const to = static_cast<T *>(y) + (int64_t)sample * p.tokens * p.heads * p.value_depth;
    ec_attention_join<TILE>(rows, reinterpret_cast<float *>(ec_shared), query.count - query.row0,
                            [&](int row, int channel, float(&sum)[8], float top, float total) {
                                const int r = query.row0 + row;
                                if (channel < p.value_depth) {
                                    ec_normalise(sum, total);
                                    const int64_t place = (int64_t)(r / group) * p.heads + head0 + r % group;
                                    ec_store<T, 8>(to + place * p.value_depth + channel, sum);
                                }
                            });
}

template <typename T, int D, int E, int BN, int WM, int WN, int STAGES, int MI>
__device__ __forceinline__ void
ec_attention_prefill_body(const ec_cached_attention_params &p, const void *q, const void *k, const void *v,
                          const void *keys, const void *values, const void *position, void *y, void *new_keys,
                          void *new_values, void *scratch)
{
    typedef ec_attention_tile<T, D, E, BN, WM, WN, STAGES, MI> tile;
    ec_prefill_run<tile>(p, q, position, y, new_keys, new_values, scratch);
}

template <typename T, int D, int E, int BN, int WM, int WN, int STAGES, int MI>
__device__ __forceinline__ void
ec_attention_prefill_rotary_body(const ec_cached_attention_params &p, const void *q, const void *k, const void *v,
                                 const void *keys, const void *values, const void *position, const void *frequency,
                                 void *y, void *new_keys, void *new_values, void *scratch)
{
    typedef ec_attention_tile<T, D, E, BN, WM, WN, STAGES, MI> tile;
    ec_prefill_run<tile>(p, q, position, y, new_keys, new_values, scratch);
}
