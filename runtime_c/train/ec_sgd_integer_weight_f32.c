/* A step of int8 weights along a sum, portable C99:
 *
 *   y[o,j] = clamp(w[o,j] + floor(u - (sum[o,j] * rate + (rate * decay[o]) * w[o,j])), -127, 127)
 *
 * Without `decays` decay is not read and counts as 0. Float arithmetic: one rounding an operation;
 * u as in ec_gradient.h, element flat in w. What is not finite changes nothing. w, y
 * int8[outputs][each], sum float like them; y may be w. Equals step of edgec/ops/train_sums.py.
 */
#include "ec_gradient.h"
#include "ec_train_s8.h"

void ec_sgd_integer_weight_f32(const ec_integer_params *p, const int8_t *w, const float *sum,
                               const float *rate, const int32_t *step, const float *decay,
                               int8_t *y)
{
    ec_noise noise = ec_noise_begin(*step, p->salt, p->seed, p->nearest);
    for (int32_t o = 0, at = 0; o < p->outputs; o++) {
        float pull = p->decays != 0 ? *rate * decay[o] : 0.0f;
        for (int32_t j = 0; j < p->each; j++, at++) {
            float move = sum[at] * *rate + pull * (float)w[at];
            y[at] = ec_moved_weight(w[at], ec_noise_next(&noise) - move);
        }
    }
}
