/* Any unary pointwise op in int8: y[i] = table[x[i] + 128].
 *
 * x, y int8[size], y may be x; table int8[256]; no alignment asked; no scratch. Equals the table
 * rule of edgec/ops/lookup.py.
 */
#include "ec_pointwise.h"

void ec_lut_s8(const ec_lut_params *p, const int8_t *x, const int8_t *table, int8_t *y)
{
    const int32_t size = p->size;
    for (int32_t i = 0; i < size; i++) {
        y[i] = table[x[i] + 128];
    }
}
