/* Sum of two maps, int8, portable C99; arithmetic as in ec_add_s8:
 *
 *   y = clamp(zero_out + ((offset + a * multiplier_a + b * multiplier_b) >> shift),
 *             act_min, act_max)
 *
 * a, b, y int8[size]; y may be a or b; no alignment asked; no scratch. Equals trained_add.quant of
 * edgec/ops/trained.py.
 */
#include "ec_requant.h"
#include "ec_train_s8.h"

void ec_trained_add_s8(const ec_trained_add_params *p, const int8_t *a, const int8_t *b, int8_t *y)
{
    for (int32_t i = 0; i < p->size; i++) {
        int32_t acc = p->offset + a[i] * p->multiplier_a + b[i] * p->multiplier_b;
        y[i] = (int8_t)ec_clamp((acc >> p->shift) + p->zero_out, p->act_min, p->act_max);
    }
}
