/* Weights after one step of training, from a gradient that is a pair, portable C99: any groups,
 * stride, dilation, padding.
 *
 *   dw[o,r,s,i] = sum over n, p, q of h[n,p,q,o'] * (X[n,p,q,r,s,i] - zero_in)
 *   y[o,r,s,i]  = clamp(w[o,r,s,i] + floor(u - dw * (rate * factor[o] * 2^e)), -127, 127)
 *
 * h is q where its mask is 1, else 0; o' is o, or idx[o] where `chosen`; X as in
 * ec_trained_conv2d_s8, whose channels are the trained ones alone. Float arithmetic: one rounding
 * an operation; u as in ec_gradient.h, element flat in w. What is not finite changes nothing.
 * w, y int8[outputs][R][S][I]; y may be w. N * P * Q <= 66311, so that dw stays in int32.
 * scratch: 4 * I bytes, aligned to 4. Equals update_weight of edgec/ops/train_conv.py.
 */
#include "ec_train_weight.h"

void ec_train_conv2d_weight_pair(const ec_train_weight_params *p, const int8_t *w, const int8_t *x,
                                 const int8_t *q, const int32_t *e, const uint8_t *mask,
                                 const float *factor, const float *rate, const int32_t *step,
                                 const int32_t *idx, int8_t *y, void *scratch)
{
    int32_t *sums = scratch;
    int32_t inputs = p->in_c / p->groups;
    int32_t outputs = p->outputs / p->groups;
    int32_t taps = p->kernel_h * p->kernel_w;
    float power = ec_power_of_two(*e);
    ec_noise noise = ec_noise_begin(*step, p->salt, p->seed, p->nearest);
    for (int32_t o = 0; o < p->outputs; o++) {
        int32_t of = p->chosen != 0 ? idx[o] : o;
        float scale = *rate * factor[o];
        scale *= power;
        for (int32_t tap = 0; tap < taps; tap++, w += inputs, y += inputs) {
            ec_train_weight_tap_s8(p, x + o / outputs * inputs, q, mask, of, tap, inputs, sums);
            for (int32_t i = 0; i < inputs; i++) {
                y[i] = ec_update_weight(w[i], (float)sums[i], scale, ec_noise_next(&noise));
            }
        }
    }
}
