/* A float gradient as a pair of int8 and exponent, portable C99.
 *
 *   q[i] = floor(g[i] * 2^-e + 1/2)        with the smallest e that keeps |q| <= 127
 *
 * g float[size], q int8[size], exponent int32[1]. Where the largest |g| is below 2^-90, above 2^90
 * or not finite, q and e are 0. The scaling is exact, the sum is one rounding. No scratch. Equals
 * quantize of edgec/ops/gradient.py.
 */
#include <string.h>

#include "ec_gradient.h"
#include "ec_train_s8.h"

void ec_gradient_quantize_f32(const ec_gradient_quantize_params *p, const float *g, int8_t *q,
                              int32_t *exponent)
{
    float limit = ec_power_of_two(90);
    float largest = 0.0f;
    int32_t finite = 1;
    for (int32_t i = 0; i < p->size; i++) {
        float size = g[i] < 0.0f ? -g[i] : g[i];
        finite &= size <= limit; /* not so for NaN */
        largest = size > largest ? size : largest;
    }
    *exponent = 0;
    if (finite == 0 || largest < ec_power_of_two(-90)) {
        memset(q, 0, (size_t)p->size);
        return;
    }
    uint32_t bits;
    memcpy(&bits, &largest, sizeof bits);
    int32_t e = (int32_t)(bits >> 23) - 126 - 7;
    if (ec_floor(largest * ec_power_of_two(-e) + 0.5f) > 127) {
        e++;
    }
    float scale = ec_power_of_two(-e);
    for (int32_t i = 0; i < p->size; i++) {
        q[i] = (int8_t)ec_floor(g[i] * scale + 0.5f);
    }
    *exponent = e;
}
