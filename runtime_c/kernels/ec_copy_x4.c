/* Strided copy of 4-byte elements, portable C99: transpose, expand, slice, select,
 * pixel_shuffle.
 *
 *   y[i0,...,i5] = x[offset + sum_k i_k * stride_k]
 *
 * y row-major without gaps; any strides; x and y at multiples of 4. No scratch, no rounding.
 * Equals the same op of edgec/ops/{shape,slicing}.py on elements of that size.
 */
#include <string.h>

#include "ec_shape.h"

static inline void ec_copy_x4_run(const int32_t *x, int32_t stride, int32_t count, int32_t *y)
{
    if (stride == 1) {
        memcpy(y, x, (size_t)count * sizeof *y);
        return;
    }
    for (int32_t i = 0; i < count; i++) {
        y[i] = x[i * stride];
    }
}

void ec_copy_x4(const ec_copy_params *p, const void *x, void *y)
{
    const int32_t *from = (const int32_t *)x + p->offset;
    int32_t *to = y;
    for (int32_t i0 = 0; i0 < p->size_0; i0++) {
        for (int32_t i1 = 0; i1 < p->size_1; i1++) {
            for (int32_t i2 = 0; i2 < p->size_2; i2++) {
                const int32_t *plane =
                    from + i0 * p->stride_0 + i1 * p->stride_1 + i2 * p->stride_2;
                for (int32_t i3 = 0; i3 < p->size_3; i3++) {
                    for (int32_t i4 = 0; i4 < p->size_4; i4++) {
                        const int32_t *run = plane + i3 * p->stride_3 + i4 * p->stride_4;
                        ec_copy_x4_run(run, p->stride_5, p->size_5, to);
                        to += p->size_5;
                    }
                }
            }
        }
    }
}
