/* Depthwise windows with MVE: sums over taps of eight channels at a time, requantised or scaled.
 *
 * Values are int16, products int32: VMULLB takes the even channels, VMULLT the odd ones, so that
 * the constants of eight channels stand in that order, 0 2 4 6 1 3 5 7. Where the channels are no
 * multiple of 8 the last eight are computed twice.
 */
#ifndef EC_MVE_WINDOW_H
#define EC_MVE_WINDOW_H

#include "ec_conv.h"
#include "ec_mve.h"
#include "ec_requant.h"

#define EC_MVE_EIGHT 8

/* Taps of one window: rows[0..count) are the bytes from x to the first of each row. `step`: bytes
 * of x from tap to tap; w_step, w_row: weights from tap to tap and from row to row. */
typedef struct ec_mve_window {
    const int32_t *rows;
    int32_t count;
    int32_t taps; /* of a row */
    int32_t step;
    int32_t w_step;
    int32_t w_row;
} ec_mve_window;

/* What eight output channels are requantised with. */
typedef struct ec_mve_eight {
    int32_t bias[8];
    int32_t multiplier[8];
    int32_t down[8]; /* 32 - shift, as VRSHL takes it */
    int32_t zero_out;
    int32_t act_min;
    int32_t act_max;
    int32_t plain; /* 1: all shifts are above 32 */
} ec_mve_eight;

/* Where the constants of channel k of eight stand. */
static inline int32_t ec_mve_place(int32_t k)
{
    return (k & 1) * 4 + (k >> 1);
}

/* The first channel of the eight that begin at `c`, or as many before as make them eight. */
static inline int32_t ec_mve_eight_from(int32_t c, int32_t channels)
{
    return c + EC_MVE_EIGHT <= channels ? c : channels - EC_MVE_EIGHT;
}

/* The constants of the channels from the first of bias on. */
static inline void ec_mve_eight_next(ec_mve_eight *to, const int32_t *bias,
                                     const int32_t *multiplier, const uint8_t *shift)
{
    to->plain = 1;
    for (int32_t k = 0; k < EC_MVE_EIGHT; k++) {
        int32_t at = ec_mve_place(k);
        to->bias[at] = bias[k];
        to->multiplier[at] = multiplier[k];
        to->down[at] = 32 - shift[k];
        to->plain &= shift[k] > 32;
    }
}

/* Requantises acc[8], in the order of the constants, to y; gives the bits of those that the clamp
 * left as they were. */
EC_MVE_APART uint32_t ec_mve_eight_any(const ec_mve_eight *to, const int32_t *acc, int8_t *y)
{
    uint32_t inside = 0;
    for (int32_t k = 0; k < EC_MVE_EIGHT; k++) {
        int32_t at = ec_mve_place(k);
        int64_t sum = (int64_t)acc[at] + to->bias[at];
        sum = sum < INT32_MIN ? INT32_MIN : sum > INT32_MAX ? INT32_MAX : sum;
        int32_t value =
            ec_requantize((int32_t)sum, to->multiplier[at], 32 - to->down[at]) + to->zero_out;
        int32_t clamped = ec_clamp(value, to->act_min, to->act_max);
        y[k] = (int8_t)clamped;
        inside |= (uint32_t)(clamped == value) << k;
    }
    return inside;
}

/* ec_mve_widen: `count` pixels of eight channels that stand `step` bytes apart, less `zero`.
 * ec_mve_window_put: y of eight channels from rows of int16[8] that stand rows[0..count) elements
 * from x, and weights int8[count][taps][8]; gives the bits of those that the clamp left as they
 * were. ec_mve_window_scaled: acc of eight channels, sums of bytes times eff. */
#include EC_MVE_INNER(window)

#endif
