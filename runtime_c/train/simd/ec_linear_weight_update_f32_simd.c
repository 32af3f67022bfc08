/* An SGD step of a linear layer's weight, float, for targets with vectors of floats: 16 columns of
 * the gradient are in memory.
 *
 *   next[o,k] = w - rate (sum over t of dy[t,o] * x[t,k] + weight_decay w); w where that is not
 *   finite or rate is 0
 *
 * x float[T][K], dy float[T][O], w, next float[O][K]; next may be w. Scratch: 16 (T + O) floats, O
 * rounded up to 8. Equals ec_linear_weight_update_f32 bit for bit.
 */
#include "ec_tile_f32.h"
#include "ec_train_f32.h"

void ec_linear_weight_update_f32_simd(const ec_linear_grad_f32_params *p, const float *w,
                                      const float *x, const float *dy, const float *rate,
                                      float *next, float *scratch)
{
    float *sums = scratch + p->rows * EC_TILE_COLUMNS;
    for (int32_t k = 0; k < p->in_c; k += EC_TILE_COLUMNS) {
        int32_t columns = ec_at_most(p->in_c - k, EC_TILE_COLUMNS);
        ec_pack_panel_f32(x + k, p->rows, p->in_c, 1, columns, scratch);
        ec_weight_columns_f32(dy, p->rows, p->out_c, scratch, sums);
        for (int32_t o = 0; o < p->out_c; o++) {
            const float *row = sums + o * EC_TILE_COLUMNS;
            int32_t at = o * p->in_c + k;
            for (int32_t j = 0; j < columns; j++) {
                next[at + j] = ec_sgd_step_f32(w[at + j], row[j], *rate, p->weight_decay);
            }
        }
    }
}
