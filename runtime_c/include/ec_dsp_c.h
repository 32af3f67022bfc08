/* The Armv7E-M DSP instructions in portable C99, bit for bit (Arm DDI 0403E, A7.7), for machines
 * without them; only ec_dsp.h includes this.
 *
 * The condition flags Q and GE are not kept. Conversions to a narrower signed type wrap and right
 * shifts of negative numbers are arithmetic, as on every compiler that builds this code.
 */
#ifndef EC_DSP_C_H
#define EC_DSP_C_H

#include <stddef.h>
#include <stdint.h>

/* SXTB16: bytes 0 and 2, sign-extended to halfwords */
static inline uint32_t ec_dsp_even(uint32_t word)
{
    uint32_t low = (uint32_t)(int8_t)(word & 0xffu);
    uint32_t high = (uint32_t)(int8_t)(word >> 16 & 0xffu);
    return (low & 0xffffu) | high << 16;
}

/* SXTB16 of the word rotated by 8: bytes 1 and 3 */
static inline uint32_t ec_dsp_odd(uint32_t word)
{
    return ec_dsp_even(word >> 8);
}

/* PKHBT: low halves, a in the low, b in the high one */
static inline uint32_t ec_dsp_low(uint32_t a, uint32_t b)
{
    return (a & 0xffffu) | b << 16;
}

/* PKHTB: high halves, of a in the low, of b in the high one */
static inline uint32_t ec_dsp_high(uint32_t a, uint32_t b)
{
    return a >> 16 | (b & 0xffff0000u);
}

/* The product of two int16, which int32 holds, as the summand of a sum modulo 2^32. */
static inline uint32_t ec_dsp_product(uint32_t a, uint32_t b)
{
    return (uint32_t)((int32_t)(int16_t)(a & 0xffffu) * (int32_t)(int16_t)(b & 0xffffu));
}

/* SMLAD: acc + a.low * b.low + a.high * b.high modulo 2^32 */
static inline int32_t ec_dsp_smlad(uint32_t a, uint32_t b, int32_t acc)
{
    uint32_t sum = ec_dsp_product(a, b) + ec_dsp_product(a >> 16, b >> 16);
    return (int32_t)((uint32_t)acc + sum);
}

/* SMLABT and SMLATB: acc + a.low * b.high, and + a.high * b.low, modulo 2^32 */
static inline int32_t ec_dsp_smlabt(uint32_t a, uint32_t b, int32_t acc)
{
    return (int32_t)((uint32_t)acc + ec_dsp_product(a, b >> 16));
}

static inline int32_t ec_dsp_smlatb(uint32_t a, uint32_t b, int32_t acc)
{
    return (int32_t)((uint32_t)acc + ec_dsp_product(a >> 16, b));
}

/* SMLABB and SMLATT: acc + a.low * b.low, and + a.high * b.high, modulo 2^32 */
static inline int32_t ec_dsp_smlabb(uint32_t a, uint32_t b, int32_t acc)
{
    return (int32_t)((uint32_t)acc + ec_dsp_product(a, b));
}

static inline int32_t ec_dsp_smlatt(uint32_t a, uint32_t b, int32_t acc)
{
    return (int32_t)((uint32_t)acc + ec_dsp_product(a >> 16, b >> 16));
}

/* QADD: a + b, saturated to int32 */
static inline int32_t ec_dsp_qadd(int32_t a, int32_t b)
{
    int64_t sum = (int64_t)a + b;
    return sum < INT32_MIN ? INT32_MIN : sum > INT32_MAX ? INT32_MAX : (int32_t)sum;
}

/* SSUB8, then SEL by its GE flags: for each byte that of `greater` where the signed byte of a is at
 * least that of b, else that of `less` */
static inline uint32_t ec_dsp_select(uint32_t a, uint32_t b, uint32_t greater, uint32_t less)
{
    uint32_t word = 0;
    for (int32_t at = 0; at < 32; at += 8) {
        int32_t difference = (int8_t)(a >> at & 0xffu) - (int8_t)(b >> at & 0xffu);
        word |= (difference >= 0 ? greater : less) & (uint32_t)0xff << at;
    }
    return word;
}

/* bytewise max and min of signed bytes */
static inline uint32_t ec_dsp_max(uint32_t a, uint32_t b)
{
    return ec_dsp_select(a, b, a, b);
}

static inline uint32_t ec_dsp_min(uint32_t a, uint32_t b)
{
    return ec_dsp_select(a, b, b, a);
}

/* SXTAB16: halfwords of acc + bytes 0 and 2, and + bytes 1 and 3, each modulo 2^16 */
static inline uint32_t ec_dsp_add_even(uint32_t acc, uint32_t word)
{
    uint32_t halves = ec_dsp_even(word);
    return ((acc + halves) & 0xffffu) | ((acc >> 16) + (halves >> 16)) << 16;
}

static inline uint32_t ec_dsp_add_odd(uint32_t acc, uint32_t word)
{
    return ec_dsp_add_even(acc, word >> 8);
}

/* SMMLA: add + the high word of a * b, modulo 2^32 */
static inline int32_t ec_dsp_smmla(int32_t a, int32_t b, int32_t add)
{
    uint32_t high = (uint32_t)((uint64_t)((int64_t)a * b) >> 32);
    return (int32_t)((uint32_t)add + high);
}

/* SSAT #8: value clamped to int8 */
static inline int32_t ec_dsp_saturate(int32_t value)
{
    return value < -128 ? -128 : value > 127 ? 127 : value;
}

/* A pointer of 32 bits in a scratch buffer, as the distance from `base`: pointers of a PC are
 * wider. `to` lies in the same object as `base`, or is NULL. */
typedef int32_t ec_dsp_link;

static inline ec_dsp_link ec_dsp_link_to(const void *base, const void *to)
{
    return to == NULL ? INT32_MIN : (ec_dsp_link)((const char *)to - (const char *)base);
}

static inline const void *ec_dsp_follow(const void *base, ec_dsp_link link)
{
    return link == INT32_MIN ? NULL : (const char *)base + link;
}

#endif
