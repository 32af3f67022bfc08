/* Weights after one step of training with weight decay, from a gradient that is a pair, portable
 * C99: any groups, stride, dilation, padding.
 *
 *   move       = dw * (rate * factor[o] * 2^e) + (rate * decay[o]) * w[o,r,s,i]
 *   y[o,r,s,i] = clamp(w[o,r,s,i] + floor(u - move), -127, 127)
 *
 * dw, u, layouts, scratch and what is not finite as in ec_train_conv2d_weight_pair; decay
 * float[outputs]; y may be w. Equals update_weight of edgec/ops/train_conv.py.
 */
#include "ec_train_weight.h"

void ec_train_conv2d_weight_decay_pair(const ec_train_weight_params *p, const int8_t *w,
                                       const int8_t *x, const int8_t *q, const int32_t *e,
                                       const uint8_t *mask, const float *factor, const float *rate,
                                       const int32_t *step, const float *decay, const int32_t *idx,
                                       int8_t *y, void *scratch)
{
    int32_t *sums = scratch;
    int32_t inputs = p->in_c / p->groups;
    int32_t outputs = p->outputs / p->groups;
    int32_t taps = p->kernel_h * p->kernel_w;
    float power = ec_power_of_two(*e);
    ec_noise noise = ec_noise_begin(*step, p->salt, p->seed, p->nearest);
    for (int32_t o = 0; o < p->outputs; o++) {
        int32_t of = p->chosen != 0 ? idx[o] : o;
        float pull = *rate * decay[o];
        float scale = *rate * factor[o];
        scale *= power;
        for (int32_t tap = 0; tap < taps; tap++, w += inputs, y += inputs) {
            ec_train_weight_tap_s8(p, x + o / outputs * inputs, q, mask, of, tap, inputs, sums);
            for (int32_t i = 0; i < inputs; i++) {
                float move = (float)sums[i] * scale + pull * (float)w[i];
                y[i] = ec_moved_weight(w[i], ec_noise_next(&noise) - move);
            }
        }
    }
}
