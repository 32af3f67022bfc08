/* Product, row by row, int8:
 *
 *   y = clamp(zero_out + requantize((a - zero_a) * (b - zero_b), multiplier_a, shift),
 *             act_min, act_max)
 *
 * a, b int8 [ring_0][..] and [ring_1][..], y int8[ring_y][..]; y may be an operand of its size; no
 * alignment asked; no scratch. Equals mul.quant of edgec/ops/binary.py.
 */
#include "ec_binary_s8.h"

static inline int32_t ec_mul_rows_s8_step(const ec_binary_s8_params *p, int32_t a, int32_t b)
{
    return ec_requantize((a - p->zero_a) * (b - p->zero_b), p->multiplier_a, p->shift);
}
void ec_mul_rows_s8(const ec_binary_s8_params *p, int32_t row0, int32_t row1, const int8_t *a,
                    const int8_t *b, int8_t *y)
{
    ec_binary_s8_rows(p, ec_mul_rows_s8_step, row0, row1, a, b, y);
}
