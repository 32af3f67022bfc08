/*
 * ec_attention_plain.cu: softmax attention of any element type, depth and alignment: a warp a query row.
 *
 * Formulas, places and masks as in ec_attention.cu, ec_attention_prefill.cu (second launch) and ec_attention_window.cu
 * (its bias as given, [heads][L][L]). Lanes are keys for the scores, 32 at a time, and channels for the average; each
 * lane has V channels, value_depth <= 32 V. Online softmax, all in float32. Dynamic shared memory: float
 * [warps][depth]. Grid: (query rows of all heads and samples / warps). Equals the ops' float reference within rounding.
 */
#include "ec_attention.cuh"
#include "ec_attention_cached.cuh"
#include "ec_attention_window.cuh"

/* y = softmax(scale q k^T + mask) v over the keys first..last; `shared`: float[depth] of this warp. */
template <int V, typename T, typename K, typename MASK>
__device__ __forceinline__ void ec_attend_plain(const T *q, const K &k_from, const K &v_from, const MASK &mask,
                                                int first, int last, float scale, int depth, int value_depth, T *y,
                                                float *shared)
{
    const int lane = threadIdx.x & 31;
    for (int c = lane; c < depth; c += 32) {
        shared[c] = ec_float(q[c]) * scale;
    }
    __syncwarp();
    float top = -INFINITY, total = 0.0f, o[V] = {};
    for (int key0 = first; key0 <= last; key0 += 32) {
        const int key = key0 + lane;
        float score = -INFINITY;
        if (key <= last) {
            const T *const k = k_from.at(key);
            float sum = 0.0f;
            for (int c = 0; c < depth; c++) {
                sum = fmaf(shared[c], ec_float(k[c]), sum);
            }
            score = mask.apply(0, sum, key);
        }
        const float now = fmaxf(top, ec_warp_max(score)), base = now == -INFINITY ? 0.0f : now;
        const float before = ec_exp2(top - base), p = ec_exp2(score - base);
        top = now;
        total = fmaf(total, before, p);
#pragma unroll
        for (int u = 0; u < V; u++) {
            o[u] *= before;
        }
        const int count = min(32, last - key0 + 1);
        for (int i = 0; i < count; i++) {
            const float weight = __shfl_sync(0xffffffffu, p, i);
            const T *const v = v_from.at(key0 + i);
#pragma unroll
            for (int u = 0; u < V; u++) {
                if (lane + 32 * u < value_depth) {
                    o[u] = fmaf(weight, ec_float(v[lane + 32 * u]), o[u]);
                }
            }
        }
    }
    total = ec_warp_sum(total);
    const float factor = total > 0.0f ? 1.0f / total : 0.0f;
#pragma unroll
    for (int u = 0; u < V; u++) {
        if (lane + 32 * u < value_depth) {
            y[lane + 32 * u] = ec_element<T>::of(o[u] * factor);
        }
    }
}

