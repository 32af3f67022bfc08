/* The inner loops of ec_dsp_grad.h in portable C99, sum by sum as the assembly has them; only that
 * header includes this. */
#ifndef EC_DSP_GRAD_C_H
#define EC_DSP_GRAD_C_H

static inline void ec_dsp_grad_dot(int32_t *sums, const uint32_t *h, const uint32_t *w,
                                   const uint32_t *end)
{
    memset(sums, 0, 8 * sizeof *sums);
    for (; w != end; w += 4, h += 2) {
        for (int32_t k = 0; k < 4; k++) {
            sums[k] = ec_dsp_smlad(w[k], h[0], sums[k]);
            sums[4 + k] = ec_dsp_smlad(w[k], h[1], sums[4 + k]);
        }
    }
}

static inline void ec_dsp_grad_pack(uint32_t *to, const int8_t *w, int32_t step, int32_t pairs,
                                    uint32_t minus)
{
    for (; pairs > 0; pairs--, w += 2 * step, to += 4) {
        uint32_t first = ec_dsp_load(w);
        uint32_t second = ec_dsp_load(w + step);
        uint32_t even0 = ec_dsp_add_even(minus, first);
        uint32_t even1 = ec_dsp_add_even(minus, second);
        uint32_t odd0 = ec_dsp_add_odd(minus, first);
        uint32_t odd1 = ec_dsp_add_odd(minus, second);
        to[0] = ec_dsp_low(even0, even1);
        to[1] = ec_dsp_low(odd0, odd1);
        to[2] = ec_dsp_high(even0, even1);
        to[3] = ec_dsp_high(odd0, odd1);
    }
}

#endif
