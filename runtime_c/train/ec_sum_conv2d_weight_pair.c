/* A weight gradient added to a sum, from a gradient that is a pair, portable C99: any groups,
 * stride, dilation, padding.
 *
 *   y[o,r,s,i] = keep * sum[o,r,s,i] + dw * (share * factor[o] * 2^e)
 *
 * With `decays` 1 y is decay[o] * w more, with 2 decay[o] * ((256 w + fraction) / 256). Float
 * arithmetic: one rounding an operation. Elements that would not be finite stay; with share 0 all
 * do. dw, layouts and scratch as in ec_train_conv2d_weight_pair; sum, y float like w; decay
 * float[outputs], fraction int8 like w; what is not there is not read; y may be sum. Equals
 * sum_weight of edgec/ops/train_sums.py.
 */
#include "ec_train_weight.h"

void ec_sum_conv2d_weight_pair(const ec_train_weight_params *p, const float *sum, const int8_t *x,
                               const int8_t *q, const int32_t *e, const uint8_t *mask,
                               const float *factor, const float *share, const int8_t *w,
                               const float *decay, const int8_t *fraction, const int32_t *idx,
                               float *y, void *scratch)
{
    int32_t *sums = scratch;
    int32_t inputs = p->in_c / p->groups;
    int32_t outputs = p->outputs / p->groups;
    int32_t taps = p->kernel_h * p->kernel_w;
    float power = ec_power_of_two(*e);
    for (int32_t o = 0, at = 0; o < p->outputs; o++) {
        int32_t of = p->chosen != 0 ? idx[o] : o;
        float scale = *share * factor[o];
        scale *= power;
        for (int32_t tap = 0; tap < taps; tap++) {
            ec_train_weight_tap_s8(p, x + o / outputs * inputs, q, mask, of, tap, inputs, sums);
            for (int32_t i = 0; i < inputs; i++, at++) {
                float made = p->keep * sum[at] + (float)sums[i] * scale;
                if (p->decays == 1) {
                    made += decay[o] * (float)w[at];
                } else if (p->decays == 2) {
                    made += decay[o] * ((float)ec_q88(w[at], fraction[at]) * 0.00390625f);
                }
                y[at] = *share != 0.0f ? ec_finite_or(made, sum[at]) : sum[at];
            }
        }
    }
}
