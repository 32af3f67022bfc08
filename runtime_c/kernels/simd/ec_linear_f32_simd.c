/* linear, float, for targets with vectors of floats.
 *
 *   y[t,o] = clamp(bias[o] + sum_k x[t,k] * w[o,k], act_min, act_max)
 *
 * x float[rows][K], w float[O][K], y float[rows][O]. Scratch: 16 K floats. Equals ec_linear_f32
 * bit for bit.
 */
#include "ec_conv.h"
#include "ec_tile_f32.h"

/* y[j] = clamp(bias[j] + sums[j]); always_inline, so that 16 columns become vectors. */
__attribute__((always_inline)) static inline void
ec_linear_row_f32(const float *restrict bias, const float *restrict sums, float low, float high,
                  int32_t columns, float *restrict y)
{
    for (int32_t j = 0; j < columns; j++) {
        float sum = bias[j] + sums[j];
        sum = sum < low ? low : sum;
        y[j] = sum > high ? high : sum;
    }
}

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
                const float *sums = tile + i * EC_TILE_COLUMNS;
                float *out = y + (t + i) * p->out_c + o;
                if (columns == EC_TILE_COLUMNS) {
                    ec_linear_row_f32(bias + o, sums, p->act_min, p->act_max, EC_TILE_COLUMNS, out);
                } else {
                    ec_linear_row_f32(bias + o, sums, p->act_min, p->act_max, columns, out);
                }
            }
        }
    }
}
