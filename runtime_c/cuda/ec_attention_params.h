/*
 * ec_attention_params.h: what the host tells the attention kernels. All steps and offsets are in elements.
 */
#ifndef EC_ATTENTION_PARAMS_H
#define EC_ATTENTION_PARAMS_H

#include <stdint.h>

/* Where heads stand: element = offset + sample * batch + head * head_step + token * token_step + channel. */
typedef struct {
    int64_t q_offset, q_batch, q_head, q_token;
    int64_t k_offset, k_batch, k_head, k_token;
    int64_t v_offset, v_batch, v_head, v_token;
    int64_t y_batch, y_head, y_token;
    int64_t mask_batch, mask_head, mask_query, mask_key; /* 0 along what the mask repeats */
    int64_t rows; /* samples * heads * queries */
    int32_t queries, keys, heads, kv_heads, depth, value_depth;
    int32_t causal, window; /* window 0: none */
    float scale;            /* of the scores, times log2(e) */
} ec_attention_params;

/* New tokens, and caches [sample][kv_heads][keys][depth] and [..][value_depth]. */
typedef struct {
    int64_t q_offset, q_batch, q_head, q_token;
    int64_t k_offset, k_batch, k_head, k_token;
    int64_t v_offset, v_batch, v_head, v_token;
    int32_t batch, tokens, keys, heads, kv_heads, depth, value_depth;
    int32_t causal, window;
    int32_t position_step; /* 0: one position for all samples */
    int32_t rotary;        /* pairs of channels that are turned */
    int32_t pair_step;     /* between the two channels of a pair: `rotary`, or 1 where they are neighbours */
    float rotary_scale;
    float scale; /* of the scores, times log2(e) */
} ec_cached_attention_params;

/* Maps [sample][rows][columns][channels], cut into windows after a roll by -shift. */
typedef struct {
    int32_t q_first, q_head, k_first, k_head, v_first, v_head; /* channels */
    int32_t q_channels, k_channels, v_channels;
    int32_t batch, rows, columns, window_rows, window_columns, shift_rows, shift_columns;
    int32_t heads, depth;
    int32_t bias_pitch; /* elements from row to row of the packed bias; 0: no bias */
    float hidden;       /* added between regions, times log2(e) */
    float scale;        /* of the scores, times log2(e) */
} ec_window_attention_params;

typedef struct {
    int64_t q_offset, q_batch, q_head, q_token;
    int64_t k_offset, k_batch, k_head, k_token;
    int64_t v_offset, v_batch, v_head, v_token;
    int32_t tokens, heads, depth;
    int32_t part; /* tokens that one block sums up */
    float eps;
} ec_linear_attention_params;

#endif
