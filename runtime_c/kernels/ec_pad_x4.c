/* pad of 4-byte elements, portable C99.
 *
 *   y = value everywhere, then y[offset + sum_k i_k * stride_k] = x[i0,...,i5]
 *
 * x row-major without gaps, the last axis of y too; both at multiples of 4. No scratch, no
 * rounding. Equals pad of edgec/ops/joining.py; `value` holds the bits of one element.
 */
#include <string.h>

#include "ec_shape.h"

void ec_pad_x4(const ec_pad_params *p, const void *x, void *y)
{
    const int32_t *from = x;
    int32_t *to = y;
    for (int32_t i = 0; i < p->total; i++) {
        to[i] = (int32_t)p->value;
    }
    to += p->offset;
    size_t run_bytes = (size_t)p->size_5 * sizeof *to;
    for (int32_t i0 = 0; i0 < p->size_0; i0++) {
        for (int32_t i1 = 0; i1 < p->size_1; i1++) {
            for (int32_t i2 = 0; i2 < p->size_2; i2++) {
                int32_t *plane = to + i0 * p->stride_0 + i1 * p->stride_1 + i2 * p->stride_2;
                for (int32_t i3 = 0; i3 < p->size_3; i3++) {
                    for (int32_t i4 = 0; i4 < p->size_4; i4++) {
                        memcpy(plane + i3 * p->stride_3 + i4 * p->stride_4, from, run_bytes);
                        from += p->size_5;
                    }
                }
            }
        }
    }
}
