/* A gradient added to its sum, float, portable C99: next = sum + factor g; sum where that is not
 * finite or the factor is 0.
 *
 * sum, g, next float[count], factor float[1]; next may be sum; no scratch. Equals accumulate of
 * edgec/ops/optimizer.py, bit for bit.
 */
#include "ec_train_f32.h"

void ec_accumulate_f32(const ec_elements_f32_params *p, const float *sum, const float *g,
                       const float *factor, float *next)
{
    float by = *factor;
    for (int32_t i = 0; i < p->count; i++) {
        float to = sum[i] + by * g[i];
        next[i] = by != 0.0f && ec_is_finite_f32(to) ? to : sum[i];
    }
}
