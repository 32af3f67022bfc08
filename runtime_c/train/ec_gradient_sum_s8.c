/* Sum of one or two scaled and masked gradients, pairs of int8 and exponent, portable C99.
 *
 *   acc[i]     = sum_t moved(mask_t[i] * q_t[i] * mantissa_t, e_t + exponent_t - common)
 *   common     = max_t (e_t + exponent_t) - 8
 *   moved(v,k) = v << k for k >= 0, else (v + 2^(-k-1)) >> -k, 0 for k < -30
 *
 * rounded in block floating point (ec_gradient.h), a pixel being the last axis. |mantissa| <= 2^14,
 * so that |acc| < 2^30. q may be q0. No alignment asked of bytes.
 * scratch: 4 * channels bytes, aligned to 4. Equals add of edgec/ops/gradient.py.
 */
#include "ec_gradient.h"
#include "ec_train_s8.h"

/* value * 2^up, rounded half up. */
static inline int32_t ec_gradient_sum_moved(int32_t value, int32_t up)
{
    if (up >= 0) {
        return value * (1 << up);
    }
    return up < -30 ? 0 : (value + (1 << (-up - 1))) >> -up;
}

void ec_gradient_sum_s8(const ec_gradient_sum_params *p, const int8_t *q0, const int32_t *e0,
                        const int8_t *q1, const int32_t *e1, const uint8_t *mask0,
                        const uint8_t *mask1, int8_t *q, int32_t *exponent, void *scratch)
{
    int32_t *acc = scratch;
    int32_t first = *e0 + p->exponent_0;
    int32_t second = p->terms == 2 ? *e1 + p->exponent_1 : first;
    int32_t common = (first > second ? first : second) - 8;
    ec_block_float to = {q, q, 0};
    for (int32_t pixel = 0, at = 0; pixel < p->pixels; pixel++) {
        for (int32_t c = 0; c < p->channels; c++, at++) {
            int32_t sum = 0;
            if (p->masked_0 == 0 || ec_mask_bit(mask0, at) != 0) {
                sum = ec_gradient_sum_moved(q0[at] * p->mantissa_0, first - common);
            }
            if (p->terms == 2 && (p->masked_1 == 0 || ec_mask_bit(mask1, at) != 0)) {
                sum += ec_gradient_sum_moved(q1[at] * p->mantissa_1, second - common);
            }
            acc[c] = sum;
        }
        ec_block_float_put(&to, acc, p->channels);
    }
    *exponent = common + to.shift;
}
