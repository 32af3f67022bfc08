/* trained_conv2d with MVE: the body of the depthwise kernel, with a mask and without.
 *
 * The weights of eight channels, put together from the constant and its trained rows, are packed in
 * scratch once, int8[R * S][8], and serve all pixels.
 */
#ifndef EC_MVE_TRAINED_DEPTHWISE_H
#define EC_MVE_TRAINED_DEPTHWISE_H

#include "ec_mve_depthwise.h"
#include "ec_mve_grad.h"

/* The weights of channels o to o + 8. */
static inline void ec_mve_depthwise_taps(const ec_trained_conv2d_params *p, const int8_t *w,
                                         const int32_t *idx, const int8_t *slice, int32_t o,
                                         int8_t *to)
{
    int32_t taps = p->kernel_h * p->kernel_w;
    for (int32_t t = 0; t < taps; t++) {
        ec_mve_column(to + t * EC_MVE_EIGHT, EC_MVE_EIGHT, w + o * taps + t, taps, EC_MVE_EIGHT);
    }
    for (int32_t j = 0; j < p->trained; j++, slice += taps) {
        if (idx[j] >= o && idx[j] < o + EC_MVE_EIGHT) {
            for (int32_t t = 0; t < taps; t++) {
                to[t * EC_MVE_EIGHT + idx[j] - o] = slice[t];
            }
        }
    }
}

/* groups == C == O, at least 8; no dilation. scratch: that of ec_mve_depthwise_eight and
 * 8 * R * S bytes. */
static inline void ec_mve_trained_depthwise(const ec_trained_conv2d_params *p, const int8_t *x,
                                            const int8_t *w, const int32_t *bias,
                                            const int32_t *idx, const int8_t *slice,
                                            const int32_t *multiplier, const uint8_t *shift,
                                            int8_t *y, uint8_t *mask, void *scratch)
{
    const ec_mve_map map = {p->in_h,     p->in_w,     p->out_w,    p->in_c,    p->kernel_h,
                            p->kernel_w, p->stride_h, p->stride_w, p->pad_top, p->pad_left,
                            p->zero_in,  p->in_h,     p->out_h};
    int32_t ring = 4 * p->kernel_h + 16 * p->kernel_h * ec_mve_ring_width(&map);
    int8_t *packed = (int8_t *)scratch + ring;
    int32_t image = p->in_h * p->in_w * p->in_c;
    int32_t made = p->out_h * p->out_w * p->out_c;
    ec_mve_eight to = {{0}, {0}, {0}, p->zero_out, p->act_min, p->act_max, 0};
    if (mask != NULL) {
        memset(mask, 0, (size_t)((p->batch * made + 7) / 8));
    }
    for (int32_t c = 0; c < p->out_c; c += EC_MVE_EIGHT) {
        int32_t o = ec_mve_eight_from(c, p->out_c);
        ec_mve_eight_next(&to, bias + o, multiplier + o, shift + o);
        ec_mve_depthwise_taps(p, w, idx, slice, o, packed);
        for (int32_t n = 0; n < p->batch; n++) {
            ec_mve_depthwise_eight(&map, &to, 0, p->out_h, x + n * image + o, packed,
                                   y + n * made + o, mask, n * made + o, scratch);
        }
    }
}

#endif
