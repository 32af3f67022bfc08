/* Planes of int16 for depthwise kernels: up to four channels of NHWC rows, each channel by itself, padding filled in.
 *
 * A plane holds column pairs (2j, 2j + 1) of the padded row, counted from -pad_left, one word a pair; the words of one
 * row are EC_DSP_PLANE_STEP apart, so that several rows can interleave. A kernel defines the step (1 or 3 words)
 * before it includes this header.
 */
#ifndef EC_DSP_PLANES_H
#define EC_DSP_PLANES_H

#include "ec_conv.h"
#include "ec_dsp.h"

#if EC_DSP_PLANE_STEP == 3
#define EC_DSP_PLANE_BYTES "12"
#else
#define EC_DSP_PLANE_BYTES "4"
#endif

/* Where the planes stand: `words` from one channel to the next, `pairs` column pairs in a row. */
typedef struct ec_dsp_planes {
    uint32_t *first;
    int32_t words;
    int32_t pairs;
} ec_dsp_planes;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"

/* Four channels of `pairs` >= 1 pairs of pixels from x on, `step` bytes from pixel to pixel, into the planes at `to`,
 * `plane` bytes apart: 8 values in 15 instructions. */
static __attribute__((naked, noinline)) void ec_dsp_planes_fill(const int8_t *x, int32_t step, uint32_t *to,
                                                                int32_t plane, int32_t pairs)
{
    __asm__(
        "push {r4-r11}\n"
        "ldr r8, [sp, #32]\n"
        "add r4, r2, r3\n"
        "add r5, r4, r3\n"
        "add r6, r5, r3\n"
        "1:\n"
        "ldr r9, [r0]\n"
        "ldr r10, [r0, r1]\n"
        "add r0, r0, r1, lsl #1\n"
        "subs r8, r8, #1\n"
        "pkhbt r11, r9, r10, lsl #16\n"
        "pkhtb r10, r10, r9, asr #16\n"
        "sxtb16 r9, r11\n"
        "sxtb16 r11, r11, ror #8\n"
        "sxtb16 r12, r10\n"
        "sxtb16 r10, r10, ror #8\n"
        "str r9, [r2], #" EC_DSP_PLANE_BYTES "\n"
        "str r11, [r4], #" EC_DSP_PLANE_BYTES "\n"
        "str r12, [r5], #" EC_DSP_PLANE_BYTES "\n"
        "str r10, [r6], #" EC_DSP_PLANE_BYTES "\n"
        "bne 1b\n"
        "pop {r4-r11}\n"
        "bx lr\n");
}

#pragma GCC diagnostic pop

/* Column `column` of up to four channels, or `outside` in the padding. */
static inline uint32_t ec_dsp_planes_column(const ec_conv2d_params *p, const int8_t *row, int32_t column,
                                            int32_t channels, uint32_t outside)
{
    if (row == NULL || column < 0 || column >= p->in_w) {
        return outside;
    }
    const int8_t *from = row + column * p->in_c;
    return channels == 4 ? ec_dsp_load(from) : ec_dsp_load_part(from, channels);
}

/* One input row of up to four channels, the first of which `row` points to (NULL: outside of the map), into the planes
 * from word `to` on. */
static void ec_dsp_planes_row(const ec_conv2d_params *p, const int8_t *row, int32_t channels,
                              const ec_dsp_planes *planes, uint32_t *to)
{
    uint32_t outside = ec_dsp_splat(p->zero_in);
    int32_t words = planes->words;
    int32_t column = -p->pad_left;
    int32_t end = column + 2 * planes->pairs;
    int32_t inside = p->in_w < end ? p->in_w : end; /* pairs below it need no test */
    while (column < end) {
        int32_t pairs = (inside - column) >> 1;
        if (row != NULL && channels == 4 && column >= 0 && pairs > 0) {
            ec_dsp_planes_fill(row + column * p->in_c, p->in_c, to, 4 * words, pairs);
            to += EC_DSP_PLANE_STEP * pairs;
            column += 2 * pairs;
            continue;
        }
        uint32_t a = ec_dsp_planes_column(p, row, column, channels, outside);
        uint32_t b = ec_dsp_planes_column(p, row, column + 1, channels, outside);
        uint32_t low = ec_dsp_low(a, b);
        uint32_t high = ec_dsp_high(a, b);
        to[0] = ec_dsp_even(low);
        to[words] = ec_dsp_odd(low);
        to[2 * words] = ec_dsp_even(high);
        to[3 * words] = ec_dsp_odd(high);
        to += EC_DSP_PLANE_STEP;
        column += 2;
    }
}

#endif
