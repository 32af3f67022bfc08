/*
 * ec_attention_decode.cu: a few new tokens over a cache: rotary positions, cache update and attention in one kernel.
 *
 *   k, v of the new tokens join the caches at rows position..position+tokens-1 (k turned by its positions);
 *   y[n,t,a,:] = softmax_j(scale q[n,t,a,:] . keys[n,b,j,:]) values[n,b,j,:] over j <= position + t (all new tokens
 *   without the causal rule), and j > position + t - window with one.
 *
 * q, k, v: T at the places of ec_cached_attention_params; caches [n][b][keys][depth], [n][b][keys][value_depth]; y
 * [n][tokens][heads][value_depth]; rows 16-byte aligned, depths multiples of 8. position: int32. frequency: float32
 * [rotary]. New caches may be the old ones' memory; else the rest of them is copied.
 * Grid: (splits, kv_heads, batch); the heads of a group times tokens are at most ROWS = 16 WM rows, tokens at most 16.
 * The cached keys divide over as many splits as there is work for; the last one of a key head (counter) joins them.
 * The new keys are never read back from the cache, so no block waits for another. Scratch: float [batch][kv_heads]
 * [splits][ROWS][value_depth + 2]; counters: int32[batch kv_heads], zero again at the end.
 * EARLY: position and old caches were written by no kernel of this graph, and the cached keys are asked for before the
 * previous kernel ends. Sums in float32. Equals edgec.ops.cached_attention within rounding.
 */
#include "ec_attention.cuh"
#include "ec_attention_cached.cuh"

/* The part of the cached keys first..position-1 that one block takes. */
struct ec_split {
    int begin, end, active; /* active: splits with work, at least 1 */
};

template <typename TILE>
__device__ __forceinline__ ec_split ec_split_of(const ec_cached_attention_params &p, int position)
{
    const int first = p.window > 0 ? max(0, position - p.window + 1) : 0;
    const int each = (position - first + (int)gridDim.x - 1) / (int)gridDim.x;
    const int part = max(TILE::KEYS, (each + 15) & ~15);
    ec_split split;
    split.active = max(1, (position - first + part - 1) / part);
    split.begin = min(first + (int)blockIdx.x * part, position);
    split.end = min(split.begin + part, position);
    return split;
}

/* One warp's rows over the new tokens' own keys, which stand in shared memory. */
template <typename TILE>
__device__ __forceinline__ void ec_decode_new(ec_attention_rows<TILE> &rows, const ec_cached_attention_params &p,
                                              const ec_query_rows &query, uint32_t q_at, uint32_t k_at, uint32_t v_at)
{
    typedef typename TILE::T T;
    const int lane = threadIdx.x & 31, wm = (threadIdx.x >> 5) % TILE::WM;
    const ec_shown_keys shown = {p.tokens, 0, p.causal != 0, p.window};
    int from[2], to[2];
    ec_no_mask mask;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int token = min(wm * 16 + lane / 4 + 8 * i, query.count - 1) / query.group;
        from[i] = shown.first(token);
        to[i] = shown.last(token);
    }
    float s[2][4];
    q_at += wm * 16 * TILE::K_PITCH * (int)sizeof(T);
    rows.hold(q_at);
    rows.template scores<16>(s, q_at, k_at);
    ec_finish_scores<16>(s, mask, p.scale, 0, from, to, false);
    rows.template soften<16>(s);
    rows.template average<16>(s, v_at);
}

/* The new tokens' k and v of this key head: to shared memory and to the caches. */
template <typename TILE>
__device__ __forceinline__ void ec_decode_update(const ec_cached_attention_params &p, const float2 *turns,
                                                 const typename TILE::T *k, const typename TILE::T *v,
                                                 typename TILE::T *k_new, typename TILE::T *v_new,
                                                 typename TILE::T *keys, typename TILE::T *values, int position)
{
    typedef typename TILE::T T;
    for (int at = threadIdx.x; at < 16 * (TILE::K_PITCH + TILE::V_PITCH); at += TILE::THREADS) {
        k_new[at] = ec_element<T>::of(0.0f); /* v_new follows */
    }
    __syncthreads();
    for (int t = 0; t < p.tokens; t++) {
        const int64_t row = position + t;
        ec_turned_row(p, turns + t * p.rotary, k + t * p.k_token, k_new + t * TILE::K_PITCH, keys + row * p.depth,
                      p.depth, (int)threadIdx.x, TILE::THREADS);
        for (int c = threadIdx.x; c < p.value_depth; c += TILE::THREADS) {
            v_new[t * TILE::V_PITCH + c] = values[row * p.value_depth + c] = v[t * p.v_token + c];
        }
    }
}

