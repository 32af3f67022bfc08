/* A bias gradient added to a sum, from a gradient that is a pair, portable C99.
 *
 *   y[o] = keep * sum[o] + db[o] * (share * factor[o] * 2^e)
 *
 * With `decays` y is decay[o] * b[o] more. Float arithmetic: one rounding an operation. Elements
 * that would not be finite stay; with share 0 all do. db, layouts and scratch as in
 * ec_train_conv2d_bias_pair; sum, decay, y float[channels]; what is not there is not read; y may
 * be sum. Equals sum_bias of edgec/ops/train_sums.py.
 */
#include "ec_gradient.h"
#include "ec_train_s8.h"

void ec_sum_conv2d_bias_pair(const ec_train_bias_params *p, const float *sum, const int8_t *q,
                             const int32_t *e, const uint8_t *mask, const float *factor,
                             const float *share, const int32_t *b, const float *decay, float *y,
                             void *scratch)
{
    int32_t *sums = scratch;
    memset(sums, 0, sizeof *sums * (size_t)p->channels);
    for (int32_t pixel = 0, at = 0; pixel < p->pixels; pixel++) {
        for (int32_t c = 0; c < p->channels; c++, at++) {
            sums[c] += q[at] & -ec_mask_bit(mask, at);
        }
    }
    float power = ec_power_of_two(*e);
    for (int32_t c = 0; c < p->channels; c++) {
        float scale = *share * factor[c];
        scale *= power;
        float made = p->keep * sum[c] + (float)sums[c] * scale;
        if (p->decays != 0) {
            made += decay[c] * (float)b[c];
        }
        y[c] = *share != 0.0f ? ec_finite_or(made, sum[c]) : sum[c];
    }
}
