/* A pair of int8 and exponent as floats, portable C99.
 *
 *   y[i] = (q[i] * 2^exponent) * factor        where the mask is 1, else 0
 *
 * q int8[size], exponent int32[1], mask uint8[ceil(size / 8)] (read where masked is not 0), y
 * float[size]. The first product is exact, the second one rounding. No scratch. Equals ref of
 * edgec/ops/gradient_float.py.
 */
#include "ec_gradient.h"
#include "ec_train_s8.h"

void ec_gradient_float_f32(const ec_gradient_float_params *p, const int8_t *q,
                           const int32_t *exponent, const uint8_t *mask, float *y)
{
    float scale = ec_power_of_two(*exponent);
    for (int32_t i = 0; i < p->size; i++) {
        int32_t passes = p->masked == 0 || ec_mask_bit(mask, i) != 0;
        y[i] = passes ? (float)q[i] * scale * p->factor : 0.0f;
    }
}
