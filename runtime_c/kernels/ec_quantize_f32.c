/* quantize: float to int8, each step rounded once to float:
 *
 *   t = x * inverse;  y = clamp(floor(min(max(t, -1024), 1024) + 0.5) + zero, -128, 127)
 *
 * NaN becomes zero. x float[size], y int8[size], other memory than x; no scratch. Equals
 * quantize.quant of edgec/ops/cast.py, given that the compiler does not contract a * b + c.
 */
#include "ec_pointwise.h"
#include "ec_requant.h"

void ec_quantize_f32(const ec_quantize_params *p, const float *x, int8_t *y)
{
    for (int32_t i = 0; i < p->size; i++) {
        float t = x[i] * p->inverse;
        if (t != t) {
            t = 0.0f;
        }
        t = t < -1024.0f ? -1024.0f : t;
        t = t > 1024.0f ? 1024.0f : t;
        t = t + 0.5f;
        int32_t q = (int32_t)t;
        if ((float)q > t) {
            q--; /* the conversion dropped the fraction of a negative number */
        }
        y[i] = (int8_t)ec_clamp(q + p->zero, -128, 127);
    }
}
