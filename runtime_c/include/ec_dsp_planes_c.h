/* The inner loop of ec_dsp_planes.h in portable C99; only that header includes this. */
#ifndef EC_DSP_PLANES_C_H
#define EC_DSP_PLANES_C_H

/* Columns a and b of four channels as a pair of each plane. */
static inline void ec_dsp_planes_pair(const ec_dsp_planes *planes, uint32_t a, uint32_t b,
                                      uint32_t *to)
{
    uint32_t low = ec_dsp_low(a, b);
    uint32_t high = ec_dsp_high(a, b);
    to[0] = ec_dsp_even(low);
    to[planes->words] = ec_dsp_odd(low);
    to[2 * planes->words] = ec_dsp_even(high);
    to[3 * planes->words] = ec_dsp_odd(high);
}

/* One row of four channels: x at column 0, `step` bytes from pixel to pixel, `to` at the first pair
 * that is not all padding. */
static inline void ec_dsp_planes_fill(const ec_dsp_planes *planes, const int8_t *x, int32_t step,
                                      uint32_t *to)
{
    if (planes->lead != 0) {
        ec_dsp_planes_pair(planes, planes->outside, ec_dsp_load(x), to);
        x += step;
        to += EC_DSP_PLANE_STEP;
    }
    for (int32_t i = planes->lead; i < planes->count; i++, x += 2 * step, to += EC_DSP_PLANE_STEP) {
        ec_dsp_planes_pair(planes, ec_dsp_load(x), ec_dsp_load(x + step), to);
    }
    if (planes->trail != 0) {
        ec_dsp_planes_pair(planes, ec_dsp_load(x), planes->outside, to);
    }
}

#endif
