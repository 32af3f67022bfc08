/* roll along up to four axes, the last one in bytes, portable C99.
 *
 *   y[.., (i_k + shift_k) mod size_k, ..] = x[.., i_k, ..],   0 <= shift_k < size_k
 *
 * Any element type; no alignment asked, no scratch, no rounding. Equals roll of
 * edgec/ops/shape.py.
 */
#include <string.h>

#include "ec_shape.h"

static inline int32_t ec_roll_x1_place(int32_t i, int32_t shift, int32_t size)
{
    int32_t place = i + shift;
    return place < size ? place : place - size;
}

void ec_roll_x1(const ec_roll_params *p, const void *x, void *y)
{
    const uint8_t *from = x;
    size_t kept = (size_t)(p->size_3 - p->shift_3);
    size_t wrapped = (size_t)p->shift_3;
    for (int32_t i0 = 0; i0 < p->size_0; i0++) {
        int32_t y0 = ec_roll_x1_place(i0, p->shift_0, p->size_0) * p->size_1;
        for (int32_t i1 = 0; i1 < p->size_1; i1++) {
            int32_t y1 = (y0 + ec_roll_x1_place(i1, p->shift_1, p->size_1)) * p->size_2;
            for (int32_t i2 = 0; i2 < p->size_2; i2++) {
                int32_t y2 = y1 + ec_roll_x1_place(i2, p->shift_2, p->size_2);
                uint8_t *row = (uint8_t *)y + y2 * p->size_3;
                memcpy(row + p->shift_3, from, kept);
                memcpy(row, from + kept, wrapped);
                from += p->size_3;
            }
        }
    }
}
