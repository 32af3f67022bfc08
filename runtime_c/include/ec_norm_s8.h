/* The integer arithmetic of the normalisations. Equals edgec/fixedpoint.py (reciprocal_sqrt) and
 * edgec/ops/norm_integer.py bit for bit; the formula and the ranges stand there.
 */
#ifndef EC_NORM_S8_H
#define EC_NORM_S8_H

#include "ec_requant.h"

#define EC_NORM_FRACTION_BITS 16

/* floor(sqrt(v)), v < 2^62 */
static inline uint32_t ec_integer_sqrt(uint64_t v)
{
    uint64_t root = 0;
    for (uint64_t bit = (uint64_t)1 << 60; bit != 0; bit >>= 2) {
        if (v >= root + bit) {
            v -= root + bit;
            root = (root >> 1) + bit;
        } else {
            root >>= 1;
        }
    }
    return (uint32_t)root;
}

/* What all elements of a row are multiplied with: t = (d * reciprocal + 2^(shift - 1)) >> shift. */
typedef struct ec_norm_scale {
    int32_t reciprocal;
    int32_t shift;
} ec_norm_scale;

/* From n^2 times the variance; a sum of 0 makes every t 0. */
static inline ec_norm_scale ec_norm_scale_of(int64_t variance, int32_t fraction, int32_t eps_high,
                                             int32_t eps_low)
{
    uint64_t eps = ((uint64_t)(uint32_t)eps_high << 32) | (uint32_t)eps_low;
    uint64_t v = ((uint64_t)variance << fraction) + eps;
    ec_norm_scale scale = {0, 60 - EC_NORM_FRACTION_BITS - fraction / 2};
    if (v == 0) {
        return scale;
    }
    while (v < (uint64_t)1 << 60) {
        v <<= 2;
        scale.shift--;
    }
    scale.reciprocal = (int32_t)(((uint64_t)1 << 60) / ec_integer_sqrt(v));
    return scale;
}

/* clamp(zero + t * gain + bias), t from the n-fold deviation d */
static inline int8_t ec_norm_output(int32_t d, ec_norm_scale scale, int32_t gain, int32_t bias,
                                    int32_t shift, int32_t zero)
{
    int64_t product = (int64_t)d * scale.reciprocal;
    int32_t t = (int32_t)((product + ((int64_t)1 << (scale.shift - 1))) >> scale.shift);
    int64_t acc = (int64_t)t * gain + bias * ((int64_t)1 << EC_NORM_FRACTION_BITS);
    int32_t down = EC_NORM_FRACTION_BITS + shift;
    int64_t y = zero + ((acc + ((int64_t)1 << (down - 1))) >> down);
    if (y < -128) {
        return -128;
    }
    return y > 127 ? 127 : (int8_t)y;
}

#endif
