/* exp and log in float, one rounding an operation in a written order, so that every device has the
 * same bits; equals edgec/ops/float_exact.py. Needs -ffp-contract=off.
 */
#ifndef EC_FLOAT_H
#define EC_FLOAT_H

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline float ec_float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t ec_bits_of_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* exp(x): x = n ln 2 + r with |r| <= ln 2 / 2, then a polynomial in r. 0 below -87, infinite above
 * 88. Relative error below 3e-7. */
static inline float ec_exp_f32(float x)
{
    if (x != x) {
        return x;
    }
    if (x < -87.0f) {
        return 0.0f;
    }
    if (x > 88.0f) {
        return INFINITY;
    }
    float n = floorf(x * 1.44269502f + 0.5f);
    float r = (x - n * 0.693359375f) - n * -0.00021219444f;
    float y = 0.00138888892f;
    y = y * r + 0.00833333377f;
    y = y * r + 0.0416666679f;
    y = y * r + 0.166666672f;
    y = y * r + 0.5f;
    y = y * r + 1.0f;
    y = y * r + 1.0f;
    return y * ec_float_of_bits((uint32_t)((int32_t)n + 127) << 23);
}

/* log(x): x = m 2^e with sqrt(1/2) <= m < sqrt(2), log m = 2 atanh((m - 1) / (m + 1)). Minus
 * infinity at 0 and for subnormal x, NaN below. Relative error below 3e-7. */
static inline float ec_log_f32(float x)
{
    if (x != x || x == INFINITY) {
        return x;
    }
    if (x < 0.0f) {
        return NAN;
    }
    uint32_t bits = ec_bits_of_float(x);
    if (bits < UINT32_C(0x00800000)) {
        return -INFINITY;
    }
    int32_t e = (int32_t)(bits >> 23) - 126;
    float m = ec_float_of_bits((bits & UINT32_C(0x007fffff)) | UINT32_C(0x3f000000));
    if (m < 0.707106769f) {
        m = m + m;
        e--;
    }
    float s = (m - 1.0f) / (m + 1.0f);
    float z = s * s;
    float y = 0.0909090936f;
    y = y * z + 0.111111112f;
    y = y * z + 0.142857149f;
    y = y * z + 0.2f;
    y = y * z + 0.333333343f;
    y = y * z + 1.0f;
    y = (s + s) * y;
    return (float)e * 0.693359375f + ((float)e * -0.00021219444f + y);
}

#endif
