/* The inner loops of ec_mve_window.h in portable C99; only that header includes this. */
#ifndef EC_MVE_WINDOW_C_H
#define EC_MVE_WINDOW_C_H

static inline int32_t ec_mve_window_sum(const ec_mve_window *run, const int8_t *x, const int8_t *w)
{
    int32_t sum = 0;
    for (int32_t r = 0; r < run->count; r++) {
        for (int32_t s = 0; s < run->taps; s++) {
            sum += (x[run->rows[r] + s * run->step] - run->zero) *
                   w[r * run->w_row + s * run->w_step];
        }
    }
    return sum;
}

static inline uint32_t ec_mve_window_put(const ec_mve_window *run, const ec_mve_eight *to,
                                         const int8_t *x, const int8_t *w, int8_t *y)
{
    int32_t acc[EC_MVE_EIGHT];
    for (int32_t k = 0; k < EC_MVE_EIGHT; k++) {
        acc[ec_mve_place(k)] = ec_mve_window_sum(run, x + k, w + k);
    }
    return ec_mve_eight_any(to, acc, y);
}

static inline void ec_mve_window_scaled(const ec_mve_window *run, const int8_t *x, const int8_t *w,
                                        const int16_t *eff, int32_t *acc)
{
    for (int32_t k = 0; k < EC_MVE_EIGHT; k++) {
        acc[k] = ec_mve_window_sum(run, x + k, w + k) * eff[k];
    }
}

#endif
