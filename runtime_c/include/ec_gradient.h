/* What the kernels of int8 training share: bits of masks, floats in steps. Equals
 * edgec/ops/block_float.py bit for bit.
 *
 * Float arithmetic is one rounding an operation in the written order: compile with
 * -ffp-contract=off.
 */
#ifndef EC_GRADIENT_H
#define EC_GRADIENT_H

#include <stdint.h>
#include <string.h>

/* Bit `index` of a mask, 0 or 1. */
static inline int32_t ec_mask_bit(const uint8_t *mask, int32_t index)
{
    return mask[index >> 3] >> (index & 7) & 1;
}

/* floor(value) for |value| < 2^31. */
static inline int32_t ec_floor(float value)
{
    int32_t whole = (int32_t)value;
    return (float)whole > value ? whole - 1 : whole;
}

/* 2^exponent, the exponent brought into [-126, 127]. */
static inline float ec_power_of_two(int32_t exponent)
{
    int32_t e = exponent < -126 ? -126 : exponent > 127 ? 127 : exponent;
    uint32_t bits = (uint32_t)(e + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return power;
}

#endif
