/* A bias after one step of training, from a gradient that is a pair, MVE.
 *
 *   db[o] = sum over pixels of q[pixel,o] where its mask is 1
 *   y[o]  = saturated(b[o] + floor(u[o] - db[o] * (rate * factor[o] * 2^e)))
 *
 * Arithmetic, layouts and arguments as in ec_train_conv2d_bias_pair. Sixteen channels are summed at
 * a time, in halfwords over at most 255 pixels. y may be b. No scratch. Equals update_bias of
 * edgec/ops/train_conv.py.
 * Measured on QEMU Cortex-M55 (mps3-an547), GCC 12.2 -O2, 2026-11, by benchmarks/train_mve.py,
 * instructions of all biases of a step of MCUNet-5FPS here against the DSP kernel: 0.74 M against
 * 0.99 M.
 */
#include "ec_mve_grad.h"

void ec_train_conv2d_bias_pair_mve(const ec_train_bias_params *p, const int32_t *b,
                                   const int8_t *q, const int32_t *e, const uint8_t *mask,
                                   const float *factor, const float *rate, const int32_t *step,
                                   int32_t *y)
{
    float power = ec_power_of_two(*e);
    ec_noise noise = ec_noise_begin(*step, p->salt, p->seed, p->nearest);
    for (int32_t c = 0; c < p->channels; c += EC_MVE_BYTES) {
        int32_t count = p->channels - c < EC_MVE_BYTES ? p->channels - c : EC_MVE_BYTES;
        int32_t sums[EC_MVE_BYTES];
        ec_mve_bias_sums(sums, q, mask, c, count, p->channels, p->pixels);
        for (int32_t k = 0; k < count; k++) {
            float scale = *rate * factor[c + k];
            scale *= power;
            y[c + k] = ec_update_bias(b[c + k], (float)sums[k], scale, ec_noise_next(&noise));
        }
    }
}
