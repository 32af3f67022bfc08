/* concat of two maps along channels, row by row, in bytes, portable C99.
 *
 *   y[row, i, :] = (x0[row, i, :], x1[row, i, :])      row0 <= row < row1, i < width
 *
 * x0[ring_0][width][bytes_0], x1[ring_1][width][bytes_1], y[ring_y][width][bytes_0 + bytes_1], all
 * in bytes; row r stands at r % ring. Any element type; no scratch, no rounding. Equals
 * concat of edgec/ops/joining.py on NHWC along the last axis.
 */
#include <string.h>

#include "ec_requant.h"
#include "ec_shape.h"

void ec_concat2_rows_x1(const ec_concat_rows_params *p, int32_t row0, int32_t row1, const void *x0,
                        const void *x1, void *y)
{
    int32_t bytes = p->bytes_0 + p->bytes_1;
    for (int32_t row = row0; row < row1; row++) {
        const uint8_t *from_0 = x0;
        const uint8_t *from_1 = x1;
        uint8_t *to = y;
        from_0 += ec_ring_row(row, p->ring_0) * p->width * p->bytes_0;
        from_1 += ec_ring_row(row, p->ring_1) * p->width * p->bytes_1;
        to += ec_ring_row(row, p->ring_y) * p->width * bytes;
        for (int32_t i = 0; i < p->width; i++) {
            memcpy(to, from_0, (size_t)p->bytes_0);
            memcpy(to + p->bytes_0, from_1, (size_t)p->bytes_1);
            from_0 += p->bytes_0;
            from_1 += p->bytes_1;
            to += bytes;
        }
    }
}
