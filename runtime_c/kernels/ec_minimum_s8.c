/* Minimum, int8:
 *
 *   acc = minimum((a - zero_a) * multiplier_a, (b - zero_b) * multiplier_b)
 *   y   = clamp(zero_out + ((acc + 2^(shift - 1)) >> shift), act_min, act_max)
 *
 * The multipliers are below 2^21 in magnitude and shift in [1, 31], so that acc stays in int32.
 *
 * a, b int8 broadcast by strides, y int8; y may be an operand of its size; no alignment asked; no
 * scratch. Equals minimum.quant of edgec/ops/binary.py.
 */
#include "ec_binary_s8.h"

static inline int32_t ec_minimum_s8_step(const ec_binary_s8_params *p, int32_t a, int32_t b)
{
    int32_t first = (a - p->zero_a) * p->multiplier_a;
    int32_t second = (b - p->zero_b) * p->multiplier_b;
    int32_t acc = first < second ? first : second;
    return (acc + ((int32_t)1 << (p->shift - 1))) >> p->shift;
}
void ec_minimum_s8(const ec_binary_s8_params *p, const int8_t *a, const int8_t *b, int8_t *y)
{
    ec_binary_s8_map(p, ec_minimum_s8_step, a, b, y);
}
