/* The body of the float attention kernels for targets with vectors of floats: 8 queries at a time.
 *
 *   y = softmax(scale q k^T + mask) v;  a query that may attend no key yields 0
 *
 * Equals ec_attention_f32.h bit for bit.
 */
#ifndef EC_ATTENTION_F32_SIMD_H
#define EC_ATTENTION_F32_SIMD_H

#include <math.h>
#include <stddef.h>

#include "ec_norm.h"
#include "ec_tile_f32.h"

static inline int32_t ec_padded_columns(int32_t count)
{
    return (count + EC_TILE_COLUMNS - 1) / EC_TILE_COLUMNS * EC_TILE_COLUMNS;
}

/* Products of one query become its scores, -INFINITY for a key that may not be attended; returns
 * the largest. */
static inline float ec_attention_masked_f32(const ec_attention_f32_params *p, int32_t last,
                                            const float *bias, const uint8_t *mask, float *scores)
{
    float most = -INFINITY;
    for (int32_t j = 0; j < p->keys; j++) {
        int32_t at = j * p->mask_key;
        if (j > last || (mask != NULL && mask[at] == 0)) {
            scores[j] = -INFINITY;
            continue;
        }
        scores[j] = scores[j] * p->scale + (bias != NULL ? bias[at] : 0.0f);
        most = scores[j] > most ? scores[j] : most;
    }
    return most;
}

/* The exponentials of the scores; returns their sum. */
static inline float ec_attention_exponentials_f32(int32_t keys, float most, float *scores)
{
    float sum = 0.0f;
    for (int32_t j = 0; j < keys; j++) {
        scores[j] = expf(scores[j] - most);
        sum += scores[j];
    }
    return sum;
}

/* Products of 8 queries at most with all keys: scores float[8][padded keys]. */
static inline void ec_attention_products_f32(const ec_attention_f32_params *p, const float *q,
                                             int32_t rows, const float *panels, float *scores)
{
    float tile[EC_TILE_ROWS * EC_TILE_COLUMNS];
    int32_t width = ec_padded_columns(p->keys);
    for (int32_t j = 0; j < width; j += EC_TILE_COLUMNS) {
        ec_tile_rows_f32(q, p->depth, 1, p->depth, panels + j * p->depth, rows, tile);
        for (int32_t i = 0; i < rows; i++) {
            ec_copy_tile_row_f32(tile + i * EC_TILE_COLUMNS, EC_TILE_COLUMNS,
                                 scores + i * width + j);
        }
    }
}

/* y = scores v / sums; 0 where a query attends no key. */
static inline void ec_attention_average_f32(const ec_attention_f32_params *p, const float *scores,
                                            int32_t rows, const float *most, const float *sums,
                                            const float *panels, float *y)
{
    float tile[EC_TILE_ROWS * EC_TILE_COLUMNS];
    int32_t width = ec_padded_columns(p->keys);
    for (int32_t d = 0; d < p->value_depth; d += EC_TILE_COLUMNS) {
        int32_t columns = ec_at_most(p->value_depth - d, EC_TILE_COLUMNS);
        ec_tile_rows_f32(scores, width, 1, p->keys, panels + d * p->keys, rows, tile);
        for (int32_t i = 0; i < rows; i++) {
            for (int32_t j = 0; j < columns; j++) {
                float value = tile[i * EC_TILE_COLUMNS + j] / sums[i];
                y[i * p->value_depth + d + j] = most[i] == -INFINITY ? 0.0f : value;
            }
        }
    }
}

/* Panels of 16 keys, then of 16 channels of the values; returns where the latter start. */
static inline float *ec_attention_pack_f32(const ec_attention_f32_params *p, const float *k,
                                           const float *v, float *panels)
{
    for (int32_t j = 0; j < p->keys; j += EC_TILE_COLUMNS) {
        ec_pack_panel_f32(k + j * p->depth, p->depth, 1, p->depth,
                          ec_at_most(p->keys - j, EC_TILE_COLUMNS), panels + j * p->depth);
    }
    float *values = panels + ec_padded_columns(p->keys) * p->depth;
    for (int32_t d = 0; d < p->value_depth; d += EC_TILE_COLUMNS) {
        ec_pack_panel_f32(v + d, p->keys, p->value_depth, 1,
                          ec_at_most(p->value_depth - d, EC_TILE_COLUMNS), values + d * p->keys);
    }
    return values;
}

/* One head. bias and mask: at most one is not NULL; they start at the head's. panels: of its keys
 * and values; scores: float[8][padded keys]. */
static inline void ec_attention_head_f32(const ec_attention_f32_params *p, const float *q,
                                         const float *bias, const uint8_t *mask,
                                         const float *panels, const float *values, float *scores,
                                         float *y)
{
    float most[EC_TILE_ROWS], sums[EC_TILE_ROWS];
    int32_t width = ec_padded_columns(p->keys);
    for (int32_t i = 0; i < p->queries; i += EC_TILE_ROWS) {
        int32_t rows = ec_at_most(p->queries - i, EC_TILE_ROWS);
        ec_attention_products_f32(p, q + i * p->depth, rows, panels, scores);
        for (int32_t r = 0; r < rows; r++) {
            int32_t at = (i + r) * p->mask_query;
            float *row = scores + r * width;
            most[r] = ec_attention_masked_f32(p, p->causal ? i + r : p->keys,
                                              bias != NULL ? bias + at : NULL,
                                              mask != NULL ? mask + at : NULL, row);
            sums[r] = ec_attention_exponentials_f32(p->keys, most[r], row);
        }
        ec_attention_average_f32(p, scores, rows, most, sums, values, y + i * p->value_depth);
    }
}

/* scratch: float[padded keys * depth + keys * padded value_depth + 8 padded keys]. */
static inline void ec_attention_f32_simd_body(const ec_attention_f32_params *p, const float *q,
                                              const float *k, const float *v, const float *bias,
                                              const uint8_t *mask, float *y, float *scratch)
{
    int32_t shared = p->heads / p->kv_heads;
    float *values = scratch;
    float *scores = scratch + ec_padded_columns(p->keys) * p->depth +
                    p->keys * ec_padded_columns(p->value_depth);
    for (int32_t b = 0; b < p->batch; b++) {
        for (int32_t h = 0; h < p->heads; h++) {
            int32_t head = b * p->kv_heads + h / shared;
            int32_t at = b * p->mask_batch + h * p->mask_head;
            if (h % shared == 0) {
                values = ec_attention_pack_f32(p, k + head * p->keys * p->depth,
                                               v + head * p->keys * p->value_depth, scratch);
            }
            ec_attention_head_f32(p, q, bias != NULL ? bias + at : NULL,
                                  mask != NULL ? mask + at : NULL, scratch, values, scores, y);
            q += p->queries * p->depth;
            y += p->queries * p->value_depth;
        }
    }
}

#endif
