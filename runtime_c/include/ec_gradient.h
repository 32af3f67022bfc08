/* What the kernels of int8 training share: bits of masks, rounding in block floating point, noise,
 * and steps of parameters. Equals edgec/ops/block_float.py bit for bit.
 *
 * Float arithmetic is one rounding an operation in the written order: compile with
 * -ffp-contract=off.
 */
#ifndef EC_GRADIENT_H
#define EC_GRADIENT_H

#include <stdint.h>
#include <string.h>

#include "ec_philox.h"
#include "ec_requant.h"

/* Bit `index` of a mask, 0 or 1. */
static inline int32_t ec_mask_bit(const uint8_t *mask, int32_t index)
{
    return mask[index >> 3] >> (index & 7) & 1;
}

/* Sets bit `index` of a mask, 0 until then, where `value` lies in [low, high]. */
static inline void ec_mask_set(uint8_t *mask, int32_t index, int32_t value, int32_t low,
                               int32_t high)
{
    if (value >= low && value <= high) {
        mask[index >> 3] = (uint8_t)(mask[index >> 3] | 1u << (index & 7));
    }
}

/* floor(value) for |value| < 2^31. */
static inline int32_t ec_floor(float value)
{
    int32_t whole = (int32_t)value;
    return (float)whole > value ? whole - 1 : whole;
}

/* 2^exponent, the exponent brought into [-126, 127]. */
static inline float ec_power_of_two(int32_t exponent)
{
    int32_t e = exponent < -126 ? -126 : exponent > 127 ? 127 : exponent;
    uint32_t bits = (uint32_t)(e + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return power;
}

/* A gradient that is written pixel by pixel: q in [first, next), sums >> shift. */
typedef struct ec_block_float {
    int8_t *first;
    int8_t *next;
    int32_t shift;
} ec_block_float;

/* Bytes [q, end) as (q + 1) >> 1 each. Four at a time: u = q + 128 has ceil(u / 2) without carries
 * between the bytes, and (q + 1) >> 1 is that less 64. */
static inline void ec_halve(int8_t *q, const int8_t *end)
{
    for (; end - q >= 4; q += 4) {
        uint32_t u;
        memcpy(&u, q, 4);
        u ^= 0x80808080u;
        u -= u >> 1 & 0x7f7f7f7fu;
        u = (u + 0x40404040u) ^ 0x80808080u;
        memcpy(q, &u, 4);
    }
    for (; q < end; q++) {
        *q = (int8_t)((*q + 1) >> 1);
    }
}

/* The next pixel: q = (acc + half) >> shift with the smallest shift, not below that of the pixels
 * before, that keeps |q| <= 127; what was written before is halved where it grows. */
static inline void ec_block_float_put(ec_block_float *to, const int32_t *acc, int32_t count)
{
    uint32_t largest = 0;
    for (int32_t i = 0; i < count; i++) {
        uint32_t size = acc[i] < 0 ? 0u - (uint32_t)acc[i] : (uint32_t)acc[i];
        largest = size > largest ? size : largest;
    }
    int32_t shift = to->shift;
    while ((largest + ((1u << shift) >> 1)) >> shift > 127u) {
        shift++;
        ec_halve(to->first, to->next);
    }
    to->shift = shift;
    int8_t *q = to->next;
    to->next = q + count;
    if (shift == 0) {
        for (int32_t i = 0; i < count; i++) {
            q[i] = (int8_t)acc[i];
        }
        return;
    }
    for (int32_t i = 0; i < count; i++) {
        q[i] = (int8_t)(((acc[i] >> (shift - 1)) + 1) >> 1); /* acc + half might leave int32 */
    }
}

/* What is added before `floor`: 1/2, or the upper 24 bits of the words of Philox for the counter
 * (element / 4, step, salt, 0) and the key (seed, 0). */
typedef struct ec_noise {
    uint32_t words[4];
    uint32_t element;
    uint32_t step;
    uint32_t salt;
    uint32_t seed;
    int32_t nearest;
} ec_noise;

static inline ec_noise ec_noise_begin(int32_t step, int32_t salt, int32_t seed, int32_t nearest)
{
    ec_noise noise = {{0, 0, 0, 0}, 0, (uint32_t)step, (uint32_t)salt, (uint32_t)seed, nearest};
    return noise;
}

/* Words of the next four elements; out of line, so that the loops round it keep their registers. */
static __attribute__((noinline, unused)) void ec_noise_draw(ec_noise *noise)
{
    ec_philox_words(noise->words, noise->element >> 2, noise->step, noise->salt, noise->seed);
}

static inline float ec_noise_next(ec_noise *noise)
{
    if (noise->nearest != 0) {
        return 0.5f;
    }
    uint32_t at = noise->element & 3u;
    if (at == 0) {
        ec_noise_draw(noise);
    }
    noise->element++;
    return (float)(int32_t)(noise->words[at] >> 8) * 5.9604644775390625e-8f; /* 2^-24 */
}

/* floor(moved); 0 where that is not finite. Beyond +-2^31 it is +-2^31. */
static inline float ec_whole(float moved)
{
    if (!(moved - moved == 0.0f)) {
        return 0.0f;
    }
    if (moved >= 2147483648.0f || moved <= -2147483648.0f) {
        return moved < 0.0f ? -2147483648.0f : 2147483648.0f;
    }
    return (float)ec_floor(moved);
}

/* w + floor(moved), within +-127. */
static inline int8_t ec_moved_weight(int8_t w, float moved)
{
    if (moved > -512.0f && moved < 512.0f) {
        return (int8_t)ec_clamp(w + ec_floor(moved), -127, 127);
    }
    if (!(moved - moved == 0.0f)) {
        return w < -127 ? -127 : w; /* not finite */
    }
    return moved < 0.0f ? -127 : 127;
}

/* b + floor(moved), saturated. */
static inline int32_t ec_moved_bias(int32_t b, float moved)
{
    int64_t sum = b + (int64_t)ec_whole(moved);
    return sum < INT32_MIN ? INT32_MIN : sum > INT32_MAX ? INT32_MAX : (int32_t)sum;
}

/* The weight after one step, within +-127. */
static inline int8_t ec_update_weight(int8_t w, float gradient, float rate, float u)
{
    return ec_moved_weight(w, u - gradient * rate);
}

/* The bias after one step, saturated. */
static inline int32_t ec_update_bias(int32_t b, float gradient, float rate, float u)
{
    return ec_moved_bias(b, u - gradient * rate);
}

/* Weights in Q8.8: 256 w + fraction, within 256 * +-127; w is their upper byte, rounded half up. */
#define EC_Q88_MOST (127 * 256)

static inline int32_t ec_q88(int8_t w, int8_t fraction)
{
    return 256 * (w < -127 ? -127 : w) + fraction;
}

/* Writes the weight after floor(moved) steps of 1/256. */
static inline void ec_q88_put(int32_t master, float moved, int8_t *w, int8_t *fraction)
{
    if (moved > -131072.0f && moved < 131072.0f) {
        master += ec_floor(moved);
    } else if (moved - moved == 0.0f) {
        master = moved < 0.0f ? -EC_Q88_MOST : EC_Q88_MOST;
    }
    master = ec_clamp(master, -EC_Q88_MOST, EC_Q88_MOST);
    int32_t upper = (master + 128) >> 8;
    *w = (int8_t)upper;
    *fraction = (int8_t)(master - 256 * upper);
}

/* `made`, or `kept` where that is not finite. */
static inline float ec_finite_or(float made, float kept)
{
    return made - made == 0.0f ? made : kept;
}

#endif
