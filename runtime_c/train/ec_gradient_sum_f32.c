/* Sum of one or two scaled and masked float gradients, portable C99.
 *
 *   g[i] = factor_0 * (mask0[i] ? g0[i] : 0) + factor_1 * (mask1[i] ? g1[i] : 0)
 *
 * one rounding an operation. g may be g0 or g1. No scratch. Equals add of edgec/ops/gradient.py.
 */
#include "ec_gradient.h"
#include "ec_train_s8.h"

void ec_gradient_sum_f32(const ec_gradient_sum_f32_params *p, const float *g0, const float *g1,
                         const uint8_t *mask0, const uint8_t *mask1, float *g)
{
    for (int32_t i = 0; i < p->size; i++) {
        int32_t counts = p->masked_0 == 0 || ec_mask_bit(mask0, i) != 0;
        float sum = (counts != 0 ? g0[i] : 0.0f) * p->factor_0;
        if (p->terms == 2) {
            counts = p->masked_1 == 0 || ec_mask_bit(mask1, i) != 0;
            sum += (counts != 0 ? g1[i] : 0.0f) * p->factor_1;
        }
        g[i] = sum;
    }
}
