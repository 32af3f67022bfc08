/* Weights of a convolution with a 1x1 kernel, one group, stride 1, no padding after one step of
 * training, from a gradient that is a pair, Armv7E-M DSP.
 *
 *   dw[o,i] = sum over pixels of h[pixel,o] * (x[pixel,i] - zero_in),   h = q where its mask is 1
 *   y[o,i]  = clamp(w[o,i] + floor(u - dw * (rate * factor[o] * 2^e)), -127, 127)
 *
 * Arithmetic, layouts and arguments as in ec_train_conv2d_weight_pair. `block` outputs (an even
 * number) are taken at a time, and 64 pixels: their h, then four channels of x after four, packed
 * by pairs of pixels (ec_dsp_grad.h). y may be w.
 * scratch: 512 + block * (128 + 4 * I) bytes, aligned to 4. Equals update_weight of
 * edgec/ops/train_conv.py.
 * Measured on QEMU Cortex-M7 (mps2-an500), GCC 12.2 -O2, 2026-11, by benchmarks/train_kernels.py,
 * instructions per MAC here against the portable kernel, update and noise included: 2.5 against
 * 8.3 (8x8, 48 to 144), 7.4 against 16 (4x4, 12 to 384).
 */
#include "ec_dsp_grad.h"

#define EC_PIXELS 64 /* taken at a time */

/* h of two pixels, whose elements begin at `at` and at `next`, for `outputs` outputs, all three
 * multiples of 4; the pairs of outputs stand `step` words apart. */
static void ec_train_weight_pixels(const int8_t *q, const uint8_t *mask, int32_t at, int32_t next,
                                   int32_t outputs, uint32_t *to, int32_t step)
{
    for (int32_t k = 0; k < outputs; k += 4, to += 2 * step) {
        uint32_t first = ec_dsp_masked(q, mask, at + k);
        uint32_t second = ec_dsp_masked(q, mask, next + k);
        uint32_t even0 = ec_dsp_even(first);
        uint32_t even1 = ec_dsp_even(second);
        uint32_t odd0 = ec_dsp_odd(first);
        uint32_t odd1 = ec_dsp_odd(second);
        to[0] = ec_dsp_low(even0, even1);
        to[1] = ec_dsp_low(odd0, odd1);
        to[step] = ec_dsp_high(even0, even1);
        to[step + 1] = ec_dsp_high(odd0, odd1);
    }
}

/* h of `count` pixels from `first` on for `outputs` outputs from `o` on, by pairs of pixels; zeros
 * up to whole fours and for the output that an odd one lacks. */
static void ec_train_weight_vectors(const ec_train_weight_params *p, const int8_t *q,
                                    const uint8_t *mask, int32_t first, int32_t count, int32_t o,
                                    int32_t outputs, uint32_t *h)
{
    int32_t fours = ec_dsp_fours(count);
    if (fours != count || (outputs & 1) != 0) {
        memset(h, 0, (size_t)((outputs + 1) & ~1) * (size_t)fours * 2);
    }
    int32_t row = first * p->out_c + o;
    int32_t pixel = 0;
    if (((p->out_c | o | outputs) & 3) == 0) {
        for (; pixel + 1 < count; pixel += 2, row += 2 * p->out_c) {
            ec_train_weight_pixels(q, mask, row, row + p->out_c, outputs, h + pixel, fours);
        }
    }
    for (; pixel < count; pixel++, row += p->out_c) {
        int32_t to = (pixel & ~1) * 2 + (pixel & 1);
        for (int32_t k = 0; k < outputs; k++) {
            int32_t value = q[row + k] & -ec_mask_bit(mask, row + k);
            ec_dsp_store_half(h + (k >> 1) * fours, to + (k & 1) * 2, value);
        }
    }
}

/* Adds the sums over `count` pixels to sums[outputs][I]. */
static void ec_train_weight_sums(const ec_train_weight_params *p, const int8_t *x,
                                 const uint32_t *h, uint32_t *panel, int32_t count,
                                 int32_t outputs, int32_t *sums)
{
    int32_t inputs = p->in_c;
    int32_t fours = ec_dsp_fours(count);
    uint32_t minus = ((uint32_t)-p->zero_in & 0xffffu) * 0x10001u;
    for (int32_t i = 0; i < inputs; i += 4) {
        int32_t columns = inputs - i < 4 ? inputs - i : 4;
        ec_dsp_grad_panel(panel, x + i, inputs, count, columns, minus);
        for (int32_t o = 0; o < outputs; o += 2) {
            int32_t found[8];
            int32_t *to = sums + o * inputs + i;
            ec_dsp_grad_dot(found, h + (o >> 1) * fours, panel, panel + 2 * fours);
            for (int32_t k = 0; k < columns; k++) {
                to[k] += found[k];
                to[inputs + k] += found[4 + k];
            }
        }
    }
}

void ec_pointwise_train_weight_pair_dsp(const ec_train_weight_params *p, const int8_t *w,
                                        const int8_t *x, const int8_t *q, const int32_t *e,
                                        const uint8_t *mask, const float *factor, const float *rate,
                                        const int32_t *step, const int32_t *idx, int8_t *y,
                                        void *scratch)
{
    (void)idx;
    uint32_t *panel = scratch;
    uint32_t *h = panel + 2 * EC_PIXELS;
    int32_t *sums = (int32_t *)(h + p->block / 2 * EC_PIXELS);
    int32_t inputs = p->in_c;
    int32_t pixels = p->batch * p->in_h * p->in_w;
    float power = ec_power_of_two(*e);
    ec_noise noise = ec_noise_begin(*step, p->salt, p->seed, p->nearest);
    for (int32_t o = 0; o < p->outputs; o += p->block) {
        int32_t outputs = p->outputs - o < p->block ? p->outputs - o : p->block;
        memset(sums, 0, (size_t)(p->block * inputs) * sizeof *sums);
        for (int32_t first = 0; first < pixels; first += EC_PIXELS) {
            int32_t count = pixels - first < EC_PIXELS ? pixels - first : EC_PIXELS;
            ec_train_weight_vectors(p, q, mask, first, count, o, outputs, h);
            ec_train_weight_sums(p, x + first * inputs, h, panel, count, outputs, sums);
        }
        for (int32_t k = 0; k < outputs; k++) {
            float scale = *rate * factor[o + k];
            scale *= power;
            for (int32_t i = 0; i < inputs; i++) {
                float sum = (float)sums[k * inputs + i];
                *y++ = ec_update_weight(*w++, sum, scale, ec_noise_next(&noise));
            }
        }
    }
}
