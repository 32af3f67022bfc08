/* A step of int32 biases along a sum, portable C99:
 *
 *   y[o] = saturated(b[o] + floor(u[o] - (sum[o] * rate + (rate * decay[o]) * b[o])))
 *
 * Without `decays` decay is not read and counts as 0. Float arithmetic: one rounding an operation;
 * u as in ec_gradient.h, element o. What is not finite changes nothing. b, y int32[outputs], sum
 * float[outputs]; y may be b. Equals step of edgec/ops/train_sums.py.
 */
#include "ec_gradient.h"
#include "ec_train_s8.h"

void ec_sgd_integer_bias_f32(const ec_integer_params *p, const int32_t *b, const float *sum,
                             const float *rate, const int32_t *step, const float *decay,
                             int32_t *y)
{
    ec_noise noise = ec_noise_begin(*step, p->salt, p->seed, p->nearest);
    for (int32_t o = 0; o < p->outputs; o++) {
        float pull = p->decays != 0 ? *rate * decay[o] : 0.0f;
        float move = sum[o] * *rate + pull * (float)b[o];
        y[o] = ec_moved_bias(b[o], ec_noise_next(&noise) - move);
    }
}
