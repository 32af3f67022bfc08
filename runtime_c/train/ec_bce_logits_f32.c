/* Binary cross-entropy of sigmoid(x), float, portable C99: the mean of
 * max(x, 0) - x target + log(1 + exp(-|x|)), which no x overflows.
 *
 * x, target float[count], loss float[1]; no scratch. Equals bce_logits of edgec/ops/loss.py, bit
 * for bit.
 */
#include "ec_float.h"
#include "ec_train_f32.h"

void ec_bce_logits_f32(const ec_elements_f32_params *p, const float *x, const float *target,
                       float *loss)
{
    float sum = 0.0f;
    for (int32_t i = 0; i < p->count; i++) {
        float above = x[i] > 0.0f ? x[i] : 0.0f;
        sum += (above - x[i] * target[i]) + ec_log_f32(1.0f + ec_exp_f32(-fabsf(x[i])));
    }
    *loss = sum / (float)p->count;
}