/* Joins the splits of a key head: the block that comes last does it. `weights`: float[ROWS][splits] shared. */
template <typename TILE>
__device__ __forceinline__ void ec_decode_join(const ec_cached_attention_params &p, const ec_query_rows &query,
                                               int active, const float *sums, const float *ends, float *weights,
                                               typename TILE::T *y)
{
    typedef typename TILE::T T;
    for (int at = threadIdx.x; at < query.count * active; at += TILE::THREADS) {
        const int row = at / active, part = at % active;
        const ec_vector<float, 2> end = *reinterpret_cast<const ec_vector<float, 2> *>(ends + (part * TILE::ROWS + row) * 2);
        weights[2 * at] = end.at[0];
        weights[2 * at + 1] = end.at[1];
    }
    __syncthreads();
    const int fours = p.value_depth / 4;
    for (int at = threadIdx.x; at < query.count * fours; at += TILE::THREADS) {
        const int row = at / fours, channel = at % fours * 4;
        const float *const own = weights + 2 * row * active;
        float top = -INFINITY, total = 0.0f, sum[4] = {};
        for (int part = 0; part < active; part++) {
            top = fmaxf(top, own[2 * part]);
        }
        const float base = top == -INFINITY ? 0.0f : top;
#pragma unroll 8
        for (int part = 0; part < active; part++) {
            const float weight = ec_exp2(own[2 * part] - base);
            const ec_vector<float, 4> v = *reinterpret_cast<const ec_vector<float, 4> *>(
                sums + (int64_t)(part * TILE::ROWS + row) * p.value_depth + channel);
            total = fmaf(own[2 * part + 1], weight, total);
#pragma unroll
            for (int e = 0; e < 4; e++) {
                sum[e] = fmaf(v.at[e], weight, sum[e]);
            }
        }
        const float factor = total > 0.0f ? 1.0f / total : 0.0f;
#pragma unroll
        for (int e = 0; e < 4; e++) {
            sum[e] *= factor;
        }
        const int token = row / query.group, head = query.head0 + row % query.group;
        ec_store<T, 4>(y + ((int64_t)token * p.heads + head) * p.value_depth + channel, sum);
    }
}

