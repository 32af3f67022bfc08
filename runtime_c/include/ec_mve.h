/* Helium (MVE, Armv8.1-M) kernels: what all of them share.
 *
 * Here alone is chosen between the instructions and portable C99 that computes the same bit for
 * bit: EC_MVE_INNER(part) names the header with the inner loops of a part, ec_mve_<part>_arm.h or
 * ec_mve_<part>_c.h. With the latter the kernels of the mve folders run on a PC, under sanitizers
 * too. Files of those folders are the only ones that are compiled with MVE: the compiler must not
 * vectorise others.
 * MVE asks of a load or store that its address is a multiple of its elements' size in memory.
 */
#ifndef EC_MVE_H
#define EC_MVE_H

#include <stdint.h>
#include <string.h>

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "compile for a little-endian machine: bytes of packed weights lie in that order"
#endif

#define EC_MVE_TEXT(text) #text

#if defined(__ARM_FEATURE_MVE) && __ARM_FEATURE_MVE == 3
#include <arm_mve.h>
#define EC_MVE_INNER(part) EC_MVE_TEXT(ec_mve_##part##_arm.h)
#elif defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M'
#error "compile this file with MVE and its floating point (-mcpu=cortex-m55)"
#else
#define EC_MVE_INNER(part) EC_MVE_TEXT(ec_mve_##part##_c.h)
#endif

#define EC_MVE_BYTES 16 /* of a vector */

/* Out of line, so that the loops round it keep their registers. */
#define EC_MVE_APART static __attribute__((noinline, unused))

/* A length brought to a multiple of `of`, a power of two. */
static inline int32_t ec_mve_whole(int32_t length, int32_t of)
{
    return (length + of - 1) & -of;
}

#endif
