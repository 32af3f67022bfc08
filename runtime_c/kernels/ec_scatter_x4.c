/* scatter of 4-byte elements, portable C99.
 *
 *   y = x, then y[at(i)] = source[i] in row-major order of i; y may be x
 *   at(i) = sum_k i_k * stride_k + resolve(index[i]) * axis_stride
 *
 * index int32[size_0..size_3] row-major, each made to lie in its axis (ec_shape.h); data and
 * index at multiples of their size. No scratch. Equals scatter of edgec/ops/gather.py.
 */
#include <string.h>

#include "ec_shape.h"

void ec_scatter_x4(const ec_gather_params *p, const void *x, const int32_t *index,
                   const void *source, void *y)
{
    const int32_t *from = source;
    int32_t *to = y;
    if (y != x) {
        memcpy(y, x, (size_t)p->total * sizeof *to);
    }
    for (int32_t i0 = 0; i0 < p->size_0; i0++) {
        for (int32_t i1 = 0; i1 < p->size_1; i1++) {
            for (int32_t i2 = 0; i2 < p->size_2; i2++) {
                int32_t row = i0 * p->stride_0 + i1 * p->stride_1 + i2 * p->stride_2;
                for (int32_t i3 = 0; i3 < p->size_3; i3++) {
                    int32_t at = ec_resolve_index(*index++, p->axis_size) * p->axis_stride;
                    to[row + i3 * p->stride_3 + at] = *from++;
                }
            }
        }
    }
}
