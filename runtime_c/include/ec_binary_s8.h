/* The loops of the binary int8 kernels. Each kernel gives its arithmetic as a function of two
 * elements, which the compiler inlines: the caller passes it by name. */
#ifndef EC_BINARY_S8_H
#define EC_BINARY_S8_H

#include <stdint.h>

#include "ec_pointwise.h"
#include "ec_requant.h"

/* (parameters, a, b) -> output step relative to zero_out, before the clamp */
typedef int32_t (*ec_binary_s8_step)(const ec_binary_s8_params *p, int32_t a, int32_t b);

/* Offset of element `index` of the five outer axes. */
static inline int32_t ec_outer_offset(int32_t index, const int32_t size[5], const int32_t stride[5])
{
    int32_t offset = 0;
    for (int32_t k = 4; k >= 0; k--) {
        offset += index % size[k] * stride[k];
        index /= size[k];
    }
    return offset;
}

static inline int8_t ec_binary_s8_element(const ec_binary_s8_params *p, ec_binary_s8_step step,
                                          int8_t a, int8_t b)
{
    int32_t value = step(p, a, b) + p->zero_out;
    return (int8_t)ec_clamp(value, p->act_min, p->act_max);
}

/* d5 elements. */
static inline void ec_binary_s8_run(const ec_binary_s8_params *p, ec_binary_s8_step step,
                                    const int8_t *a, const int8_t *b, int8_t *y)
{
    if (p->a5 == 1 && p->b5 == 1) {
        for (int32_t i = 0; i < p->d5; i++) {
            y[i] = ec_binary_s8_element(p, step, a[i], b[i]);
        }
        return;
    }
    for (int32_t i = 0; i < p->d5; i++) {
        y[i] = ec_binary_s8_element(p, step, a[i * p->a5], b[i * p->b5]);
    }
}

/* All axes. */
static inline void ec_binary_s8_map(const ec_binary_s8_params *p, ec_binary_s8_step step,
                                    const int8_t *a, const int8_t *b, int8_t *y)
{
    /* A copy that nothing points to, so that writing y does not make the fields load again. */
    const ec_binary_s8_params local = *p;
    const int32_t size[5] = {p->d0, p->d1, p->d2, p->d3, p->d4};
    const int32_t stride_a[5] = {p->a0, p->a1, p->a2, p->a3, p->a4};
    const int32_t stride_b[5] = {p->b0, p->b1, p->b2, p->b3, p->b4};
    int32_t outer = p->d0 * p->d1 * p->d2 * p->d3 * p->d4;
    for (int32_t i = 0; i < outer; i++) {
        ec_binary_s8_run(&local, step, a + ec_outer_offset(i, size, stride_a),
                         b + ec_outer_offset(i, size, stride_b), y + i * local.d5);
    }
}

/* Rows row0 <= r < row1; one row has the axes d4 and d5. */
static inline void ec_binary_s8_rows(const ec_binary_s8_params *p, ec_binary_s8_step step,
                                     int32_t row0, int32_t row1, const int8_t *a, const int8_t *b,
                                     int8_t *y)
{
    const ec_binary_s8_params local = *p;
    for (int32_t row = row0; row < row1; row++) {
        const int8_t *row_a = a + ec_ring_row(row, local.ring_0) * local.row_a;
        const int8_t *row_b = b + ec_ring_row(row, local.ring_1) * local.row_b;
        int8_t *row_y = y + ec_ring_row(row, local.ring_y) * local.row_y;
        for (int32_t i = 0; i < local.d4; i++) {
            ec_binary_s8_run(&local, step, row_a + i * local.a4, row_b + i * local.b4,
                             row_y + i * local.d5);
        }
    }
}

#endif
