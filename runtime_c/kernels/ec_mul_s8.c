/* Product, int8:
 *
 *   y = clamp(zero_out + requantize((a - zero_a) * (b - zero_b), multiplier_a, shift),
 *             act_min, act_max)
 *
 * a, b int8 broadcast by strides, y int8; y may be an operand of its size; no alignment asked; no
 * scratch. Equals mul.quant of edgec/ops/binary.py.
 */
#include "ec_binary_s8.h"

static inline int32_t ec_mul_s8_step(const ec_binary_s8_params *p, int32_t a, int32_t b)
{
    return ec_requantize((a - p->zero_a) * (b - p->zero_b), p->multiplier_a, p->shift);
}
void ec_mul_s8(const ec_binary_s8_params *p, const int8_t *a, const int8_t *b, int8_t *y)
{
    ec_binary_s8_map(p, ec_mul_s8_step, a, b, y);
}
