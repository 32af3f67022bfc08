/* Any unary pointwise op in int8, row by row: y[r][i] = table[x[r][i] + 128].
 *
 * x int8[ring_0][row_size], y int8[ring_y][row_size], y may be x; table int8[256]; no alignment
 * asked; no scratch. Equals the table rule of edgec/ops/lookup.py.
 */
#include "ec_pointwise.h"
#include "ec_requant.h"

void ec_lut_rows_s8(const ec_lut_rows_params *p, int32_t row0, int32_t row1, const int8_t *x,
                    const int8_t *table, int8_t *y)
{
    const int32_t size = p->row_size;
    for (int32_t row = row0; row < row1; row++) {
        const int8_t *in = x + ec_ring_row(row, p->ring_0) * size;
        int8_t *out = y + ec_ring_row(row, p->ring_y) * size;
        for (int32_t i = 0; i < size; i++) {
            out[i] = table[in[i] + 128];
        }
    }
}
