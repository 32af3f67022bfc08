/*
 * ec_attention_wgmma.cu: softmax attention of many rows over many keys by the instructions of a warp group (sm_90a
 * alone), over values and for prefill over a cache.
 *
 * Formula, places and types as in ec_attention.cu without a mask, and as in ec_attention_prefill.cu, whose first launch
 * comes before the body for prefill; see ec_attention_wgmma.cuh. depth and value_depth are at most D, 64 or 128. A work
 * is 64 ROW_GROUPS rows of a key head of a sample. Grid: one block a work where KEY_GROUPS > 1, else at most as many
 * blocks as there are multiprocessors, which take works in turn, the longest first. Sums in float32, weights rounded to
 * T. Equals edgec.ops.strided_attention (attention, cached_attention) within rounding.
 *
 * Measured, NVIDIA H200, CUDA 13.0, 2026-11-21, fp16, us a launch in a graph (ec_attention.cu; PyTorch 2.11's
 * scaled_dot_product_attention in a graph, both in the same run): queries x keys, heads x depth
 *     197 x 197, 12 x 64      4.4 (5.1; 7.6)      causal 128, 32 / 8 x 128       5.0 (6.4; 7.8)
 *     384 x 384, 12 x 64      5.1 (8.7; 8.3)      causal 512, 32 / 8 x 128      11.6 (24.0; 13.6)
 *     1500 x 1500, 6 x 64    18.2 (35.3; 20.4)    causal 1024, 32 / 8 x 128     22.5 (66.0; 32.1)
 *     2048 x 2048, 16 x 64   40.0 (92.9; 41.6)    causal 2048, 32 / 8 x 128     69.2 (184; 83.7)
 *     4096 x 4096, 12 x 64    105 (264; 113)      causal 4096, 32 / 8 x 128      235 (559; 276)
 *     2048 x 2048, 16 x 128  59.3 (147; 57.6)     4096 x 4096, 8 x 128           113 (282; 114)
 * 497 Tflop/s at 2048 causal tokens, 580 at 2048 x 2048 (peak 989). At 2048 tokens blocks that stay took 68.9 us where
 * a block a work took 73.9, without turns 70.4, tiles of 64 keys 77.1, q in registers 68.8, tiles of 160 keys 67.7 (but
 * 1024 tokens 23.9). The compiler waits for the averages before the softmax; made to keep the order of the text it took
 * longer (70.4, and 19.5 of 1500 x 1500). The fences before products cost 1 %.
 */
#include "ec_cache_write.cuh"
#include "ec_attention_wgmma.cuh"

/*
 * Work `index` of those of `tiles` row tiles for each of `heads` key heads of each sample. Under the causal rule later
 * rows have more keys, and come first.
 */
struct ec_wide_index {
    int tile, head, sample;
    __device__ __forceinline__ ec_wide_index(int index, int tiles, int heads, int samples, bool causal)
    {
        const int all = heads * samples, at = index / all, rest = index % all;
        tile = causal ? tiles - 1 - at : at;
        sample = rest / heads;
        head = rest % heads;
    }
};

