/* A step of Adam, float, portable C99:
 *
 *   d = g + weight_decay w
 *   next_m = m + (1 - beta1)(d - m), next_v = beta2 v + (1 - beta2) d^2
 *   next = w - rate / (1 - beta1^step) * next_m / (sqrt(next_v) / sqrt(1 - beta2^step) + eps)
 *
 * All three stay where one of them is not finite or the rate is 0. The powers are float64 products
 * by squaring, once a call. w, g, m, v and what follows them float[count], rate float[1], step
 * int32[1], from 1; next... may be w, m and v; no scratch. Equals adam of edgec/ops/optimizer.py,
 * bit for bit.
 */
#include <math.h>

#include "ec_train_f32.h"

static inline double ec_adam_f32_power(double base, int32_t exponent)
{
    double result = 1.0;
    for (; exponent > 0; exponent >>= 1) {
        if ((exponent & 1) != 0) {
            result *= base;
        }
        base *= base;
    }
    return result;
}

void ec_adam_f32(const ec_adam_f32_params *p, const float *w, const float *g, const float *rate,
                 const float *m, const float *v, const int32_t *step, float *next, float *next_m,
                 float *next_v)
{
    int32_t count = *step > 1 ? *step : 1;
    double left1 = 1.0 - ec_adam_f32_power((double)p->beta1 + (double)p->beta1_low, count);
    double left2 = 1.0 - ec_adam_f32_power((double)p->beta2 + (double)p->beta2_low, count);
    float by = *rate;
    float by1 = by * (float)(1.0 / left1);
    float root2 = (float)(1.0 / sqrt(left2));
    for (int32_t i = 0; i < p->count; i++) {
        float d = ec_decayed_f32(w[i], g[i], p->weight_decay);
        float mean = m[i] + p->mean_share * (d - m[i]);
        float square = p->beta2 * v[i] + p->square_share * (d * d);
        float to = w[i] - by1 * (mean / (sqrtf(square) * root2 + p->eps));
        int moves = by != 0.0f && ec_is_finite_f32(to) && ec_is_finite_f32(mean) &&
                    ec_is_finite_f32(square);
        next[i] = moves ? to : w[i];
        next_m[i] = moves ? mean : m[i];
        next_v[i] = moves ? square : v[i];
    }
}
