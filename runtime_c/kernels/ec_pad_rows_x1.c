/* pad of rows and columns of a map, row by row, in bytes, portable C99.
 *
 *   y[row, :] = (left bytes of value, x[row - top, :], right bytes of value); all value where
 *   row - top lies outside of [0, in_h)
 *
 * x[ring_0][row_bytes], y[ring_y][left + row_bytes + right]; row r stands at r % ring. Any element
 * type whose padding repeats one byte; no scratch. Equals pad of edgec/ops/joining.py on
 * NHWC along axes 1 and 2.
 */
#include <string.h>

#include "ec_requant.h"
#include "ec_shape.h"

void ec_pad_rows_x1(const ec_pad_rows_params *p, int32_t row0, int32_t row1, const void *x, void *y)
{
    size_t left = (size_t)p->left;
    size_t middle = (size_t)p->row_bytes;
    size_t right = (size_t)p->right;
    for (int32_t row = row0; row < row1; row++) {
        uint8_t *to = (uint8_t *)y + (size_t)ec_ring_row(row, p->ring_y) * (left + middle + right);
        int32_t source = row - p->top;
        if (source < 0 || source >= p->in_h) {
            memset(to, p->value, left + middle + right);
            continue;
        }
        const uint8_t *from = (const uint8_t *)x + (size_t)ec_ring_row(source, p->ring_0) * middle;
        memset(to, p->value, left);
        memcpy(to + left, from, middle);
        memset(to + left + middle, p->value, right);
    }
}
