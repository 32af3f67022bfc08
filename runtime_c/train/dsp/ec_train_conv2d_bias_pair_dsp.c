/* A bias after one step of training, from a gradient that is a pair, Armv7E-M DSP; channels a
 * multiple of 8.
 *
 *   db[o] = sum over pixels of q[pixel,o] where its mask is 1
 *   y[o]  = saturated(b[o] + floor(u[o] - db[o] * (rate * factor[o] * 2^e)))
 *
 * Arithmetic, layouts and arguments as in ec_train_conv2d_bias_pair. Eight channels, a byte of the
 * mask, are summed at a time, in halfwords over at most 255 pixels. y may be b. No scratch. Equals
 * update_bias of edgec/ops/train_conv.py.
 * Measured on QEMU Cortex-M7 (mps2-an500), GCC 12.2 -O2, 2026-11, by benchmarks/train_kernels.py,
 * instructions per element of the gradient here against the portable kernel: 6.6 against 19
 * (8x8x160), 18 against 30 (4x4x576), updates of the channels included.
 */
#include "ec_dsp.h"
#include "ec_gradient.h"
#include "ec_train_s8.h"

#define EC_PIXELS 255 /* 128 * 255 lies in int16 */

/* Adds channels 0, 2 and 1, 3 of a four. */
static inline void ec_bias_add(int32_t *sums, uint32_t even, uint32_t odd)
{
    sums[0] += (int16_t)(even & 0xffffu);
    sums[1] += (int16_t)(odd & 0xffffu);
    sums[2] += (int16_t)(even >> 16);
    sums[3] += (int16_t)(odd >> 16);
}

/* Sums of eight channels over all pixels; q and mask at the first of them. */
static __attribute__((noinline)) void ec_bias_eight(const int8_t *q, const uint8_t *mask,
                                                    int32_t channels, int32_t pixels,
                                                    int32_t *sums)
{
    memset(sums, 0, 8 * sizeof *sums);
    while (pixels > 0) {
        int32_t count = pixels < EC_PIXELS ? pixels : EC_PIXELS;
        uint32_t even0 = 0;
        uint32_t odd0 = 0;
        uint32_t even1 = 0;
        uint32_t odd1 = 0;
        pixels -= count;
        for (; count > 0; count--, q += channels, mask += channels >> 3) {
            uint32_t bits = *mask;
            uint32_t first = ec_dsp_load(q) & ec_dsp_byte_mask(bits);
            uint32_t second = ec_dsp_load(q + 4) & ec_dsp_byte_mask(bits >> 4);
            even0 = ec_dsp_add_even(even0, first);
            odd0 = ec_dsp_add_odd(odd0, first);
            even1 = ec_dsp_add_even(even1, second);
            odd1 = ec_dsp_add_odd(odd1, second);
        }
        ec_bias_add(sums, even0, odd0);
        ec_bias_add(sums + 4, even1, odd1);
    }
}

void ec_train_conv2d_bias_pair_dsp(const ec_train_bias_params *p, const int32_t *b,
                                   const int8_t *q, const int32_t *e, const uint8_t *mask,
                                   const float *factor, const float *rate, const int32_t *step,
                                   int32_t *y)
{
    float power = ec_power_of_two(*e);
    ec_noise noise = ec_noise_begin(*step, p->salt, p->seed, p->nearest);
    for (int32_t c = 0; c < p->channels; c += 8) {
        int32_t sums[8];
        ec_bias_eight(q + c, mask + (c >> 3), p->channels, p->pixels, sums);
        for (int32_t k = 0; k < 8; k++) {
            float scale = *rate * factor[c + k];
            scale *= power;
            y[c + k] = ec_update_bias(b[c + k], (float)sums[k], scale, ec_noise_next(&noise));
        }
    }
}
