/* The inner loop of ec_dsp_grad.h in portable C99, sum by sum as the assembly has them; only that
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

#endif
