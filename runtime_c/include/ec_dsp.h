/* Armv7E-M DSP instructions as functions on words of four int8 or two int16.
 *
 * Here alone is chosen between the instructions (ec_dsp_arm.h) and portable C99 that computes the
 * same bit for bit (ec_dsp_c.h): with that the kernels of kernels/dsp run on a PC, under sanitizers
 * too. EC_DSP_INNER(part) names the header with the inner loops of a part in the same form,
 * ec_dsp_<part>_arm.h or ec_dsp_<part>_c.h. The instructions need unaligned LDR and STR.
 */
#ifndef EC_DSP_H
#define EC_DSP_H

#include <stdint.h>
#include <string.h>

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "compile for a little-endian machine: bytes of packed constants and words lie in that order"
#endif

#define EC_DSP_TEXT(text) #text

/* Thumb alone: the inner loops are written in it. */
#if defined(__ARM_FEATURE_DSP) && __ARM_ARCH_PROFILE == 'M'
#include "ec_dsp_arm.h"
#define EC_DSP_INNER(part) EC_DSP_TEXT(ec_dsp_##part##_arm.h)
#else
#include "ec_dsp_c.h"
#define EC_DSP_INNER(part) EC_DSP_TEXT(ec_dsp_##part##_c.h)
#endif

/* Four bytes of any alignment. */
static inline uint32_t ec_dsp_load(const int8_t *x)
{
    uint32_t word;
    memcpy(&word, x, 4);
    return word;
}

static inline void ec_dsp_store(int8_t *y, uint32_t word)
{
    memcpy(y, &word, 4);
}

/* Halfword `index` of some words. */
static inline void ec_dsp_store_half(uint32_t *words, int32_t index, int32_t value)
{
    int16_t half = (int16_t)value;
    memcpy((char *)words + 2 * index, &half, 2);
}

/* Two neighbouring int16. */
static inline uint32_t ec_dsp_load_halves(const int16_t *x)
{
    uint32_t word;
    memcpy(&word, x, 4);
    return word;
}

/* Bytes of ones where the low four bits of `bits` are 1. */
static inline uint32_t ec_dsp_byte_mask(uint32_t bits)
{
    uint32_t ones = (bits & 0xfu) * 0x00204081u & 0x01010101u;
    return (ones << 8) - ones;
}

/* q[at..at + 4) with zeros where the bits of a mask are 0; `at` a multiple of 4. */
static inline uint32_t ec_dsp_masked(const int8_t *q, const uint8_t *mask, int32_t at)
{
    return ec_dsp_load(q + at) & ec_dsp_byte_mask((uint32_t)mask[at >> 3] >> (at & 7));
}

/* `byte` four times */
static inline uint32_t ec_dsp_splat(int32_t byte)
{
    return (uint32_t)(byte & 0xff) * 0x01010101u;
}

/* Up to 3 bytes, the rest 0; reads nothing beyond them. */
static inline uint32_t ec_dsp_load_part(const int8_t *x, int32_t count)
{
    uint32_t word = 0;
    for (int32_t i = 0; i < count; i++) {
        word |= (uint32_t)(uint8_t)x[i] << (8 * i);
    }
    return word;
}

/* The low `count` bytes of a word, at most 4. */
static inline void ec_dsp_store_part(int8_t *y, uint32_t word, int32_t count)
{
    if (count >= 4) {
        ec_dsp_store(y, word);
        return;
    }
    for (int32_t i = 0; i < count; i++, word >>= 8) {
        y[i] = (int8_t)word;
    }
}

/* Clamps `count` int8 in place to [low, high]; does nothing for the whole int8 range. */
static inline void ec_dsp_clamp(int8_t *y, int32_t count, int32_t low, int32_t high)
{
    if (low <= -128 && high >= 127) {
        return;
    }
    uint32_t lows = ec_dsp_splat(low);
    uint32_t highs = ec_dsp_splat(high);
    for (; count >= 4; count -= 4, y += 4) {
        ec_dsp_store(y, ec_dsp_min(ec_dsp_max(ec_dsp_load(y), lows), highs));
    }
    for (int32_t i = 0; i < count; i++) {
        y[i] = (int8_t)(y[i] < low ? low : y[i] > high ? high : y[i]);
    }
}

#endif
