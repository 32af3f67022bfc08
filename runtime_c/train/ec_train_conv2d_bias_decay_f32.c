/* A bias after one step of training with weight decay, from a float gradient, portable C99.
 *
 *   move = db[o] * (rate * factor[o]) + (rate * decay[o]) * b[o]
 *   y[o] = saturated(b[o] + floor(u[o] - move))
 *
 * db, u, layouts, scratch and what is not finite as in ec_train_conv2d_bias_f32; decay
 * float[channels]; y may be b. Equals update_bias of edgec/ops/train_conv.py.
 */
#include "ec_gradient.h"
#include "ec_train_s8.h"

void ec_train_conv2d_bias_decay_f32(const ec_train_bias_params *p, const int32_t *b,
                                    const float *g, const uint8_t *mask, const float *factor,
                                    const float *rate, const int32_t *step, const float *decay,
                                    int32_t *y, void *scratch)
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
        float pull = *rate * decay[c];
        float scale = *rate * factor[c];
        float move = sums[c] * scale + pull * (float)b[c];
        y[c] = ec_moved_bias(b[c], ec_noise_next(&noise) - move);
    }
}
