/* dequantize: int8 to float, y = scale * (x - zero), one rounding.
 *
 * x int8[size], y float[size], other memory than x; no scratch. Equals dequantize.quant of
 * edgec/ops/cast.py.
 */
#include "ec_pointwise.h"

void ec_dequantize_s8(const ec_dequantize_params *p, const int8_t *x, float *y)
{
    for (int32_t i = 0; i < p->size; i++) {
        y[i] = (float)(x[i] - p->zero) * p->scale;
    }
}
