/* A step of SGD with momentum, float, portable C99:
 *
 *   next_m = momentum m + (g + weight_decay w), next = w - rate next_m
 *
 * m and w stay where one of them is not finite or the rate is 0. w, g, m, next, next_m
 * float[count], rate float[1]; next may be w, next_m may be m; no scratch. Equals sgd_momentum of
 * edgec/ops/optimizer.py, bit for bit.
 */
#include "ec_train_f32.h"

void ec_sgd_momentum_f32(const ec_sgd_f32_params *p, const float *w, const float *g,
                         const float *rate, const float *m, float *next, float *next_m)
{
    float by = *rate;
    for (int32_t i = 0; i < p->count; i++) {
        float moved = p->momentum * m[i] + ec_decayed_f32(w[i], g[i], p->weight_decay);
        float to = w[i] - by * moved;
        int moves = by != 0.0f && ec_is_finite_f32(to) && ec_is_finite_f32(moved);
        next[i] = moves ? to : w[i];
        next_m[i] = moves ? moved : m[i];
    }
}
