/* conv2d with a 1x1 kernel, one group and no padding, int8, MVE; any stride.
 *
 *   acc[p,q,o] = bias[o] + sum_c x[p * stride_h, q * stride_w, c] * w[o,c]
 *   y[p,q,o]   = clamp(zero_out + requantize(acc, multiplier[o], shift[o]), act_min, act_max)
 *
 * x int8[ring_0][W][C], w int8[ceil(O / 4)][ceil(C / 16)][4][16], zeros beyond O and C ("mve_o4"),
 * y int8[ring_y][Q][O]; bias folded; no alignment asked of bytes; no scratch. Single rounding
 * (ec_requant.h). Equals conv2d.quant of edgec/ops/conv2d.py.
 * Measured on QEMU Cortex-M55 (mps3-an547), GCC 12.2 -O2, 2026-11, by benchmarks/train_mve.py,
 * instructions per MAC of MCUNet-5FPS here against the DSP kernel: 0.37 against 1.09.
 */
#include "ec_mve_kernels.h"
#include "ec_mve_pointwise.h"

void ec_pointwise_conv2d_s8_mve(const ec_conv2d_params *p, int32_t row0, int32_t row1,
                                const int8_t *x, const int8_t *w, const int32_t *bias,
                                const int32_t *multiplier, const uint8_t *shift, int8_t *y)
{
    int32_t inputs = p->in_c;
    int32_t joined = p->stride_h == 1 && p->stride_w == 1 && p->in_w == p->out_w &&
                     row1 <= p->ring_0 && row1 <= p->ring_y; /* rows follow one another */
    int32_t rows = joined ? row1 - row0 : 1; /* of a run */
    ec_mve_four to = {{0}, {0}, {0}, {0}, {0}, p->zero_out, p->act_min, p->act_max, 0, 0};
    ec_mve_run run = {x, p->stride_w * inputs, inputs, rows * p->out_w, y, NULL, 0, p->out_c};
    for (int32_t o = 0; o < p->out_c; o += EC_MVE_ROWS, w += ec_mve_panel_bytes(inputs)) {
        ec_mve_four_next(&to, bias + o, multiplier + o, shift + o, p->out_c - o);
        for (int32_t row = row0; row < row1; row += rows) {
            run.x = x + ec_ring_row(row * p->stride_h, p->ring_0) * p->in_w * inputs;
            run.at = ec_ring_row(row, p->ring_y) * p->out_w * p->out_c + o;
            ec_mve_pixels(&to, &run, w);
        }
    }
}
