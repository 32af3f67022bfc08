/* rms_norm, float, portable C99.
 *
 *   y[i] = x[i] / sqrt(mean(x^2) + eps) * gamma[i] + beta[i]
 *
 * x, y float[rows][count]; y may be x. gamma, beta float[count] or [1]. No scratch. Equals
 * rms_norm.ref of edgec/ops/norm.py within float rounding.
 */
#include <math.h>

#include "ec_norm.h"

void ec_rms_norm_f32(const ec_norm_f32_params *p, const float *x, const float *gamma,
                     const float *beta, float *y)
{
    for (int32_t row = 0; row < p->rows; row++) {
        float squares = 0.0f;
        for (int32_t i = 0; i < p->count; i++) {
            squares += x[i] * x[i];
        }
        float inverse = 1.0f / sqrtf(squares / (float)p->count + p->eps);
        for (int32_t i = 0; i < p->count; i++) {
            y[i] = x[i] * inverse * gamma[i * p->gain_step] + beta[i * p->bias_step];
        }
        x += p->count;
        y += p->count;
    }
}
