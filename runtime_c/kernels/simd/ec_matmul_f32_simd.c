/* matmul, float, leading axes broadcast, for targets with vectors of floats.
 *
 *   y[..,i,j] = sum_k a[..,i,k] b[..,k,j]
 *
 * a float[..][M][K]; b by its strides b_k, b_n; y float[n0][n1][n2][M][N]. Scratch: 16 K floats.
 * Equals ec_matmul_f32 bit for bit.
 */
#include "ec_conv.h"
#include "ec_tile_f32.h"

static void ec_matmul_f32_simd_one(const ec_matmul_f32_params *p, const float *a, const float *b,
                                   float *y, float *panel)
{
    float tile[EC_TILE_ROWS * EC_TILE_COLUMNS];
    for (int32_t j = 0; j < p->n; j += EC_TILE_COLUMNS) {
        int32_t columns = ec_at_most(p->n - j, EC_TILE_COLUMNS);
        ec_pack_panel_f32(b + j * p->b_n, p->k, p->b_k, p->b_n, columns, panel);
        for (int32_t i = 0; i < p->m; i += EC_TILE_ROWS) {
            int32_t rows = ec_at_most(p->m - i, EC_TILE_ROWS);
            ec_tile_rows_f32(a + i * p->k, p->k, 1, p->k, panel, rows, tile);
            for (int32_t r = 0; r < rows; r++) {
                ec_copy_tile_row_f32(tile + r * EC_TILE_COLUMNS, columns, y + (i + r) * p->n + j);
            }
        }
    }
}

void ec_matmul_f32_simd(const ec_matmul_f32_params *p, const float *a, const float *b, float *y,
                        float *scratch)
{
    for (int32_t i0 = 0; i0 < p->n0; i0++) {
        for (int32_t i1 = 0; i1 < p->n1; i1++) {
            for (int32_t i2 = 0; i2 < p->n2; i2++) {
                ec_matmul_f32_simd_one(p, a + i0 * p->a_0 + i1 * p->a_1 + i2 * p->a_2,
                                       b + i0 * p->b_0 + i1 * p->b_1 + i2 * p->b_2, y, scratch);
                y += p->m * p->n;
            }
        }
    }
}
