/* A step of weights in Q8.8 along a sum, portable C99:
 *
 *   m = clamp(256 w + fraction + floor(u - 256 * (sum * rate)), 256 * +-127)
 *   y = (m + 128) >> 8,   next = m - 256 y
 *
 * With `decays` u is less (rate * decay[o]) * (256 w + fraction), too, added to the other. Float
 * arithmetic: one rounding an operation; u as in ec_gradient.h, element flat in w. What is not
 * finite changes nothing. w, fraction, y, next int8[outputs][each], sum float like them; y may be
 * w, next may be fraction. Equals step of edgec/ops/train_sums.py.
 */
#include "ec_gradient.h"
#include "ec_train_s8.h"

void ec_sgd_integer_q88_f32(const ec_integer_params *p, const int8_t *w, const float *sum,
                            const float *rate, const int32_t *step, const int8_t *fraction,
                            const float *decay, int8_t *y, int8_t *next)
{
    ec_noise noise = ec_noise_begin(*step, p->salt, p->seed, p->nearest);
    float scale = *rate * 256.0f;
    for (int32_t o = 0, at = 0; o < p->outputs; o++) {
        float pull = p->decays != 0 ? *rate * decay[o] : 0.0f;
        for (int32_t j = 0; j < p->each; j++, at++) {
            int32_t master = ec_q88(w[at], fraction[at]);
            float move = sum[at] * scale + pull * (float)master;
            ec_q88_put(master, ec_noise_next(&noise) - move, y + at, next + at);
        }
    }
}
