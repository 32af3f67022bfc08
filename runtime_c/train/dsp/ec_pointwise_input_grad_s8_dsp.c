/* Gradient of trained_conv2d with a 1x1 kernel, one group, stride 1, no padding to its input, a
 * pair, Armv7E-M DSP.
 *
 *   acc[pixel,i] = sum_o h[pixel,o] * W[o,i],   h = q * eff[o] where its mask is 1, else 0
 *
 * Arithmetic, layouts and arguments as in ec_trained_conv2d_input_grad_s8; acc is rounded in block
 * floating point (ec_gradient.h). `block` pixels (an even number) are taken at a time: their h,
 * then four columns of W after four, packed by pairs of outputs (ec_dsp_grad.h). Columns that are
 * trained are computed from the slice once more and take the place of the constant's.
 * scratch: 8 * O' + block * (2 * O' + 4 * I) bytes, O' = O brought to a multiple of 4; aligned
 * to 4. Equals input_grad of edgec/ops/train_conv.py.
 * Measured on QEMU Cortex-M7 (mps2-an500), GCC 12.2 -O2, 2026-11, by benchmarks/train_kernels.py,
 * instructions per MAC here against the portable kernel: 1.3 against 5.5 (8x8, 160 to 40), 1.7
 * against 5.0 (8x8, 48 to 160), 1.9 against 4.6 (4x4, 160 to 576).
 */
#include "ec_dsp_vectors.h"

/* h of `count` pixels by pairs, zeros up to whole fours and for the pixel that an odd one lacks. */
static void ec_input_grad_vectors(const ec_input_grad_params *p, const int8_t *q,
                                  const uint8_t *mask, const int16_t *eff, int32_t first,
                                  int32_t count, uint32_t *h)
{
    int32_t outputs = p->out_c;
    int32_t fours = ec_dsp_fours(outputs);
    if (fours != outputs || (count & 1) != 0) {
        memset(h, 0, (size_t)((count + 1) & ~1) * (size_t)fours * 2);
    }
    for (int32_t pixel = 0; pixel < count; pixel++) {
        uint32_t *to = h + (pixel >> 1) * fours + (pixel & 1);
        int32_t at = (first + pixel) * outputs;
        if (fours == outputs) {
            ec_dsp_grad_vector(to, q, mask, eff, at, outputs);
            continue;
        }
        for (int32_t o = 0; o < outputs; o++, at++) {
            int32_t value = q[at] * eff[o] & -ec_mask_bit(mask, at);
            ec_dsp_store_half(to, 2 * (o & ~1) + (o & 1), value);
        }
    }
}

/* acc[pixel][column of k] of the four columns of a panel for all pixels of a block; `column` says
 * where they go, `columns` of them. */
static void ec_input_grad_columns(const uint32_t *panel, const uint32_t *h, int32_t fours,
                                  int32_t count, int32_t inputs, const int32_t *column,
                                  int32_t columns, int32_t *acc)
{
    for (int32_t pixel = 0; pixel < count; pixel += 2) {
        int32_t sums[8];
        ec_dsp_grad_dot(sums, h, panel, panel + 2 * fours);
        for (int32_t k = 0; k < columns; k++) {
            acc[column[k]] = sums[k];
            acc[inputs + column[k]] = sums[4 + k];
        }
        h += fours;
        acc += 2 * inputs;
    }
}

void ec_pointwise_input_grad_s8_dsp(const ec_input_grad_params *p, const int8_t *q,
                                    const int32_t *e, const uint8_t *mask, const int8_t *w,
                                    const int16_t *eff, const int32_t *idx, const int8_t *slice,
                                    int8_t *dx, int32_t *exponent, void *scratch)
{
    int32_t inputs = p->in_c;
    int32_t fours = ec_dsp_fours(p->out_c);
    int32_t pixels = p->batch * p->in_h * p->in_w;
    uint32_t *panel = scratch;
    uint32_t *h = panel + 2 * fours;
    int32_t *acc = (int32_t *)(h + (p->block >> 1) * fours);
    ec_block_float to = {dx, dx, 0};
    for (int32_t first = 0; first < pixels; first += p->block) {
        int32_t count = pixels - first < p->block ? pixels - first : p->block;
        ec_input_grad_vectors(p, q, mask, eff, first, count, h);
        for (int32_t i = 0; i < inputs; i += 4) {
            const int32_t column[4] = {i, i + 1, i + 2, i + 3};
            int32_t columns = inputs - i < 4 ? inputs - i : 4;
            ec_dsp_grad_panel(panel, w + i, inputs, p->out_c, columns, 0);
            ec_input_grad_columns(panel, h, fours, count, inputs, column, columns, acc);
        }
        for (int32_t c = 0; c < p->trained; c += 4) {
            int32_t columns = p->trained - c < 4 ? p->trained - c : 4;
            ec_dsp_grad_panel(panel, slice + c, p->trained, p->out_c, columns, 0);
            ec_input_grad_columns(panel, h, fours, count, inputs, idx + c, columns, acc);
        }
        for (int32_t pixel = 0; pixel < count; pixel++) {
            ec_block_float_put(&to, acc + pixel * inputs, inputs);
        }
    }
    *exponent = *e + p->exponent + to.shift;
}
