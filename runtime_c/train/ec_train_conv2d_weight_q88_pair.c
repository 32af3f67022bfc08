/* Weights in Q8.8 after one step of training, from a gradient that is a pair, portable C99: any
 * groups, stride, dilation, padding.
 *
 *   m = clamp(256 w + fraction + floor(u - 256 * (dw * (rate * factor[o] * 2^e))), 256 * +-127)
 *   y = (m + 128) >> 8,   next = m - 256 y
 *
 * With `decays` u is less (rate * decay[o]) * (256 w + fraction), too, added to the other. dw, u,
 * layouts, scratch and what is not finite as in ec_train_conv2d_weight_pair; fraction, next
 * int8 like w; decay float[outputs]; y may be w, next may be fraction. Equals update_weight of
 * edgec/ops/train_conv.py.
 */
#include "ec_train_weight.h"

void ec_train_conv2d_weight_q88_pair(const ec_train_weight_params *p, const int8_t *w,
                                     const int8_t *x, const int8_t *q, const int32_t *e,
                                     const uint8_t *mask, const float *factor, const float *rate,
                                     const int32_t *step, const int8_t *fraction,
                                     const float *decay, const int32_t *idx, int8_t *y,
                                     int8_t *next, void *scratch)
{
    int32_t *sums = scratch;
    int32_t inputs = p->in_c / p->groups;
    int32_t outputs = p->outputs / p->groups;
    int32_t taps = p->kernel_h * p->kernel_w;
    float power = ec_power_of_two(*e);
    ec_noise noise = ec_noise_begin(*step, p->salt, p->seed, p->nearest);
    for (int32_t o = 0; o < p->outputs; o++) {
        int32_t of = p->chosen != 0 ? idx[o] : o;
        float pull = p->decays != 0 ? *rate * decay[o] : 0.0f;
        float scale = *rate * factor[o];
        scale *= power;
        scale *= 256.0f;
        for (int32_t tap = 0; tap < taps; tap++) {
            ec_train_weight_tap_s8(p, x + o / outputs * inputs, q, mask, of, tap, inputs, sums);
            for (int32_t i = 0; i < inputs; i++, y++, next++) {
                int32_t master = ec_q88(*w++, *fraction++);
                float move = (float)sums[i] * scale + pull * (float)master;
                ec_q88_put(master, ec_noise_next(&noise) - move, y, next);
            }
        }
    }
}
