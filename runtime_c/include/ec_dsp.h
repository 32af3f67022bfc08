/* Armv7E-M DSP instructions as functions on words of four int8 or two int16. Needs unaligned LDR
 * and STR.
 *
 * GCC neither merges a rotation into SXTB16 nor finds PKHBT and PKHTB, so these are inline
 * assembly; the others are ACLE intrinsics.
 */
#ifndef EC_DSP_H
#define EC_DSP_H

#include <arm_acle.h>
#include <stdint.h>
#include <string.h>

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

/* bytes 0 and 2, sign-extended to halfwords */
static inline uint32_t ec_dsp_even(uint32_t word)
{
    return (uint32_t)__sxtb16((int8x4_t)word);
}

/* bytes 1 and 3, sign-extended to halfwords */
static inline uint32_t ec_dsp_odd(uint32_t word)
{
    uint32_t halves;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(halves) : "r"(word));
    return halves;
}

/* low halves: a in the low, b in the high one */
static inline uint32_t ec_dsp_low(uint32_t a, uint32_t b)
{
    uint32_t word;
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(word) : "r"(a), "r"(b));
    return word;
}

/* high halves: of a in the low, of b in the high one */
static inline uint32_t ec_dsp_high(uint32_t a, uint32_t b)
{
    uint32_t word;
    __asm__("pkhtb %0, %2, %1, asr #16" : "=r"(word) : "r"(a), "r"(b));
    return word;
}

/* acc + a.low * b.low + a.high * b.high */
static inline int32_t ec_dsp_smlad(uint32_t a, uint32_t b, int32_t acc)
{
    return __smlad((int16x2_t)a, (int16x2_t)b, acc);
}

/* `byte` four times */
static inline uint32_t ec_dsp_splat(int32_t byte)
{
    return (uint32_t)(byte & 0xff) * 0x01010101u;
}

/* bytewise max and min of signed bytes */
static inline uint32_t ec_dsp_max(uint32_t a, uint32_t b)
{
    (void)__ssub8((int8x4_t)a, (int8x4_t)b);
    return (uint32_t)__sel((uint8x4_t)a, (uint8x4_t)b);
}

static inline uint32_t ec_dsp_min(uint32_t a, uint32_t b)
{
    (void)__ssub8((int8x4_t)a, (int8x4_t)b);
    return (uint32_t)__sel((uint8x4_t)b, (uint8x4_t)a);
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

/* halfwords of acc + bytes 0 and 2, and + bytes 1 and 3 */
static inline uint32_t ec_dsp_add_even(uint32_t acc, uint32_t word)
{
    return (uint32_t)__sxtab16((int16x2_t)acc, (int8x4_t)word);
}

static inline uint32_t ec_dsp_add_odd(uint32_t acc, uint32_t word)
{
    uint32_t sum;
    __asm__("sxtab16 %0, %1, %2, ror #8" : "=r"(sum) : "r"(acc), "r"(word));
    return sum;
}

/* add + the high word of a * b */
static inline int32_t ec_dsp_smmla(int32_t a, int32_t b, int32_t add)
{
    int32_t sum;
    __asm__("smmla %0, %1, %2, %3" : "=r"(sum) : "r"(a), "r"(b), "r"(add));
    return sum;
}

/* value clamped to int8 */
static inline int32_t ec_dsp_saturate(int32_t value)
{
    int32_t byte;
    __asm__("ssat %0, #8, %1" : "=r"(byte) : "r"(value));
    return byte;
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
