/* layer_norm, float, portable C99.
 *
 *   y[i] = (x[i] - mean) / sqrt(var + eps) * gamma[i] + beta[i]
 *
 * x, y float[rows][count]; y may be x. gamma, beta float[count] or [1]. Two passes for the
 * statistics; no scratch. Equals layer_norm.ref of edgec/ops/norm.py within float rounding.
 */
#include <math.h>

#include "ec_norm.h"

void ec_layer_norm_f32(const ec_norm_f32_params *p, const float *x, const float *gamma,
                       const float *beta, float *y)
{
    float n = (float)p->count;
    for (int32_t row = 0; row < p->rows; row++) {
        float mean = 0.0f;
        for (int32_t i = 0; i < p->count; i++) {
            mean += x[i];
        }
        mean /= n;
        float squares = 0.0f;
        for (int32_t i = 0; i < p->count; i++) {
            squares += (x[i] - mean) * (x[i] - mean);
        }
        float inverse = 1.0f / sqrtf(squares / n + p->eps);
        for (int32_t i = 0; i < p->count; i++) {
            float standard = (x[i] - mean) * inverse;
            y[i] = standard * gamma[i * p->gain_step] + beta[i * p->bias_step];
        }
        x += p->count;
        y += p->count;
    }
}
