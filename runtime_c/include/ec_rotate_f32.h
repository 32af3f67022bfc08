/* One head's channels turned by the angles position * frequency[r]:
 *
 *   (a, b) -> (a cos - b sin, b cos + a sin) scale,  a, b = channels r, pairs + r or 2 r, 2 r + 1
 *
 * y may be x. Equals rope of edgec/ops/rope.py within float rounding; the angle is one float
 * product, as in PyTorch.
 */
#ifndef EC_ROTATE_F32_H
#define EC_ROTATE_F32_H

#include <math.h>
#include <stdint.h>

static inline void ec_rotate_f32(const float *x, float position, const float *frequency,
                                 int32_t pairs, int32_t interleaved, float scale, float *y)
{
    for (int32_t r = 0; r < pairs; r++) {
        int32_t first = interleaved ? 2 * r : r;
        int32_t second = interleaved ? 2 * r + 1 : pairs + r;
        float angle = position * frequency[r];
        float cosine = cosf(angle) * scale;
        float sine = sinf(angle) * scale;
        float a = x[first];
        float b = x[second];
        y[first] = a * cosine - b * sine;
        y[second] = b * cosine + a * sine;
    }
}

#endif
