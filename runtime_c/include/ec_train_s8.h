/* Int8 training: parameters and prototypes.
 *
 * A gradient is q int8[...] and exponent int32[1], which stand for q * 2^exponent, or float[...]. A
 * mask of n elements is uint8[ceil(n / 8)]: bit i % 8 of byte i / 8 is element i in flat order.
 *
 * Convolutions: x[N][H][W][C], w int8[O][R][S][I] with I = C / groups, y[N][P][Q][O]; in_* are of
 * x, out_* of y. Of w some part may be trained: idx int32[trained] and slice int8[O][R][S][trained]
 * stand in for its columns, or, where by_rows is not 0 (depthwise), slice int8[trained][R][S][1]
 * for its outputs. With trained 0 idx and slice are not read.
 */
#ifndef EC_TRAIN_S8_H
#define EC_TRAIN_S8_H

#include <stdint.h>

/* `size`: bytes of a mask. */
typedef struct ec_mask_and_params {
    int32_t size;
} ec_mask_and_params;

/* `size`: elements of the gradient. */
typedef struct ec_gradient_quantize_params {
    int32_t size;
} ec_gradient_quantize_params;

/* `masked` not 0: there is a mask. */
typedef struct ec_gradient_float_params {
    int32_t size;
    int32_t masked;
    float factor;
} ec_gradient_float_params;

/* Pairs: `terms` 1 or 2, of factors mantissa * 2^exponent; `masked` not 0: the term has a mask.
 * `pixels` vectors of `channels`. A term or mask that is not there is not read. */
typedef struct ec_gradient_sum_params {
    int32_t pixels;
    int32_t channels;
    int32_t terms;
    int32_t masked_0;
    int32_t masked_1;
    int32_t mantissa_0;
    int32_t mantissa_1;
    int32_t exponent_0;
    int32_t exponent_1;
} ec_gradient_sum_params;

/* The same of float gradients of `size` elements. */
typedef struct ec_gradient_sum_f32_params {
    int32_t size;
    int32_t terms;
    int32_t masked_0;
    int32_t masked_1;
    float factor_0;
    float factor_1;
} ec_gradient_sum_f32_params;

/* Fields as in ec_binary_s8_params; `size` elements. */
typedef struct ec_trained_add_params {
    int32_t size;
    int32_t zero_a;
    int32_t zero_b;
    int32_t multiplier_a;
    int32_t multiplier_b;
    int32_t offset;
    int32_t shift;
    int32_t zero_out;
    int32_t act_min;
    int32_t act_max;
} ec_trained_add_params;

/* trained_conv2d. |sum (x - zero_in) w| < 2^31 for all x. */
typedef struct ec_trained_conv2d_params {
    int32_t batch;
    int32_t in_h;
    int32_t in_w;
    int32_t in_c;
    int32_t out_h;
    int32_t out_w;
    int32_t out_c;
    int32_t kernel_h;
    int32_t kernel_w;
    int32_t stride_h;
    int32_t stride_w;
    int32_t pad_top;
    int32_t pad_left;
    int32_t dilation_h;
    int32_t dilation_w;
    int32_t groups;
    int32_t zero_in;
    int32_t zero_out;
    int32_t act_min;
    int32_t act_max;
    int32_t trained;
    int32_t by_rows;
} ec_trained_conv2d_params;

/* trained_conv2d_input_grad; `exponent` is added to that of a pair. `block`: pixels or rows that an
 * Armv7E-M kernel takes at a time. */
typedef struct ec_input_grad_params {
    int32_t batch;
    int32_t in_h;
    int32_t in_w;
    int32_t in_c;
    int32_t out_h;
    int32_t out_w;
    int32_t out_c;
    int32_t kernel_h;
    int32_t kernel_w;
    int32_t stride_h;
    int32_t stride_w;
    int32_t pad_top;
    int32_t pad_left;
    int32_t dilation_h;
    int32_t dilation_w;
    int32_t groups;
    int32_t exponent;
    int32_t trained;
    int32_t by_rows;
    int32_t block;
} ec_input_grad_params;

/* train_conv2d_weight: in_c counts the channels of the saved x, out_c the outputs of the gradient,
 * `outputs` those of w; `chosen` not 0: the outputs of w are idx int32[outputs] of the gradient's.
 * `nearest` not 0: u is 1/2. `block`: outputs that an Armv7E-M kernel takes at a time. `keep`: what
 * stays of a sum of gradients. `decays`: 0: there is no decay; 1: of w; 2: of 256 w + fraction. */
