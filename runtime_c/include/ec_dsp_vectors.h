/* Vectors of a masked gradient as the dot product of ec_dsp_grad.h reads them: two interleaved. */
#ifndef EC_DSP_VECTORS_H
#define EC_DSP_VECTORS_H

#include "ec_dsp_grad.h"

#define EC_DSP_PIXELS 64 /* that gradients of weights take at a time */

/* h of one pixel, whose outputs are a multiple of 4, from element `at` on, into every second
 * word. */
static inline void ec_dsp_grad_vector(uint32_t *to, const int8_t *q, const uint8_t *mask,
                                      const int16_t *eff, int32_t at, int32_t outputs)
{
    for (const int16_t *end = eff + outputs; eff != end; eff += 4, at += 4, to += 4) {
        uint32_t word = ec_dsp_masked(q, mask, at);
        uint32_t even = ec_dsp_even(word);
        uint32_t odd = ec_dsp_odd(word);
        uint32_t eff01 = ec_dsp_load_halves(eff);
        uint32_t eff23 = ec_dsp_load_halves(eff + 2);
        to[0] = ec_dsp_low((uint32_t)ec_dsp_smlabb(even, eff01, 0),
                           (uint32_t)ec_dsp_smlabt(odd, eff01, 0));
        to[2] = ec_dsp_low((uint32_t)ec_dsp_smlatb(even, eff23, 0),
                           (uint32_t)ec_dsp_smlatt(odd, eff23, 0));
    }
}

/* h of two pixels, whose elements begin at `at` and at `next`, for `outputs` outputs, all three
 * multiples of 4; the pairs of outputs stand `step` words apart. */
static inline void ec_dsp_weight_pixels(const int8_t *q, const uint8_t *mask, int32_t at,
                                        int32_t next, int32_t outputs, uint32_t *to, int32_t step)
{
    for (int32_t k = 0; k < outputs; k += 4, to += 2 * step) {
        uint32_t first = ec_dsp_masked(q, mask, at + k);
        uint32_t second = ec_dsp_masked(q, mask, next + k);
        uint32_t even0 = ec_dsp_even(first);
        uint32_t even1 = ec_dsp_even(second);
        uint32_t odd0 = ec_dsp_odd(first);
        uint32_t odd1 = ec_dsp_odd(second);
        to[0] = ec_dsp_low(even0, even1);
        to[1] = ec_dsp_low(odd0, odd1);
        to[step] = ec_dsp_high(even0, even1);
        to[step + 1] = ec_dsp_high(odd0, odd1);
    }
}

/* h of `count` pixels from `first` on for `outputs` outputs from `o` on, by pairs of pixels; zeros
 * up to whole fours and for the output that an odd one lacks. */
static inline void ec_dsp_weight_vectors(const ec_train_weight_params *p, const int8_t *q,
                                         const uint8_t *mask, int32_t first, int32_t count,
                                         int32_t o, int32_t outputs, uint32_t *h)
{
    int32_t fours = ec_dsp_fours(count);
    if (fours != count || (outputs & 1) != 0) {
        memset(h, 0, (size_t)((outputs + 1) & ~1) * (size_t)fours * 2);
    }
    int32_t row = first * p->out_c + o;
    int32_t pixel = 0;
    if (((p->out_c | o | outputs) & 3) == 0) {
        for (; pixel + 1 < count; pixel += 2, row += 2 * p->out_c) {
            ec_dsp_weight_pixels(q, mask, row, row + p->out_c, outputs, h + pixel, fours);
        }
    }
    for (; pixel < count; pixel++, row += p->out_c) {
        int32_t to = (pixel & ~1) * 2 + (pixel & 1);
        for (int32_t k = 0; k < outputs; k++) {
            int32_t value = q[row + k] & -ec_mask_bit(mask, row + k);
            ec_dsp_store_half(h + (k >> 1) * fours, to + (k & 1) * 2, value);
        }
    }
}

#endif
