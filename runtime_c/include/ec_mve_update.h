/* Steps of weights with noise, with MVE; equals ec_update_weight and ec_noise_next. */
#ifndef EC_MVE_UPDATE_H
#define EC_MVE_UPDATE_H

#include "ec_gradient.h"
#include "ec_mve.h"

/* The words of the sixteen elements round `element`, the next one. */
typedef struct ec_mve_noise {
    uint32_t words[16];
    uint32_t element;
    uint32_t step;
    uint32_t salt;
    uint32_t seed;
    int32_t nearest;
} ec_mve_noise;

static inline void ec_mve_noise_begin(ec_mve_noise *noise, int32_t step, int32_t salt,
                                      int32_t seed, int32_t nearest)
{
    memset(noise->words, 0, sizeof noise->words);
    noise->element = 0;
    noise->step = (uint32_t)step;
    noise->salt = (uint32_t)salt;
    noise->seed = (uint32_t)seed;
    noise->nearest = nearest;
}

/* Noise of the element that `word` belongs to. */
static inline float ec_mve_noise_of(const ec_mve_noise *noise, uint32_t word)
{
    return noise->nearest != 0 ? 0.5f : (float)(int32_t)(word >> 8) * 5.9604644775390625e-8f;
}

/* Any `count` elements whose words stand from `words` on. */
EC_MVE_APART void ec_mve_update_any(const ec_mve_noise *noise, const uint32_t *words,
                                    const int8_t *w, const int32_t *sums, float scale,
                                    int32_t count, int8_t *y)
{
    for (int32_t i = 0; i < count; i++) {
        float u = ec_mve_noise_of(noise, words[i]);
        y[i] = ec_update_weight(w[i], (float)sums[i], scale, u);
    }
}

/* ec_mve_noise_draw: the words of the sixteen elements from noise->element on, a multiple of 16.
 * ec_mve_update_some: `count` elements, at most 16, whose words stand from `words` on. */
#include EC_MVE_INNER(update)

/* The next `count` elements: y = w after a step of sums * scale. y may be w. */
static inline void ec_mve_update(ec_mve_noise *noise, const int8_t *w, const int32_t *sums,
                                 float scale, int32_t count, int8_t *y)
{
    while (count > 0) {
        int32_t at = (int32_t)(noise->element & 15u);
        int32_t some = count < 16 - at ? count : 16 - at;
        if (at == 0 && noise->nearest == 0) {
            ec_mve_noise_draw(noise);
        }
        ec_mve_update_some(noise, noise->words + at, w, sums, scale, some, y);
        noise->element += (uint32_t)some;
        w += some;
        sums += some;
        y += some;
        count -= some;
    }
}

#endif
