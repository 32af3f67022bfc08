/* Mean of (x - target)^2, float, portable C99.
 *
 * x, target float[count], loss float[1]; no scratch. Equals mse of edgec/ops/loss.py, bit for bit.
 */
#include "ec_train_f32.h"

void ec_mse_f32(const ec_elements_f32_params *p, const float *x, const float *target, float *loss)
{
    float sum = 0.0f;
    for (int32_t i = 0; i < p->count; i++) {
        float d = x[i] - target[i];
        sum += d * d;
    }
    *loss = sum / (float)p->count;
}
