/* linear, float, for targets with vectors of four floats.
 *
 *   y[t,o] = clamp(bias[o] + sum_k x[t,k] * w[o,k], act_min, act_max)
 *
 * x float[rows][K], w float[O][K], y float[rows][O]. Scratch: 8 K floats. Equals ec_linear_f32 bit
 * for bit.
 */
#include "ec_conv.h"
#include "ec_tile_f32.h"

void ec_linear_f32_simd(const ec_linear_f32_params *p, const float *x, const float *w,
                        const float *bias, float *y, float *scratch)
{
    float tile[EC_TILE_ROWS * EC_TILE_COLUMNS];
    for (int32_t o = 0; o < p->out_c; o += EC_TILE_COLUMNS) {
        int32_t columns = ec_at_most(p->out_c - o, EC_TILE_COLUMNS);
        ec_pack_panel_f32(w + o * p->in_c, p->in_c, 1, p->in_c, columns, scratch);
        for (int32_t t = 0; t < p->rows; t += EC_TILE_ROWS) {
            int32_t rows = ec_at_most(p->rows - t, EC_TILE_ROWS);
            ec_tile_rows_f32(x + t * p->in_c, p->in_c, 1, p->in_c, scratch, rows, tile);
            for (int32_t i = 0; i < rows; i++) {
                float *out = y + (t + i) * p->out_c + o;
                for (int32_t j = 0; j < columns; j++) {
                    float sum = bias[o + j] + tile[i * EC_TILE_COLUMNS + j];
                    out[j] = ec_clamp_f32(sum, p->act_min, p->act_max);
                }
            }
        }
    }
}
