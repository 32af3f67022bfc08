/* The inner loop of ec_dsp_trained.h in portable C99, sum by sum as the assembly has them; only
 * that header includes this. */
#ifndef EC_DSP_TRAINED_C_H
#define EC_DSP_TRAINED_C_H

static inline void ec_dsp_trained_dot(int32_t *acc, const int8_t *x, const uint32_t *w,
                                      const uint32_t *end, uint32_t minus)
{
    memset(acc, 0, 4 * sizeof *acc);
    for (; w != end; w += 8, x += 4) {
        uint32_t word = ec_dsp_load(x);
        for (int32_t k = 0; k < 4; k++) {
            acc[k] = ec_dsp_smlad(ec_dsp_add_even(minus, word), w[k], acc[k]);
            acc[k] = ec_dsp_smlad(ec_dsp_add_odd(minus, word), w[4 + k], acc[k]);
        }
    }
}

#endif
