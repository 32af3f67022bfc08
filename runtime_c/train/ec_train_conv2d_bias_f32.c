/* A bias after one step of training, from a float gradient, portable C99.
 *
 *   db[o] = sum of g[pixel,o] where its mask is 1, pixel after pixel
 *   y[o]  = saturated(b[o] + floor(u[o] - db[o] * (rate * factor[o])))
 *
 * Float arithmetic: one rounding an operation; u as in ec_gradient.h, element o. What is not finite
 * changes nothing. g float[pixels][channels], b, y int32[channels]; y may be b.
 * scratch: 4 * channels bytes, aligned to 4. Equals update_bias of edgec/ops/train_conv.py.
 */
#include "ec_gradient.h"
#include "ec_train_s8.h"

void ec_train_conv2d_bias_f32(const ec_train_bias_params *p, const int32_t *b, const float *g,
                              const uint8_t *mask, const float *factor, const float *rate,
                              const int32_t *step, int32_t *y, void *scratch)
{
    float *sums = scratch;
    for (int32_t c = 0; c < p->channels; c++) {
        sums[c] = 0.0f;
    }
    for (int32_t pixel = 0, at = 0; pixel < p->pixels; pixel++) {
        for (int32_t c = 0; c < p->channels; c++, at++) {
            if (ec_mask_bit(mask, at) != 0) {
                sums[c] += g[at];
            }
        }
    }
    ec_noise noise = ec_noise_begin(*step, p->salt, p->seed, p->nearest);
    for (int32_t c = 0; c < p->channels; c++) {
        y[c] = ec_update_bias(b[c], sums[c], *rate * factor[c], ec_noise_next(&noise));
    }
}
