/* trained_conv2d with MVE: the body of the depthwise kernel, with a mask and without.
 *
 * The weights of eight channels, put together from the constant and its trained rows, are packed in
 * scratch once, int8[R * S][8], and serve all pixels.
 */
#ifndef EC_MVE_DEPTHWISE_H
#define EC_MVE_DEPTHWISE_H

#include "ec_mve_grad.h"
#include "ec_mve_pointwise.h"
#include "ec_mve_window.h"

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

/* y and mask of eight channels of one row; x and y at the first of them of the image and of the
 * row, `at`: y's element. */
static inline void ec_mve_depthwise_row(const ec_trained_conv2d_params *p, ec_mve_window *run,
                                        const ec_mve_eight *to, const int8_t *x, const int8_t *w,
                                        int8_t *y, uint8_t *mask, int32_t at)
{
    for (int32_t j = 0; j < p->out_w; j++, at += p->out_c) {
        int32_t left = j * p->stride_w - p->pad_left;
        ec_taps columns = ec_taps_inside(left, p->in_w, p->kernel_w, p->dilation_w);
        run->taps = columns.end - columns.first;
        const int8_t *in = x + (left + columns.first * p->dilation_w) * p->in_c;
        uint32_t inside =
            ec_mve_window_put(run, to, in, w + columns.first * EC_MVE_EIGHT, y + at);
        if (mask != NULL) {
            ec_mve_mark(mask, at, inside);
        }
    }
}

/* groups == C == O, at least 8. scratch: 4 * R + 8 * R * S bytes, aligned to 4. */
static inline void ec_mve_trained_depthwise(const ec_trained_conv2d_params *p, const int8_t *x,
                                            const int8_t *w, const int32_t *bias,
                                            const int32_t *idx, const int8_t *slice,
                                            const int32_t *multiplier, const uint8_t *shift,
                                            int8_t *y, uint8_t *mask, void *scratch)
{
    int32_t *rows = scratch;
    int8_t *packed = (int8_t *)(rows + p->kernel_h);
    int32_t row_bytes = p->in_w * p->in_c;
    int32_t size = p->batch * p->out_h * p->out_w * p->out_c;
    int32_t w_row = p->kernel_w * EC_MVE_EIGHT;
    ec_mve_window run = {rows, 0, 0, p->dilation_w * p->in_c, EC_MVE_EIGHT, w_row, p->zero_in};
    ec_mve_eight to = {{0}, {0}, {0}, p->zero_out, p->act_min, p->act_max, 0};
    if (mask != NULL) {
        memset(mask, 0, (size_t)((size + 7) / 8));
    }
    for (int32_t c = 0; c < p->out_c; c += EC_MVE_EIGHT) {
        int32_t o = ec_mve_eight_from(c, p->out_c);
        ec_mve_eight_next(&to, bias + o, multiplier + o, shift + o);
        ec_mve_depthwise_taps(p, w, idx, slice, o, packed);
        for (int32_t row = 0; row < p->batch * p->out_h; row++) {
            const int8_t *image = x + row / p->out_h * p->in_h * row_bytes + o;
            int32_t top = row % p->out_h * p->stride_h - p->pad_top;
            ec_taps inside = ec_taps_inside(top, p->in_h, p->kernel_h, p->dilation_h);
            run.count = inside.end - inside.first;
            for (int32_t r = 0; r < run.count; r++) {
                rows[r] = (top + (inside.first + r) * p->dilation_h) * row_bytes;
            }
            ec_mve_depthwise_row(p, &run, &to, image, packed + inside.first * w_row, y, mask,
                                 row * p->out_w * p->out_c + o);
        }
    }
}

#endif
