/* where on elements of one byte: y = condition ? a : b, all three broadcast by strides.
 *
 * condition uint8 (0 or not), a, b, y int8 of one quantisation; y may be a or b where that has its
 * size; no alignment asked; no scratch. Equals where.quant of edgec/ops/select.py.
 */
#include "ec_binary_s8.h"

void ec_where_x1(const ec_where_params *p, const uint8_t *condition, const int8_t *a,
                 const int8_t *b, int8_t *y)
{
    const int32_t size[5] = {p->d0, p->d1, p->d2, p->d3, p->d4};
    const int32_t stride_c[5] = {p->c0, p->c1, p->c2, p->c3, p->c4};
    const int32_t stride_a[5] = {p->a0, p->a1, p->a2, p->a3, p->a4};
    const int32_t stride_b[5] = {p->b0, p->b1, p->b2, p->b3, p->b4};
    const int32_t inner = p->d5;
    const int32_t outer = p->d0 * p->d1 * p->d2 * p->d3 * p->d4;
    const int32_t step_c = p->c5;
    const int32_t step_a = p->a5;
    const int32_t step_b = p->b5;
    for (int32_t i = 0; i < outer; i++) {
        const uint8_t *chosen = condition + ec_outer_offset(i, size, stride_c);
        const int8_t *yes = a + ec_outer_offset(i, size, stride_a);
        const int8_t *no = b + ec_outer_offset(i, size, stride_b);
        for (int32_t j = 0; j < inner; j++) {
            *y++ = chosen[j * step_c] != 0 ? yes[j * step_a] : no[j * step_b];
        }
    }
}
