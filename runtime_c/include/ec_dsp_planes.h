/* Planes of int16 for depthwise kernels: up to four channels of NHWC rows, each channel by itself,
 * padding filled in.
 *
 * A plane holds column pairs (2j, 2j + 1) of the padded row, counted from -pad_left, one word a
 * pair; the words of one row are EC_DSP_PLANE_STEP apart, so that several rows can interleave. A
 * kernel defines the step (1 or 3 words) before it includes this header.
 */
#ifndef EC_DSP_PLANES_H
#define EC_DSP_PLANES_H

#include "ec_conv.h"
#include "ec_dsp.h"

/* Where the planes stand and which of their pairs a row of the map fills: `skip` pairs of padding,
 * then one pair of padding and column 0 if `lead`, whole pairs (`count` with the lead), one of a
 * column and padding if `trail`; all others are padding. The assembly reads at the offsets written
 * here. */
typedef struct ec_dsp_planes {
    uint32_t *first;
    int32_t words; /* from one channel to the next */
    int32_t pairs;
    int32_t skip;
    int32_t bytes;    /* 16: words in bytes */
    uint32_t outside; /* 20: zero_in four times */
    int32_t count;    /* 24 */
    int32_t lead;     /* 28 */
    int32_t trail;    /* 32 */
} ec_dsp_planes;

#include EC_DSP_INNER(planes)

/* Padding into pairs from..to - 1 of the row at word `row`. */
static inline void ec_dsp_planes_pad(const ec_dsp_planes *planes, uint32_t *row, int32_t from,
                                     int32_t to)
{
    if (from >= to) {
        return;
    }
    uint32_t pair = ec_dsp_even(planes->outside);
    for (int32_t c = 0; c < 4; c++, row += planes->words) {
        for (int32_t j = from; j < to; j++) {
            row[EC_DSP_PLANE_STEP * j] = pair;
        }
    }
}

/* Lays out planes of `slots` rows at `first`, `pairs` column pairs each, and fills what is padding
 * in every row; `slot` words from one row to the next. */
static inline void ec_dsp_planes_begin(const ec_conv2d_params *p, ec_dsp_planes *planes,
                                       uint32_t *first, int32_t pairs, int32_t slots, int32_t slot)
{
    int32_t columns = 2 * pairs - p->pad_left; /* of the map that lie in the planes */
    columns = columns > p->in_w ? p->in_w : columns < 0 ? 0 : columns;
    int32_t lead = columns > 0 ? p->pad_left & 1 : 0;
    int32_t whole = (columns - lead) >> 1;
    *planes = (ec_dsp_planes){first,
                              slots * pairs,
                              pairs,
                              p->pad_left >> 1,
                              4 * slots * pairs,
                              ec_dsp_splat(p->zero_in),
                              lead + whole,
                              lead,
                              (columns - lead) & 1};
    int32_t skip = planes->skip < pairs ? planes->skip : pairs;
    for (int32_t i = 0; i < slots; i++, first += slot) {
        ec_dsp_planes_pad(planes, first, 0, skip);
        ec_dsp_planes_pad(planes, first, skip + planes->count + planes->trail, pairs);
    }
}

/* Column `column` of up to three channels, or padding. */
static inline uint32_t ec_dsp_planes_column(const ec_conv2d_params *p, const ec_dsp_planes *planes,
                                            const int8_t *row, int32_t column, int32_t channels)
{
    if (column < 0 || column >= p->in_w) {
        return planes->outside;
    }
    return ec_dsp_load_part(row + column * p->in_c, channels);
}

/* One input row of up to four channels, the first of which `row` points to (NULL: outside of the
 * map), into the planes from word `to` on. */
static void ec_dsp_planes_row(const ec_conv2d_params *p, const int8_t *row, int32_t channels,
                              const ec_dsp_planes *planes, uint32_t *to)
{
    if (row == NULL) {
        ec_dsp_planes_pad(planes, to, 0, planes->pairs);
        return;
    }
    to += EC_DSP_PLANE_STEP * planes->skip;
    if (channels == 4) {
        ec_dsp_planes_fill(planes, row, p->in_c, to);
        return;
    }
    int32_t column = -planes->lead;
    for (int32_t i = planes->count + planes->trail; i > 0;
         i--, column += 2, to += EC_DSP_PLANE_STEP) {
        uint32_t a = ec_dsp_planes_column(p, planes, row, column, channels);
        uint32_t b = ec_dsp_planes_column(p, planes, row, column + 1, channels);
        uint32_t low = ec_dsp_low(a, b);
        to[0] = ec_dsp_even(low);
        to[planes->words] = ec_dsp_odd(low);
        to[2 * planes->words] = ec_dsp_even(ec_dsp_high(a, b));
    }
}

#endif
