/* Gradient of trained_conv2d with a 1x1 kernel, one group, stride 1, no padding to its input, a
 * pair, MVE.
 *
 *   acc[pixel,i] = sum_o h[pixel,o] * W[o,i],   h = q * eff[o] where its mask is 1, else 0
 *
 * Arithmetic, layouts and arguments as in ec_trained_conv2d_input_grad_s8; acc is rounded in block
 * floating point (ec_gradient.h). `block` pixels (a multiple of 3) are taken at a time: their h,
 * then two columns of W after two, both packed in vectors of 8 outputs (ec_mve_block.h). Columns
 * that are trained are computed from the slice once more and take the place of the constant's.
 * |q * eff| < 2^15, C and O at most 9000. scratch: 2 * O' + block * (2 * O' + 4 * I) bytes, O' = O
 * brought to a multiple of 8; aligned to 4. Equals input_grad of edgec/ops/train_conv.py.
 * Measured on QEMU Cortex-M55 (mps3-an547), GCC 12.2 -O2, 2026-11, by benchmarks/train_mve.py,
 * instructions per MAC of MCUNet-5FPS here against the DSP kernel: 0.52 against 1.72.
 */
#include "ec_mve_block.h"

/* h of `count` pixels by threes, zeros for those that the last three lacks. */
static void ec_input_grad_vectors(const ec_input_grad_params *p, const int8_t *q,
                                  const uint8_t *mask, const int16_t *eff, int32_t first,
                                  int32_t count, int16_t *h)
{
    int32_t eights = ec_mve_whole(p->out_c, 8);
    int32_t rest = count % EC_MVE_VECTORS;
    if (rest != 0) {
        int16_t *last = h + (count - rest) * eights;
        memset(last, 0, (size_t)(EC_MVE_VECTORS * eights) * sizeof *last);
    }
    for (int32_t pixel = 0; pixel < count; pixel++) {
        int32_t third = pixel % EC_MVE_VECTORS;
        ec_mve_scaled(h + (pixel - third) * eights + third * 8, EC_MVE_VECTORS * 8, q, mask, eff,
                      (first + pixel) * p->out_c, p->out_c);
    }
}

/* acc[pixel] of two columns of the weights w, rows `step` apart, for all pixels of a block; idx
 * says where they go, `columns` of them. */
static void ec_input_grad_columns(const ec_input_grad_params *p, const int8_t *w, int32_t step,
                                  const int32_t *idx, int32_t columns, int8_t *panel,
                                  const int16_t *h, int32_t count, int32_t *acc)
{
    int32_t eights = ec_mve_whole(p->out_c, 8);
    int32_t *first = acc + idx[0];
    int32_t *second = columns > 1 ? acc + idx[1] : first;
    ec_mve_column(panel, EC_MVE_COLUMNS * 8, w, step, p->out_c);
    ec_mve_column(panel + 8, EC_MVE_COLUMNS * 8, columns > 1 ? w + 1 : w, step, p->out_c);
    for (int32_t pixel = 0; pixel < count; pixel += EC_MVE_VECTORS) {
        ec_mve_block(first, second, p->in_c, h, panel, p->out_c);
        first += EC_MVE_VECTORS * p->in_c;
        second += EC_MVE_VECTORS * p->in_c;
        h += EC_MVE_VECTORS * eights;
    }
}

void ec_pointwise_input_grad_s8_mve(const ec_input_grad_params *p, const int8_t *q,
                                    const int32_t *e, const uint8_t *mask, const int8_t *w,
                                    const int16_t *eff, const int32_t *idx, const int8_t *slice,
                                    int8_t *dx, int32_t *exponent, void *scratch)
{
    int32_t inputs = p->in_c;
    int32_t eights = ec_mve_whole(p->out_c, 8);
    int32_t pixels = p->batch * p->in_h * p->in_w;
    int32_t *acc = scratch;
    int16_t *h = (int16_t *)(acc + p->block * inputs);
    int8_t *panel = (int8_t *)(h + p->block * eights);
    ec_block_float to = {dx, dx, 0};
    for (int32_t first = 0; first < pixels; first += p->block) {
        int32_t count = pixels - first < p->block ? pixels - first : p->block;
        ec_input_grad_vectors(p, q, mask, eff, first, count, h);
        for (int32_t i = 0; i < inputs; i += EC_MVE_COLUMNS) {
            const int32_t column[2] = {i, i + 1};
            ec_input_grad_columns(p, w + i, inputs, column, inputs - i, panel, h, count, acc);
        }
        for (int32_t c = 0; c < p->trained; c += EC_MVE_COLUMNS) {
            ec_input_grad_columns(p, slice + c, p->trained, idx + c, p->trained - c, panel, h,
                                  count, acc);
        }
        for (int32_t pixel = 0; pixel < count; pixel++) {
            ec_mve_put(&to, acc + pixel * inputs, inputs);
        }
    }
    *exponent = *e + p->exponent + to.shift;
}
