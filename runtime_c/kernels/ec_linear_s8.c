/* linear, int8, portable C99.
 *
 *   acc[t,o] = bias[o] + sum_k x[t,k] * w[o,k]
 *   y[t,o]   = clamp(zero_out + requantize(acc, multiplier[o], shift[o]), act_min, act_max)
 *
 * x int8[rows][K], w int8[O][K], bias int32[O] folded, y int8[rows][O]; no alignment asked; no
 * scratch. Single rounding (ec_requant.h). Equals linear.quant of edgec/ops/linear.py.
 */
#include "ec_conv.h"
#include "ec_requant.h"

static inline void ec_linear_s8_body(const ec_linear_params *p, const int8_t *restrict x,
                                     const int8_t *restrict w, const int32_t *restrict bias,
                                     const int32_t *restrict multiplier,
                                     const uint8_t *restrict shift, int8_t *restrict y)
{
    for (int32_t t = 0; t < p->rows; t++) {
        for (int32_t o = 0; o < p->out_c; o++) {
            int32_t acc = bias[o] + ec_dot_s8(x, w + o * p->in_c, p->in_c);
            *y++ = ec_requantize_s8(acc, multiplier[o], shift[o], p->zero_out, p->act_min,
                                    p->act_max);
        }
        x += p->in_c;
    }
}

void ec_linear_s8(const ec_linear_params *p, const int8_t *x, const int8_t *w, const int32_t *bias,
                  const int32_t *multiplier, const uint8_t *shift, int8_t *y)
{
    ec_linear_s8_body(p, x, w, bias, multiplier, shift, y);
}
