/* The velocity of int8 weights, portable C99:
 *
 *   y[o,j] = keep * v[o,j] + sum[o,j]
 *
 * With `decays` 1 y is decay[o] * w[o,j] more, with 2 decay[o] * ((256 w + fraction) / 256). Float
 * arithmetic: one rounding an operation. Elements that would not be finite stay. v, sum, y
 * float[outputs][each], w, fraction int8 like them, decay float[outputs]; what is not there is not
 * read; y may be v. Equals velocity of edgec/ops/train_sums.py.
 */
#include "ec_gradient.h"
#include "ec_train_s8.h"

void ec_velocity_weight_f32(const ec_integer_params *p, const float *v, const float *sum,
                            const int8_t *w, const float *decay, const int8_t *fraction, float *y)
{
    for (int32_t o = 0, at = 0; o < p->outputs; o++) {
        for (int32_t j = 0; j < p->each; j++, at++) {
            float made = p->keep * v[at] + sum[at];
            if (p->decays == 1) {
                made += decay[o] * (float)w[at];
            } else if (p->decays == 2) {
                made += decay[o] * ((float)ec_q88(w[at], fraction[at]) * 0.00390625f);
            }
            y[at] = ec_finite_or(made, v[at]);
        }
    }
}
