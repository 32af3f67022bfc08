/* The inner loops of ec_dsp_gemm.h in portable C99, sum by sum as the assembly has them; only that
 * header includes this. */
#ifndef EC_DSP_GEMM_C_H
#define EC_DSP_GEMM_C_H

/* Of two output channels and one vector: 256 S1 + S0 and S0, each with the bias of channel 0. */
typedef struct ec_dsp_sums {
    int32_t both;
    int32_t low;
} ec_dsp_sums;

static inline void ec_dsp_sums_add(ec_dsp_sums *sums, uint32_t w, uint32_t x)
{
    sums->both = ec_dsp_smlad(w, x, sums->both);
    sums->low = ec_dsp_smlad(ec_dsp_even(w), x, sums->low);
}

/* One output: multiplier m and the n in the low byte of `shifts`. */
static inline uint32_t ec_dsp_gemm_requant(int32_t acc, uint32_t m, uint32_t shifts, int32_t zero2)
{
    uint32_t n = shifts & 0xffu;
    int32_t rounding = (int32_t)((uint32_t)zero2 << n);
    return (uint32_t)ec_dsp_saturate(ec_dsp_smmla(acc, (int32_t)m, rounding) >> n >> 1) & 0xffu;
}

/* Two outputs in the low bytes; `bias` of channel 1, multipliers m[0] and m[1]. */
static inline uint32_t ec_dsp_gemm_pair(const ec_dsp_sums *sums, uint32_t bias, const uint32_t *m,
                                        uint32_t shifts, int32_t zero2)
{
    int32_t high = (int32_t)((uint32_t)sums->both - (uint32_t)sums->low) >> 8;
    int32_t second = (int32_t)(bias + (uint32_t)high);
    return ec_dsp_gemm_requant(sums->low, m[0], shifts, zero2) |
           ec_dsp_gemm_requant(second, m[1], shifts >> 8, zero2) << 8;
}

/* y[0..3] of the group at w for the vector at x, whose words are `step` apart. */
static inline void ec_dsp_gemm_group(const ec_dsp_gemm *g, const uint32_t *w, const uint32_t *x,
                                     int32_t words, int32_t step, int8_t *y)
{
    ec_dsp_sums first = {(int32_t)w[0], (int32_t)w[0]};
    ec_dsp_sums second = {(int32_t)w[1], (int32_t)w[1]};
    w += 2;
    for (int32_t i = 0; i < words; i++, w += 2) {
        ec_dsp_sums_add(&first, w[0], x[i * step]);
        ec_dsp_sums_add(&second, w[1], x[i * step]);
    }
    uint32_t out = ec_dsp_gemm_pair(&first, w[0], w + 3, w[2], g->zero2);
    out |= ec_dsp_gemm_pair(&second, w[1], w + 5, w[2] >> 16, g->zero2) << 16;
    ec_dsp_store(y, out);
}

/* y0[c] and y1[c] for all channels of the groups in [w, w_end). */
static inline void ec_dsp_gemm_2x4(const ec_dsp_gemm *g, const uint32_t *w)
{
    int32_t words = (int32_t)(g->x_end - g->x) >> 1;
    for (int32_t c = 0; w != g->w_end; c += 4, w += 2 * words + 9) {
        ec_dsp_gemm_group(g, w, g->x, words, 2, g->y0 + c);
        ec_dsp_gemm_group(g, w, g->x + 1, words, 2, g->y1 + c);
    }
}

/* y0[c] for all channels of the groups in [w, w_end). */
static inline void ec_dsp_gemm_1x4(const ec_dsp_gemm *g, const uint32_t *w)
{
    int32_t words = (int32_t)(g->x_end - g->x);
    for (int32_t c = 0; w != g->w_end; c += 4, w += 2 * words + 9) {
        ec_dsp_gemm_group(g, w, g->x, words, 1, g->y0 + c);
    }
}

/* to[4i..4i+3] = even bytes of x0, of x1, odd bytes of x0, of x1, for word i. */
static inline void ec_dsp_widen2(uint32_t *to, const int8_t *x0, const int8_t *x1, int32_t words)
{
    for (int32_t i = 0; i < words; i++, to += 4) {
        uint32_t word0 = ec_dsp_load(x0 + 4 * i);
        uint32_t word1 = ec_dsp_load(x1 + 4 * i);
        to[0] = ec_dsp_even(word0);
        to[1] = ec_dsp_even(word1);
        to[2] = ec_dsp_odd(word0);
        to[3] = ec_dsp_odd(word1);
    }
}

#endif
