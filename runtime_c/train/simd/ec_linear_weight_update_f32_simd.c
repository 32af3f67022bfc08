/* An SGD step of a linear layer's weight, float, for targets with vectors of four floats: 32
 * elements of the gradient are in memory.
 *
 *   next[o,k] = w - rate (sum over t of dy[t,o] * x[t,k] + weight_decay w); w where that is not
 *   finite or rate is 0
 *
 * x float[T][K], dy float[T][O], w, next float[O][K]; next may be w. Scratch: 8 T floats. Equals
 * ec_linear_weight_update_f32 bit for bit.
 */
#include "ec_tile_f32.h"
#include "ec_train_f32.h"

void ec_linear_weight_update_f32_simd(const ec_linear_grad_f32_params *p, const float *w,
                                      const float *x, const float *dy, const float *rate,
                                      float *next, float *scratch)
{
    float tile[EC_TILE_ROWS * EC_TILE_COLUMNS];
    for (int32_t k = 0; k < p->in_c; k += EC_TILE_COLUMNS) {
        int32_t columns = ec_at_most(p->in_c - k, EC_TILE_COLUMNS);
        ec_pack_panel_f32(x + k, p->rows, p->in_c, 1, columns, scratch);
        for (int32_t o = 0; o < p->out_c; o += EC_TILE_ROWS) {
            int32_t rows = ec_at_most(p->out_c - o, EC_TILE_ROWS);
            ec_tile_rows_f32(dy + o, 1, p->out_c, p->rows, scratch, rows, tile);
            for (int32_t i = 0; i < rows; i++) {
                int32_t at = (o + i) * p->in_c + k;
                for (int32_t j = 0; j < columns; j++) {
                    next[at + j] = ec_sgd_step_f32(w[at + j], tile[i * EC_TILE_COLUMNS + j], *rate,
                                                   p->weight_decay);
                }
            }
        }
    }
}
