/* The inner loops of ec_mve_window.h in portable C99; only that header includes this. */
#ifndef EC_MVE_WINDOW_C_H
#define EC_MVE_WINDOW_C_H

static inline void ec_mve_widen(int16_t *to, const int8_t *x, int32_t step, int32_t count,
                                int32_t zero)
{
    for (int32_t i = 0; i < EC_MVE_EIGHT * count; i++) {
        to[i] = (int16_t)(x[(i >> 3) * step + (i & 7)] - zero);
    }
}

static inline uint32_t ec_mve_window_put(const int32_t *rows, int32_t count, int32_t taps,
                                         const ec_mve_eight *to, const int16_t *x, const int8_t *w,
                                         int8_t *y)
{
    int32_t acc[EC_MVE_EIGHT] = {0};
    for (int32_t i = 0; i < EC_MVE_EIGHT * count * taps; i++) {
        int32_t tap = i >> 3;
        acc[ec_mve_place(i & 7)] += x[rows[tap / taps] + tap % taps * 8 + (i & 7)] * w[i];
    }
    return ec_mve_eight_any(to, acc, y);
}

static inline int32_t ec_mve_window_sum(const ec_mve_window *run, const int8_t *x, const int8_t *w)
{
    int32_t sum = 0;
    for (int32_t r = 0; r < run->count; r++) {
        for (int32_t s = 0; s < run->taps; s++) {
            sum += x[run->rows[r] + s * run->step] * w[r * run->w_row + s * run->w_step];
        }
    }
    return sum;
}

static inline void ec_mve_window_scaled(const ec_mve_window *run, const int8_t *x, const int8_t *w,
                                        const int16_t *eff, int32_t *acc)
{
    for (int32_t k = 0; k < EC_MVE_EIGHT; k++) {
        acc[k] = ec_mve_window_sum(run, x + k, w + k) * eff[k];
    }
}

#endif
