/* index_select and embedding: whole slices at indices, in bytes, portable C99.
 *
 *   y[o, i, :] = x[o, resolve(index[i]), :]      o < outer, i < count, slices of `bytes` bytes
 *
 * Any element type; index int32[count] at a multiple of 4, each made to lie in [0, axis_size)
 * (ec_shape.h). No scratch, no rounding. Equals index_select and embedding of
 * edgec/ops/gather.py.
 */
#include <string.h>

#include "ec_shape.h"

void ec_index_select_x1(const ec_slices_params *p, const void *x, const int32_t *index, void *y)
{
    const uint8_t *block = x;
    uint8_t *to = y;
    for (int32_t o = 0; o < p->outer; o++) {
        for (int32_t i = 0; i < p->count; i++) {
            int32_t at = ec_resolve_index(index[i], p->axis_size);
            memcpy(to, block + at * p->bytes, (size_t)p->bytes);
            to += p->bytes;
        }
        block += p->axis_size * p->bytes;
    }
}
