/* concat of two tensors, in bytes, portable C99.
 *
 * `outer` times: bytes_0 of x0, then bytes_1 of x1. Any element type; no scratch,
 * no rounding. Equals concat of edgec/ops/joining.py.
 */
#include <string.h>

#include "ec_shape.h"

void ec_concat2_x1(const ec_parts_params *p, const void *x0, const void *x1, void *y)
{
    const uint8_t *from_0 = x0;
    const uint8_t *from_1 = x1;
    uint8_t *to = y;
    for (int32_t i = 0; i < p->outer; i++) {
        memcpy(to, from_0, (size_t)p->bytes_0);
        from_0 += p->bytes_0;
        to += p->bytes_0;
        memcpy(to, from_1, (size_t)p->bytes_1);
        from_1 += p->bytes_1;
        to += p->bytes_1;
    }
}
