/* split or unbind into three tensors, in bytes, portable C99.
 *
 * `outer` times: bytes_0 to y0, then bytes_1 to y1, ... Any element type; no alignment asked, no
 * scratch, no rounding. Equals split and unbind of edgec/ops/slicing.py.
 */
#include <string.h>

#include "ec_shape.h"

void ec_split3_x1(const ec_parts_params *p, const void *x, void *y0, void *y1, void *y2)
{
    const uint8_t *from = x;
    uint8_t *to[3] = {y0, y1, y2};
    const int32_t bytes[3] = {p->bytes_0, p->bytes_1, p->bytes_2};
    for (int32_t i = 0; i < p->outer; i++) {
        for (int32_t part = 0; part < 3; part++) {
            memcpy(to[part], from, (size_t)bytes[part]);
            from += bytes[part];
            to[part] += bytes[part];
        }
    }
}
