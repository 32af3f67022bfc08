/* Requantisation: how an int32 accumulator becomes an int8. Equals edgec/fixedpoint.py bit for bit.
 *
 *   ec_requantize(a, m, s) = floor((a * m + 2^(s - 1)) / 2^s)        with 64-bit a * m
 *
 * One rounding, ties toward +infinity, on every target. |m| is in [2^30, 2^31) or 0 (below 0 where
 * a slope is), s in [1, 62].
 * Right shifts of negative numbers are arithmetic, as on every compiler that builds this code.
 */
#ifndef EC_REQUANT_H
#define EC_REQUANT_H

#include <stdint.h>

/* Results of ec_requantize saturate here: beyond every int8 clamp, and room to add a zero point. */
#define EC_REQUANT_LIMIT 0x3fffffff

static inline int32_t ec_clamp(int32_t value, int32_t low, int32_t high)
{
    if (value < low) {
        return low;
    }
    return value > high ? high : value;
}

/* floor(acc * m / 2^32) for |m| < 2^31. */
#if defined(__ARM_ARCH_6M__)
/* Armv6-M multiplies to 32 bits: four products of halves, none of which nor their sums overflow,
 * in place of a library call for 64 x 64 bits. */
static inline int32_t ec_multiply_high(int32_t acc, int32_t m)
{
    int32_t acc_high = acc >> 16;
    uint32_t acc_low = (uint32_t)acc & 0xffffu;
    int32_t m_high = m >> 16;
    uint32_t m_low = (uint32_t)m & 0xffffu;
    int32_t middle = acc_high * (int32_t)m_low + (int32_t)(acc_low * m_low >> 16);
    int32_t low = (int32_t)acc_low * m_high + (middle & 0xffff);
    return acc_high * m_high + (middle >> 16) + (low >> 16);
}
#else
static inline int32_t ec_multiply_high(int32_t acc, int32_t m)
{
    return (int32_t)((int64_t)acc * m >> 32);
}
#endif

/* Returns floor((acc * m + 2^(shift - 1)) / 2^shift), saturated to +-EC_REQUANT_LIMIT. */
static inline int32_t ec_requantize(int32_t acc, int32_t m, int32_t shift)
{
    if (shift > 32) {
        /* 2^(shift - 1) is a multiple of 2^32, so the low word cannot change the result. */
        int32_t high = ec_multiply_high(acc, m);
        return (high + ((int32_t)1 << (shift - 33))) >> (shift - 32);
    }
    int64_t product = ((int64_t)acc * m + ((int64_t)1 << (shift - 1))) >> shift;
    if (product > EC_REQUANT_LIMIT) {
        return EC_REQUANT_LIMIT;
    }
    return product < -EC_REQUANT_LIMIT ? -EC_REQUANT_LIMIT : (int32_t)product;
}

/* int8 output of an accumulator: clamp(zero + requantize(acc, m, shift), low, high). */
static inline int8_t ec_requantize_s8(int32_t acc, int32_t m, int32_t shift, int32_t zero,
                                      int32_t low, int32_t high)
{
    return (int8_t)ec_clamp(ec_requantize(acc, m, shift) + zero, low, high);
}

/* floor(sum / divisor + 1/2) for divisor > 0; 2 * sum + divisor must fit int32. */
static inline int32_t ec_divide_round(int32_t sum, int32_t divisor)
{
    int32_t twice = 2 * sum + divisor;
    int32_t by = 2 * divisor;
    return twice >= 0 ? twice / by : -((by - 1 - twice) / by);
}

/* Where row `row` of a map stands in a buffer that holds `ring` of its rows. A whole map has ring
 * equal to its height, so that no division is made. */
static inline int32_t ec_ring_row(int32_t row, int32_t ring)
{
    return row < ring ? row : row % ring;
}

#endif
