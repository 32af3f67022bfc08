/* ec_trained_add_s8 with the mask of its clamp, portable C99:
 *
 *   mask bit = act_min <= zero_out + ((offset + a * multiplier_a + b * multiplier_b) >> shift)
 *                      <= act_max
 *
 * a, b, y int8[size], mask uint8[ceil(size / 8)]; y may be a or b; no alignment asked; no scratch.
 * Equals trained_add.quant of edgec/ops/trained.py.
 */
#include "ec_requant.h"
#include "ec_train_s8.h"

void ec_trained_add_mask_s8(const ec_trained_add_params *p, const int8_t *a, const int8_t *b,
                            int8_t *y, uint8_t *mask)
{
    uint32_t bits = 0;
    for (int32_t i = 0; i < p->size; i++) {
        int32_t acc = p->offset + a[i] * p->multiplier_a + b[i] * p->multiplier_b;
        int32_t value = (acc >> p->shift) + p->zero_out;
        int32_t clamped = ec_clamp(value, p->act_min, p->act_max);
        y[i] = (int8_t)clamped;
        bits |= (uint32_t)(clamped == value) << (i & 7);
        if ((i & 7) == 7 || i + 1 == p->size) {
            mask[i >> 3] = (uint8_t)bits;
            bits = 0;
        }
    }
}
