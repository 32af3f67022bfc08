/* PReLU, int8, one slope a channel c (the last axis):
 *
 *   y = clamp(zero_out + requantize(x - zero_in, m, s), -128, 127)
 *
 * with m, s = the parameters' multiplier and shift where x >= zero_in, else multiplier[c],
 * shift[c], which hold the slope and its sign. x, y int8[size], y may be x; no alignment asked; no
 * scratch. Equals prelu.quant of edgec/ops/activation.py.
 */
#include "ec_pointwise.h"
#include "ec_requant.h"

void ec_prelu_s8(const ec_prelu_params *p, const int8_t *x, const int32_t *multiplier,
                 const uint8_t *shift, int8_t *y)
{
    const ec_prelu_params local = *p;
    for (int32_t i = 0; i < local.size; i += local.channels) {
        for (int32_t c = 0; c < local.channels; c++) {
            int32_t value = *x++ - local.zero_in;
            int32_t m = value < 0 ? multiplier[c] : local.multiplier;
            int32_t s = value < 0 ? shift[c] : local.shift;
            *y++ = ec_requantize_s8(value, m, s, local.zero_out, -128, 127);
        }
    }
}
