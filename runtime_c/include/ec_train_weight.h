/* Weight gradients of int8 training, one kernel position and output at a time:
 *
 *   dw[o,r,s,i] = sum over n, p, q of h[n,p,q,o] * (X[n,p,q,r,s,i] - zero_in)
 *
 * h is the gradient where its mask is 1, else 0; X as in ec_trained_conv2d_s8, whose channels are
 * the trained ones alone; tap = r * kernel_w + s.
 */
#ifndef EC_TRAIN_WEIGHT_H
#define EC_TRAIN_WEIGHT_H

#include "ec_gradient.h"
#include "ec_train_s8.h"

/* sums[i] = dw[o,r,s,i] of q; x at the first channel of the group. */
static inline void ec_train_weight_tap_s8(const ec_train_weight_params *p, const int8_t *x,
                                          const int8_t *q, const uint8_t *mask, int32_t o,
                                          int32_t tap, int32_t inputs, int32_t *sums)
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

/* sums[i] = dw[o,r,s,i] of g, added up over n, then p, then q, beginning at 0. */
static inline void ec_train_weight_tap_f32(const ec_train_weight_params *p, const int8_t *x,
                                           const float *g, const uint8_t *mask, int32_t o,
                                           int32_t tap, int32_t inputs, float *sums)
{
    int32_t top = tap / p->kernel_w * p->dilation_h - p->pad_top;
    int32_t left = tap % p->kernel_w * p->dilation_w - p->pad_left;
    for (int32_t c = 0; c < inputs; c++) {
        sums[c] = 0.0f;
    }
    int32_t at = o;
    for (int32_t n = 0; n < p->batch; n++, x += p->in_h * p->in_w * p->in_c) {
        for (int32_t i = 0; i < p->out_h; i++) {
            int32_t row = i * p->stride_h + top;
            for (int32_t j = 0; j < p->out_w; j++, at += p->out_c) {
                int32_t column = j * p->stride_w + left;
                if (ec_mask_bit(mask, at) == 0) {
                    continue;
                }
                /* A tap outside of the map adds h * 0, which is no number where h is none. */
                int32_t inside = row >= 0 && row < p->in_h && column >= 0 && column < p->in_w;
                const int8_t *in = inside != 0 ? x + (row * p->in_w + column) * p->in_c : x;
                for (int32_t c = 0; c < inputs; c++) {
                    sums[c] += g[at] * (float)(inside != 0 ? in[c] - p->zero_in : 0);
                }
            }
        }
    }
}

#endif
