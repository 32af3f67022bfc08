/* Sum, and difference by a negative multiplier_b, row by row, int8:
 *
 *   y = clamp(zero_out + ((offset + a * multiplier_a + b * multiplier_b) >> shift),
 *             act_min, act_max)
 *
 * with offset = 2^(shift - 1) - zero_a * multiplier_a - zero_b * multiplier_b. The multipliers are
 * below 2^21 in magnitude and shift in [1, 31], so that every partial sum stays in int32.
 *
 * a, b int8 [ring_0][..] and [ring_1][..], y int8[ring_y][..]; y may be an operand of its size; no
 * alignment asked; no scratch. Equals add.quant and sub.quant of edgec/ops/binary.py.
 */
#include "ec_binary_s8.h"

static inline int32_t ec_add_rows_s8_step(const ec_binary_s8_params *p, int32_t a, int32_t b)
{
    return (p->offset + a * p->multiplier_a + b * p->multiplier_b) >> p->shift;
}
void ec_add_rows_s8(const ec_binary_s8_params *p, int32_t row0, int32_t row1, const int8_t *a,
                    const int8_t *b, int8_t *y)
{
    ec_binary_s8_rows(p, ec_add_rows_s8_step, row0, row1, a, b, y);
}
