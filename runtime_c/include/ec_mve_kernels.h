/* Prototypes of the MVE kernels (kernels/mve/, train/mve/); what each takes stands at the head of
 * its source. */
#ifndef EC_MVE_KERNELS_H
#define EC_MVE_KERNELS_H

#include "ec_conv.h"
#include "ec_train_s8.h"

void ec_pointwise_conv2d_s8_mve(const ec_conv2d_params *p, int32_t row0, int32_t row1,
                                const int8_t *x, const int8_t *w, const int32_t *bias,
                                const int32_t *multiplier, const uint8_t *shift, int8_t *y);
void ec_conv2d_s8_mve(const ec_conv2d_params *p, int32_t row0, int32_t row1, const int8_t *x,
                      const int8_t *w, const int32_t *bias, const int32_t *multiplier,
                      const uint8_t *shift, int8_t *y, void *scratch);
void ec_depthwise_conv2d_s8_mve(const ec_conv2d_params *p, int32_t row0, int32_t row1,
                                const int8_t *x, const int8_t *w, const int32_t *bias,
                                const int32_t *multiplier, const uint8_t *shift, int8_t *y,
                                void *scratch);
void ec_linear_s8_mve(const ec_linear_params *p, const int8_t *x, const int8_t *w,
                      const int32_t *bias, const int32_t *multiplier, const uint8_t *shift,
                      int8_t *y);

void ec_pointwise_trained_conv2d_s8_mve(const ec_trained_conv2d_params *p, const int8_t *x,
                                        const int8_t *w, const int32_t *bias, const int32_t *idx,
                                        const int8_t *slice, const int32_t *multiplier,
                                        const uint8_t *shift, int8_t *y, void *scratch);
void ec_pointwise_trained_conv2d_mask_s8_mve(const ec_trained_conv2d_params *p, const int8_t *x,
                                             const int8_t *w, const int32_t *bias,
                                             const int32_t *idx, const int8_t *slice,
                                             const int32_t *multiplier, const uint8_t *shift,
                                             int8_t *y, uint8_t *mask, void *scratch);

void ec_pointwise_input_grad_s8_mve(const ec_input_grad_params *p, const int8_t *q,
                                    const int32_t *e, const uint8_t *mask, const int8_t *w,
                                    const int16_t *eff, const int32_t *idx, const int8_t *slice,
                                    int8_t *dx, int32_t *exponent, void *scratch);

void ec_pointwise_train_weight_pair_mve(const ec_train_weight_params *p, const int8_t *w,
                                        const int8_t *x, const int8_t *q, const int32_t *e,
                                        const uint8_t *mask, const float *factor, const float *rate,
                                        const int32_t *step, const int32_t *idx, int8_t *y,
                                        void *scratch);

void ec_depthwise_trained_conv2d_s8_mve(const ec_trained_conv2d_params *p, const int8_t *x,
                                        const int8_t *w, const int32_t *bias, const int32_t *idx,
                                        const int8_t *slice, const int32_t *multiplier,
                                        const uint8_t *shift, int8_t *y, void *scratch);
void ec_depthwise_trained_conv2d_mask_s8_mve(const ec_trained_conv2d_params *p, const int8_t *x,
                                             const int8_t *w, const int32_t *bias,
                                             const int32_t *idx, const int8_t *slice,
                                             const int32_t *multiplier, const uint8_t *shift,
                                             int8_t *y, uint8_t *mask, void *scratch);
void ec_depthwise_input_grad_s8_mve(const ec_input_grad_params *p, const int8_t *q,
                                    const int32_t *e, const uint8_t *mask, const int8_t *w,
                                    const int16_t *eff, const int32_t *idx, const int8_t *slice,
                                    int8_t *dx, int32_t *exponent, void *scratch);

void ec_train_conv2d_bias_pair_mve(const ec_train_bias_params *p, const int32_t *b,
                                   const int8_t *q, const int32_t *e, const uint8_t *mask,
                                   const float *factor, const float *rate, const int32_t *step,
                                   int32_t *y);

#endif