typedef struct ec_train_weight_params {
    int32_t batch;
    int32_t in_h;
    int32_t in_w;
    int32_t in_c;
    int32_t out_h;
    int32_t out_w;
    int32_t out_c;
    int32_t kernel_h;
    int32_t kernel_w;
    int32_t stride_h;
    int32_t stride_w;
    int32_t pad_top;
    int32_t pad_left;
    int32_t dilation_h;
    int32_t dilation_w;
    int32_t groups;
    int32_t outputs;
    int32_t chosen;
    int32_t zero_in;
    int32_t salt;
    int32_t seed;
    int32_t nearest;
    int32_t block;
    int32_t decays;
    float keep;
} ec_train_weight_params;

/* train_conv2d_bias: `pixels` vectors of `channels`; keep and decays (0 or 1) as of weights. */
typedef struct ec_train_bias_params {
    int32_t pixels;
    int32_t channels;
    int32_t salt;
    int32_t seed;
    int32_t nearest;
    int32_t decays;
    float keep;
} ec_train_bias_params;

/* sgd_integer and velocity: `outputs` times `each` elements; the rest as of ec_train_weight_params,
 * `keep`: what stays of a velocity. */
typedef struct ec_integer_params {
    int32_t outputs;
    int32_t each;
    int32_t salt;
    int32_t seed;
    int32_t nearest;
    int32_t decays;
    float keep;
} ec_integer_params;

void ec_mask_and_u8(const ec_mask_and_params *p, const uint8_t *a, const uint8_t *b, uint8_t *y);

void ec_gradient_quantize_f32(const ec_gradient_quantize_params *p, const float *g, int8_t *q,
                              int32_t *exponent);

void ec_gradient_float_f32(const ec_gradient_float_params *p, const int8_t *q,
                           const int32_t *exponent, const uint8_t *mask, float *y);

void ec_gradient_sum_s8(const ec_gradient_sum_params *p, const int8_t *q0, const int32_t *e0,
                        const int8_t *q1, const int32_t *e1, const uint8_t *mask0,
                        const uint8_t *mask1, int8_t *q, int32_t *exponent, void *scratch);
void ec_gradient_sum_f32(const ec_gradient_sum_f32_params *p, const float *g0, const float *g1,
                         const uint8_t *mask0, const uint8_t *mask1, float *g);

void ec_trained_add_s8(const ec_trained_add_params *p, const int8_t *a, const int8_t *b,
                       int8_t *y);
void ec_trained_add_mask_s8(const ec_trained_add_params *p, const int8_t *a, const int8_t *b,
                            int8_t *y, uint8_t *mask);

void ec_trained_conv2d_s8(const ec_trained_conv2d_params *p, const int8_t *x, const int8_t *w,
                          const int32_t *bias, const int32_t *idx, const int8_t *slice,
                          const int32_t *multiplier, const uint8_t *shift, int8_t *y,
                          void *scratch);
void ec_trained_conv2d_mask_s8(const ec_trained_conv2d_params *p, const int8_t *x, const int8_t *w,
                               const int32_t *bias, const int32_t *idx, const int8_t *slice,
                               const int32_t *multiplier, const uint8_t *shift, int8_t *y,
                               uint8_t *mask, void *scratch);

void ec_trained_conv2d_input_grad_s8(const ec_input_grad_params *p, const int8_t *q,
                                     const int32_t *e, const uint8_t *mask, const int8_t *w,
                                     const int16_t *eff, const int32_t *idx, const int8_t *slice,
                                     int8_t *dx, int32_t *exponent, void *scratch);
void ec_trained_conv2d_input_grad_f32(const ec_input_grad_params *p, const float *g,
                                      const uint8_t *mask, const int8_t *w, const float *eff,
                                      const int32_t *idx, const int8_t *slice, float *dx,
                                      void *scratch);

/* For depthwise convolutions of stride 1 and equal shapes: dx may be g. */
void ec_trained_depthwise_input_grad_f32(const ec_input_grad_params *p, const float *g,
                                         const uint8_t *mask, const int8_t *w, const float *eff,
                                         const int32_t *idx, const int8_t *slice, float *dx,
                                         void *scratch);

void ec_train_conv2d_weight_pair(const ec_train_weight_params *p, const int8_t *w, const int8_t *x,
                                 const int8_t *q, const int32_t *e, const uint8_t *mask,
                                 const float *factor, const float *rate, const int32_t *step,
                                 const int32_t *idx, int8_t *y, void *scratch);
void ec_train_conv2d_weight_f32(const ec_train_weight_params *p, const int8_t *w, const int8_t *x,
                                const float *g, const uint8_t *mask, const float *factor,
                                const float *rate, const int32_t *step, const int32_t *idx,
                                int8_t *y, void *scratch);

void ec_train_conv2d_bias_pair(const ec_train_bias_params *p, const int32_t *b, const int8_t *q,
                               const int32_t *e, const uint8_t *mask, const float *factor,
                               const float *rate, const int32_t *step, int32_t *y, void *scratch);
