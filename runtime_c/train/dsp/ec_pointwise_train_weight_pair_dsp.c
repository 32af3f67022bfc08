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
#include "ec_dsp_pointwise_weight.h"

void ec_pointwise_train_weight_pair_dsp(const ec_train_weight_params *p, const int8_t *w,
                                        const int8_t *x, const int8_t *q, const int32_t *e,
                                        const uint8_t *mask, const float *factor, const float *rate,
                                        const int32_t *step, const int32_t *idx, int8_t *y,
                                        void *scratch)
{
    (void)idx;
    uint32_t *panel = scratch;
    uint32_t *h = panel + 2 * EC_DSP_PIXELS;
    int32_t *sums = (int32_t *)(h + p->block / 2 * EC_DSP_PIXELS);
    int32_t inputs = p->in_c;
    int32_t pixels = p->batch * p->in_h * p->in_w;
    float power = ec_power_of_two(*e);
    ec_noise noise = ec_noise_begin(*step, p->salt, p->seed, p->nearest);
    for (int32_t o = 0; o < p->outputs; o += p->block) {
        int32_t outputs = p->outputs - o < p->block ? p->outputs - o : p->block;
        memset(sums, 0, (size_t)(p->block * inputs) * sizeof *sums);
        for (int32_t first = 0; first < pixels; first += EC_DSP_PIXELS) {
            int32_t count = pixels - first < EC_DSP_PIXELS ? pixels - first : EC_DSP_PIXELS;
            ec_dsp_weight_vectors(p, q, mask, first, count, o, outputs, h);
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
