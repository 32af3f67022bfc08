/* The inner product that conv2d, pointwise and linear share on Armv7E-M: int16 vectors in scratch
 * times a weight stream in flash, four output channels at a time.
 *
 * Weight stream (layout "dsp_o4", uint32 words). Output channels go in groups of four, the last
 * padded with zeros; K is padded with zeros to a multiple of 4. For each group c0..c3:
 *
 *   bias[c0], bias[c2]
 *   for each 4 of K, twice, (a, b) = (k, k + 2), then (k + 1, k + 3):
 *       (256 w[c1,a] + w[c0,a]) | (256 w[c1,b] + w[c0,b]) << 16,  then the same of c3 and c2
 *   bias[c1], bias[c3], n[c0] | n[c1] << 8 | n[c2] << 16 | n[c3] << 24, m[c0], m[c1], m[c2], m[c3]
 *
 * A word holds two weights of each of two channels; 256 w1 + w0 lies in int16 because |w| <= 127.
 * SMLAD of the word sums 256 S1 + S0 and SMLAD of its SXTB16 sums S0; their difference is 256 S1
 * modulo 2^32, so S1 is exact while |S1| < 2^23, that is 128 * sum |w| < 2^23 for each channel (the
 * kernel record checks it; every K <= 516 holds it). One sign extension then serves four weights,
 * and none is needed for activations, which were widened once.
 *
 * Requantisation, shift s >= 33 and n = s - 33 <= 22:
 *   zero + floor((a m + 2^(s-1)) / 2^s) = ((hi32(a m) + ((2 zero + 1) << n)) >> n) >> 1
 * which is SMMLA, ASR, and SSAT #8 with ASR #1. A narrower clamp is one pass over the finished
 * bytes.
 */
#ifndef EC_DSP_GEMM_H
#define EC_DSP_GEMM_H

#include "ec_dsp.h"

/* What the inner loops are told; assembly reads at the offsets written here. */
typedef struct ec_dsp_gemm {
    const uint32_t *x_end; /* 0: behind the vector(s) */
    const uint32_t *x;     /* 4: two vectors interleaved by words, or one */
    int32_t zero2;         /* 8: 2 * zero_out + 1 */
    int8_t *y0;            /* 12: output of the first vector, any alignment */
    int8_t *y1;            /* 16: of the second; may equal y0 where both vectors do */
    const uint32_t *w_end; /* 20: behind the last group to compute */
} ec_dsp_gemm;

#include EC_DSP_INNER(gemm)

/* Words of K. */
static inline int32_t ec_dsp_words(int32_t k)
{
    return (k + 3) >> 2;
}

/* Two vectors of k bytes, widened and interleaved, zeros up to whole words. */
static inline void ec_dsp_widen_vectors(uint32_t *to, const int8_t *x0, const int8_t *x1, int32_t k)
{
    int32_t whole = k >> 2;
    if (whole > 0) {
        ec_dsp_widen2(to, x0, x1, whole);
    }
    if ((k & 3) != 0) {
        uint32_t last0 = ec_dsp_load_part(x0 + 4 * whole, k & 3);
        uint32_t last1 = ec_dsp_load_part(x1 + 4 * whole, k & 3);
        to += 4 * whole;
        to[0] = ec_dsp_even(last0);
        to[1] = ec_dsp_even(last1);
        to[2] = ec_dsp_odd(last0);
        to[3] = ec_dsp_odd(last1);
    }
}

/* All output channels of two vectors of `words` fours in x: y0 and y1 (equal where only one
 * counts). */
static inline void ec_dsp_outputs_2(const uint32_t *x, int32_t words, const uint32_t *w,
                                    int32_t zero_out, int32_t channels, int8_t *y0, int8_t *y1)
{
    int32_t group = 4 * words + 9;
    int32_t whole = channels >> 2;
    ec_dsp_gemm g = {x + 4 * words, x, 2 * zero_out + 1, y0, y1, w + whole * group};
    if (whole > 0) {
        ec_dsp_gemm_2x4(&g, w);
    }
    int32_t rest = channels & 3;
    if (rest > 0) {
        int8_t last[8];
        w += whole * group;
        g.y0 = last;
        g.y1 = last + 4;
        g.w_end = w + group;
        ec_dsp_gemm_2x4(&g, w);
        for (int32_t i = 0; i < rest; i++) {
            y0[4 * whole + i] = last[i];
            y1[4 * whole + i] = last[4 + i];
        }
    }
}

#endif
