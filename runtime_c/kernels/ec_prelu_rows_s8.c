/* PReLU, int8, one slope a channel c (the last axis), row by row:
 *
 *   y = clamp(zero_out + requantize(x - zero_in, m, s), -128, 127)
 *
 * with m, s = multiplier and shift of the parameters where x >= zero_in, else multiplier[c] and
 * shift[c], which hold the slope and its sign. x int8[ring_0][row_size], y int8[ring_y][row_size],
 * y may be x; no alignment asked; no scratch. Equals prelu.quant of edgec/ops/activation.py.
 */
#include "ec_pointwise.h"
#include "ec_requant.h"

void ec_prelu_rows_s8(const ec_prelu_rows_params *p, int32_t row0, int32_t row1, const int8_t *x,
                      const int32_t *multiplier, const uint8_t *shift, int8_t *y)
{
    const ec_prelu_rows_params local = *p;
    for (int32_t row = row0; row < row1; row++) {
        const int8_t *in = x + ec_ring_row(row, local.ring_0) * local.row_size;
        int8_t *out = y + ec_ring_row(row, local.ring_y) * local.row_size;
        for (int32_t i = 0; i < local.row_size; i += local.channels) {
            for (int32_t c = 0; c < local.channels; c++) {
                int32_t value = *in++ - local.zero_in;
                int32_t m = value < 0 ? multiplier[c] : local.multiplier;
                int32_t s = value < 0 ? shift[c] : local.shift;
                *out++ = ec_requantize_s8(value, m, s, local.zero_out, -128, 127);
            }
        }
    }
}
