/* A weight gradient added to a sum, from a float gradient, portable C99: any groups, stride,
 * dilation, padding.
 *
 *   y[o,r,s,i] = keep * sum[o,r,s,i] + dw * (share * factor[o])
 *
 * With `decays` 1 y is decay[o] * w more, with 2 decay[o] * ((256 w + fraction) / 256). Float
 * arithmetic: one rounding an operation. Elements that would not be finite stay; with share 0 all
 * do. dw, layouts and scratch as in ec_train_conv2d_weight_f32; sum, y float like w; decay
 * float[outputs], fraction int8 like w; what is not there is not read; y may be sum. Equals
 * sum_weight of edgec/ops/train_sums.py.
 */
#include "ec_train_weight.h"

void ec_sum_conv2d_weight_f32(const ec_train_weight_params *p, const float *sum, const int8_t *x,
                              const float *g, const uint8_t *mask, const float *factor,
                              const float *share, const int8_t *w, const float *decay,
                              const int8_t *fraction, const int32_t *idx, float *y, void *scratch)
{
    float *sums = scratch;
    int32_t inputs = p->in_c / p->groups;
    int32_t outputs = p->outputs / p->groups;
    int32_t taps = p->kernel_h * p->kernel_w;
    for (int32_t o = 0, at = 0; o < p->outputs; o++) {
        int32_t of = p->chosen != 0 ? idx[o] : o;
        float scale = *share * factor[o];
        for (int32_t tap = 0; tap < taps; tap++) {
            ec_train_weight_tap_f32(p, x + o / outputs * inputs, g, mask, of, tap, inputs, sums);
            for (int32_t i = 0; i < inputs; i++, at++) {
                float made = p->keep * sum[at] + sums[i] * scale;
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
