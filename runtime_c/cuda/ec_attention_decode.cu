/*
 * ec_attention_decode.cu: a few new tokens over a cache: rotary positions, cache update and attention in one kernel.
 *
 *   k, v of the new tokens join the caches at rows position..position+tokens-1 (k turned by its positions);
 *   y[n,t,a,:] = softmax_j(scale q[n,t,a,:] . keys[n,b,j,:]) values[n,b,j,:] over j <= position + t (all new tokens
 *   without the causal rule), and j > position + t - window with one.
 *
 * q, k, v: T at the places of ec_cached_attention_params; caches [n][b][keys][depth], [n][b][keys][value_depth]; y
 * [n][tokens][heads][value_depth]; all rows 16-byte aligned, depths multiples of 8. position: int32. frequency: float32
 * [rotary]. New caches may be the old ones' memory; else the rest of them is copied.
 * Grid: (splits, kv_heads, batch); the heads of a group times tokens are at most ROWS = 16 WM rows, tokens at most 16.
 * The cached keys divide over as many splits as there is work for; the last one of a key head (counter) joins them from
 * the scratch, float [batch][kv_heads][splits][ROWS][value_depth + 4]; counters: int32[batch kv_heads], zero again at
 * the end. The new keys are never read back from the cache, so no block waits for another.
 * EARLY: position and old caches were written by no kernel of this graph, and the cached keys are asked for before the
 * previous kernel ends. Sums in float32. Equals edgec.ops.cached_attention within rounding.
 *
 * Measured, NVIDIA H200, CUDA 13.0, 2026-11-21, fp16, one token, 32 query and 8 key heads of 128 channels, caches from
 * memory, us a launch in a graph (PyTorch's attention alone, without positions and update): 128 keys 4.4 (4.3), 1024
 * keys 6.6 (7.7; 4.2 MB: 0.64 TB/s), 8192 keys 14.9 (16.7; 2.25 TB/s). Versions at 1024 keys: 8.5 with q, k and v read
 * element by element; with one staged copy of them 6.6 to 7.4 in tuning runs, and 6.4 to 8.0 with the splits as a cluster
 * that joins in distributed shared memory. Reading the cache takes 1 us of it; the rest waits one after the other:
 * position, q, the products, the join.
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
    const int wm = (threadIdx.x >> 5) % TILE::WM;
    const ec_shown_keys shown = {p.tokens, 0, p.causal != 0, p.window};
    const ec_no_mask mask;
    float s[1][2][4];
    q_at += wm * 16 * TILE::K_PITCH * (int)sizeof(T);
    rows.hold(q_at);
    rows.template scores<16>(s, q_at, k_at);
    ec_finish_scores<16, 1>(s, mask, p.scale, 0, shown, query, wm * 16, false);
    rows.template soften<16>(s, p.scale);
    rows.template average<16>(s, v_at);
}

/* Turns `count` rows of q or k in shared memory, `pitch` apart, a warp a row; row r belongs to token r / group. */
template <typename T>
__device__ __forceinline__ void ec_turn_rows(const ec_cached_attention_params &p, const float2 *turns, T *rows,
                                             int pitch, int count, int group, int warp, int warps)
{
    for (int row = warp; row < count; row += warps) {
        const float2 *const own = turns + row / group * p.rotary;
        for (int pair = threadIdx.x & 31; pair < p.rotary; pair += 32) {
            T *const a = rows + row * pitch + ec_pair_channel(p, pair), *const b = a + p.pair_step;
            const float x = ec_float(*a), y = ec_float(*b);
            const float2 turn = own[pair];
            *a = ec_element<T>::of(x * turn.x - y * turn.y);
            *b = ec_element<T>::of(y * turn.x + x * turn.y);
        }
    }
}

/* `count` rows of `depth` channels from shared memory, PITCH apart, to a cache. */
template <typename T>
__device__ __forceinline__ void ec_put_rows(T *to, const T *rows, int pitch, int count, int depth, int threads)
{
    const int chunks = depth / 8;
    for (int at = threadIdx.x; at < count * chunks; at += threads) {
        const int row = at / chunks, chunk = at % chunks * 8;
        *reinterpret_cast<ec_vector<T, 8> *>(to + row * depth + chunk) =
            *reinterpret_cast<const ec_vector<T, 8> *>(rows + row * pitch + chunk);
    }
}

/*
 * Joins the partial results of `active` splits, four channels of one row, BATCH at a time: sums(i, v) gets those of
 * split i, ends(i, v) its top and total.
 */
template <typename T, int BATCH, typename SUMS, typename ENDS>
__device__ __forceinline__ void ec_decode_merge(int active, const SUMS &sums, const ENDS &ends, T *y)
{
    float top = -INFINITY, total = 0.0f, sum[4] = {};
    for (int first = 0; first < active; first += BATCH) {
        float v[BATCH][4], end[BATCH][2];
#pragma unroll
        for (int i = 0; i < BATCH; i++) {
            ends(min(first + i, active - 1), end[i]);
            sums(min(first + i, active - 1), v[i]);
        }
        float now = top;
#pragma unroll
        for (int i = 0; i < BATCH; i++) {
            now = fmaxf(now, end[i][0]);
        }
        const float base = now == -INFINITY ? 0.0f : now, before = ec_exp2(top - base);
        top = now;
        total *= before;
#pragma unroll
        for (int e = 0; e < 4; e++) {
            sum[e] *= before;
        }
#pragma unroll
        for (int i = 0; i < BATCH; i++) {
            const float weight = first + i < active ? ec_exp2(end[i][0] - base) : 0.0f;
            total = fmaf(end[i][1], weight, total);
#pragma unroll
            for (int e = 0; e < 4; e++) {
                sum[e] = fmaf(v[i][e], weight, sum[e]);
            }
        }
    }
    const float factor = total > 0.0f ? 1.0f / total : 0.0f;
#pragma unroll
    for (int e = 0; e < 4; e++) {
        sum[e] *= factor;
    }
    ec_store<T, 4>(y, sum);
}

