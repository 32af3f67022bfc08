/* Weights after one step of training with weight decay, from a float gradient, portable
 * C99: any groups, stride, dilation, padding.
 *
 *   move       = dw * (rate * factor[o]) + (rate * decay[o]) * w[o,r,s,i]
 *   y[o,r,s,i] = clamp(w[o,r,s,i] + floor(u - move), -127, 127)
 *
 * dw, u, layouts, scratch and what is not finite as in ec_train_conv2d_weight_f32; decay
 * float[outputs]; y may be w. Equals update_weight of edgec/ops/train_conv.py.
 */
#include "ec_train_weight.h"

void ec_train_conv2d_weight_decay_f32(const ec_train_weight_params *p, const int8_t *w,
                                      const int8_t *x, const float *g, const uint8_t *mask,
                                      const float *factor, const float *rate, const int32_t *step,
                                      const float *decay, const int32_t *idx, int8_t *y,
                                      void *scratch)
{
    float *sums = scratch;
    int32_t inputs = p->in_c / p->groups;
    int32_t outputs = p->outputs / p->groups;
    int32_t taps = p->kernel_h * p->kernel_w;
    ec_noise noise = ec_noise_begin(*step, p->salt, p->seed, p->nearest);
    for (int32_t o = 0; o < p->outputs; o++) {
        int32_t of = p->chosen != 0 ? idx[o] : o;
        float pull = *rate * decay[o];
        float scale = *rate * factor[o];
        for (int32_t tap = 0; tap < taps; tap++, w += inputs, y += inputs) {
            ec_train_weight_tap_f32(p, x + o / outputs * inputs, g, mask, of, tap, inputs, sums);
            for (int32_t i = 0; i < inputs; i++) {
                float move = sums[i] * scale + pull * (float)w[i];
                y[i] = ec_moved_weight(w[i], ec_noise_next(&noise) - move);
            }
        }
    }
}
