/* Softmax, normalisation and attention: parameters and prototypes.
 *
 * All _s8 kernels use integers only and equal the integer form of their op in edgec/ops bit for
 * bit. y may be x in every kernel here except attention.
 */
#ifndef EC_NORM_H
#define EC_NORM_H

#include <stdint.h>

/* Rows of `count` elements at distance `inner`: element i of row (o, j) is x[(o * count + i) *
 * inner + j]. */
typedef struct ec_softmax_params {
    int32_t outer;
    int32_t count;
    int32_t inner;
} ec_softmax_params;

/* layer_norm and rms_norm, int8: formula and ranges in edgec/ops/norm_integer.py. The eps term
 * has 64 bits. gain and bias have `count` entries, or one where gain_step is 0. zero_in is for
 * rms_norm. */
typedef struct ec_norm_params {
    int32_t rows;
    int32_t count;
    int32_t fraction;
    int32_t eps_high;
    int32_t eps_low;
    int32_t gain_step;
    int32_t shift;
    int32_t zero_in;
    int32_t zero_out;
} ec_norm_params;

/* The same in float; gain and bias each have a step of their own. */
typedef struct ec_norm_f32_params {
    int32_t rows;
    int32_t count;
    int32_t gain_step;
    int32_t bias_step;
    float eps;
} ec_norm_f32_params;

/* group_norm of x[batch][positions][channels], int8; tables have `channels` entries, or one. */
typedef struct ec_group_norm_params {
    int32_t batch;
    int32_t positions;
    int32_t channels;
    int32_t groups;
    int32_t fraction;
    int32_t eps_high;
    int32_t eps_low;
    int32_t gain_step;
    int32_t shift;
    int32_t zero_out;
} ec_group_norm_params;

/* The same in float. */
typedef struct ec_group_norm_f32_params {
    int32_t batch;
    int32_t positions;
    int32_t channels;
    int32_t groups;
    int32_t gain_step;
    int32_t bias_step;
    float eps;
} ec_group_norm_f32_params;

/* batch_norm of x[rows][channels] with given statistics, float. */
typedef struct ec_batch_norm_f32_params {
    int32_t rows;
    int32_t channels;
    float eps;
} ec_batch_norm_f32_params;

/* attention, int8. q[batch][heads][queries][depth], k[batch][kv_heads][keys][depth],
 * v[batch][kv_heads][keys][value_depth]; kv_heads divides heads. The mask's element for a batch,
 * head, query and key stands at the sum of each times its mask_ stride, 0 where it broadcasts.
 * causal: 0 or 1. score_m, score_shift: 256 log2(e) times the real step of a score; out_m,
 * out_shift: Sv / Sy / 2^20. */
typedef struct ec_attention_params {
    int32_t batch;
    int32_t heads;
    int32_t kv_heads;
    int32_t queries;
    int32_t keys;
    int32_t depth;
    int32_t value_depth;
    int32_t causal;
    int32_t mask_batch;
    int32_t mask_head;
    int32_t mask_query;
    int32_t mask_key;
    int32_t zero_q;
    int32_t zero_k;
    int32_t zero_v;
    int32_t zero_y;
    int32_t score_m;
    int32_t score_shift;
    int32_t out_m;
    int32_t out_shift;
} ec_attention_params;

/* The same in float; `scale` multiplies the scores. */
typedef struct ec_attention_f32_params {
    int32_t batch;
    int32_t heads;
    int32_t kv_heads;
    int32_t queries;
    int32_t keys;
    int32_t depth;
    int32_t value_depth;
    int32_t causal;
    int32_t mask_batch;
    int32_t mask_head;
    int32_t mask_query;
    int32_t mask_key;
    float scale;
} ec_attention_f32_params;

void ec_softmax_s8(const ec_softmax_params *p, const int8_t *x, const uint32_t *table, int8_t *y);
void ec_softmax_f32(const ec_softmax_params *p, const float *x, float *y);
void ec_log_softmax_f32(const ec_softmax_params *p, const float *x, float *y);

void ec_layer_norm_s8(const ec_norm_params *p, const int8_t *x, const int32_t *gain,
                      const int32_t *bias, int8_t *y);
void ec_rms_norm_s8(const ec_norm_params *p, const int8_t *x, const int32_t *gain,
                    const int32_t *bias, int8_t *y);
void ec_group_norm_s8(const ec_group_norm_params *p, const int8_t *x, const int32_t *gain,
                      const int32_t *bias, int8_t *y);

void ec_layer_norm_f32(const ec_norm_f32_params *p, const float *x, const float *gamma,
                       const float *beta, float *y);
void ec_rms_norm_f32(const ec_norm_f32_params *p, const float *x, const float *gamma,
                     const float *beta, float *y);
void ec_group_norm_f32(const ec_group_norm_f32_params *p, const float *x, const float *gamma,
                       const float *beta, float *y);
void ec_batch_norm_f32(const ec_batch_norm_f32_params *p, const float *x, const float *gamma,
                       const float *beta, const float *mean, const float *var, float *y);

/* scratch: `keys` int32 and `depth` int16 (s8), `keys` float (f32). table: exp2_table() of
 * edgec/ops/attention.py. The _bias kernels add a mask (int32 in units of a score, INT32_MIN to
 * forbid a key); the _mask kernels take bytes, 0 to forbid a key. */
void ec_attention_s8(const ec_attention_params *p, const int8_t *q, const int8_t *k,
                     const int8_t *v, const uint32_t *table, int8_t *y, void *scratch);
void ec_attention_bias_s8(const ec_attention_params *p, const int8_t *q, const int8_t *k,
                          const int8_t *v, const int32_t *bias, const uint32_t *table, int8_t *y,
                          void *scratch);
void ec_attention_mask_s8(const ec_attention_params *p, const int8_t *q, const int8_t *k,
                          const int8_t *v, const void *mask, const uint32_t *table, int8_t *y,
                          void *scratch);
void ec_attention_f32(const ec_attention_f32_params *p, const float *q, const float *k,
                      const float *v, float *y, void *scratch);
void ec_attention_bias_f32(const ec_attention_f32_params *p, const float *q, const float *k,
                           const float *v, const float *bias, float *y, void *scratch);
void ec_attention_mask_f32(const ec_attention_f32_params *p, const float *q, const float *k,
                           const float *v, const void *mask, float *y, void *scratch);
/* The same with vectors of floats; scratch: ec_attention_f32_simd.h. */
void ec_attention_f32_simd(const ec_attention_f32_params *p, const float *q, const float *k,
                           const float *v, float *y, void *scratch);
void ec_attention_bias_f32_simd(const ec_attention_f32_params *p, const float *q, const float *k,
                                const float *v, const float *bias, float *y, void *scratch);
void ec_attention_mask_f32_simd(const ec_attention_f32_params *p, const float *q, const float *k,
                                const float *v, const void *mask, float *y, void *scratch);

#endif
