/* The packings of backends/kernels_c_dsp.py in C, so that a firmware can make its own constants. */
#ifndef DSP_PACK_H
#define DSP_PACK_H

#include <stdint.h>

/* Constants of a convolution or linear layer as the portable kernel takes them; w
 * int8[channels][k]. */
typedef struct weights {
    int32_t channels;
    int32_t k;
    const int8_t *w;
    const int32_t *bias;
    const int32_t *multiplier;
    const uint8_t *shift;
} weights;

static inline int32_t pack_weight(const weights *c, int32_t channel, int32_t k)
{
    return channel < c->channels && k < c->k ? c->w[channel * c->k + k] : 0;
}

static inline uint32_t pack_word(const weights *c, int32_t channel, int32_t k)
{
    int32_t a = 256 * pack_weight(c, channel + 1, k) + pack_weight(c, channel, k);
    int32_t b = 256 * pack_weight(c, channel + 1, k + 2) + pack_weight(c, channel, k + 2);
    return ((uint32_t)a & 0xffffu) | ((uint32_t)b << 16);
}

/* Layout "dsp_o4" (ec_dsp_gemm.h); returns the words written. */
static inline int32_t pack_o4(const weights *c, uint32_t *out)
{
    uint32_t *at = out;
    for (int32_t o = 0; o < c->channels; o += 4) {
        uint32_t bias[4];
        uint32_t m[4];
        uint32_t n = 0;
        for (int32_t i = 0; i < 4; i++) {
            int32_t inside = o + i < c->channels;
            bias[i] = inside ? (uint32_t)c->bias[o + i] : 0;
            m[i] = inside ? (uint32_t)c->multiplier[o + i] : 0;
            n |= inside ? (uint32_t)(c->shift[o + i] - 33) << (8 * i) : 0;
        }
        *at++ = bias[0];
        *at++ = bias[2];
        for (int32_t k = 0; k < c->k; k += 4) {
            *at++ = pack_word(c, o, k);
            *at++ = pack_word(c, o + 2, k);
            *at++ = pack_word(c, o, k + 1);
            *at++ = pack_word(c, o + 2, k + 1);
        }
        *at++ = bias[1];
        *at++ = bias[3];
        *at++ = n;
        for (int32_t i = 0; i < 4; i++) {
            *at++ = m[i];
        }
    }
    return (int32_t)(at - out);
}

/* Layout "dsp_dw": for each channel bias, multiplier, then bytes n, w[0..k-1], zeros to a whole
 * word. */
static inline int32_t pack_dw(const weights *c, uint32_t *out)
{
    uint32_t *at = out;
    for (int32_t o = 0; o < c->channels; o++) {
        *at++ = (uint32_t)c->bias[o];
        *at++ = (uint32_t)c->multiplier[o];
        for (int32_t i = 0; i < 1 + c->k; i += 4) {
            uint32_t word = 0;
            for (int32_t j = i; j < i + 4 && j < 1 + c->k; j++) {
                uint32_t byte =
                    j == 0 ? (uint32_t)(c->shift[o] - 33) : (uint8_t)c->w[o * c->k + j - 1];
                word |= byte << (8 * (j - i));
            }
            *at++ = word;
        }
    }
    return (int32_t)(at - out);
}

/* Layout "dsp_dw3x3": for each channel bias, multiplier, then the bytes w0 w3 w1 w4, n w6 w2 w7, 0
 * 0 w5 w8. */
static inline int32_t pack_dw3x3(const weights *c, uint32_t *out)
{
    for (int32_t o = 0; o < c->channels; o++, out += 5) {
        const int8_t *w = c->w + 9 * o;
        const int32_t bytes[12] = {w[0], w[3], w[1], w[4], c->shift[o] - 33, w[6], w[2], w[7],
                                   0,    0,    w[5], w[8]};
        out[0] = (uint32_t)c->bias[o];
        out[1] = (uint32_t)c->multiplier[o];
        for (int32_t i = 0; i < 3; i++) {
            out[2 + i] = 0;
            for (int32_t j = 0; j < 4; j++) {
                out[2 + i] |= ((uint32_t)bytes[4 * i + j] & 0xffu) << (8 * j);
            }
        }
    }
    return 5 * c->channels;
}

#endif
