/* The portable body of ec_trained_conv2d_s8 and ec_trained_conv2d_mask_s8. */
#ifndef EC_TRAINED_CONV2D_H
#define EC_TRAINED_CONV2D_H

#include "ec_conv.h"
#include "ec_gradient.h"
#include "ec_train_s8.h"
#include "ec_trained_weight.h"

/* a + b, saturated. */
static inline int32_t ec_add_saturated(int32_t a, int32_t b)
{
    int32_t sum = (int32_t)((uint32_t)a + (uint32_t)b);
    if (((a ^ sum) & (b ^ sum)) < 0) {
        return a < 0 ? INT32_MIN : INT32_MAX;
    }
    return sum;
}

/* sum (x - zero) w over the taps inside of the map of one window; x begins at its image's first
 * channel of the group. */
static inline int32_t ec_trained_window(const ec_trained_conv2d_params *p, const int8_t *x,
                                        const int8_t *w, int32_t top, int32_t left)
{
    int32_t inputs = p->in_c / p->groups;
    ec_taps rows = ec_taps_inside(top, p->in_h, p->kernel_h, p->dilation_h);
    ec_taps columns = ec_taps_inside(left, p->in_w, p->kernel_w, p->dilation_w);
    int32_t acc = 0;
    for (int32_t r = rows.first; r < rows.end; r++) {
        for (int32_t s = columns.first; s < columns.end; s++) {
            int32_t pixel = (top + r * p->dilation_h) * p->in_w + left + s * p->dilation_w;
            const int8_t *in = x + pixel * p->in_c;
            const int8_t *tap = w + (r * p->kernel_w + s) * inputs;
            for (int32_t i = 0; i < inputs; i++) {
                acc += (in[i] - p->zero_in) * tap[i];
            }
        }
    }
    return acc;
}

/* `mask` may be NULL; `row` has room for one output's weights. */
static inline void ec_trained_conv2d_body(const ec_trained_conv2d_params *p, const int8_t *x,
                                          const int8_t *w, const int32_t *bias, const int32_t *idx,
                                          const int8_t *slice, const int32_t *multiplier,
                                          const uint8_t *shift, int8_t *y, uint8_t *mask,
                                          int8_t *row)
{
    int32_t taps = p->kernel_h * p->kernel_w;
    int32_t inputs = p->in_c / p->groups;
    int32_t outputs = p->out_c / p->groups;
    int32_t pixels = p->batch * p->out_h * p->out_w;
    const ec_trained_weight weight = {w, idx, slice, taps, inputs, p->trained, p->by_rows};
    if (mask != NULL) {
        memset(mask, 0, (size_t)((pixels * p->out_c + 7) / 8));
    }
    for (int32_t o = 0; o < p->out_c; o++) {
        const int8_t *tap = ec_trained_taps(&weight, o, 0, taps, row);
        const int8_t *image = x + o / outputs * inputs;
        int32_t at = o;
        for (int32_t n = 0; n < p->batch; n++) {
            for (int32_t i = 0; i < p->out_h; i++) {
                for (int32_t j = 0; j < p->out_w; j++) {
                    int32_t acc = ec_trained_window(p, image, tap, i * p->stride_h - p->pad_top,
                                                    j * p->stride_w - p->pad_left);
                    acc = ec_add_saturated(acc, bias[o]);
                    int32_t value = ec_requantize(acc, multiplier[o], shift[o]) + p->zero_out;
                    y[at] = (int8_t)ec_clamp(value, p->act_min, p->act_max);
                    if (mask != NULL) {
                        ec_mask_set(mask, at, value, p->act_min, p->act_max);
                    }
                    at += p->out_c;
                }
            }
            image += p->in_h * p->in_w * p->in_c;
        }
    }
}

#endif
