/* Parameters and prototypes of the kernels that only language models have: attention over a cache,
 * rotary positions, the choice of the next token. Float, portable C99.
 */
#ifndef EC_DECODER_H
#define EC_DECODER_H

#include <stdint.h>

/* x, y float[batch][first][second][depth]; the tokens are `second` where tokens_second, else
 * `first`. position int32[tokens] (position_batch 0) or int32[batch][tokens] (position_batch
 * tokens). frequency float[pairs]. */
typedef struct ec_rope_f32_params {
    int32_t batch;
    int32_t first;
    int32_t second;
    int32_t depth;
    int32_t pairs;
    int32_t tokens_second;
    int32_t interleaved;
    int32_t position_batch;
    float scale;
} ec_rope_f32_params;

/* Places of q, k, v: (offset, batch, head, token step) in elements; channels follow one another.
 * pairs 0: no rotation. position int32[positions], positions being 1 or batch. */
typedef struct ec_cached_attention_f32_params {
    int32_t batch;
    int32_t tokens;
    int32_t heads;
    int32_t kv_heads;
    int32_t keys;
    int32_t depth;
    int32_t value_depth;
    int32_t q_offset;
    int32_t q_batch;
    int32_t q_head;
    int32_t q_token;
    int32_t k_offset;
    int32_t k_batch;
    int32_t k_head;
    int32_t k_token;
    int32_t v_offset;
    int32_t v_batch;
    int32_t v_head;
    int32_t v_token;
    int32_t positions;
    int32_t pairs;
    int32_t interleaved;
    int32_t causal;
    int32_t window;
    float rotary_scale;
    float scale;
} ec_cached_attention_f32_params;

/* logits float[rows][size]. */
typedef struct ec_sample_f32_params {
    int32_t rows;
    int32_t size;
} ec_sample_f32_params;

void ec_rope_f32(const ec_rope_f32_params *p, const float *x, const int32_t *position,
                 const float *frequency, float *y);
/* scratch: float[keys + depth]. new_keys may be keys, new_values values. */
void ec_cached_attention_f32(const ec_cached_attention_f32_params *p, const float *q,
                             const float *k, const float *v, const float *keys, const float *values,
                             const int32_t *position, const float *frequency, float *y,
                             float *new_keys, float *new_values, void *scratch);
/* scratch: float[size]. */
void ec_sample_f32(const ec_sample_f32_params *p, const float *logits, const int32_t *settings,
                   const int32_t *counter, int32_t *token, void *scratch);

#endif
