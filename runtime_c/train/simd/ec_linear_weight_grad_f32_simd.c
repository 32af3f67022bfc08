/* Weight gradient of linear, float, for targets with vectors of four floats.
 *
 *   dw[o,k] = sum over t of dy[t,o] * x[t,k]
 *
 * x float[T][K], dy float[T][O], dw float[O][K]. Scratch: 8 T floats. Equals
 * ec_linear_weight_grad_f32 bit for bit.
 */
#include "ec_tile_f32.h"
#include "ec_train_f32.h"

void ec_linear_weight_grad_f32_simd(const ec_linear_grad_f32_params *p, const float *x,
                                    const float *dy, float *dw, float *scratch)
{
    float tile[EC_TILE_ROWS * EC_TILE_COLUMNS];
    for (int32_t k = 0; k < p->in_c; k += EC_TILE_COLUMNS) {
        int32_t columns = ec_at_most(p->in_c - k, EC_TILE_COLUMNS);
        ec_pack_panel_f32(x + k, p->rows, p->in_c, 1, columns, scratch);
        for (int32_t o = 0; o < p->out_c; o += EC_TILE_ROWS) {
            int32_t rows = ec_at_most(p->out_c - o, EC_TILE_ROWS);
            ec_tile_rows_f32(dy + o, 1, p->out_c, p->rows, scratch, rows, tile);
            for (int32_t i = 0; i < rows; i++) {
                for (int32_t j = 0; j < columns; j++) {
                    dw[(o + i) * p->in_c + k + j] = tile[i * EC_TILE_COLUMNS + j];
                }
            }
        }
    }
}
