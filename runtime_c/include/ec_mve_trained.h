/* trained_conv2d with MVE: the body of the pointwise kernel, with a mask and without.
 *
 * The weights of four output channels, put together from the constant and its trained columns, are
 * packed in scratch once and serve all pixels.
 */
#ifndef EC_MVE_TRAINED_H
#define EC_MVE_TRAINED_H

#include "ec_mve_kernels.h"
#include "ec_mve_pointwise.h"

/* The panel of outputs o to o + count, and what their sums begin with. */
static inline void ec_mve_trained_panel(const ec_trained_conv2d_params *p, const int8_t *w,
                                        const int32_t *idx, const int8_t *slice, int32_t o,
                                        int8_t *panel, ec_mve_four *to)
{
    int32_t inputs = p->in_c;
    if (to->count < EC_MVE_ROWS) {
        memset(panel, 0, (size_t)ec_mve_panel_bytes(inputs));
    }
    for (int32_t k = 0; k < to->count; k++) {
        ec_mve_copy_row(panel + k * EC_MVE_BYTES, w + (o + k) * inputs, inputs);
        const int8_t *columns = slice + (o + k) * p->trained;
        for (int32_t j = 0; j < p->trained; j++) {
            int32_t i = idx[j];
            panel[(i & -16) * EC_MVE_ROWS + k * EC_MVE_BYTES + (i & 15)] = columns[j];
        }
    }
    ec_mve_sum_rows(to->start, panel, inputs);
    for (int32_t k = 0; k < EC_MVE_ROWS; k++) {
        to->start[k] *= -p->zero_in;
    }
}

/* 1x1 kernel, one group, no padding. scratch: 64 * ceil(C / 16) bytes. */
static inline void ec_mve_trained_pointwise(const ec_trained_conv2d_params *p, const int8_t *x,
                                            const int8_t *w, const int32_t *bias,
                                            const int32_t *idx, const int8_t *slice,
                                            const int32_t *multiplier, const uint8_t *shift,
                                            int8_t *y, uint8_t *mask, void *scratch)
{
    int32_t inputs = p->in_c;
    int32_t pixels = p->batch * p->out_h * p->out_w;
    int32_t joined = p->stride_h == 1 && p->stride_w == 1; /* rows follow one another */
    int32_t rows = joined ? 1 : p->batch * p->out_h;
    int32_t row_bytes = p->in_w * inputs;
    ec_mve_four to = {{0}, {0}, {0}, {0}, {0}, p->zero_out, p->act_min, p->act_max, 0, 0};
    if (mask != NULL) {
        memset(mask, 0, (size_t)((pixels * p->out_c + 7) / 8));
    }
    ec_mve_run run = {
        x, p->stride_w * inputs, inputs, joined ? pixels : p->out_w, y, mask, 0, p->out_c};
    for (int32_t o = 0; o < p->out_c; o += EC_MVE_ROWS) {
        ec_mve_four_next(&to, bias + o, multiplier + o, shift + o, p->out_c - o);
        ec_mve_trained_panel(p, w, idx, slice, o, scratch, &to);
        run.at = o;
        for (int32_t row = 0; row < rows; row++, run.at += run.pixels * p->out_c) {
            int32_t from = row / p->out_h * p->in_h + row % p->out_h * p->stride_h;
            run.x = x + (joined ? 0 : from * row_bytes);
            ec_mve_pixels(&to, &run, scratch);
        }
    }
}

#endif
