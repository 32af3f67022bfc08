/* The body of the float attention kernels; each kernel file fixes which mask there is.
 *
 *   y = softmax(scale q k^T + mask) v;  a query that may attend no key yields 0
 *
 * Equals attention.ref of edgec/ops/attention.py within float rounding.
 */
#ifndef EC_ATTENTION_F32_H
#define EC_ATTENTION_F32_H

#include <math.h>
#include <stddef.h>

#include "ec_norm.h"

/* Scores of one query, -INFINITY for a key that may not be attended; returns the largest. */
static inline float ec_attention_scores_f32(const ec_attention_f32_params *p, int32_t last,
                                            const float *q, const float *k, const float *bias,
                                            const uint8_t *mask, float *scores)
{
    float most = -INFINITY;
    for (int32_t j = 0; j < p->keys; j++) {
        int32_t at = j * p->mask_key;
        if (j > last || (mask != NULL && mask[at] == 0)) {
            scores[j] = -INFINITY;
            continue;
        }
        const float *key = k + j * p->depth;
        float acc = 0.0f;
        for (int32_t d = 0; d < p->depth; d++) {
            acc += q[d] * key[d];
        }
        scores[j] = acc * p->scale + (bias != NULL ? bias[at] : 0.0f);
        most = scores[j] > most ? scores[j] : most;
    }
    return most;
}

static inline void ec_attention_output_f32(const ec_attention_f32_params *p, float most,
                                           float *scores, const float *v, float *y)
{
    for (int32_t d = 0; d < p->value_depth; d++) {
        y[d] = 0.0f;
    }
    if (most == -INFINITY) {
        return;
    }
    float sum = 0.0f;
    for (int32_t j = 0; j < p->keys; j++) {
        scores[j] = expf(scores[j] - most);
        sum += scores[j];
    }
    for (int32_t j = 0; j < p->keys; j++) {
        for (int32_t d = 0; d < p->value_depth; d++) {
            y[d] += scores[j] * v[j * p->value_depth + d];
        }
    }
    for (int32_t d = 0; d < p->value_depth; d++) {
        y[d] /= sum;
    }
}

/* bias and mask: at most one is not NULL. scratch: float[keys]. */
static inline void ec_attention_f32_body(const ec_attention_f32_params *p, const float *q,
                                         const float *k, const float *v, const float *bias,
                                         const uint8_t *mask, float *y, float *scratch)
{
    int32_t shared = p->heads / p->kv_heads;
    for (int32_t b = 0; b < p->batch; b++) {
        for (int32_t h = 0; h < p->heads; h++) {
            int32_t head = b * p->kv_heads + h / shared;
            const float *keys = k + head * p->keys * p->depth;
            const float *values = v + head * p->keys * p->value_depth;
            for (int32_t i = 0; i < p->queries; i++) {
                int32_t at = b * p->mask_batch + h * p->mask_head + i * p->mask_query;
                int32_t last = p->causal ? i : p->keys;
                float most = ec_attention_scores_f32(p, last, q, keys, bias ? bias + at : NULL,
                                                     mask ? mask + at : NULL, scratch);
                ec_attention_output_f32(p, most, scratch, values, y);
                q += p->depth;
                y += p->value_depth;
            }
        }
    }
}

#endif
