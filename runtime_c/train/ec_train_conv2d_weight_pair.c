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
#include "ec_gradient.h"
#include "ec_train_s8.h"

/* sums[i] = dw[o,r,s,i]; x at the first channel of the group. */
static void ec_train_weight_tap(const ec_train_weight_params *p, const int8_t *x, const int8_t *q,
                                const uint8_t *mask, int32_t o, int32_t tap, int32_t inputs,
                                int32_t *sums)
{
    int32_t top = tap / p->kernel_w * p->dilation_h - p->pad_top;
    int32_t left = tap % p->kernel_w * p->dilation_w - p->pad_left;
    memset(sums, 0, sizeof *sums * (size_t)inputs);
    int32_t at = o;
    for (int32_t n = 0; n < p->batch; n++, x += p->in_h * p->in_w * p->in_c) {
        for (int32_t i = 0; i < p->out_h; i++) {
            int32_t row = i * p->stride_h + top;
            for (int32_t j = 0; j < p->out_w; j++, at += p->out_c) {
                int32_t column = j * p->stride_w + left;
                int32_t h = q[at] & -ec_mask_bit(mask, at);
                if (h == 0 || row < 0 || row >= p->in_h || column < 0 || column >= p->in_w) {
                    continue;
                }
                const int8_t *in = x + (row * p->in_w + column) * p->in_c;
                for (int32_t c = 0; c < inputs; c++) {
                    sums[c] += h * (in[c] - p->zero_in);
                }
            }
        }
    }
}

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
            ec_train_weight_tap(p, x + o / outputs * inputs, q, mask, of, tap, inputs, sums);
            for (int32_t i = 0; i < inputs; i++) {
                y[i] = ec_update_weight(w[i], (float)sums[i], scale, ec_noise_next(&noise));
            }
        }
    }
}
