/* Prototypes of the Armv7E-M kernels (kernels/dsp/). Layouts, alignment and scratch: the head of
 * each source. */
#ifndef EC_DSP_KERNELS_H
#define EC_DSP_KERNELS_H

#include "ec_conv.h"
#include "ec_pointwise.h"

void ec_pointwise_conv2d_s8_dsp(const ec_conv2d_params *p, int32_t row0, int32_t row1,
                                const int8_t *x, const uint32_t *w, int8_t *y, void *scratch);
void ec_conv2d_s8_dsp(const ec_conv2d_params *p, int32_t row0, int32_t row1, const int8_t *x,
                      const uint32_t *w, int8_t *y, void *scratch);
void ec_depthwise3x3_conv2d_s8_dsp(const ec_conv2d_params *p, int32_t row0, int32_t row1,
                                   const int8_t *x, const uint32_t *w, int8_t *y, void *scratch);
void ec_depthwise_conv2d_s8_dsp(const ec_conv2d_params *p, int32_t row0, int32_t row1,
                                const int8_t *x, const uint32_t *w, int8_t *y, void *scratch);
void ec_linear_s8_dsp(const ec_linear_params *p, const int8_t *x, const uint32_t *w, int8_t *y,
                      void *scratch);
void ec_max_pool2d_s8_dsp(const ec_pool2d_params *p, int32_t row0, int32_t row1, const int8_t *x,
                          int8_t *y);
void ec_avg_pool2d_s8_dsp(const ec_pool2d_params *p, int32_t row0, int32_t row1, const int8_t *x,
                          int8_t *y);
void ec_add_rows_s8_dsp(const ec_binary_s8_params *p, int32_t row0, int32_t row1, const int8_t *a,
                        const int8_t *b, int8_t *y);

#endif
