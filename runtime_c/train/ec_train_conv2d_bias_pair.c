/* A bias after one step of training, from a gradient that is a pair, portable C99.
 *
 *   db[o] = sum over pixels of q[pixel,o] where its mask is 1
 *   y[o]  = saturated(b[o] + floor(u[o] - db[o] * (rate * factor[o] * 2^e)))
 *
 * Float arithmetic: one rounding an operation; u as in ec_gradient.h, element o. What is not finite
 * changes nothing. q int8[pixels][channels], b, y int32[channels]; y may be b.
 * scratch: 4 * channels bytes, aligned to 4. pixels < 2^24. Equals update_bias of
 * edgec/ops/train_conv.py.
 */
#include "ec_gradient.h"
#include "ec_train_s8.h"

void ec_train_conv2d_bias_pair(const ec_train_bias_params *p, const int32_t *b, const int8_t *q,
                               const int32_t *e, const uint8_t *mask, const float *factor,
                               const float *rate, const int32_t *step, int32_t *y, void *scratch)
{
    int32_t *sums = scratch;
    memset(sums, 0, sizeof *sums * (size_t)p->channels);
    for (int32_t pixel = 0, at = 0; pixel < p->pixels; pixel++) {
        for (int32_t c = 0; c < p->channels; c++, at++) {
            sums[c] += q[at] & -ec_mask_bit(mask, at);
        }
    }
    float power = ec_power_of_two(*e);
    ec_noise noise = ec_noise_begin(*step, p->salt, p->seed, p->nearest);
    for (int32_t c = 0; c < p->channels; c++) {
        float scale = *rate * factor[c];
        scale *= power;
        y[c] = ec_update_bias(b[c], (float)sums[c], scale, ec_noise_next(&noise));
    }
}
