/* Gradient of trained_conv2d with any kernel and one group to its input, a pair, Armv7E-M DSP.
 *
 *   acc[pixel,i] = sum over taps and o of h[source(pixel, tap),o] * W[o,tap,i],
 *   h = q * eff[o] where its mask is 1, else 0
 *
 * Arithmetic, layouts and arguments as in ec_trained_conv2d_input_grad_s8; acc is rounded in block
 * floating point (ec_gradient.h). `block` pixels (an even number, 16 at most) are taken at a
 * time, tap by tap: h of the outputs that the tap leads to, then four columns of W after four,
 * packed by pairs of outputs (ec_dsp_grad.h). Columns that are trained are set to 0 and
 * summed once more, from the slice.
 * scratch: 8 * O' + block * (2 * O' + 4 * I) bytes, O' = O brought to a multiple of 4; aligned
 * to 4. Equals input_grad of edgec/ops/train_conv.py.
 * Measured on QEMU Cortex-M7 (mps2-an500), GCC 12.2 -O2, 2026-11, by benchmarks/train_kernels.py
 * --scheme dense, instructions per MAC here against the portable kernel, 3x3: 2.0
 * against 5.9 (8x8, 16 to 24), 1.4 against 4.4 (4x4, 24 to 32), 2.3 against 5.1 (8x8, stride 2, 32
 * to 32).
 */
#include "ec_dsp_vectors.h"

#define EC_DENSE_BLOCK 16 /* p->block at most */

/* A block of pixels: `count` from `first` on, their sums int32[count][I]; of one tap h of the
 * pixels for which it has an output, `used` of them, and where the sums of these begin. */
typedef struct ec_dense_block {
    uint32_t *panel;
    uint32_t *h;
    int32_t *acc;
    int32_t first;
    int32_t count;
    int32_t used;
    int32_t sums[EC_DENSE_BLOCK];
} ec_dense_block;

/* The first element of q of the output that `tap` leads to from a pixel of dx, -1 where there is
 * none. */
static inline int32_t ec_dense_source(const ec_input_grad_params *p, int32_t pixel, int32_t tap)
{
    int32_t row = pixel / p->in_w;
    int32_t image = row / p->in_h;
    int32_t down = row - image * p->in_h + p->pad_top - tap / p->kernel_w * p->dilation_h;
    int32_t along = pixel - row * p->in_w + p->pad_left - tap % p->kernel_w * p->dilation_w;
    int32_t i = down;
    int32_t j = along;
    if (p->stride_h != 1 || p->stride_w != 1) {
        i = down / p->stride_h;
        j = along / p->stride_w;
        if (i * p->stride_h != down || j * p->stride_w != along) {
            return -1;
        }
    }
    if (down < 0 || along < 0 || i >= p->out_h || j >= p->out_w) {
        return -1;
    }
    return ((image * p->out_h + i) * p->out_w + j) * p->out_c;
}

/* h of the block's pixels by pairs. */
static void ec_dense_vectors(const ec_input_grad_params *p, const int8_t *q, const uint8_t *mask,
                             const int16_t *eff, int32_t tap, ec_dense_block *block)
{
    int32_t outputs = p->out_c;
    int32_t fours = ec_dsp_fours(outputs);
    block->used = 0;
    for (int32_t pixel = 0; pixel < block->count; pixel++) {
        int32_t at = ec_dense_source(p, block->first + pixel, tap);
        if (at < 0) {
            continue;
        }
        uint32_t *to = block->h + (block->used >> 1) * fours;
        if ((block->used & 1) == 0) {
            memset(to, 0, (size_t)fours * sizeof *to);
        }
        to += block->used & 1;
        block->sums[block->used++] = pixel * p->in_c;
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

/* Adds what a tap gives through weights int8[O] that lie `step` apart, `columns` of each from w on,
 * to the columns idx (NULL: 0, 1 ..) of the block's sums. */
static void ec_dense_columns(const ec_input_grad_params *p, const int8_t *w, int32_t step,
                             int32_t columns, const int32_t *idx, const ec_dense_block *block)
{
    int32_t fours = ec_dsp_fours(p->out_c);
    for (int32_t i = 0; block->used != 0 && i < columns; i += 4) {
        int32_t left = columns - i < 4 ? columns - i : 4;
        const uint32_t *h = block->h;
        int32_t at[4];
        for (int32_t k = 0; k < left; k++) {
            at[k] = idx != NULL ? idx[i + k] : i + k;
        }
        ec_dsp_grad_panel(block->panel, w + i, step, p->out_c, left, 0);
        for (int32_t one = 0; one < block->used; one += 2, h += fours) {
            int32_t found[8];
            ec_dsp_grad_dot(found, h, block->panel, block->panel + 2 * fours);
            int32_t *acc = block->acc + block->sums[one];
            for (int32_t k = 0; k < left; k++) {
                acc[at[k]] += found[k];
            }
            if (one + 1 < block->used) {
                acc = block->acc + block->sums[one + 1];
                for (int32_t k = 0; k < left; k++) {
                    acc[at[k]] += found[4 + k];
                }
            }
        }
    }
}

void ec_dense_input_grad_s8_dsp(const ec_input_grad_params *p, const int8_t *q, const int32_t *e,
                                const uint8_t *mask, const int8_t *w, const int16_t *eff,
                                const int32_t *idx, const int8_t *slice, int8_t *dx,
                                int32_t *exponent, void *scratch)
{
    int32_t inputs = p->in_c;
    int32_t fours = ec_dsp_fours(p->out_c);
    int32_t pixels = p->batch * p->in_h * p->in_w;
    int32_t taps = p->kernel_h * p->kernel_w;
    uint32_t *h = (uint32_t *)scratch + 2 * fours;
    ec_dense_block block = {scratch, h, (int32_t *)(h + (p->block >> 1) * fours), 0, 0, 0, {0}};
    ec_block_float to = {dx, dx, 0};
    for (; block.first < pixels; block.first += p->block) {
        block.count = pixels - block.first < p->block ? pixels - block.first : p->block;
        memset(block.acc, 0, sizeof *block.acc * (size_t)(block.count * inputs));
        for (int32_t tap = 0; tap < taps; tap++) {
            ec_dense_vectors(p, q, mask, eff, tap, &block);
            ec_dense_columns(p, w + tap * inputs, taps * inputs, inputs, NULL, &block);
        }
        for (int32_t pixel = 0; pixel < block.count; pixel++) {
            for (int32_t c = 0; c < p->trained; c++) {
                block.acc[pixel * inputs + idx[c]] = 0;
            }
        }
        for (int32_t tap = 0; p->trained != 0 && tap < taps; tap++) {
            ec_dense_vectors(p, q, mask, eff, tap, &block);
            ec_dense_columns(p, slice + tap * p->trained, taps * p->trained, p->trained, idx,
                             &block);
        }
        for (int32_t pixel = 0; pixel < block.count; pixel++) {
            ec_block_float_put(&to, block.acc + pixel * inputs, inputs);
        }
    }
    *exponent = *e + p->exponent + to.shift;
}
