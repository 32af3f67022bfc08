/* batch_norm with given statistics, channels last, float, portable C99.
 *
 *   y[r,c] = (x[r,c] - mean[c]) * (gamma[c] / sqrt(var[c] + eps)) + beta[c]
 *
 * x, y float[rows][channels]; y may be x. Channel by channel, so that each root is taken once;
 * no scratch. Equals batch_norm.ref of edgec/ops/norm.py within float rounding.
 */
#include <math.h>

#include "ec_norm.h"

void ec_batch_norm_f32(const ec_batch_norm_f32_params *p, const float *x, const float *gamma,
                       const float *beta, const float *mean, const float *var, float *y)
{
    int32_t end = p->rows * p->channels;
    for (int32_t c = 0; c < p->channels; c++) {
        float gain = gamma[c] / sqrtf(var[c] + p->eps);
        for (int32_t i = c; i < end; i += p->channels) {
            y[i] = (x[i] - mean[c]) * gain + beta[c];
        }
    }
}
