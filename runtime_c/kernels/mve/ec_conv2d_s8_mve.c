/* conv2d of one group, int8, MVE; any kernel, stride, dilation and padding.
 *
 *   acc[p,q,o] = bias[o] + sum_{r,s,c} X[p,q,r,s,c] * w[o,r,s,c]
 *   y[p,q,o]   = clamp(zero_out + requantize(acc, multiplier[o], shift[o]), act_min, act_max)
 *
 * X as in ec_conv2d_s8. The windows of as many pixels of a row as EC_WINDOW_BYTES hold are copied
 * next to one another and multiplied as pixels of R * S * C channels. x int8[ring_0][W][C], w
 * int8[ceil(O / 4)][ceil(R * S * C / 16)][4][16], zeros beyond O and R * S * C ("mve_o4"), y
 * int8[ring_y][Q][O]; bias folded; no alignment asked of bytes.
 * scratch: R * S * C bytes for each pixel of a block, which is min(Q, max(1, 6144 / (R * S * C))).
 * Single rounding (ec_requant.h). Equals conv2d.quant of edgec/ops/conv2d.py.
 * Measured on QEMU Cortex-M55 (mps3-an547), GCC 12.2 -O2, 2026-11, by benchmarks/train_mve.py,
 * instructions per MAC of the first block of MCUNet-5FPS, which also holds a depthwise and two
 * pointwise layers, with MVE kernels against DSP kernels: 1.2 against 2.0.
 */
#include "ec_conv.h"
#include "ec_mve_kernels.h"
#include "ec_mve_pointwise.h"

#define EC_WINDOW_BYTES 6144

/* A row of a window that lies in the row `line` of x, or is padding where that is NULL. */
static void ec_conv2d_window_row(const ec_conv2d_params *p, const int8_t *line, int32_t left,
                                 int8_t *to)
{
    int32_t channels = p->in_c;
    int32_t whole = p->kernel_w * channels;
    if (line == NULL) {
        ec_mve_fill(to, p->zero_in, whole);
        return;
    }
    if (p->dilation_w == 1) {
        ec_taps inside = ec_taps_inside(left, p->in_w, p->kernel_w, 1);
        int32_t first = inside.first * channels;
        int32_t end = inside.end * channels;
        ec_mve_fill(to, p->zero_in, first);
        ec_mve_copy(to + first, line + left * channels + first, end - first);
        ec_mve_fill(to + end, p->zero_in, whole - end);
        return;
    }
    for (int32_t s = 0; s < p->kernel_w; s++, to += channels) {
        int32_t column = left + s * p->dilation_w;
        if (column < 0 || column >= p->in_w) {
            ec_mve_fill(to, p->zero_in, channels);
        } else {
            ec_mve_copy(to, line + column * channels, channels);
        }
    }
}

/* The windows of `count` pixels of output row `row` from column `from` on. */
static void ec_conv2d_windows(const ec_conv2d_params *p, const int8_t *x, int32_t row, int32_t from,
                              int32_t count, int8_t *to)
{
    int32_t run = p->kernel_w * p->in_c;
    for (int32_t r = 0; r < p->kernel_h; r++, to += run) {
        int32_t at = row * p->stride_h - p->pad_top + r * p->dilation_h;
        const int8_t *line = NULL;
        if (at >= 0 && at < p->in_h) {
            line = x + ec_ring_row(at, p->ring_0) * p->in_w * p->in_c;
        }
        for (int32_t j = 0; j < count; j++) {
            int32_t left = (from + j) * p->stride_w - p->pad_left;
            ec_conv2d_window_row(p, line, left, to + j * p->kernel_h * run);
        }
    }
}

void ec_conv2d_s8_mve(const ec_conv2d_params *p, int32_t row0, int32_t row1, const int8_t *x,
                      const int8_t *w, const int32_t *bias, const int32_t *multiplier,
                      const uint8_t *shift, int8_t *y, void *scratch)
{
    int32_t inputs = p->kernel_h * p->kernel_w * p->in_c;
    int32_t block = EC_WINDOW_BYTES / inputs > 0 ? EC_WINDOW_BYTES / inputs : 1;
    ec_mve_four to = {{0}, {0}, {0}, {0}, {0}, p->zero_out, p->act_min, p->act_max, 0, 0};
    ec_mve_run run = {scratch, inputs, inputs, 0, y, NULL, 0, p->out_c};
    for (int32_t row = row0; row < row1; row++) {
        int32_t at = ec_ring_row(row, p->ring_y) * p->out_w * p->out_c;
        for (int32_t j = 0; j < p->out_w; j += block) {
            const int8_t *panel = w;
            run.pixels = p->out_w - j < block ? p->out_w - j : block;
            ec_conv2d_windows(p, x, row, j, run.pixels, scratch);
            for (int32_t o = 0; o < p->out_c; o += EC_MVE_ROWS) {
                ec_mve_four_next(&to, bias + o, multiplier + o, shift + o, p->out_c - o);
                run.at = at + j * p->out_c + o;
                ec_mve_pixels(&to, &run, panel);
                panel += ec_mve_panel_bytes(inputs);
            }
        }
    }
}
