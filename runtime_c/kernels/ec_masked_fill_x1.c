/* masked_fill on elements of one byte: y[i] = mask ? value : x[i], the mask broadcast by strides.
 *
 * x, y int8 of one quantisation, y may be x; mask uint8 (0 or not); value in [-128, 127]; no
 * alignment asked; no scratch. Equals masked_fill.quant of edgec/ops/select.py.
 */
#include "ec_binary_s8.h"

void ec_masked_fill_x1(const ec_masked_fill_params *p, const int8_t *x, const uint8_t *mask,
                       int8_t *y)
{
    const int32_t size[5] = {p->d0, p->d1, p->d2, p->d3, p->d4};
    const int32_t stride[5] = {p->c0, p->c1, p->c2, p->c3, p->c4};
    const int32_t inner = p->d5;
    const int32_t outer = p->d0 * p->d1 * p->d2 * p->d3 * p->d4;
    const int32_t step = p->c5;
    const int8_t value = (int8_t)p->value;
    for (int32_t i = 0; i < outer; i++) {
        const uint8_t *masked = mask + ec_outer_offset(i, size, stride);
        for (int32_t j = 0; j < inner; j++) {
            *y++ = masked[j * step] != 0 ? value : *x;
            x++;
        }
    }
}
