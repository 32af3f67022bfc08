/* Products of float matrices in tiles of 8 x 16 sums, for targets with vectors of floats.
 *
 *   sums[i][j] += sum over k of a[i * a_row + k * a_step] * panel[k][j]
 *
 * A panel holds 16 columns of the second factor, side by side. Every sum has one accumulator and
 * runs in the order of k, each product rounded, so that results have the bits of the portable
 * kernels (-ffp-contract=off). Vectors are GCC's and Clang's; here no instruction set is named,
 * ec_tile_f32_x86.h has wider ones, which are taken where the processor that runs has them.
 */
#ifndef EC_TILE_F32_H
#define EC_TILE_F32_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { EC_TILE_ROWS = 8, EC_TILE_COLUMNS = 16, EC_TILE_BLOCK = 64 };

#include "ec_tile_f32_x86.h"

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

static inline int32_t ec_at_most(int32_t value, int32_t most)
{
    return value < most ? value : most;
}

/* panel[k][j] = b[k * b_step + j * b_column] for j < columns, 0 for the columns beyond. */
static inline void ec_pack_panel_f32(const float *restrict b, int32_t depth, int32_t b_step,
                                     int32_t b_column, int32_t columns, float *restrict panel)
{
    if (b_column == 1 && columns == EC_TILE_COLUMNS) {
        for (int32_t k = 0; k < depth; k++) {
            memcpy(panel + k * EC_TILE_COLUMNS, b + k * b_step, EC_TILE_COLUMNS * sizeof *b);
        }
        return;
    }
    for (int32_t j = 0; j < EC_TILE_COLUMNS; j++) {
        for (int32_t k = 0; k < depth; k++) {
            panel[k * EC_TILE_COLUMNS + j] = j < columns ? b[k * b_step + j * b_column] : 0.0f;
        }
    }
}

/* 4 rows of 8 columns. */
static inline void ec_tile_4x8_f32(const float *a, int32_t a_row, int32_t a_step, int32_t depth,
                                   const float *panel, float *sums)
{
    const float *a1 = a + a_row;
    const float *a2 = a1 + a_row;
    const float *a3 = a2 + a_row;
    float *sums1 = sums + EC_TILE_COLUMNS;
    float *sums2 = sums1 + EC_TILE_COLUMNS;
    float *sums3 = sums2 + EC_TILE_COLUMNS;
    ec_f32x4 s00 = ec_load_f32x4(sums), s01 = ec_load_f32x4(sums + 4);
    ec_f32x4 s10 = ec_load_f32x4(sums1), s11 = ec_load_f32x4(sums1 + 4);
    ec_f32x4 s20 = ec_load_f32x4(sums2), s21 = ec_load_f32x4(sums2 + 4);
    ec_f32x4 s30 = ec_load_f32x4(sums3), s31 = ec_load_f32x4(sums3 + 4);
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
    ec_store_f32x4(sums, s00);
    ec_store_f32x4(sums + 4, s01);
    ec_store_f32x4(sums1, s10);
    ec_store_f32x4(sums1 + 4, s11);
    ec_store_f32x4(sums2, s20);
    ec_store_f32x4(sums2 + 4, s21);
    ec_store_f32x4(sums3, s30);
    ec_store_f32x4(sums3 + 4, s31);
}

/* One row of 16 columns. */
static inline void ec_tile_row_f32(const float *a, int32_t a_step, int32_t depth,
                                   const float *panel, float *sums)
{
    ec_f32x4 s0 = ec_load_f32x4(sums), s1 = ec_load_f32x4(sums + 4);
    ec_f32x4 s2 = ec_load_f32x4(sums + 8), s3 = ec_load_f32x4(sums + 12);
    for (int32_t k = 0; k < depth; k++) {
        float factor = a[k * a_step];
        s0 += factor * ec_load_f32x4(panel);
        s1 += factor * ec_load_f32x4(panel + 4);
        s2 += factor * ec_load_f32x4(panel + 8);
        s3 += factor * ec_load_f32x4(panel + 12);
        panel += EC_TILE_COLUMNS;
    }
    ec_store_f32x4(sums, s0);
    ec_store_f32x4(sums + 4, s1);
    ec_store_f32x4(sums + 8, s2);
    ec_store_f32x4(sums + 12, s3);
}

/* `rows` (1 to 8) rows of a tile onto sums float[8][16]; rows beyond are left alone. */
static inline void ec_tile_add_f32(const float *a, int32_t a_row, int32_t a_step, int32_t depth,
                                   const float *panel, int32_t rows, float *sums)
{
    if (rows == EC_TILE_ROWS && ec_tile_add_f32_wide(a, a_row, a_step, depth, panel, sums)) {
        return;
    }
    int32_t i = 0;
    for (; i + 4 <= rows; i += 4) {
        const float *from = a + i * a_row;
        float *to = sums + i * EC_TILE_COLUMNS;
        ec_tile_4x8_f32(from, a_row, a_step, depth, panel, to);
        ec_tile_4x8_f32(from, a_row, a_step, depth, panel + 8, to + 8);
    }
    for (; i < rows; i++) {
        ec_tile_row_f32(a + i * a_row, a_step, depth, panel, sums + i * EC_TILE_COLUMNS);
    }
}

/* The same from 0: sums float[8][16]. */
static inline void ec_tile_rows_f32(const float *a, int32_t a_row, int32_t a_step, int32_t depth,
                                    const float *panel, int32_t rows, float *sums)
{
    memset(sums, 0, EC_TILE_ROWS * EC_TILE_COLUMNS * sizeof *sums);
    ec_tile_add_f32(a, a_row, a_step, depth, panel, rows, sums);
}

/* A row of a tile, of which `columns` exist, to where it belongs. */
static inline void ec_copy_tile_row_f32(const float *from, int32_t columns, float *to)
{
    if (columns == EC_TILE_COLUMNS) {
        memcpy(to, from, EC_TILE_COLUMNS * sizeof *to);
        return;
    }
    for (int32_t j = 0; j < columns; j++) {
        to[j] = from[j];
    }
}

/* sums[o][j] = sum over t of dy[t][o] * x[t][j], 16 columns of the gradient of a linear layer's
 * weight. dy float[rows][out_c]; panel float[rows][16] holds those columns of x; sums
 * float[out_c rounded up to 8][16]. Goes through blocks of rows, so that dy stays in the cache. */
static inline void ec_weight_columns_f32(const float *dy, int32_t rows, int32_t out_c,
                                         const float *panel, float *sums)
{
    memset(sums, 0, (size_t)(out_c + 7) / 8 * 8 * EC_TILE_COLUMNS * sizeof *sums);
    for (int32_t t = 0; t < rows; t += EC_TILE_BLOCK) {
        int32_t depth = ec_at_most(rows - t, EC_TILE_BLOCK);
        for (int32_t o = 0; o < out_c; o += EC_TILE_ROWS) {
            ec_tile_add_f32(dy + t * out_c + o, 1, out_c, depth, panel + t * EC_TILE_COLUMNS,
                            ec_at_most(out_c - o, EC_TILE_ROWS), sums + o * EC_TILE_COLUMNS);
        }
    }
}

#endif