template <typename T, int D, int KEYS, int ROW_GROUPS, int KEY_GROUPS, int STAGES>
__device__ __forceinline__ void ec_attention_wide_body(const ec_attention_params &p, const void *q, const void *k,
                                                       const void *v, void *y)
{
    typedef ec_wide_attention_tile<T, D, KEYS, ROW_GROUPS, KEY_GROUPS, STAGES> tile;
    const int group = p.heads / p.kv_heads, rows = p.queries * group, tiles = (rows + tile::ROWS - 1) / tile::ROWS;
    const int samples = (int)(p.rows / ((int64_t)p.heads * p.queries));
    ec_wide_attend<tile>(tiles * p.kv_heads * samples, [&](int index) {
        const ec_wide_index at(index, tiles, p.kv_heads, samples, p.causal != 0);
        return ec_wide_work<T>{
            static_cast<const T *>(q) + p.q_offset + at.sample * p.q_batch + at.head * group * p.q_head,
            static_cast<const T *>(k) + p.k_offset + at.sample * p.k_batch + at.head * p.k_head,
            static_cast<const T *>(v) + p.v_offset + at.sample * p.v_batch + at.head * p.v_head,
            static_cast<T *>(y) + at.sample * p.y_batch + at.head * group * p.y_head,
            p.q_head,
            p.q_token,
            p.k_token,
            p.v_token,
            p.y_head,
            p.y_token,
            {p.keys, 0, p.causal != 0, p.window},
            p.depth,
            p.value_depth,
            ec_wide_heads(group),
            at.tile * tile::ROWS,
            rows,
            p.scale,
        };
    });
}

template <typename TILE>
__device__ __forceinline__ void ec_wide_prefill(const ec_cached_attention_params &p, const void *q,
                                                const void *position, void *y, const void *keys, const void *values,
                                                const void *scratch)
{
    typedef typename TILE::T T;
    const int group = p.heads / p.kv_heads, rows = p.tokens * group, tiles = (rows + TILE::ROWS - 1) / TILE::ROWS;
    const bool turned = p.rotary > 0;
    const int64_t head = turned ? (int64_t)p.tokens * p.depth : p.q_head;
    ec_wide_attend<TILE>(tiles * p.kv_heads * p.batch, [&](int index) {
        const ec_wide_index at(index, tiles, p.kv_heads, p.batch, p.causal != 0);
        const int held = ec_cached_position(p, position, at.sample), head0 = at.head * group;
        const int64_t cache = (int64_t)(at.sample * p.kv_heads + at.head) * p.keys;
        return ec_wide_work<T>{
            turned ? static_cast<const T *>(scratch) + ((int64_t)at.sample * p.heads + head0) * head
                   : static_cast<const T *>(q) + p.q_offset + at.sample * p.q_batch + head0 * head,
            static_cast<const T *>(keys) + cache * p.depth,
            static_cast<const T *>(values) + cache * p.value_depth,
            static_cast<T *>(y) + ((int64_t)at.sample * p.tokens * p.heads + head0) * p.value_depth,
            head,
            turned ? p.depth : p.q_token,
            p.depth,
            p.value_depth,
            p.value_depth,
            (int64_t)p.heads * p.value_depth,
            {held + p.tokens, held, p.causal != 0, p.window},
            p.depth,
            p.value_depth,
            ec_wide_heads(group),
            at.tile * TILE::ROWS,
            rows,
            p.scale,
        };
    });
}

template <typename T, int D, int KEYS, int ROW_GROUPS, int KEY_GROUPS, int STAGES>
__device__ __forceinline__ void ec_attention_wide_prefill_body(const ec_cached_attention_params &p, const void *q,
                                                               const void *k, const void *v, const void *keys,
                                                               const void *values, const void *position, void *y,
                                                               void *new_keys, void *new_values, void *scratch)
{
    ec_wide_prefill<ec_wide_attention_tile<T, D, KEYS, ROW_GROUPS, KEY_GROUPS, STAGES>>(p, q, position, y, new_keys,
                                                                                        new_values, scratch);
}

template <typename T, int D, int KEYS, int ROW_GROUPS, int KEY_GROUPS, int STAGES>
__device__ __forceinline__ void
ec_attention_wide_prefill_rotary_body(const ec_cached_attention_params &p, const void *q, const void *k, const void *v,
                                      const void *keys, const void *values, const void *position, const void *frequency,
                                      void *y, void *new_keys, void *new_values, void *scratch)
{
    ec_wide_prefill<ec_wide_attention_tile<T, D, KEYS, ROW_GROUPS, KEY_GROUPS, STAGES>>(p, q, position, y, new_keys,
                                                                                        new_values, scratch);
}
