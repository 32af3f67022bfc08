/* group_norm, channels last, int8, portable C99.
 *
 *   for each batch element and group, over its n = positions * channels / groups elements:
 *   d = n x - sum(x),  V = n sum(x^2) - sum(x)^2,  both exact
 *   y = clamp(zero_out + gain[c] d / sqrt(V + eps) + bias[c]), fixed point of ec_norm_s8.h
 *
 * x, y int8[batch][positions][channels], n <= 2^20; y may be x. gain, bias int32[channels] or
 * [1]. No scratch, integers only. Equals group_norm.quant of edgec/ops/norm.py.
 */
#include "ec_norm.h"
#include "ec_norm_s8.h"

static inline void ec_group_norm_s8_group(const ec_group_norm_params *p, int32_t first,
                                          const int8_t *x, const int32_t *gain,
                                          const int32_t *bias, int8_t *y)
{
    int32_t width = p->channels / p->groups;
    int32_t n = p->positions * width;
    int32_t end = p->positions * p->channels;
    int32_t sum = 0;
    int64_t squares = 0;
    for (int32_t position = first; position < end; position += p->channels) {
        for (int32_t c = 0; c < width; c++) {
            int32_t value = x[position + c];
            sum += value;
            squares += value * value;
        }
    }
    ec_norm_scale scale = ec_norm_scale_of(n * squares - (int64_t)sum * sum, p->fraction,
                                           p->eps_high, p->eps_low);
    for (int32_t position = first; position < end; position += p->channels) {
        for (int32_t c = 0; c < width; c++) {
            int32_t at = (first + c) * p->gain_step;
            y[position + c] = ec_norm_output(n * x[position + c] - sum, scale, gain[at], bias[at],
                                             p->shift, p->zero_out);
        }
    }
}

void ec_group_norm_s8(const ec_group_norm_params *p, const int8_t *x, const int32_t *gain,
                      const int32_t *bias, int8_t *y)
{
    int32_t image = p->positions * p->channels;
    int32_t width = p->channels / p->groups;
    for (int32_t b = 0; b < p->batch; b++) {
        for (int32_t first = 0; first < p->channels; first += width) {
            ec_group_norm_s8_group(p, first, x + b * image, gain, bias, y + b * image);
        }
    }
}
