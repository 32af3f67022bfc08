/* Tiles of ec_tile_f32.h by each instruction set that this processor has: the bits of a plain loop.
 * Prints the names of those that ran; fails at the first difference. */
#include <stdio.h>
#include <stdlib.h>

#include "ec_tile_f32.h"

enum { DEPTH = 37, STEP = 3, ROW = 131, SIZE = EC_TILE_ROWS * EC_TILE_COLUMNS };

static float a[EC_TILE_ROWS * ROW];
static float panel[DEPTH * EC_TILE_COLUMNS];
static float start[SIZE], wanted[SIZE], found[SIZE];

static void draw(float *to, int32_t count)
{
    static uint32_t state = 1;
    for (int32_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        to[i] = (float)(int32_t)state * 0x1p-31f;
    }
}

static void check(const char *name)
{
    if (memcmp(found, wanted, sizeof wanted) != 0) {
        printf("%s differs\n", name);
        exit(1);
    }
    printf("%s\n", name);
    memcpy(found, start, sizeof start);
}

int main(void)
{
    draw(a, EC_TILE_ROWS * ROW);
    draw(panel, DEPTH * EC_TILE_COLUMNS);
    draw(start, SIZE);
    memcpy(wanted, start, sizeof start);
    memcpy(found, start, sizeof start);
    for (int32_t i = 0; i < EC_TILE_ROWS; i++) {
        for (int32_t j = 0; j < EC_TILE_COLUMNS; j++) {
            for (int32_t k = 0; k < DEPTH; k++) {
                float product = a[i * ROW + k * STEP] * panel[k * EC_TILE_COLUMNS + j];
                wanted[i * EC_TILE_COLUMNS + j] += product;
            }
        }
    }
    for (int32_t i = 0; i < EC_TILE_ROWS; i += 4) {
        float *sums = found + i * EC_TILE_COLUMNS;
        ec_tile_4x8_f32(a + i * ROW, ROW, STEP, DEPTH, panel, sums);
        ec_tile_4x8_f32(a + i * ROW, ROW, STEP, DEPTH, panel + 8, sums + 8);
    }
    check("4x8");
    for (int32_t i = 0; i < EC_TILE_ROWS; i++) {
        ec_tile_row_f32(a + i * ROW, STEP, DEPTH, panel, found + i * EC_TILE_COLUMNS);
    }
    check("row");
    ec_tile_add_f32(a, ROW, STEP, DEPTH, panel, EC_TILE_ROWS, found);
    check("add");
#if defined(__x86_64__) && defined(__GNUC__)
    if (__builtin_cpu_supports("avx2")) {
        ec_tile_4x16_f32_avx2(a, ROW, STEP, DEPTH, panel, found);
        ec_tile_4x16_f32_avx2(a + 4 * ROW, ROW, STEP, DEPTH, panel, found + SIZE / 2);
        check("avx2");
    }
    if (__builtin_cpu_supports("avx512f")) {
        ec_tile_8x16_f32_avx512(a, ROW, STEP, DEPTH, panel, found);
        check("avx512f");
    }
#endif
    return 0;
}
