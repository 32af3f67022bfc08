/* group_norm, channels last, float, portable C99.
 *
 *   y = (x - mean) / sqrt(var + eps) * gamma[c] + beta[c], mean and var of a group
 *
 * x, y float[batch][positions][channels]; y may be x. gamma, beta float[channels] or [1]. Two
 * passes for the statistics; no scratch. Equals group_norm.ref of edgec/ops/norm.py within float
 * rounding.
 */
#include <math.h>

#include "ec_norm.h"

static inline void ec_group_norm_f32_group(const ec_group_norm_f32_params *p, int32_t first,
                                           const float *x, const float *gamma, const float *beta,
                                           float *y)
{
    int32_t width = p->channels / p->groups;
    int32_t end = p->positions * p->channels;
    float n = (float)(p->positions * width);
    float mean = 0.0f;
    for (int32_t position = first; position < end; position += p->channels) {
        for (int32_t c = 0; c < width; c++) {
            mean += x[position + c];
        }
    }
    mean /= n;
    float squares = 0.0f;
    for (int32_t position = first; position < end; position += p->channels) {
        for (int32_t c = 0; c < width; c++) {
            float centred = x[position + c] - mean;
            squares += centred * centred;
        }
    }
    float inverse = 1.0f / sqrtf(squares / n + p->eps);
    for (int32_t position = first; position < end; position += p->channels) {
        for (int32_t c = 0; c < width; c++) {
            float standard = (x[position + c] - mean) * inverse;
            y[position + c] = standard * gamma[(first + c) * p->gain_step] +
                              beta[(first + c) * p->bias_step];
        }
    }
}

void ec_group_norm_f32(const ec_group_norm_f32_params *p, const float *x, const float *gamma,
                       const float *beta, float *y)
{
    int32_t image = p->positions * p->channels;
    int32_t width = p->channels / p->groups;
    for (int32_t b = 0; b < p->batch; b++) {
        for (int32_t first = 0; first < p->channels; first += width) {
            ec_group_norm_f32_group(p, first, x + b * image, gamma, beta, y + b * image);
        }
    }
}
