/* What the backward kernels share with MVE: masked gradients, columns of a matrix packed for
 * products along its rows, and rounding in block floating point.
 */
#ifndef EC_MVE_GRAD_H
#define EC_MVE_GRAD_H

#include "ec_gradient.h"
#include "ec_mve.h"
#include "ec_mve_kernels.h"

/* Bits [at, at + count) of a mask, at most 16; reads no byte beyond the last of them. */
static inline uint32_t ec_mve_bits(const uint8_t *mask, int32_t at, int32_t count)
{
    const uint8_t *byte = mask + (at >> 3);
    int32_t low = at & 7;
    if (low == 0 && count >= 16) {
        uint16_t both;
        memcpy(&both, byte, 2);
        return both;
    }
    uint32_t bits = byte[0];
    if (low + count > 8) {
        bits |= (uint32_t)byte[1] << 8;
    }
    if (low + count > 16) {
        bits |= (uint32_t)byte[2] << 16;
    }
    return bits >> low & ((1u << count) - 1u);
}

/* ec_mve_masked: q[at..at + count) with zeros where the bits of its mask are 0, and up to a
 * multiple of 16. ec_mve_scaled: likewise as int16 times eff, in vectors of 8 that stand `step`
 * elements apart. ec_mve_column: every `step`-th byte of `from` in pieces of 8 that stand `apart`
 * bytes apart, with zeros up to a multiple of 8; step at most EC_MVE_MOST_STEP. ec_mve_sum: of
 * bytes. ec_mve_bias_sums: of `count` channels, at most 16, from c on, over all pixels where the
 * mask is 1. ec_mve_put: as ec_block_float_put. */
#define EC_MVE_MOST_STEP 9000 /* 7 * step is an uint16 */
#include EC_MVE_INNER(grad)

#endif
