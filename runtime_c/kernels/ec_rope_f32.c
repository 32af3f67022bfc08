/* rope: rotary position embedding, float, portable C99.
 *
 *   (a, b) -> (a cos t - b sin t, b cos t + a sin t) scale,  t = position[token] * frequency[r]
 *
 * Layouts in ec_decoder.h; channels beyond 2 * pairs are copied. y may be x. No scratch. Equals
 * rope of edgec/ops/rope.py within float rounding.
 */
#include <string.h>

#include "ec_decoder.h"
#include "ec_rotate_f32.h"

void ec_rope_f32(const ec_rope_f32_params *p, const float *x, const int32_t *position,
                 const float *frequency, float *y)
{
    if (y != x) {
        memcpy(y, x,
               sizeof(float) * (size_t)p->batch * (size_t)p->first * (size_t)p->second *
                   (size_t)p->depth);
    }
    for (int32_t b = 0; b < p->batch; b++) {
        const int32_t *at = position + b * p->position_batch;
        for (int32_t i = 0; i < p->first; i++) {
            for (int32_t j = 0; j < p->second; j++) {
                float place = (float)at[p->tokens_second ? j : i];
                ec_rotate_f32(y, place, frequency, p->pairs, p->interleaved, p->scale, y);
                y += p->depth;
            }
        }
    }
}
