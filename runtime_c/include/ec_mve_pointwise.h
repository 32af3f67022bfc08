/* Products of pixels with four rows of int8 weights at a time, requantised, with MVE.
 *
 * A panel holds four rows in chunks of 16 columns: int8[ceil(C / 16)][4][16], zeros beyond the
 * last. The zero point of x leaves through `start`, which the sums begin with.
 */
#ifndef EC_MVE_POINTWISE_H
#define EC_MVE_POINTWISE_H

#include "ec_mve.h"
#include "ec_requant.h"

#define EC_MVE_ROWS 4

/* What four output channels are requantised with, of which `count` exist. */
typedef struct ec_mve_four {
    int32_t start[4]; /* -zero_in * sum of the row's weights */
    int32_t bias[4];
    int32_t multiplier[4];
    int32_t shift[4];
    int32_t down[4]; /* 32 - shift, as VRSHL takes it */
    int32_t zero_out;
    int32_t act_min;
    int32_t act_max;
    int32_t count;
    int32_t plain; /* 1: four channels with shifts above 32 */
} ec_mve_four;

/* Pixels that stand `step` bytes apart; what they give goes to y and its mask (or NULL) from
 * element `at` on, `y_step` elements apart. */
typedef struct ec_mve_run {
    const int8_t *x;
    int32_t step;
    int32_t inputs;
    int32_t pixels;
    int8_t *y;
    uint8_t *mask;
    int32_t at;
    int32_t y_step;
} ec_mve_run;

/* Bytes of a panel. */
static inline int32_t ec_mve_panel_bytes(int32_t inputs)
{
    return EC_MVE_ROWS * ec_mve_whole(inputs, EC_MVE_BYTES);
}

/* Sets bits of the mask, 0 until then, from element `at` on; at most 8. */
static inline void ec_mve_mark(uint8_t *mask, int32_t at, uint32_t inside)
{
    uint8_t *byte = mask + (at >> 3);
    inside <<= at & 7;
    byte[0] = (uint8_t)(byte[0] | inside);
    if (inside > 0xffu) {
        byte[1] = (uint8_t)(byte[1] | inside >> 8);
    }
}

/* Requantises four sums to y[at..at + count), any count and shift. */
EC_MVE_APART void ec_mve_put_any(const ec_mve_four *to, const int32_t *acc, int8_t *y,
                                 uint8_t *mask, int32_t at)
{
    uint32_t inside = 0;
    for (int32_t k = 0; k < to->count; k++) {
        int64_t sum = (int64_t)acc[k] + to->bias[k];
        sum = sum < INT32_MIN ? INT32_MIN : sum > INT32_MAX ? INT32_MAX : sum;
        int32_t value =
            ec_requantize((int32_t)sum, to->multiplier[k], to->shift[k]) + to->zero_out;
        int32_t clamped = ec_clamp(value, to->act_min, to->act_max);
        y[at + k] = (int8_t)clamped;
        inside |= (uint32_t)(clamped == value) << k;
    }
    if (mask != NULL) {
        ec_mve_mark(mask, at, inside);
    }
}

/* ec_mve_pixels: y and mask of all pixels of a run. ec_mve_add_rows: adds the sums of one pixel
 * with four rows, and `start` to each. ec_mve_copy_row: a row of weights into its place in a panel,
 * with zeros up to a whole chunk. ec_mve_sum_rows: sums of the four rows. ec_mve_copy,
 * ec_mve_fill: bytes. */
#include EC_MVE_INNER(pointwise)

/* The constants of the channels from the first of bias on, `left` of them at most. */
static inline void ec_mve_four_next(ec_mve_four *to, const int32_t *bias,
                                    const int32_t *multiplier, const uint8_t *shift, int32_t left)
{
    to->count = left < EC_MVE_ROWS ? left : EC_MVE_ROWS;
    to->plain = left >= EC_MVE_ROWS;
    for (int32_t k = 0; k < to->count; k++) {
        to->bias[k] = bias[k];
        to->multiplier[k] = multiplier[k];
        to->shift[k] = shift[k];
        to->down[k] = 32 - shift[k];
        to->plain &= shift[k] > 32;
    }
}

#endif
