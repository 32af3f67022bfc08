/* A bias after one step of training with weight decay, from a gradient that is a pair, portable
 * C99.
 *
 *   move = db[o] * (rate * factor[o] * 2^e) + (rate * decay[o]) * b[o]
 *   y[o] = saturated(b[o] + floor(u[o] - move))
 *
 * db, u, layouts, scratch and what is not finite as in ec_train_conv2d_bias_pair; decay
 * float[channels]; y may be b. Equals update_bias of edgec/ops/train_conv.py.
 */
#include "ec_gradient.h"
#include "ec_train_s8.h"

void ec_train_conv2d_bias_decay_pair(const ec_train_bias_params *p, const int32_t *b,
                                     const int8_t *q, const int32_t *e, const uint8_t *mask,
                                     const float *factor, const float *rate, const int32_t *step,
                                     const float *decay, int32_t *y, void *scratch)
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
        float pull = *rate * decay[c];
        float scale = *rate * factor[c];
        scale *= power;
        float move = (float)sums[c] * scale + pull * (float)b[c];
        y[c] = ec_moved_bias(b[c], ec_noise_next(&noise) - move);
    }
}