void ec_train_conv2d_bias_f32(const ec_train_bias_params *p, const int32_t *b, const float *g,
                              const uint8_t *mask, const float *factor, const float *rate,
                              const int32_t *step, int32_t *y, void *scratch);

/* With weight decay, in Q8.8, along sums. */
void ec_train_conv2d_weight_decay_pair(const ec_train_weight_params *p, const int8_t *w,
                                       const int8_t *x, const int8_t *q, const int32_t *e,
                                       const uint8_t *mask, const float *factor, const float *rate,
                                       const int32_t *step, const float *decay, const int32_t *idx,
                                       int8_t *y, void *scratch);
void ec_train_conv2d_weight_decay_f32(const ec_train_weight_params *p, const int8_t *w,
                                      const int8_t *x, const float *g, const uint8_t *mask,
                                      const float *factor, const float *rate, const int32_t *step,
                                      const float *decay, const int32_t *idx, int8_t *y,
                                      void *scratch);
void ec_train_conv2d_weight_q88_pair(const ec_train_weight_params *p, const int8_t *w,
                                     const int8_t *x, const int8_t *q, const int32_t *e,
                                     const uint8_t *mask, const float *factor, const float *rate,
                                     const int32_t *step, const int8_t *fraction,
                                     const float *decay, const int32_t *idx, int8_t *y,
                                     int8_t *next, void *scratch);
void ec_train_conv2d_weight_q88_f32(const ec_train_weight_params *p, const int8_t *w,
                                    const int8_t *x, const float *g, const uint8_t *mask,
                                    const float *factor, const float *rate, const int32_t *step,
                                    const int8_t *fraction, const float *decay, const int32_t *idx,
                                    int8_t *y, int8_t *next, void *scratch);
void ec_train_conv2d_bias_decay_pair(const ec_train_bias_params *p, const int32_t *b,
                                     const int8_t *q, const int32_t *e, const uint8_t *mask,
                                     const float *factor, const float *rate, const int32_t *step,
                                     const float *decay, int32_t *y, void *scratch);
void ec_train_conv2d_bias_decay_f32(const ec_train_bias_params *p, const int32_t *b,
                                    const float *g, const uint8_t *mask, const float *factor,
                                    const float *rate, const int32_t *step, const float *decay,
                                    int32_t *y, void *scratch);
void ec_sum_conv2d_weight_pair(const ec_train_weight_params *p, const float *sum, const int8_t *x,
                               const int8_t *q, const int32_t *e, const uint8_t *mask,
                               const float *factor, const float *share, const int8_t *w,
                               const float *decay, const int8_t *fraction, const int32_t *idx,
                               float *y, void *scratch);
void ec_sum_conv2d_weight_f32(const ec_train_weight_params *p, const float *sum, const int8_t *x,
                              const float *g, const uint8_t *mask, const float *factor,
                              const float *share, const int8_t *w, const float *decay,
                              const int8_t *fraction, const int32_t *idx, float *y, void *scratch);
void ec_sum_conv2d_bias_pair(const ec_train_bias_params *p, const float *sum, const int8_t *q,
                             const int32_t *e, const uint8_t *mask, const float *factor,
                             const float *share, const int32_t *b, const float *decay, float *y,
                             void *scratch);
void ec_sum_conv2d_bias_f32(const ec_train_bias_params *p, const float *sum, const float *g,
                            const uint8_t *mask, const float *factor, const float *share,
                            const int32_t *b, const float *decay, float *y, void *scratch);
void ec_velocity_weight_f32(const ec_integer_params *p, const float *v, const float *sum,
                            const int8_t *w, const float *decay, const int8_t *fraction, float *y);
void ec_velocity_bias_f32(const ec_integer_params *p, const float *v, const float *sum,
                          const int32_t *b, const float *decay, float *y);
void ec_sgd_integer_weight_f32(const ec_integer_params *p, const int8_t *w, const float *sum,
                               const float *rate, const int32_t *step, const float *decay,
                               int8_t *y);
void ec_sgd_integer_q88_f32(const ec_integer_params *p, const int8_t *w, const float *sum,
                            const float *rate, const int32_t *step, const int8_t *fraction,
                            const float *decay, int8_t *y, int8_t *next);
void ec_sgd_integer_bias_f32(const ec_integer_params *p, const int32_t *b, const float *sum,
                             const float *rate, const int32_t *step, const float *decay,
                             int32_t *y);

/* 1x1 kernels, one group, stride 1, no padding. */
void ec_pointwise_input_grad_f32(const ec_input_grad_params *p, const float *g, const uint8_t *mask,
                                 const int8_t *w, const float *eff, const int32_t *idx,
                                 const int8_t *slice, float *dx, void *scratch);
