/* A step of SGD, float, portable C99: next = w - rate (g + weight_decay w); w where that is not
 * finite or the rate is 0.
 *
 * w, g, next float[count], rate float[1]; next may be w; no scratch. Equals sgd of
 * edgec/ops/optimizer.py, bit for bit.
 */
#include "ec_train_f32.h"

void ec_sgd_f32(const ec_sgd_f32_params *p, const float *w, const float *g, const float *rate,
                float *next)
{
    float by = *rate;
    for (int32_t i = 0; i < p->count; i++) {
        next[i] = ec_sgd_step_f32(w[i], g[i], by, p->weight_decay);
    }
}
