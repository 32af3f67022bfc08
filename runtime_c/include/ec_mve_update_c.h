/* The inner loops of ec_mve_update.h in portable C99; only that header includes this. */
#ifndef EC_MVE_UPDATE_C_H
#define EC_MVE_UPDATE_C_H

static inline void ec_mve_noise_draw(ec_mve_noise *noise)
{
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t counter = (noise->element >> 2) + i;
        ec_philox_words(noise->words + 4 * i, counter, noise->step, noise->salt, noise->seed);
    }
}

static inline void ec_mve_update_some(const ec_mve_noise *noise, const uint32_t *words,
                                      const int8_t *w, const int32_t *sums, float scale,
                                      int32_t count, int8_t *y)
{
    ec_mve_update_any(noise, words, w, sums, scale, count, y);
}

#endif
