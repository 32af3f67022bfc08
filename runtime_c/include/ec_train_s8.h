/* Int8 training: parameters and prototypes.
 *
 * A gradient is q int8[...] and exponent int32[1], which stand for q * 2^exponent, or float[...]. A
 * mask of n elements is uint8[ceil(n / 8)]: bit i % 8 of byte i / 8 is element i in flat order.
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

void ec_mask_and_u8(const ec_mask_and_params *p, const uint8_t *a, const uint8_t *b, uint8_t *y);

void ec_gradient_quantize_f32(const ec_gradient_quantize_params *p, const float *g, int8_t *q,
                              int32_t *exponent);

#endif
