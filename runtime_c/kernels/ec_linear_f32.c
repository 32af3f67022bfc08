/* linear, float, portable C99.
 *
 *   y[t,o] = clamp(bias[o] + sum_k x[t,k] * w[o,k], act_min, act_max)
 *
 * x float[rows][K], w float[O][K], y float[rows][O]; no scratch. Equals linear.ref of
 * edgec/ops/linear.py but for the order of the sum.
 */
#include "ec_conv.h"

static inline void ec_linear_f32_body(const ec_linear_f32_params *p, const float *restrict x,
                                      const float *restrict w, const float *restrict bias,
                                      float *restrict y)
{
    for (int32_t t = 0; t < p->rows; t++) {
        for (int32_t o = 0; o < p->out_c; o++) {
            float sum = bias[o] + ec_dot_f32(x, w + o * p->in_c, p->in_c);
            *y++ = ec_clamp_f32(sum, p->act_min, p->act_max);
        }
        x += p->in_c;
    }
}

void ec_linear_f32(const ec_linear_f32_params *p, const float *x, const float *w,
                   const float *bias, float *y)
{
    ec_linear_f32_body(p, x, w, bias, y);
}
