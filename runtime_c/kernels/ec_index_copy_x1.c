/* index_copy: whole slices replaced at indices, in bytes, portable C99.
 *
 *   y = x, then y[o, resolve(index[i]), :] = source[o, i, :] in the order of i
 *
 * o < outer, i < count, slices of `bytes` bytes; y may be x. Any element type; index
 * int32[count] at a multiple of 4, each made to lie in [0, axis_size) (ec_shape.h). No scratch,
 * no rounding. Equals index_copy of edgec/ops/gather.py.
 */
#include <string.h>

#include "ec_shape.h"

void ec_index_copy_x1(const ec_slices_params *p, const void *x, const int32_t *index,
                      const void *source, void *y)
{
    const uint8_t *from = source;
    uint8_t *block = y;
    int32_t block_bytes = p->axis_size * p->bytes;
    if (y != x) {
        memcpy(y, x, (size_t)p->outer * (size_t)block_bytes);
    }
    for (int32_t o = 0; o < p->outer; o++) {
        for (int32_t i = 0; i < p->count; i++) {
            int32_t at = ec_resolve_index(index[i], p->axis_size);
            memcpy(block + at * p->bytes, from, (size_t)p->bytes);
            from += p->bytes;
        }
        block += block_bytes;
    }
}
