/* Bits that are 1 in both masks, portable C99.
 *
 *   y[i] = a[i] & b[i]
 *
 * a, b, y uint8[size]; y may be a or b; no alignment asked; no scratch. Equals mask_and of
 * edgec/ops/gradient.py.
 */
#include "ec_train_s8.h"

void ec_mask_and_u8(const ec_mask_and_params *p, const uint8_t *a, const uint8_t *b, uint8_t *y)
{
    for (int32_t i = 0; i < p->size; i++) {
        y[i] = (uint8_t)(a[i] & b[i]);
    }
}