/* The query row of this warp among rows = samples * heads * queries; `at` -1 where there is none. */
struct ec_plain_row {
    int sample, head, token;
    float *shared;
    __device__ __forceinline__ ec_plain_row(int heads, int queries, int64_t rows, int depth)
    {
        extern __shared__ __align__(128) unsigned char ec_shared[];
        const int64_t at = (int64_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
        sample = at < rows ? (int)(at / queries / heads) : -1;
        head = (int)(at / queries % heads);
        token = (int)(at % queries);
        shared = reinterpret_cast<float *>(ec_shared) + threadIdx.x / 32 * depth;
    }
};

template <typename T, int V, typename MASK>
__device__ __forceinline__ void ec_attention_plain_run(const ec_attention_params &p, const void *q, const void *k,
                                                       const void *v, MASK mask, int64_t rows, void *y)
{
    const ec_plain_row row(p.heads, p.queries, rows, p.depth);
    if (row.sample < 0) {
        return;
    }
    const int kv_head = row.head / (p.heads / p.kv_heads);
    const ec_shown_keys shown = {p.keys, 0, p.causal != 0, p.window};
    const ec_strided_rows<T> k_from = {
        static_cast<const T *>(k) + p.k_offset + row.sample * p.k_batch + kv_head * p.k_head, p.k_token};
    const ec_strided_rows<T> v_from = {
        static_cast<const T *>(v) + p.v_offset + row.sample * p.v_batch + kv_head * p.v_head, p.v_token};
    mask.base += row.sample * p.mask_batch;
    mask.row(0, row.head, row.token);
    ec_attend_plain<V>(static_cast<const T *>(q) + p.q_offset + row.sample * p.q_batch + row.head * p.q_head +
                           row.token * p.q_token,
                       k_from, v_from, mask, shown.first(row.token), shown.last(row.token), p.scale, p.depth,
                       p.value_depth,
                       static_cast<T *>(y) + row.sample * p.y_batch + row.head * p.y_head + row.token * p.y_token,
                       row.shared);
}

/* No mask, with the members that masks from memory have. */
struct ec_absent_mask : ec_no_mask {
    const uint8_t *base;
};

template <typename T, int V>
__device__ __forceinline__ void ec_attention_plain_body(const ec_attention_params &p, const void *q, const void *k,
                                                        const void *v, void *y)
{
    ec_absent_mask mask;
    mask.base = nullptr;
    ec_attention_plain_run<T, V>(p, q, k, v, mask, p.rows, y);
}

template <typename T, int V>
__device__ __forceinline__ void ec_attention_plain_boolean_body(const ec_attention_params &p, const void *q,
                                                                const void *k, const void *v, const void *mask,
                                                                void *y)
{
    const ec_boolean_mask<1> shown = {static_cast<const uint8_t *>(mask), p.mask_head, p.mask_query, p.mask_key};
    ec_attention_plain_run<T, V>(p, q, k, v, shown, p.rows, y);
}

template <typename T, int V>
__device__ __forceinline__ void ec_attention_plain_additive_body(const ec_attention_params &p, const void *q,
                                                                 const void *k, const void *v, const void *mask,
                                                                 void *y)
{
    const ec_additive_mask<T, 1> added = {static_cast<const T *>(mask), p.mask_head, p.mask_query, p.mask_key};
    ec_attention_plain_run<T, V>(p, q, k, v, added, p.rows, y);
}

/* The second launch over a cache: keys and values stand in the new caches, turned q in the scratch. */
template <typename T, int V>
__device__ __forceinline__ void ec_cached_plain_run(const ec_cached_attention_params &p, const void *q,
                                                    const void *position_, void *y, const void *keys,
                                                    const void *values, const void *scratch)
{
    const ec_plain_row row(p.heads, p.tokens, (int64_t)p.batch * p.heads * p.tokens, p.depth);
    if (row.sample < 0) {
        return;
    }
    const int position = ec_cached_position(p, position_, row.sample), kv_head = row.head / (p.heads / p.kv_heads);
    const int64_t index = (int64_t)row.sample * p.kv_heads + kv_head;
    const ec_shown_keys shown = {position + p.tokens, position, p.causal != 0, p.window};
    const ec_strided_rows<T> k_from = {static_cast<const T *>(keys) + index * p.keys * p.depth, p.depth};
    const ec_strided_rows<T> v_from = {static_cast<const T *>(values) + index * p.keys * p.value_depth, p.value_depth};
    const T *const turned = static_cast<const T *>(scratch) +
                            (((int64_t)row.sample * p.heads + row.head) * p.tokens + row.token) * p.depth;
    const T *const own = static_cast<const T *>(q) + p.q_offset + row.sample * p.q_batch + row.head * p.q_head +
                         row.token * p.q_token;
    const int64_t place = ((int64_t)row.sample * p.tokens + row.token) * p.heads + row.head;
    T *const to = static_cast<T *>(y) + place * p.value_depth;
    ec_attend_plain<V>(p.rotary > 0 ? turned : own, k_from, v_from, ec_no_mask(), shown.first(row.token),
                       shown.last(row.token), p.scale, p.depth, p.value_depth, to, row.shared);
}

template <typename T, int V>
__device__ __forceinline__ void ec_cached_plain_body(const ec_cached_attention_params &p, const void *q, const void *k,
                                                     const void *v, const void *keys, const void *values,
                                                     const void *position, void *y, void *new_keys, void *new_values,
                                                     void *scratch)
{
    ec_cached_plain_run<T, V>(p, q, position, y, new_keys, new_values, scratch);
}

template <typename T, int V>
__device__ __forceinline__ void
ec_cached_plain_rotary_body(const ec_cached_attention_params &p, const void *q, const void *k, const void *v,
                            const void *keys, const void *values, const void *position, const void *frequency, void *y,
                            void *new_keys, void *new_values, void *scratch)
{
    ec_cached_plain_run<T, V>(p, q, position, y, new_keys, new_values, scratch);
}

/* Bias from memory, and hidden pairs. */
template <typename T> struct ec_plain_window_mask {
    const T *bias; /* of the head and pixel; null: none */
    ec_window window;
    int region;
    float hidden;
    __device__ __forceinline__ float apply(int i, float score, int key) const
    {
        if (bias != nullptr) {
            score = fmaf(ec_float(bias[key]), EC_LOG2E, score);
        }
        return hidden != 0.0f && window.region(key) != region ? score + hidden : score;
    }
};

template <typename T, int V>
__device__ __forceinline__ void ec_window_plain_run(const ec_window_attention_params &p, const void *q, const void *k,
                                                    const void *v, const T *bias, void *y)
{
    const int size = p.window_rows * p.window_columns, windows = p.rows * p.columns / size;
    const int64_t pixels = (int64_t)p.rows * p.columns;
    const ec_plain_row row(p.heads, size, (int64_t)p.batch * windows * p.heads * size, p.depth);
    if (row.sample < 0) {
        return;
    }
    const int sample = row.sample / windows, head = row.head;
    const ec_window window = ec_window_of(p, row.sample % windows);
    const int64_t pixel = sample * pixels + window.pixel(row.token);
    const ec_window_rows<T> k_from = {
        static_cast<const T *>(k) + sample * pixels * p.k_channels + p.k_first + head * p.k_head, window, p.k_channels};
    const ec_window_rows<T> v_from = {
        static_cast<const T *>(v) + sample * pixels * p.v_channels + p.v_first + head * p.v_head, window, p.v_channels};
    const ec_plain_window_mask<T> mask = {bias == nullptr ? nullptr : bias + ((int64_t)head * size + row.token) * size,
                                          window, window.region(row.token), p.hidden};
    ec_attend_plain<V>(static_cast<const T *>(q) + pixel * p.q_channels + p.q_first + head * p.q_head, k_from, v_from,
                       mask, 0, size - 1, p.scale, p.depth, p.depth,
                       static_cast<T *>(y) + (pixel * p.heads + head) * p.depth, row.shared);
}

template <typename T, int V>
__device__ __forceinline__ void ec_window_plain_body(const ec_window_attention_params &p, const void *q, const void *k,
                                                     const void *v, void *y)
{
    ec_window_plain_run<T, V>(p, q, k, v, nullptr, y);
}

template <typename T, int V>
__device__ __forceinline__ void ec_window_plain_bias_body(const ec_window_attention_params &p, const void *q,
                                                          const void *k, const void *v, const void *bias, void *y)
{
    ec_window_plain_run<T, V>(p, q, k, v, static_cast<const T *>(bias), y);
}
