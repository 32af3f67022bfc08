/* Whole tiles of ec_tile_f32.h with the vectors of 16 and 8 floats of x86-64 processors (AVX-512,
 * AVX2), in the same order, products and sums rounded apart: the same bits.
 *
 * One binary serves every processor: the one that runs is asked.
 */
#ifndef EC_TILE_F32_X86_H
#define EC_TILE_F32_X86_H

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)

typedef float ec_f32x8 __attribute__((vector_size(32)));
typedef float ec_f32x16 __attribute__((vector_size(64)));

/* 8 rows of 16 columns. */
__attribute__((target("avx512f"))) static inline void
ec_tile_8x16_f32_avx512(const float *a, int32_t a_row, int32_t a_step, int32_t depth,
                        const float *panel, float *sums)
{
    const float *a1 = a + a_row;
    const float *a2 = a1 + a_row;
    const float *a3 = a2 + a_row;
    const float *a4 = a3 + a_row;
    const float *a5 = a4 + a_row;
    const float *a6 = a5 + a_row;
    const float *a7 = a6 + a_row;
    ec_f32x16 s[8];
    memcpy(s, sums, sizeof s);
    ec_f32x16 s0 = s[0], s1 = s[1], s2 = s[2], s3 = s[3];
    ec_f32x16 s4 = s[4], s5 = s[5], s6 = s[6], s7 = s[7];
    for (int32_t k = 0; k < depth; k++) {
        ec_f32x16 row;
        memcpy(&row, panel, sizeof row);
        int32_t at = k * a_step;
        s0 += a[at] * row;
        s1 += a1[at] * row;
        s2 += a2[at] * row;
        s3 += a3[at] * row;
        s4 += a4[at] * row;
        s5 += a5[at] * row;
        s6 += a6[at] * row;
        s7 += a7[at] * row;
        panel += 16;
    }
    s[0] = s0, s[1] = s1, s[2] = s2, s[3] = s3;
    s[4] = s4, s[5] = s5, s[6] = s6, s[7] = s7;
    memcpy(sums, s, sizeof s);
}

/* 4 rows of 16 columns. */
__attribute__((target("avx2"))) static inline void
ec_tile_4x16_f32_avx2(const float *a, int32_t a_row, int32_t a_step, int32_t depth,
                      const float *panel, float *sums)
{
    const float *a1 = a + a_row;
    const float *a2 = a1 + a_row;
    const float *a3 = a2 + a_row;
    ec_f32x8 s[8];
    memcpy(s, sums, sizeof s);
    ec_f32x8 s00 = s[0], s01 = s[1], s10 = s[2], s11 = s[3];
    ec_f32x8 s20 = s[4], s21 = s[5], s30 = s[6], s31 = s[7];
    for (int32_t k = 0; k < depth; k++) {
        ec_f32x8 left, right;
        memcpy(&left, panel, sizeof left);
        memcpy(&right, panel + 8, sizeof right);
        int32_t at = k * a_step;
        s00 += a[at] * left;
        s01 += a[at] * right;
        s10 += a1[at] * left;
        s11 += a1[at] * right;
        s20 += a2[at] * left;
        s21 += a2[at] * right;
        s30 += a3[at] * left;
        s31 += a3[at] * right;
        panel += 16;
    }
    s[0] = s00, s[1] = s01, s[2] = s10, s[3] = s11;
    s[4] = s20, s[5] = s21, s[6] = s30, s[7] = s31;
    memcpy(sums, s, sizeof s);
}

/* A whole tile onto sums float[8][16]; 0 where the processor has neither. */
static inline int ec_tile_add_f32_wide(const float *a, int32_t a_row, int32_t a_step, int32_t depth,
                                       const float *panel, float *sums)
{
    if (__builtin_cpu_supports("avx512f")) {
        ec_tile_8x16_f32_avx512(a, a_row, a_step, depth, panel, sums);
        return 1;
    }
    if (__builtin_cpu_supports("avx2")) {
        ec_tile_4x16_f32_avx2(a, a_row, a_step, depth, panel, sums);
        ec_tile_4x16_f32_avx2(a + 4 * a_row, a_row, a_step, depth, panel, sums + 64);
        return 1;
    }
    return 0;
}

#else

/* No such vectors: 0. */
static inline int ec_tile_add_f32_wide(const float *a, int32_t a_row, int32_t a_step, int32_t depth,
                                       const float *panel, float *sums)
{
    (void)a, (void)a_row, (void)a_step, (void)depth, (void)panel, (void)sums;
    return 0;
}

#endif
#endif
