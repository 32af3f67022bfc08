/*
 * ec_attention.cu: softmax attention, y[n,t,a,:] = sum_j softmax_j(scale q[n,a,t,:] . k[n,b,j,:] + mask) v[n,b,j,:].
 *
 * q, k, v, y: T (half or bfloat16), at the places of ec_attention_params (the heads of one packed projection, say);
 * each row 16-byte aligned, depth and value_depth multiples of 8. Key head b serves the `group` = heads / kv_heads
 * query heads from b group on; their rows share a block, so that keys are read once for all of them. Mask: booleans,
 * or T added to the scaled scores; a query that may attend no key yields 0. Sums in float32, see ec_attention.cuh.
 * Grid: (rows / ROWS, kv_heads, batch). Shared memory: q, then as many stages as there are tiles, at most STAGES; at
 * the end the float sums. Equals edgec.ops.strided_attention (and attention) within rounding.
 *
 * Measured, NVIDIA H200, CUDA 13.0, 2026-11-21, fp16, us a launch in a graph (PyTorch 2.11's
 * scaled_dot_product_attention in a graph in the same run): queries x keys, heads x depth
 *     197 x 197, 12 x 64           5.1   (7.4)        49 keys, 3136 queries, 1 x 32   2.9   (6.3)
 *     128 x 128, 12 x 32           2.8   (5.9)        causal 128, 32 / 8 x 128        6.3   (8.0)
 *     384 x 384, 12 x 64           8.8   (8.2)        causal 512, 32 / 8 x 128       24.0  (13.5)
 *     1500 x 1500, 6 x 64         35.0  (20.3)        causal 2048, 32 / 8 x 128     185    (85)
 * Long sequences are far from the tensor cores' rate: 186 Tflop/s of 989, whether a warp has 16 rows or 32 (186 us
 * against 182); fragments loaded two ahead change nothing. Small grids gain from warps that share the keys: 5.1 us with two
 * pairs against 7.1 with four warps of 16 rows each (197 x 197). On Hopper ec_attention_wgmma.cu takes larger ones.
 */
#include "ec_attention.cuh"
#include "ec_attention_params.h"

template <typename TILE, typename MASK>
__device__ __forceinline__ void ec_attention_run(const ec_attention_params &p, const void *q, const void *k,
                                                 const void *v, const MASK &mask, void *y)
{
    typedef typename TILE::T T;
    extern __shared__ __align__(128) unsigned char ec_shared[];
    const int sample = blockIdx.z, kv_head = blockIdx.y, group = p.heads / p.kv_heads, head0 = kv_head * group;
    /* Under the causal rule later rows have more keys: they start first. */
    const int tile = p.causal ? (int)(gridDim.x - 1 - blockIdx.x) : (int)blockIdx.x;
    const int row0 = tile * TILE::ROWS, row_count = p.queries * group;
    const ec_grouped_rows<T> q_from = {static_cast<const T *>(q) + p.q_offset + sample * p.q_batch + head0 * p.q_head,
                                       p.q_head, p.q_token, group};
    const ec_strided_rows<T> k_from = {
        static_cast<const T *>(k) + p.k_offset + sample * p.k_batch + kv_head * p.k_head, p.k_token};
    const ec_strided_rows<T> v_from = {
        static_cast<const T *>(v) + p.v_offset + sample * p.v_batch + kv_head * p.v_head, p.v_token};
    const ec_shown_keys shown = {p.keys, 0, p.causal != 0, p.window};
    const ec_query_rows query = {row0, row_count, group, head0};
    ec_attention_stream<TILE, ec_strided_rows<T>, ec_strided_rows<T>> stream = {k_from, v_from,        0,      0, 0,
                                                                               p.depth, p.value_depth, nullptr};
    ec_attention_rows<TILE> rows;
    ec_attention_core<TILE>(rows, q_from, stream, mask, shown, query, p.scale, reinterpret_cast<T *>(ec_shared));
    T *const to = static_cast<T *>(y) + sample * p.y_batch + head0 * p.y_head;
    ec_attention_join<TILE>(rows, reinterpret_cast<float *>(ec_shared), row_count - row0,
                            [&](int row, int channel, float(&sum)[8], float top, float total) {
                                const int r = row0 + row;
                                if (channel < p.value_depth) {
                                    ec_normalise(sum, total);
                                    ec_store<T, 8>(to + r % group * p.y_head + r / group * p.y_token + channel, sum);
                                }
                            });
}

template <typename T, int D, int E, int BN, int WM, int WN, int STAGES, int MI>
__device__ __forceinline__ void ec_attention_body(const ec_attention_params &p, const void *q, const void *k,
                                                  const void *v, void *y)
{
    ec_attention_run<ec_attention_tile<T, D, E, BN, WM, WN, STAGES, MI>>(p, q, k, v, ec_no_mask(), y);
}

template <typename T, int D, int E, int BN, int WM, int WN, int STAGES, int MI>
__device__ __forceinline__ void ec_attention_boolean_body(const ec_attention_params &p, const void *q, const void *k,
                                                          const void *v, const void *mask, void *y)
{
    const ec_boolean_mask<MI> shown = {static_cast<const uint8_t *>(mask) + (int)blockIdx.z * p.mask_batch, p.mask_head,
                                   p.mask_query, p.mask_key};
    ec_attention_run<ec_attention_tile<T, D, E, BN, WM, WN, STAGES, MI>>(p, q, k, v, shown, y);
}

template <typename T, int D, int E, int BN, int WM, int WN, int STAGES, int MI>
__device__ __forceinline__ void ec_attention_additive_body(const ec_attention_params &p, const void *q, const void *k,
                                                           const void *v, const void *mask, void *y)
{
    const ec_additive_mask<T, MI> added = {static_cast<const T *>(mask) + (int)blockIdx.z * p.mask_batch, p.mask_head,
                                       p.mask_query, p.mask_key};
    ec_attention_run<ec_attention_tile<T, D, E, BN, WM, WN, STAGES, MI>>(p, q, k, v, added, y);
}
