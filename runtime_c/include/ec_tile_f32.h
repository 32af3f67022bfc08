/* Products of float matrices in tiles of 4 x 8 sums, for targets with vectors of four floats.
 *
 *   out[i][j] = sum over k of a[i * a_row + k * a_step] * panel[k][j]
 *
 * A panel holds 8 columns of the second factor, side by side. Every sum has one accumulator and
 * runs in the order of k, each product rounded, so that results have the bits of the portable
 * kernels (-ffp-contract=off). Vectors are GCC's and Clang's, no instruction set is named.
 */
#ifndef EC_TILE_F32_H
#define EC_TILE_F32_H

#include <stdint.h>
#include <string.h>

enum { EC_TILE_ROWS = 4, EC_TILE_COLUMNS = 8 };

typedef float ec_f32x4 __attribute__((vector_size(16)));

static inline ec_f32x4 ec_load_f32x4(const float *from)
{
    ec_f32x4 v;
    memcpy(&v, from, sizeof v);
    return v;
}

static inline void ec_store_f32x4(float *to, ec_f32x4 v)
{
    memcpy(to, &v, sizeof v);
}

/* panel[k][j] = b[k * b_step + j * b_column] for j < columns, 0 for the columns beyond. */
static inline void ec_pack_panel_f32(const float *b, int32_t depth, int32_t b_step,
                                     int32_t b_column, int32_t columns, float *panel)
{
    for (int32_t k = 0; k < depth; k++) {
        for (int32_t j = 0; j < columns; j++) {
            panel[j] = b[j * b_column];
        }
        for (int32_t j = columns; j < EC_TILE_COLUMNS; j++) {
            panel[j] = 0.0f;
        }
        b += b_step;
        panel += EC_TILE_COLUMNS;
    }
}

/* A whole tile: out float[4][8]. */
static inline void ec_tile_f32(const float *a, int32_t a_row, int32_t a_step, int32_t depth,
                               const float *panel, float *out)
{
    const float *a1 = a + a_row;
    const float *a2 = a1 + a_row;
    const float *a3 = a2 + a_row;
    ec_f32x4 s00 = {0.0f, 0.0f, 0.0f, 0.0f};
    ec_f32x4 s01 = s00, s10 = s00, s11 = s00, s20 = s00, s21 = s00, s30 = s00, s31 = s00;
    for (int32_t k = 0; k < depth; k++) {
        ec_f32x4 left = ec_load_f32x4(panel);
        ec_f32x4 right = ec_load_f32x4(panel + 4);
        int32_t at = k * a_step;
        s00 += a[at] * left;
        s01 += a[at] * right;
        s10 += a1[at] * left;
        s11 += a1[at] * right;
        s20 += a2[at] * left;
        s21 += a2[at] * right;
        s30 += a3[at] * left;
        s31 += a3[at] * right;
        panel += EC_TILE_COLUMNS;
    }
    ec_store_f32x4(out, s00);
    ec_store_f32x4(out + 4, s01);
    ec_store_f32x4(out + 8, s10);
    ec_store_f32x4(out + 12, s11);
    ec_store_f32x4(out + 16, s20);
    ec_store_f32x4(out + 20, s21);
    ec_store_f32x4(out + 24, s30);
    ec_store_f32x4(out + 28, s31);
}

/* One row of a tile: out float[8]. */
static inline void ec_tile_row_f32(const float *a, int32_t a_step, int32_t depth,
                                   const float *panel, float *out)
{
    ec_f32x4 left = {0.0f, 0.0f, 0.0f, 0.0f};
    ec_f32x4 right = left;
    for (int32_t k = 0; k < depth; k++) {
        left += a[k * a_step] * ec_load_f32x4(panel);
        right += a[k * a_step] * ec_load_f32x4(panel + 4);
        panel += EC_TILE_COLUMNS;
    }
    ec_store_f32x4(out, left);
    ec_store_f32x4(out + 4, right);
}

/* `rows` (1 to 4) rows of a tile; out float[4][8], rows beyond are left alone. */
static inline void ec_tile_rows_f32(const float *a, int32_t a_row, int32_t a_step, int32_t depth,
                                    const float *panel, int32_t rows, float *out)
{
    if (rows == EC_TILE_ROWS) {
        ec_tile_f32(a, a_row, a_step, depth, panel, out);
        return;
    }
    for (int32_t i = 0; i < rows; i++) {
        ec_tile_row_f32(a + i * a_row, a_step, depth, panel, out + i * EC_TILE_COLUMNS);
    }
}

static inline int32_t ec_at_most(int32_t value, int32_t most)
{
    return value < most ? value : most;
}

#endif
