/* cached_attention: new tokens join a cache of keys and values and attend it, float, portable C99.
 *
 *   first = clamp(position, 0, keys - tokens)
 *   new_keys, new_values = keys, values with the (rotated) k, v of token i at first + i
 *   y[b,i,h,:] = sum_j softmax_j(scale q[b,h,i,:] new_keys[b,g,j,:]) new_values[b,g,j,:],
 *   g = floor(h / (heads / kv_heads)), j <= first + i (causal) or first + tokens - 1,
 *   j > first + i - window where window > 0
 *
 * q, k, v by their places (ec_decoder.h), which may lie in one memory; keys, new_keys
 * float[batch][kv_heads][keys][depth], values alike with value_depth; y
 * float[batch][tokens][heads][value_depth], other memory than all inputs. new_keys may be keys and
 * new_values may be values: then only the new rows are written. frequency float[pairs]. scratch:
 * float[keys + depth] at a multiple of 4. Equals cached_attention of edgec/ops/cached_attention.py
 * within float rounding.
 */
#include <string.h>

#include "ec_decoder.h"
#include "ec_rotate_f32.h"

static void ec_cached_store_f32(const ec_cached_attention_f32_params *p, int32_t batch,
                                int32_t first, const float *k, const float *v,
                                const float *frequency, float *keys, float *values)
{
    for (int32_t g = 0; g < p->kv_heads; g++) {
        int32_t row = (batch * p->kv_heads + g) * p->keys + first;
        for (int32_t i = 0; i < p->tokens; i++) {
            const float *key =
                k + p->k_offset + batch * p->k_batch + g * p->k_head + i * p->k_token;
            const float *value =
                v + p->v_offset + batch * p->v_batch + g * p->v_head + i * p->v_token;
            float *to = keys + (row + i) * p->depth;
            memcpy(to, key, sizeof(float) * (size_t)p->depth);
            ec_rotate_f32(to, (float)(first + i), frequency, p->pairs, p->interleaved,
                          p->rotary_scale, to);
            memcpy(values + (row + i) * p->value_depth, value,
                   sizeof(float) * (size_t)p->value_depth);
        }
    }
}

static void ec_cached_query_f32(const ec_cached_attention_f32_params *p, int32_t begin,
                                int32_t last, const float *q, const float *keys,
                                const float *values, float *scores, float *y)
{
    float most = -INFINITY;
    for (int32_t j = begin; j <= last; j++) {
        float acc = 0.0f;
        for (int32_t d = 0; d < p->depth; d++) {
            acc += q[d] * keys[j * p->depth + d];
        }
        scores[j] = acc * p->scale;
        most = scores[j] > most ? scores[j] : most;
    }
    float sum = 0.0f;
    for (int32_t d = 0; d < p->value_depth; d++) {
        y[d] = 0.0f;
    }
    for (int32_t j = begin; j <= last; j++) {
        float weight = expf(scores[j] - most);
        sum += weight;
        for (int32_t d = 0; d < p->value_depth; d++) {
            y[d] += weight * values[j * p->value_depth + d];
        }
    }
    for (int32_t d = 0; d < p->value_depth; d++) {
        y[d] /= sum;
    }
}

void ec_cached_attention_f32(const ec_cached_attention_f32_params *p, const float *q,
                             const float *k, const float *v, const float *keys, const float *values,
                             const int32_t *position, const float *frequency, float *y,
                             float *new_keys, float *new_values, void *scratch)
{
    float *query = scratch;
    float *scores = query + p->depth;
    size_t rows = (size_t)p->batch * (size_t)p->kv_heads * (size_t)p->keys;
    if (new_keys != keys) {
        memcpy(new_keys, keys, sizeof(float) * rows * (size_t)p->depth);
    }
    if (new_values != values) {
        memcpy(new_values, values, sizeof(float) * rows * (size_t)p->value_depth);
    }
    for (int32_t b = 0; b < p->batch; b++) {
        int32_t first = position[p->positions == 1 ? 0 : b];
        first = first > p->keys - p->tokens ? p->keys - p->tokens : first;
        first = first < 0 ? 0 : first;
        ec_cached_store_f32(p, b, first, k, v, frequency, new_keys, new_values);
        for (int32_t i = 0; i < p->tokens; i++) {
            int32_t last = first + (p->causal ? i : p->tokens - 1);
            int32_t begin = p->window > 0 ? first + i - p->window + 1 : 0;
            begin = begin < 0 ? 0 : begin;
            for (int32_t h = 0; h < p->heads; h++) {
                int32_t head = b * p->kv_heads + h / (p->heads / p->kv_heads);
                memcpy(query, q + p->q_offset + b * p->q_batch + h * p->q_head + i * p->q_token,
                       sizeof(float) * (size_t)p->depth);
                ec_rotate_f32(query, (float)(first + i), frequency, p->pairs, p->interleaved,
                              p->rotary_scale, query);
                ec_cached_query_f32(p, begin, last, query, new_keys + head * p->keys * p->depth,
                                    new_values + head * p->keys * p->value_depth, scores, y);
                y += p->value_depth;
            }
        }
    }
}
