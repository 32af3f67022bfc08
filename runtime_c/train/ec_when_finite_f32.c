/* y = x where the loss is finite, else 0: the rate of a step that is to be left out.
 *
 * x, loss, y float[1]; y may be either; no scratch. Equals when_finite of edgec/ops/optimizer.py.
 */
#include "ec_train_f32.h"

void ec_when_finite_f32(const ec_elements_f32_params *p, const float *x, const float *loss,
                        float *y)
{
    for (int32_t i = 0; i < p->count; i++) {
        y[i] = ec_is_finite_f32(loss[i]) ? x[i] : 0.0f;
    }
}
