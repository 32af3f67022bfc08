/* What the backward kernels share on Armv7E-M: a product that runs along the rows of two matrices,
 * two vectors of int16 with four columns at a time.
 *
 * The vectors h0, h1 stand interleaved by words of two neighbours, (h0[k], h0[k+1]), (h1[k],
 * h1[k+1]); a panel holds four columns the same way: for each two rows k, k + 1 the words
 * (w[k,c], w[k+1,c]) of c = 0..3. The length is brought to a multiple of 4 with zeros.
 */
#ifndef EC_DSP_GRAD_H
#define EC_DSP_GRAD_H

#include "ec_dsp.h"
#include "ec_gradient.h"
#include "ec_train_s8.h"

/* ec_dsp_grad_dot: sums[0..3] of the first vector with four columns, sums[4..7] of the second, for
 * the panel from w to end, which holds 8 words or more. ec_dsp_grad_pack: four columns of one or
 * more pairs of rows. */
#include EC_DSP_INNER(grad)

/* A length brought to a multiple of 4. */
static inline int32_t ec_dsp_fours(int32_t length)
{
    return (length + 3) & ~3;
}

/* The panel of `columns` (at most 4) columns of int8 rows that lie `step` apart, each less what
 * `minus` holds negated in both halfwords; rows beyond `length` are zeros. */
static inline void ec_dsp_grad_panel(uint32_t *to, const int8_t *w, int32_t step, int32_t length,
                                     int32_t columns, uint32_t minus)
{
    int32_t row = 0;
    if (columns == 4 && length > 1) {
        row = length & ~1;
        ec_dsp_grad_pack(to, w, step, row >> 1, minus);
        to += 2 * row;
        w += row * step;
    }
    for (; row + 1 < length; row += 2, to += 4, w += 2 * step) {
        uint32_t first = ec_dsp_load_part(w, columns);
        uint32_t second = ec_dsp_load_part(w + step, columns);
        uint32_t even0 = ec_dsp_add_even(minus, first);
        uint32_t even1 = ec_dsp_add_even(minus, second);
        uint32_t odd0 = ec_dsp_add_odd(minus, first);
        uint32_t odd1 = ec_dsp_add_odd(minus, second);
        to[0] = ec_dsp_low(even0, even1);
        to[1] = ec_dsp_low(odd0, odd1);
        to[2] = ec_dsp_high(even0, even1);
        to[3] = ec_dsp_high(odd0, odd1);
    }
    if (row < length) {
        uint32_t word = ec_dsp_load_part(w, columns);
        uint32_t even = ec_dsp_add_even(minus, word);
        uint32_t odd = ec_dsp_add_odd(minus, word);
        to[0] = even & 0xffffu;
        to[1] = odd & 0xffffu;
        to[2] = even >> 16;
        to[3] = odd >> 16;
        to += 4;
        row += 2;
    }
    if (row < ec_dsp_fours(length)) {
        memset(to, 0, 4 * sizeof *to);
    }
}

#endif