template <typename TILE, bool EARLY>
__device__ __forceinline__ void ec_decode_run(const ec_cached_attention_params &p, const void *q_, const void *k_,
                                              const void *v_, const void *keys_, const void *values_,
                                              const void *position_, const void *frequency, void *y_, void *new_keys_,
                                              void *new_values_, void *scratch, void *counters)
{
    typedef typename TILE::T T;
    extern __shared__ __align__(128) unsigned char ec_shared[];
    __shared__ float2 turns[16 * TILE::D / 2];
    __shared__ bool last_one;
    if (!EARLY) {
        ec_wait_previous();
        ec_launch_next();
    }
    const int sample = blockIdx.z, b = blockIdx.y, group = p.heads / p.kv_heads, head0 = b * group;
    const int position = ec_cached_position(p, position_, sample), index = sample * p.kv_heads + b;
    const ec_split split = ec_split_of<TILE>(p, position);
    const T *const keys = static_cast<const T *>(keys_) + (int64_t)index * p.keys * p.depth;
    const T *const values = static_cast<const T *>(values_) + (int64_t)index * p.keys * p.value_depth;
    T *const new_keys = static_cast<T *>(new_keys_) + (int64_t)index * p.keys * p.depth;
    T *const new_values = static_cast<T *>(new_values_) + (int64_t)index * p.keys * p.value_depth;
    const bool works = (int)blockIdx.x < split.active, newest = (int)blockIdx.x == split.active - 1;
    T *const shared = reinterpret_cast<T *>(ec_shared);
    T *const k_new = shared + TILE::Q_SIZE, *const v_new = k_new + 16 * TILE::K_PITCH;
    ec_attention_stream<TILE, ec_strided_rows<T>, ec_strided_rows<T>> stream = {
        {keys + (int64_t)split.begin * p.depth, p.depth},
        {values + (int64_t)split.begin * p.value_depth, p.value_depth},
        0, 0, 0, p.depth, p.value_depth, v_new + 16 * TILE::V_PITCH};
    const ec_shown_keys shown = {split.end - split.begin, position - split.begin, p.causal != 0, p.window};
    if (works) {
        stream.start(0, split.end - split.begin);
        for (int at = threadIdx.x; at < p.tokens * p.rotary; at += TILE::THREADS) {
            turns[at] = ec_turn(position + at / p.rotary, static_cast<const float *>(frequency)[at % p.rotary],
                                p.rotary_scale);
        }
    }
    if (EARLY) {
        ec_wait_previous();
        ec_launch_next();
    }
    if (new_keys != keys || new_values != values) {
        const int each = (p.keys + (int)gridDim.x - 1) / (int)gridDim.x, first = blockIdx.x * each;
        const int last = min(first + each, p.keys);
        ec_keep_cache(new_keys, keys, first, last, position, p.tokens, p.depth, (int)threadIdx.x, TILE::THREADS);
        ec_keep_cache(new_values, values, first, last, position, p.tokens, p.value_depth, (int)threadIdx.x,
                      TILE::THREADS);
    }
    if (!works) {
        return;
    }
    const ec_query_rows query = {0, p.tokens * group, group, head0};
    const T *const q = static_cast<const T *>(q_) + p.q_offset + sample * p.q_batch + head0 * p.q_head;
    __syncthreads(); /* turns */
    for (int row = threadIdx.x / 32; row < TILE::ROWS; row += TILE::THREADS / 32) {
        const int lane = threadIdx.x & 31;
        if (row < query.count) {
            ec_turned_row<T>(p, turns + row / group * p.rotary, q + row % group * p.q_head + row / group * p.q_token,
                             shared + row * TILE::K_PITCH, nullptr, p.depth, lane, 32);
        }
        const int filled = row < query.count ? p.depth : 0;
        for (int c = filled + lane; c < TILE::D; c += 32) {
            shared[row * TILE::K_PITCH + c] = ec_element<T>::of(0.0f);
        }
    }
    if (newest) {
        ec_decode_update<TILE>(p, turns, static_cast<const T *>(k_) + p.k_offset + sample * p.k_batch + b * p.k_head,
                               static_cast<const T *>(v_) + p.v_offset + sample * p.v_batch + b * p.v_head, k_new,
                               v_new, new_keys, new_values, position);
    }
    ec_attention_rows<TILE> rows;
    rows.clear();
    const uint32_t q_at = (uint32_t)__cvta_generic_to_shared(shared);
    __syncthreads();
    if (newest && threadIdx.x / 32 < TILE::WM) {
        ec_decode_new<TILE>(rows, p, query, q_at, (uint32_t)__cvta_generic_to_shared(k_new),
                            (uint32_t)__cvta_generic_to_shared(v_new));
    }
    ec_no_mask mask;
    stream.run(rows, mask, shown, query, p.scale, q_at);
    T *const y = static_cast<T *>(y_) + (int64_t)sample * p.tokens * p.heads * p.value_depth;
    float *const sums = static_cast<float *>(scratch) + (int64_t)index * gridDim.x * TILE::ROWS * p.value_depth;
    float *const ends = static_cast<float *>(scratch) +
                        (int64_t)gridDim.z * p.kv_heads * gridDim.x * TILE::ROWS * p.value_depth +
                        (int64_t)index * gridDim.x * TILE::ROWS * 2;
    ec_attention_join<TILE>(rows, reinterpret_cast<float *>(ec_shared),
                            [&](int row, int channel, float(&sum)[8], float top, float total) {
                                if (row >= query.count || channel >= p.value_depth) {
                                    return;
                                }
                                if (split.active == 1) {
                                    ec_normalise(sum, total);
                                    const int token = row / group, head = head0 + row % group;
                                    ec_store<T, 8>(y + ((int64_t)token * p.heads + head) * p.value_depth + channel, sum);
                                    return;
                                }
                                const int at = (int)blockIdx.x * TILE::ROWS + row;
                                ec_store<float, 8>(sums + (int64_t)at * p.value_depth + channel, sum);
                                if (channel == 0) {
                                    ends[2 * at] = top;
                                    ends[2 * at + 1] = total;
                                }
                            });
    if (split.active == 1) {
        return;
    }
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        int32_t *const counter = static_cast<int32_t *>(counters) + index;
        last_one = atomicAdd(counter, 1) == split.active - 1;
        if (last_one) {
            *counter = 0;
            __threadfence();
        }
    }
    __syncthreads();
    if (last_one) {
        ec_decode_join<TILE>(p, query, split.active, sums, ends, reinterpret_cast<float *>(ec_shared), y);
    }
}

template <typename T, int D, int E, int BN, int WM, int WN, int STAGES, bool EARLY>
__device__ __forceinline__ void
ec_attention_decode_body(const ec_cached_attention_params &p, const void *q, const void *k, const void *v,
                         const void *keys, const void *values, const void *position, void *y, void *new_keys,
                         void *new_values, void *scratch, void *counters)
{
    ec_decode_run<ec_attention_tile<T, D, E, BN, WM, WN, STAGES>, EARLY>(
        p, q, k, v, keys, values, position, nullptr, y, new_keys, new_values, scratch, counters);
}

template <typename T, int D, int E, int BN, int WM, int WN, int STAGES, bool EARLY>
__device__ __forceinline__ void
ec_attention_decode_rotary_body(const ec_cached_attention_params &p, const void *q, const void *k, const void *v,
                                const void *keys, const void *values, const void *position, const void *frequency,
                                void *y, void *new_keys, void *new_values, void *scratch, void *counters)
{
    ec_decode_run<ec_attention_tile<T, D, E, BN, WM, WN, STAGES>, EARLY>(
        p, q, k, v, keys, values, position, frequency, y, new_keys, new_values, scratch, counters);
}
