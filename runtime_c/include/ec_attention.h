/* The body of the attention kernels; each kernel file fixes which mask there is.
 *
 * int8, equal to attention.quant of edgec/ops/attention.py bit for bit, integers only:
 *
 *   s[j] = sum_d (q[d] - zero_q) (k[j,d] - zero_k) + bias[j]        |s| < 2^30
 *   u    = requantize(max(s) - s[j], score_m, score_shift)           in 1/256 powers of two
 *   e[j] = table[u mod 256] shifted right by 15 + floor(u / 256), rounded; 0 beyond 16 powers
 *   t    = 2^20 sum_j e[j] (v[j,d] - zero_v) / sum_j e[j]             by a 31-bit reciprocal
 *   y[d] = clamp(zero_y + requantize(t, out_m, out_shift))
 *
 * depth <= 8192, keys <= 65535. A query that may attend no key yields zero_y.
 */
#ifndef EC_ATTENTION_H
#define EC_ATTENTION_H

#include <stddef.h>

#include "ec_norm.h"
#include "ec_requant.h"

#define EC_ATTENTION_EXCLUDED INT32_MIN
#define EC_ATTENTION_BLOCK 256 /* 256 * 2^15 * 128 < 2^31 */

/* centred[d] = q[d] - zero_q; returns their sum. */
static inline int32_t ec_attention_centre(const ec_attention_params *p, const int8_t *q,
                                          int16_t *centred)
{
    int32_t sum = 0;
    for (int32_t d = 0; d < p->depth; d++) {
        centred[d] = (int16_t)(q[d] - p->zero_q);
        sum += centred[d];
    }
    return sum;
}

/* sum a[i] * b[i] */
static inline int32_t ec_attention_dot(const int16_t *a, const int8_t *b, int32_t count)
{
    int32_t sum = 0;
    int32_t i = 0;
    for (; i + 4 <= count; i += 4) {
        sum += a[i] * b[i];
        sum += a[i + 1] * b[i + 1];
        sum += a[i + 2] * b[i + 2];
        sum += a[i + 3] * b[i + 3];
    }
    for (; i < count; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

/* Scores of one query, whose centred values add up to `sum`; returns the largest,
 * EC_ATTENTION_EXCLUDED where no key may be attended. */
static inline int32_t ec_attention_scores_s8(const ec_attention_params *p, int32_t last,
                                             const int16_t *centred, int32_t sum, const int8_t *k,
                                             const int32_t *bias, const uint8_t *mask,
                                             int32_t *scores)
{
    int32_t most = EC_ATTENTION_EXCLUDED;
    int32_t offset = -p->zero_k * sum;
    for (int32_t j = 0; j < p->keys; j++) {
        int32_t at = j * p->mask_key;
        int32_t excluded = j > last || (mask != NULL && mask[at] == 0) ||
                           (bias != NULL && bias[at] == EC_ATTENTION_EXCLUDED);
        if (excluded) {
            scores[j] = EC_ATTENTION_EXCLUDED;
            continue;
        }
        int32_t acc = offset + ec_attention_dot(centred, k + j * p->depth, p->depth);
        acc += bias != NULL ? bias[at] : 0;
        scores[j] = acc;
        most = acc > most ? acc : most;
    }
    return most;
}

/* Weight of a key whose score lies `below` >= 0 under the largest: 2^15 exp(-below * step),
 * rounded. */
static inline int32_t ec_attention_weight(const ec_attention_params *p, int32_t below,
                                          const uint32_t *table)
{
    int32_t u = ec_requantize(below, p->score_m, p->score_shift);
    int32_t power = u >> 8;
    if (power > 16) {
        return 0;
    }
    int32_t down = 15 + power;
    return (int32_t)((table[u & 255] + ((uint32_t)1 << (down - 1))) >> down);
}

/* Scores become weights; returns their sum, below 2^31. */
static inline uint32_t ec_attention_weights(const ec_attention_params *p, int32_t most,
                                            const uint32_t *table, int32_t *scores)
{
    uint32_t sum = 0;
    for (int32_t j = 0; j < p->keys; j++) {
        int32_t e = 0;
        if (scores[j] != EC_ATTENTION_EXCLUDED) {
            e = ec_attention_weight(p, most - scores[j], table);
        }
        scores[j] = e;
        sum += (uint32_t)e;
    }
    return sum;
}

/* sum_j weights[j] v[j] along a column of v */
static inline int64_t ec_attention_column(const ec_attention_params *p, const int32_t *weights,
                                          const int8_t *v)
{
    int64_t total = 0;
    for (int32_t first = 0; first < p->keys; first += EC_ATTENTION_BLOCK) {
        int32_t left = p->keys - first;
        int32_t end = first + (left < EC_ATTENTION_BLOCK ? left : EC_ATTENTION_BLOCK);
        int32_t acc = 0;
        for (int32_t j = first; j < end; j++) {
            acc += weights[j] * v[j * p->value_depth];
        }
        total += acc;
    }
    return total;
}

static inline void ec_attention_output_s8(const ec_attention_params *p, uint32_t sum,
                                          const int32_t *weights, const int8_t *v, int8_t *y)
{
    if (sum == 0) {
        for (int32_t d = 0; d < p->value_depth; d++) {
            y[d] = (int8_t)p->zero_y;
        }
        return;
    }
    int64_t offset = -(int64_t)p->zero_v * sum;
    int32_t up = 0;
    while (sum < (uint32_t)1 << 30) {
        sum <<= 1;
        up++;
    }
    int64_t reciprocal = (int64_t)(((uint64_t)1 << 61) / sum);
    for (int32_t d = 0; d < p->value_depth; d++) {
        int64_t total = offset + ec_attention_column(p, weights, v + d);
        int64_t numerator = (total * ((int64_t)1 << up)) >> 8;
        int32_t t = (int32_t)((numerator * reciprocal) >> 33);
        y[d] = ec_requantize_s8(t, p->out_m, p->out_shift, p->zero_y, -128, 127);
    }
}

/* bias and mask: at most one is not NULL. scratch: int32[keys], then int16[depth]. */
static inline void ec_attention_s8_body(const ec_attention_params *p, const int8_t *q,
                                        const int8_t *k, const int8_t *v, const int32_t *bias,
                                        const uint8_t *mask, const uint32_t *table, int8_t *y,
                                        int32_t *scratch)
{
    int32_t shared = p->heads / p->kv_heads;
    int16_t *centred = (int16_t *)(scratch + p->keys);
    for (int32_t b = 0; b < p->batch; b++) {
        for (int32_t h = 0; h < p->heads; h++) {
            int32_t head = b * p->kv_heads + h / shared;
            const int8_t *keys = k + head * p->keys * p->depth;
            const int8_t *values = v + head * p->keys * p->value_depth;
            for (int32_t i = 0; i < p->queries; i++) {
                int32_t at = b * p->mask_batch + h * p->mask_head + i * p->mask_query;
                int32_t last = p->causal ? i : p->keys;
                int32_t total = ec_attention_centre(p, q, centred);
                int32_t most = ec_attention_scores_s8(p, last, centred, total, keys,
                                                      bias ? bias + at : NULL,
                                                      mask ? mask + at : NULL, scratch);
                uint32_t sum = ec_attention_weights(p, most, table, scratch);
                ec_attention_output_s8(p, sum, scratch, values, y);
                q += p->depth;
                y += p->value_depth;
            }
        }
    }
}

#endif
