/*
 * ec_attention_prefill.cu: many new tokens over a cache, in two launches: the first turns q and k by their positions
 * and puts k and v into the caches, the second attends.
 *
 * Formula, places and caches as in ec_attention_decode.cu. First launch: a warp a row of q, k or v, any element type,
 * no alignment beyond that of an element; scratch T [n][heads][tokens][depth] gets the turned q (with rotary only).
 * Second launch: grid (rows / ROWS, kv_heads, batch), as ec_attention.cu with the number of keys position + tokens read
 * on the device; rows 16-byte aligned. ec_attention_plain.cu has a second launch for all else. Equals
 * edgec.ops.cached_attention within rounding.
 */
#include "ec_attention.cuh"
#include "ec_attention_cached.cuh"

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
    const int thread = blockIdx.x * blockDim.x + threadIdx.x, threads = gridDim.x * blockDim.x;
    for (int b = 0; b < p.kv_heads; b++) {
        const int64_t first = caches + (int64_t)b * p.keys;
        ec_keep_cache(static_cast<T *>(new_keys) + first * p.depth, static_cast<const T *>(keys) + first * p.depth, 0,
                      p.keys, position, p.tokens, p.depth, thread, threads);
        ec_keep_cache(static_cast<T *>(new_values) + first * p.value_depth,
                      static_cast<const T *>(values) + first * p.value_depth, 0, p.keys, position, p.tokens,
                      p.value_depth, thread, threads);
    }
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
    ec_attention_join<TILE>(rows, reinterpret_cast<float *>(ec_shared),
                            [&](int row, int channel, float(&sum)[8], float top, float total) {
                                const int r = query.row0 + row;
                                if (r < query.count && channel < p.value_depth) {
                                    ec_normalise(sum, total);
                                    const int64_t place = (int64_t)(r / group) * p.heads + head0 + r % group;
                                    ec_store<T, 8>(to + place * p.value_depth + channel, sum);
                                }
                            });
}

template <typename T, int D, int E, int BN, int WM, int WN, int STAGES>
__device__ __forceinline__ void
ec_attention_prefill_body(const ec_cached_attention_params &p, const void *q, const void *k, const void *v,
                          const void *keys, const void *values, const void *position, void *y, void *new_keys,
                          void *new_values, void *scratch)
{
    ec_prefill_run<ec_attention_tile<T, D, E, BN, WM, WN, STAGES>>(p, q, position, y, new_keys, new_values, scratch);
}

template <typename T, int D, int E, int BN, int WM, int WN, int STAGES>
__device__ __forceinline__ void
ec_attention_prefill_rotary_body(const ec_cached_attention_params &p, const void *q, const void *k, const void *v,
                                 const void *keys, const void *values, const void *position, const void *frequency,
                                 void *y, void *new_keys, void *new_values, void *scratch)
{
    ec_prefill_run<ec_attention_tile<T, D, E, BN, WM, WN, STAGES>>(p, q, position, y, new_keys, new_values, scratch);
}
