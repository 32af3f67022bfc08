/* trained_conv2d with any kernel and one group on Armv7E-M: the body of the dense kernels, with a
 * mask and without.
 *
 * Method as in ec_dsp_trained.h: all taps of four output channels are widened to int16 in scratch
 * once and serve all pixels. Taps of a row that are neighbours in x are one run of the dot product
 * where their channels are whole fours.
 */
#ifndef EC_DSP_DENSE_H
#define EC_DSP_DENSE_H

#include "ec_dsp_trained.h"

/* Widened weights and how a window walks over them: `fours` groups of four inputs a tap, `joined`
 * not 0 where the taps of a row are one run. */
typedef struct ec_dsp_dense {
    const ec_trained_conv2d_params *p;
    const uint32_t *wide;
    int32_t fours;
    int32_t joined;
    uint32_t minus;
} ec_dsp_dense;

/* Adds the sums of `taps` taps of a row from x on with the weights from w on. */
static inline void ec_dsp_dense_row(const ec_dsp_dense *run, const int8_t *x, const uint32_t *w,
                                    int32_t taps, int32_t *acc)
{
    int32_t sums[4];
    int32_t inputs = run->p->in_c;
    int32_t words = 8 * run->fours;
    if (run->joined != 0) {
        ec_dsp_trained_dot(sums, x, w, w + taps * words, run->minus);
        for (int32_t k = 0; k < 4; k++) {
            acc[k] += sums[k];
        }
        return;
    }
    int32_t rest = inputs & 3;
    for (; taps > 0; taps--, x += run->p->dilation_w * inputs, w += words) {
        const uint32_t *end = w + 8 * (inputs >> 2);
        if (end != w) {
            ec_dsp_trained_dot(sums, x, w, end, run->minus);
            for (int32_t k = 0; k < 4; k++) {
                acc[k] += sums[k];
            }
        }
        if (rest != 0) {
            ec_dsp_trained_rest(acc, x + inputs - rest, end, rest, run->minus);
        }
    }
}

/* Sums of four output channels over the taps inside of the map of the window at top, left. */
EC_DSP_APART void ec_dsp_dense_window(const ec_dsp_dense *run, const int8_t *image, int32_t top,
                                      int32_t left, int32_t *acc)
{
    const ec_trained_conv2d_params *p = run->p;
    ec_taps rows = ec_dsp_taps(top, p->in_h, p->kernel_h, p->dilation_h);
    ec_taps columns = ec_dsp_taps(left, p->in_w, p->kernel_w, p->dilation_w);
    memset(acc, 0, 4 * sizeof *acc);
    if (columns.first == columns.end) {
        return;
    }
    for (int32_t r = rows.first; r < rows.end; r++) {
        int32_t pixel = (top + r * p->dilation_h) * p->in_w + left + columns.first * p->dilation_w;
        int32_t tap = r * p->kernel_w + columns.first;
        ec_dsp_dense_row(run, image + pixel * p->in_c, run->wide + 8 * run->fours * tap,
                         columns.end - columns.first, acc);
    }
}

/* scratch: R * S * 32 * ceil(C / 4) bytes, 4 * R * S * C more where columns are trained apart;
 * aligned to 4. */
static inline void ec_dsp_trained_dense(const ec_trained_conv2d_params *p, const int8_t *x,
                                        const int8_t *w, const int32_t *bias, const int32_t *idx,
                                        const int8_t *slice, const int32_t *multiplier,
                                        const uint8_t *shift, int8_t *y, uint8_t *mask,
                                        void *scratch)
{
    uint32_t *wide = scratch;
    int32_t inputs = p->in_c;
    int32_t fours = (inputs + 3) >> 2;
    int32_t taps = p->kernel_h * p->kernel_w;
    int8_t *spare = (int8_t *)(wide + 8 * fours * taps);
    const ec_trained_weight weight = {w, idx, slice, taps, inputs, p->trained, 0};
    const ec_dsp_dense run = {p, wide, fours, p->dilation_w == 1 && (inputs & 3) == 0,
                              ec_dsp_minus(p->zero_in)};
    ec_dsp_outputs to;
    ec_dsp_outputs_begin(p, y, mask, &to);
    for (int32_t o = 0; o < p->out_c; o += 4) {
        ec_dsp_outputs_next(&to, bias + o, multiplier + o, shift + o, p->out_c - o);
        const int8_t *rows[4];
        for (int32_t k = 0; k < 4; k++) { /* what stands beyond the last is computed for nothing */
            int32_t of = o + (k < to.count ? k : 0);
            rows[k] = ec_trained_taps(&weight, of, 0, taps, spare + k * taps * inputs);
        }
        for (int32_t tap = 0; tap < taps; tap++) {
            ec_dsp_trained_widen(wide + 8 * fours * tap, rows, inputs);
            for (int32_t k = 0; k < 4; k++) {
                rows[k] += inputs;
            }
        }
        int32_t at = o;
        const int8_t *image = x;
        for (int32_t n = 0; n < p->batch; n++, image += p->in_h * p->in_w * inputs) {
            for (int32_t i = 0; i < p->out_h; i++) {
                for (int32_t j = 0; j < p->out_w; j++, at += p->out_c) {
                    int32_t acc[4];
                    ec_dsp_dense_window(&run, image, i * p->stride_h - p->pad_top,
                                        j * p->stride_w - p->pad_left, acc);
                    ec_dsp_outputs_put(&to, acc, at);
                }
            }
        }
    }
}

#endif
