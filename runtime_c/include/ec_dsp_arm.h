/* The functions of ec_dsp_c.h as the instructions themselves; only ec_dsp.h includes this.
 *
 * GCC neither merges a rotation into SXTB16 nor finds PKHBT and PKHTB, so these are inline
 * assembly; the others are ACLE intrinsics.
 */
#ifndef EC_DSP_ARM_H
#define EC_DSP_ARM_H

#include <arm_acle.h>
#include <stdint.h>

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

/* acc + a.low * b.high, and + a.high * b.low */
static inline int32_t ec_dsp_smlabt(uint32_t a, uint32_t b, int32_t acc)
{
    return __smlabt((int32_t)a, (int32_t)b, acc);
}

static inline int32_t ec_dsp_smlatb(uint32_t a, uint32_t b, int32_t acc)
{
    return __smlatb((int32_t)a, (int32_t)b, acc);
}

/* acc + a.low * b.low, and + a.high * b.high */
static inline int32_t ec_dsp_smlabb(uint32_t a, uint32_t b, int32_t acc)
{
    return __smlabb((int32_t)a, (int32_t)b, acc);
}

static inline int32_t ec_dsp_smlatt(uint32_t a, uint32_t b, int32_t acc)
{
    return __smlatt((int32_t)a, (int32_t)b, acc);
}

/* a + b, saturated to int32 */
static inline int32_t ec_dsp_qadd(int32_t a, int32_t b)
{
    return __qadd(a, b);
}

/* A pointer of 32 bits in a scratch buffer. `to` lies in the same object as `base`, or is NULL. */
typedef const void *ec_dsp_link;

static inline ec_dsp_link ec_dsp_link_to(const void *base, const void *to)
{
    (void)base;
    return to;
}

static inline const void *ec_dsp_follow(const void *base, ec_dsp_link link)
{
    (void)base;
    return link;
}

#endif
