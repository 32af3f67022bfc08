/* The velocity of int32 biases, portable C99:
 *
 *   y[o] = keep * v[o] + sum[o]
 *
 * With `decays` y is decay[o] * b[o] more. Float arithmetic: one rounding an operation. Elements
 * that would not be finite stay. v, sum, decay, y float[outputs]; what is not there is not read; y
 * may be v. Equals velocity of edgec/ops/train_sums.py.
 */
#include "ec_gradient.h"
#include "ec_train_s8.h"

void ec_velocity_bias_f32(const ec_integer_params *p, const float *v, const float *sum,
                          const int32_t *b, const float *decay, float *y)
{
    for (int32_t o = 0; o < p->outputs; o++) {
        float made = p->keep * v[o] + sum[o];
        if (p->decays != 0) {
            made += decay[o] * (float)b[o];
        }
        y[o] = ec_finite_or(made, v[o]);
    }
}
