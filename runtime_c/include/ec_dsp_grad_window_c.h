/* The inner loop of ec_dsp_grad_window.h in portable C99; only that header includes this. */
#ifndef EC_DSP_GRAD_WINDOW_C_H
#define EC_DSP_GRAD_WINDOW_C_H

static inline void ec_dsp_grad_window(const ec_dsp_grad_taps *run, const int8_t *h, const int8_t *w,
                                      int32_t *sums)
{
    int32_t slot = run->slot;
    memset(sums, 0, 4 * sizeof *sums);
    for (int32_t r = 0; r < run->rows; r++) {
        for (int32_t s = 0; s < run->taps; s++) {
            const int8_t *in = h + slot * run->row_bytes - s * run->step;
            const int8_t *tap = w + r * run->w_row + s * run->w_step;
            for (int32_t k = 0; k < 4; k++) {
                sums[k] += in[k] * tap[k * run->channel];
            }
        }
        slot = (slot == 0 ? run->ring : slot) - 1;
    }
}

#endif