void ec_pointwise_train_weight_f32(const ec_train_weight_params *p, const int8_t *w,
                                   const int8_t *x, const float *g, const uint8_t *mask,
                                   const float *factor, const float *rate, const int32_t *step,
                                   const int32_t *idx, int8_t *y, void *scratch);

/* Armv7E-M (train/dsp/). */
void ec_pointwise_trained_conv2d_s8_dsp(const ec_trained_conv2d_params *p, const int8_t *x,
                                        const int8_t *w, const int32_t *bias, const int32_t *idx,
                                        const int8_t *slice, const int32_t *multiplier,
                                        const uint8_t *shift, int8_t *y, void *scratch);
void ec_pointwise_trained_conv2d_mask_s8_dsp(const ec_trained_conv2d_params *p, const int8_t *x,
                                             const int8_t *w, const int32_t *bias,
                                             const int32_t *idx, const int8_t *slice,
                                             const int32_t *multiplier, const uint8_t *shift,
                                             int8_t *y, uint8_t *mask, void *scratch);
void ec_depthwise_trained_conv2d_s8_dsp(const ec_trained_conv2d_params *p, const int8_t *x,
                                        const int8_t *w, const int32_t *bias, const int32_t *idx,
                                        const int8_t *slice, const int32_t *multiplier,
                                        const uint8_t *shift, int8_t *y, void *scratch);
void ec_depthwise_trained_conv2d_mask_s8_dsp(const ec_trained_conv2d_params *p, const int8_t *x,
                                             const int8_t *w, const int32_t *bias,
                                             const int32_t *idx, const int8_t *slice,
                                             const int32_t *multiplier, const uint8_t *shift,
                                             int8_t *y, uint8_t *mask, void *scratch);

void ec_pointwise_input_grad_s8_dsp(const ec_input_grad_params *p, const int8_t *q,
                                    const int32_t *e, const uint8_t *mask, const int8_t *w,
                                    const int16_t *eff, const int32_t *idx, const int8_t *slice,
                                    int8_t *dx, int32_t *exponent, void *scratch);
void ec_depthwise_input_grad_s8_dsp(const ec_input_grad_params *p, const int8_t *q,
                                    const int32_t *e, const uint8_t *mask, const int8_t *w,
                                    const int16_t *eff, const int32_t *idx, const int8_t *slice,
                                    int8_t *dx, int32_t *exponent, void *scratch);

void ec_pointwise_train_weight_pair_dsp(const ec_train_weight_params *p, const int8_t *w,
                                        const int8_t *x, const int8_t *q, const int32_t *e,
                                        const uint8_t *mask, const float *factor, const float *rate,
                                        const int32_t *step, const int32_t *idx, int8_t *y,
                                        void *scratch);

void ec_dense_trained_conv2d_s8_dsp(const ec_trained_conv2d_params *p, const int8_t *x,
                                    const int8_t *w, const int32_t *bias, const int32_t *idx,
                                    const int8_t *slice, const int32_t *multiplier,
                                    const uint8_t *shift, int8_t *y, void *scratch);
void ec_dense_trained_conv2d_mask_s8_dsp(const ec_trained_conv2d_params *p, const int8_t *x,
                                         const int8_t *w, const int32_t *bias, const int32_t *idx,
                                         const int8_t *slice, const int32_t *multiplier,
                                         const uint8_t *shift, int8_t *y, uint8_t *mask,
                                         void *scratch);
void ec_dense_input_grad_s8_dsp(const ec_input_grad_params *p, const int8_t *q, const int32_t *e,
                                const uint8_t *mask, const int8_t *w, const int16_t *eff,
                                const int32_t *idx, const int8_t *slice, int8_t *dx,
                                int32_t *exponent, void *scratch);
void ec_dense_train_weight_pair_dsp(const ec_train_weight_params *p, const int8_t *w,
                                    const int8_t *x, const int8_t *q, const int32_t *e,
                                    const uint8_t *mask, const float *factor, const float *rate,
                                    const int32_t *step, const int32_t *idx, int8_t *y,
                                    void *scratch);

void ec_pointwise_train_weight_q88_pair_dsp(
    const ec_train_weight_params *p, const int8_t *w, const int8_t *x, const int8_t *q,
    const int32_t *e, const uint8_t *mask, const float *factor, const float *rate,
    const int32_t *step, const int8_t *fraction, const float *decay, const int32_t *idx, int8_t *y,
    int8_t *next, void *scratch);

void ec_train_conv2d_bias_pair_dsp(const ec_train_bias_params *p, const int32_t *b,
                                   const int8_t *q, const int32_t *e, const uint8_t *mask,
                                   const float *factor, const float *rate, const int32_t *step,
                                   int32_t *y);

#endif
