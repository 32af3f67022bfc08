/* Weight gradient of linear, float, for targets with vectors of floats.
 *
 *   dw[o,k] = sum over t of dy[t,o] * x[t,k]
 *
 * x float[T][K], dy float[T][O], dw float[O][K]. Scratch: 16 (T + O) floats, O rounded up to 8.
 * Equals ec_linear_weight_grad_f32 bit for bit.
 */
#include "ec_tile_f32.h"
#include "ec_train_f32.h"

void ec_linear_weight_grad_f32_simd(const ec_linear_grad_f32_params *p, const float *x,
                                    const float *dy, float *dw, float *scratch)
{
    float *sums = scratch + p->rows * EC_TILE_COLUMNS;
    for (int32_t k = 0; k < p->in_c; k += EC_TILE_COLUMNS) {
        int32_t columns = ec_at_most(p->in_c - k, EC_TILE_COLUMNS);
        ec_pack_panel_f32(x + k, p->rows, p->in_c, 1, columns, scratch);
        ec_weight_columns_f32(dy, p->rows, p->out_c, scratch, sums);
        for (int32_t o = 0; o < p->out_c; o++) {
            ec_copy_tile_row_f32(sums + o * EC_TILE_COLUMNS, columns, dw + o * p->in_c + k);
        }
    }
}