/* Where y of a query row stands, from y of the sample on. */
__device__ __forceinline__ int64_t ec_decode_place(const ec_cached_attention_params &p, const ec_query_rows &query,
                                                   int row)
{
    return ((int64_t)(row / query.group) * p.heads + query.head0 + row % query.group) * p.value_depth;
}

/* Splits that left their results in the scratch: the block that comes last joins them. */
template <typename TILE>
__device__ __forceinline__ void ec_decode_join(const ec_cached_attention_params &p, const ec_query_rows &query,
                                               int active, const float *sums, const float *ends, typename TILE::T *y)
{
    typedef typename TILE::T T;
    const int fours = p.value_depth / 4;
    for (int at = threadIdx.x; at < query.count * fours; at += TILE::THREADS) {
        const int row = at / fours, channel = at % fours * 4;
        const auto sums_of = [&](int part, float(&v)[4]) {
            ec_load<float, 4>(v, sums + (int64_t)(part * TILE::ROWS + row) * p.value_depth + channel);
        };
        const auto ends_of = [&](int part, float(&v)[2]) {
            ec_load<float, 2>(v, ends + (part * TILE::ROWS + row) * 4);
        };
        T *const to = y + ec_decode_place(p, query, row) + channel;
        if (active <= 8) {
            ec_decode_merge<T, 8>(active, sums_of, ends_of, to);
        } else {
            ec_decode_merge<T, 16>(active, sums_of, ends_of, to);
        }
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
    ec_launch_next();
    if (!EARLY) {
        ec_wait_previous();
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
    const ec_grouped_rows<T> q_from = {static_cast<const T *>(q_) + p.q_offset + sample * p.q_batch + head0 * p.q_head,
                                       p.q_head, p.q_token, group};
    const ec_strided_rows<T> k_from = {
        static_cast<const T *>(k_) + p.k_offset + sample * p.k_batch + b * p.k_head, p.k_token};
    const ec_strided_rows<T> v_from = {
        static_cast<const T *>(v_) + p.v_offset + sample * p.v_batch + b * p.v_head, p.v_token};
    ec_copy_rows<TILE::ROWS, TILE::D, TILE::THREADS>(shared, q_from, 0, query.count, p.depth);
    if (newest) {
        ec_copy_rows<16, TILE::D, TILE::THREADS>(k_new, k_from, 0, p.tokens, p.depth);
        ec_copy_rows<16, TILE::E, TILE::THREADS>(v_new, v_from, 0, p.tokens, p.value_depth);
    }
    ec_copy_commit();
    ec_copy_wait<0>();
    __syncthreads();
    const int warp = threadIdx.x / 32, warps = TILE::THREADS / 32;
    ec_turn_rows(p, turns, shared, TILE::K_PITCH, query.count, group, warp, warps);
    if (newest) {
        ec_turn_rows(p, turns, k_new, TILE::K_PITCH, p.tokens, 1, warps - 1 - warp, warps);
    }
    __syncthreads();
    ec_attention_rows<TILE> rows;
    rows.clear();
    const uint32_t q_at = (uint32_t)__cvta_generic_to_shared(shared);
    if (newest) {
        ec_put_rows(new_keys + (int64_t)position * p.depth, k_new, TILE::K_PITCH, p.tokens, p.depth, TILE::THREADS);
        ec_put_rows(new_values + (int64_t)position * p.value_depth, v_new, TILE::V_PITCH, p.tokens, p.value_depth,
                    TILE::THREADS);
        if (threadIdx.x / 32 < TILE::WM) {
            ec_decode_new<TILE>(rows, p, query, q_at, (uint32_t)__cvta_generic_to_shared(k_new),
                                (uint32_t)__cvta_generic_to_shared(v_new));
        }
    }
    ec_no_mask mask;
    stream.run(rows, mask, shown, query, p.scale, q_at);
    T *const y = static_cast<T *>(y_) + (int64_t)sample * p.tokens * p.heads * p.value_depth;
    float *const parts = reinterpret_cast<float *>(ec_shared);
    const int64_t splits = (int64_t)index * gridDim.x * TILE::ROWS;
    const int64_t all = (int64_t)gridDim.z * p.kv_heads * gridDim.x * TILE::ROWS * p.value_depth;
    float *const sums = static_cast<float *>(scratch) + splits * p.value_depth;
    float *const ends = static_cast<float *>(scratch) + all + splits * 4;
    ec_attention_join<TILE>(rows, parts, query.count,
                            [&](int row, int channel, float(&sum)[8], float top, float total) {
                                if (channel >= p.value_depth) {
                                    return;
                                }
                                if (split.active == 1) {
                                    ec_normalise(sum, total);
                                    ec_store<T, 8>(y + ec_decode_place(p, query, row) + channel, sum);
                                    return;
                                }
                                const int at = (int)blockIdx.x * TILE::ROWS + row;
                                float *const to = sums + (int64_t)at * p.value_depth + channel;
                                ec_store<float, 4>(to, {sum[0], sum[1], sum[2], sum[3]});
                                ec_store<float, 4>(to + 4, {sum[4], sum[5], sum[6], sum[7]});
                                if (channel == 0) {
                                    ec_store<float, 4>(ends + 4 * at, {top, total, 0.0f, 0.0f});
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
        ec_decode_join<TILE>(p, query, split.active, sums, ends, y);
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
