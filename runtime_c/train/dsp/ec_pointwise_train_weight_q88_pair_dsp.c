/* Weights in Q8.8 of a convolution with a 1x1 kernel, one group, stride 1, no padding after one
 * step of training, from a gradient that is a pair, Armv7E-M DSP.
 *
 *   m = clamp(256 w + fraction + floor(u - 256 * (dw * (rate * factor[o] * 2^e))), 256 * +-127)
 *   y = (m + 128) >> 8,   next = m - 256 y
 *
 * Arithmetic, layouts and arguments as in ec_train_conv2d_weight_q88_pair, dw and scratch as in
 * ec_pointwise_train_weight_pair_dsp. y may be w, next may be fraction. Equals update_weight of
 * edgec/ops/train_conv.py.
 * Measured on QEMU Cortex-M7 (mps2-an500), GCC 12.2 -O2, 2026-11, by benchmarks/train_kernels.py
 * --rounding q8.8, instructions per MAC here against the portable kernel, update and noise
 * included: 2.6 against 8.1 (8x8, 48 to 144), 8.1 against 16 (4x4, 12 to 384).
 */
#include "ec_dsp_pointwise_weight.h"

void ec_pointwise_train_weight_q88_pair_dsp(
    const ec_train_weight_params *p, const int8_t *w, const int8_t *x, const int8_t *q,
    const int32_t *e, const uint8_t *mask, const float *factor, const float *rate,
    const int32_t *step, const int8_t *fraction, const float *decay, const int32_t *idx, int8_t *y,
    int8_t *next, void *scratch)
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
            float pull = p->decays != 0 ? *rate * decay[o + k] : 0.0f;
            float scale = *rate * factor[o + k];
            scale *= power;
            scale *= 256.0f;
            for (int32_t i = 0; i < inputs; i++) {
                int32_t master = ec_q88(*w++, *fraction++);
                float move = (float)sums[k * inputs + i] * scale + pull * (float)master;
                ec_q88_put(master, ec_noise_next(&noise) - move, y++, next++);
            }
        }
    }
}
