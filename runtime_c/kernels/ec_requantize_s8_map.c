/* requantize: int8 of one quantisation to int8 of another,
 *
 *   y = clamp(zero_out + requantize(x - zero_in, multiplier, shift), -128, 127)
 *
 * x, y int8[size], y may be x; no alignment asked; no scratch. Equals requantize.quant of
 * edgec/ops/cast.py. (ec_requantize_s8 is the function of one accumulator in ec_requant.h.)
 */
#include "ec_pointwise.h"
#include "ec_requant.h"

void ec_requantize_s8_map(const ec_requantize_params *p, const int8_t *x, int8_t *y)
{
    const ec_requantize_params local = *p;
    for (int32_t i = 0; i < local.size; i++) {
        y[i] = ec_requantize_s8(x[i] - local.zero_in, local.multiplier, local.shift, local.zero_out,
                                -128, 127);
    }
}
